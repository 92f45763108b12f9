"""A client's connection whose TLS fails, in the handshake or later: it is closed, counted and recorded."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.abuse import keyupdate
from sidecar.relay.front import FrontWire
from sidecar.relay.meter import Unmetered
from sidecar.relay.tls_channel import TlsChannel
from tests.relay.hand_turned import Transport
from tests.relay.tls_pair import NOW, Pki
from tests.relay.world import World

KEY_UPDATES = 400


class Meter(Unmetered):
    def __init__(self) -> None:
        self.counted: list[tuple[str, str]] = []

    def tls_refused(self, reason: str) -> None:
        self.counted.append(("tls", reason))

    def connection_failed(self, reason: str) -> None:
        self.counted.append(("connection", reason))

    def abused(self, reason: str) -> None:
        self.counted.append(("abuse", reason))


class Scene:
    """A client's channel and the front's transport towards it."""

    def __init__(self, world: World, pki: Pki, configure: Callable[[ssl.SSLContext], None] = lambda _: None) -> None:
        self.world = world
        world.relay.meter = self.meter = Meter()
        self.client = pki.raw_client(pki.client, configure=configure)
        channel = pki.server_tls().channel(NOW.timestamp())
        world.relay.wall = NOW.timestamp  # the certificate's own time
        self.transport = Transport(world.loop, FrontWire(world.front, channel))

    def shake(self) -> TlsChannel:
        octets = self.client.start()
        while octets:
            self.transport.feed(octets)
            self.world.settle()
            self.client.receive(self.transport.take())
            octets = self.client.pending()
        assert self.client.handshaken
        return self.client

    def closed_for(self, kind: str, reason: str) -> None:
        assert self.transport.closed
        assert self.meter.counted == [(kind, reason)]
        assert [(event.kind, event.reason) for event in self.world.recorder.events] == [("connection.refused", reason)]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def test_what_is_no_handshake(pki: Pki) -> None:
    with World(connect=False) as world:
        scene = Scene(world, pki)
        scene.transport.feed(b"GET / HTTP/1.1\r\n\r\n")
        world.settle()
        scene.closed_for("tls", "tls.not_tls")


def test_what_is_no_record_after_it(pki: Pki) -> None:
    with World(connect=False) as world:
        scene = Scene(world, pki)
        scene.shake()
        scene.transport.feed(b"\x17\x03\x03\x00\x20" + bytes(32))
        world.settle()
        scene.closed_for("connection", "tls.bad_record")


def test_a_flood_of_key_updates(pki: Pki, tmp_path: Path) -> None:
    with World(connect=False) as world:
        secrets: list[Callable[[], keyupdate.Secret]] = []
        scene = Scene(world, pki, lambda context: secrets.append(keyupdate.listen(context)))
        scene.shake()
        for record in itertools.islice(keyupdate.Updates(secrets[0]()), KEY_UPDATES):
            scene.transport.feed(record)
        world.settle()
        scene.closed_for("abuse", "tls.key_updates")


def test_a_few_key_updates_are_answered(pki: Pki) -> None:
    with World(connect=False) as world:
        secrets: list[Callable[[], keyupdate.Secret]] = []
        scene = Scene(world, pki, lambda context: secrets.append(keyupdate.listen(context)))
        scene.shake()
        for record in itertools.islice(keyupdate.Updates(secrets[0]()), 3):
            scene.transport.feed(record)
        world.settle()
        assert not scene.transport.closed
        assert scene.meter.counted == []
        scene.transport.cut()
        world.settle()


def test_a_goodbye_at_the_tls_level_is_answered_and_ends_the_connection(pki: Pki) -> None:
    with World(connect=False) as world:
        scene = Scene(world, pki)
        client = scene.shake()
        world.settle()
        scene.transport.take()
        scene.transport.feed(client.close())
        world.settle()
        assert scene.transport.closed
        client.receive(scene.transport.take())
        client.eof()  # raises where our close_notify is missing
        assert scene.meter.counted == []
        assert world.front.connections == 0


def test_what_came_with_a_goodbye_is_looked_at_first(pki: Pki) -> None:
    with World(connect=False) as world:
        scene = Scene(world, pki)
        client = scene.shake()
        world.settle()
        client.receive(scene.transport.take())
        ping = b"\0\0\x08\x06\0\0\0\0\0goodbye!"
        settings = b"\0\0\0\x04\0\0\0\0\0"
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        scene.transport.feed(client.send(preface + settings + ping) + client.close())
        world.settle()
        assert scene.transport.closed
        assert ping[:4] + b"\x01" + ping[5:] in client.receive(scene.transport.take())
