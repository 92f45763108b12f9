"""From a method's path to its shape and its codec, for the protocols that a config names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from interceptors.contract import NO_CODEC, Codec, CodecError, Method, ModelName
from sidecar.relay.codecs.batches import Count, one
from sidecar.relay.codecs.fields import Fields
from sidecar.relay.codecs.names import Find, everywhere, none
from sidecar.relay.codecs.tables import COMMON, OPEN_INFERENCE, TF_SERVING, Service

PROTOCOLS: dict[str, dict[str, Service]] = {
    "auto": OPEN_INFERENCE | TF_SERVING,
    "open-inference": OPEN_INFERENCE,
    "tf-serving": TF_SERVING,
    "opaque": {},
}


class OpaqueMethod(Protocol):
    """A method's shape, by config."""

    @property
    def name(self) -> str: ...

    @property
    def unary_request(self) -> bool: ...

    @property
    def unary_response(self) -> bool: ...


class OpaqueService(Protocol):
    """A service of another protocol, by config. model_field: where its requests name the model, field numbers
    from the outside in; empty where they name none."""

    @property
    def service(self) -> str: ...

    @property
    def methods(self) -> Sequence[OpaqueMethod]: ...

    @property
    def model_field(self) -> Sequence[int]: ...


class WireCodec:
    """The Codec of one method whose messages are protobuf; their decoded form is `Fields`."""

    __slots__ = ("_count", "_request", "_response")

    def __init__(self, request: Find = none, response: Find = none, count: Count = one) -> None:
        self._request = request
        self._response = response
        self._count = count

    def models(self, raw: bytes, response: bool) -> tuple[ModelName, ...]:
        return self._response(raw) if response else self._request(raw)

    def batch(self, raw: bytes) -> int:
        return self._count(raw)

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
        self._services: dict[str, Codec] = {}

    def method(self, path: str) -> Method | None:
        """path: "/package.Service/Method"."""
        known = self._methods.get(path)
        if known is not None:
            return known[0]
        return Method(path) if service_of(path) in self._services else None

    def codec(self, path: str) -> Codec:
        known = self._methods.get(path)
        if known is not None:
            return known[1]
        return self._services.get(service_of(path), NO_CODEC)

    @property
    def paths(self) -> frozenset[str]:
        """Every method that is known by its name."""
        return frozenset(self._methods)

    def know(self, name: str, service: Service) -> None:
        for method, row in service.items():
            path = f"/{name}/{method}"
            shape = Method(path, row.unary_request, row.unary_response)
            self._methods[path] = shape, WireCodec(row.request, row.response, row.count)

    def describe(self, service: OpaqueService) -> None:
        """Take what the config says of a service in place of what was known of it."""
        for path in [path for path in self._methods if service_of(path) == service.service]:
            del self._methods[path]
        codec = WireCodec(everywhere(service.model_field) if service.model_field else none)
        self._services[service.service] = codec
        for method in service.methods:
            path = f"/{service.service}/{method.name}"
            self._methods[path] = Method(path, method.unary_request, method.unary_response), codec


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
