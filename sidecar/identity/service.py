"""langtrain.v1.ApiKeyService: protobuf to values and back, and nothing else."""

from __future__ import annotations

import hashlib
from typing import Final

import grpc
from google.protobuf.message import Message

from interceptors.contract import Code
from langtrain.v1 import api_keys_pb2 as pb
from langtrain.v1.api_keys_pb2_grpc import ApiKeyServiceServicer
from sidecar.errors import RequestError, SidecarError
from sidecar.identity.keys import MOST_PAGE, Wanted
from sidecar.identity.keys_desk import Asked, KeyDesk
from sidecar.identity.keys_model import NEVER, KeyRecord
from sidecar.identity.wire import seconds, timestamp
from sidecar.internal.called import caller_of

PAGE: Final = 100
OVERLAP_S: Final = 86400.0
SERVICE: Final = "/langtrain.v1.ApiKeyService/"


class KeysOffError(SidecarError):
    """The config does not let callers be identified by API keys."""

    code = Code.FAILED_PRECONDITION
    public = "API keys are off: authentication.api_keys is not set"
    wire_reason = "API_KEYS_OFF"


class ApiKeyService(ApiKeyServiceServicer):
    """Safe for many threads."""

    def __init__(self, desk: KeyDesk | None) -> None:
        """desk: None where keys are off."""
        self._found = desk

    @property
    def _desk(self) -> KeyDesk:
        if self._found is None:
            raise KeysOffError("authentication.api_keys is not set")
        return self._found

    def CreateApiKey(self, request: pb.CreateApiKeyRequest, context: grpc.ServicerContext) -> pb.CreateApiKeyResponse:
        asked = _asked(context, "CreateApiKey", request)
        lifetime = seconds(request.lifetime) if request.HasField("lifetime") else NEVER
        wanted = Wanted(
            asked.caller.tenant,
            request.owner,
            tuple(request.permissions),
            tuple(request.resources),
            request.title,
            rate=request.rate,
            auto_rotate=request.auto_rotate,
        )
        given = self._desk.create(asked, wanted, lifetime)
        return pb.CreateApiKeyResponse(api_key=api_key(given.record), text=given.text)

    def GetApiKey(self, request: pb.GetApiKeyRequest, context: grpc.ServicerContext) -> pb.GetApiKeyResponse:
        return pb.GetApiKeyResponse(api_key=api_key(self._desk.get(_asked(context, "GetApiKey"), request.key_id)))

    def ListApiKeys(self, request: pb.ListApiKeysRequest, context: grpc.ServicerContext) -> pb.ListApiKeysResponse:
        if not 0 <= request.page_size <= MOST_PAGE:
            raise RequestError([("page_size", f"expected 1 to {MOST_PAGE}, came {request.page_size}")])
        asked = _asked(context, "ListApiKeys")
        page = self._desk.page(asked, request.owner, request.page_token, request.page_size or PAGE)
        return pb.ListApiKeysResponse(api_keys=map(api_key, page.records), next_page_token=page.after)

    def RotateApiKey(self, request: pb.RotateApiKeyRequest, context: grpc.ServicerContext) -> pb.RotateApiKeyResponse:
        given = self._desk.rotate(_asked(context, "RotateApiKey", request), request.key_id, _overlap(request))
        return pb.RotateApiKeyResponse(api_key=api_key(given.record), text=given.text)

    def FetchApiKey(self, request: pb.FetchApiKeyRequest, context: grpc.ServicerContext) -> pb.FetchApiKeyResponse:
        given = self._desk.fetch(_asked(context, "FetchApiKey", request), request.key_id, _overlap(request))
        return pb.FetchApiKeyResponse(api_key=api_key(given.record), text=given.text)

    def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: grpc.ServicerContext) -> pb.RevokeApiKeyResponse:
        revoked = self._desk.revoke(_asked(context, "RevokeApiKey"), request.key_id, request.successors)
        return pb.RevokeApiKeyResponse(revoked=map(api_key, revoked))


def api_key(record: KeyRecord) -> pb.ApiKey:
    return pb.ApiKey(
        key_id=record.key_id,
        tenant=record.tenant,
        owner=record.owner,
        title=record.title,
        permissions=record.permissions,
        resources=record.resources,
        created=timestamp(record.created),
        expires=timestamp(record.expires),
        rate=record.rate,
        auto_rotate=record.auto_rotate,
        rotated_to=record.rotated_to,
        overlap_ends=timestamp(record.overlap_ends),
        revoked=timestamp(record.revoked),
        last_used=timestamp(record.last_used),
        fetched=bool(record.hash),
    )


def _asked(context: grpc.ServicerContext, method: str, request: Message | None = None) -> Asked:
    """request: one that changes something, with an idempotency key or without."""
    caller = caller_of(context)
    if request is None:
        return Asked(caller, SERVICE + method)
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("idempotency_key")
    digest = hashlib.sha256(bare.SerializeToString(deterministic=True)).digest()
    return Asked(caller, SERVICE + method, getattr(request, "idempotency_key"), digest)  # noqa: B009 - of each of them


def _overlap(request: pb.RotateApiKeyRequest | pb.FetchApiKeyRequest) -> float:
    return seconds(request.overlap) if request.HasField("overlap") else OVERLAP_S
