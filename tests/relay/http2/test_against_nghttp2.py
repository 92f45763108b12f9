"""Our two sides against nghttp2's programs over loopback: a client, a load maker, and a proxy between both."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from sidecar.relay.http2 import frames
from sidecar.relay.http2.blocks import encode
from sidecar.relay.http2.connection import ClientConnection, Connection, ServerConnection
from sidecar.relay.http2.fields import RequestHead, ResponseHead, TrailerBlock
from sidecar.relay.http2.limits import Limits
from sidecar.relay.http2.streams import Stream
from tests.parts import require
from tests.processes import Process

HEAD = encode(((b":status", b"200"), (b"content-type", b"application/octet-stream")))
TAIL = encode(((b"x-trailer", b"told"),))
_DEADLINE_S = 30.0


class _Link(asyncio.Protocol):
    """A transport and a connection; sends at once what there is to send."""

    connection: Connection

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(64 << 10)
        self.connection.send_preface()
        self.flush()

    def data_received(self, octets: bytes) -> None:
        self.connection.receive(octets, asyncio.get_running_loop().time())
        self.flush()

    def flush(self) -> None:
        while not self.paused and self.transport is not None and (self.connection.pending or self.connection.stalled):
            self.transport.write(b"".join(self.connection.take()))
            self.connection.pump()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.connection.lost("closed")


class _Echo:
    """Answers each DATA with itself, giving window back as it leaves, and ends with trailers."""

    def __init__(self, connection: Connection, stream: Stream) -> None:
        self.connection = connection
        self.stream = stream
        stream.owner = self
        connection.send_head(stream, HEAD, False)

    def on_head(self, head: RequestHead | ResponseHead, end: bool) -> None: ...

    def on_data(self, payload: bytes, end: bool) -> None:
        if self.connection.send_data(self.stream, payload, False):
            self.connection.consume(self.stream, len(payload))
        if end:
            self.finish()

    def on_view(self, payload: memoryview) -> None:
        self.on_data(bytes(payload), False)

    def on_trailers(self, trailers: TrailerBlock) -> None:
        self.finish()

    def finish(self) -> None:
        self.connection.send_head(self.stream, TAIL, True)
        self.connection.release(self.stream)

    def on_reset(self, code: int, reason: str) -> None:
        self.connection.release(self.stream)

    def on_refused(self) -> None:
        self.connection.release(self.stream)

    def on_sent(self, count: int) -> None:
        self.connection.consume(self.stream, min(count, self.stream.held))


class _EchoLink(_Link):
    def __init__(self, found: list[ServerConnection]) -> None:
        super().__init__()
        self.connection = ServerConnection(Limits(), self.accept, lambda fault: None)
        found.append(self.connection)

    def accept(self, stream: Stream, head: RequestHead, end: bool) -> None:
        echo = _Echo(self.connection, stream)
        if end:
            echo.finish()


@asynccontextmanager
async def _echo_server() -> AsyncIterator[tuple[int, list[ServerConnection]]]:
    found: list[ServerConnection] = []
    server = await asyncio.get_running_loop().create_server(lambda: _EchoLink(found), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], found


async def _run(*command: str) -> str:
    child = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(child.communicate(), _DEADLINE_S)
    assert child.returncode == 0, output.decode(errors="replace")
    return output.decode(errors="replace")


def _in_order(found: list[ServerConnection]) -> None:
    assert found
    for connection in found:
        assert connection.fault is None, connection.fault
        assert connection.slots == 0
        assert connection._window + connection._unreturned == Limits().connection_window


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_nghttp_hears_what_it_said(tmp_path: Path, size: int) -> None:
    require(shutil.which("nghttp") is not None, "nghttp is not installed (Debian: nghttp2-client)")
    body, heard = tmp_path / "body", tmp_path / "heard"
    body.write_bytes(bytes(number * 7 & 0xFF for number in range(1000)) * (size // 1000) + bytes(size % 1000))

    async def run() -> None:
        async with _echo_server() as (port, found):
            url = f"http://127.0.0.1:{port}/a.B/C"
            said = await _run("nghttp", "--no-dep", "-v", "-d", str(body), "--trailer", "x-mine: told", "-w12", url)
            assert "x-trailer: told" in said
            assert "Content-Length" not in said
            assert "RST_STREAM" not in said
            with heard.open("wb") as output:
                quiet = await asyncio.create_subprocess_exec("nghttp", "-d", str(body), url, stdout=output)
                assert await asyncio.wait_for(quiet.wait(), _DEADLINE_S) == 0
            assert heard.read_bytes() == body.read_bytes()
            _in_order(found)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("size", "options"),
    [(1, ()), (1_000, ()), (50_000, ("-w", "14", "-W", "15")), (200_000, ("-w", "30", "-W", "30"))],
)
def test_h2load_gets_every_answer(tmp_path: Path, size: int, options: tuple[str, ...]) -> None:
    require(shutil.which("h2load") is not None, "h2load is not installed (Debian: nghttp2-client)")
    body = tmp_path / "body"
    body.write_bytes(bytes(size))

    async def run() -> None:
        async with _echo_server() as (port, found):
            said = await _run(
                "h2load", "-n400", "-c4", "-m50", *options, "-d", str(body), f"http://127.0.0.1:{port}/a.B/C"
            )
            assert "400 succeeded, 0 failed, 0 errored, 0 timeout" in said
            match = re.search(r"\((\d+)\) data", said)
            assert match is not None
            assert int(match[1]) == 400 * size
            _in_order(found)

    asyncio.run(run())


class _Asker:
    """Sends a body and keeps what comes back."""

    def __init__(self, link: _Link, body: bytes, done: asyncio.Future[None]) -> None:
        assert isinstance(link.connection, ClientConnection)
        self.link, self.done = link, done
        self.connection = link.connection
        self.status, self.heard, self.trailers = 0, b"", cast(Any, None)
        fields = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C"), (b":authority", b"localhost"))
        self.stream = self.connection.open(self, encode(fields), False)
        self.connection.send_data(self.stream, body, True)
        link.flush()

    def on_head(self, head: RequestHead | ResponseHead, end: bool) -> None:
        assert isinstance(head, ResponseHead)
        self.status = head.status
        if end:
            self._end()

    def on_data(self, payload: bytes, end: bool) -> None:
        self.heard += payload
        self.connection.consume(self.stream, len(payload))
        if end:
            self._end()

    def on_view(self, payload: memoryview) -> None:
        self.on_data(bytes(payload), False)

    def on_trailers(self, trailers: TrailerBlock) -> None:
        self.trailers = trailers.fields
        self._end()

    def _end(self) -> None:
        self.connection.release(self.stream)
        self.done.set_result(None)

    def on_reset(self, code: int, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"{code} {reason}"))

    def on_refused(self) -> None:
        self.on_reset(7, "refused")

    def on_sent(self, count: int) -> None: ...


class _ClientLink(_Link):
    def __init__(self) -> None:
        super().__init__()
        self.connection = ClientConnection(Limits())


def test_both_our_sides_with_nghttpx_between() -> None:
    require(shutil.which("nghttpx") is not None, "nghttpx is not installed (Debian: nghttp2-proxy)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        front = probe.getsockname()[1]

    async def run() -> None:
        loop = asyncio.get_running_loop()
        async with _echo_server() as (port, found):
            command = [
                "nghttpx", f"-f127.0.0.1,{front};no-tls", f"-b127.0.0.1,{port};;proto=h2", "--workers=1",
                "--log-level=NOTICE", "--errorlog-file=/dev/stderr", "--accesslog-file=/dev/null", "--conf=/dev/null",
            ]  # fmt: skip
            with Process(command) as proxy:
                await loop.run_in_executor(None, lambda: proxy.wait_line(lambda line: f"127.0.0.1:{front}" in line))
                _, link = await loop.create_connection(_ClientLink, "127.0.0.1", front)
                bodies = [
                    bytes((number & 0xFF,)) * size for number, size in enumerate((0, 1, 9, 65_535, 65_536, 500_000))
                ]
                askers = [_Asker(link, body, loop.create_future()) for body in bodies * 3]
                await asyncio.wait_for(asyncio.gather(*(asker.done for asker in askers)), _DEADLINE_S)
                for asker, body in zip(askers, bodies * 3, strict=True):
                    assert (asker.status, asker.heard == body, asker.trailers) == (
                        200,
                        True,
                        ((b"x-trailer", b"told"),),
                    )
                assert link.connection.fault is None
                assert link.connection.slots == 0
                assert link.connection.streams == {}
                assert link.transport is not None
                link.transport.close()
            assert all(connection.fault is None for connection in found)

    asyncio.run(run())


def test_the_preface_is_not_for_others() -> None:
    """An HTTP/1.1 client gets GOAWAY, not silence."""

    async def run() -> None:
        async with _echo_server() as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            octets = b""
            while octets[-60:].find(b"preface") < 0:
                octets += await asyncio.wait_for(reader.read(1000), _DEADLINE_S)
            assert octets.count(frames.goaway(0, 1, b"not an HTTP/2 connection preface")) == 1
            writer.close()
            await writer.wait_closed()

    asyncio.run(run())
