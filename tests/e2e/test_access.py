"""Roles and policies made through PolicyService, and what becomes of calls: in every worker, at once, or refused."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from langtrain.v1 import policies_pb2 as pb
from langtrain.v1.policies_pb2_grpc import PolicyServiceStub
from tests import sidecars
from tests.certificates import CLIENT, Certificates
from tests.e2e.test_limits import channel
from tests.e2e.test_policies import another
from tests.e2e.upstream import STREAM, UNARY, Echo, echo
from tests.identity.issuing import AUDIENCE, ISSUER, claims, jwk, jwks, token
from tests.sidecars import Sidecar, guarded, write
from tests.waiting import eventually

CODE = grpc.StatusCode
ALICE = "user:login/alice"
OPAQUE = "upstream.opaque"
RULE = {"identities": [ALICE], "methods": ["/e2e.Echo/*"]}
PLUGIN = """
from interceptors.contract import Forward, Interceptor, Message, View

class Redact(Interceptor):
    name = "redact"
    view = View.BYTES
    honours = frozenset({"redact:pii"})

    def depth(self, method, obligations):
        return View.BYTES if "redact:pii" in obligations else None

    def on_request(self, call, message):
        return Forward((Message(message.raw.replace(b"secret", b"[-]")),))
"""


class Scene:
    """A running sidecar with roles and policies. config: as it was started with.

    Its administrator is known by a certificate, and Alice by a token.
    """

    def __init__(self, running: Sidecar, echo_: Echo, opened: grpc.Channel, config: dict[str, Any]) -> None:
        self.running = running
        self.echo = echo_
        self.opened = opened
        self.config = config
        self.policies = PolicyServiceStub(opened)

    def role(self, name: str = "caller", *permissions: str) -> None:
        role = pb.Role(name=name, permissions=permissions or (OPAQUE,))
        self.policies.CreateRole(pb.CreateRoleRequest(role=role), timeout=30, wait_for_ready=True)

    def grant(self, expires: float = 0.0, **said: Any) -> str:
        grant = pb.Grant(**{"members": [ALICE], "role": "caller", "resources": ["**"], **said})
        if expires:
            grant.expires.FromNanoseconds(int(expires * 1e9))
        made = self.policies.CreateGrant(pb.CreateGrantRequest(grant=grant), timeout=30).grant
        return str(made.grant_id)

    def revoke(self, grant_id: str) -> None:
        self.policies.RevokeGrant(pb.RevokeGrantRequest(grant_id=grant_id), timeout=30)

    def policy(self, effect: int = pb.EFFECT_DENY, condition: str = "", **said: Any) -> None:
        wanted = {"name": "p", "permissions": [OPAQUE], **said}
        policy = pb.Policy(effect=effect, condition=condition, **wanted)  # type: ignore[arg-type]
        self.policies.CreatePolicy(pb.CreatePolicyRequest(policy=policy), timeout=30, wait_for_ready=True)

    def drop_policy(self) -> None:
        self.policies.DeletePolicy(pb.DeletePolicyRequest(name="p"), timeout=30)

    def call(self, opened: grpc.Channel | None = None, message: bytes = b"m") -> CODE:
        unary: Any = (opened or self.opened).unary_unary(UNARY)
        try:
            unary(message, metadata=as_alice(), timeout=30, wait_for_ready=True)
        except grpc.RpcError as error:
            code: CODE = error.code()
            return code
        return CODE.OK

    def becomes(self, expected: CODE) -> None:
        eventually(lambda: self.call() is expected, f"calls come to {expected.name}")

    @contextmanager
    def stream(self) -> Iterator[Any]:
        """One of Alice's, open and asked once; she sends nothing more."""
        release = threading.Event()

        def requests() -> Iterator[bytes]:
            yield b"one"
            release.wait(60)

        stream: Any = self.opened.stream_stream(STREAM)
        answers = stream(requests(), metadata=as_alice(), timeout=60)
        try:
            assert next(answers) == b"one"
            yield answers
        finally:
            release.set()

    def reasons(self) -> set[str]:
        return {event["reason"] for event in self.running.events()}

    def services(self) -> int:
        (pid,) = self.running.children("services").values()
        return pid


def as_alice() -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token(claims(iat=time.time(), exp=time.time() + 300))}")]


