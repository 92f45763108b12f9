"""What commands print of the protocol's messages: tables for people, JSON for scripts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Column, Table
from rich.text import Text

NONE: Final = "–"


def as_json(message: Message) -> dict[str, Any]:
    """Every field, those that are 0 or empty as well, named as in the proto."""
    shown: dict[str, Any] = MessageToDict(
        message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
    )
    return shown


def table(columns: Iterable[str | Column], rows: Iterable[Iterable[str | Text]]) -> Table:
    made = Table(*columns)
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(safe(cell)) for cell in row))
    return made


def cells(message: Message, fields: Iterable[str]) -> list[Text]:
    """A field a cell, of a list an item a line; "grant.role" is a field of a field."""
    return [_cell(message, field) for field in fields]


def safe(text: str) -> str:
    """What a sidecar says is shown, never acted on by the terminal."""
    return "".join(char if char.isprintable() else "�" for char in text)


def _cell(message: Message, path: str) -> Text:
    name, _, rest = path.partition(".")
    if rest:
        return _cell(getattr(message, name), rest)
    field, value = message.DESCRIPTOR.fields_by_name[name], getattr(message, name)
    if field.is_repeated:
        return Text("\n".join(map(safe, value)))
    if isinstance(value, Timestamp):
        return Text(f"{value.ToDatetime():%Y-%m-%d %H:%M} UTC" if message.HasField(name) else NONE)
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return Text(named.name.rpartition("_")[2].lower() if named and value else NONE)
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    return Text(safe(str(value)))
