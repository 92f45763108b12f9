"""Runs the chain over one call, from its first header to its last event.

Its two sides own the streams, the client's and the model server's, and tell of what arrives there; a call has several
streams towards the model server only when the first was refused unread. Sockets are `front`'s and `upstream`'s, an
answer's head and trailers `responding`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

from interceptors.contract import (
    Call,
    Code,
    CodecError,
    Deny,
    Headers,
    Method,
    Outcome,
    Steps,
    View,
)
from interceptors.events import Travel
from interceptors.plan import Plan
from sidecar.relay.answer import reset_code
from sidecar.relay.asking import Asking
from sidecar.relay.directions import REQUESTS, RESPONSES
from sidecar.relay.grpc_wire import (
    denial_block,
    http_refusal_block,
    timeout_field,
)
from sidecar.relay.http2.blocks import encode_fresh
from sidecar.relay.http2.connection import ServerConnection
from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.fields import Field, ResponseHead, TrailerBlock
from sidecar.relay.http2.streams import ENDED, Stream
from sidecar.relay.inspecting import Inspecting
from sidecar.relay.passing import Passing
from sidecar.relay.requests import Refusal, Request
from sidecar.relay.routes import MALFORMED, Route, route_by
from sidecar.relay.sides import Side

if TYPE_CHECKING:
    from sidecar.relay.front import FrontWire
    from sidecar.relay.relay import Pool, Relay
    from sidecar.relay.upstream.wire import UpstreamWire

_ATTEMPTS: Final = 3
_METADATA: Final = View.METADATA
_UNAVAILABLE: Final = int(Code.UNAVAILABLE)
_CLIENT_GONE: Final = "client.gone"
CLIENT_SLOW: Final = "client.slow"
_MODEL_SERVER: Final = Route.MODEL_SERVER
_ACCEPT: Final = frozenset((b"grpc-accept-encoding",))
_UNRECORDED: Final = Deny(Code.UNAVAILABLE, "record.failed", "the call could not be recorded")
_NEVER: Final = float("inf")
_EXPIRED: Final = Deny(Code.UNAUTHENTICATED, "identify.expired", "client identity has expired")
_DEADLINE: Final = ("deadline", "deadline exceeded")
_NO_METHOD: Final = Method("", True, True)  # of a request whose path says none


class Exchange:
    """One call, from its first header to its last event."""

    __deletable__ = ("request_side",)  # for mypyc
    __slots__ = (
        "_answer_block",
        "_answered",
        "_attempts",
        "_began",
        "_chain",
        "_deadline_slot",
        "_due",
        "_ending",
        "_mark",
        "_reset",
        "_unrecorded",
        "asked_s",
        "asking",
        "blamed",
        "call",
        "chain_s",
        "connection",
        "down",
        "first_s",
        "front",
        "head_sent",
        "last",
        "nonce",
        "opened",
        "over",
        "plan",
        "pool",
        "relay",
        "request",
        "request_side",
        "reserved",
        "responding",
        "response",
        "taken",
        "up",
        "up_wire",
        "waiting",
    )

    def __init__(self, relay: Relay, front: FrontWire, connection: ServerConnection, down: Stream) -> None:
        self.relay = relay
        self.pool: Pool | None = relay.pool  # None until a message says where the call goes
        self.front = front
        self.connection = connection
        self.down = down
        self.up: Stream | None = None
        self.up_wire: UpstreamWire | None = None
        self.over = False  # nothing more is taken from either side
        self.blamed = False  # the client's own bytes ended it: the reset that follows counts as the client's
        self._answered = False  # the client got its end, or is gone
        self._answer_block: bytes | None = None
        self._reset = -1  # the code that ends the client's stream in place of an answer
        self._ending = False  # the outcome is told, and its answer leaves once what must be durable is
        self._unrecorded = 0  # events that must be durable before the answer
        self.head_sent = False
        self._attempts = 0
        self.reserved = False  # a call that has places of its own
        self.asked_s = 0.0  # when the request was whole, on the timer's clock; 0 before, -1 once it waits no more
        self._mark = 0  # of the call among those whose time is measured
        self.responding = False  # the model server's head has come
        self.waiting = False  # in the pool's queue
        self.last: ResponseHead | TrailerBlock | None = None  # what ended the response
        self.response: Side | None = None
        self._deadline_slot = 0
        self.nonce = b""  # of a stream to our own services, whose answer must prove itself by it
        self.chain_s = 0.0  # time in links
        self.opened = 0.0  # when the call was sent on, on the timer's clock; 0 before
        self.first_s = -1.0  # from then to the first of the answer
        self.taken = 0  # bytes of the answer that had to wait and that the client has taken
        self.asking: list[Asking] | None = None  # hooks that wait for an answer

    # --- the client's side --------------------------------------------------------------------------------------

    def begin(self, request: Request, end: bool) -> None:
        """Run the start hooks over a canonical request."""
        relay = self.relay
        self.request = request
        self.reserved = request.reserved
        self._began = relay.timer()
        now = relay.wall()
        method, codec, plan, route = request.shape or relay.shape(request)
        self._chain = relay.chain  # a reload may change the relay's while a start hook waits
        if route is not _MODEL_SERVER:
            self.pool = relay.pool_of(route)
        deadline = None
        if request.timeout is not None:
            deadline = now + request.timeout
            self._due = relay.clock() + request.timeout
            self._deadline_slot = relay.deadlines.add(self._due, self)
        self.call = call = Call(method, Headers(request.fields), self.front.peer, now, deadline, codec)
        self.plan = plan
        self.request_side = side = self.down.owner = self._make_request_side()
        if relay.recorder.failed is not None:
            self.deny(Deny(Code.UNAVAILABLE, "record.failed", "calls cannot be recorded at the moment"))
            return
        result: Any = plan.start(call)
        self.chain_s = relay.timer() - self._began
        if result is None and method.unary_request and not call.obligations and call.expires == _NEVER:
            pass  # opened upstream when the request is whole
        elif result is not None and isinstance(result, Generator):
            side.wait()
            self.drive(result, self._started)
        else:
            self._started(result)
        if end and not self.over:
            self.request_side.data(b"", True)

    def _started(self, denied: Deny | None) -> None:
        if self.over:
            return
        if denied is not None:
            self.deny(denied)
            return
        call = self.call
        if call.expires != _NEVER:
            self._end_in_time()
        if call.obligations:
            self._deepen(self._chain.plan(call.method, call.obligations))
        if not call.method.unary_request:
            self.open_upstream()
        if not self.over:  # the pool may have had no place for it
            self.request_side.go()

    def _end_in_time(self) -> None:
        """The call ends with what let it in, where that is before its deadline."""
        relay = self.relay
        due = relay.clock() + max(0.0, self.call.expires - relay.wall())
        if self._deadline_slot:
            if due >= self._due:
                return
            relay.deadlines.drop(self._deadline_slot, self)
        self._deadline_slot = relay.deadlines.add(due, self)

    def _deepen(self, plan: Plan) -> None:
        """Continue with the plan that a decision's obligations ask for; nothing has been looked at yet."""
        earlier, self.plan = self.request_side, plan
        self.request_side = self.down.owner = self._make_request_side()
        self.request_side.adopt(earlier)

    def _make_request_side(self) -> Side:
        limit, unary = self.relay.settings.message, self.call.method.unary_request
        if self.plan.request_view is _METADATA and self.pool is not None:
            return Passing(self, REQUESTS, limit, unary)
        side = Inspecting(self, REQUESTS, limit, unary)
        side.encoding = self.request.encoding
        return side

    def _make_response_side(self) -> Side:
        limit, unary = self.relay.settings.response_message, self.call.method.unary_response
        if self.plan.answers_view(self.call) is _METADATA:
            return Passing(self, RESPONSES, limit, unary)
        return Inspecting(self, RESPONSES, limit, unary)

    def refuse(self, refusal: Refusal) -> None:
        """Answer a request that is not canonical; of the links only observers learn of it."""
        relay = self.relay
        self._began = relay.timer()
        self.call = Call(_NO_METHOD, Headers(()), self.front.peer, relay.wall())
        self.plan = relay.chain.plan(_NO_METHOD)
        self.request_side = self.down.owner = Passing(self, REQUESTS, 0, False)
        if isinstance(refusal, Deny):
            self.deny(refusal)
            return
        self.over = True
        deny = Deny(Code.INVALID_ARGUMENT, refusal.reason, "not a gRPC request")
        self._end(int(deny.code), deny, http_refusal_block(refusal.status, deny))

    def on_client_gone(self, code: int = ErrorCode.CANCEL, reason: str = "") -> None:
        """The client's stream is gone, or all of its connection; or it was reset for what the client sent there."""
        self._answered = True
        if self.over:
            self._close()
            return
        self.over = True
        self._cancel_upstream()
        if reason and code != ErrorCode.CANCEL:
            deny = Deny(reset_code(code), "http2.malformed", reason)
            self._end(int(deny.code), deny, None)
        else:
            self._end(int(Code.CANCELLED), None, None, _CLIENT_GONE)

    def on_response_sent(self, count: int) -> None:
        """DATA that waited has left for the client."""
        self.taken += count
        response = self.response
        if response is not None and not self.over:
            if not response.inspects:
                self.credit_response(count)
            if self.down.queue is None:
                response.drained()
        if self._answered and self.down.queue is None:
            self._close()

    def credit_request(self, count: int) -> None:
        # A stream tried again sends bytes that were paid for: never more than the stream still holds.
        held = self.down.held
        if held:
            self.connection.consume(self.down, count if count < held else held)
            if not self.front.dirty:
                self.front.touch()

    # --- the model server's side --------------------------------------------------------------------------------

    def route_by(self, raw: bytes) -> Deny | None:
        """Choose where the call goes by its first message, or give why it goes nowhere."""
        try:
            self.pool = self.relay.pool_of(route_by(self.call.method.path, raw))
        except CodecError:
            return MALFORMED
        return None

    def asked(self) -> None:
        """The request is whole and may go: how long its answer takes tells how busy the model server is."""
        relay = self.relay
        if not self.asked_s and not self.responding and not self.reserved and self.pool is relay.pool:
            self.asked_s = relay.timer()
            self._mark = relay.admission.concurrency.asked()

    def asks_no_more(self, answered: bool) -> None:
        now, concurrency = self.relay.timer(), self.relay.admission.concurrency
        seconds, self.asked_s = now - self.asked_s, -1.0
        if answered:
            concurrency.answered(self.call.method.path, self._mark, seconds, now)
        else:
            concurrency.left(self.call.method.path, self._mark, seconds, now, self.last is not None)

    def open_upstream(self) -> None:
        """Ask the pool for a stream, once."""
        if self.up is None and not self.waiting and not self.over:
            assert self.pool is not None
            self.waiting = True
            self.pool.want(self)

    def open_at_once(self) -> bool:
        """Open the upstream stream if a connection has room for it now."""
        if self.waiting or self.over:
            return False
        assert self.pool is not None
        wire = self.pool.free()
        if wire is None:
            return False
        self._open(wire)
        return not self.over

    def upstream_ready(self, wire: UpstreamWire) -> None:
        """The pool has a connection with a free stream."""
        self.waiting = False
        if not self.over:
            self._open(wire)
            if not self.over:
                self.request_side.opened()

    def _open(self, wire: UpstreamWire) -> None:
        """Open the upstream stream, unless the deadline has passed."""
        request = self.request
        if request.understood is not None and self.plan.answers_view(self.call) is not _METADATA:
            # Links look at the answer's messages: it must not come in an encoding that we do not know.
            self.call.headers.edit(_ACCEPT, request.understood)
        block = request.block(self.call.headers)
        if request.timeout is not None:
            left = self._due - self.relay.clock()
            if left <= 0:
                self.fail(Code.DEADLINE_EXCEEDED, *_DEADLINE)
                return
            block += encode_fresh((timeout_field(left),))
        relay = self.relay
        if self.pool is not relay.pool:
            assert relay.own is not None
            self.nonce, field = relay.own.seal(self.call)
            block += encode_fresh((field,))
        if self._attempts:
            relay.meter.retried()
        self._attempts += 1
        self.opened = relay.timer()
        self.up_wire = wire
        self.response = response = self._make_response_side()
        self.up = wire.connection.open(response, block, False)
        if not wire.dirty:
            wire.touch()

    def upstream_failed(self, reason: str, public: str) -> None:
        """The pool has none and will not have one soon."""
        self.waiting = False
        self.fail(Code.UNAVAILABLE, reason, public)

    def on_upstream_reset(self, code: int, reason: str) -> None:
        """The model server ended the stream early, or for a reason we did: its fault, or its connection is lost."""
        if self.over or self.last is not None:
            return  # RFC 9113 §8.1: a response that is complete is not discarded for what comes after it
        if reason and code == ErrorCode.CANCEL:
            self._lose_upstream()
            if not self.tried_again(()):
                self.fail(Code.UNAVAILABLE, "upstream.lost", f"model server: {reason}")
            return
        self._lose_upstream(_UNAVAILABLE)
        if reason:
            self.fail(reset_code(code), "upstream.malformed", f"model server's answer: {reason}")
            return
        self.over = True
        self._reset = code
        self._end(int(reset_code(code)), None, None, "upstream.reset")

    def on_upstream_refused(self) -> None:
        """RFC 9113 §8.7: nothing of the stream was processed, so it may be tried again."""
        if self.over or self.last is not None:
            return
        wire = self.up_wire
        assert wire is not None
        self._lose_upstream()
        fresh = self._attempts < _ATTEMPTS and not self.responding
        assert self.pool is not None
        if fresh and self.pool.excuses(wire) and self.request_side.again():
            self.open_upstream()
        else:
            self.fail(Code.UNAVAILABLE, "upstream.refused", "model server refused the call")

    def tried_again(self, answer: tuple[Field, ...]) -> bool:
        """Send a unary request again, to another endpoint where there is one, if the config and the answer allow it."""
        side, pool = self.request_side, self.pool
        assert pool is not None
        if self.responding or side.replay is None or not self.call.method.unary_request:
            return False
        pause = pool.retries(self._attempts, answer)
        if pause is None:
            return False
        self._cancel_upstream(_UNAVAILABLE)
        side.again()
        self.waiting = True
        pool.want_later(self, pause)
        return True

    def on_request_sent(self, count: int) -> None:
        side = self.request_side
        if not side.inspects:
            self.credit_request(count)
        if self.up is not None and self.up.queue is None:
            side.drained()

    def credit_response(self, count: int) -> None:
        up, wire = self.up, self.up_wire
        if up is not None and wire is not None and up.held:
            wire.connection.consume(up, count if count < up.held else up.held)
            if not wire.dirty:
                wire.touch()

    # --- the end ------------------------------------------------------------------------------------------------

    def conclude(self, status: int, block: bytes) -> None:
        """The model server's own end of the call."""
        self.over = True
        up, wire = self.up, self.up_wire
        if up is not None and wire is not None:
            if up.send < ENDED or up.queue is not None:
                wire.connection.reset(up, ErrorCode.CANCEL)
            self.up = None
            wire.release(up, status)
        self._end(status, None, block)

    def deny(self, deny: Deny) -> None:
        """End the call by a verdict or a refusal of our own; nothing held back is flushed."""
        if self.over:
            return
        self.over = True
        self._cancel_upstream()
        self._end(int(deny.code), deny, denial_block(deny, self.head_sent))

    def fail(self, code: Code, reason: str, public: str) -> None:
        """End the call by nobody's verdict: the upstream or the deadline."""
        if self.over:
            return
        self.over = True
        self._cancel_upstream()
        self._end(int(code), None, denial_block(Deny(code, reason, public), self.head_sent), reason)

    def shed(self) -> None:
        """The client has not read its answer for too long, or what that holds is needed for others: it is dropped."""
        self.relay.meter.abused(CLIENT_SLOW)
        if self.over:
            self.connection.reset(self.down, ErrorCode.ENHANCE_YOUR_CALM)
            self._close()
            return
        self.over = True
        self._cancel_upstream()
        self.connection.reset(self.down, ErrorCode.ENHANCE_YOUR_CALM)
        self._answered = True
        self._end(int(Code.RESOURCE_EXHAUSTED), None, None, CLIENT_SLOW)

    def expire(self) -> None:
        """The deadline has passed, or what let the call in has ended."""
        self._deadline_slot = 0
        if self.request.timeout is not None and self.relay.clock() >= self._due:
            self.fail(Code.DEADLINE_EXCEEDED, *_DEADLINE)
        elif self.relay.wall() >= self.call.expires:
            self.deny(_EXPIRED)
        else:
            self._end_in_time()  # the wall clock was set back meanwhile

    def _end(self, status: int, denied: Deny | None, block: bytes | None, cause: str = "") -> None:
        """Links and records learn the outcome; the client gets `block` once what must be durable is.

        block: the header block that ends the response, b"" to end it without one, None to send nothing.
        cause: as of Outcome.
        """
        relay, call = self.relay, self.call
        if self._deadline_slot:
            relay.deadlines.drop(self._deadline_slot, self)
        if self.asked_s > 0.0:
            self.asks_no_more(False)
        response, ended = self.response, relay.timer()
        outcome = Outcome(
            status,
            denied,
            ended - self._began,
            self.request_side.count,
            response.count if response is not None else 0,
            cause == _CLIENT_GONE,
            cause,
        )
        if self.asking:
            for asking in self.asking:
                asking.close()
            self.asking = None
        call.now = relay.wall()
        self.plan.end(call, outcome)
        travel = Travel(
            self.request_side.size,
            response.size if response is not None else 0,
            self.chain_s + relay.timer() - ended,
            ended - self.opened if self.opened else -1.0,
            self.first_s,
        )
        relay.meter.call_ended(call, outcome, travel)
        self.request_side.release()
        if response is not None:
            response.release()
        if call.faults:
            relay.report(call)
            call.faults = ()  # an exception holds the frames it passed, and they hold the call
        self._answer_block = block
        self.publish()
        self._ending = True
        if not self._unrecorded:
            self._answer()

    def publish(self) -> None:
        """Hand on what links have emitted so far."""
        call = self.call
        if call.events:
            events, call.events = call.events, []
            waits = self.relay.publish(events, self._recorded)
            self._unrecorded += waits  # those that were recorded meanwhile have been taken off

    def _recorded(self, error: BaseException | None) -> None:
        """One event that had to be durable is, or cannot be made so."""
        self._unrecorded -= 1
        if error is not None:
            if not self.over:
                self.fail(Code.UNAVAILABLE, _UNRECORDED.reason, _UNRECORDED.public)
            elif self._answer_block is not None or self._reset >= 0:
                self._answer_block = denial_block(_UNRECORDED, self.head_sent)
        if self._ending and not self._unrecorded:
            self._answer()

    def _answer(self) -> None:
        block = self._answer_block
        if block is None and self._reset >= 0 and not self._answered:
            self.connection.reset(self.down, self._reset)
        elif block is not None and not self._answered:
            if block:
                self.connection.send_head(self.down, block, True)
            else:
                self.connection.send_data(self.down, b"", True)
        self._answered = True
        if self.down.queue is None:
            self._close()
        elif not self.front.dirty:
            self.front.touch()

    def _close(self) -> None:
        """Let go of the client's stream; a client that is still sending is told to stop."""
        down = self.down
        if not self._answered or down.released:
            return
        if down.receive < ENDED:
            self.connection.reset(down, ErrorCode.NO_ERROR, self.blamed)
        self.connection.release(down)
        self.relay.admission.leave(self.reserved)
        response = self.response
        if response is not None and response.inspects:
            response.let_go()
        # The sides point here and the streams at them: cut, so that nothing is left for the cycle collector.
        down.owner = None
        del self.request_side
        self.response = None
        if not self.front.dirty:
            self.front.touch()

    def _cancel_upstream(self, status: int = -1) -> None:
        """A stream still open towards the model server is reset, never ended.  status: as of `UpstreamWire.release`."""
        if self.waiting:
            self.waiting = False
            assert self.pool is not None
            self.pool.forget(self)
        up, wire = self.up, self.up_wire
        if up is not None and wire is not None:
            self.up = None
            wire.connection.reset(up, ErrorCode.CANCEL)
            wire.release(up, status)

    def _lose_upstream(self, status: int = -1) -> None:
        """The upstream stream is gone already.  status: as of `UpstreamWire.release`."""
        up, wire = self.up, self.up_wire
        if up is not None and wire is not None:
            self.up = None
            wire.release(up, status)

    # --- questions ----------------------------------------------------------------------------------------------

    def drive(self, steps: Steps[Any], done: Callable[[Any], None]) -> None:
        """Run a generator of the plan's; `done` gets its result, unless the call has ended before."""
        asking = Asking(self, steps, done)
        if self.asking:
            self.asking.append(asking)
        else:
            self.asking = [asking]
        asking.run()
