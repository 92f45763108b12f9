"""What is known of a running sidecar. Times are Unix seconds, durations seconds, sizes bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class WorkerState(Enum):
    STARTING = 1
    SERVING = 2
    DRAINING = 3
    BACKING_OFF = 4  # ended, and to be started again after a while


class UpstreamState(Enum):
    CONNECTING = 1
    READY = 2
    EJECTED = 3  # up, and left out of the choice for its failures
    DOWN = 4


class Depth(Enum):
    METADATA = 1
    BYTES = 2
    DECODED = 3


class LogLevel(Enum):
    DEBUG = 1
    INFO = 2
    WARNING = 3
    ERROR = 4


@dataclass(frozen=True, slots=True)
class Worker:
    """One process. role: "relay", "services", …  pid: 0 while there is none.  restarts: since the sidecar started."""

    role: str
    pid: int
    state: WorkerState
    restarts: int = 0
    memory: int = 0
    connections: int = 0
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Upstream:
    """One endpoint of the model server. failures: since the sidecar started."""

    address: str
    state: UpstreamState
    connections: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    name: str
    depth: Depth


@dataclass(frozen=True, slots=True)
class Chain:
    """What runs over calls of one method. links: in the order of requests."""

    method: str
    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class Certificate:
    """setting: key path of the setting that names it."""

    setting: str
    subject: str
    expires: float


@dataclass(frozen=True, slots=True)
class Feed:
    """What the relay follows. staleness: since it was last heard of, infinite where it never was.

    limit: beyond it, calls that need it fail.
    """

    name: str
    staleness: float
    limit: float


@dataclass(frozen=True, slots=True)
class Status:
    """A sidecar at one moment. config_digest: SHA-256 of its effective config, hex."""

    version: str
    config_digest: str
    started: float
    uptime: float
    draining: bool = False
    workers: tuple[Worker, ...] = ()
    upstreams: tuple[Upstream, ...] = ()
    chains: tuple[Chain, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    feeds: tuple[Feed, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a config. path: key path, "" for the whole.  origin: line or variable, "" for neither."""

    path: str
    expected: str
    came: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """On a config. digest: of the effective config, "" where there are faults.

    restarts: key paths that differ from what is in force and that only a restart changes.
    """

    digest: str = ""
    faults: tuple[Fault, ...] = ()
    restarts: tuple[str, ...] = ()
