"""`langtrain-sidecar roles`, `policies`, `grants`, `api-keys`, run as an administrator does at a whole sidecar."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest

from langtrain.v1 import policies_pb2 as pb
from tests.certificates import CLIENT, Certificates
from tests.clients.answering import answering
from tests.e2e.test_client import managed
from tests.test_cli import Ran

Command: TypeAlias = Callable[..., Ran]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Command]:
    directory = tmp_path_factory.mktemp("commands")
    pair = certificates.client
    with managed(directory, certificates) as running:
        environment = {
            "LANGTRAIN_ENDPOINT": running.address,
            "LANGTRAIN_CA": str(certificates.ca),
            "LANGTRAIN_CERT": str(pair.certificate),
            "LANGTRAIN_KEY": str(pair.key),
        }
        yield lambda *arguments, **more: Ran(*arguments, directory=directory, **{**environment, **more})


def asked(ran: Ran) -> Any:
    assert (ran.status, ran.err) == (0, "")
    return json.loads(ran.out)


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if "│" in line]


def test_roles(command: Command) -> None:
    made = command("roles", "create", "analyst", "-p", "models.read", "-p", "datasets.read")
    assert (made.status, made.err) == (0, "")
    assert rows(made.out) == [["analyst", "models.read", "", "1", "service"], ["", "datasets.read", "", "", ""]]
    again = command("roles", "create", "analyst", "-p", "models.read", "-p", "datasets.read", "--json")
    assert asked(again)["version"] == "1"
    other = command("roles", "create", "analyst", "-p", "models.*")
    assert (other.status, other.out) == (1, "")
    assert "ALREADY_EXISTS: role 'analyst' exists with other permissions; update_role changes it" in other.err
    assert asked(command("roles", "update", "analyst", "-p", "models.*", "--version", "1", "--json"))["version"] == "2"
    names = [role["name"] for role in asked(command("roles", "list", "--json"))]
    assert "analyst" in names
    assert "builtin.admin" in names
    gone = command("roles", "delete", "analyst")
    assert (gone.status, gone.out, gone.err) == (0, "", "")
    missing = command("roles", "get", "analyst")
    assert (missing.status, missing.out) == (1, "")
    assert "NOT_FOUND: no such role" in missing.err


def test_policies(command: Command) -> None:
    condition = "user.location in dataset.allowed_regions"
    made = command("policies", "create", "regions", "--effect", "allow", "--condition", condition)
    assert rows(made.out) == [["regions", "allow", condition, "", "", "", "1", "service"]]
    wrong = command("policies", "create", "typo", "--effect", "deny", "--condition", "user.level >")
    assert (wrong.status, wrong.out) == (1, "")
    assert "INVALID_ARGUMENT" in wrong.err
    assert "policy.condition: " in wrong.err
    changed = command("policies", "update", "regions", "--effect", "deny", "--permission", "datasets.*", "--json")
    assert asked(changed)["effect"] == "EFFECT_DENY"
    versions = asked(command("policies", "versions", "regions", "--json"))
    assert [version["effect"] for version in versions] == ["EFFECT_DENY", "EFFECT_ALLOW"]
    assert command("policies", "delete", "regions").status == 0
    assert command("policies", "create", "regions", "--effect", "perhaps").status == 2


def test_grants(command: Command) -> None:
    options = ("-m", "login/alice", "-m", "dns:batch.example.org", "-r", "models/fraud-*", "--expires-in", "8h")
    made = asked(command("grants", "create", "builtin.viewer", *options, "--reason", "on call", "--json"))
    assert made["members"] == ["user:login/alice", "dns:batch.example.org"]
    assert (made["creator"], made["reason"]) == (CLIENT, "on call")
    shown = rows(command("grants", "list", "--member", "login/alice").out)
    assert [row[0] for row in shown] == [made["grant_id"], ""]
    revoked = command("grants", "revoke", made["grant_id"], "--reason", "over")
    assert (revoked.status, revoked.out, revoked.err) == (0, "", "")
    assert asked(command("grants", "list", "--role", "builtin.viewer", "--json")) == []
    unclear = command("grants", "create", "builtin.viewer", "-m", "a", "-r", "**", "--expires-in", "8")
    assert unclear.status == 2
    assert "expected a duration with a unit" in " ".join(unclear.err.split())


def test_what_is_in_use_and_what_shuts_out_say_how_to_go_on(command: Command) -> None:
    command("roles", "create", "shared", "-p", "models.read")
    command("grants", "create", "shared", "-m", "login/alice", "-r", "**")
    used = command("roles", "delete", "shared")
    assert used.status == 1
    assert "1 grants name role/default/shared: revoke them, or set force" in used.err
    assert command("roles", "delete", "shared", "--force").status == 0
    assert asked(command("grants", "list", "--role", "shared", "--json")) == []
    everything = ("policies", "create", "everything", "--effect", "deny", "--condition", "user.kind == 'spiffe'")
    out = command(*everything)
    assert out.status == 1
    assert "allow_lockout: expected true, for it denies you: policy.deny" in out.err


def test_principals(command: Command) -> None:
    made = command("roles", "create", "reader", "-p", "models.read")
    assert made.status == 0
    options = ("-m", "login/erin", "-r", "models/fraud-*")
    grant = asked(command("grants", "create", "reader", *options, "--json"))["grant_id"]
    question = ("login/erin", "models.read", "models/fraud-1")
    allowed = command("principals", "check", *question)
    assert (allowed.status, rows(allowed.out)) == (0, [["yes", "policy.allowed", grant, "", "", ""]])
    denied = command("principals", "check", "login/erin", "models.read", "models/digits")
    assert (denied.status, rows(denied.out)) == (1, [["no", "policy.no_grant", "", "", "", ""]])
    why = command("principals", "explain", "login/erin", "models.read", "models/digits")
    assert why.status == 0
    assert [grant, "reader", "models/fraud-*", "another resource"] in rows(why.out)
    assert "Would grant it:" in why.out
    reaches = asked(command("principals", "list-access", "models.read", "models/fraud-1", "--json"))
    assert grant in [reach["grant_id"] for reach in reaches]
    command("policies", "create", "cleared", "--effect", "allow", "--condition", "user.level >= 3", "-p", "models.*")
    missing = asked(command("principals", "explain", *question, "--json"))
    assert missing["decision"]["missing"] == ["user.level"]
    assert command("principals", "check", *question, "-a", "user.level=3").status == 0
    assert command("principals", "check", *question, "-a", "user.level=2").status == 1


def test_a_key_goes_to_stdout_alone(command: Command) -> None:
    made = command("api-keys", "create", "user123", "-p", "models.inference", "--expires-in", "30d", "--rate", "9/hour")
    text = made.out.strip()
    assert made.status == 0
    assert text.startswith("ltk_")
    assert text not in made.err
    assert "it is not shown again" in made.err
    (key,) = asked(command("api-keys", "list", "--owner", "user123", "--json"))
    assert (key["owner"], key["rate"], key["permissions"]) == ("user:user123", "9/hour", ["models.inference"])
    assert text.split("_")[1] == key["key_id"]
    rotated = asked(command("api-keys", "rotate", key["key_id"], "--overlap", "1h", "--json"))
    assert rotated["text"].startswith(f"ltk_{rotated['api_key']['key_id']}_")
    revoked = asked(command("api-keys", "revoke", key["key_id"], "--successors", "--json"))
    assert len(revoked) == 2
    fetched = command("api-keys", "fetch", key["key_id"])
    assert (fetched.status, fetched.out) == (1, "")


def test_a_key_is_a_token(command: Command) -> None:
    """That permits what it permits, and comes from the environment alone."""
    made = command("api-keys", "create", "auditor", "-p", "roles.read")
    token = {"LANGTRAIN_TOKEN": made.out.strip()}
    assert "builtin.admin" in command("roles", "list", **token).out
    denied = command("api-keys", "list", **token)
    assert (denied.status, denied.out) == (1, "")
    assert "PERMISSION_DENIED" in denied.err


def test_what_is_not_reached_is_told(command: Command, tmp_path: Path) -> None:
    gone = Ran("roles", "list", "--endpoint", "unix:///nowhere.sock", directory=tmp_path)
    assert (gone.status, gone.out) == (1, "")
    assert gone.err.startswith("error unix:///nowhere.sock: UNAVAILABLE: ")
    assert Ran("roles", "list", directory=tmp_path).status == 2
    wrong = command("principals", "check", "a", "models.read", "--attribute", "level=3")
    assert wrong.status == 1
    assert "--attribute: expected ROOT.NAME=VALUE such as user.level=3, came 'level=3'" in wrong.err


def test_what_a_server_says_is_shown_and_not_acted_on(tmp_path: Path) -> None:
    def refuse(_: Any, context: grpc.ServicerContext) -> pb.GetRoleResponse:
        context.abort(grpc.StatusCode.NOT_FOUND, "none\x1b[2J[red]")
        raise AssertionError("abort raises")

    shown = pb.ListRolesResponse(roles=[pb.Role(name="a\x1b[2J", permissions=["[red]b\n"])])
    with answering({"GetRole": refuse, "ListRoles": lambda *_: shown}) as (_, endpoint):
        failed = Ran("roles", "get", "a", "--endpoint", endpoint, directory=tmp_path)
        assert failed.err == f"error {endpoint}: NOT_FOUND: none�[2J[red]\n"
        listed = Ran("roles", "list", "--endpoint", endpoint, directory=tmp_path)
        assert rows(listed.out) == [["a�[2J", "[red]b�", "", "0", "–"]]
