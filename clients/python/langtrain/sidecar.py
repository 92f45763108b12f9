"""The sidecar itself: how it is, whether a config would do, its end, its logs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

from langtrain.calls import Steps
from langtrain.client import AsyncClient, Client, awaited, blocking
from langtrain.v1 import sidecar_pb2 as pb

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]


def _status() -> Steps[pb.Status]:
    """How it is at this moment."""
    response: pb.GetStatusResponse = yield pb.GetStatusRequest()
    return response.status


def _check_config(config: str | None = None) -> Steps[pb.CheckConfigResponse]:
    """Whether a config's text would be taken; without one, the file that the sidecar was started with."""
    response: pb.CheckConfigResponse = yield pb.CheckConfigRequest(config=config)
    return response


def _drain(grace_s: float | None = None, reason: str = "") -> Steps[datetime]:
    """End it: it takes no new calls. When the open ones will be cut; the first drain's `grace_s` stands."""
    request = pb.DrainRequest(reason=reason)
    if grace_s is not None:
        request.grace.FromTimedelta(timedelta(seconds=grace_s))
    response: pb.DrainResponse = yield request
    return response.ends.ToDatetime(UTC)


def _log_level() -> Steps[LogLevel]:
    """The least level that is logged."""
    response: pb.GetLogLevelResponse = yield pb.GetLogLevelRequest()
    return _name(response.level)


def _set_log_level(level: LogLevel) -> Steps[LogLevel]:
    """Change it, in every process of the sidecar, until it stops. Returns the one before."""
    response: pb.SetLogLevelResponse = yield pb.SetLogLevelRequest(
        level=pb.LogLevel.Value(f"LOG_LEVEL_{level.upper()}")
    )
    return _name(response.previous)


class Sidecar(Client):
    """A running sidecar."""

    status = blocking(_status)
    check_config = blocking(_check_config)
    drain = blocking(_drain)
    log_level = blocking(_log_level)
    set_log_level = blocking(_set_log_level)

    def watch_status(self, interval_s: float = 2.0) -> Generator[pb.Status]:
        """How it is every `interval_s` seconds, 0.2 to 3600, until it ends or the generator is closed."""
        return self._stream(_watching(interval_s), _status_of)


class AsyncSidecar(AsyncClient):
    """A running sidecar."""

    status = awaited(_status)
    check_config = awaited(_check_config)
    drain = awaited(_drain)
    log_level = awaited(_log_level)
    set_log_level = awaited(_set_log_level)

    def watch_status(self, interval_s: float = 2.0) -> AsyncGenerator[pb.Status]:
        """As `Sidecar.watch_status`."""
        return self._stream(_watching(interval_s), _status_of)


def _watching(interval_s: float) -> pb.WatchStatusRequest:
    request = pb.WatchStatusRequest()
    request.interval.FromTimedelta(timedelta(seconds=interval_s))
    return request


def _status_of(response: pb.WatchStatusResponse) -> pb.Status:
    return response.status


def _name(level: pb.LogLevel.ValueType) -> LogLevel:
    name: Any = pb.LogLevel.Name(level).removeprefix("LOG_LEVEL_").lower()
    return name  # type: ignore[no-any-return]
