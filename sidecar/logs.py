"""Logs: one JSON object a line on stderr, {"time", "level", "event", …}.

An event is a stable name, what varies stands in fields. Fields named like a secret, and texts that hold a private
key, are withheld. An exception is logged by its type and, where it is the program's own, its text; its stack trace
only at level debug. What other libraries log through `logging` takes the same form.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from sidecar.errors import SidecarError

LEVELS = ("debug", "info", "warning", "error")
TEXT_LIMIT = 2_000  # characters of one value
WITHHELD = "[withheld]"
# "key" alone is no secret here: it names config paths and certificate files.
SECRET_NAMES = re.compile(r"password|passphrase|secret|token|credential|authorization|cookie|private_key|api_key", re.I)
SECRET_TEXT = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY")


class Log:
    """A named source of log lines: `Log("relay").info("listening", address="127.0.0.1:8443")`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"sidecar.{name}")

    def debug(self, event: str, **fields: Any) -> None:
        self._logger.debug(event, extra={"fields": fields})

    def info(self, event: str, **fields: Any) -> None:
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, **fields: Any) -> None:
        self._logger.warning(event, extra={"fields": fields})

    def error(self, event: str, error: BaseException | None = None, **fields: Any) -> None:
        """error: what was raised; without one, `fields` say it."""
        self._logger.error(event, extra={"fields": fields}, exc_info=error)


class JsonLines(logging.Formatter):
    """A log record as one JSON line of ASCII. traces: whether stack traces are shown.  common: fields of every line."""

    def __init__(self, traces: bool = False, common: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.traces = traces
        self._common = dict(common or {})

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": _safe(record.getMessage()),
            "source": record.name.removeprefix("sidecar."),
            **self._common,
        }
        for name, value in getattr(record, "fields", {}).items():
            line.setdefault(name, WITHHELD if SECRET_NAMES.search(name) else _safe(value))
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = type(error).__name__
            line["at"] = place(error)
            if isinstance(error, SidecarError):
                line["detail"] = _safe(str(error))
            if self.traces:
                line["trace"] = _clean("".join(traceback.format_exception(error)))
        # ensure_ascii escapes C0, C1 and everything a terminal might act on, except DEL.
        return json.dumps(line, ensure_ascii=True).replace("\x7f", "\\u007f")


def configure(level: str = "info", stream: IO[str] | None = None, common: Mapping[str, Any] | None = None) -> None:
    """Send every log line of at least `level` (one of LEVELS) to `stream`, stderr where it is None.

    common: fields of every line, such as which process says it.
    """
    if level not in LEVELS:
        raise ValueError(f"log level: expected one of {', '.join(LEVELS)}, came {level!r}")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(level == "debug", common))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Libraries describe their own insides at these levels; at debug that is what was asked for.
    if level != "debug":
        logging.getLogger("asyncio").setLevel("WARNING")


def set_level(level: str) -> None:
    """Log from here on what is at least of `level`."""
    root = logging.getLogger()
    root.setLevel(level.upper())
    for handler in root.handlers:
        if isinstance(handler.formatter, JsonLines):
            handler.formatter.traces = level == "debug"


def level() -> str:
    """The least level that is logged."""
    return logging.getLevelName(logging.getLogger().level).lower()


def _safe(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): WITHHELD if SECRET_NAMES.search(str(key)) else _safe(held) for key, held in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_safe(item) for item in value]
    text = _clean(str(value))
    return text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}… ({len(text)} characters)"


def _clean(text: str) -> str:
    return WITHHELD if SECRET_TEXT.search(text) else text


def place(error: BaseException) -> str:
    """ "file.py:line" where `error` was raised, "" where it never was; its text may quote what it should not."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
