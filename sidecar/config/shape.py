"""The shape of the config, read off its models: which keys a section has, and which field stands where."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sidecar.config.faults import Place


def field_at(model: type[BaseModel], place: Place) -> FieldInfo | None:
    """The field at a key path, or None where none stands: in an unknown section, in a list or in a list's entry."""
    field: FieldInfo | None = None
    annotation: Any = model
    for step in place:
        if isinstance(step, int):
            field, annotation = None, _entry(annotation)
            continue
        section = section_of(annotation)
        field = section.model_fields.get(step) if section else None
        annotation = field.annotation if field else None
    return field


def keys_at(model: type[BaseModel], place: Place) -> Sequence[str]:
    """The keys that the section at this path may have; none where no section stands there."""
    annotation: Any = model
    for end, step in enumerate(place, start=1):
        field = None if isinstance(step, int) else field_at(model, place[:end])
        annotation = _entry(annotation) if isinstance(step, int) else field.annotation if field else None
    section = section_of(annotation)
    return tuple(section.model_fields) if section else ()


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model within `Model | None` or `Annotated[Model, …]`; not one within a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) is tuple:
        return None
    return next((found for part in typing.get_args(annotation) if (found := section_of(part))), None)


def _entry(annotation: Any) -> Any:
    """What the entries of a list are, or None where it is no list."""
    if typing.get_origin(annotation) is tuple:
        return typing.get_args(annotation)[0]
    return next((found for part in typing.get_args(annotation) if (found := _entry(part))), None)


def did_you_mean(key: str, keys: Sequence[str]) -> str:
    """A hint for a key that is not among `keys`, "" when none is near."""
    near = difflib.get_close_matches(key.lower(), keys, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(keys)}" if len(keys) <= 24 else ""
