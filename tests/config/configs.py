"""Configs for tests: a small one that is sound, and ways to load a text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from sidecar.config.faults import ConfigError
from sidecar.config.load import parse
from sidecar.config.model import Config

DIRECTORY = Path("/etc/sidecar")
SOUND = """
listen: {tls: {client_ca: ca.pem}}
authentication: {mtls: {trust_domains: [example.org]}}
"""


def load(text: str, environ: Mapping[str, str] | None = None) -> Config:
    return parse(text, DIRECTORY, environ or {})


def faults(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Every fault of a config, one line each. Fails where there is none."""
    with pytest.raises(ConfigError) as raised:
        load(text, environ)
    return [str(fault) for fault in raised.value.faults]
