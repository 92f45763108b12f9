"""langtrain.v1.RevocationService: protobuf to values and back, and nothing else."""

from __future__ import annotations

from typing import Final

import grpc

from interceptors.contract import Code
from langtrain.v1 import revocations_pb2 as pb
from langtrain.v1.revocations_pb2_grpc import RevocationServiceServicer
from sidecar.errors import RequestError, SidecarError
from sidecar.identity import revocations
from sidecar.identity.revocations import MOST_PAGE, Ending
from sidecar.identity.revocations_desk import RevocationDesk
from sidecar.identity.revocations_model import (
    CERTIFICATE,
    CERTIFICATE_ID,
    ISSUER,
    NEVER,
    PRINCIPAL,
    TOKEN,
    Revocation,
    Subject,
)
from sidecar.identity.wire import seconds, timestamp
from sidecar.internal.called import caller_of

PAGE: Final = 100
SERVICE: Final = "/langtrain.v1.RevocationService/"


class RevocationsOffError(SidecarError):
    """The config does not let anything be revoked."""

    code = Code.FAILED_PRECONDITION
    public = "revocations are off: authentication.revocations is not set"
    wire_reason = "REVOCATIONS_OFF"


class RevocationService(RevocationServiceServicer):
    """Safe for many threads."""

    def __init__(self, desk: RevocationDesk | None) -> None:
        """desk: None where nothing can be revoked."""
        self._found = desk

    @property
    def _desk(self) -> RevocationDesk:
        if self._found is None:
            raise RevocationsOffError("authentication.revocations is not set")
        return self._found

    def RevokeToken(self, request: pb.RevokeTokenRequest, context: grpc.ServicerContext) -> pb.RevokeTokenResponse:
        issuers, now = self._desk.issuers, self._desk.now()
        match request.WhichOneof("token"):
            case "text":
                revoked = _by_itself(request, revocations.token(request.text, issuers, now), "text")
            case "sha256":
                revoked = Ending(revocations.token_digest(request.sha256), _expires(request, now))
            case "id":
                subject = revocations.token_id(request.id.issuer, request.id.jti, issuers)
                revoked = Ending(subject, _expires(request, now))
            case _:
                raise RequestError([("token", "expected text, sha256 or id")])
        return pb.RevokeTokenResponse(revocation=self._revoke(context, "RevokeToken", request, revoked))

    def RevokeTokens(self, request: pb.RevokeTokensRequest, context: grpc.ServicerContext) -> pb.RevokeTokensResponse:
        issuers, now = self._desk.issuers, self._desk.now()
        match request.WhichOneof("whose"):
            case "principal":
                subject = revocations.principal(request.principal, issuers)
            case "issuer":
                subject = revocations.issuer(request.issuer, issuers)
            case _:
                raise RequestError([("whose", "expected principal or issuer")])
        before = (
            revocations.issued_before(seconds(request.issued_before), now) if _has(request, "issued_before") else now
        )
        revoked = Ending(subject, _expires(request, now))
        return pb.RevokeTokensResponse(revocation=self._revoke(context, "RevokeTokens", request, revoked, before))

    def RevokeCertificate(
        self, request: pb.RevokeCertificateRequest, context: grpc.ServicerContext
    ) -> pb.RevokeCertificateResponse:
        now = self._desk.now()
        match request.WhichOneof("certificate"):
            case "pem":
                revoked = _by_itself(request, revocations.certificate(request.pem, now), "pem")
            case "sha256":
                revoked = Ending(revocations.certificate_digest(request.sha256), _expires(request, now))
            case "id":
                subject = revocations.certificate_id(request.id.issuer, request.id.serial)
                revoked = Ending(subject, _expires(request, now))
            case _:
                raise RequestError([("certificate", "expected pem, sha256 or id")])
        return pb.RevokeCertificateResponse(revocation=self._revoke(context, "RevokeCertificate", request, revoked))

    def ListRevocations(
        self, request: pb.ListRevocationsRequest, context: grpc.ServicerContext
    ) -> pb.ListRevocationsResponse:
        if not 0 <= request.page_size <= MOST_PAGE:
            raise RequestError([("page_size", f"expected 1 to {MOST_PAGE}, came {request.page_size}")])
        page = self._desk.page(caller_of(context), request.page_token, request.page_size or PAGE)
        return pb.ListRevocationsResponse(revocations=map(_revocation, page.revocations), next_page_token=page.after)

    def _revoke(
        self, context: grpc.ServicerContext, method: str, request: _Revoking, revoked: Ending, before: float = NEVER
    ) -> pb.Revocation:
        reason = revocations.reason(request.reason)
        subject, expires = revoked
        return _revocation(self._desk.revoke(caller_of(context), SERVICE + method, subject, before, expires, reason))


_Revoking = pb.RevokeTokenRequest | pb.RevokeTokensRequest | pb.RevokeCertificateRequest


def _has(request: _Revoking, field: str) -> bool:
    return request.HasField(field)  # type: ignore[arg-type]  # each stub knows the fields of its own message


def _expires(request: _Revoking, now: float) -> float:
    return revocations.expires(seconds(request.expires), now) if _has(request, "expires") else NEVER


def _by_itself(request: _Revoking, ending: Ending, field: str) -> Ending:
    if _has(request, "expires"):
        raise RequestError([("expires", f"is read from {field}, expected none beside it")])
    return ending


def _revocation(revocation: Revocation) -> pb.Revocation:
    made = pb.Revocation(
        id=revocation.id,
        tenant=revocation.tenant,
        issued_before=timestamp(revocation.issued_before),
        revoked=timestamp(revocation.revoked),
        expires=timestamp(revocation.expires),
        by=revocation.revoker,
        reason=revocation.reason,
    )
    _name(made, revocation.subject)
    return made


def _name(made: pb.Revocation, subject: Subject) -> None:
    kind, issuer, name = subject
    if kind == TOKEN:
        made.token_sha256 = name
    elif kind == PRINCIPAL:
        made.principal = name
    elif kind == ISSUER:
        made.issuer = issuer
    elif kind == CERTIFICATE:
        made.certificate_sha256 = name
    elif kind == CERTIFICATE_ID:
        made.certificate_id.CopyFrom(pb.CertificateId(issuer=issuer, serial=name))
    else:
        made.token_id.CopyFrom(pb.TokenId(issuer=issuer, jti=name))
