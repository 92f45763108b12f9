"""`langtrain-client` at a whole sidecar: what an administrator makes, and keys presented by any stub of gRPC."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

import langtrain
from langtrain.auth import AsyncAuthenticationManager, AsyncRoleManager, AuthenticationManager, IssuedKey, RoleManager
from langtrain.iam import AsyncPolicyEngine, PolicyEngine, policy, question
from langtrain.v1 import policies_pb2 as pb
from tests import sidecars
from tests.certificates import CLIENT, Certificates
from tests.e2e.test_api_keys import config_of
from tests.e2e.upstream import UNARY, echo
from tests.processes import REPOSITORY
from tests.sidecars import Sidecar
from tests.waiting import eventually

DOCUMENT = REPOSITORY / "docs" / "sdk.md"
# The code of "Access Control & Authentication" in the product document, to the letter.
SAMPLE = Path(__file__).with_name("access_control.txt").read_text("utf-8")


@contextmanager
def managed(tmp_path: Path, certificates: Certificates) -> Iterator[Sidecar]:
    """A sidecar whose administrator may manage keys, roles and policies."""
    with echo() as (_, upstream):
        config = config_of(certificates, upstream)
        rule = {"identities": [CLIENT], "methods": ["/langtrain.v1.**"], "permissions": ["*"]}
        config["authorization"] = {"rules": [rule], "policies": True, "bootstrap_admins": [CLIENT]}
        with sidecars.serve(config, tmp_path) as running:
            yield running


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


@pytest.fixture
def environment(tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """That of an administrator of a sidecar that runs."""
    with managed(tmp_path, certificates) as running:
        pair = certificates.client
        settings = {"ENDPOINT": running.address, "CA": certificates.ca, "CERT": pair.certificate, "KEY": pair.key}
        for name, value in settings.items():
            monkeypatch.setenv(f"LANGTRAIN_{name}", str(value))
        yield


@pytest.mark.usefixtures("environment")
def test_the_sample_runs_as_written_and_again() -> None:
    made: list[dict[str, Any]] = [{}, {}]
    for names in made:
        with pytest.warns(langtrain.NotEnforcedWarning, match="mfa_required, .*, idle_timeout$"):
            exec(compile(SAMPLE, "sample", "exec"), names)
    roles = {role.name: list(role.permissions) for role in made[0]["role_manager"].list_roles()}
    assert roles["admin"] == ["*"]
    assert roles["ml_engineer"] == ["models.train", "models.evaluate", "datasets.read", "experiments.create"]
    assert len(roles["data_scientist"]) == 5
    policies = {each.name: each for each in made[0]["policy_engine"].list_policies()}
    assert policies["sensitive_data_access"].condition == "user.clearance_level >= dataset.classification_level"
    assert policies["geographic_restriction"].effect == pb.EFFECT_ALLOW
    assert {each.version for each in policies.values()} == {1}
    first, second = [names["api_keys"].api_key for names in made]
    assert first.key_id != second.key_id
    assert (first.owner, first.rate, first.auto_rotate) == ("user:user123", "1000/hour", True)
    assert first.expires.ToDatetime() - first.created.ToDatetime() == timedelta(days=30)
    assert made[0]["api_keys"].text.startswith(f"ltk_{first.key_id}_")


@pytest.mark.usefixtures("environment")
def test_the_document_prints_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "shown"}
    for language, code in blocks:
        if language == "python":
            exec(compile(code, "sdk.md", "exec"), names)
    shown = [text for language, text in blocks if not language and not text.startswith("$")]
    assert capsys.readouterr().out == "".join(shown)


def test_roles_groups_and_grants(tmp_path: Path, certificates: Certificates) -> None:
    with (
        managed(tmp_path, certificates) as running,
        RoleManager(**administrator(running.address, certificates)) as manager,
    ):
        role = manager.create_role("analyst", ["models.read", "datasets.read"])
        assert manager.create_role("analyst", permissions=["datasets.read", "models.read"]) == role
        with pytest.raises(langtrain.AlreadyExistsError) as exists:
            manager.create_role("analyst", ["models.read"], "reads")
        assert exists.value.message == (
            "role 'analyst' exists with other permissions and description; update_role changes it"
        )
        assert manager.update_role("analyst", ["models.read"], "reads", version=role.version).version == 2
        with pytest.raises(langtrain.ConflictError):
            manager.update_role("analyst", ["models.*"], version=role.version)
        with pytest.raises(langtrain.PreconditionError):
            manager.delete_role("builtin.admin")

        manager.create_group("night", ["login/alice", "spiffe://example.org/night/*"])
        assert manager.create_group("night", ["spiffe://example.org/night/*", "login/alice"]).version == 1
        grant = manager.grant(
            "analyst", ["group:night", "login/bob"], ["models/fraud-*"], timedelta(hours=8), "on call", "carol"
        )
        assert (grant.creator, grant.reason, grant.approver) == (CLIENT, "on call", "carol")
        left = grant.expires.ToDatetime(UTC) - datetime.now(UTC)
        assert timedelta(hours=7) < left <= timedelta(hours=8)
        assert manager.get_grant(grant.grant_id) == grant
        assert manager.list_grants("login/bob") == [grant]
        assert manager.list_grants("login/eve") == []
        manager.revoke(grant.grant_id, "shift is over")
        assert manager.list_grants(role="analyst") == []
        manager.delete_group("night")
        manager.delete_role("analyst")
        with pytest.raises(langtrain.NotFoundError):
            manager.get_role("analyst")
        with pytest.raises(langtrain.InvalidError) as wrong:
            manager.grant("nobody", ["login/bob"], ["models"])
        assert set(wrong.value.fields) == {"grant.resources[0]"}


def test_policies(tmp_path: Path, certificates: Certificates) -> None:
    async def ask(address: str) -> None:
        async with (
            AsyncPolicyEngine(**administrator(address, certificates)) as engine,
            AsyncRoleManager(**administrator(address, certificates)) as manager,
        ):
            assert [each.name for each in await engine.list_policies()] == ["cleared"]
            with pytest.raises(langtrain.AlreadyExistsError, match="other condition; update_policy changes it"):
                await engine.add_policy("cleared", "user.level >= 5", "deny", ["models.*"])
            first, second = await asyncio.gather(
                manager.create_role("one", ["models.read"]), manager.create_role("two", ["models.read"])
            )
            assert (first.name, second.name) == ("one", "two")

    with (
        managed(tmp_path, certificates) as running,
        PolicyEngine(**administrator(running.address, certificates)) as engine,
    ):
        engine.add_policy("cleared", "user.level >= 3", "allow", ["models.*"])
        changed = engine.update_policy("cleared", "user.level >= 4", "deny", ["models.*"])
        assert (changed.version, changed.updater) == (2, CLIENT)
        versions = engine.list_policy_versions("cleared")
        assert [(each.version, each.effect) for each in versions] == [(2, pb.EFFECT_DENY), (1, pb.EFFECT_ALLOW)]
        assert engine.get_policy("cleared", 1).condition == "user.level >= 3"
        with pytest.raises(langtrain.InvalidError) as wrong:
            engine.add_policy("typo", "user.level >")
        assert set(wrong.value.fields) == {"policy.condition"}
        asyncio.run(ask(running.address))
        engine.delete_policy("cleared")
        assert engine.list_policies() == []


def test_decisions(tmp_path: Path, certificates: Certificates) -> None:
    with (
        managed(tmp_path, certificates) as running,
        RoleManager(**administrator(running.address, certificates)) as manager,
        PolicyEngine(**administrator(running.address, certificates)) as engine,
    ):
        manager.create_role("analyst", ["models.read"])
        grant = manager.grant("analyst", ["login/alice"], ["models/fraud-*"])
        allowed = engine.check("login/alice", "models.read", "models/fraud-1")
        assert (allowed.allowed, list(allowed.grants)) == (True, [grant.grant_id])
        asked = [question("login/alice", "models.read", f"models/{name}") for name in ("fraud-1", "digits")]
        assert [decision.allowed for decision in engine.check_many(asked)] == [True, False]
        why = engine.explain("login/alice", "models.read", "models/digits")
        assert why.decision.reason == "policy.no_grant"
        assert [(each.grant.grant_id, each.state) for each in why.grants] == [(grant.grant_id, "another resource")]
        assert "user:login/alice" in why.suggested[0].members
        reaches = engine.list_access("models.read", "models/fraud-1")
        assert ("user:login/alice", "analyst", grant.grant_id) in [
            (reach.member, reach.role, reach.grant_id) for reach in reaches
        ]
        assert engine.check("", "policies.write").allowed  # the administrator himself

        engine.add_policy("cleared", "user.level >= 3", permissions=["models.*"])
        of_alice = ("login/alice", "models.read", "models/fraud-1")
        assert list(engine.check(*of_alice).missing) == ["user.level"]
        assert not engine.check(*of_alice, user={"level": 2}).allowed
        assert engine.check(*of_alice, user={"level": 3}).allowed
        simulated = engine.simulate(
            put_policies=[policy("cleared", "user.level >= 4", permissions=["models.*"])],
            questions=[question(*of_alice, user={"level": level}) for level in (2, 3, 4)],
        )
        assert simulated.questions == 3
        (changed,) = simulated.changed
        assert changed.question.subject.attributes["level"] == 3
        assert (changed.before.allowed, changed.after.allowed) == (True, False)
        assert engine.check(*of_alice, user={"level": 3}).allowed  # nothing was changed
        with pytest.raises(langtrain.InvalidError) as wrong:
            engine.check("login/alice", "Models", "models")
        assert set(wrong.value.fields) == {"question.permission", "question.resource"}
