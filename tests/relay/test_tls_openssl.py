"""Our server end against the openssl program, over a socket: an implementation that is not Python's."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sidecar.relay.tls import ServerTls
from sidecar.relay.tls_errors import TlsError
from tests.parts import require
from tests.relay.tls_pair import NOW, SPIFFE, Pki

DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    require(shutil.which("openssl") is not None, "the openssl program is missing: apt-get install openssl")
    return Pki(tmp_path_factory.mktemp("pki"))


@dataclass
class Seen:
    """refused: reasons, in order.  uris: of the clients let in.  closed: how many said so before they went."""

    refused: list[str] = field(default_factory=list)
    uris: list[tuple[str, ...]] = field(default_factory=list)
    closed: int = 0


class Echo(asyncio.Protocol):
    """Answers what it reads, and closes after "bye"."""

    def __init__(self, tls: ServerTls, seen: Seen) -> None:
        self.channel = tls.channel(NOW.timestamp())
        self.seen = seen

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        before = self.channel.handshaken
        try:
            text = self.channel.receive(data)
        except TlsError as error:
            self.seen.refused.append(error.reason)
            self.transport.write(self.channel.pending())
            self.transport.close()
            return
        if not before:
            self.transport.write(self.channel.pending())
        if self.channel.handshaken and not before:
            certificate = self.channel.certificate
            self.seen.uris.append(certificate.uris if certificate else ())
        if text:
            self.transport.write(self.channel.send(text))
        if self.channel.closed:
            self.seen.closed += 1
        if b"bye" in text:
            self.transport.write(self.channel.close())
            self.transport.close()


def against(tls: ServerTls, talk: Callable[[str], Awaitable[str]]) -> tuple[str, Seen]:
    """Listen, let `talk` connect to the address it is given, and tell what it printed and what we saw."""

    async def run() -> tuple[str, Seen]:
        seen = Seen()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Echo(tls, seen), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await asyncio.wait_for(talk(f"127.0.0.1:{port}"), DEADLINE_S), seen

    return asyncio.run(run())


Lines = tuple[tuple[str, str], ...]


def s_client(
    pki: Pki, *options: str, pair: tuple[Path, Path] | None, say: Lines = (("bye", ""),)
) -> Callable[[str], Awaitable[str]]:
    """openssl s_client.  say: lines, each with what must be printed before the next; one by one, for a command
    letter counts only where it begins what was read.
    """

    async def talk(address: str) -> str:
        command = ["openssl", "s_client", "-connect", address, "-CAfile", str(pki.ca), "-verify_return_error"]
        command += ["-servername", "localhost", *(["-cert", str(pair[0]), "-key", str(pair[1])] if pair else [])]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, *options, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )
        assert process.stdin is not None
        assert process.stdout is not None
        printed = ""
        try:
            for line, awaited in say:
                process.stdin.write(line.encode() + b"\n")
                more, seen = b"-", len(printed)
                while more and awaited not in printed[seen:]:
                    printed += (more := await process.stdout.read(65536)).decode(errors="replace")
            printed += (await process.stdout.read()).decode(errors="replace")
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return printed

    return talk


def test_it_gets_through_and_back(pki: Pki) -> None:
    printed, seen = against(
        pki.server_tls(), s_client(pki, "-alpn", "h2", pair=pki.client, say=(("hello", "hello"), ("bye", "")))
    )
    assert seen == Seen(uris=[(SPIFFE,)])
    assert "New, TLSv1.3" in printed
    assert "ALPN protocol: h2" in printed
    assert "Verify return code: 0 (ok)" in printed
    assert "New Session Ticket" not in printed
    assert "hello" in printed


def test_keys_change_on_an_open_connection(pki: Pki) -> None:
    """K: a KeyUpdate that asks for ours."""
    say = (("one", "one"), ("K", "KEYUPDATE"), ("between", "between"), ("K", "KEYUPDATE"), ("bye", ""))
    talk = s_client(pki, "-alpn", "h2", pair=pki.client, say=say)
    printed, seen = against(pki.server_tls(), talk)
    assert printed.count("KEYUPDATE") == 2
    assert "between" in printed
    assert seen.refused == []


def test_a_peer_that_does_nothing_but_change_keys_is_cut(pki: Pki) -> None:
    """Each K has us answer, and what answers wait for something to be sent must not fill our memory."""
    say = (("hello", "hello"), *((("K", "KEYUPDATE"),) * 200))
    _, seen = against(pki.server_tls(), s_client(pki, "-alpn", "h2", pair=pki.client, say=say))
    assert seen.refused == ["tls.key_updates"]


@pytest.mark.parametrize(
    ("options", "reason", "alert"),
    [
        (("-alpn", "h2", "-tls1_2"), "tls.version", "alert protocol version"),
        (("-alpn", "h2", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), "tls.version", "alert protocol version"),
        ((), "tls.no_alpn", "alert no application protocol"),
        (("-alpn", "http/1.1"), "tls.no_alpn", "alert no application protocol"),
        (("-alpn", "h2", "-ciphersuites", "TLS_AES_128_CCM_8_SHA256"), "tls.handshake", "alert handshake failure"),
    ],
)
def test_it_hears_why_its_protocol_is_refused(pki: Pki, options: tuple[str, ...], reason: str, alert: str) -> None:
    printed, seen = against(pki.server_tls(), s_client(pki, *options, pair=pki.client))
    assert seen == Seen(refused=[reason])
    assert alert in printed


def test_it_hears_that_a_certificate_is_required(pki: Pki) -> None:
    printed, seen = against(pki.server_tls(), s_client(pki, "-alpn", "h2", pair=None, say=()))
    assert seen == Seen(refused=["tls.no_certificate"])
    assert "alert certificate required" in printed


def test_a_session_that_openssl_gave_is_not_resumed(pki: Pki, tmp_path: Path) -> None:
    """A session of `openssl s_server` with the same certificate, which does resume it, is offered to us."""
    file = tmp_path / "session.pem"

    async def talk(address: str) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            other = f"127.0.0.1:{free.getsockname()[1]}"
        certificate, key = map(str, pki.server)
        command = ["s_server", "-accept", other, "-cert", certificate, "-key", key, "-alpn", "h2", "-rev"]
        command += ["-CAfile", str(pki.ca), "-Verify", "1"]
        null = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec("openssl", *command, stdin=null, stdout=null, stderr=null)
        try:
            await listening(other)
            say = (("hello", "olleh"), ("Q", ""))
            give = s_client(pki, "-alpn", "h2", "-sess_out", str(file), pair=pki.client, say=say)
            take = s_client(pki, "-alpn", "h2", "-sess_in", str(file), pair=pki.client, say=say)
            await give(other)
            assert "Reused, TLSv1.3" in await take(other)
        finally:
            process.kill()
            await process.wait()
        return await s_client(pki, "-alpn", "h2", "-sess_in", str(file), pair=pki.client)(address)

    printed, seen = against(pki.server_tls(), talk)
    assert seen == Seen(uris=[(SPIFFE,)])
    assert "New, TLSv1.3" in printed
    assert "Reused" not in printed


async def listening(address: str) -> None:
    host, port = address.split(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
            continue
        writer.close()
        return


def test_it_hears_our_close(pki: Pki) -> None:
    printed, _ = against(pki.server_tls(), s_client(pki, "-alpn", "h2", "-msg", pair=pki.client))
    assert "warning close_notify" in printed
