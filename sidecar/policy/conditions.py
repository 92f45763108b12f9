"""Conditions in CEL: compiled once, and evaluated only where every attribute that they name exists.

A condition that cannot be evaluated has no outcome but an error or what was missing, and whoever asked denies. The
library's contexts are not thread-safe, so neither is a Scope.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeAlias

from sidecar.policy import library
from sidecar.policy.model import NOTHING, Value
from sidecar.policy.syntax import LONGEST_VALUE, MOST_ELEMENTS, PER_LEAF, TYPES, Path, SyntaxFault, outline

STANDING_ROOTS: Final = frozenset(("user", "resource", "model", "dataset"))
MOVING_ROOTS: Final = frozenset(("request", "environment"))
ROOTS: Final = STANDING_ROOTS | MOVING_ROOTS
DEEPEST: Final = 4  # mappings and lists within one another
MOST_MOVED: Final = 64  # outcomes of conditions about calls that a scope remembers
ABSENT: Final = object()
LONGEST_TOLD: Final = 256  # characters of a text for which one is remembered

Roots: TypeAlias = Mapping[str, Mapping[str, Value]]


class ConditionError(ValueError):
    """A text that is no condition."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """holds: whether the condition is true, and nothing went wrong.  missing: attributes that there are not.

    error: why it could not be evaluated, "" where it could.
    """

    holds: bool
    missing: tuple[str, ...] = ()
    error: str = ""


HOLDS: Final = Outcome(True)
FAILS: Final = Outcome(False)


class Condition:
    """A compiled condition. roots: of what it names.  named: (root, attribute) of all of that.

    moving: whether its outcome depends on a request or its environment; named_moving: attributes of these, by root.
    cost: about nanoseconds, at most.
    """

    __slots__ = (
        "_program", "cost", "moving", "named", "named_moving", "reads", "roots", "sized", "text", "timed", "typed",
    )  # fmt: skip

    def __init__(self, text: str) -> None:
        """Raises ConditionError."""
        try:
            read = outline(text)
        except SyntaxFault as error:
            raise ConditionError(str(error)) from error
        self.text = text
        self.cost = read.cost
        self.reads: tuple[Path, ...] = tuple(sorted(read.reads))
        self.sized: tuple[Path, ...] = tuple(sorted(read.sized))
        kinds: dict[Path, frozenset[str]] = {}
        for path, kind in read.typed:
            kinds[path] = kinds.get(path, frozenset()) | {kind}
        self.typed: tuple[tuple[Path, frozenset[str]], ...] = tuple(sorted(kinds.items(), key=lambda pair: pair[0]))
        paths = read.reads | read.tested
        for path in sorted(paths):
            if path[0] not in ROOTS:
                raise ConditionError(f"nothing is named {path[0]!r}, expected one of {', '.join(sorted(ROOTS))}")
            if len(path) == 1:
                raise ConditionError(f"expected an attribute of {path[0]!r}, as in {path[0]}.NAME")
        self.roots = frozenset(path[0] for path in paths)
        if shadowed := sorted(read.variables & ROOTS):
            raise ConditionError(f"{shadowed[0]!r} cannot be a macro's variable")
        if {"model", "dataset"} <= self.roots:
            raise ConditionError("it reads of a model and of a dataset, and no resource is both")
        self.named = frozenset(path[:2] for path in paths)
        self.named_moving: tuple[tuple[str, tuple[str, ...]], ...] = tuple(
            (root, tuple(sorted(path[1] for path in self.named if path[0] == root)))
            for root in sorted(MOVING_ROOTS & self.roots)
        )
        self.moving = bool(self.named_moving)
        self.timed = ("environment", "time") in self.named
        self._program = _compiled(text)
        # Where the library reads other names than we did, what must exist is not known.
        other = set(self._program.variables()) ^ (self.roots | read.variables)
        if not other <= TYPES | read.variables:
            raise ConditionError("it is not understood the same way twice")

    def evaluate(self, context: library.Context) -> Outcome:
        try:
            result = self._program.execute(context)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in the library is no Exception
            return Outcome(False, error=_said(error))
        if result is True:
            return HOLDS
        return (
            FAILS if result is False else Outcome(False, error=f"expected true or false, got {type(result).__name__}")
        )

    def __repr__(self) -> str:
        return f"Condition({self.text!r})"


@lru_cache(maxsize=32768)
def condition(text: str) -> Condition:
    """Raises ConditionError."""
    return Condition(text)


class Scope:
    """Attributes ready to be asked for: those that stand are handed to the library once.

    standing: by root; never changed afterwards.
    """

    __slots__ = ("_context", "_moved", "_moving", "_moving_context", "_outcomes", "_refused", "_values")

    def __init__(self, standing: Roots) -> None:
        self._refused: dict[Path, str] = {}
        self._values: dict[str, dict[str, Any]] = {}
        for root, attributes in standing.items():
            self._values[root] = _taken(root, attributes, attributes, self._refused)
        self._context = library.Context(self._values)
        self._moving: dict[str, dict[str, Any]] = {}
        self._moving_context: library.Context | None = None
        self._outcomes: dict[Condition, Outcome] = {}
        self._moved: dict[tuple[object, ...], Outcome] = {}  # by condition and what it was told of the call

    def outcome(self, asked: Condition, moving: Roots) -> Outcome:
        """moving: attributes of the request and its environment, of which only those are looked at that it names."""
        if asked.moving:
            told = None if asked.timed else _told(asked, moving)
            if told is None:
                return self._move(asked, moving)
            known = self._moved.get(told)
            if known is None:
                if len(self._moved) >= MOST_MOVED:
                    self._moved.clear()
                known = self._moved[told] = self._move(asked, moving)
            return known
        known = self._outcomes.get(asked)
        if known is None:
            known = _unmet(asked, self._values, self._refused) or asked.evaluate(self._context)
            self._outcomes[asked] = known
        return known

    def _move(self, asked: Condition, moving: Roots) -> Outcome:
        refused: dict[Path, str] = {}
        taken: dict[str, dict[str, Any]] = {}
        for root, named in asked.named_moving:
            given = moving.get(root, {})
            taken[root] = _taken(root, given, [name for name in named if name in given], refused)
        unmet = _unmet(asked, {**self._values, **taken}, {**self._refused, **refused})
        if unmet is not None:
            return unmet
        self._moving.clear()
        self._moving.update(taken)
        if self._moving_context is None:
            self._moving_context = library.Context(self._values)
            # Asked before the variables, and None is for what it does not know.
            self._moving_context.set_variable_resolver(self._moving.get)
        return asked.evaluate(self._moving_context)


def _compiled(text: str) -> library.Program:
    try:
        return library.compile(text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise ConditionError(_said(error)) from error


def _said(error: BaseException) -> str:
    """In a line that a record bears."""
    return f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"


def _told(asked: Condition, moving: Roots) -> tuple[object, ...] | None:
    """What `asked` asks of a call, as a key that no other outcome has; None where that is not worth remembering."""
    told: list[object] = [asked]
    for root, named in asked.named_moving:
        given: Mapping[str, object] = moving.get(root, NOTHING)
        for name in named:
            value = given.get(name, ABSENT)
            known = value is ABSENT or isinstance(value, str | int)  # of floats 0.0 == -0.0
            if not known or (isinstance(value, str) and len(value) > LONGEST_TOLD):
                return None
            told += (type(value), value)  # True == 1, and not to a condition
    return tuple(told)


def _unmet(asked: Condition, values: Mapping[str, Mapping[str, Any]], refused: Mapping[Path, str]) -> Outcome | None:
    """Why it must not be evaluated, or None."""
    missing = tuple(".".join(path) for path in asked.reads if not _exists(values, path))
    if refused:
        for path in sorted(path for path in asked.named if path in refused):
            return Outcome(False, error=f"{'.'.join(path)}: {refused[path]}")
    if missing:
        return Outcome(False, missing)
    for path in asked.sized:
        if _exists(values, path) and isinstance(_at(values, path), str):
            return Outcome(False, error=f"{'.'.join(path)}: size() of a text")
    for path, kinds in asked.typed:
        if _exists(values, path) and (kind := _kind(_at(values, path))) not in kinds:
            return Outcome(False, error=f"{'.'.join(path)}: compared with {' or '.join(sorted(kinds))}, got {kind}")
    return None


def _kind(value: object) -> str:
    """Of `syntax.LITERALS`, else the type's name."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__


