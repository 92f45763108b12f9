"""The running sidecar as a simulator of the Operations port: what is set here is what it says."""

from __future__ import annotations

import math
from dataclasses import replace

from sidecar.errors import SidecarError
from sidecar.operations.model import (
    Certificate,
    Chain,
    Depth,
    Fault,
    Feed,
    Link,
    LogLevel,
    Status,
    Upstream,
    UpstreamState,
    Verdict,
    Worker,
    WorkerState,
)

STATUS = Status(
    version="0.1.0",
    config_digest="c4e58ea1" * 8,
    started=1_800_000_000.25,
    uptime=3_725.5,
    workers=(
        Worker("relay", 4711, WorkerState.SERVING, 0, 61 << 20, 40, 7),
        Worker("relay", 4712, WorkerState.DRAINING, 2, 97 << 20, 3, 3),
        Worker("services", 0, WorkerState.BACKING_OFF, 1),
    ),
    upstreams=(
        Upstream("127.0.0.1:8001", UpstreamState.READY, 4),
        Upstream("127.0.0.1:8002", UpstreamState.EJECTED, 1, 12),
    ),
    chains=(
        Chain(
            "/inference.GRPCInferenceService/ModelInfer",
            (Link("identify", Depth.METADATA), Link("authorize", Depth.BYTES), Link("record", Depth.METADATA)),
        ),
    ),
    certificates=(Certificate("listen.tls.certificate", "CN=sidecar", 1_831_536_000.0),),
    feeds=(Feed("policies", 0.25, 5.0), Feed("revocations", math.inf, 5.0)),
)


class InMemory:
    """raises: what every method raises while it is set.  asked: what changed the sidecar, in order."""

    def __init__(self) -> None:
        self.now = STATUS
        self.level = LogLevel.INFO
        self.verdict = Verdict(digest="ab" * 32, restarts=("listen.address",))
        self.raises: BaseException | None = None
        self.asked: list[tuple[object, ...]] = []
        self.ends = 1_800_003_800.0

    def status(self) -> Status:
        self._fail()
        return self.now

    def check(self, config: str | None) -> Verdict:
        self._fail()
        if config == "workers: many":
            return Verdict(faults=(Fault("workers", "a whole number", "'many'", "line 1"),))
        return self.verdict

    def drain(self, grace: float | None, reason: str, by: str) -> float:
        self._fail()
        self.asked.append(("drain", grace, reason, by))
        self.now = replace(self.now, draining=True)
        return self.ends

    def log_level(self) -> LogLevel:
        self._fail()
        return self.level

    def set_log_level(self, level: LogLevel, by: str) -> LogLevel:
        self._fail()
        self.asked.append(("set_log_level", level, by))
        previous, self.level = self.level, level
        return previous

    def _fail(self) -> None:
        if self.raises is not None:
            raise self.raises


class SilentSupervisorError(SidecarError):
    """What an adapter of the port may raise; its text is for the operator."""

    wire_reason = "SUPERVISOR_SILENT"
    public = "the sidecar does not answer"
