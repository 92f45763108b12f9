"""What the sidecar's own services ask the supervisor: the questions, and their answers as JSON types."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from interceptors.ledger import NoLedger
from interceptors.sequences import KEY
from sidecar import logs, overview, wiring
from sidecar.check import offline
from sidecar.config.faults import ConfigError
from sidecar.config.load import parse
from sidecar.config.model import Config
from sidecar.errors import SidecarError
from sidecar.operations.model import Fault, Status, Verdict
from sidecar.operations.plain import plain
from sidecar.processes.lifecycle import State
from sidecar.processes.supervisor import Supervisor
from sidecar.relaying import codecs
from sidecar.reloading import restarts
from sidecar.telemetry.watched import version

log = logs.Log("app")


class QuestionError(SidecarError):
    """Nobody here answers that."""


class Asked:
    """now: the config in force.  load: reads the one on disk; directory: where that lies.

    record: an event's kind and reason, for the audit trail.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        now: Callable[[], Config],
        load: Callable[[], Config],
        directory: Path,
        record: Callable[[str, str], None],
    ) -> None:
        self._supervisor = supervisor
        self._now = now
        self._load = load
        self._directory = directory
        self._record = record
        self._began = time.time(), time.monotonic()
        self._ends: float | None = None  # of the drain that somebody has asked for
        self._questions: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
            "status": self._status,
            "check": self._check,
            "drain": self._drain,
            "log_level": self._log_level,
            "set_log_level": self._set_log_level,
        }

    async def answer(self, what: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Raises SidecarError."""
        question = self._questions.get(what)
        if question is None:
            raise QuestionError(f"nobody answers {what}")
        return await question(**arguments)

    async def _status(self) -> dict[str, Any]:
        config, children = self._now(), self._supervisor.children
        started, since = self._began
        chains, certificates = await _aside(partial(_read, config))
        workers = overview.workers(children)
        return plain(  # type: ignore[no-any-return]
            Status(
                version(),
                config.digest(),
                started,
                time.monotonic() - since,
                any(child.state is State.DRAINING for child in children if child.post.role == "worker"),
                workers,
                overview.upstreams(children),
                chains,
                certificates,
                overview.feeds(children, float(config.state.max_staleness)),
            )
        )

    async def _check(self, config: str | None) -> dict[str, Any]:
        return plain(await _aside(partial(self._verdict, config)))  # type: ignore[no-any-return]

    def _verdict(self, text: str | None) -> Verdict:
        """On the file on disk all that `check` says; on a text, no code and no file that it names is touched."""
        try:
            config = self._load() if text is None else parse(text, self._directory, os.environ)
            if text is None:
                found = offline.run(config, datetime.now(UTC))
                faults = tuple(Fault(each.path, each.problem, "", each.origin) for each in found.faults)
            else:
                wiring.authorization(config)
                faults = ()
        except ConfigError as error:
            told = (Fault(each.path, each.expected, each.came, each.origin) for each in error.faults)
            return Verdict(faults=tuple(told))
        except SidecarError as error:
            return Verdict(faults=(Fault("", str(error)),))
        if faults:
            return Verdict(faults=faults)
        return Verdict(config.digest(), restarts=tuple(restarts(self._now(), config)))

    async def _drain(self, grace: float | None, reason: str, by: str) -> dict[str, Any]:
        if self._ends is None:
            log.warning("drain_asked", by=by, reason=reason)
            self._record("sidecar.drain", f"by {by}: {reason}" if reason else f"by {by}")
            self._ends = time.time() + self._supervisor.drain(grace)
        return {"ends": self._ends}

    async def _log_level(self) -> dict[str, Any]:
        return {"level": logs.level()}

    async def _set_log_level(self, level: str, by: str) -> dict[str, Any]:
        before = logs.level()
        log.warning("log_level_set", by=by, level=level, before=before)
        logs.set_level(level)
        self._supervisor.set_level(level)
        return {"before": before}


async def _aside(work: Callable[[], Any]) -> Any:
    """Files are read, and interceptors' code may run: not on the loop that keeps the children."""
    return await asyncio.get_running_loop().run_in_executor(None, work)


def _read(config: Config) -> tuple[Any, ...]:
    """The chains and the certificates of a config."""
    from sidecar.services import catalogue  # protobuf, which the supervisor needs for nothing else

    chain = wiring.chain(config, Random(0).randbytes, NoLedger(), bytes(KEY))  # noqa: S311 - no call runs through it
    return overview.chains(chain, codecs(config), catalogue.permissions()), overview.certificates(config)
