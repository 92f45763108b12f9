"""What the trail says of a change: enough to tell, record by record, what there was at any time."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from random import Random
from typing import Any

from sidecar.audit.frames import plain
from sidecar.audit.lines import Lines
from sidecar.policy import records, rows
from sidecar.policy.asked import Asked
from sidecar.policy.desk import LARGEST
from sidecar.policy.model import Grant, Group, Policy, Role
from sidecar.policy.records import Written
from sidecar.policy.store_sql import Stored
from tests.policy.serving import ADMIN

ASKED = Asked(ADMIN, "/langtrain.v1.PolicyService/X")
POLICY = Policy("p", "deny", "user.level < 3", ("models.*",))


def told(before: Stored | None, after: Stored | None, **more: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(records.said(Written(before, after), **more))
    return found


def digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def test_what_is_made_changed_and_gone() -> None:
    first = Stored(POLICY, 1, "for juniors")
    second = Stored(replace(POLICY, condition="user.level < 2", version=2), 2)
    made, changed, gone = told(None, first), told(first, second), told(second, None, reason="over")
    assert {name: made[name] for name in ("kind", "name", "before", "after", "now")} == {
        "kind": "policy", "name": "p", "before": 0, "after": 1,
        "now": {"effect": "deny", "condition": "user.level < 3", "permissions": ["models.*"],
                "description": "for juniors"},
    }  # fmt: skip
    assert (changed["before"], changed["after"], changed["changed"]) == (1, 2, ["condition", "description"])
    assert changed["now"] == {"effect": "deny", "condition": "user.level < 2", "permissions": ["models.*"]}
    assert (gone["before"], gone["after"], gone["was"], gone["reason"]) == (2, 0, changed["now"], "over")


def test_each_record_names_the_one_before() -> None:
    first, second = Stored(Role("r", ("a.b",)), 1), Stored(Role("r", ("a.b", "a.c")), 2)
    made, changed, gone = told(None, first), told(first, second), told(second, None)
    assert made["now_sha256"] == changed["was_sha256"] == digest(made["now"])
    assert changed["now_sha256"] == gone["was_sha256"] == digest(changed["now"]) == digest(gone["was"])


def test_no_name_is_taken_for_two_nor_ends_a_line() -> None:
    members = ("cn:Eve to user:corp/bob", 'cn:a","b', "cn:two\u2028lines", "cn:é")
    one = Stored(Group("g", members))
    event = records.event(ASKED, Written(None, one), 1.0)
    line = Lines(Random(0).getrandbits).line(plain(event), 1.0)
    assert line.isascii()
    assert line.count("\n") == 1
    assert json.loads(json.loads(line)["reason"])["now"] == {"members": list(members)}
    assert records.said(Written(None, one)) != records.said(Written(None, Stored(Group("g", (" ".join(members),)))))


def test_nothing_is_cut_off_however_much_stands_before_it() -> None:
    resources = (*(f"models/{'m' * 50}-{number}" for number in range(1_000)), "**")
    grant = Grant("g", ("user:login/eve",), "builtin.admin", resources, obligations=frozenset(("b", "a")))
    assert len(rows.encode(grant)) < LARGEST
    assert told(None, Stored(grant))["now"] == {
        "members": ["user:login/eve"], "role": "builtin.admin", "resources": list(resources), "obligations": ["a", "b"],
    }  # fmt: skip


def test_what_is_lost_by_it_is_said() -> None:
    assert told(None, Stored(POLICY), lost="it denies you")["lockout"] == "it denies you"
    assert not {"lockout", "reason"} & told(None, Stored(POLICY)).keys()
