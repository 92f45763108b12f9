"""The listener's side: who connects, for how long, and what each new stream becomes."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, TypeAlias, cast

from interceptors.contract import Call, Code, Deny, Peer
from interceptors.events import Event
from interceptors.facts import PeerCertificate
from sidecar.logs import Log
from sidecar.relay.admission import Refused
from sidecar.relay.driver import CLIENT_SLOW, Exchange
from sidecar.relay.freed import Freed
from sidecar.relay.http2.connection import ServerConnection
from sidecar.relay.http2.errors import ConnectionFault, ErrorCode, Http2Error
from sidecar.relay.http2.fields import RequestHead
from sidecar.relay.http2.streams import BODY, ENDED, Stream
from sidecar.relay.relay import Relay
from sidecar.relay.requests import Request, refuse
from sidecar.relay.sides import Side
from sidecar.relay.tls_channel import KEY_UPDATES, TlsChannel
from sidecar.relay.tls_errors import TlsError, TlsRefused
from sidecar.relay.wire import Wire

_log = Log("front")
_TICK_S: Final = 0.5
_TURN_S: Final = 0.001  # for asking again about calls, before others have their turn
_ANSWER_S: Final = 20.0  # for a keepalive PING
_GOODBYE_S: Final = 5.0  # for a client to answer the farewell of a drain, and for its last call to arrive
_GREETING_S: Final = 1.0  # for a handshake, while others wait for their turn
_CUT_S: Final = 1.0  # for clients to hear that they are cut
_LINGER_S: Final = 5.0  # for a closed connection whose last bytes nobody reads
_LEAST_RATE: Final = 500.0  # bytes a second for each message that is due: slower only within `message_s`
_MESSAGE_SLOW: Final = Deny(Code.DEADLINE_EXCEEDED, "message.slow", "request message did not arrive in time")

Vouch: TypeAlias = Callable[[TlsChannel | None], PeerCertificate | None]  # raises TlsRefused
Allow: TypeAlias = Callable[[Call, Peer], Deny | None]
Concerned: TypeAlias = Callable[[Call], bool]


class FrontWire(Wire[ServerConnection | None]):
    """One client's connection."""

    of_one = True
    peer: Peer

    def __init__(self, front: Front, channel: TlsChannel | None) -> None:
        super().__init__(front.relay.flusher, channel, None, front.relay.clock())
        self._front = front
        self._expiry: asyncio.TimerHandle | None = None
        self.source = ""
        self.address = ""
        self.counted = False
        self.greets = channel is not None  # TLS is not up yet
        self.held = 0  # bytes of messages that links must see whole
        self.called = self.opened  # when there last was a call, or one could be made
        self.fresh = True  # no call has come yet
        # Streams that owe a message: since when, their sides' size and count then, and when the connection last had
        # delivered enough for all of them.
        self._owed: dict[int, tuple[float, int, int, float]] = {}
        self._arrived = 0  # bytes of DATA when that was last looked at
        # Streams whose answers wait to be read: how much of what waited had been taken, and since when that is so.
        self._unread: dict[int, tuple[int, float]] = {}
        self._stood = 0, 0.0  # bytes in the transport when last looked at, and since when as many
        self._stuck = 0  # the same, where they have not become fewer since
        self._leaving: float | None = None  # since when a drain has been seen

    def clock(self) -> float:
        return self._front.relay.clock()

    def timer(self) -> float:
        return self._front.relay.timer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            self.source, self.address = name[0], f"{name[0]}:{name[1]}"
        else:
            self.source = self.address = "unix"
        if not self._front.admit(self):
            self.closing = True
            cast(asyncio.Transport, transport).abort()
            return
        self._front.relay.meter.connection_opened()
        super().connection_made(transport)

    def ready(self) -> None:
        self._front.greeted(self)
        certificate = self._channel.certificate if self._channel is not None else None
        self.peer = Peer(self.address, self.source, certificate)
        settings = self._front.relay.settings
        self.connection = ServerConnection(settings.limits, self._accept, self._malformed)
        self.connection.send_preface()
        self.called = self.clock()
        if certificate is not None:
            self._end_with(certificate)
        self.touch()

    def _end_with(self, certificate: PeerCertificate) -> None:
        """A connection lives no longer than the certificate that opened it."""
        relay = self._front.relay
        left = max(0.0, certificate.not_after - relay.wall())
        loop = self._front.loop
        # Timers beyond a day are set again when they fire, so that a stepped clock does no harm for longer.
        self._expiry = loop.call_later(min(left, 86_400.0), self._expire, certificate)

    def _expire(self, certificate: PeerCertificate) -> None:
        if self._front.relay.wall() < certificate.not_after:
            self._end_with(certificate)
        else:
            self.end(ErrorCode.NO_ERROR, "client certificate has expired")

    def drain(self, now: float) -> None:
        """Let the client know that it is to go; at its first call, where that is on its way.

        A gRPC client makes a connection for a call that waits, and sends it when our SETTINGS have come. With GOAWAY
        beside them it would fail the call, for it cannot connect again.
        """
        connection = self.connection
        if connection is not None and not (self.fresh and now - self.called < _GOODBYE_S):
            connection.drain()
            self.touch()

    def dismiss(self) -> None:
        """The client has had time to hear that it is to go: no call that it begins from here on is taken."""
        connection = self.connection
        if connection is None:
            self.close()
        else:
            connection.drain()
            connection.name_last()
            self.touch()

    def end(self, code: ErrorCode, reason: str) -> None:
        """Cut the connection, open streams included."""
        connection = self.connection
        if connection is not None and not self.closing:
            connection.abort(code, reason)
            self.flush()
            connection.lost(reason)
        self.close()

    @property
    def busy(self) -> bool:
        """Whether a call is open, or something of an answer has not left."""
        connection, transport = self.connection, self.transport
        if self.fresh:
            return False
        if connection is not None and connection.streams:
            return True
        return transport is not None and transport.get_write_buffer_size() > 0

    def unread(self) -> int:
        """Bytes of answers that wait for the client to read, on streams and in a transport that stands still."""
        connection = self.connection
        if connection is None or self.closing:
            return 0
        return sum([stream.queued for stream in connection.streams.values()]) + self._stuck

    def shed(self) -> bool:
        """Drop the calls whose answers the client has not read. False where there is none."""
        assert self.connection is not None
        found = False
        for stream in list(self.connection.streams.values()):
            if stream.queue is not None and isinstance(stream.owner, Side):
                found = True
                stream.owner.exchange.shed()
        return found

    def hurry(self, now: float, within_s: float) -> None:
        """End the calls that owe a message and hardly send any of it.

        A client on a slow link may send one message after the other: none is late while the link brings, of whichever
        calls, as much as would do for all that owe.
        """
        connection, before = self.connection, self._owed
        self._owed = owed = {}
        if connection is None:
            return
        came, self._arrived = connection.arrived - self._arrived, connection.arrived
        if connection.short:
            return
        # Without window it is not for the client to send.
        debtors = [
            (stream.id, stream.owner)
            for stream in connection.streams.values()
            if stream.receive == BODY and stream.window > 0 and isinstance(stream.owner, Side) and stream.owner.owed
        ]
        for number, side in debtors:
            since, size, count, served = before.get(number, (now, side.size, side.count, now))
            if count != side.count:
                since, size, count, served = now, side.size, side.count, now
            # Frames come whole: what one brings counts for the time that it took.
            served = min(now, served + came / (_LEAST_RATE * len(debtors)))
            if now - since <= within_s + (side.size - size) / _LEAST_RATE or now - served <= within_s:
                owed[number] = since, size, count, served
            elif not side.exchange.over:
                self._front.relay.meter.abused(_MESSAGE_SLOW.reason)
                side.misused(_MESSAGE_SLOW)

    def expect(self, now: float, within_s: float) -> bool:
        """End the calls of whose answers something waits and the client has taken nothing for so long.

        False where the transport has taken nothing either.
        """
        connection, earlier = self.connection, self._unread
        self._unread = unread = {}
        if connection is None:
            return True
        size = self.transport.get_write_buffer_size() if self.transport is not None else 0
        if not size or size != self._stood[0]:
            self._stood, self._stuck = (size, now), 0
        else:
            self._stuck = size
        stood = self._stood[1]
        left = 0
        for stream in list(connection.streams.values()):
            if stream.queue is not None and isinstance(stream.owner, Side):
                exchange = stream.owner.exchange
                taken, since = earlier.get(stream.id, (-1, now))
                # What waits behind a full transport has not been offered while that one takes a little.
                if taken != exchange.taken or (self._paused and stood == now):
                    since = now
                if now - since <= within_s:
                    unread[stream.id] = exchange.taken, since
                else:
                    left += stream.queued
                    exchange.shed()
        if left:
            _log.warning("slow_reader", peer=self.address, unread=left)
        return now - stood <= within_s

    def see_off(self, now: float) -> None:
        """Who is to go and does not answer has had time to hear it: the connection ends when its calls have."""
        if self._leaving is None:
            self._leaving = now
        elif now - self._leaving > _GOODBYE_S:
            self.dismiss()
            if self._paused and self.connection is not None and self.connection.finished:
                self.part()  # else whoever never reads the end of his last answer would stay for as long as he speaks

    def stop(self) -> None:
        """Answer the calls that are still open, for nobody will any more, and part."""
        connection = self.connection
        if connection is None or self.closing:
            self.close()
            return
        for stream in list(connection.streams.values()):
            if isinstance(stream.owner, Side):
                stream.owner.exchange.fail(Code.UNAVAILABLE, "sidecar.stopping", "sidecar is stopping")
        connection.abort(ErrorCode.NO_ERROR, "sidecar is stopping")
        self.flush()
        self.part()

    def recheck(self, vouch: Vouch, allow: Allow) -> None:
        """Ask again whether this client is trusted, and its open calls are allowed. Before TLS has told, it is not."""
        connection = self.connection
        if connection is None or self.closing:
            return
        try:
            certificate = vouch(self._channel)
        except TlsRefused as error:
            _log.warning("connection_cut", peer=self.address, reason=error.reason)
            self._front.refused(self.source, "connection.cut", error.reason)
            self.end(ErrorCode.NO_ERROR, "client is no longer trusted")
            return
        connection.forget_requests()
        self.peer = Peer(self.address, self.source, certificate)
        self.ask_again(lambda call: True, allow)

    def ask_again(self, concerned: Concerned, allow: Allow) -> None:
        """Ask again whether open calls are allowed, of those that are concerned."""
        if self.connection is None or self.closing:
            return
        for stream in list(self.connection.streams.values()):
            if isinstance(stream.owner, Side) and not stream.owner.exchange.over:
                exchange = stream.owner.exchange
                denied = allow(exchange.call, self.peer) if concerned(exchange.call) else None
                if denied is not None:
                    exchange.deny(denied)

    def _accept(self, stream: Stream, head: RequestHead, end: bool) -> None:
        note = head.note
        if note is None:
            note = head.note = refuse(head) or Request(head, self._front.scheme)
        assert self.connection is not None
        self.called = self.heard
        if self.fresh:
            self.fresh = False
            if self._front.draining:
                self.connection.drain()
        relay = self._front.relay
        admission = relay.admission
        reserved = type(note) is Request and note.reserved
        refused = admission.refuse(reserved, relay.buffered, self.held)
        if refused is not None:
            self._turn_away(stream, refused)
            return
        admission.enter(reserved)
        exchange = Exchange(relay, self, self.connection, stream)
        if type(note) is Request:
            exchange.begin(note, end)
        else:
            exchange.refuse(note)  # type: ignore[arg-type]

    def _turn_away(self, stream: Stream, refused: Refused) -> None:
        """Refuse a call before anything is done for it: it must cost far less than to serve it."""
        connection, deny = self.connection, refused.deny
        assert connection is not None
        connection.send_head(stream, refused.block, True)
        if stream.receive < ENDED:
            connection.reset(stream, ErrorCode.NO_ERROR)
        connection.release(stream)
        self._front.relay.meter.turned_away(int(deny.code), deny.reason)
        self._front.refused(self.source, "call.refused", deny.reason)

    def _malformed(self, fault: Http2Error) -> None:
        if isinstance(fault, ConnectionFault):
            self.faulted(fault)
        else:
            self._front.refused(self.source, "call.refused", "http2.malformed")

    def tls_failed(self, error: TlsError) -> None:
        meter = self._front.relay.meter
        if isinstance(error, TlsRefused):
            meter.tls_refused(error.reason)
        elif error.reason == KEY_UPDATES:
            meter.abused(error.reason)
        else:
            meter.connection_failed(error.reason)
        self._front.refused(self.source, "connection.refused", error.reason)

    def faulted(self, fault: ConnectionFault) -> None:
        reason, meter = f"http2.{fault.code.name.lower()}", self._front.relay.meter
        if fault.code is ErrorCode.ENHANCE_YOUR_CALM:
            meter.abused(fault.reason)
        else:
            meter.connection_failed(reason)
        self._front.refused(self.source, "connection.refused", reason)
        _log.info("connection_fault", peer=self.address, code=fault.code.name, reason=fault.reason)

    def gone(self, reason: str) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._front.forget(self)
        # It points here: cut, so that neither they nor their TLS, of over 30 KB, wait for the cycle collector.
        self.connection = None

    def drained(self) -> None:
        self.part()


