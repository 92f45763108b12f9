"""How the answers of roles, policies, grants and keys are printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import typer
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Column

from langtrain.auth import IssuedKey
from langtrain.v1 import policies_pb2
from sidecar.shown import as_json, cells, table

# What people see of a message, by its name; --json has all.
FIELDS: Final = {
    "Role": ("name", "permissions", "description", "version", "source"),
    "Grant": ("grant_id", "members", "role", "resources", "expires", "reason", "approver"),
    "Policy": ("name", "effect", "condition", "permissions", "resources", "obligations", "version", "source"),
    "ApiKey": ("key_id", "owner", "title", "permissions", "resources", "rate", "expires", "revoked", "last_used"),
    "ClaimAdministratorResponse": ("principal", "role", "tenant", "grant_id"),
    "Decision": ("allowed", "reason", "grants", "policies", "missing", "obligations"),
    "Reach": ("member", "role", "grant_id", "group", "policies"),
    "ConsideredGrant": ("grant.grant_id", "grant.role", "grant.resources", "state"),
    "ConsideredPolicy": ("policy.name", "policy.effect", "policy.condition", "holds", "missing", "error"),
}


def plain(result: Any) -> Any:
    """As JSON has it: a message, a list of them, a key that was issued with its text, or null."""
    match result:
        case IssuedKey():
            return {"api_key": as_json(result.api_key), "text": result.text}
        case Message():
            return as_json(result)
        case None:
            return None
        case _:
            return [as_json(each) for each in result]


def show(result: Any) -> None:
    """A key's text is all that is on stdout of it; the rest goes to stderr."""
    match result:
        case None:
            return
        case IssuedKey():
            typer.echo(result.text)
            _print([result.api_key], Console(stderr=True, highlight=False, emoji=False))
            typer.echo("Keep the key now: it is not shown again.", err=True)
        case policies_pb2.ExplainResponse():
            _explained(result)
        case Message():
            _print([result])
        case _:
            _print(result)


def denies(result: Any) -> bool:
    return isinstance(result, policies_pb2.Decision) and not result.allowed


def _explained(result: policies_pb2.ExplainResponse) -> None:
    _print([result.decision])
    _print(result.grants)
    _print(result.policies)
    if result.suggested:
        typer.echo("Would grant it:" if result.enough else "Would grant it, and more is missing:")
        _print(result.suggested)


def _print(messages: Iterable[Message], console: Console | None = None) -> None:
    """A table of messages of one kind; nothing where there are none."""
    found: Sequence[Message] = list(messages)
    if not found:
        return
    fields = FIELDS[found[0].DESCRIPTOR.name]
    # Ids are for copying: they stay whole, and of the rest a narrow terminal leaves nothing out.
    titles = [
        Column(field.rpartition(".")[2].replace("_", " "), overflow="fold", no_wrap=field.endswith("_id"))
        for field in fields
    ]
    where = console or Console(highlight=False, emoji=False)
    where.print(table(titles, (cells(message, fields) for message in found)))
