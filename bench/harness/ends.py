"""Both ends of the relay on our own HTTP/2 core: cheap enough that thousands of messages a second come from one core.

A model server whose answers its callers can check, which `python -m bench.harness.ends` runs on a port that it prints,
and a client with a few connections. TLS is asyncio's.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Final, cast

from sidecar.relay.http2.blocks import encode
from sidecar.relay.http2.connection import ClientConnection, ServerConnection
from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.fields import RequestHead, ResponseHead, TrailerBlock
from sidecar.relay.http2.limits import Limits, Rate
from sidecar.relay.http2.streams import ENDED, Stream

SERVICE: Final = b"/bench.Soak/"
# A load tool is no victim: what it takes is bounded by what it asks for.
WIDE: Final = Limits(
    concurrent_streams=10_000,
    connection_window=1 << 30,
    resets=Rate(1e6, 1_000_000),
    refusals=Rate(1e6, 1_000_000),
    window_updates=Rate(1e6, 1_000_000),
)
HEAD: Final = encode(((b":status", b"200"), (b"content-type", b"application/grpc")))
OK: Final = encode(((b"grpc-status", b"0"),))
LOST: Final = -1  # the status of a call whose connection went, or that was reset


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


class Wire(asyncio.Protocol):
    """A transport and its HTTP/2 connection; what is to be sent leaves once an event loop turn."""

    def __init__(self, connection: ServerConnection | ClientConnection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._dirty = self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connection.send_preface()
        self.touch()

    def data_received(self, data: bytes) -> None:
        self._connection.receive(data, time.monotonic())
        self.touch()

    def touch(self) -> None:
        """There is something to send, perhaps."""
        if not self._dirty:
            self._dirty = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._dirty = False
        if self._transport is None or self._paused:
            return
        self._transport.writelines(self._connection.take())
        if self._connection.stalled:
            self._connection.pump()
            if self._connection.pending:
                self.touch()
        if self._connection.fault is not None:
            self.close()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.touch()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection, without a word."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connection.lost("connection lost")
        self.gone.set_result(None)


class ServerWire(Wire):
    """One connection of the model server."""

    def __init__(self) -> None:
        self.connection = ServerConnection(WIDE, self._accept, lambda fault: None)
        super().__init__(self.connection)

    def _accept(self, stream: Stream, head: RequestHead, end: bool) -> None:
        owner = SERVED[(head.path or b"").removeprefix(SERVICE)](self, stream)
        stream.owner = owner
        if end:
            owner.on_data(b"", True)


class Served:
    """A call at the model server. It answers as its subclass says, once it has the whole request."""

    def __init__(self, wire: ServerWire, stream: Stream) -> None:
        self.wire, self.stream = wire, stream
        self.body: list[bytes] = []

    def answer(self, body: bytes) -> None:
        raise NotImplementedError

    def say(self, payload: bytes) -> None:
        if self.stream.send < ENDED:
            self.wire.connection.send_data(self.stream, payload, False)

    def on_head(self, head: RequestHead | ResponseHead, end: bool) -> None:
        raise AssertionError("a request has one head")

    def on_trailers(self, trailers: TrailerBlock) -> None:
        raise AssertionError("a request has no trailers")

    def on_data(self, payload: bytes, end: bool) -> None:
        self.body.append(payload)
        self.wire.connection.consume(self.stream, len(payload))
        if end:
            self.wire.connection.send_head(self.stream, HEAD, False)
            self.answer(b"".join(self.body))
            self.wire.connection.send_head(self.stream, OK, True)
            self.release()
        self.wire.touch()

    def on_view(self, payload: memoryview) -> None:
        self.on_data(bytes(payload), False)

    def release(self) -> None:
        self.wire.connection.release(self.stream)
        self.stream.owner = None

    def on_reset(self, code: int, reason: str) -> None:
        self.release()

    def on_refused(self) -> None:
        self.release()

    def on_sent(self, count: int) -> None:
        pass


class Same(Served):
    """The request, whole: of one message or many."""

    def answer(self, body: bytes) -> None:
        self.say(body)


class Many(Served):
    """The request's message as often as its first four bytes say."""

    def answer(self, body: bytes) -> None:
        for _ in range(int.from_bytes(body[5:9], "big")):
            self.say(body)


class Last(Served):
    """The last message of many."""

    def answer(self, body: bytes) -> None:
        at = 0
        while (following := at + 5 + int.from_bytes(body[at + 1 : at + 5], "big")) < len(body):
            at = following
        self.say(body[at:])


