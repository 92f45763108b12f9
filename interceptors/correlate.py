"""Which trace of the caller's a call belongs to, where the sidecar exports no spans. `trace` is its better half."""

from __future__ import annotations

from interceptors.contract import PASS, Call, Interceptor, Verdict
from interceptors.facts import TraceContext
from interceptors.w3c import SAMPLED, read_traceparent


class Correlate(Interceptor):
    """Notes the caller's trace for the record and changes nothing: a span that nobody collects, sent on as the
    parent, would cut the caller's trace in two.
    """

    name = "correlate"
    observer = True

    def on_start(self, call: Call) -> Verdict:
        theirs = call.headers.all(b"traceparent")
        if theirs:
            parent = read_traceparent(theirs)
            if parent is not None:
                trace_id, span_id, flags = parent
                call.put(TraceContext(trace_id, "", span_id, bool(flags & SAMPLED)))
        return PASS
