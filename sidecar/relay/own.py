"""The sidecar's own services as the relay reaches them: which calls are theirs, how those are sealed, and the pools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interceptors.contract import Call, RawField
from sidecar.relay.http2.fields import ResponseHead
from sidecar.relay.internal_calls import InternalCalls
from sidecar.relay.routes import Route, Routes

if TYPE_CHECKING:
    from sidecar.relay.relay import Pool


class OwnServices:
    """calls, streams: pools of connections to the services process's two sockets."""

    def __init__(self, routes: Routes, internal: InternalCalls, calls: Pool, streams: Pool) -> None:
        self._routes = routes
        self._internal = internal
        self._pools = {Route.CALLS: calls, Route.STREAMS: streams}

    @property
    def pools(self) -> tuple[Pool, ...]:
        return tuple(self._pools.values())

    def route(self, path: str) -> Route:
        return self._routes.route(path)

    def route_by(self, path: str, raw: bytes) -> Route:
        """Where a BY_MESSAGE call goes. raw: its first message, decompressed. Raises CodecError."""
        return self._routes.by_message(path, raw)

    def pool(self, route: Route) -> Pool:
        """Of CALLS or STREAMS."""
        return self._pools[route]

    def seal(self, call: Call) -> tuple[bytes, RawField]:
        """As `InternalCalls.seal`."""
        return self._internal.seal(call)

    def proved(self, call: Call, nonce: bytes, head: ResponseHead) -> ResponseHead:
        """As `InternalCalls.verified`. Raises SealError."""
        return self._internal.verified(call, nonce, head)