def _exists(values: Mapping[str, Any], path: Path) -> bool:
    at: Any = values
    for name in path:
        if not isinstance(at, dict) or name not in at:
            return False
        at = at[name]
    return True


def _at(values: Mapping[str, Any], path: Path) -> Any:
    at: Any = values
    for name in path:
        at = at[name]
    return at


def _taken(root: str, given: Mapping[str, Value], names: Iterable[str], refused: dict[Path, str]) -> dict[str, Any]:
    """Attributes as the library takes them. refused: grows by those that it would not, or not as what they are."""
    taken: dict[str, Any] = {}
    for name in names:
        try:
            taken[name], _ = _bounded(given[name], DEEPEST)
        except ValueError as error:
            refused[root, name] = str(error)
    return taken


def _bounded(value: object, deepest: int) -> tuple[Any, int]:
    """A value of plain types, and about how many characters it holds. Raises ValueError."""
    if isinstance(value, str):
        size = len(value) + PER_LEAF
        value.encode()  # a lone surrogate is no text
    elif isinstance(value, bool | float | datetime):
        size = PER_LEAF
    elif isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise ValueError("a number of more than 64 bits")
        size = PER_LEAF
    elif isinstance(value, Mapping | tuple | list):
        return _bounded_within(value, deepest - 1)
    else:
        raise ValueError(f"a value of type {type(value).__name__}")
    if size > LONGEST_VALUE:
        raise ValueError(f"a text of {len(str(value))} characters, fewer than {LONGEST_VALUE} are looked at")
    return value, size


def _bounded_within(value: Mapping[Any, object] | tuple[object, ...] | list[object], deepest: int) -> tuple[Any, int]:
    """As lists and mappings of names, no others. Raises ValueError."""
    if deepest < 0:
        raise ValueError(f"more than {DEEPEST} lists and mappings within one another")
    if len(value) > MOST_ELEMENTS:
        raise ValueError(f"{len(value)} elements, at most {MOST_ELEMENTS} are looked at")
    within = value.values() if isinstance(value, Mapping) else value
    parts = [_bounded(each, deepest) for each in within]
    size = sum(part for _, part in parts)
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise ValueError("a mapping whose names are no texts")
        size += sum(map(len, value))
    if size > LONGEST_VALUE:
        raise ValueError(f"texts of {size} characters together, at most {LONGEST_VALUE} are looked at")
    taken = [each for each, _ in parts]
    return (dict(zip(value, taken, strict=True)) if isinstance(value, Mapping) else taken), size
