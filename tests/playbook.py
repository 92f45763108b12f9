"""A driver for tests: runs a chain over a scripted call, with no network and no clock, and tells what became of it.

As a transcript, where `>>` is what arrives and `<<` what must leave because of it:

    assert Playbook(Redact()) >> response(b"SEC") << nothing >> response(b"RET.") << b"[-]." >> end

As a function, to compare the relay with: `run(chain, method, requests, responses)` gives a Transcript.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from interceptors.chain import Chain
from interceptors.contract import (
    NO_CODEC,
    AnswerError,
    Ask,
    Call,
    Code,
    Codec,
    Deny,
    Headers,
    Interceptor,
    Message,
    Method,
    Outcome,
    Peer,
    RawField,
    Trailers,
)

METHOD: Final = Method("/test.Service/Method")  # of unknown shape: a stream on both sides
PEER: Final = Peer("192.0.2.1:5000", "192.0.2.1")
STARTED: Final = 1_700_000_000.0  # Unix seconds

# Question type → its answer, a function from question to answer, or the exception that it fails with.
Answers: TypeAlias = Mapping[Any, Any]


@dataclass
class Transcript:
    """What became of a call.

    upstream_headers: None where the call never reached the upstream.  upstream, client: messages that got there.
    half_closed: END_STREAM reached the upstream.  reset: the upstream was told to forget the call.
    order: every message as it travelled, ("upstream" or "client", raw).
    """

    upstream_headers: tuple[RawField, ...] | None = None
    upstream: list[bytes] = field(default_factory=list)
    half_closed: bool = False
    reset: bool = False
    client_headers: tuple[RawField, ...] | None = None
    client: list[bytes] = field(default_factory=list)
    status: int | None = None
    message: str = ""
    trailers: tuple[RawField, ...] = ()
    denied: Deny | None = None
    order: list[tuple[str, bytes]] = field(default_factory=list)


class Session:
    """One call under way; every method is something that arrives. After the call's end nothing happens any more."""

    def __init__(
        self,
        chain: Chain,
        method: Method = METHOD,
        headers: Sequence[RawField] = (),
        codec: Codec = NO_CODEC,
        answers: Answers | None = None,
        peer: Peer = PEER,
    ) -> None:
        self.chain = chain
        self.plan = chain.plan(method)
        self.call = Call(method, Headers(tuple(headers)), peer, STARTED, codec=codec)
        self.told = Transcript()
        self.outcome: Outcome | None = None
        self.left: list[bytes | Deny] = []  # what left because of what arrived last
        self.asked: list[Ask[Any]] = []
        self._answers = answers or {}
        self._started = False
        self._seen = [0, 0]  # messages that arrived, by side
        self._whole: list[bytes] = []  # a unary request that has passed and waits for its half-close

    @property
    def over(self) -> bool:
        return self.outcome is not None

    def start(self) -> None:
        if self._started:
            return
        self._started = True
        if self._denied(self._settled(self.plan.start(self.call))):
            return
        if self.call.obligations:
            self.plan = self.chain.plan(self.call.method, self.call.obligations)
        if not self.call.method.unary_request:
            self._open_upstream()

    def request(self, raw: bytes) -> None:
        self.start()
        if not self.over:
            self._seen[0] += 1
            self._send(False, self._settled(self.plan.request(self.call, Message(raw))))

    def half_close(self) -> None:
        """The client will send no more requests."""
        self.start()
        if not self.over and not self.told.half_closed:
            self._send(False, self._settled(self.plan.flush(self.call, False)))
            if not self.over:
                self._open_upstream()
                for raw in self._whole:
                    self._arrive(False, raw)
                self.told.half_closed = True

    def response_headers(self, *fields: RawField) -> None:
        self.start()
        if self.over or self.told.client_headers is not None:
            return
        self._open_upstream()
        headers = Headers(fields)
        if not self._denied(self._settled(self.plan.headers(self.call, headers))):
            self.told.client_headers = headers.fields

    def response(self, raw: bytes) -> None:
        self.response_headers()
        if not self.over:
            self._seen[1] += 1
            self._send(True, self._settled(self.plan.response(self.call, Message(raw))))

    def trailers(self, status: int = 0, message: str = "", *fields: RawField) -> None:
        """The upstream ends the call."""
        self.response_headers()
        if self.over:
            return
        self._send(True, self._settled(self.plan.flush(self.call, True)))
        trailers = Trailers(status, message, Headers(fields))
        if self.over or self._denied(self._settled(self.plan.trailers(self.call, trailers))):
            return
        self.told.trailers = trailers.headers.fields
        self._end(trailers.status, trailers.message, None)

    def cancel(self) -> None:
        """The client goes away."""
        if not self.over:
            self.told.reset = self.told.upstream_headers is not None
            self._end(Code.CANCELLED, "", None, cancelled=True)

    def _settled(self, result: Any) -> Any:
        if not isinstance(result, Generator):
            return result
        try:
            question = next(result)
            while True:
                self.asked.append(question)
                try:
                    answer = self._answer(question)
                except Exception as error:
                    question = result.throw(error)
                else:
                    question = result.send(answer)
        except StopIteration as done:
            return done.value

    def _answer(self, question: Ask[Any]) -> Any:
        if type(question) not in self._answers:
            raise AnswerError(f"the script has no answer to {type(question).__name__}")
        answer = self._answers[type(question)]
        if isinstance(answer, Exception):
            raise answer
        return answer(question) if callable(answer) else answer

    def _send(self, response: bool, result: Deny | list[Message]) -> None:
        if isinstance(result, Deny):
            self._denied(result)
            return
        for message in result:
            self.left.append(message.raw)
            if self.call.method.unary_request and not response:
                self._whole.append(message.raw)
            else:
                self._arrive(response, message.raw)

    def _arrive(self, response: bool, raw: bytes) -> None:
        side = self.told.client if response else self.told.upstream
        side.append(raw)
        self.told.order.append(("client" if response else "upstream", raw))

    def _open_upstream(self) -> None:
        """A unary request goes upstream as a whole, so that one denied at its message or at flush never got there."""
        if self.told.upstream_headers is None:
            self.told.upstream_headers = self.call.headers.fields

    def _denied(self, denial: Deny | None) -> bool:
        if denial is None:
            return False
        self.left.append(denial)
        self.told.reset = self.told.upstream_headers is not None
        self._end(denial.code, denial.public, denial)
        return True

    def _end(self, status: int, message: str, denied: Deny | None, cancelled: bool = False) -> None:
        self.told.status, self.told.message, self.told.denied = int(status), message, denied
        self.outcome = Outcome(int(status), denied, 1.0, self._seen[0], self._seen[1], cancelled)
        self.plan.end(self.call, self.outcome)


