"""What of a config a running sidecar can change, and which files a change of may mean one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from sidecar.config.model import Config

# Key paths, each with all below it, that a running sidecar changes; it refuses a reload that changes any other.
# One that ends with "." stands only for what is below it: TLS cannot be turned on or off.
RELOADABLE: Final = (
    "listen.tls.",
    "listen.grace",
    "listen.limits",
    "upstream.tls.",
    "upstream.protocol",
    "upstream.services",
    "upstream.ports",
    "upstream.unsafe_open_upstream",
    "state.max_staleness",
    "authentication.mtls",
    "authentication.jwt",
    "authorization.rules",
    "authorization.bootstrap_admins",
    "authorization.attributes",
    "authorization.metadata",
    "authorization.locations",
    "authorization.unsafe_shared_sequences",
    "limits",
    "interceptors",
    "telemetry.sample",
    "unsafe_observe_only",
)
# Key paths below which files are written by the sidecar, and so not watched: each line would be taken for a change.
KEPT: Final = ("state", "audit", "telemetry.access_log")


def watched(config: Config) -> Iterator[Path]:
    """Every file that the config names and the sidecar reads."""
    return _paths(config, "")


def _paths(value: Any, place: str) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, BaseModel):
        for name, held in value:
            if (below := f"{place}{name}") not in KEPT:
                yield from _paths(held, f"{below}.")
    elif isinstance(value, tuple | list):
        for held in value:
            yield from _paths(held, place)


def differences(before: Config, after: Config) -> list[str]:
    """Key paths of what has changed, as deep as both have sections there; a list is one value."""
    return sorted(_different(before.effective(), after.effective(), ""))


def _different(before: dict[str, Any], after: dict[str, Any], prefix: str) -> Iterator[str]:
    for name in before.keys() | after.keys():
        one, other = before.get(name), after.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _different(one, other, f"{prefix}{name}.")
        elif one != other:
            yield f"{prefix}{name}"


def reloadable(path: str) -> bool:
    return any(path == known or path.startswith(f"{known.rstrip('.')}.") for known in RELOADABLE)


def restarts(before: Config, after: Config) -> list[str]:
    """Key paths that differ and that only a restart changes."""
    if before is after:
        return []
    return [path for path in differences(before, after) if not reloadable(path)]
