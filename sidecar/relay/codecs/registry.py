"""From a method's path to its shape and its codec, for the protocols that a config names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from interceptors.access import UNKNOWN
from interceptors.contract import NO_CODEC, OPAQUE, Change, Codec, CodecError, Method, ModelName
from sidecar.relay.codecs import listings, parameters
from sidecar.relay.codecs.fields import Fields
from sidecar.relay.codecs.names import everywhere, none
from sidecar.relay.codecs.tables import COMMON, OPEN_INFERENCE, OWN, TF_SERVING, Row, Service

PROTOCOLS: dict[str, dict[str, Service]] = {
    "auto": OPEN_INFERENCE | TF_SERVING,
    "open-inference": OPEN_INFERENCE,
    "tf-serving": TF_SERVING,
    "opaque": {},
}


class OpaqueMethod(Protocol):
    """A method's shape, by config. permission: what it needs, None for what its service's methods do."""

    @property
    def name(self) -> str: ...

    @property
    def permission(self) -> str | None: ...

    @property
    def unary_request(self) -> bool: ...

    @property
    def unary_response(self) -> bool: ...


class OpaqueService(Protocol):
    """A service of another protocol, by config. model_field: where its requests name the model, field numbers
    from the outside in; empty where they name none.  permission: what its methods need, None where nobody said."""

    @property
    def service(self) -> str: ...

    @property
    def permission(self) -> str | None: ...

    @property
    def methods(self) -> Sequence[OpaqueMethod]: ...

    @property
    def model_field(self) -> Sequence[int]: ...


class WireCodec:
    """The Codec of one method whose messages are protobuf; their decoded form is `Fields`."""

    __slots__ = ("_demand", "_request", "_row")

    def __init__(self, row: Row) -> None:
        self._row = row
        self._request = row.request  # these two are called with every message
        self._demand = row.demand

    def models(self, raw: bytes, response: bool) -> tuple[ModelName, ...]:
        return self._row.response(raw) if response else self._request(raw)

    def special(self, raw: bytes) -> tuple[str, ...]:
        return self._demand(raw)

    def with_parameter(self, raw: bytes, response: bool, name: str, change: Change) -> bytes:
        if not self._row.parameters:
            return raw
        edit = parameters.with_wrapped_parameter if response and self._row.wrapped else parameters.with_parameter
        return edit(raw, name, change)

    def without_models(self, raw: bytes, hidden: Callable[[ModelName], bool]) -> bytes:
        if not self._row.lists:
            raise CodecError("this method's answers list no models")
        return listings.without(raw, hidden)

    def batch(self, raw: bytes) -> int:
        return self._row.count(raw)

    def decode(self, raw: bytes, response: bool) -> Fields:
        return Fields.decode(raw)

    def encode(self, body: object, response: bool) -> bytes:
        if not isinstance(body, Fields):
            raise CodecError(f"decoded form is {type(body).__name__}, expected Fields")
        return body.encode()


class Codecs:
    """What is known of methods. Paths that nobody described are answered with None and the codec that knows nothing."""

    def __init__(self) -> None:
        self._methods: dict[str, tuple[Method, Codec]] = {}
        self._described: dict[str, tuple[str, Codec]] = {}  # by service: what its methods need
        self._known: set[str] = set()  # services whose methods are those of their protocol

    def method(self, path: str) -> Method | None:
        """path: "/package.Service/Method"."""
        known = self._methods.get(path)
        if known is not None:
            return known[0]
        service = service_of(path)
        described = self._described.get(service)
        if described is not None:
            return Method(path, permission=described[0])
        if service in self._known:
            return Method(path, permission=UNKNOWN)
        return Method(path, permission=OWN[path]) if path in OWN else None

    def codec(self, path: str) -> Codec:
        known = self._methods.get(path) or self._described.get(service_of(path))
        return NO_CODEC if known is None else known[1]

    def knows(self, path: str) -> bool:
        """Whether a method is one of a protocol's, or of a service that the config describes."""
        return path in self._methods or service_of(path) in self._described

    @property
    def paths(self) -> frozenset[str]:
        """Every method that is known by its name."""
        return frozenset(self._methods)

    @property
    def permissions(self) -> frozenset[str]:
        """Every permission that some method needs."""
        methods = [method for method, _ in self._methods.values()]
        described = [permission for permission, _ in self._described.values()]
        needed = {permission for method in methods for permission in (method.permission, *method.special)}
        return frozenset(needed.union(described, OWN.values(), (OPAQUE, UNKNOWN)))

    def know(self, name: str, service: Service) -> None:
        self._known.add(name)
        for method, row in service.items():
            path = f"/{name}/{method}"
            shape = Method(
                path, row.unary_request, row.unary_response, row.permission, row.special, row.parameters, row.lists
            )
            self._methods[path] = shape, WireCodec(row)

    def describe(self, service: OpaqueService) -> None:
        """Take what the config says of a service in place of what was known of it."""
        name = service.service
        for path in [path for path in self._methods if service_of(path) == name]:
            del self._methods[path]
        needed = service.permission or OPAQUE
        codec = WireCodec(Row(needed, everywhere(service.model_field) if service.model_field else none))
        # Where a protocol has the service, what it says of methods that go around other checks is not known any more.
        others = UNKNOWN if name in self._known and service.permission is None else needed
        self._described[name] = others, codec
        for method in service.methods:
            path = f"/{name}/{method.name}"
            shape = Method(path, method.unary_request, method.unary_response, method.permission or needed)
            self._methods[path] = shape, codec


def registry(protocol: str, services: Sequence[OpaqueService] = ()) -> Codecs:
    """protocol: a key of PROTOCOLS, as the config's `upstream.protocol`. Raises KeyError for any other."""
    codecs = Codecs()
    for name, service in (PROTOCOLS[protocol] | COMMON).items():
        codecs.know(name, service)
    for described in services:
        codecs.describe(described)
    return codecs


def service_of(path: str) -> str:
    return path[1:].rpartition("/")[0]