def run(
    chain: Chain,
    method: Method = METHOD,
    requests: Sequence[bytes] = (),
    responses: Sequence[bytes] = (),
    *,
    headers: Sequence[RawField] = (),
    response_headers: Sequence[RawField] = (),
    trailers: tuple[int, str, tuple[RawField, ...]] = (0, "", ()),
    codec: Codec = NO_CODEC,
    answers: Answers | None = None,
    peer: Peer = PEER,
) -> Transcript:
    """A whole call: every request, half-close, then the upstream's headers, responses and trailers."""
    session = Session(chain, method, headers, codec, answers, peer)
    session.start()
    for raw in requests:
        session.request(raw)
    session.half_close()
    session.response_headers(*response_headers)
    for raw in responses:
        session.response(raw)
    session.trailers(trailers[0], trailers[1], *trailers[2])
    return session.told


Step: TypeAlias = Callable[[Session], None]
Expectation: TypeAlias = Callable[[Session], "str | None"]  # takes what it expects from `left`, or says what is wrong


def request(raw: bytes) -> Step:
    return lambda session: session.request(raw)


def response(raw: bytes) -> Step:
    return lambda session: session.response(raw)


def response_headers(*fields: RawField) -> Step:
    return lambda session: session.response_headers(*fields)


def trailers(status: int, message: str = "", *fields: RawField) -> Step:
    return lambda session: session.trailers(status, message, *fields)


def start(session: Session) -> None:
    """Implied by whatever comes first."""
    session.start()


def half_close(session: Session) -> None:
    session.half_close()


def end(session: Session) -> None:
    """The client half-closes and the upstream ends the call with OK, where they have not yet."""
    session.half_close()
    session.trailers()


def cancel(session: Session) -> None:
    session.cancel()


def nothing(session: Session) -> str | None:
    return "nothing to leave" if session.left else None


def denied(code: Code, reason: str) -> Expectation:
    def check(session: Session) -> str | None:
        got = session.left.pop(0) if session.left else None
        if isinstance(got, Deny) and (got.code, got.reason) == (code, reason):
            return None
        return f"a denial {code.name} {reason}, got {got!r}"

    return check


def status(code: int, message: str = "") -> Expectation:
    """How the call ended for the client, denied or not."""

    def check(session: Session) -> str | None:
        got = (session.told.status, session.told.message)
        return None if got == (code, message) else f"status {code} {message!r}, got {got}"

    return check


class Playbook:
    """See the module's first lines. A step whose output is not expected by a `<<` fails the next step, or the end."""

    def __init__(
        self,
        links: Chain | Interceptor | Sequence[Interceptor],
        method: Method = METHOD,
        headers: Sequence[RawField] = (),
        codec: Codec = NO_CODEC,
        answers: Answers | None = None,
        peer: Peer = PEER,
    ) -> None:
        if isinstance(links, Interceptor):
            links = (links,)
        chain = links if isinstance(links, Chain) else Chain(links)
        self.session = Session(chain, method, headers, codec, answers, peer)
        self._lines: list[str] = []

    def __rshift__(self, step: Step) -> Playbook:
        self._spent()
        self._lines.append(f">> {getattr(step, '__qualname__', step)}")
        step(self.session)
        self._lines += [f"   left {item!r}" for item in self.session.left]
        return self

    def __lshift__(self, expected: bytes | Expectation) -> Playbook:
        if isinstance(expected, bytes):
            got = self.session.left.pop(0) if self.session.left else None
            self._hold(got == expected, f"{expected!r}, got {got!r}")
        else:
            wrong = expected(self.session)
            self._hold(wrong is None, wrong or "")
        return self

    def __bool__(self) -> bool:
        self._spent()
        return True

    def _spent(self) -> None:
        self._hold(not self.session.left, f"nothing more to leave, got {self.session.left!r}")

    def _hold(self, holds: bool, expected: str) -> None:
        if not holds:
            raise AssertionError("\n".join((*self._lines, f"<< expected {expected}")))