class Front:
    """All client connections of one relay."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        relay: Relay,
        channel: Callable[[], TlsChannel] | None,
        upstream_scheme: bytes,
    ) -> None:
        """channel: makes the TLS side of each new connection; None serves plaintext."""
        self.loop = loop
        self.relay = relay
        self.scheme = upstream_scheme
        self.draining = False
        self._channel = channel
        self._wires: set[FrontWire] = set()
        self._greeting: dict[FrontWire, None] = {}  # whose handshakes are in progress, in their order
        self._sources: Counter[str] = Counter()
        self._ticker: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None  # what `drain` waits for
        self._cut = False
        self._in_time = True  # no call was open when all were cut
        self._freed = Freed()

    def protocol(self) -> FrontWire:
        """A protocol for `loop.create_server`."""
        return FrontWire(self, self._channel() if self._channel is not None else None)

    def start(self) -> None:
        self._ticker = self.loop.call_later(_TICK_S, self._tick)

    @property
    def connections(self) -> int:
        return len(self._wires)

    @property
    def calls(self) -> int:
        """Calls that are open."""
        return sum([wire.connection.slots for wire in self._wires if wire.connection is not None])

    def recheck(self, vouch: Vouch, allow: Allow) -> None:
        """Trust or rules have changed: cut whoever is not trusted any more, deny open calls that are not allowed.

        vouch: what a connection's peer is now; raises TlsRefused.  allow: why an open call of a peer may not go on.
        """
        for wire in list(self._wires):
            self._judge(wire, lambda each: each.recheck(vouch, allow))

    def ask_again(self, concerned: Concerned, allow: Allow) -> None:
        """What some calls rest on has changed: deny those of them that are open and not allowed any more.

        Whom we trust is not asked: of a thousand connections that takes a tenth of a second, in which nobody is served.
        Of many the others are served in between; who comes meanwhile is let in by what is so then.
        """
        self._ask_some(deque(self._wires), concerned, allow)

    def _ask_some(self, wires: deque[FrontWire], concerned: Concerned, allow: Allow) -> None:
        until = self.relay.timer() + _TURN_S
        while wires:
            self._judge(wires.popleft(), lambda each: each.ask_again(concerned, allow))
            if self.relay.timer() >= until:
                break
        if wires:
            self.loop.call_soon(self._ask_some, wires, concerned, allow)

    def _judge(self, wire: FrontWire, judge: Callable[[FrontWire], None]) -> None:
        try:
            judge(wire)
        except Exception as error:
            # Who cannot be judged is not trusted.
            _log.error("relay_defect", error)
            wire.end(ErrorCode.INTERNAL_ERROR, "internal error")

    def cut(self) -> None:
        """End every connection now, open calls included: they are told that it is not their fault."""
        self._cut = True
        self._in_time = self._in_time and not any(wire.busy for wire in self._wires)
        for wire in list(self._wires):
            wire.stop()
        self._wake()

    def admit(self, wire: FrontWire) -> bool:
        if self._sources[wire.source] >= self.relay.settings.connections_per_source:
            self._abused(wire, "front.too_many_connections")
            return False
        if wire.greets and not self._may_greet(wire):
            self._abused(wire, "overload.handshakes")
            return False
        self._sources[wire.source] += 1
        wire.counted = True
        self._wires.add(wire)
        return True

    def _may_greet(self, wire: FrontWire) -> bool:
        """A handshake is the dearest thing a client can ask for: more than can be done at once are not begun.

        Who stands still in one yields to newcomers, and the source that has most of them to one that has fewer, so that
        nobody can keep all others out by doing nothing, however fast he begins anew.
        """
        greeting = self._greeting
        if len(greeting) >= self.relay.settings.handshakes:
            yields = next(iter(greeting))
            if wire.opened - yields.opened < _GREETING_S:
                places = Counter([each.source for each in greeting])
                source, most = places.most_common(1)[0]
                if places[wire.source] + 1 >= most:
                    return False
                yields = next(each for each in greeting if each.source == source)
            del greeting[yields]
            self._time_out(yields, "front.handshake_timeout")
        greeting[wire] = None
        return True

    def greeted(self, wire: FrontWire) -> None:
        """The wire's handshake is over, one way or the other."""
        self._greeting.pop(wire, None)

    def forget(self, wire: FrontWire) -> None:
        self._wires.discard(wire)
        self.greeted(wire)
        if wire.counted:
            wire.counted = False
            self._sources[wire.source] -= 1
            if self._sources[wire.source] <= 0:
                del self._sources[wire.source]
        if not self._wires:
            self._wake()

    def _wake(self) -> None:
        """Have `drain` see what there is."""
        if self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def refused(self, source: str, kind: str, reason: str) -> None:
        """Record a refusal of someone unknown; those of one source and reason are counted into one event."""
        self.relay.recorder.record(Event(kind, self.relay.wall(), source=source, reason=reason, fold=True))

    def _tick(self) -> None:
        self._ticker = self.loop.call_later(_TICK_S, self._tick)  # first: what follows must not end the watch
        now = self.relay.clock()
        for wire in list(self._wires):
            self._look_after(wire, now)
        relay, resident = self.relay, self.relay.resident()
        relay.admission.look(relay.timer(), resident)
        held = sum(self._shed().values()) + relay.buffered
        if self._freed.look(resident, held, relay.aside.busy):
            # It takes milliseconds, in which whoever asks for memory waits; nobody else does.
            relay.aside.run(self, relay.trim, self._trimmed)

    def _trimmed(self, trim: asyncio.Future[None]) -> None:
        relay = self.relay
        self._freed.trimmed(relay.resident(), sum(self._unread().values()) + relay.buffered)

    def _unread(self) -> dict[FrontWire, int]:
        """Bytes of answers that wait for clients to read, where there are any."""
        return {wire: count for wire in self._wires if (count := wire.unread())}

    def _shed(self) -> dict[FrontWire, int]:
        """Connections to the model server are shared: who leaves most of his answers unread yields to all others.

        Of answers that are whole the model server's connection knows no more: what is left of them is memory only.
        Returns what is left, as of `_unread`.
        """
        unread = self._unread()
        excess = sum(unread.values()) - self.relay.settings.buffered
        while unread and (excess > 0 or self.relay.short):
            worst = max(unread, key=unread.__getitem__)
            left = unread.pop(worst)
            if not worst.shed():
                if excess <= 0:
                    continue  # what waits in a transport alone is no window of the model server's
                self._time_out(worst, CLIENT_SLOW)  # it is beyond recall
            _log.warning("slow_reader", peer=worst.address, unread=left)
            excess -= left
        return unread

    def _look_after(self, wire: FrontWire, now: float) -> None:
        """Time limits of one connection."""
        settings, connection = self.relay.settings, wire.connection
        if connection is not None and connection.slots:
            wire.called = now
            wire.hurry(now, settings.message_s)
        if connection is not None and connection.draining and not self.draining:
            wire.see_off(now)
        if wire.closing:
            if now - wire.closing_since > _LINGER_S and wire.transport is not None:
                wire.transport.abort()
        elif connection is None:
            if now - wire.opened > settings.handshake_s:
                self._time_out(wire, "front.handshake_timeout")
        elif not connection.settled:
            if now - wire.opened > settings.handshake_s + settings.header_s:
                self._time_out(wire, "front.preface_timeout")
        elif not wire.expect(now, settings.read_s):
            self._time_out(wire, CLIENT_SLOW)
        elif connection.assembling_since is not None and now - connection.assembling_since > settings.header_s:
            self._time_out(wire, "front.header_timeout")
        elif now - wire.called > settings.idle_s and not connection.draining:
            connection.drain()
            wire.touch()
        elif not wire.keepalive(now, settings.keepalive_s, _ANSWER_S):
            self.relay.meter.connection_failed("front.keepalive")
            wire.end(ErrorCode.NO_ERROR, "keepalive was not answered")

    def _time_out(self, wire: FrontWire, reason: str) -> None:
        self._abused(wire, reason)
        wire.end(ErrorCode.ENHANCE_YOUR_CALM, reason)

    def _abused(self, wire: FrontWire, reason: str) -> None:
        self.relay.meter.abused(reason)
        self.refused(wire.source, "connection.refused", reason)

    async def drain(self, grace_s: float) -> bool:
        """Take no new calls, wait for open ones, then cut what is left. Whether all calls had ended in time.

        Whoever has connected has, for _GOODBYE_S or half of a short grace, what a call needs to get here: handshake,
        farewell and its answers.
        """
        goodbye_s = min(_GOODBYE_S, grace_s / 2)
        self.draining = True
        now = self.relay.clock()
        for wire in list(self._wires):
            wire.drain(now)
        await self._emptied(goodbye_s)
        if self._wires and not self._cut:
            # What came while this process had no processor is heard first: timers run before sockets are read.
            for _ in range(2):
                await asyncio.sleep(0)
            for wire in list(self._wires):
                wire.dismiss()
            await self._emptied(grace_s - goodbye_s)
        self.cut()
        await self._emptied(_CUT_S)
        for wire in list(self._wires):
            if wire.transport is not None:
                wire.transport.abort()
        if self._ticker is not None:
            self._ticker.cancel()
        return self._in_time

    async def _emptied(self, within_s: float) -> None:
        """Return when no connection is left, all are cut, or the time is over."""
        if self._wires:
            self._empty = self.loop.create_future()
            await asyncio.wait((self._empty,), timeout=min(within_s, _CUT_S) if self._cut else within_s)
