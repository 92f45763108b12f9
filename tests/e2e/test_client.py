"""`langtrain-client` at a whole sidecar: keys made by an administrator, presented by their holders' own stubs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

import langtrain
from langtrain.auth import AsyncAuthenticationManager, AuthenticationManager, IssuedKey
from tests import sidecars
from tests.certificates import Certificates
from tests.e2e.test_api_keys import config_of
from tests.e2e.upstream import UNARY, echo
from tests.waiting import eventually


def administrator(address: str, certificates: Certificates) -> dict[str, Any]:
    """Arguments of a client whose certificate may manage keys."""
    pair = certificates.client
    return {"endpoint": address, "ca": certificates.ca, "cert": pair.certificate, "key": pair.key, "timeout_s": 30.0}


def holder(address: str, certificates: Certificates, issued: IssuedKey) -> grpc.Channel:
    """What any holder of a key makes of gRPC alone and the key, with a certificate where the sidecar demands one."""
    pair = certificates.client
    files = [path.read_bytes() for path in (certificates.ca, pair.key, pair.certificate)]
    tls = grpc.ssl_channel_credentials(*files)
    return grpc.secure_channel(
        address, grpc.composite_channel_credentials(tls, langtrain.call_credentials(issued.text))
    )


def test_keys_from_their_making_to_their_end(tmp_path: Path, certificates: Certificates) -> None:
    with (
        echo() as (_, upstream),
        sidecars.serve(config_of(certificates, upstream), tmp_path) as running,
        AuthenticationManager(**administrator(running.address, certificates)) as manager,
    ):
        issued = manager.create_api_key("user123", ["upstream.opaque"], expiry_days=30, rate_limit="1000/hour")
        assert issued.api_key.owner == "user:user123"
        with holder(running.address, certificates, issued) as channel:
            unary: Any = channel.unary_unary(UNARY)

            def accepted() -> bool:
                try:
                    return bool(unary(b"m", timeout=30) == b"m")
                except grpc.RpcError:
                    return False

            eventually(accepted, "workers know the key")
            rotated = manager.rotate_api_key(issued.key_id, overlap=timedelta(minutes=1))
            assert rotated.text != issued.text
            assert [key.key_id for key in manager.list_api_keys("user123")] == sorted((issued.key_id, rotated.key_id))
            assert manager.list_api_keys("user456") == []
            assert manager.get_api_key(issued.key_id).rotated_to == rotated.key_id
            with pytest.raises(langtrain.DeniedError) as denied:
                manager.fetch_api_key(rotated.key_id)
            assert denied.value.reason == "API_KEY_NOT_OWNER"
            revoked = manager.revoke_api_key(issued.key_id, successors=True)
            assert {key.key_id for key in revoked} == {issued.key_id, rotated.key_id}
            eventually(lambda: not accepted(), "workers know that it is revoked")
        with pytest.raises(langtrain.InvalidError) as wrong:
            manager.create_api_key("user123", [], rate_limit="many")
        assert set(wrong.value.fields) == {"permissions", "rate"}
        with pytest.raises(langtrain.NotFoundError):
            manager.get_api_key("nobody")


def test_the_same_in_an_event_loop(tmp_path: Path, certificates: Certificates) -> None:
    async def ask(address: str) -> None:
        async with AsyncAuthenticationManager(**administrator(address, certificates)) as manager:
            made = await asyncio.gather(*(manager.create_api_key(f"u{n}", ["upstream.opaque"]) for n in range(3)))
            assert {key.key_id for key in await manager.list_api_keys()} == {issued.key_id for issued in made}
            await manager.revoke_api_key(made[0].key_id)
            assert (await manager.get_api_key(made[0].key_id)).HasField("revoked")

    with echo() as (_, upstream), sidecars.serve(config_of(certificates, upstream), tmp_path) as running:
        asyncio.run(ask(running.address))
