"""Patterns of permissions, and which of them no pattern grants."""

from __future__ import annotations

import pytest

from interceptors.access import SENSITIVE, covers
from sidecar.relay.codecs.registry import registry


@pytest.mark.parametrize(
    ("pattern", "permission", "covered"),
    [
        ("models.read", "models.read", True),
        ("models.read", "models.reads", False),
        ("models.*", "models.read", True),
        ("models.*", "models.shared_memory", True),
        ("models.*", "models", False),
        ("models.*", "modelsx.read", False),
        ("sidecar.*", "sidecar.config.check", True),
        ("sidecar.config.*", "sidecar.config.check", True),
        ("sidecar.config.*", "sidecar.status", False),
        ("*", "upstream.unknown", True),
        ("m*", "models.read", False),
        (".*", "models.read", False),
    ],
)
def test_what_a_pattern_covers(pattern: str, permission: str, covered: bool) -> None:
    assert covers(pattern, permission) is covered


def test_what_is_sensitive_is_what_some_method_needs() -> None:
    assert registry("auto").permissions >= SENSITIVE