def ends(answers: Any) -> CODE:
    """How a stream ends by itself."""
    with pytest.raises(grpc.RpcError) as raised:
        next(answers)
    code: CODE = raised.value.code()
    return code


@contextmanager
def scene(
    tmp_path: Path,
    certificates: Certificates,
    *rules: dict[str, Any],
    faults: frozenset[str] = frozenset(),
    authorization: dict[str, Any] | None = None,
    **more: Any,
) -> Iterator[Scene]:
    keys = tmp_path / "keys.json"
    keys.write_bytes(jwks(jwk("ES256")))
    with echo() as (handler, upstream):
        config = guarded(certificates, upstream)
        config["authentication"]["jwt"] = [
            {"name": "login", "issuer": ISSUER, "audiences": [AUDIENCE], "keys": {"file": str(keys)}}
        ]
        config["authorization"] = {
            "rules": list(rules), "policies": True, "bootstrap_admins": [CLIENT], **(authorization or {}),
        }  # fmt: skip
        config |= more
        with (
            sidecars.serve(config, tmp_path, faults=faults) as running,
            channel(running.address, certificates) as opened,
        ):
            yield Scene(running, handler, opened, config)


def test_roles_grants_and_policies_act_in_every_worker(tmp_path: Path, certificates: Certificates) -> None:
    def everywhere(at: Scene, expected: CODE) -> bool:
        """Each connection is some worker's: of sixteen none is with one of them alone."""
        codes = set()
        for _ in range(16):
            with channel(at.running.address, certificates) as opened:
                codes.add(at.call(opened))
        return codes == {expected}

    with scene(tmp_path, certificates, workers=2) as at:
        at.role()
        eventually(lambda: everywhere(at, CODE.PERMISSION_DENIED), "nothing is granted")
        assert at.echo.calls == []
        grant = at.grant()
        eventually(lambda: everywhere(at, CODE.OK), "the grant is known")
        at.policy(condition="user.name == 'user:login/alice'")
        eventually(lambda: everywhere(at, CODE.PERMISSION_DENIED), "the policy is known")
        at.drop_policy()
        eventually(lambda: everywhere(at, CODE.OK), "the policy is gone")
        at.revoke(grant)
        eventually(lambda: everywhere(at, CODE.PERMISSION_DENIED), "the grant is revoked")
        eventually(lambda: {"policy.no_grant", "policy.deny"} <= at.reasons(), "recorded")


def test_an_open_stream_ends_with_its_grant(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates) as at:
        at.role()
        grant = at.grant()
        at.becomes(CODE.OK)
        with at.stream() as answers:
            at.revoke(grant)
            assert ends(answers) is CODE.PERMISSION_DENIED
        eventually(lambda: "policy.no_grant" in at.reasons(), "recorded")


def test_an_open_stream_ends_by_a_new_policy_and_by_its_roles_end(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates, RULE) as at:
        at.becomes(CODE.OK)
        with at.stream() as answers:
            at.policy(condition="user.name == 'user:login/bob'", name="other")
            at.policy()
            assert ends(answers) is CODE.PERMISSION_DENIED
        at.drop_policy()
        at.becomes(CODE.OK)
    with scene(tmp_path, certificates) as at:
        at.role()
        at.grant()
        at.becomes(CODE.OK)
        with at.stream() as answers:
            role = pb.Role(name="caller", permissions=["models.read"])
            at.policies.UpdateRole(pb.UpdateRoleRequest(role=role), timeout=30)
            assert ends(answers) is CODE.PERMISSION_DENIED


def test_an_open_stream_ends_when_its_grant_expires_by_itself(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates) as at:
        at.role()
        expires = time.time() + 3.0
        at.grant(expires)
        at.becomes(CODE.OK)
        with at.stream() as answers:
            assert ends(answers) is CODE.PERMISSION_DENIED
            assert time.time() >= expires
        assert at.call() is CODE.PERMISSION_DENIED


def test_an_open_stream_ends_with_the_time_that_a_condition_names(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates, RULE) as at:
        until = time.time() + 3.0
        text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until))
        at.policy(pb.EFFECT_ALLOW, f"environment.time < timestamp('{text}')")
        at.becomes(CODE.OK)
        with at.stream() as answers:
            assert ends(answers) is CODE.PERMISSION_DENIED
            assert time.time() >= int(until)
        eventually(lambda: "policy.unmet" in at.reasons(), "recorded")


