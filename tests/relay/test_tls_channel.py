"""Bytes through a channel, cut anywhere."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.abuse import keyupdate
from sidecar.relay.tls_channel import GROUP, RECORD, SILENT, SLICE, SPOKEN, TlsChannel
from sidecar.relay.tls_errors import TlsBroken, TlsError, TlsRefused
from tests.relay.tls_pair import NOW, Ended, Pki, connected, shake

quick = settings(max_examples=40, deadline=None)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def pair(pki: Pki) -> tuple[TlsChannel, TlsChannel]:
    return connected(pki)


def feed(channel: TlsChannel, data: bytes, cuts: list[int]) -> bytes:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return b"".join(channel.receive(data[start:end]) for start, end in itertools.pairwise(edges))


@quick
@given(cut=st.integers(1, 2000))
def test_a_handshake_cut_anywhere_ends_alike(pki: Pki, cut: int) -> None:
    client, server = pki.client_tls().channel(), pki.server_tls().channel(NOW.timestamp())
    assert shake(client, server, cut=cut) == Ended(None, None)
    assert client.handshaken
    assert server.handshaken
    assert client.alpn == server.alpn == "h2"


def test_a_large_certificate_is_no_flood(pki: Pki) -> None:
    pair = pki.write("large", pki.leaf(dns=[f"host-{number}.example.org" for number in range(400)]))
    client, server = pki.client_tls(pair).channel(), pki.server_tls().channel(NOW.timestamp())
    assert shake(client, server) == Ended(None, None)
    assert server.certificate is not None
    assert len(server.certificate.dns) == 400


@quick
@given(
    messages=st.lists(st.one_of(st.binary(max_size=50), st.integers(0, 3 * RECORD).map(bytes)), max_size=8),
    cuts=st.lists(st.integers(0, 1 << 20), max_size=12),
    upwards=st.booleans(),
)
def test_plaintext_arrives_as_sent_however_the_stream_was_cut(
    pki: Pki, messages: list[bytes], cuts: list[int], upwards: bool
) -> None:
    client, server = connected(pki)
    sender, receiver = (client, server) if upwards else (server, client)
    sealed = b"".join(sender.send(message) for message in messages)
    assert feed(receiver, sealed + sender.close(), cuts) == b"".join(messages)
    assert receiver.closed
    receiver.eof()


@pytest.mark.parametrize("size", [0, 1, RECORD, RECORD + 1, SLICE, SLICE + 1, 3 << 20])
def test_a_message_of_any_size_is_one_send(pair: tuple[TlsChannel, TlsChannel], size: int) -> None:
    client, server = pair
    message = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert server.receive(client.send(memoryview(message))) == message
    assert client.receive(server.send(bytearray(message))) == message


@quick
@given(bit=st.integers(0, 8 * 1000), data=st.binary(min_size=900, max_size=1000))
def test_a_flipped_bit_gives_no_plaintext(pki: Pki, bit: int, data: bytes) -> None:
    client, server = connected(pki)
    sealed = bytearray(client.send(data))
    # The record's header is 5 bytes: a length made longer waits for the rest, and that gives nothing either.
    sealed[bit // 8 % len(sealed)] ^= 1 << bit % 8
    received = []

    def receive() -> None:
        received.append(server.receive(sealed))
        server.eof()

    with pytest.raises(TlsBroken) as caught:
        receive()
    assert not any(received)
    assert caught.value.reason in ("tls.bad_record", "tls.broken", "tls.not_tls", "tls.truncated")


def test_what_came_before_a_close_is_given_out_and_what_follows_is_dropped(
    pair: tuple[TlsChannel, TlsChannel],
) -> None:
    client, server = pair
    stream = client.send(b"last words") + client.close()
    assert server.receive(stream + b"noise") == b"last words"
    assert server.closed
    assert server.receive(b"more noise") == b""
    server.eof()


def test_a_closed_side_still_hears_the_other(pair: tuple[TlsChannel, TlsChannel]) -> None:
    client, server = pair
    assert client.receive(server.close()) == b""
    assert server.close() == b""
    assert server.receive(client.send(b"still here")) == b"still here"
    assert server.receive(client.send(b"goodbye") + client.close()) == b"goodbye"
    assert server.closed
    server.eof()
    with pytest.raises(TlsBroken, match=r"tls\.closed"):
        server.send(b"too late")


def test_an_end_without_close_notify_is_told_from_a_close(pair: tuple[TlsChannel, TlsChannel]) -> None:
    client, server = pair
    server.receive(client.send(b"half a")[:-3])
    with pytest.raises(TlsBroken) as caught:
        server.eof()
    assert caught.value.reason == "tls.truncated"


def test_an_end_during_the_handshake_is_a_refusal(pki: Pki) -> None:
    server = pki.server_tls().channel(NOW.timestamp())
    server.receive(pki.client_tls().channel().start()[:100])
    with pytest.raises(TlsRefused) as caught:
        server.eof()
    assert caught.value.reason == "tls.handshake"


def test_nothing_is_sent_before_the_handshake_has_ended(pki: Pki) -> None:
    client = pki.client_tls().channel()
    client.start()
    with pytest.raises(TlsBroken) as caught:
        client.send(b"early")
    assert caught.value.reason == "tls.not_ready"
    assert client.close() == b""


@pytest.mark.parametrize(
    ("opening", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "tls.not_tls"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "tls.not_tls"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "tls.handshake"),
        (bytes(64), "tls.not_tls"),
    ],
)
def test_what_is_no_client_hello_is_refused(pki: Pki, opening: bytes, reason: str) -> None:
    server = pki.server_tls().channel(NOW.timestamp())
    with pytest.raises(TlsRefused) as caught:
        server.receive(opening)
    assert caught.value.reason == reason


@quick
@given(noise=st.binary(min_size=1, max_size=400))
def test_noise_never_raises_anything_else(pki: Pki, noise: bytes) -> None:
    server = pki.server_tls().channel(NOW.timestamp())
    with suppress(TlsError):
        assert server.receive(b"\x16\x03\x01" + noise) == b""
    assert not server.handshaken
    assert not server.certificate


def test_a_bytes_like_piece_is_as_good_as_bytes(pair: tuple[TlsChannel, TlsChannel]) -> None:
    client, server = pair
    assert server.receive(bytearray(client.send(bytearray(100)))) == bytes(100)
    assert server.receive(memoryview(client.send(memoryview(bytes(100))))) == bytes(100)


def test_files_are_read_once(pki: Pki, tmp_path: Path) -> None:
    other = Pki(tmp_path, seed=2)
    tls, settings_then = other.server_tls(), other.settings()
    for path in (settings_then.certificate, settings_then.key, other.ca):
        path.unlink()
    client = pki.client_tls(ca=pki.ca).channel()
    ended = shake(client, tls.channel(NOW.timestamp()))
    assert ended.client is not None
    assert ended.client.reason == "tls.unknown_ca"


def updating(pki: Pki, asks: bool) -> tuple[keyupdate.Updates, TlsChannel]:
    """A client that updates its keys, and the server it is connected to."""
    secrets: list[Callable[[], keyupdate.Secret]] = []
    client = pki.raw_client(pki.client, configure=lambda context: secrets.append(keyupdate.listen(context)))
    server = pki.server_tls().channel(NOW.timestamp())
    assert shake(client, server) == Ended(None, None)
    return keyupdate.Updates(secrets[0](), asks), server


def together(updates: keyupdate.Updates, count: int) -> bytes:
    return b"".join(itertools.islice(updates, count))


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("step", [1 << 20, 900, 27, 11])
def test_a_flood_of_key_updates_ends_the_connection_soon(pki: Pki, asks: bool, step: int) -> None:
    updates, server = updating(pki, asks)
    octets = together(updates, 20 * GROUP)
    heard = 0
    with suppress(TlsBroken):
        for at in range(0, len(octets), step):
            heard = at
            server.receive(octets[at : at + step])
    assert server.closed
    assert SILENT < server._records <= SILENT + GROUP  # however many came at once
    assert heard < (SILENT + GROUP) * 27
    assert server.receive(octets) == b""


def test_a_flood_that_comes_with_the_end_of_the_handshake_is_one(pki: Pki) -> None:
    secrets: list[Callable[[], keyupdate.Secret]] = []
    client = pki.raw_client(pki.client, configure=lambda context: secrets.append(keyupdate.listen(context)))
    server = pki.server_tls().channel(NOW.timestamp())
    server.receive(client.start())
    client.receive(server.pending())
    last = client.pending()
    octets = last + together(keyupdate.Updates(secrets[0](), False), 20 * GROUP)
    with pytest.raises(TlsBroken, match="records without anything in them"):
        server.receive(octets)
    assert server._records <= SILENT + GROUP


def test_data_between_key_updates_does_not_hide_them(pki: Pki) -> None:
    updates, server = updating(pki, asks=False)
    for _ in range(SILENT):
        assert server.receive(updates.beside(b"x")) == b"x"
    with pytest.raises(TlsBroken, match="101 records without anything in them"):
        server.receive(updates.beside(b"x"))


def test_who_updates_its_keys_now_and_then_is_heard(pki: Pki) -> None:
    """What a thousand records with data make good is forgotten once, not saved up."""
    updates, server = updating(pki, asks=False)
    for _ in range(2):
        server._given = server._records = SPOKEN * 2 * SILENT
        assert server.receive(together(updates, SILENT + GROUP)) == b""
    with pytest.raises(TlsBroken):
        server.receive(together(updates, SILENT + GROUP))


@pytest.mark.parametrize("size", [1, 40, 2000])
def test_many_records_are_no_flood_when_they_say_something(pair: tuple[TlsChannel, TlsChannel], size: int) -> None:
    client, server = pair
    octets = b"".join(client.send(bytes((number % 256,)) * size) for number in range(2000))
    expected = b"".join(bytes((number % 256,)) * size for number in range(2000))
    assert b"".join(server.receive(octets[at : at + 70_001]) for at in range(0, len(octets), 70_001)) == expected
    assert server._records == server._given == 2000
