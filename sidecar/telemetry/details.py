"""What a worker adds to the fact of a call: one fact serves the span, the access log, or both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from interceptors.contract import Call, Outcome
from interceptors.events import CallDetail, SpanFact, Travel
from interceptors.facts import CalledModel, Principal, TraceContext


class Details:
    """Decides which calls the access log wants: a share of them, and every one that was denied or failed.

    sample: that share, 0 to 1; None where there is no access log.  random: numbers in [0, 1).
    note: takes the fact of a call that has no span, as `SpanFeed.note`.
    """

    def __init__(
        self, sample: float | None, random: Callable[[], float], note: Callable[[tuple[Any, ...]], None]
    ) -> None:
        self._sample = sample
        self._random = random
        self._note = note

    def complete(self, call: Call, outcome: Outcome, travel: Travel) -> None:
        """Complete the span that `trace` emitted, or note a fact for the access log where there is none."""
        sample = self._sample
        logged = sample is not None and (
            sample >= 1.0 or outcome.status != 0 or outcome.denied is not None or self._random() < sample
        )
        source, requests, responses = call.peer.source, outcome.requests, outcome.responses
        for event in call.events:
            if type(event) is SpanFact:
                event.detail = CallDetail(source, requests, responses, *travel, logged)
                return
        if logged:
            request_bytes, response_bytes, chain_s, upstream_s, first_byte_s = travel
            trace = call.find(TraceContext)
            principal = call.find(Principal)
            model = call.find(CalledModel)
            self._note((
                "" if trace is None else trace.trace_id,
                "",
                "",
                call.method.path[1:],
                call.started,
                call.started + outcome.seconds,
                outcome.status,
                "" if principal is None else principal.name,
                "" if model is None else model.text,
                "allowed" if outcome.denied is None else outcome.denied.reason,
                (
                    source, requests, responses, request_bytes, response_bytes, chain_s, upstream_s, first_byte_s, True,
                ),
            ))  # fmt: skip
