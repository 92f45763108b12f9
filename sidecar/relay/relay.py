"""What all calls of one relay share: the chain, the pool, the ports to the outside, clocks and budgets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from interceptors.chain import Chain
from interceptors.contract import NO_CODEC, Ask, Call, Codec, Method
from interceptors.events import Durability, Event, SpanFact
from sidecar.logs import Log
from sidecar.relay.admission import Admission
from sidecar.relay.aside import Aside
from sidecar.relay.deadlines import Deadlines
from sidecar.relay.meter import UNMETERED, Meter
from sidecar.relay.own import OwnServices
from sidecar.relay.requests import Request, Shape
from sidecar.relay.routes import Route
from sidecar.relay.routes import route as route_of
from sidecar.relay.settings import FrontSettings
from sidecar.relay.wire import Flusher

_log = Log("relay")
_COMMIT = Durability.COMMIT  # bound once: looking a member up on its Enum costs more than what is done with it


class Recorder(Protocol):
    """Where events go; `sidecar.audit.ports` says the rest."""

    @property
    def failed(self) -> str | None: ...

    def record(self, event: Event, done: Callable[[BaseException | None], None] | None = None) -> None: ...


class Spans(Protocol):
    def offer(self, fact: SpanFact) -> None: ...


class Codecs(Protocol):
    def method(self, path: str) -> Method | None: ...

    def codec(self, path: str) -> Codec: ...


class Pool(Protocol):
    """Hands out connections to the model server; told through `Exchange.upstream_ready` and `upstream_failed`."""

    @property
    def short(self) -> bool: ...

    def free(self) -> Any: ...

    def want(self, exchange: Any) -> None: ...

    def want_later(self, exchange: Any, seconds: float) -> None: ...

    def forget(self, exchange: Any) -> None: ...

    def excuses(self, wire: Any) -> bool: ...

    def retries(self, attempts: int, answer: Any) -> float | None: ...


class Holder(Protocol):
    """A client's connection.  held: bytes of its calls' messages that are here."""

    held: int


Answers = Callable[[Ask[Any], Callable[[Any, Exception | None], None]], None]


class Relay:
    """The parts a call needs.

    answers: given a question and a reply that takes its answer or its error.  chance: as of Admission.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: FrontSettings,
        chain: Chain,
        codecs: Codecs,
        recorder: Recorder,
        spans: Spans | None,
        answers: Answers,
        meter: Meter = UNMETERED,
        chance: Callable[[], float] = lambda: 0.5,
    ) -> None:
        self.settings = settings
        self.chain = chain
        self.recorder = recorder
        self.answers = answers
        self.deadlines = Deadlines(loop)
        self.flusher = Flusher(loop, lambda: self.timer())
        self.aside = Aside(loop)
        self.meter = meter
        self.clock = loop.time
        self.timer = time.perf_counter  # for durations: the loop's clock stands still within a turn
        self.admission = Admission(settings, self.timer(), chance)
        self.resident: Callable[[], int] = lambda: 0  # bytes of memory that this process holds
        self.trim: Callable[[], None] = lambda: None  # gives freed memory back to the kernel, in a thread
        self.wall = time.time
        self.report = report
        self.pool: Pool  # of the model server
        self.own: OwnServices | None = None
        self._codecs = codecs
        self._spans = spans
        self._buffered = 0

    def switch(self, settings: FrontSettings, chain: Chain, codecs: Codecs) -> None:
        """What new calls are run by; those that are open go on as they began. `Front.recheck` has heads decoded anew,
        for requests keep their plans.
        """
        self.settings = settings
        self.admission.switch(settings)
        self.chain = chain
        self._codecs = codecs

    def shape(self, request: Request) -> Shape:
        """What is known of the method a request names, and the plan for its calls; kept with the request."""
        path = request.path
        method = self._codecs.method(path)
        codec: Codec = NO_CODEC
        if method is None:
            method = Method(path)
        else:
            codec = self._codecs.codec(path)
        route = Route.MODEL_SERVER if self.own is None else route_of(path)
        request.shape = shape = method, codec, self.chain.plan(method), route
        return shape

    def pool_of(self, route: Route) -> Pool | None:
        """Where calls of a route go; None where a message has yet to say."""
        if route is Route.MODEL_SERVER or self.own is None:
            return self.pool
        return None if route is Route.BY_MESSAGE else self.own.pool(route)

    @property
    def short(self) -> bool:
        """Whether unread answers hold nearly all the window of some connection, so that others' may soon not come."""
        return self.pool.short or (self.own is not None and any(pool.short for pool in self.own.pools))

    @property
    def buffered(self) -> int:
        """Bytes of messages that are held."""
        return self._buffered

    def charge(self, holder: Holder, count: int) -> bool:
        """Take `count` bytes of the budget for held messages; False when there are not so many, or not for `holder`."""
        settings = self.settings
        if self._buffered + count > settings.buffered or holder.held + count > settings.buffered_per_connection:
            return False
        self._buffered += count
        holder.held += count
        return True

    def uncharge(self, holder: Holder, count: int) -> None:
        self._buffered -= count
        holder.held -= count

    def publish(self, events: Sequence[object], recorded: Callable[[BaseException | None], None]) -> int:
        """Hand events on; how many must be durable first, `recorded` being called once for each."""
        waits = 0
        for event in events:
            if type(event) is Event:
                if event.durability is _COMMIT:
                    waits += 1
                    self.recorder.record(event, recorded)
                else:
                    self.recorder.record(event)
            elif type(event) is SpanFact and self._spans is not None:
                self._spans.offer(event)
        return waits


def report(call: Call) -> None:
    """Log what hooks raised. The text of an exception may hold content: only its type is logged."""
    for fault in call.faults:
        _log.error("interceptor_fault", fault.error, link=fault.link, hook=fault.hook, method=call.method.path)
