"""Every attack of bench/abuse, for about a second each, against one sidecar, while honest callers call.

What is asserted holds at any speed: nobody honest is refused, the attacker is cut and counted, the model server has no
more calls in flight than the limit and sees nothing of what is refused.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from bench.abuse import hostile, modes, stand
from bench.abuse.attacker import attack, contexts
from bench.abuse.bystander import HEALTH, OWN
from bench.abuse.peer import Target
from bench.abuse.tap import BYSTANDER, HONEST
from bench.harness.processes import free_port
from tests.conftest import StartSidecar
from tests.processes import Process
from tests.sidecars import Sidecar
from tests.waiting import eventually

SECONDS: Final = 0.7  # of an attack; again and twice as long, until it shows
SHOWS_S: Final = 40.0
STREAMS: Final = 100  # `listen.limits.concurrent_streams` by default
# Times and budgets that show within a second; the others are as they come.
LIMITS: Final = {
    "handshake": "300ms",
    "header_time": "300ms",
    "message_time": "300ms",
    "read_time": "300ms",
    "buffered": "8MiB",
    "decompressed": "1MiB",
    "resets": {"rate": "10/second", "burst": 50},
    "window_updates": {"rate": "1000/second", "burst": 2000},
}


class Honest:
    """Callers that never pause, each on a connection of its own. errors: what they were told instead of an answer."""

    def __init__(self, address: str, identities: Path) -> None:
        self.errors: list[str] = []
        self.calls = 0
        self._address, self._identities = address, identities
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(2)]

    def __enter__(self) -> Honest:
        for thread in self._threads:
            thread.start()
        self.more(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def channel(self) -> grpc.Channel:
        identity = (self._identities / "bystander.pem").read_bytes()
        credentials = grpc.ssl_channel_credentials((self._identities / "ca.pem").read_bytes(), identity, identity)
        options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.secure_channel(self._address, credentials, options)

    def more(self, count: int = 5) -> None:
        """Return once so many further calls were answered."""
        until = self.calls + count
        eventually(lambda: self.calls >= until, f"{count} honest calls answered", 30)

    def _call(self) -> None:
        with self.channel() as channel:
            call: Any = channel.unary_unary(BYSTANDER)
            while not self._stop.wait(0.01):
                try:
                    answer = call(b"x" * 100, timeout=20)
                    self.errors += [] if answer == b"ok" else [f"answered {answer!r}"]
                    self.calls += 1
                except grpc.RpcError as error:
                    self.errors.append(f"{error.code().name}: {error.details()}")


class Scene:
    """One sidecar for all attacks, its tap, and who calls it."""

    def __init__(self, sidecar: Sidecar, identities: Path, control: int, probes: int, upstream: str) -> None:
        self.sidecar, self.control, self.probes, self.upstream = sidecar, control, probes, upstream
        host, _, port = sidecar.address.rpartition(":")
        self.target = Target(host, int(port), contexts(identities), "127.0.0.2")
        self.honest = Honest(sidecar.address, identities)

    def attacked(self, mode: modes.Mode) -> None:
        """Attack until the mode is cut and counted. Raises AssertionError where it never is."""
        before, ended, seconds = stand.counted(self.probes), 0, SECONDS

        def shows() -> bool:
            nonlocal ended, seconds
            ended += attack([mode], self.target, seconds).ended
            seconds *= 2
            counted = mode.counted is modes.NOTHING or mode.counted in stand.more(before, stand.counted(self.probes))
            return counted and (ended > 0 or not mode.cuts)

        eventually(shows, f"it is cut and counted as {mode.counted}", SHOWS_S)

    def reaches_upstream(self) -> bool:
        return stand.counted(self.probes).get(("langtrain_sidecar_upstream_up", self.upstream)) == 1.0


@pytest.fixture(scope="module")
def scene(start_sidecar: StartSidecar, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    identities = stand.folder(tmp_path_factory.mktemp("abuse") / "identities")
    with Process([sys.executable, "-m", "bench.abuse.tap"]) as tap:
        upstream, control = map(int, tap.wait_line(lambda line: bool(line)).split())
        probes = free_port()
        config = stand.config(identities, upstream, control, probes, LIMITS)
        with start_sidecar(config) as sidecar:
            yield Scene(sidecar, identities, control, probes, f"127.0.0.1:{upstream}")


@pytest.fixture(scope="module")
def honest(scene: Scene) -> Iterator[Honest]:
    with scene.honest as running:
        yield running


@pytest.mark.parametrize("name", modes.MODES)
def test_a_client(scene: Scene, honest: Honest, name: str) -> None:
    mode = modes.MODES[name]
    stand.told(scene.control)
    honest.errors.clear()
    scene.attacked(mode)
    honest.more()
    seen = stand.told(scene.control)
    assert honest.errors == []
    assert seen["most"] <= STREAMS * mode.connections
    assert (seen["refused_streams"], seen["refused_bytes"]) == (0, 0)


@pytest.mark.parametrize("name", hostile.MODES)
def test_a_model_server(scene: Scene, name: str) -> None:
    """Its callers are told, the sidecar's own services answer meanwhile, and an honest server is reached again."""
    with scene.honest.channel() as channel:
        call: Any = channel.unary_unary(BYSTANDER)
        health: Any = channel.unary_unary(HEALTH, HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString)
        stand.told(scene.control, name)
        try:
            for _ in range(2):
                answers = [call.future(b"x", timeout=0.2) for _ in range(3)]
                assert health(HealthCheckRequest(service=OWN), timeout=20).status == HealthCheckResponse.SERVING
                for answer in answers:
                    if answer.code() is grpc.StatusCode.OK:  # some attacks come after a whole answer
                        assert answer.result() == b"ok"
        finally:
            stand.told(scene.control, HONEST)
        eventually(scene.reaches_upstream, "the honest server is reached", 30)
        assert call(b"x", timeout=20) == b"ok"
