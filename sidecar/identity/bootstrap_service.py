"""langtrain.v1.AdministratorService: protobuf to values and back, and nothing else."""

from __future__ import annotations

from typing import Final

import grpc

from interceptors.contract import Code
from langtrain.v1 import administrators_pb2 as pb
from langtrain.v1.administrators_pb2_grpc import AdministratorServiceServicer
from sidecar.errors import SidecarError
from sidecar.identity.bootstrap_desk import ROLE, BootstrapDesk
from sidecar.internal.called import caller_of

SERVICE: Final = "/langtrain.v1.AdministratorService/"


class NoAdministratorsError(SidecarError):
    """The config does not let roles decide, so nobody administers them."""

    code = Code.FAILED_PRECONDITION
    public = "roles and policies are off: authorization.policies is not set"
    wire_reason = "POLICIES_OFF"


class AdministratorService(AdministratorServiceServicer):
    """Safe for many threads."""

    def __init__(self, desk: BootstrapDesk | None) -> None:
        """desk: None where policies are off."""
        self._desk = desk

    def ClaimAdministrator(
        self, request: pb.ClaimAdministratorRequest, context: grpc.ServicerContext
    ) -> pb.ClaimAdministratorResponse:
        if self._desk is None:
            raise NoAdministratorsError("authorization.policies is not set")
        claimed = self._desk.claim(caller_of(context), f"{SERVICE}ClaimAdministrator", request.credential)
        return pb.ClaimAdministratorResponse(
            grant_id=claimed.grant, tenant=claimed.tenant, principal=claimed.claimant, role=ROLE
        )
