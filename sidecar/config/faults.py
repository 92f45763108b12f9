"""What is wrong with a config: where, what was expected, what came; and never a secret's content."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from pydantic_core import PydanticCustomError

from interceptors.contract import Code
from sidecar.errors import SidecarError

Place: TypeAlias = tuple[str | int, ...]

SHOWN = 80  # characters of a text that a fault repeats
# Whoever pastes a key or a URL with a password where a file path belongs shall not find it in a log.
SECRET_TEXT = re.compile(r"-----BEGIN|://[^/]*@|[\r\n]|[A-Za-z0-9+_=-]{40,}")
SECRET_NAME = re.compile(r"(^|_)(key|password|passphrase|secret|token|credential)s?$", re.I)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong, or weak.

    path: key path such as "listen.tls.key" or "authorization.rules[1].methods", "" for the whole.
    origin: "line 3" of the file, or the environment variable that said it, "" where neither did.
    came: what was found, "" where `expected` says it all.  hint: what may have been meant.
    """

    path: str
    expected: str
    came: str = ""
    origin: str = ""
    hint: str = ""

    @property
    def problem(self) -> str:
        """All but where it is."""
        came = f", came {self.came}" if self.came else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"expected {self.expected}{came}{hint}"

    def __str__(self) -> str:
        where = f"{self.path or 'config'} ({self.origin})" if self.origin else self.path or "config"
        return f"{where}: {self.problem}"


class ConfigError(SidecarError):
    """A config that cannot be used. faults: all of them, in the order of their key paths."""

    code: ClassVar[Code] = Code.FAILED_PRECONDITION
    public: ClassVar[str] = "the sidecar is not configured for this"

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


def expected(what: str, hint: str = "", came: str = "") -> PydanticCustomError:
    """The error a field's validator raises; the fault's path, and what came unless said, are added later."""
    # "{what}" keeps braces of the text from being read as a template.
    return PydanticCustomError("expected", "{what}", {"what": what, "hint": hint, "came": came})


def path_of(place: Sequence[str | int]) -> str:
    """("rules", 1, "methods") → "rules[1].methods"."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{visible(step)}" if text else visible(step)
    return text


def describe(value: Any, name: str = "") -> str:
    """What came, for people: a text in quotes unless it may be a secret, else its kind. name: the key it stands at."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {visible(repr(value))}" if not SECRET_NAME.search(name) else "a number"
    if isinstance(value, str):
        if SECRET_NAME.search(name) or SECRET_TEXT.search(value):
            return f"a text of {len(value)} characters, withheld"
        return f"'{visible(value)}'"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    return f"a value of type {type(value).__name__}"


def visible(text: str) -> str:
    """`text` cut to what a message bears, with control and other unprintable characters escaped."""
    cut = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)
