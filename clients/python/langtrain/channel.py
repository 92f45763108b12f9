"""A connection to a sidecar: where it is and who calls, from arguments or the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, TypeAlias

import grpc

PathLike: TypeAlias = str | os.PathLike[str]

PREFIX: Final = "LANGTRAIN_"


def connect(
    target: str | None, certificate: PathLike | None, key: PathLike | None, ca: PathLike | None, unsafe_plaintext: bool
) -> grpc.Channel:
    """A channel; it connects with its first call. Arguments as of `Sidecar`. Raises ValueError and OSError."""
    target = target or os.environ.get(f"{PREFIX}TARGET")
    if not target:
        raise ValueError(f"target: expected host:port or unix:///path, here or in {PREFIX}TARGET, came nothing")
    chain, private, roots = _file(certificate, "certificate"), _file(key, "key"), _file(ca, "ca")
    if (chain is None) != (private is None):
        raise ValueError("certificate and key: expected both or neither, came one of them")
    local = target.startswith("unix:")
    if unsafe_plaintext or (local and roots is None and chain is None):
        return grpc.insecure_channel(target)
    # A path is no name that a certificate could have; who listens there is this host.
    options = (("grpc.default_authority", "localhost"),) if local else ()
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(roots, private, chain), options)


def _file(path: PathLike | None, name: str) -> bytes | None:
    """What is in the file of an argument, or of its environment variable."""
    found = path or os.environ.get(PREFIX + name.upper())
    return Path(found).read_bytes() if found else None
