"""A whole relay in memory: its real parts on a hand-turned loop, between an h2 client and a tap."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final

from interceptors.chain import Chain
from interceptors.contract import NO_CODEC, Ask, Codec, Interceptor, Method
from interceptors.contract import Call as ContractCall
from interceptors.events import Event
from interceptors.facts import PeerCertificate
from sidecar.relay.concurrency import Concurrency
from sidecar.relay.driver import Exchange
from sidecar.relay.front import Front, FrontWire
from sidecar.relay.relay import Relay
from sidecar.relay.settings import FrontSettings, Target, UpstreamSettings
from sidecar.relay.upstream.pool import Pool
from sidecar.relay.upstream.resolve import Lookup
from tests.relay.ends import Call, Client, Server, Tapped
from tests.relay.hand_turned import HandTurned, Transport

SHAPES: Final = {
    "unary": Method("/t.S/Unary", True, True),
    "client": Method("/t.S/Client", False, True),
    "server": Method("/t.S/Server", True, False),
    "bidi": Method("/t.S/Bidi", False, False),
}
PEER: Final = PeerCertificate((), (), "", 9e18, "", frozenset())
WHOLE: Final[Callable[[bytes], Iterable[bytes]]] = lambda data: (data,)  # noqa: E731


def pieces(size: int) -> Callable[[bytes], Iterable[bytes]]:
    """Cuts a byte stream into pieces of `size`."""
    return lambda data: (data[at : at + size] for at in range(0, len(data), size))


class Recorder:
    """A recorder in memory. holds: durable events wait until `settle`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.failed: str | None = None
        self.holds = False
        self.waiting: list[Callable[[BaseException | None], None]] = []

    def record(self, event: Event, done: Callable[[BaseException | None], None] | None = None) -> None:
        self.events.append(event)
        if done is not None:
            self.waiting.append(done)
            if not self.holds:
                self.settle()

    def settle(self, error: BaseException | None = None) -> None:
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            done(error)


class Answers:
    """Answers questions: at once with `value`, or an error where it is one; later, by `settle`, where `holds`."""

    def __init__(self) -> None:
        self.value: Any = True
        self.holds = False
        self.asked: list[Ask[Any]] = []
        self.waiting: list[Callable[[Any, Exception | None], None]] = []

    def __call__(self, question: Ask[Any], reply: Callable[[Any, Exception | None], None]) -> None:
        self.asked.append(question)
        if self.holds:
            self.waiting.append(reply)
        else:
            self._reply(reply)

    def settle(self) -> None:
        """Answer what waits now."""
        waiting, self.waiting = self.waiting, []
        for reply in waiting:
            self._reply(reply)

    def _reply(self, reply: Callable[[Any, Exception | None], None]) -> None:
        if isinstance(self.value, Exception):
            reply(None, self.value)
        else:
            reply(self.value, None)


