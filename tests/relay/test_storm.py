"""Anything in any order: calls, messages, ends, losses, pauses and time, drawn at random.

Whatever happens, h2 finds no fault with what the relay says on either side, bytes arrive in their order and from
nowhere else, every call ends once for its links, and at the end nothing is left.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from h2.settings import SettingCodes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interceptors.contract import PASS, Interceptor, Outcome
from sidecar.relay.http2.limits import Limits, Rate
from sidecar.relay.settings import FrontSettings, Target, UpstreamSettings
from tests.interceptors.links import Hold, asks, diary, gives, scripted
from tests.relay.ends import Call, Client, Half, Tapped, framed, pick
from tests.relay.world import SHAPES, World, pieces

LIMITS: Final = Limits(stream_window=70_000, connection_window=300_000, resets=Rate(1e6, 1_000_000))
PASSES: Final = {"on_request": gives(PASS), "on_response": gives(PASS)}
CHAINS: Final[dict[str, Callable[[], tuple[Interceptor, ...]]]] = {
    "passing": tuple,
    "inspecting": lambda: (scripted("look", **PASSES, on_flush=gives(PASS)),),
    "requests": lambda: (scripted("look", on_request=gives(PASS)),),
    "asking": lambda: (
        scripted("ask", **dict.fromkeys(("on_start", *PASSES, "on_headers", "on_trailers", "on_flush"), asks(PASS))),
    ),
    "holding": lambda: (Hold(), scripted("ask", on_request=asks(PASS))),
}
SIZES: Final = (0, 1, 100, 5_000, 16_379, 16_380, 20_000, 100_000)
CODES: Final = (0, 2, 7, 8, 11)


class Storm:
    """One world and what has been said in it."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world = world
        self.chance = chance
        self.clients: list[Client] = [world.client]
        self.calls: list[Call] = []
        self.said: dict[Half, bytearray] = {}  # by either end
        self.begun = 0

    def step(self) -> None:
        names = list(ACTIONS)
        name = self.chance.choices(names, [ACTIONS[name] for name in names])[0]
        getattr(self, name)()

    def call(self) -> Call | None:
        calls = [call for call in self.calls if call.alive]
        return self.chance.choice(calls[-8:]) if calls else None

    def tapped(self, headed: bool | None = None) -> Tapped | None:
        """headed: of those that have sent a head, or of those that have not."""
        taps = [tapped for server in self.world.servers for tapped in server.calls if tapped.alive]
        taps = [tapped for tapped in taps if headed is None or (tapped.speaks and tapped.headed is headed)]
        return self.chance.choice(taps[-8:]) if taps else None

    def say(self, half: Half | None) -> None:
        if half is None or half.unsent or not half.speaks:
            return
        raw = framed(self.chance.randbytes(self.chance.choice(SIZES)))
        half.send(raw, isinstance(half, Call) and self.chance.random() < 0.3)
        self.said.setdefault(half, bytearray()).extend(raw)

    def begin(self) -> None:
        client = self.chance.choice(self.clients)
        if client.gone:
            return
        method = SHAPES[self.chance.choice(list(SHAPES))]
        metadata = [(b"x-id", b"%d" % self.begun)]
        if self.chance.random() < 0.2:
            metadata.append((b"grpc-timeout", b"%dm" % self.chance.randrange(1, 3_000)))
        call = client.call(method.path.encode(), *metadata, end=self.chance.random() < 0.1)
        self.begun += 1
        self.calls.append(call)

    def client_says(self) -> None:
        self.say(self.call())

    def client_ends(self) -> None:
        if (call := self.call()) and call.speaks:
            call.half_close()

    def client_cancels(self) -> None:
        if call := self.call():
            call.cancel(self.chance.choice(CODES))

    def server_heads(self) -> None:
        if tapped := self.tapped(headed=False):
            tapped.head(end=self.chance.random() < 0.1)

    def server_says(self) -> None:
        self.say(self.tapped(headed=True))

    def server_ends(self) -> None:
        if (tapped := self.tapped(headed=True)) and not tapped.unsent:
            tapped.trailers((b"grpc-status", b"0"))

    def server_resets(self) -> None:
        if tapped := self.tapped():
            tapped.cancel(self.chance.choice(CODES))

    def goes_away(self) -> None:
        server = self.world.server
        if not server.gone:
            server.goaway(self.chance.choice([0, max(server.streams, default=0)]))

    def server_lost(self) -> None:
        if not self.world.server.gone:
            self.world.lose(self.world.server)

    def client_lost(self) -> None:
        client = self.chance.choice(self.clients)
        if not client.gone:
            self.world.lose(client)
        self.clients.remove(client)
        self.clients.append(self.world.connect())

    def listening(self) -> None:
        self.world.listening = not self.world.listening

    def reading(self) -> None:
        end = self.chance.choice([*self.clients, self.world.server])
        end.reads = not end.reads
        if end.reads and not end.gone:
            for half in end.streams.values():
                if count := end.unread.get(half.id):
                    end.read(half, count)

    def pausing(self) -> None:
        end = self.chance.choice([*self.clients, self.world.server])
        wire = self.world.wire(end)
        if not end.gone and wire.transport is not None:
            if wire._paused:
                wire.resume_writing()
            else:
                wire.pause_writing()

    def windows(self) -> None:
        end = self.chance.choice([*self.clients, self.world.server])
        if not end.gone:
            # Never smaller: h2 takes an empty DATA frame in a window below 0 for an overrun.
            size = end.connection.local_settings.initial_window_size + self.chance.choice([1, 1_000, 100_000])
            end.connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: size})

    def answering(self) -> None:
        self.world.answers.settle()
        self.world.answers.holds = self.chance.random() < 0.7

    def recording(self) -> None:
        self.world.recorder.settle()

    def time(self) -> None:
        self.world.advance(self.chance.choice([0.01, 0.1, 1.0]))

    def rest(self) -> None:
        self.world.settle()

    def check(self) -> None:
        """Every byte that arrived was said at the other end, in its order."""
        calls = dict(enumerate(self.calls))
        for server in self.world.servers:
            for tapped in server.calls:
                call = calls[int(pick(tapped.headers, b"x-id") or b"-1")]
                assert bytes(self.said.get(call, b"")).startswith(tapped.data)
        for number, call in calls.items():
            assert call.status is None or call.ended
            answers = [
                bytes(self.said.get(tapped, b""))
                for server in self.world.servers
                for tapped in server.calls
                if pick(tapped.headers, b"x-id") == b"%d" % number
            ]
            assert not call.data or any(answer.startswith(call.data) for answer in answers)

    def calm(self) -> None:
        """Everybody reads, answers come, and every call is cancelled."""
        world = self.world
        world.answers.holds = world.recorder.holds = False
        for end, transport in list(world._ends):
            if not end.gone:
                if transport._protocol._paused:  # type: ignore[attr-defined]
                    transport.resume()
                end.reads = True
                for half in end.streams.values():
                    if count := end.unread.get(half.id):
                        end.read(half, count)
        world.answers.settle()
        world.recorder.settle()
        world.settle()
        for call in self.calls:
            if call.alive:
                call.cancel()
        world.settle()


