"""The sidecar's methods, and what is asked of them as steps that do no I/O: `Client` and `AsyncClient` take them.

A step yields a request and is sent its response; an error of the call is thrown into it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Generator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias, TypeVar

from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from langtrain.v1 import administrators_pb2, api_keys_pb2, policies_pb2, sidecar_pb2

R = TypeVar("R")
Steps: TypeAlias = Generator[Message, Any, R]

FILES: Final[tuple[FileDescriptor, ...]] = (
    administrators_pb2.DESCRIPTOR,
    api_keys_pb2.DESCRIPTOR,
    policies_pb2.DESCRIPTOR,
    sidecar_pb2.DESCRIPTOR,
)
IDEMPOTENCY: Final = "idempotency_key"
# What changes nothing may be asked again, and so may what carries a key by which it is done once.
READS: Final = ("Get", "List", "Check", "Explain", "Simulate")
RETRIES: Final = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Method:
    """safe: whether it may be asked again where nobody knows whether it was heard."""

    service: str
    name: str
    response: type[Message]
    safe: bool
    streams: bool

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"


@cache
def methods() -> dict[str, Method]:
    """By the full name of their request, of which each has its own."""
    return {
        method.input_type.full_name: _method(method)
        for file in FILES
        for service in file.services_by_name.values()
        for method in service.methods
    }


@cache
def service_config() -> str:
    """gRPC's own, by which channels retry (https://github.com/grpc/proposal/blob/master/A6-client-retries.md)."""
    safe = [{"service": method.service, "method": method.name} for method in methods().values() if method.safe]
    return json.dumps(
        {
            "methodConfig": [{"name": safe, "retryPolicy": RETRIES}],
            "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
        }
    )


def prepared(request: Message) -> Message:
    """The request, with an idempotency key of its own where it takes one and has none."""
    if IDEMPOTENCY in request.DESCRIPTOR.fields_by_name and not getattr(request, IDEMPOTENCY):
        setattr(request, IDEMPOTENCY, uuid.uuid4().hex)
    return request


def pages(request: Any, field: str) -> Steps[list[Any]]:
    """All of `field` of every page that answers a request."""
    found: list[Any] = []
    request.page_size = PAGE
    while True:
        response = yield request
        found += getattr(response, field)
        if not response.next_page_token:
            return found
        request.page_token = response.next_page_token


def _method(method: MethodDescriptor) -> Method:
    keyed = IDEMPOTENCY in method.input_type.fields_by_name
    return Method(
        method.containing_service.full_name,
        method.name,
        GetMessageClass(method.output_type),
        safe=keyed or method.name.startswith(READS),
        streams=method.server_streaming,
    )
