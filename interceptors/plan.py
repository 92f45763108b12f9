"""A compiled plan: direct calls to the hooks that links override, and to no others.

Each method of a Plan gives its result at once, or a generator where a hook asked something; the driver runs the
generator and answers. What hooks return is judged in `interceptors.verdicts`, messages pass in `interceptors.fold`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from interceptors.contract import (
    BEGUN,
    PASS,
    RAISED,
    Call,
    Code,
    Deny,
    Forward,
    Headers,
    Hook,
    Interceptor,
    Message,
    Method,
    Outcome,
    Pass,
    Steps,
    Trailers,
    View,
)
from interceptors.fold import Folded, Side, Stage
from interceptors.verdicts import EXCUSED, failed, judge, refuse, settle

Refused: TypeAlias = Deny | None
Refusals: TypeAlias = Callable[[Method, frozenset[str]], Refused]
Honoured: TypeAlias = Callable[[Method, frozenset[str]], frozenset[str]]
ENDED: Final = -1  # value of Call.began once end() has run


def overrides(link: Interceptor, hook: str) -> bool:
    """Whether `link` brings a `hook` of its own."""
    own = getattr(type(link), hook) is not getattr(Interceptor, hook)
    return own or hook in getattr(link, "__dict__", ())


class Plan:
    """How calls of one kind are run.

    request_view, response_view: how deep the links look into that side's messages at most; METADATA streams through.
    request_flushes: some link waits for the end of requests.
    edits_headers, edits_trailers: some link looks at the upstream's headers, or its trailers.
    refusal: why no call may go on under this plan; `start` gives it by itself.  honours: obligations that it meets.
    """

    __slots__ = (
        "_awaited",
        "_ends",
        "_flushes",
        "_headers",
        "_honoured",
        "_links",
        "_observe",
        "_refusals",
        "_starts",
        "_trailers",
        "_unawaited",
        "edits_headers",
        "edits_trailers",
        "honours",
        "refusal",
        "request",
        "request_flushes",
        "request_view",
        "response",
        "response_view",
    )

    def __init__(
        self,
        links: Sequence[Interceptor],
        depths: Sequence[View | None],
        method: Method,
        honours: frozenset[str],
        refusal: Refused,
        refusals: Refusals,
        honoured: Honoured,
        observe: bool,
    ) -> None:
        """depths: how deep each link looks into calls of `method`.  refusals, honoured: as of Chain."""
        inward = tuple(enumerate(links))
        outward = inward[::-1]
        self.refusal = refusal
        self.honours = honours
        self._refusals = refusals
        self._honoured = honoured
        self._observe = observe
        self._links = tuple(links)
        self._starts = tuple((at, x.on_start, tuple(x.gives)) for at, x in inward if overrides(x, "on_start"))
        self._headers = tuple((at, x.on_headers) for at, x in outward if overrides(x, "on_headers"))
        self._trailers = tuple((at, x.on_trailers) for at, x in outward if overrides(x, "on_trailers"))
        self._ends = tuple((at, x.observer, x.on_end) for at, x in outward if overrides(x, "on_end"))
        requests = _side(links, depths, method.unary_request, False, observe)
        responses = _side(links[::-1], depths[::-1], method.unary_response, True, observe)
        self._flushes = (requests.flush, responses.flush)
        looking = [
            (link.awaits, depth)
            for link, depth in zip(links, depths, strict=True)
            if depth and (overrides(link, "on_response") or overrides(link, "on_flush"))
        ]
        self._awaited = tuple(fact for fact, _ in looking if fact is not None) if method.unary_request else ()
        self._unawaited = max((depth for fact, depth in looking if fact is None), default=View.METADATA)
        self.edits_headers = bool(self._headers)
        self.edits_trailers = bool(self._trailers)
        self.request_flushes = requests.flushes
        self.request_view = requests.view
        self.response_view = responses.view
        self.request: Callable[[Call, Message], Folded | Steps[Folded]] = requests.message
        self.response: Callable[[Call, Message], Folded | Steps[Folded]] = responses.message

    def start(self, call: Call) -> Refused | Steps[Refused]:
        """Run every on_start. Afterwards the plan for the rest is `chain.plan(method, call.obligations)`."""
        for at, on_start, gives in self._starts:
            call.began = at + 1
            got: object
            try:
                got = on_start(call)
            except RAISED as error:
                got = failed(call, self._links[at], "on_start", error)
            if got is not PASS:
                return settle(self._start_on(call, at, got))
            for fact in gives:
                if fact not in call.facts:
                    return settle(self._start_on(call, at, got))
        call.began = BEGUN
        if call.obligations or call.possible or self.refusal is not None:
            return self._owed(call)
        return None

    def headers(self, call: Call, headers: Headers) -> Refused | Steps[Refused]:
        """Show the upstream's response headers to the links, which may edit them in place."""
        return settle(self._inspect(call, "on_headers", self._headers, headers)) if self._headers else None

    def answers_view(self, call: Call) -> View:
        """How deep the links look into the answers to `call`, whose request is on its way."""
        if self._awaited and call.facts.keys().isdisjoint(self._awaited):
            return self._unawaited
        return self.response_view

    def trailers(self, call: Call, trailers: Trailers) -> Refused | Steps[Refused]:
        """Show how the upstream ended the call to the links, which may edit that in place."""
        return settle(self._inspect(call, "on_trailers", self._trailers, trailers)) if self._trailers else None

    def flush(self, call: Call, response: bool) -> Folded | Steps[Folded]:
        """What the links release now that this side has half-closed; last on the side, and once."""
        return self._flushes[response](call)

    def end(self, call: Call, outcome: Outcome) -> None:
        """Run on_end of every link that began, and of every observer, in reverse order. Once; again does nothing."""
        began = call.began
        if began == ENDED:
            return
        call.began = ENDED
        for at, observer, on_end in self._ends:
            if at < began or observer:
                try:
                    on_end(call, outcome)
                except RAISED as error:
                    failed(call, self._links[at], "on_end", error)

    def _start_on(self, call: Call, at: int, got: object) -> Steps[Refused]:
        """Go on from the link at `at`, whose on_start gave `got`."""
        for place, on_start, gives in self._starts:
            if place < at:
                continue
            if place > at:
                call.began = place + 1
                try:
                    got = on_start(call)
                except RAISED as error:
                    got = failed(call, self._links[place], "on_start", error)
            refusal = yield from self._refused(call, self._links[place], "on_start", got, gives)
            if refusal is not None:
                return refusal
        call.began = BEGUN
        return self._owed(call)

    def _inspect(
        self, call: Call, hook: str, hooks: Sequence[tuple[int, Callable[[Call, Any], Hook]]], block: Headers | Trailers
    ) -> Steps[Refused]:
        for at, run in hooks:
            got: object
            try:
                got = run(call, block)
            except RAISED as error:
                got = failed(call, self._links[at], hook, error)
            if got is not PASS:
                refusal = yield from self._refused(call, self._links[at], hook, got, ())
                if refusal is not None:
                    return refusal
        return None

    def _refused(
        self, call: Call, link: Interceptor, hook: str, got: object, gives: tuple[type, ...]
    ) -> Steps[Refused]:
        """Why the call ends here, or None. gives: the facts that `link` owes when it has passed."""
        verdict = yield from judge(call, link, hook, got, self._observe)
        if isinstance(verdict, Forward):
            verdict = refuse(call, Deny(Code.INTERNAL, f"{link.name}.forward"), self._observe)
        elif verdict is not EXCUSED and isinstance(verdict, Pass):
            for fact in gives:
                if fact not in call.facts:
                    denial = Deny(Code.INTERNAL, f"{link.name}.missing:{fact.__name__}")
                    verdict = refuse(call, denial, self._observe)
                    break
        return verdict if isinstance(verdict, Deny) else None

    def _owed(self, call: Call) -> Refused:
        """Why the call cannot go on under what its links demanded, or None."""
        if call.possible:
            call.obligations |= self._honoured(call.method, call.possible)
        refusal = self._refusals(call.method, call.obligations) or self.refusal
        verdict = EXCUSED if refusal is None else refuse(call, refusal, self._observe)
        return verdict if isinstance(verdict, Deny) else None


def _side(
    links: Sequence[Interceptor], depths: Sequence[View | None], unary: bool, response: bool, observe: bool
) -> Side:
    """links and depths: in the order of that side."""
    name = "on_response" if response else "on_request"
    stages: list[Stage] = []
    deepest = View.METADATA
    for link, depth in zip(links, depths, strict=True):
        if depth is None or depth is View.METADATA:
            continue
        on_message = getattr(link, name) if overrides(link, name) else None
        on_flush = link.on_flush if overrides(link, "on_flush") else None
        if on_message or on_flush:
            stages.append(Stage(link, on_message, on_flush, depth is View.DECODED))
            deepest = max(deepest, depth)
    return Side(stages, deepest, unary, response, observe)
