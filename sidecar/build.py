"""How the modules that every call runs through were built."""

from __future__ import annotations

from importlib.machinery import ExtensionFileLoader
from importlib.util import find_spec

COMPILED = "compiled"
INTERPRETED = "interpreted"


def of(module: str = "sidecar.relay.driver") -> str:
    """COMPILED where a module would be loaded as machine code, else INTERPRETED; it is not imported for that."""
    spec = find_spec(module)
    return COMPILED if spec is not None and isinstance(spec.loader, ExtensionFileLoader) else INTERPRETED
