"""The domain's values as JSON types and back, for the way between the sidecar's processes."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from sidecar.errors import SidecarError

T = TypeVar("T")


class PlainError(SidecarError):
    """What came from another process is not the value that it should be."""


def plain(value: Any) -> Any:
    """A dataclass as a mapping, a tuple as a list, an Enum as its member's name."""
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return value.name if isinstance(value, Enum) else value


def read(kind: type[T], value: Any) -> T:
    """What `plain` gave of a value of `kind`. Raises PlainError."""
    try:
        found: T = _read(kind, value)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise PlainError(f"expected a {kind.__name__} from another process, came something else") from None
    return found


def _read(kind: Any, value: Any) -> Any:
    if is_dataclass(kind):
        hints = _hints(kind)  # type: ignore[arg-type]
        return kind(**{name: _read(hints[name], held) for name, held in value.items()})  # type: ignore[operator]
    if get_origin(kind) is tuple:
        return tuple(_read(get_args(kind)[0], each) for each in value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind[value]
    if kind is float:
        return float(value)
    if not isinstance(value, kind):
        raise TypeError(kind)
    return value


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
