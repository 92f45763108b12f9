"""One side of a plan: how messages pass the links, requests in their order and responses in reverse.

A link may hold messages back, release them later, rewrite, drop or split them; on a unary side exactly what came in
goes out, one message, however the links handled it in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from interceptors.contract import (
    PASS,
    RAISED,
    Call,
    Code,
    CodecError,
    Deny,
    Forward,
    Hook,
    Interceptor,
    Message,
    Steps,
    Verdict,
    View,
)
from interceptors.verdicts import failed, judge, settle

Folded: TypeAlias = Deny | list[Message]

# grpc.github.io/grpc/core/md_doc_statuscodes.html: a cardinality violation by the sender is UNIMPLEMENTED.
SECOND_REQUEST: Final = Deny(Code.UNIMPLEMENTED, "chain.second_request", "a unary call takes one request message")
SECOND_RESPONSE: Final = Deny(Code.UNIMPLEMENTED, "chain.second_response", "a unary call gives one response message")
MISCOUNT: Final = Deny(Code.INTERNAL, "chain.message_count")


class Stage(NamedTuple):
    """One link's place on one side. on_message and on_flush: None where the link does not override the hook."""

    link: Interceptor
    on_message: Callable[[Call, Message], Hook] | None
    on_flush: Callable[[Call, bool], Hook] | None
    decoded: bool


class Side:
    """The compiled fold of one side. view: of its deepest stage; METADATA where no link looks at messages.

    flushes: some link waits for the half-close.
    """

    __slots__ = (
        "_flushes",
        "_messages",
        "_name",
        "_observe",
        "_response",
        "_second",
        "_sent",
        "_stages",
        "_taken",
        "_unary",
        "flushes",
        "view",
    )

    def __init__(self, stages: Sequence[Stage], view: View, unary: bool, response: bool, observe: bool) -> None:
        """stages: in the order in which this side's messages meet them."""
        self.view = view
        self._stages = tuple(stages)
        self._messages = tuple((at, s.on_message, s.decoded) for at, s in enumerate(stages) if s.on_message)
        self._flushes = tuple((at, s.on_flush) for at, s in enumerate(stages) if s.on_flush)
        self.flushes = bool(self._flushes)
        self._unary = unary
        self._response = response
        self._observe = observe
        self._name = "on_response" if response else "on_request"
        self._second = SECOND_RESPONSE if response else SECOND_REQUEST
        # Bits of Call.counted: a unary side has taken, and has sent on, its one message.
        self._taken, self._sent = (4, 8) if response else (1, 2)

    def message(self, call: Call, message: Message) -> Folded | Steps[Folded]:
        """What goes on in place of `message`, which just came in."""
        if self._unary:
            if call.counted & self._taken:
                return self._second
            call.counted |= self._taken
        for at, on_message, decoded in self._messages:
            if decoded and message.body is None:
                return settle(self._enter(call, message, at))
            try:
                got = on_message(call, message)
            except RAISED as error:
                got = failed(call, self._stages[at].link, self._name, error)
            if got is PASS:
                continue
            return settle(self._leave(call, message, at, got))
        if self._unary:
            call.counted |= self._sent
        return [message]

    def flush(self, call: Call) -> Folded | Steps[Folded]:
        """What the links release now that this side has half-closed."""
        for at, on_flush in self._flushes:
            try:
                got = on_flush(call, self._response)
            except RAISED as error:
                got = failed(call, self._stages[at].link, "on_flush", error)
            if got is PASS:
                continue
            return settle(self._release(call, at, got))
        return self._balance(call, [])

    def _enter(self, call: Call, message: Message, at: int) -> Steps[Folded]:
        return self._count(call, (yield from self._onward(call, [message], at, False)))

    def _leave(self, call: Call, message: Message, at: int, got: object) -> Steps[Folded]:
        """Go on behind stage `at`, whose hook gave `got` for `message`."""
        verdict = yield from judge(call, self._stages[at].link, self._name, got, self._observe)
        passed = _out(verdict, message)
        if not isinstance(passed, Deny):
            passed = yield from self._onward(call, passed, at + 1, False)
        return self._count(call, passed)

    def _release(self, call: Call, at: int, got: object) -> Steps[Folded]:
        """Go on behind stage `at`, whose on_flush gave `got`; nothing had been released before it."""
        verdict = yield from judge(call, self._stages[at].link, "on_flush", got, self._observe)
        passed = _out(verdict, None)
        if not isinstance(passed, Deny):
            passed = yield from self._onward(call, passed, at + 1, True)
        return self._balance(call, self._count(call, passed))

    def _onward(self, call: Call, messages: list[Message], at: int, flushing: bool) -> Steps[Folded]:
        """Take `messages` through the stages from `at` on; each stage sees them all before the next sees one."""
        for stage in self._stages[at:]:
            passed = yield from self._through(call, stage, messages)
            if isinstance(passed, Deny):
                return passed
            messages = passed
            if flushing and stage.on_flush:
                got: object
                try:
                    got = stage.on_flush(call, self._response)
                except RAISED as error:
                    got = failed(call, stage.link, "on_flush", error)
                released = _out((yield from judge(call, stage.link, "on_flush", got, self._observe)), None)
                if isinstance(released, Deny):
                    return released
                messages += released
        return messages

    def _through(self, call: Call, stage: Stage, messages: list[Message]) -> Steps[Folded]:
        if not stage.on_message:
            return messages
        out: list[Message] = []
        for message in messages:
            seen: object = self._decoded(call, stage.link, message) if stage.decoded else message
            got: object = seen
            if isinstance(seen, Message):
                message = seen
                try:
                    got = stage.on_message(call, seen)
                except RAISED as error:
                    got = failed(call, stage.link, self._name, error)
            passed = _out((yield from judge(call, stage.link, self._name, got, self._observe)), message)
            if isinstance(passed, Deny):
                return passed
            out += passed
        return out

    def _decoded(self, call: Call, link: Interceptor, message: Message) -> Message | Verdict:
        """`message` with its body; else what becomes of one that `link` cannot be shown."""
        if message.body is not None:
            return message
        decoded = Message(message.raw)
        try:
            decoded.body = call.codec.decode(message.raw, self._response)
        except CodecError as error:
            verdict = failed(call, link, "decode", error)
            code = Code.INTERNAL if self._response else Code.INVALID_ARGUMENT
            return verdict if link.observer else Deny(code, f"{link.name}.malformed")
        except RAISED as error:
            return failed(call, link, "decode", error)
        return decoded

    def _count(self, call: Call, passed: Folded) -> Folded:
        if self._unary and not isinstance(passed, Deny) and passed:
            if len(passed) > 1 or call.counted & self._sent:
                return MISCOUNT
            call.counted |= self._sent
        return passed

    def _balance(self, call: Call, passed: Folded) -> Folded:
        """`passed`, unless a unary side has not sent on exactly what it took."""
        if (
            self._unary
            and not isinstance(passed, Deny)
            and bool(call.counted & self._taken) != bool(call.counted & self._sent)
        ):
            return MISCOUNT
        return passed


def _out(verdict: Verdict, message: Message | None) -> Folded:
    """What a verdict sends on; Pass sends what came in, which at a flush is nothing."""
    if isinstance(verdict, Deny):
        return verdict
    if isinstance(verdict, Forward):
        return list(verdict.messages)
    return [] if message is None else [message]
