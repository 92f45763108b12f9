"""What pydantic finds wrong → faults: the same words whichever way a value fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sidecar.config.faults import Fault, Place, describe, path_of
from sidecar.config.model import Config
from sidecar.config.shape import did_you_mean, keys_at

KINDS: Mapping[str, str] = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
    "too_short": "a list of at least one",
    "missing": "a value",
}
BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than_equal": ("ge", "at least"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


def located(error: ValidationError, data: Any) -> list[tuple[Place, ErrorDetails]]:
    """What pydantic found, each at the key path as `data` spells it: a text may stand for a list or a mapping."""
    return [(_within(each["loc"], data), each) for each in error.errors(include_url=False) if not _echo(each)]


def fault(error: ErrorDetails, place: Place, origin: str) -> Fault:
    """origin: the line or variable that said `place`."""
    context, kind, path = error.get("ctx", {}), error["type"], path_of(place)
    name = next((step for step in reversed(place) if isinstance(step, str)), "")
    if kind == "extra_forbidden":
        return Fault(path, "a known key", "", origin, did_you_mean(name, keys_at(Config, place[:-1])))
    if kind == "missing":
        return Fault(path, KINDS[kind], "nothing", origin)
    if kind == "expected":
        return Fault(path, context["what"], context["came"] or describe(error["input"], name), origin, context["hint"])
    return Fault(path, _expected(kind, context, error["msg"]), describe(error["input"], name), origin)


def _echo(error: ErrorDetails) -> bool:
    """Whether pydantic calls a list too short only because it threw the faulty entries out."""
    return error["type"] == "too_short" and bool(error["input"])


def _within(place: Place, data: Any) -> Place:
    for end, step in enumerate(place):
        if isinstance(step, int):
            if not isinstance(data, list) or step >= len(data):
                return place[:end]
            data = data[step]
        elif isinstance(data, dict):
            data = data.get(step)
        else:
            return place[:end]
    return place


def _expected(kind: str, context: Mapping[str, Any], message: str) -> str:
    if kind in BOUNDS:
        name, words = BOUNDS[kind]
        bound = context[name]
        return f"{words} {int(bound) if bound == int(bound) else bound}"
    if kind == "literal_error":
        return str(context["expected"])
    return KINDS.get(kind) or message.removeprefix("Input should be ").lower()
