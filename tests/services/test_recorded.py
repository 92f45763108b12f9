"""What a change of policies is tried against: calls that were recorded, by a real recorder's lines."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from interceptors.events import Event
from sidecar.audit.lines import Lines
from sidecar.policy.inquiry import Calls, Window
from sidecar.policy.model import Question
from sidecar.services import recorded
from sidecar.services.recorded import Recorded, described

AT = 1_800_000_000.5
INFER = "/inference.GRPCInferenceService/ModelInfer"
SERVICES = [
    described({
        "service": "acme.Scorer", "permission": "models.score", "model_field": [1],
        "methods": [{"name": "Delete", "permission": "models.delete", "unary_request": True, "unary_response": True}],
    })
]  # fmt: skip


def event(method: str = INFER, model: str = "digits", kind: str = "call.allowed", at: float = AT, **more: Any) -> Event:
    said = {"principal": "user:corp/ada", "source": "192.0.2.1", **more}
    return Event(kind, at, method=method, model=model, **said)


def questions(tmp_path: Path, *events: Event, after: bytes = b"", tenant: str = "default") -> list[Question]:
    return list(calls(tmp_path, *events, after=after, tenant=tenant).questions)


def calls(
    tmp_path: Path,
    *events: Event,
    after: bytes = b"",
    tenant: str = "default",
    window: Window = Window(),  # noqa: B008
) -> Calls:
    file = tmp_path / "events.jsonl"
    lines = Lines(Random(0).getrandbits)
    written = b"".join(
        lines.line(tuple(getattr(each, name) for name in Event.__slots__ if name != "durability"), AT).encode()
        for each in events
    )
    file.write_bytes(written + after)
    return Recorded(file, "auto", SERVICES).calls(tenant, window)


def test_what_a_call_asked_for(tmp_path: Path) -> None:
    (found,) = questions(tmp_path, event(model="digits/2"))
    assert (found.principal.kind, found.principal.name, found.now) == ("user", "user:corp/ada", AT)
    assert (found.permission, found.resource) == ("models.inference", "tenants/default/models/digits/versions/2")
    assert dict(found.attributes.request) == {"method": INFER, "model": "digits", "version": "2"}
    assert dict(found.attributes.environment) == {"source": "192.0.2.1"}


@pytest.mark.parametrize(
    ("method", "model", "permission", "resource"),
    [
        ("/langtrain.v1.PolicyService/CreateRole", "", "roles.write", ""),
        ("/acme.Scorer/Score", "org/m", "models.score", "/models/org%2Fm"),
        ("/acme.Scorer/Delete", "", "models.delete", ""),
        ("/unheard.Of/It", "a*", "upstream.opaque", "/models/a%2A"),
        ("/inference.GRPCInferenceService/RepositoryModelLoad", "é/10", "models.deploy", "/models/%C3%A9/versions/10"),
    ],
)
def test_by_its_method_and_model(tmp_path: Path, method: str, model: str, permission: str, resource: str) -> None:
    (found,) = questions(tmp_path, event(method, model))
    assert (found.permission, found.resource) == (permission, f"tenants/default{resource}")


def test_the_last_first_each_once_and_of_one_tenant(tmp_path: Path) -> None:
    events = [
        event(model="a"), event(model="b", kind="call.denied"), event(model="a"), event(tenant="other"),
        event(principal=""), event(kind="call.refused"), event(kind="role.created"), event(principal="who:x"),
    ]  # fmt: skip
    found = questions(tmp_path, *events, after=b'{"kind":"call.allowed"\n{"kind":"call.al')
    assert [each.attributes.request["model"] for each in found] == ["a", "b"]
    assert len(questions(tmp_path, *events, tenant="other")) == 1
    assert [each.let_in for each in found] == [True, False]
    one = calls(tmp_path, *events, window=Window(most=1))
    assert [each.attributes.request["model"] for each in one.questions] == ["a"]
    assert (one.total, one.more) == (2, True)  # both of them, and there were others
    assert calls(tmp_path, *events, window=Window(most=2)).more is False


def test_calls_of_a_time(tmp_path: Path) -> None:
    events = [event(model=f"m{at}", at=AT + at, count=at + 1) for at in range(4)]
    assert calls(tmp_path, *events)[1:] == (10, AT, AT + 3, False)
    found = calls(tmp_path, *events, window=Window(AT + 1, AT + 3))
    assert [each.now for each in found.questions] == [AT + 2, AT + 1]
    assert found[1:] == (5, AT + 1, AT + 2, False)
    assert calls(tmp_path, *events, window=Window(AT + 9)) == Calls([])


def test_of_a_long_trail_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "TAIL", 1_000)
    found = questions(tmp_path, *(event(model=f"m{at}") for at in range(100)))
    assert [each.attributes.request["model"] for each in found] == ["m99", "m98"]
    assert calls(tmp_path, *(event(model=f"m{at}") for at in range(100))).more
    late = [event(model=f"m{at}", at=AT + at) for at in range(100)]
    assert calls(tmp_path, *late, window=Window(AT)).more
    assert not calls(tmp_path, *late, window=Window(AT + 99)).more  # what is looked at begins before
    assert Recorded(tmp_path / "none.jsonl", "auto", ()).calls("default", Window()) == Calls([])
