"""Event → one line of JSON: ASCII, every field always present, in one order. Files are not handled here."""

from __future__ import annotations

import time
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quote

from interceptors.events import Event
from sidecar.audit.ids import Ids

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
        self._known: dict[tuple[str, ...], str] = {}

    def line(self, event: Event, now: float, process: str = "", sequence: int = 0) -> str:
        """The event as JSON and a newline.

        now: Unix seconds at which it is written; it names the event (`id`), `time` tells when it happened.
        process, sequence: who handed it in, and its number among all of that process's, from 1: a gap is a loss.
        What JSON or RFC 3339 cannot spell (a time or duration that is not finite, a lone surrogate) is written as
        what they can: 0, and the surrogate's escaped form. Raises TypeError or ValueError where a field has a
        wrong type.
        """
        moment = event.time if 0 <= event.time <= LAST_SECOND else 0.0  # NaN fails this too
        second, micro = divmod(round(moment * 1_000_000), 1_000_000)
        if second != self._second:
            self._second, self._date = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        seconds = event.seconds if -LONGEST_S < event.seconds < LONGEST_S else 0.0
        return (
            f'{{"id":"{self._ids.next(now)}","time":"{self._date}.{micro:06d}Z",{self._names(event)},'
            f'"status":{event.status:d},"reason":{quoted(event.reason)},"would_deny":{quoted(event.would_deny)},'
            f'"seconds":{seconds:.6f},"requests":{event.requests:d},"responses":{event.responses:d},'
            f'"trace_id":{quoted(event.trace_id)},"count":{event.count:d},'
            f'"process":{quoted(process)},"sequence":{sequence:d}}}\n'
        )

    def _names(self, event: Event) -> str:
        """What, who and where from, as JSON: the same for many events, so it is kept."""
        key = (event.kind, event.tenant, event.principal, event.source, event.method, event.model)
        text = self._known.get(key)
        if text is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            kind, tenant, principal, source, method, model = map(quoted, key)
            text = self._known[key] = (
                f'"kind":{kind},"tenant":{tenant},"principal":{principal},"source":{source},"method":{method},'
                f'"model":{model}'
            )
        return text


def quoted(text: str) -> str:
    return quote(text if str.isascii(text) else printable(text))  # TypeError, not AttributeError, if it is no text


def printable(text: str) -> str:
    r"""`text` with each lone surrogate spelt out ("\udc80"): JSON's readers disagree on those (RFC 8259 8.2)."""
    return text.encode("utf-8", "backslashreplace").decode()
