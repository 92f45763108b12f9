"""What is kept of roles, groups, grants and policies is what comes back."""

import json
import math

import pytest

from sidecar.policy.model import Grant, Group, Item, Policy, Role
from sidecar.policy.rows import Key, decode, encode, key, read_key
from sidecar.policy.validate import PolicyError

ITEMS: list[Item] = [
    Role("ml", ("models.*",), "acme"),
    Group("team", ("user:okta/*", "spiffe://example.org/é")),
    Grant("g1", ("group:team",), "ml", ("models/fraud-*",)),
    Grant("g2", ("user:a",), "ml", ("**",), "acme", 1.5, 99.25, "on call", "user:b", frozenset(("b:2", "a:1"))),
    Policy(
        "p", "allow", "user.level >= model.level", ("models.*",), ("models/x",), "acme", frozenset(("redact:pii",)), 3
    ),
    Policy("d", "deny"),
]


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: type(item).__name__)
def test_what_is_kept_comes_back(item: Item) -> None:
    where = key(item)
    assert read_key(str(where)) == where
    assert decode(where.kind, encode(item)) == item


def test_a_row_says_only_what_is_not_so_anyway() -> None:
    assert json.loads(encode(ITEMS[2])) == {
        "id": "g1", "members": ["group:team"], "role": "ml", "resources": ["models/fraud-*"],
    }  # fmt: skip
    assert decode("grant", encode(ITEMS[2])) == ITEMS[2]
    back = decode("grant", encode(ITEMS[2]))
    assert isinstance(back, Grant)
    assert back.expires == math.inf


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("role", b""),
        ("role", b"\xff"),
        ("role", b"[]"),
        ("role", b"7"),
        ("role", b'{"name":"x"}'),
        ("role", b'{"name":"x","permissions":7}'),
        ("role", b'{"name":"x","permissions":["models.read"],"more":1}'),
        ("role", b'{"name":"a/b","permissions":["models.read"]}'),
        ("role", b'{"name":"x","permissions":["models.read"],"tenant":7}'),
        ("role", b'{"name":"x","permissions":[7]}'),
        ("other", b"{}"),
        ("policy", b'{"name":"x","effect":"allow","condition":"("}'),
        ("grant", b'{"id":"g","members":["user:a"],"role":"r","resources":["**"],"expires":"soon"}'),
        ("role", b"[" * 100_000),
    ],
)
def test_what_nobody_keeps_is_refused(kind: str, row: bytes) -> None:
    with pytest.raises(PolicyError):
        decode(kind, row)


@pytest.mark.parametrize("text", ["", "role", "role/default", "role/default/a/b", "rule/default/a"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|unpack"):
        read_key(text)


def test_keys_name_one_thing() -> None:
    assert [str(key(item)) for item in ITEMS[:3]] == ["role/acme/ml", "group/default/team", "grant/default/g1"]
    assert key(ITEMS[2]) == Key("grant", "default", "g1")
