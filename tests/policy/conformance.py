"""The conformance tests of the CEL definition (google/cel-spec), as they apply to conditions."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.policy.textproto import Message, read

VECTORS = Path(__file__).parent.parent / "vectors" / "cel"
EXCLUDED = tomllib.loads((Path(__file__).parent / "excluded.toml").read_text())
ERROR = object()


@dataclass(frozen=True, slots=True)
class Case:
    """name: file/section/test.  expected: a value, or ERROR."""

    name: str
    expression: str
    bindings: dict[str, Any]
    expected: Any


def cases() -> Iterator[Case]:
    for file in sorted(VECTORS.glob("*.textproto")):
        for section in read(file.read_text())["section"]:
            for test in section.get("test", ()):
                name = f"{file.stem}/{_text(section['name'])}/{_text(test['name'])}"
                bindings = {_text(each["key"]): _bound(each["value"][0]) for each in test.get("bindings", ())}
                yield Case(name, _text(test["expr"]), bindings, _expected(test))


def same(value: Any, expected: Any) -> bool:
    """Equal and of one type, throughout; a NaN is a NaN."""
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    if isinstance(value, float) and isinstance(expected, float) and math.isnan(expected):
        return math.isnan(value)
    return type(value) is type(expected) and value == expected


def _expected(test: Message) -> Any:
    if "eval_error" in test:
        return ERROR
    return _value(test["value"][0]) if "value" in test else True


def _bound(value: Message) -> Any:
    return _value(value["value"][0])


def _value(message: Message) -> Any:
    ((kind, (value,)),) = message.items()
    match kind:
        case "int64_value" | "uint64_value":
            return int(value, 0)
        case "double_value":
            return float(value)
        case "string_value" | "type_value":
            return value.decode()
        case "bool_value":
            return value == "true"
        case "list_value":
            return [_value(each) for each in value.get("values", ())]
        case "map_value":
            return {_value(each["key"][0]): _value(each["value"][0]) for each in value.get("entries", ())}
        case "null_value":
            return None
    return (kind, value)  # bytes, messages and enums, of which no case applies


def _text(values: list[Any]) -> str:
    text = values[0]
    assert isinstance(text, bytes)
    return text.decode()
