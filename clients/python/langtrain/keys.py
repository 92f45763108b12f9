"""API keys, as steps: a key's text comes with the answer that made it, and never again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc

from langtrain.calls import Steps, pages
from langtrain.errors import SidecarError
from langtrain.names import duration, identity
from langtrain.v1 import api_keys_pb2 as pb


class KeyLostError(SidecarError):
    """A key was made and the answer that had its text never came. key_id: of the key, to be revoked."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        super().__init__(
            grpc.StatusCode.DATA_LOSS,
            f"API key {key_id} was made, and the answer with its text was lost: revoke it and make another",
            "API_KEY_LOST",
        )


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """text: "ltk_…", the key itself, to be kept now: nobody can show it again. Its repr does not."""

    api_key: pb.ApiKey
    text: str = field(repr=False)

    @property
    def key_id(self) -> str:
        return self.api_key.key_id


def create_api_key(
    user_id: str,
    permissions: Iterable[str],
    expiry_days: float | None = None,
    auto_rotate: bool = False,
    rate_limit: str = "",
    resources: Iterable[str] = (),
    title: str = "",
) -> Steps[IssuedKey]:
    """Make a key.

    user_id: its owner, "user:login/alice"; without a kind it is a user: "user123" is "user:user123".
    expiry_days: None for a key that never expires.  auto_rotate: a successor is prepared before it does, for the owner
    to fetch.  rate_limit: such as "1000/hour".  resources: such as "models/fraud-*"; everything where there are none.
    Raises KeyLostError.
    """
    request = pb.CreateApiKeyRequest(
        owner=identity(user_id),
        title=title,
        permissions=permissions,
        resources=resources,
        lifetime=duration(None if expiry_days is None else timedelta(days=expiry_days)),
        rate=rate_limit,
        auto_rotate=auto_rotate,
    )
    return _issued((yield request))


def get_api_key(key_id: str) -> Steps[pb.ApiKey]:
    response: pb.GetApiKeyResponse = yield pb.GetApiKeyRequest(key_id=key_id)
    return response.api_key


def list_api_keys(user_id: str = "") -> Steps[list[pb.ApiKey]]:
    """By id. user_id: only this owner's, as of `create_api_key`; "" for anyone's."""
    return (yield from pages(pb.ListApiKeysRequest(owner=user_id and identity(user_id)), "api_keys"))


def rotate_api_key(key_id: str, overlap: timedelta | None = None) -> Steps[IssuedKey]:
    """A successor that may do the same for as long again. overlap: how long the key goes on, a day where left out.

    Raises KeyLostError, whose key is the successor.
    """
    return _issued((yield pb.RotateApiKeyRequest(key_id=key_id, overlap=duration(overlap))))


def fetch_api_key(key_id: str, overlap: timedelta | None = None) -> Steps[IssuedKey]:
    """The successor that was prepared for a key of the caller's own; else as `rotate_api_key`."""
    return _issued((yield pb.FetchApiKeyRequest(key_id=key_id, overlap=duration(overlap))))


def revoke_api_key(key_id: str, successors: bool = False) -> Steps[list[pb.ApiKey]]:
    """For good. Those that were not revoked before. successors: those too that it was rotated to."""
    response: pb.RevokeApiKeyResponse = yield pb.RevokeApiKeyRequest(key_id=key_id, successors=successors)
    return list(response.revoked)


def _issued(response: Any) -> IssuedKey:
    if not response.text:
        raise KeyLostError(response.api_key.key_id)
    return IssuedKey(response.api_key, response.text)
