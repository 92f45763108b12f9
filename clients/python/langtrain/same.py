"""Whether what is there already is what was to be made: a script that is run again finds its own work done."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import Message

from langtrain.errors import AlreadyExistsError

KEPT: Final = ("version", "updated", "updater", "source")  # what the sidecar says of it


def same_or_raise(error: AlreadyExistsError, kind: str, update: str, found: Any, wanted: Any) -> None:
    """Raises AlreadyExistsError, which says in what they differ and what changes it.

    error: the sidecar's.  update: the method that would.
    """
    if differing := differences(found, wanted):
        text = f"{kind} {wanted.name!r} exists with other {' and '.join(differing)}; {update} changes it"
        raise AlreadyExistsError(error.code, text, error.reason) from None


def differences(found: Message, wanted: Message) -> list[str]:
    """Fields in which two messages differ; in lists the order counts for nothing."""
    return [
        field.name
        for field in wanted.DESCRIPTOR.fields
        if field.name not in KEPT and _content(found, field) != _content(wanted, field)
    ]


def _content(message: Message, field: Any) -> object:
    value = getattr(message, field.name)
    return sorted(value) if field.is_repeated else value
