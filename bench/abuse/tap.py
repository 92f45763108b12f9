"""A model server that counts what reaches it: `python -m bench.abuse.tap`. It prints two ports: gRPC's, and its own.

Whoever connects to its own port names what it is to be (a name of `hostile.MODES`, or "honest"; nothing leaves it as
it is) and is told, as JSON, what has come since the last time. Its HTTP/2 is its own and knows only what our relay
sends: header blocks without a table, so that paths can be found in them.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections import OrderedDict
from typing import Any, ClassVar

from bench.abuse import hostile
from bench.abuse.peer import LARGE, SLOW, data, frame
from sidecar.relay.http2 import frames
from sidecar.relay.http2.blocks import encode

HONEST = "honest"
BYSTANDER = "/honest.Model/Call"
ANSWER = b"\0\0\0\0\x02ok"
HEAD = encode(((b":status", b"200"), (b"content-type", b"application/grpc")))
TRAILERS = encode(((b"grpc-status", b"0"),))
SLOW_S = 0.1
MUCH = b"\0" + struct.pack(">L", 900_000) + bytes(900_000)
ATTACKED = (b"/abuse.", b"/inference.")  # paths that none but attackers call
REFUSED_PATHS = (b"/abuse.Refused/", b"/inference.")


class Counts:
    """What has come to all connections. most: calls of attackers in flight at once.  refused: of requests that the
    sidecar was to refuse, streams and bytes.
    """

    def __init__(self) -> None:
        self.open = 0
        self.clear()

    def clear(self) -> None:
        self.connections = self.calls = self.honest = self.resets = self.refused_streams = self.refused_bytes = 0
        self.most = self.open

    def told(self) -> str:
        found = json.dumps({name: value for name, value in vars(self).items() if isinstance(value, int)})
        self.clear()
        return found


class Tap(asyncio.Protocol):
    """One connection of the sidecar's."""

    counts: ClassVar = Counts()
    character: ClassVar = HONEST
    connections: ClassVar[set[Tap]] = set()

    def __init__(self) -> None:
        self._tail = b""
        self._opened = False
        self._blocks: dict[int, bytes] = {}  # of streams that are open
        self._attackers: set[int] = set()  # streams
        self._refused: set[int] = set()
        self.window = frames.DEFAULT_WINDOW  # of the connection
        self._initial = frames.DEFAULT_WINDOW  # of a stream
        self._windows: dict[int, int] = {}  # of streams that are open
        self.unread = 0  # bytes of DATA whose window is not given back
        self._left: OrderedDict[int, memoryview] = OrderedDict()  # of answers, by stream, but for
        self._held: dict[int, memoryview] = {}  # those whose own window is used up
        self._paused = False
        self.hostile = hostile.MODES.get(self.character)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.counts.connections += 1
        self.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        self.counts.open -= len(self._attackers)
        self._attackers.clear()

    def send(self, *octets: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"".join(octets))

    def data_received(self, received: bytes) -> None:
        octets = self._tail + received
        at = 0
        if not self._opened:
            if len(octets) < len(frames.PREFACE):
                self._tail = octets
                return
            at, self._opened = len(frames.PREFACE), True
            (self.hostile.greet if self.hostile is not None else greet)(self)
        while len(octets) - at >= frames.HEADER_LENGTH:
            word, flags, number = frames.HEADER.unpack_from(octets, at)
            end = at + frames.HEADER_LENGTH + (word >> 8)
            if end > len(octets):
                break
            self._on_frame(word & 0xFF, flags, number, octets[at + frames.HEADER_LENGTH : end])
            at = end
        self._tail = octets[at:]

    def _on_frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind in (frames.HEADERS, frames.CONTINUATION):
            self._blocks[number] = self._blocks.get(number, b"") + payload
            if flags & frames.END_HEADERS:
                self._opened_stream(number, self._blocks[number])
        elif kind == frames.DATA:
            self._on_data(number, payload)
        elif kind == frames.RST_STREAM:
            self.counts.resets += 1
            self.closed(number)
        elif kind == frames.WINDOW_UPDATE:
            self._on_window_update(number, frames.U32.unpack(payload)[0])
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            # They come once, before any stream.
            self._initial = dict(frames.SETTING.iter_unpack(payload)).get(frames.INITIAL_WINDOW_SIZE, self._initial)
            self.send(frames.SETTINGS_ACK)
        elif kind == frames.PING and not flags & frames.ACK:
            self.send(frames.ping(payload, True))
        if kind in (frames.HEADERS, frames.DATA) and flags & frames.END_STREAM and number in self._blocks:
            (self.hostile.answer if self.hostile is not None else answer)(self, number)

    def path(self, number: int, path: str) -> bool:
        """Whether a stream's call is of this path."""
        return path.encode() in self._blocks.get(number, b"")

    def _on_window_update(self, number: int, increment: int) -> None:
        if not number:
            self.window += increment
        elif number in self._windows:
            self._windows[number] += increment
            if number in self._held:
                self._left[number] = self._held.pop(number)
        self._flow()

    def _opened_stream(self, number: int, block: bytes) -> None:
        self._windows[number] = self._initial
        if not any(path in block for path in ATTACKED):
            self.counts.honest += 1
            return
        self.counts.calls += 1
        self.counts.open += 1
        self.counts.most = max(self.counts.most, self.counts.open)
        self._attackers.add(number)
        if any(path in block for path in REFUSED_PATHS):
            self._refused.add(number)
            self.counts.refused_streams += 1

    def _on_data(self, number: int, payload: bytes) -> None:
        if number in self._refused:
            self.counts.refused_bytes += len(payload)
        self.unread += len(payload)
        if self.unread > 16_384:
            self.send(frames.window_update(0, self.unread))
            self.unread = 0

    def closed(self, number: int) -> None:
        self._blocks.pop(number, None)
        self._left.pop(number, None)
        self._held.pop(number, None)
        self._windows.pop(number, None)
        self._refused.discard(number)
        if number in self._attackers:
            self._attackers.remove(number)
            self.counts.open -= 1

    def finish(self, number: int, message: bytes = ANSWER) -> None:
        """Answer, as far as windows allow; not once the stream is closed."""
        if number in self._blocks:
            self._blocks.pop(number)
            self._left[number] = memoryview(message)
            self.send(frame(frames.HEADERS, frames.END_HEADERS, number, HEAD))
            self._flow()

    def _flow(self) -> None:
        """Send a frame of each answer in turn, while the window lasts and what was sent is taken."""
        while self._left and not self._paused:
            number, left = self._left.popitem(last=False)
            piece = left[: min(frames.DEFAULT_FRAME, self._windows[number])]
            if not piece:
                self._held[number] = left
                continue
            if len(piece) > self.window:
                self._left[number] = left
                self._left.move_to_end(number, last=False)
                return
            self.window -= len(piece)
            self._windows[number] -= len(piece)
            self.send(data(number, bytes(piece)))
            if len(left) > len(piece):
                self._left[number] = left[len(piece) :]
            else:
                self.closed(number)
                self.send(frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, number, TRAILERS))

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flow()


def greet(tap: Tap) -> None:
    tap.send(frames.settings([(frames.INITIAL_WINDOW_SIZE, frames.MAX_WINDOW)]))
    tap.send(frames.window_update(0, frames.MAX_WINDOW - frames.DEFAULT_WINDOW))


def answer(tap: Tap, number: int) -> None:
    if tap.path(number, SLOW):
        asyncio.get_running_loop().call_later(SLOW_S, tap.finish, number)
    else:
        tap.finish(number, MUCH if tap.path(number, LARGE) else ANSWER)


async def _control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    name = (await reader.readline()).decode().strip()
    if name:
        Tap.character = name
        for tap in list(Tap.connections):
            tap.transport.abort()
    writer.write(Tap.counts.told().encode())
    writer.close()


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Tap, "127.0.0.1", 0)
    control = await asyncio.start_server(_control, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], control.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