ACTIONS: Final = {
    "begin": 12, "client_says": 20, "client_ends": 6, "client_cancels": 3, "server_heads": 10,
    "server_says": 20, "server_ends": 8, "server_resets": 2, "goes_away": 1, "server_lost": 1, "client_lost": 1,
    "listening": 1, "reading": 3, "pausing": 3, "windows": 1, "answering": 6, "recording": 3, "time": 6, "rest": 20,
}  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(CHAINS)), st.integers(0, 1 << 32), st.sampled_from([13, 1_000, 100_000]), st.booleans())
def test_storm(chain: str, seed: int, cut: int, held: bool) -> None:
    pages: list[tuple[str, Outcome]] = []
    links: tuple[Any, ...] = (diary(pages), *CHAINS[chain]())
    options: dict[str, Any] = {
        "settings": FrontSettings(limits=LIMITS),
        "upstream": UpstreamSettings((Target("192.0.2.9", 1),), limits=LIMITS),
        "server": {SettingCodes.MAX_CONCURRENT_STREAMS: 5}, "cut": pieces(cut), "cut_back": pieces(cut),
    }  # fmt: skip
    with World(links, **options) as world:
        world.recorder.holds = held
        storm = Storm(world, random.Random(seed))
        for _ in range(150):
            storm.step()
        world.settle()
        storm.check()
        storm.calm()
        storm.check()
        world.listening = True
        world.advance(10)
    assert len(pages) <= storm.begun
