"""langtrain.v1.SidecarService: protobuf to values and back, and nothing else."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from langtrain.v1 import sidecar_pb2 as pb
from langtrain.v1.sidecar_pb2_grpc import SidecarServiceServicer
from sidecar.errors import RequestError
from sidecar.internal.called import caller_of
from sidecar.operations import model
from sidecar.operations.ports import Operations

INTERVAL_S: Final = 2.0
INTERVALS_S: Final = (0.2, 3600.0)
GRACES_S: Final = (0.0, 3600.0)
LONGEST_CONFIG: Final = 1 << 20  # bytes, as of a config file
LONGEST_REASON: Final = 200  # characters


class SidecarService(SidecarServiceServicer):
    """Safe for many threads."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def GetStatus(self, request: pb.GetStatusRequest, context: grpc.ServicerContext) -> pb.GetStatusResponse:
        return pb.GetStatusResponse(status=status(self._operations.status()))

    def WatchStatus(
        self, request: pb.WatchStatusRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchStatusResponse]:
        asked = _seconds(request.interval, "interval", INTERVALS_S) if request.HasField("interval") else INTERVAL_S
        over = threading.Event()
        if not context.add_callback(over.set):
            return
        while not over.is_set():
            yield pb.WatchStatusResponse(status=status(self._operations.status()))
            over.wait(asked)

    def CheckConfig(self, request: pb.CheckConfigRequest, context: grpc.ServicerContext) -> pb.CheckConfigResponse:
        if len(request.config.encode()) > LONGEST_CONFIG:
            raise RequestError([("config", f"expected at most {LONGEST_CONFIG} bytes")])
        found = self._operations.check(request.config if request.HasField("config") else None)
        faults = [pb.Fault(path=each.path, expected=each.expected, came=each.came, origin=each.origin)
                  for each in found.faults]  # fmt: skip
        return pb.CheckConfigResponse(digest=found.digest, faults=faults, restarts=found.restarts)

    def Drain(self, request: pb.DrainRequest, context: grpc.ServicerContext) -> pb.DrainResponse:
        grace = _seconds(request.grace, "grace", GRACES_S) if request.HasField("grace") else None
        if len(request.reason) > LONGEST_REASON:
            raise RequestError([("reason", f"expected at most {LONGEST_REASON} characters")])
        return pb.DrainResponse(ends=_timestamp(self._operations.drain(grace, request.reason, caller_of(context).name)))

    def GetLogLevel(self, request: pb.GetLogLevelRequest, context: grpc.ServicerContext) -> pb.GetLogLevelResponse:
        return pb.GetLogLevelResponse(level=_LEVELS[self._operations.log_level()])

    def SetLogLevel(self, request: pb.SetLogLevelRequest, context: grpc.ServicerContext) -> pb.SetLogLevelResponse:
        try:
            level = model.LogLevel(request.level)
        except ValueError:
            raise RequestError([("level", "expected one of the levels")]) from None
        previous = self._operations.set_log_level(level, caller_of(context).name)
        return pb.SetLogLevelResponse(previous=_LEVELS[previous])


# The numbers are the same on both sides, which a test holds.
_LEVELS: Final = {level: pb.LogLevel.ValueType(level.value) for level in model.LogLevel}


def status(known: model.Status) -> pb.Status:
    return pb.Status(
        version=known.version,
        config_digest=known.config_digest,
        started=_timestamp(known.started),
        uptime=_duration(known.uptime),
        draining=known.draining,
        workers=map(_worker, known.workers),
        upstreams=map(_upstream, known.upstreams),
        chains=map(_chain, known.chains),
        certificates=map(_certificate, known.certificates),
        feeds=map(_feed, known.feeds),
    )


def _worker(known: model.Worker) -> pb.Worker:
    return pb.Worker(
        role=known.role,
        pid=known.pid,
        state=pb.WorkerState.ValueType(known.state.value),
        restarts=known.restarts,
        memory=known.memory,
        connections=known.connections,
        calls=known.calls,
    )


def _upstream(known: model.Upstream) -> pb.Upstream:
    state = pb.UpstreamState.ValueType(known.state.value)
    return pb.Upstream(address=known.address, state=state, connections=known.connections, failures=known.failures)


def _chain(known: model.Chain) -> pb.Chain:
    links = [pb.Link(name=link.name, depth=pb.Depth.ValueType(link.depth.value)) for link in known.links]
    return pb.Chain(method=known.method, links=links)


def _certificate(known: model.Certificate) -> pb.Certificate:
    return pb.Certificate(setting=known.setting, subject=known.subject, expires=_timestamp(known.expires))


def _feed(known: model.Feed) -> pb.Feed:
    staleness = None if math.isinf(known.staleness) else _duration(known.staleness)
    return pb.Feed(name=known.name, staleness=staleness, limit=_duration(known.limit))


def _timestamp(seconds: float) -> Timestamp:
    made = Timestamp()
    made.FromMicroseconds(round(seconds * 1e6))
    return made


def _duration(seconds: float) -> Duration:
    made = Duration()
    made.FromMicroseconds(round(seconds * 1e6))
    return made


def _seconds(duration: Duration, field: str, within: tuple[float, float]) -> float:
    """Raises RequestError outside `within`, or where seconds and nanoseconds do not go together."""
    least, most = within
    seconds = duration.seconds + duration.nanos / 1e9
    signs_differ = duration.seconds * duration.nanos < 0
    if signs_differ or not -1_000_000_000 < duration.nanos < 1_000_000_000 or not least <= seconds <= most:
        raise RequestError([(field, f"expected {least:g} to {most:g} seconds")])
    return seconds
