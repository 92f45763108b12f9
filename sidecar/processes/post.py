"""What the supervisor is told to keep running: places, and the settings of whoever stands there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sidecar.errors import SidecarError


@dataclass(frozen=True, slots=True, eq=False)
class Post:
    """A place that one child fills at a time.

    rank: those of a higher one end first.  memory: bytes beyond which its child is replaced, 0 for any number.
    descriptors: what is handed down to each child, by name; it stays the supervisor's.
    shared: names of those that another child of the role takes care of while nobody stands here.
    links: roles whose process each child has a connection to, as `Attach` says.
    knows: roles of whose process each child is told the id, as `Neighbour` says.
    needed: whether the sidecar serves only once this child is ready.
    reloads: its children take a new generation of settings while they run; where they are needed, only if they can.
    """

    role: str
    slot: int = 0
    rank: int = 1
    memory: int = 0
    descriptors: Mapping[str, int] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    knows: tuple[str, ...] = ()
    needed: bool = True
    reloads: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """One generation of what children are given. roles: role → its settings, JSON types.  files: to watch.

    grace_s: that open calls are given when the sidecar stops.  digest: names the generation in logs.
    """

    roles: Mapping[str, dict[str, Any]]
    files: tuple[Path, ...]
    grace_s: float
    digest: str


class StartError(SidecarError):
    """A child could not start while the sidecar was starting. faults: key path and problem of each."""

    def __init__(self, faults: Sequence[Sequence[str]]) -> None:
        super().__init__("; ".join(f"{path}: {problem}" if path else problem for path, problem in faults))
        self.faults = tuple((path, problem) for path, problem in faults)
