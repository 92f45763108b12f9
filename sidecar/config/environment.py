"""Overrides from the environment: LANGTRAIN_SIDECAR__LISTEN__ADDRESS sets listen.address.

A text that the field takes as it is stands for itself; any other is read as YAML, so that lists, mappings, numbers
and booleans can be said. Entries of a list cannot be overridden one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from sidecar.config.faults import ConfigError, Fault, Place, path_of
from sidecar.config.model import Config
from sidecar.config.shape import did_you_mean, field_at, keys_at

PREFIX = "LANGTRAIN_SIDECAR__"


def overlay(data: dict[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[Place, str], list[Fault]]:
    """`data` with the overrides of `environ` in place, the variable that set each place, and what is wrong with them.

    data is left as it was.
    """
    origins: dict[Place, str] = {}
    faults: list[Fault] = []
    for name in sorted(name for name in environ if name.startswith(PREFIX)):
        place: Place = tuple(name[len(PREFIX) :].lower().split("__"))
        field = field_at(Config, place)
        if field is None:
            faults.append(_unknown(place, name))
            continue
        origins[place] = name
        data = _set(data, place, _value(environ[name], field))
    for place, name in origins.items():
        outer = next((origins[place[:end]] for end in range(1, len(place)) if place[:end] in origins), None)
        if outer:
            faults.append(Fault(path_of(place), f"one variable for it: {outer} sets it too", origin=name))
    return data, origins, faults


def _value(text: str, field: FieldInfo) -> Any:
    kind: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    try:
        TypeAdapter[Any](kind).validate_python(text, strict=True)
    except ValidationError:
        pass
    else:
        return text
    block = "".join(f"  {line}\n" for line in text.split("\n"))
    try:
        from sidecar.config import document  # as in `load.parse`

        return document.read(f"value:\n{block}").data["value"]
    except (ConfigError, KeyError):
        return text


def _set(data: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    key = str(place[0])
    if len(place) == 1:
        return {**data, key: value}
    inner = data.get(key)
    return {**data, key: _set(inner if isinstance(inner, dict) else {}, place[1:], value)}


def _unknown(place: Place, name: str) -> Fault:
    known: Place = next((place[:end] for end in range(len(place) - 1, 0, -1) if keys_at(Config, place[:end])), ())
    key, keys = str(place[len(known)]), keys_at(Config, known)
    hint = f"'{key}' holds no keys: set it whole" if key in keys else did_you_mean(key, keys)
    return Fault(path_of(place), "a variable that names a known key", origin=name, hint=hint)
