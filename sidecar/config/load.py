"""A config file and the environment → a Config, or every fault at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sidecar.config import environment, translate
from sidecar.config.faults import ConfigError, Fault, Place, path_of, visible
from sidecar.config.model import Config
from sidecar.config.rules import CROSS_RULES, Breach

FILE_MAX = 4 << 20  # bytes, read before they are looked at: half as much again as 10,000 rules, one value a line


def load(file: Path, environ: Mapping[str, str]) -> Config:
    """The config in `file`, with the overrides of `environ`. Raises ConfigError, also where it cannot be read."""
    return parse(_text(file), file.absolute().parent, environ)


class Loader:
    """Loads one file again and again. What has not changed is not read again: of many rules it takes many seconds, and
    most reloads are for certificates and revocations."""

    def __init__(self, file: Path, environ: Mapping[str, str]) -> None:
        """environ: as of `load`, and not changed afterwards."""
        self._file = file
        self._environ = environ
        self._last: tuple[str, Config] | None = None

    def __call__(self) -> Config:
        """Raises ConfigError as `load` does."""
        text, last = _text(self._file), self._last
        if last is not None and last[0] == text:
            return last[1]
        config = parse(text, self._file.absolute().parent, self._environ)
        self._last = text, config
        return config


def _text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            raw = stream.read(FILE_MAX + 1)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigError([Fault("", f"a config file at '{visible(str(file))}'", why)]) from None
    except ValueError:
        raise ConfigError([Fault("", "a config file's path", f"'{visible(str(file))}'")]) from None
    if len(raw) > FILE_MAX:
        raise ConfigError([Fault("", f"a config file of at most {FILE_MAX} bytes", "a larger one")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError([Fault("", "UTF-8 text", "other bytes", f"line {line}")]) from None


def parse(text: str, directory: Path, environ: Mapping[str, str]) -> Config:
    """As `load`, for text. directory: absolute, where relative file paths start."""
    from sidecar.config import document  # workers are given plain data, and need no reader of YAML

    read = document.read(text)
    return build(read.data, directory, environ, read.lines)


def build(
    data: dict[str, Any], directory: Path, environ: Mapping[str, str], lines: Mapping[Place, int] | None = None
) -> Config:
    """As `load`, for plain data. lines: which line said which key path."""
    data, variables, faults = environment.overlay(data, environ)
    numbers = lines or {}

    def origin(place: Place) -> str:
        """What said a place: itself, or for one that is missing, what it is missing from."""
        for end in range(len(place), 0, -1):
            if place[:end] in variables:
                return variables[place[:end]]
            if place[:end] in numbers:
                return f"line {numbers[place[:end]]}"
        return ""

    sound, found = _sound_part(data, {"directory": directory})
    faults += [translate.fault(error, place, origin(place)) for place, error in found.items()]
    if sound is not None:
        for breach in _breaches(sound.config, sound.taken):
            place = _as_written(breach.place, sound.kept)
            faults.append(Fault(path_of(place), breach.expected, breach.came, origin(place), breach.hint))
    if faults or sound is None:
        raise ConfigError(sorted(faults, key=lambda fault: fault.path))
    return sound.config


@dataclass(frozen=True, slots=True)
class _Sound:
    """A config of what is sound by itself.

    kept: which entries of a list are left, where some are not.  taken: what is not sound, and was left out.
    """

    config: Config
    kept: dict[Place, list[int]]
    taken: frozenset[Place]


def _sound_part(data: dict[str, Any], context: Mapping[str, Any]) -> tuple[_Sound | None, dict[Place, ErrorDetails]]:
    """What is sound, so that the rules between sections speak as well; and what pydantic finds wrong with the rest."""
    found: dict[Place, ErrorDetails] = {}
    taken: set[Place] = set()
    while True:
        kept: dict[Place, list[int]] = {}
        left = _without(data, taken, (), kept)
        try:
            return _Sound(Config.model_validate(left, context=context), kept, frozenset(taken)), found
        except ValidationError as error:
            before = len(taken)
            for place, details in translate.located(error, left):
                where = _as_written(place, kept)
                # What misses something because it was taken away has no fault of its own; it goes as well.
                if where not in taken and not (place in kept and details["type"] == "too_short"):
                    found.setdefault(where, details)
                taken.add(where[:-1] if where in taken else where)
            if len(taken) == before:
                return None, found  # a fault that no value stands for: nothing is left to take away


def _without(value: Any, unsound: Collection[Place], place: Place, kept: dict[Place, list[int]]) -> Any:
    if not any(each[: len(place)] == place for each in unsound):
        return value
    if isinstance(value, dict):
        left = {key: held for key, held in value.items() if (*place, key) not in unsound}
        return {key: _without(held, unsound, (*place, key), kept) for key, held in left.items()}
    if isinstance(value, list):
        # An entry goes whole: without the faulty part it would say something else.
        bad = {each[len(place)] for each in unsound if len(each) > len(place) and each[: len(place)] == place}
        kept[place] = [index for index in range(len(value)) if index not in bad]
        return [value[index] for index in kept[place]]
    return value


def _breaches(config: Config, unsound: Iterable[Place]) -> Iterator[Breach]:
    for rule in CROSS_RULES:
        if not any(_overlap(read, place) for read in rule.reads for place in unsound):
            yield from rule.check(config)


def _overlap(one: Place, other: Place) -> bool:
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]


def _as_written(place: Place, kept: Mapping[Place, list[int]]) -> Place:
    """A place within what was kept → the same in the file."""
    for end, step in enumerate(place):
        if isinstance(step, int) and place[:end] in kept:
            return (*place[:end], kept[place[:end]][step], *place[end + 1 :])
    return place
