"""Event → one line of JSON: ASCII, every field always present, in one order. Files are not handled here."""

from __future__ import annotations

from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quote
from time import gmtime, strftime
from typing import Any

from sidecar.audit.ids import Ids
from sidecar.internal.marshalled import Plain

LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z, the last that RFC 3339 can spell
MOST_KNOWN = 256  # pieces of lines that are kept
LONGEST_S = 1e12  # a duration beyond it is a fault of the clock


class Lines:
    """Formats events. bits: n -> n random bits, for ids."""

    __slots__ = ("_date", "_ids", "_known", "_second")

    def __init__(self, bits: Callable[[int], int]) -> None:
        self._ids = Ids(bits)
        self._second = -1
        self._date = ""
        self._known: dict[tuple[Any, ...], str] = {}

    def line(self, event: Plain, now: float, process: str = "", sequence: int = 0) -> str:
        """The event as JSON and a newline.

        now: Unix seconds at which it is written; it names the event (`id`), `time` tells when it happened.
        process, sequence: who handed it in, and its number among all of that process's, from 1: a gap is a loss.
        What JSON or RFC 3339 cannot spell (a time or duration that is not finite, a lone surrogate) is written as
        what they can: 0, and the surrogate's escaped form. Raises TypeError or ValueError where a field has a
        wrong type.
        """
        (
            kind, time, tenant, principal, source, method, model, status, reason, would_deny, seconds, requests,
            responses, trace_id, _, count,
        ) = event  # fmt: skip
        said = (kind, tenant, principal, source, method, model, status, reason, would_deny)
        moment = time if 0 <= time <= LAST_SECOND else 0.0  # NaN fails this too
        second, micro = divmod(round(moment * 1_000_000), 1_000_000)
        if second != self._second:
            self._second, self._date = second, strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
        names = self._known.get(said) or self._say(said)
        seconds = seconds if -LONGEST_S < seconds < LONGEST_S else 0.0
        return (
            f'{{"id":"{self._ids.next(now)}","time":"{self._date}.{micro:06d}Z",{names},'
            f'"seconds":{seconds:.6f},"requests":{requests:d},"responses":{responses:d},'
            f'"trace_id":{quoted(trace_id)},"count":{count:d},'
            f'"process":{quoted(process)},"sequence":{sequence:d}}}\n'
        )

    def _say(self, said: tuple[Any, ...]) -> str:
        """What, who, where from and how it ended, as JSON: the same for many events, so it is kept."""
        kind, tenant, principal, source, method, model, status, reason, would_deny = said
        text = (
            f'"kind":{quoted(kind)},"tenant":{quoted(tenant)},"principal":{quoted(principal)},'
            f'"source":{quoted(source)},"method":{quoted(method)},"model":{quoted(model)},'
            f'"status":{status:d},"reason":{quoted(reason)},"would_deny":{quoted(would_deny)}'
        )
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[said] = text
        return text


def quoted(text: str) -> str:
    return quote(text if str.isascii(text) else printable(text))  # TypeError, not AttributeError, if it is no text


def printable(text: str) -> str:
    r"""`text` with each lone surrogate spelt out ("\udc80"): JSON's readers disagree on those (RFC 8259 8.2)."""
    return text.encode("utf-8", "backslashreplace").decode()