class Codecs:
    """Knows the methods of SHAPES; any other has no known shape."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._methods = {method.path: method for method in SHAPES.values()}

    def method(self, path: str) -> Method | None:
        return self._methods.get(path)

    def codec(self, path: str) -> Codec:
        return self._codec


class World:
    """`with World(links) as world:`; on leaving, nothing of any call may be left.

    cut, cut_back: how bytes from the client, and from the model server, are cut.  frame: bytes of both ends' DATA
    frames, at most.  transport: what the relay's connections stand on.
    """

    def __init__(
        self,
        links: Sequence[Interceptor] | Chain = (),
        *,
        settings: FrontSettings | None = None,
        upstream: UpstreamSettings | None = None,
        client: Mapping[Any, int] | None = None,
        server: Mapping[Any, int] | None = None,
        codec: Codec = NO_CODEC,
        cut: Callable[[bytes], Iterable[bytes]] = WHOLE,
        cut_back: Callable[[bytes], Iterable[bytes]] = WHOLE,
        frame: int = 16_384,
        connect: bool = True,
        lookup: Lookup | None = None,
        admit: Callable[[Any], str | None] = lambda _: None,
        transport: type[Transport] = Transport,
    ) -> None:
        self.loop = HandTurned()
        loop: Any = self.loop
        self.recorder = Recorder()
        self.answers = Answers()
        chain = links if isinstance(links, Chain) else Chain(links)
        self.relay = Relay(loop, settings or FrontSettings(), chain, Codecs(codec), self.recorder, None, self.answers)
        self.relay.admission.concurrency = Concurrency(loop.now)
        self.faults: list[tuple[str, str, str]] = []  # of hooks: link, hook, type of the exception
        self.relay.report = self._report
        self.relay.timer = self.loop.time
        self.relay.wall = lambda: 1_700_000_000.0 + loop.now
        settings_up = upstream or UpstreamSettings((Target("192.0.2.9", 1),))
        self.pool = Pool(loop, self.relay, settings_up, None, None, lambda: 0.5, admit=admit, lookup=lookup)
        self.relay.pool = self.pool
        self.front = Front(loop, self.relay, None, b"http")
        self.listening = True  # whether the model server takes connections
        self.refusing: set[str] = set()  # addresses of the model server that take none
        self.dialled: list[str] = []  # addresses that connections were tried to, in order
        self.server_settings = server
        self.servers: list[Server] = []
        self.answer: Callable[[Tapped], None] | None = None  # the model server's, to every call that has half-closed
        self._ends: list[tuple[Any, Transport]] = []  # an end, and the relay's transport towards it
        self._cut, self._cut_back, self._frame = cut, cut_back, frame
        self._transport = transport
        self.loop.connector = self._connect
        self.pool.start()
        self.front.start()
        self.client = self.connect(client) if connect else Client(client)
        self.settle()

    def _report(self, call: ContractCall) -> None:
        """In place of a log, which would keep the exceptions, and they the frames that raised them."""
        self.faults += [(fault.link, fault.hook, type(fault.error).__name__) for fault in call.faults]

    def _connect(self, protocol: Any) -> Transport:
        address = protocol.endpoint.address
        self.dialled.append(address)
        if not self.listening or address in self.refusing:
            raise ConnectionRefusedError(111, "Connection refused")
        server = Server(self.server_settings)
        server.address = address
        server.answers = lambda call: self.answer(call) if self.answer is not None else None
        server.frame, server.clock = self._frame, self.loop.time
        self.servers.append(server)
        transport = self._transport(self.loop, protocol)
        self._ends.append((server, transport))
        return transport

    def connect(self, settings: Mapping[Any, int] | None = None) -> Client:
        """A client's connection."""
        client = Client(settings)
        self.attach(client)
        return client

    def attach(self, end: Any) -> None:
        """Connect any client that takes and receives bytes."""
        end.frame = self._frame
        self._ends.append((end, self._transport(self.loop, self.front.protocol())))

    def at(self, address: str) -> Server:
        """The newest connection to one address of the model server."""
        return next(server for server in reversed(self.servers) if server.address == address)

    def transport(self, end: Any) -> Transport:
        return next(transport for one, transport in self._ends if one is end)

    def wire(self, end: Any) -> Any:
        """The relay's protocol towards an end."""
        return self.transport(end)._protocol

    @property
    def server(self) -> Server:
        """The model server's newest connection."""
        return self.servers[-1]

    @property
    def tap(self) -> list[Tapped]:
        """Every call that reached the model server, in order."""
        return [call for server in self.servers for call in server.calls]

    def settle(self) -> None:
        """Let bytes flow both ways, and the loop turn, until everything rests."""
        busy = True
        while busy:
            busy = self.loop.turn()
            for end, transport in list(self._ends):
                busy = self._exchange(end, transport) or busy

    def _exchange(self, end: Any, transport: Transport) -> bool:
        busy = False
        if data := transport.take():
            busy = True
            if not end.gone:
                end.receive(data)
        if data := end.take():
            busy = True
            for piece in (self._cut_back if isinstance(end, Server) else self._cut)(data):
                transport.feed(piece)
                self.loop.turn()
        if (transport.closed or transport.ended) and not end.gone and not transport.wrote:
            busy = end.gone = True
            if not end.mute:
                transport.eof()
        return busy

    def advance(self, seconds: float) -> None:
        """Move the clock, timers firing on the way, and settle."""
        until = self.loop.now + seconds
        self.settle()
        while self.loop.step(until):
            self.settle()
        self.settle()

    def lose(self, end: Any) -> None:
        """The end's connection breaks."""
        self.transport(end).cut(ConnectionResetError())
        end.gone = True
        self.settle()

    def call(self, shape: str = "unary", *metadata: tuple[bytes, bytes], end: bool = False) -> Call:
        return self.client.call(SHAPES[shape].path.encode(), *metadata, end=end)

    @property
    def open(self) -> int:
        """Exchanges that something still holds, without help from the cycle collector."""
        earlier = {id(exchange) for exchange in self._earlier}
        return sum(id(exchange) not in earlier for exchange in _young())

    def rests(self) -> None:
        """Nothing of any call is left. Raises AssertionError."""
        self.settle()
        assert self.relay._buffered == 0, self.relay._buffered
        admission = self.relay.admission
        assert (admission.open, admission.reserved, admission.concurrency.waiting) == (0, 0, 0)
        assert all(wire.held == 0 for wire in self.front._wires)
        assert not self.pool._waiting
        assert not any(self.relay.deadlines._slots.values())
        for _, transport in self._ends:
            wire = transport._protocol
            connection = wire.connection  # type: ignore[attr-defined]
            if connection is None or wire.closing:  # type: ignore[attr-defined]
                continue
            assert connection.fault is None, connection.fault
            assert connection.slots == 0, (wire, connection.slots)
            assert not connection.streams, (wire, connection.streams)
            assert not connection._blocked
        if self.faults:
            gc.collect(0)  # a hook's frame that holds the exception it raised is a cycle of its own making
        assert not self.open, f"{self.open} exchanges are left"

    def __enter__(self) -> World:
        gc.disable()
        self._earlier = _young()  # a failed test's, whose frames are kept for its report
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.rests()
        finally:
            gc.enable()
            for task in self.pool.tasks:
                task.cancel()
            self.loop.turn()


def _young() -> list[Exchange]:
    """Exchanges made since the collector last ran; compiled ones let nobody else watch them."""
    return [found for generation in (0, 1) for found in gc.get_objects(generation) if type(found) is Exchange]


def peer_wire(world: World) -> FrontWire:
    wire = world.wire(world.client)
    assert isinstance(wire, FrontWire)
    return wire