def test_what_is_owed_is_met_by_a_link_or_denied(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates, RULE) as at:
        at.policy(pb.EFFECT_ALLOW, obligations=["redact:pii"])
        at.becomes(CODE.PERMISSION_DENIED)
        eventually(lambda: "chain.unmet_obligation:redact:pii" in at.reasons(), "recorded")
    (tmp_path / "redact.py").write_text(PLUGIN)
    with scene(tmp_path, certificates, RULE, interceptors=[{"use": "./redact.py:Redact"}]) as at:
        at.becomes(CODE.OK)
        unary: Any = at.opened.unary_unary(UNARY)
        assert unary(b"a secret", metadata=as_alice(), timeout=30) == b"a [-]"


def test_conditions_see_what_the_config_says_and_a_reload_changes_it(
    tmp_path: Path, certificates: Certificates
) -> None:
    said = {"attributes": {"user:login/*": {"teams": ["fraud"]}}, "locations": {"here": ["127.0.0.0/8"]}}
    with scene(tmp_path, certificates, RULE, authorization=said) as at:
        at.policy(pb.EFFECT_ALLOW, "'fraud' in user.teams && environment.location == 'here' && request.size < 9")
        at.becomes(CODE.OK)
        assert at.call(message=b"much too long") is CODE.PERMISSION_DENIED
        with at.stream() as answers:
            changed = {**at.config["authorization"], "attributes": {"user:login/*": {"teams": ["risk"]}}}
            state = {"directory": str(at.running.state)}
            write(at.running.file, {**at.config, "authorization": changed, "state": state})
            assert ends(answers) is CODE.PERMISSION_DENIED
        at.becomes(CODE.PERMISSION_DENIED)


def test_while_the_services_process_is_stopped_nothing_is_decided(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates, RULE, state={"max_staleness": "1s"}) as at:
        at.becomes(CODE.OK)
        with at.stream() as answers:
            services = at.services()
            os.kill(services, signal.SIGSTOP)
            try:
                assert ends(answers) is CODE.UNAVAILABLE
                reached = len(at.echo.calls)
                assert at.call() is CODE.UNAVAILABLE
                assert len(at.echo.calls) == reached
            finally:
                os.kill(services, signal.SIGCONT)
        at.becomes(CODE.OK)
        assert "policy.stale" in at.reasons()


def test_a_killed_services_process_lets_nobody_in(tmp_path: Path, certificates: Certificates) -> None:
    """A rule grants; the policy that denies is not forgotten while another process has yet to read it."""
    with scene(tmp_path, certificates, RULE, faults=frozenset(("child_died",)), workers=2) as at:
        at.policy()
        at.becomes(CODE.PERMISSION_DENIED)
        with channel(at.running.address, certificates) as other:
            eventually(lambda: at.call(other) is CODE.PERMISSION_DENIED, "the other worker knows, if it is another")
            at.echo.calls.clear()
            for _ in range(3):
                services = at.services()
                os.kill(services, signal.SIGKILL)
                codes: set[CODE] = set()

                def taken(services: int = services, codes: set[CODE] = codes) -> bool:
                    codes.update((at.call(), at.call(other)))
                    return another(at, services)  # type: ignore[arg-type]

                eventually(taken, "another has taken its place", 60)
                codes.update(at.call() for _ in range(50))
                assert codes <= {CODE.PERMISSION_DENIED, CODE.UNAVAILABLE}
        assert at.echo.calls == []
        at.drop_policy()
        at.becomes(CODE.OK)


def test_after_a_restart_all_is_as_it_was(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates) as at:
        at.role()
        grant = at.grant()
        at.becomes(CODE.OK)
    with scene(tmp_path, certificates) as at:
        at.becomes(CODE.OK)
        at.revoke(grant)
        at.becomes(CODE.PERMISSION_DENIED)
    with scene(tmp_path, certificates) as at:
        eventually(partial(denied_for, at, "policy.no_grant"), "it stays revoked")


def denied_for(at: Scene, reason: str) -> bool:
    assert at.call() in (CODE.PERMISSION_DENIED, CODE.UNAVAILABLE)
    return reason in at.reasons()
