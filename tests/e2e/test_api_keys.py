"""API keys from their making to their end, as an administrator and a holder see them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from langtrain.v1 import api_keys_pb2 as pb
from langtrain.v1.api_keys_pb2_grpc import ApiKeyServiceStub
from tests import sidecars
from tests.certificates import CLIENT, Certificates
from tests.e2e.test_limits import channel
from tests.e2e.test_tokens import call
from tests.e2e.upstream import STREAM, Echo, echo
from tests.sidecars import Sidecar, guarded
from tests.waiting import eventually

CODE = grpc.StatusCode
MANAGE = "/langtrain.v1.ApiKeyService/*"
RULES = [{"identities": [CLIENT], "methods": [MANAGE], "permissions": ["api_keys.*"]}]


class Scene:
    """A running sidecar, and a client whose certificate may manage keys."""

    def __init__(self, running: Sidecar, echo_: Echo, opened: grpc.Channel) -> None:
        self.running = running
        self.echo = echo_
        self.opened = opened
        self.keys = ApiKeyServiceStub(opened)

    def create(self, **wanted: Any) -> Any:
        said = {"owner": "user:login/alice", "permissions": ["upstream.opaque"], **wanted}
        return self.keys.CreateApiKey(pb.CreateApiKeyRequest(**said), timeout=30, wait_for_ready=True)

    def call(self, text: str) -> CODE:
        return call(self.opened, text)

    def accepted(self, text: str) -> bool:
        return self.call(text) is CODE.OK

    def reasons(self) -> set[str]:
        return {event["reason"] for event in self.running.events()}


def config_of(certificates: Certificates, upstream: str, **more: Any) -> dict[str, Any]:
    config = guarded(certificates, upstream)
    config["authentication"]["api_keys"] = {}
    config["authorization"] = {"rules": RULES}
    return {**config, **more}


@contextmanager
def scene(
    tmp_path: Path, certificates: Certificates, faults: frozenset[str] = frozenset(), **more: Any
) -> Iterator[Scene]:
    with (
        echo() as (handler, upstream),
        sidecars.serve(config_of(certificates, upstream, **more), tmp_path, faults=faults) as running,
        channel(running.address, certificates) as opened,
    ):
        yield Scene(running, handler, opened)


def code_of(raised: pytest.ExceptionInfo[grpc.RpcError]) -> CODE:
    code: CODE = raised.value.code()
    return code


def test_a_key_is_made_shown_once_used_and_revoked(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates, workers=2) as at:
        made = at.create(title="nightly", lifetime=Duration(seconds=3600))
        text, key_id = made.text, made.api_key.key_id
        assert text.startswith(f"ltk_{key_id}_")
        eventually(lambda: at.accepted(text), "workers know the key")
        known = at.keys.GetApiKey(pb.GetApiKeyRequest(key_id=key_id), timeout=30).api_key
        assert known.title == "nightly"
        assert text not in str(at.keys.ListApiKeys(pb.ListApiKeysRequest(), timeout=30))
        assert at.call(text[:-1] + ("0" if text[-1] != "0" else "1")) is CODE.UNAUTHENTICATED
        assert at.call(text[:-3]) is CODE.UNAUTHENTICATED
        revoked = at.keys.RevokeApiKey(pb.RevokeApiKeyRequest(key_id=key_id), timeout=30).revoked
        assert [each.key_id for each in revoked] == [key_id]
        eventually(lambda: not at.accepted(text), "workers know that it is revoked")
        wanted = {"identify.key_checksum", "identify.key_malformed", "identify.key_revoked"}
        eventually(lambda: wanted <= at.reasons(), "recorded")
        kinds = {event["kind"]: event["principal"] for event in at.running.events()}
        assert kinds["api_key.created"] == kinds["api_key.revoked"] == CLIENT
        everything = "\n".join(
            file.read_text("utf-8", "replace") for file in at.running.state.rglob("*") if file.is_file()
        )
        assert text[17:-6] not in everything  # the secret, in nothing that is kept


def test_an_open_stream_ends_with_its_key(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates) as at:
        made = at.create()
        eventually(lambda: at.accepted(made.text), "the key is known")
        release = threading.Event()

        def requests() -> Iterator[bytes]:
            yield b"one"
            release.wait(30)

        stream: Any = at.opened.stream_stream(STREAM)
        answers = stream(requests(), metadata=[("authorization", f"Bearer {made.text}")], timeout=60)
        assert next(answers) == b"one"
        at.keys.RevokeApiKey(pb.RevokeApiKeyRequest(key_id=made.api_key.key_id), timeout=30)
        with pytest.raises(grpc.RpcError) as raised:
            next(answers)
        release.set()
        assert code_of(raised) is CODE.UNAUTHENTICATED


def test_a_key_outlives_a_restart_and_a_killed_services_process(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates) as at:
        kept, gone = at.create(), at.create()
        at.keys.RevokeApiKey(pb.RevokeApiKeyRequest(key_id=gone.api_key.key_id), timeout=30)
    with scene(tmp_path, certificates, frozenset(("child_killed",))) as at:
        eventually(lambda: at.accepted(kept.text), "the key is known")
        assert at.call(gone.text) is CODE.UNAUTHENTICATED
        (pid,) = at.running.children("services").values()
        os.kill(pid, signal.SIGKILL)
        another = None

        def created() -> bool:
            nonlocal another
            try:
                another = at.create()
            except grpc.RpcError:
                return False
            return True

        eventually(created, "another process has taken its place", 60)
        assert another is not None
        eventually(lambda: at.accepted(another.text), "the new key is known")
        assert at.accepted(kept.text)
        assert at.call(gone.text) is CODE.UNAUTHENTICATED


def test_a_change_that_was_committed_is_recorded_after_a_kill(tmp_path: Path, certificates: Certificates) -> None:
    """Both processes are killed after the change and before its event is on disk."""
    with scene(tmp_path, certificates, frozenset(("child_killed",))) as at:
        made = at.create()
        (recorder,), (services,) = (at.running.children(role).values() for role in ("recorder", "services"))
        os.kill(recorder, signal.SIGSTOP)
        request = pb.RevokeApiKeyRequest(key_id=made.api_key.key_id)
        asking = at.keys.RevokeApiKey.future(request, timeout=60)
        eventually(lambda: at.running.unrecorded() == 1, "the key is revoked, and its event waits")
        os.kill(services, signal.SIGKILL)
        os.kill(recorder, signal.SIGKILL)
        with pytest.raises(grpc.RpcError):
            asking.result()
        eventually(lambda: recorded(at.running, "api_key.revoked") == [made.api_key.key_id], "recorded", 60)
        eventually(lambda: at.running.unrecorded() == 0, "and taken out")
        eventually(lambda: at.call(made.text) is CODE.UNAUTHENTICATED, "it is revoked", 60)


def recorded(running: Sidecar, kind: str) -> list[str]:
    """Of which keys."""
    return [event["reason"].partition(" ")[0] for event in running.events() if event["kind"] == kind]


def test_while_the_services_process_is_stopped_keys_end_with_the_staleness(
    tmp_path: Path, certificates: Certificates
) -> None:
    with scene(tmp_path, certificates, frozenset(("child_killed",)), state={"max_staleness": "1s"}) as at:
        made = at.create()
        eventually(lambda: at.accepted(made.text), "the key is known")
        (pid,) = at.running.children("services").values()
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: at.call(made.text) is CODE.UNAVAILABLE, "refused")
        eventually(lambda: at.accepted(made.text), "another process has taken its place", 60)


def test_a_key_is_for_what_it_permits_and_for_no_longer_than_it_lives(
    tmp_path: Path, certificates: Certificates
) -> None:
    with scene(tmp_path, certificates) as at:
        other = at.create(permissions=["models.inference"])
        some = at.create(resources=["models/fraud-*"])  # and an echo names no model
        short = at.create(lifetime=Duration(seconds=3))
        few = at.create(rate="2/day")
        eventually(lambda: at.call(other.text) is CODE.PERMISSION_DENIED, "the keys are known")
        assert at.call(some.text) is CODE.PERMISSION_DENIED
        assert [at.call(few.text) for _ in range(3)] == [CODE.OK, CODE.OK, CODE.RESOURCE_EXHAUSTED]
        eventually(lambda: at.call(short.text) is CODE.UNAUTHENTICATED, "it has expired")
        wanted = {"authorize.permission:upstream.opaque", "authorize.model", "limit.api-key", "identify.key_expired"}
        eventually(lambda: wanted <= at.reasons(), "recorded")
        with pytest.raises(grpc.RpcError) as raised:  # and no key manages keys unless it permits that
            at.keys.ListApiKeys(
                pb.ListApiKeysRequest(), metadata=(("authorization", f"Bearer {some.text}"),), timeout=30
            )
        assert code_of(raised) is CODE.PERMISSION_DENIED


def test_a_rule_for_all_methods_lets_nobody_make_keys(tmp_path: Path, certificates: Certificates) -> None:
    """Else whoever may call a model could make a key that permits more than the rule does."""
    rules = [{"identities": [CLIENT], "methods": ["/**"]}]
    with scene(tmp_path, certificates, authorization={"rules": rules}) as at:
        with pytest.raises(grpc.RpcError) as raised:
            at.create(permissions=["*"])
        assert code_of(raised) is CODE.PERMISSION_DENIED
        with pytest.raises(grpc.RpcError) as raised:
            at.keys.RotateApiKey(pb.RotateApiKeyRequest(key_id="a" * 12), timeout=30)
        assert code_of(raised) is CODE.PERMISSION_DENIED
        wanted = {"authorize.permission:api_keys.create", "authorize.permission:api_keys.rotate"}
        eventually(lambda: wanted <= at.reasons(), "recorded")


def test_rotation_and_the_same_request_again(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates) as at:
        made = at.create(idempotency_key="once")
        again = at.create(idempotency_key="once")
        assert (again.api_key.key_id, again.text) == (made.api_key.key_id, "")
        with pytest.raises(grpc.RpcError) as raised:
            at.create(idempotency_key="once", title="another")
        assert code_of(raised) is CODE.INVALID_ARGUMENT
        eventually(lambda: at.accepted(made.text), "the key is known")
        request = pb.RotateApiKeyRequest(key_id=made.api_key.key_id, overlap=Duration(seconds=0))
        rotated = at.keys.RotateApiKey(request, timeout=30)
        eventually(lambda: at.accepted(rotated.text), "its successor is known")
        eventually(lambda: not at.accepted(made.text), "it has ended")
        called = {event["principal"] for event in at.running.events() if event["kind"] == "call.allowed"}
        assert f"key:{made.api_key.key_id}" in called  # and its successor goes by the same name
        assert f"key:{rotated.api_key.key_id}" not in called


def test_what_is_wrong_with_a_request_is_said(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates) as at:
        with pytest.raises(grpc.RpcError) as raised:
            at.create(owner="", permissions=["Not a permission"], rate="many")
        assert code_of(raised) is CODE.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as raised:
            at.keys.GetApiKey(pb.GetApiKeyRequest(key_id="nobody"), timeout=30)
        assert code_of(raised) is CODE.NOT_FOUND


def test_without_the_setting_there_are_no_keys(tmp_path: Path, certificates: Certificates) -> None:
    with echo() as (_, upstream):
        config = guarded(certificates, upstream)
        with sidecars.serve(config, tmp_path) as running, channel(running.address, certificates) as opened:
            with pytest.raises(grpc.RpcError) as raised:
                ApiKeyServiceStub(opened).ListApiKeys(pb.ListApiKeysRequest(), timeout=30, wait_for_ready=True)
            assert code_of(raised) is CODE.FAILED_PRECONDITION
