"""A server span for every call, within the caller's trace (W3C Trace Context). Spans hold no content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from interceptors.contract import PASS, Call, Interceptor, Outcome, Verdict
from interceptors.events import SpanFact
from interceptors.facts import CalledModel, Principal, TraceContext
from interceptors.w3c import SAMPLED, is_tracestate, read_traceparent

PARENT: Final = b"traceparent"
STATE: Final = b"tracestate"
PARENT_ALONE: Final = frozenset((PARENT,))
HEADERS: Final = frozenset((PARENT, STATE))
IDS: Final = 1 << 64


class Trace(Interceptor):
    """Puts the TraceContext, sends the sidecar's own span upstream as the parent, emits a SpanFact at the end.

    Stands anywhere, best first: a call that is denied before on_start ran gets its context only at its end.
    """

    name = "trace"
    gives = frozenset({TraceContext})
    observer = True

    def __init__(self, random_bytes: Callable[[int], bytes], sample: float = 1.0) -> None:
        """random_bytes: so many, as os.urandom gives them; ids need be unique, not secret.

        sample: share of the traces begun here that are sampled, 0 to 1. Raises ValueError for another.
        """
        if not 0.0 <= sample <= 1.0:
            raise ValueError(f"sample is a share from 0 to 1, got {sample}")
        self._random_bytes = random_bytes
        self._bound = round(sample * IDS)

    def on_start(self, call: Call) -> Verdict:
        parents: list[bytes] = []
        states: list[bytes] = []
        for name, value in call.headers.fields:
            if name == PARENT:
                parents.append(value)
            elif name == STATE:
                states.append(value)
        context, flags = self._continue(parents) if parents else self._root()
        kept = not states or (context.parent_id and is_tracestate(states))
        call.put(context)
        parent = f"00-{context.trace_id}-{context.span_id}-0{flags}".encode()
        call.headers.edit(PARENT_ALONE if kept else HEADERS, ((PARENT, parent),))
        return PASS

    def on_end(self, call: Call, outcome: Outcome) -> None:
        context = call.find(TraceContext)
        if context is None:
            context = self._continue(call.headers.all(PARENT))[0]
            call.put(context)
        if not (context.sampled or outcome.denied or outcome.status):
            return
        principal = call.find(Principal)
        model = call.find(CalledModel)
        call.emit(
            SpanFact(
                context.trace_id,
                context.span_id,
                context.parent_id,
                call.method.path[1:],
                call.started,
                call.started + outcome.seconds,
                outcome.status,
                "" if principal is None else principal.name,
                "" if model is None else model.text,
                "allowed" if outcome.denied is None else outcome.denied.reason,
            )
        )

    def _continue(self, parents: Sequence[bytes]) -> tuple[TraceContext, int]:
        """A span in the caller's trace, and its flags; a trace of its own where the caller's cannot be read."""
        parent = read_traceparent(parents)
        if parent is None:
            return self._root()
        trace_id, parent_id, flags = parent
        span_id = self._random_bytes(8).hex()
        return TraceContext(trace_id, _not_zero(span_id), parent_id, bool(flags & SAMPLED)), flags

    def _root(self) -> tuple[TraceContext, int]:
        ids = self._random_bytes(24).hex()
        trace_id = _not_zero(ids[:32])
        # As the OpenTelemetry SDK's TraceIdRatioBased: by the id's last 8 bytes, so that all who sample agree.
        sampled = self._bound == IDS or int(trace_id[16:], 16) < self._bound
        return TraceContext(trace_id, _not_zero(ids[32:]), "", sampled), SAMPLED if sampled else 0


def _not_zero(number: str) -> str:
    """W3C: an id of zeros is no id."""
    return number if number.strip("0") else number[1:] + "1"
