"""What is recorded: one event model for every part, links and sidecar alike. Where events go is a Recorder's."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class Durability(Enum):
    COMMIT = "commit"  # on disk before the caller is answered
    BATCH = "batch"  # on disk with the next group


@dataclass(slots=True, init=False)
class Event:
    """One fact for the audit trail. Holds no content, no secret and no credential.

    kind: dotted, stable, e.g. "call.allowed", "call.denied", "call.refused", "connection.refused".
    time: Unix seconds.  principal: typed name, "" when unknown.  source: host the call came from.
    reason: stable, of the denial or of what ended the call early, else "".
    status: gRPC status, -1 where there is none.
    fold: events of one kind, source and reason within a window are counted into one, so that the
    unauthenticated cannot fill the disk; count tells how many it stands for.
    Never changed; made by a constructor that is compiled, for one is made with every call.
    """

    kind: str
    time: float
    durability: Durability
    tenant: str
    principal: str
    source: str
    method: str
    model: str
    status: int
    reason: str
    would_deny: str
    seconds: float
    requests: int
    responses: int
    trace_id: str
    fold: bool
    count: int

    def __init__(
        self,
        kind: str,
        time: float,
        durability: Durability = Durability.BATCH,
        tenant: str = "default",
        principal: str = "",
        source: str = "",
        method: str = "",
        model: str = "",
        status: int = -1,
        reason: str = "",
        would_deny: str = "",
        seconds: float = 0.0,
        requests: int = 0,
        responses: int = 0,
        trace_id: str = "",
        fold: bool = False,
        count: int = 1,
    ) -> None:
        self.kind = kind
        self.time = time
        self.durability = durability
        self.tenant = tenant
        self.principal = principal
        self.source = source
        self.method = method
        self.model = model
        self.status = status
        self.reason = reason
        self.would_deny = would_deny
        self.seconds = seconds
        self.requests = requests
        self.responses = responses
        self.trace_id = trace_id
        self.fold = fold
        self.count = count


class Travel(NamedTuple):
    """What a call moved, and where its time went.

    Bytes are of messages as they travelled.  chain_s: time in links.  upstream_s, first_byte_s: from sending the call
    on to the end and to the first of its answer; negative where it was never sent, or nothing came.  Times in seconds.
    """

    request_bytes: int
    response_bytes: int
    chain_s: float
    upstream_s: float
    first_byte_s: float


class CallDetail(NamedTuple):
    """What a call's end adds to its span, for the access log and for the span's attributes.

    source: host the call came from.  requests, responses: messages.  The rest as in Travel.  logged: whether the
    access log wants the call.
    """

    source: str
    requests: int
    responses: int
    request_bytes: int
    response_bytes: int
    chain_s: float
    upstream_s: float
    first_byte_s: float
    logged: bool


@dataclass(slots=True)
class SpanFact:
    """One finished server span, never content. Ids as in `facts.TraceContext`; times are Unix seconds.

    span_id: "" where no span is to be exported, and the access log alone wants the call.
    detail: put in by whoever sees the call end.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str  # "package.Service/Method"
    start: float
    end: float
    status: int
    principal: str
    model: str
    decision: str  # "allowed", or the reason of a denial
    detail: CallDetail | None = None
