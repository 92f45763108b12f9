"""Patterns of permissions, and what resources are called."""

from __future__ import annotations

import pytest

from interceptors.access import SENSITIVE, covers, resource_of
from interceptors.contract import ModelName
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


def test_resources() -> None:
    assert resource_of(ModelName("digits")) == "models/digits"
    assert resource_of(ModelName("digits", "2")) == "models/digits/versions/2"


def test_what_is_sensitive_is_what_some_method_needs() -> None:
    assert registry("auto").permissions >= SENSITIVE
