"""Every method of our own services: what it takes and gives, and the permission that it demands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from google.protobuf.descriptor import FileDescriptor, MethodDescriptor

from langtrain.v1 import (
    administrators_pb2,
    api_keys_pb2,
    permissions_pb2,
    policies_pb2,
    revocations_pb2,
    sidecar_pb2,
)
from sidecar.errors import SidecarError

FILES: tuple[FileDescriptor, ...] = (
    administrators_pb2.DESCRIPTOR,
    api_keys_pb2.DESCRIPTOR,
    policies_pb2.DESCRIPTOR,
    revocations_pb2.DESCRIPTOR,
    sidecar_pb2.DESCRIPTOR,
)


class CatalogueError(SidecarError):
    """A method that demands no permission: nothing is served then."""


@dataclass(frozen=True, slots=True)
class Rpc:
    """path: "/langtrain.v1.SidecarService/GetStatus"."""

    path: str
    permission: str
    unary_request: bool
    unary_response: bool

    @property
    def streams(self) -> bool:
        return not (self.unary_request and self.unary_response)


@cache
def rpcs() -> tuple[Rpc, ...]:
    """Raises CatalogueError where one declares no permission."""
    return tuple(
        _rpc(method) for file in FILES for service in file.services_by_name.values() for method in service.methods
    )


def permissions() -> dict[str, str]:
    """Path → permission."""
    return {rpc.path: rpc.permission for rpc in rpcs()}


def streams() -> frozenset[str]:
    """The paths of what may last."""
    return frozenset(rpc.path for rpc in rpcs() if rpc.streams)


def services() -> tuple[str, ...]:
    """Full names."""
    return tuple(service.full_name for file in FILES for service in file.services_by_name.values())


def _rpc(method: MethodDescriptor) -> Rpc:
    path = f"/{method.containing_service.full_name}/{method.name}"
    permission = method.GetOptions().Extensions[permissions_pb2.permission]
    if not permission:
        raise CatalogueError(f"{path} declares no (langtrain.v1.permission)")
    return Rpc(path, permission, not method.client_streaming, not method.server_streaming)