class Echo(Served):
    """Each payload at once."""

    def __init__(self, wire: ServerWire, stream: Stream) -> None:
        super().__init__(wire, stream)
        wire.connection.send_head(stream, HEAD, False)

    def on_data(self, payload: bytes, end: bool) -> None:
        self.say(payload)
        self.wire.connection.consume(self.stream, len(payload))
        if end:
            self.wire.connection.send_head(self.stream, OK, True)
            self.release()
        self.wire.touch()


class Never(Served):
    """No answer: what calls it has a deadline."""

    def on_data(self, payload: bytes, end: bool) -> None:
        self.wire.connection.consume(self.stream, len(payload))


SERVED: Final[dict[bytes, type[Served]]] = {
    b"Same": Same, b"Many": Many, b"Last": Last, b"Echo": Echo, b"Never": Never
}  # fmt: skip


class ClientWire(Wire):
    """One connection of a client; `up` is done once it may be used."""

    def __init__(self) -> None:
        self.connection = ClientConnection(WIDE)
        super().__init__(self.connection)
        self.up: asyncio.Future[None] = self._loop.create_future()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.connection.settled and not self.up.done():
            self.up.set_result(None)


class Called:
    """A call at the client. status: of gRPC, or LOST; None while it is open.  done: told once it is over."""

    def __init__(self, wire: ClientWire, done: Callable[[Called], None]) -> None:
        self.wire = wire
        self.status: int | None = None
        self.body: list[bytes] = []
        self.began = time.monotonic()
        self._done = done
        self.stream: Stream | None = None

    def send(self, payload: bytes, end: bool) -> None:
        """Nothing, where the stream is gone or ended."""
        if self.status is None and self.stream is not None:
            self.wire.connection.send_data(self.stream, payload, end)
            self.wire.touch()

    def cancel(self) -> None:
        if self.status is None and self.stream is not None:
            self.wire.connection.reset(self.stream, ErrorCode.CANCEL)
            self._over(LOST)

    def on_head(self, head: RequestHead | ResponseHead, end: bool) -> None:
        if end:
            self._ended(head)

    def on_trailers(self, trailers: TrailerBlock) -> None:
        self._ended(trailers)

    def on_data(self, payload: bytes, end: bool) -> None:
        self.take(payload)
        assert self.stream is not None
        self.wire.connection.consume(self.stream, len(payload))
        self.wire.touch()
        if end:
            self._over(LOST)

    def on_view(self, payload: memoryview) -> None:
        self.on_data(bytes(payload), False)

    def take(self, payload: bytes) -> None:
        self.body.append(payload)

    def _ended(self, block: RequestHead | ResponseHead | TrailerBlock) -> None:
        self._over(int(dict(block.fields)[b"grpc-status"]))

    def on_reset(self, code: int, reason: str) -> None:
        self._over(LOST)

    def on_refused(self) -> None:
        self._over(LOST)

    def on_sent(self, count: int) -> None:
        pass

    def _over(self, status: int) -> None:
        if self.status is not None or self.stream is None:
            return
        self.status = status
        if self.stream.send < ENDED:
            self.wire.connection.reset(self.stream, ErrorCode.CANCEL)
        self.wire.connection.release(self.stream)
        self.stream.owner = None
        self.wire.touch()
        self._done(self)


class Client:
    """Connections to one address.  context: of TLS; None for plaintext."""

    def __init__(self, port: int, context: ssl.SSLContext | None) -> None:
        self._port, self._context = port, context
        self.wires: list[ClientWire] = []

    async def connect(self, count: int) -> None:
        """So many more connections, up. Raises OSError or ssl.SSLError."""
        for _ in range(count):
            _, wire = await asyncio.get_running_loop().create_connection(
                ClientWire,
                "127.0.0.1",
                self._port,
                ssl=self._context,
                server_hostname=None if self._context is None else "localhost",
            )
            await asyncio.wait_for(wire.up, 30.0)
            self.wires.append(wire)

    def open(self, called: Called, method: bytes, fields: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """Open a call's stream on its wire."""
        block = encode(
            (
                (b":method", b"POST"),
                (b":scheme", b"http" if self._context is None else b"https"),
                (b":path", SERVICE + method),
                (b":authority", b"localhost"),
                (b"te", b"trailers"),
                (b"content-type", b"application/grpc"),
                *fields,
            )
        )
        called.stream = called.wire.connection.open(called, block, False)
        called.wire.touch()

    async def close(self) -> None:
        for wire in self.wires:
            wire.abort()
            await wire.gone


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(ServerWire, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
