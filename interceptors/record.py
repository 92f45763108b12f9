"""What a call leaves in the audit trail: one event at its end, for the driver to hand to a Recorder."""

from __future__ import annotations

from typing import Final

from interceptors.contract import Call, Interceptor, Outcome
from interceptors.events import Durability, Event
from interceptors.facts import DEFAULT_TENANT, CalledModel, Principal, TraceContext

ADMINISTRATIVE: Final = ("/langtrain.v1.",)
# Bound once: looking a member up on its Enum costs more than what is done with it.
_COMMIT: Final = Durability.COMMIT
_BATCH: Final = Durability.BATCH


class Record(Interceptor):
    """Emits call.allowed, call.denied for a known identity, or call.refused for an unknown one.

    Denials of known identities and administrative calls must be durable before the caller is answered; refusals of
    the unknown fold into counts, so that nobody can fill the disk with them.
    """

    name = "record"
    observer = True

    def __init__(self, administrative: tuple[str, ...] = ADMINISTRATIVE) -> None:
        """administrative: prefixes of method paths whose calls are committed even where they are allowed."""
        self._administrative = administrative

    def on_end(self, call: Call, outcome: Outcome) -> None:
        principal = call.find(Principal)
        model = call.find(CalledModel)
        trace = call.find(TraceContext)
        path = call.method.path
        fold = False
        if outcome.denied is None:
            reason = outcome.cause
            kind = "call.allowed"
            durability = _COMMIT if path.startswith(self._administrative) else _BATCH
        else:
            reason = outcome.denied.reason
            fold = principal is None
            kind = "call.refused" if fold else "call.denied"
            durability = _BATCH if fold else _COMMIT
        call.emit(
            Event(
                kind,
                call.started + outcome.seconds,
                durability,
                DEFAULT_TENANT if principal is None else principal.tenant,
                "" if principal is None else principal.name,
                call.peer.source,
                path,
                "" if model is None else model.text,
                outcome.status,
                reason,
                call.would_deny[0].reason if call.would_deny else "",
                outcome.seconds,
                outcome.requests,
                outcome.responses,
                "" if trace is None else trace.trace_id,
                fold,
            )
        )
