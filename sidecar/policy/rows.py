"""Roles, groups, grants and policies as bytes: as they are kept, and as workers are told of them.

A row is JSON of an item's fields, but for those that are as they are where nothing is said. Its key is kind, tenant and
name, so that one row follows another of the same thing.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final, NamedTuple

from sidecar.policy.model import Grant, Group, Item, Policy, Role
from sidecar.policy.validate import PolicyError, check

DOMAIN: Final = "policy"  # of changes
ITEMS: Final = "policy_items"  # topic: key → row
# Topic: as of when workers were told all, and when whoever tells began: seconds of CLOCK_BOOTTIME.
SO: Final = "policy_so"

KINDS: Final[dict[str, type[Item]]] = {"role": Role, "group": Group, "grant": Grant, "policy": Policy}
_NAMES: Final = {kind: name for name, kind in KINDS.items()}
_LISTS: Final = frozenset(("permissions", "members", "resources"))
_SETS: Final = frozenset(("obligations",))


class Key(NamedTuple):
    """kind: one of KINDS.  name: a grant's is its id."""

    kind: str
    tenant: str
    name: str

    def __str__(self) -> str:
        return "/".join(self)


def key(item: Item) -> Key:
    return Key(_NAMES[type(item)], item.tenant, item.id if isinstance(item, Grant) else item.name)


def read_key(text: str) -> Key:
    """Raises ValueError."""
    kind, tenant, name = text.split("/")
    if kind not in KINDS:
        raise ValueError(f"expected one of {', '.join(KINDS)}, got {kind!r}")
    return Key(kind, tenant, name)


def encode(item: Item) -> bytes:
    return json.dumps(plain(item), separators=(",", ":")).encode()


def plain(item: Item) -> dict[str, Any]:
    """Its fields, but for those that are as they are where nothing is said."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(item):
        value = getattr(item, field.name)
        if field.default is dataclasses.MISSING or value != field.default:
            values[field.name] = sorted(value) if field.name in _SETS else value
    return values


def decode(kind: str, row: bytes) -> Item:
    """Raises PolicyError for what `encode` does not make, and for what is not valid."""
    try:
        values = json.loads(row)
        for name in _LISTS & values.keys():
            values[name] = tuple(values[name])
        for name in _SETS & values.keys():
            values[name] = frozenset(values[name])
        item = KINDS[kind](**values)
        check(item)
    except PolicyError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise PolicyError([("row", f"expected a {kind} as it is kept, got {type(error).__name__}: {error}")]) from None
    return item
