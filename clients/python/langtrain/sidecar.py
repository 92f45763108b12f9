"""The sidecar itself: how it is, whether a config would do, its end, its logs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias

import grpc

from langtrain.channel import PathLike, connect
from langtrain.errors import of_call
from langtrain.v1 import sidecar_pb2 as pb
from langtrain.v1.sidecar_pb2_grpc import SidecarServiceStub

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
TIMEOUT_S: Final = 10.0


class Sidecar:
    """A connection to a sidecar, for many threads; every call raises SidecarError where it fails.

    target: "host:port" or "unix:///path".  certificate, key: PEM files that say who calls.  ca: PEM file that the
    sidecar's certificate chains to, the system's where unset.  What is unset here is taken from LANGTRAIN_TARGET,
    LANGTRAIN_CERTIFICATE, LANGTRAIN_KEY and LANGTRAIN_CA.
    timeout_s: deadline of each call, connecting included.
    unsafe_plaintext: without TLS, to a sidecar that listens so. At a Unix socket there is none unless ca or
    certificate is given.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        certificate: PathLike | None = None,
        key: PathLike | None = None,
        ca: PathLike | None = None,
        timeout_s: float = TIMEOUT_S,
        unsafe_plaintext: bool = False,
    ) -> None:
        self._timeout_s = timeout_s
        self._channel = connect(target, certificate, key, ca, unsafe_plaintext)
        self._stub = SidecarServiceStub(self._channel)

    def status(self) -> pb.Status:
        """How it is at this moment."""
        response: pb.GetStatusResponse = self._call(self._stub.GetStatus, pb.GetStatusRequest())
        return response.status

    def watch_status(self, interval_s: float = 2.0) -> Generator[pb.Status]:
        """The same every `interval_s` seconds, 0.2 to 3600, until the sidecar ends or the generator is closed."""
        request = pb.WatchStatusRequest()
        request.interval.FromTimedelta(timedelta(seconds=interval_s))
        responses = self._stub.WatchStatus(request)
        try:
            for response in responses:
                yield response.status
        except grpc.RpcError as error:
            raise of_call(error) from None
        finally:
            responses.cancel()

    def check_config(self, config: str | None = None) -> pb.CheckConfigResponse:
        """Whether a config's text would be taken; without one, the file that the sidecar was started with."""
        response: pb.CheckConfigResponse = self._call(self._stub.CheckConfig, pb.CheckConfigRequest(config=config))
        return response

    def drain(self, grace_s: float | None = None, reason: str = "") -> datetime:
        """End it: it takes no new calls. When the open ones will be cut; the first drain's `grace_s` stands."""
        request = pb.DrainRequest(reason=reason)
        if grace_s is not None:
            request.grace.FromTimedelta(timedelta(seconds=grace_s))
        response: pb.DrainResponse = self._call(self._stub.Drain, request)
        return response.ends.ToDatetime(UTC)

    def log_level(self) -> LogLevel:
        """The least level that is logged."""
        response: pb.GetLogLevelResponse = self._call(self._stub.GetLogLevel, pb.GetLogLevelRequest())
        return _name(response.level)

    def set_log_level(self, level: LogLevel) -> LogLevel:
        """Change it, in every process of the sidecar, until it stops. Returns the one before."""
        request = pb.SetLogLevelRequest(level=pb.LogLevel.Value(f"LOG_LEVEL_{level.upper()}"))
        response: pb.SetLogLevelResponse = self._call(self._stub.SetLogLevel, request)
        return _name(response.previous)

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Sidecar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise of_call(error) from None


def _name(level: pb.LogLevel.ValueType) -> LogLevel:
    name: Any = pb.LogLevel.Name(level).removeprefix("LOG_LEVEL_").lower()
    return name  # type: ignore[no-any-return]
