"""Who answers a method: the model server, or the services process on one of its two sockets.

Of gRPC's own services health goes by the name that is asked for, so its first message decides; reflection goes to the
services process, which asks the model server what concerns it (docs/services.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from interceptors.contract import Code, Deny, Method
from sidecar.relay.codecs.wire import Walk

OWN: Final = "langtrain."  # how the packages, services and files of ours begin
HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"
HEALTH_WATCH: Final = "/grpc.health.v1.Health/Watch"
REFLECTION: Final = frozenset((
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
))  # fmt: skip
# One request each, so that it can be looked at whole before anybody gets it.
SHAPES: Final = (Method(HEALTH_CHECK, True, True), Method(HEALTH_WATCH, True, False))
MALFORMED: Final = Deny(Code.INVALID_ARGUMENT, "route.malformed", "health check request cannot be read")

_SERVICE: Final = frozenset((1,))  # grpc.health.v1.HealthCheckRequest { string service = 1; }


class Route(Enum):
    MODEL_SERVER = "model server"
    CALLS = "calls"  # of the services process: answered at once
    STREAMS = "streams"  # of the services process: may last
    BY_MESSAGE = "by message"  # `Routes.by_message` says which of the others


class Routes:
    """streams: the paths of our methods that stream; see `sidecar.services.catalogue`."""

    def __init__(self, streams: Iterable[str]) -> None:
        self._streams = REFLECTION.union(streams)

    def route(self, path: str) -> Route:
        """path: canonical, "/package.Service/Method". Whatever begins like ours is ours, known or not."""
        if path in self._streams:
            return Route.STREAMS
        if path.startswith("/" + OWN):
            return Route.CALLS
        if path in (HEALTH_CHECK, HEALTH_WATCH):
            return Route.BY_MESSAGE
        return Route.MODEL_SERVER

    def by_message(self, path: str, raw: bytes) -> Route:
        """Where a call of a BY_MESSAGE method goes. raw: its first message, decompressed. Raises CodecError."""
        if not health_service(raw).startswith(OWN):
            return Route.MODEL_SERVER
        return Route.STREAMS if path == HEALTH_WATCH else Route.CALLS


def health_service(raw: bytes) -> str:
    """The service that a HealthCheckRequest asks for, as protobuf's parsers read it. Raises CodecError."""
    walk = Walk(raw)
    name = ""
    for slot in walk.slots(0, len(raw), _SERVICE):
        name = walk.text(slot)  # of a singular field the last one counts
    return name
