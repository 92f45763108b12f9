"""What a check found: faults forbid to serve, warnings do not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sidecar.config.faults import ConfigError, Fault
from sidecar.errors import SettingError, SidecarError


@dataclass(frozen=True, slots=True)
class Finding:
    """path: key path of the setting to change, "" where there is none.  problem: what is wrong, in one line.

    origin: the line or environment variable that said it, where that is known.
    """

    path: str
    problem: str
    origin: str = ""

    @classmethod
    def of(cls, fault: Fault) -> Finding:
        return cls(fault.path, fault.problem, fault.origin)

    def __str__(self) -> str:
        where = f"{self.path or 'config'} ({self.origin})" if self.origin else self.path
        return f"{where}: {self.problem}" if where else self.problem

    def as_json(self) -> dict[str, str]:
        return {"path": self.path, "problem": self.problem, "origin": self.origin}


@dataclass(frozen=True, slots=True)
class Report:
    """Two reports add up to one."""

    faults: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()

    def __add__(self, other: Report) -> Report:
        return Report(self.faults + other.faults, self.warnings + other.warnings)

    def excused(self) -> Report:
        """Its faults as warnings, where the config says to go on in spite of them."""
        return Report((), self.warnings + self.faults)

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": not self.faults,
            "faults": [each.as_json() for each in self.faults],
            "warnings": [each.as_json() for each in self.warnings],
        }


class RefusedError(SidecarError):
    """What was found forbids to serve. report: all of it."""

    def __init__(self, report: Report) -> None:
        self.report = report
        super().__init__("; ".join(map(str, report.faults)))


def of_error(error: SidecarError) -> Report:
    """An error that ended a command, as a report of faults."""
    if isinstance(error, RefusedError):
        return Report(error.report.faults)
    if isinstance(error, ConfigError):
        return Report(tuple(map(Finding.of, error.faults)))
    if isinstance(error, SettingError):
        return total(fault(path, problem) for path, problem in error.faults)
    return fault("", str(error))


def fault(path: str, problem: str) -> Report:
    return Report(faults=(Finding(path, problem),))


def warning(path: str, problem: str) -> Report:
    return Report(warnings=(Finding(path, problem),))


def total(reports: Iterable[Report]) -> Report:
    return sum(reports, Report())
