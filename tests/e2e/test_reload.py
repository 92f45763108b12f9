"""A sidecar that changes while it runs: no call is lost, and who is not trusted any more is gone within a second."""

from __future__ import annotations

import copy
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import grpc
import pytest

from sidecar.certs.authority import SERVER
from tests.conftest import StartSidecar
from tests.e2e.load import load
from tests.e2e.upstream import STREAM, UNARY, echo
from tests.peers.targets import plain_stream, plain_unary
from tests.relay.tls_pair import HOUR, NOW, SPIFFE, Pki
from tests.sidecars import Sidecar, write
from tests.waiting import eventually

DEADLINE_S = 20.0
OTHER = "spiffe://example.org/team/bob"
REFUSED = frozenset({"reload_refused"})
Config = dict[str, Any]
Pair = tuple[Path, Path]


@dataclass
class Scene:
    """A running sidecar that lets `SPIFFE` and `OTHER` in; the config it runs by, and whose certificates."""

    sidecar: Sidecar
    config: Config
    pki: Pki

    def channel(self, pair: Pair | None = None) -> grpc.Channel:
        certificate, key = pair or self.pki.client
        trusted = (self.pki.directory / "every-ca.pem").read_bytes()
        credentials = grpc.ssl_channel_credentials(trusted, key.read_bytes(), certificate.read_bytes())
        options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.secure_channel(self.sidecar.address, credentials, options)

    def count(self, event: str) -> int:
        return len(self.sidecar.logged(event))

    def reload(self, change: Callable[[Config], None] = lambda _: None) -> None:
        """Change the config, as its file is noticed, and return once all workers have switched."""
        before = self.count("reloaded")
        change(self.config)
        self.config["listen"]["grace"] = f"{30 + before % 7}s"  # so that the file is another in any case
        write(self.sidecar.file, self.config)
        eventually(lambda: self.count("reloaded") > before, "reloaded")

    def replace(self, path: Path, data: bytes) -> None:
        """Change a file that the config names."""
        new = path.with_suffix(".new")
        new.write_bytes(data)
        new.rename(path)


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with echo() as (_, address):
        yield address


@pytest.fixture
def scene(tmp_path: Path, start_sidecar: StartSidecar, upstream: str) -> Iterator[Scene]:
    with started(tmp_path, start_sidecar, upstream) as scene:
        yield scene


@contextmanager
def started(directory: Path, start_sidecar: StartSidecar, upstream: str, workers: int = 2) -> Iterator[Scene]:
    pki = Pki(directory)
    (directory / "every-ca.pem").write_bytes(pki.ca.read_bytes())
    crl = pki.crl(pki.root.crl(start=NOW - HOUR, end=NOW + HOUR))
    certificate, key = pki.server
    config: Config = {
        "listen": {
            "tls": {"certificate": str(certificate), "key": str(key), "client_ca": str(pki.ca), "crl": str(crl)}
        },
        "upstream": {"address": upstream, "unsafe_open_upstream": True},
        "authentication": {"mtls": {"trust_domains": ["example.org"]}},
        "authorization": {"rules": [{"identities": [SPIFFE, OTHER], "methods": ["/e2e.Echo/*"]}]},
        "workers": workers,
    }
    with start_sidecar(config, faults=REFUSED) as sidecar:
        config["listen"]["address"] = "127.0.0.1:0"
        config["state"] = {"directory": str(sidecar.state)}
        yield Scene(sidecar, config, pki)


class OpenStream:
    """A stream that has echoed once, on a connection of its own."""

    def __init__(self, scene: Scene, pair: Pair | None = None) -> None:
        self._go = threading.Event()
        self._channel = scene.channel(pair)
        self._stream = plain_stream(self._channel, STREAM)(self._requests(), timeout=60)
        assert next(self._stream) == b"first"

    def _requests(self) -> Iterator[bytes]:
        yield b"first"
        self._go.wait(60)
        yield b"last"

    def ends(self) -> grpc.StatusCode:
        """Go on to the end; how it ended."""
        self._go.set()
        try:
            assert list(self._stream) == [b"last"]
        except grpc.RpcError as error:
            return error.code()
        finally:
            self._channel.close()
        return grpc.StatusCode.OK

    def cut(self) -> grpc.StatusCode:
        """Wait, saying nothing, until it is ended from the other side."""
        with pytest.raises(grpc.RpcError) as caught:
            next(self._stream)
        self._go.set()
        self._channel.close()
        return caught.value.code()


def call(scene: Scene, pair: Pair | None = None) -> grpc.StatusCode:
    with scene.channel(pair) as channel:
        try:
            assert plain_unary(channel, UNARY)(b"hello", timeout=DEADLINE_S) == b"hello"
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def client(scene: Scene, name: str = "other", **options: Any) -> Pair:
    return scene.pki.write(name, scene.pki.leaf(uris=(OTHER,), **options))


# --- what is changed while calls are open -------------------------------------------------------------------------


def rotate(scene: Scene) -> None:
    """A new server certificate and key in the files of the old ones."""
    issued = scene.pki.leaf("localhost", dns=("localhost",), purposes=SERVER)
    certificate, key = scene.pki.server
    before = scene.count("reloaded")
    scene.replace(certificate, issued.chain_pem())
    scene.replace(key, issued.key_pem())
    eventually(lambda: scene.count("reloaded") > before, "the rotated certificate is in use")


def many_changes(scene: Scene, times: int) -> None:
    with load(scene.channel, unary=4, streams=8) as running:
        for _ in range(times):
            rotate(scene)
            running.more(20)
            scene.reload()
            running.more(20)
    assert running.errors == []


def test_rotations_and_reloads_under_load_lose_no_call(scene: Scene) -> None:
    many_changes(scene, 5)


@pytest.mark.soak
def test_a_hundred_rotations_and_reloads_under_load_lose_no_call(
    tmp_path: Path, start_sidecar: StartSidecar, upstream: str
) -> None:
    with started(tmp_path, start_sidecar, upstream, workers=4) as scene:
        many_changes(scene, 100)


def test_hup_reloads(scene: Scene) -> None:
    os.kill(scene.sidecar.process.pid, signal.SIGHUP)
    eventually(lambda: scene.count("reloaded") == 1, "reloaded")
    assert call(scene) is grpc.StatusCode.OK


def test_a_swapped_link_is_noticed(tmp_path: Path, start_sidecar: StartSidecar, upstream: str) -> None:
    """A Kubernetes volume shows files through a link to a directory that is swapped for another."""
    first, second = tmp_path / "..1", tmp_path / "..2"
    first.mkdir()
    second.mkdir()
    with started(first, start_sidecar, upstream) as scene:
        link = tmp_path / "..data"
        link.symlink_to(first)
        tls = scene.config["listen"]["tls"]
        tls["crl"] = str(link / "crl.pem")
        scene.reload()
        other = client(scene)
        stream = OpenStream(scene, other)
        leaf = scene.pki.leaf(uris=(OTHER,))
        revoked = scene.pki.write("other", leaf)
        assert call(scene, revoked) is grpc.StatusCode.OK
        scene.pki.directory = second
        scene.pki.crl(scene.pki.root.crl(leaf.certificate, start=NOW - HOUR, end=NOW + HOUR))
        scene.pki.directory = first
        new = tmp_path / "..new"
        new.symlink_to(second)
        before = scene.count("reloaded")
        new.rename(link)
        eventually(lambda: scene.count("reloaded") > before, "the swap is noticed")
        assert call(scene, revoked) is grpc.StatusCode.UNAVAILABLE
        assert stream.ends() is grpc.StatusCode.OK  # of another certificate of the same name


# --- whose trust has gone -----------------------------------------------------------------------------------------


def new_root(scene: Scene) -> bytes:
    return scene.pki.authority("another root", 9).own.chain_pem()


def revoke(scene: Scene, leaf: Any) -> None:
    crl = scene.pki.root.crl(leaf.certificate, start=NOW - HOUR, end=NOW + HOUR)
    scene.pki.crl(crl, name="crl.fresh").rename(scene.pki.directory / "crl.pem")


def remove_ca(scene: Scene, _leaf: Any) -> None:
    scene.replace(scene.pki.ca, new_root(scene))
    crl = scene.pki.authority("another root", 9).crl(start=NOW - HOUR, end=NOW + HOUR)
    scene.pki.crl(crl, name="crl.fresh").rename(scene.pki.directory / "crl.pem")


def remove_domain(scene: Scene, _leaf: Any) -> None:
    scene.config["authentication"]["mtls"]["trust_domains"] = ["example.com"]
    scene.config["authorization"]["rules"] = []
    write(scene.sidecar.file, scene.config)


def remove_rule(scene: Scene, _leaf: Any) -> None:
    scene.config["authorization"]["rules"][0]["identities"] = [SPIFFE]
    write(scene.sidecar.file, scene.config)


def name_models(scene: Scene, _leaf: Any) -> None:
    rules = scene.config["authorization"]["rules"]
    rules[0]["identities"] = [SPIFFE]
    rules.append({"identities": [OTHER], "methods": ["/e2e.Echo/*"], "models": ["digits"]})
    write(scene.sidecar.file, scene.config)


GONE: list[tuple[Callable[[Scene, Any], None], grpc.StatusCode, str]] = [
    (revoke, grpc.StatusCode.UNAVAILABLE, "tls.revoked"),
    (remove_ca, grpc.StatusCode.UNAVAILABLE, "tls.unknown_ca"),
    (remove_domain, grpc.StatusCode.UNAUTHENTICATED, "identify.trust_domain"),
    (remove_rule, grpc.StatusCode.PERMISSION_DENIED, "authorize.no_rule"),
    (name_models, grpc.StatusCode.PERMISSION_DENIED, "authorize.changed"),
]


@pytest.mark.parametrize(("change", "status", "reason"), GONE, ids=[change.__name__ for change, _, _ in GONE])
def test_open_streams_end_with_the_trust_that_let_them_in(
    scene: Scene, change: Callable[[Scene, Any], None], status: grpc.StatusCode, reason: str
) -> None:
    leaf = scene.pki.leaf(uris=(OTHER,))
    pair = scene.pki.write("other", leaf)
    streams = [OpenStream(scene, pair) for _ in range(6)]
    change(scene, leaf)
    assert {stream.cut() for stream in streams} == {status}
    eventually(lambda: reason in {event["reason"] for event in scene.sidecar.events()}, f"{reason} on record")
    assert call(scene, pair) in (status, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED)


@pytest.mark.parametrize("change", [revoke, remove_rule], ids=["revoke", "remove_rule"])
def test_others_streams_go_on(scene: Scene, change: Callable[[Scene, Any], None]) -> None:
    leaf = scene.pki.leaf(uris=(OTHER,))
    kept, lost = OpenStream(scene), OpenStream(scene, scene.pki.write("other", leaf))
    change(scene, leaf)
    assert lost.cut() is not grpc.StatusCode.OK
    assert kept.ends() is grpc.StatusCode.OK


def test_a_certificate_that_expires_ends_its_streams(scene: Scene) -> None:
    end = NOW.__class__.now(NOW.tzinfo).replace(microsecond=0) + timedelta(seconds=4)
    assert OpenStream(scene, client(scene, end=end)).cut() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.soak
@pytest.mark.parametrize("change", [revoke], ids=["revoke"])
def test_a_hundred_revocations(scene: Scene, change: Callable[[Scene, Any], None]) -> None:
    """The time is from the file's change to the stream's end, polling and settling of the file included."""
    took = []
    for _ in range(100):
        leaf = scene.pki.leaf(uris=(OTHER,))
        stream = OpenStream(scene, scene.pki.write("other", leaf))
        change(scene, leaf)
        began = monotonic()
        stream.cut()
        took.append(monotonic() - began)
    print(f"cut after {min(took):.3f} to {max(took):.3f} s")


# --- what is refused ----------------------------------------------------------------------------------------------


def refused(scene: Scene, since: int = 0) -> set[str]:
    return {line["path"] for line in scene.sidecar.logged("reload_refused")[since:]}


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory, start_sidecar: StartSidecar, upstream: str) -> Iterator[Scene]:
    """A scene that every test leaves as it found it."""
    with started(tmp_path_factory.mktemp("steady"), start_sidecar, upstream) as scene:
        yield scene


BAD: list[tuple[Callable[[Config], None], set[str]]] = [
    (lambda c: c.update(listen={**c["listen"], "address": "127.0.0.1:9"}), {"listen.address"}),
    (lambda c: c.update(workers=3, audit={"file": "/elsewhere"}), {"workers", "audit.file"}),
    (lambda c: c.update(state={"directory": "/elsewhere"}), {"state.directory"}),
    (lambda c: c.update(telemetry={"otlp": "http://127.0.0.1:1"}), {"telemetry.otlp"}),
    (lambda c: c.update(pasword=1, workers=0), {"pasword", "workers"}),
    (lambda c: c["listen"]["tls"].update(certificate="/none.pem"), {"listen.tls.certificate"}),
    (lambda c: c.update(interceptors=[{"use": "none:None"}]), {"interceptors[0]"}),
]


@pytest.mark.parametrize(("change", "paths"), BAD, ids=[" ".join(sorted(paths)) for _, paths in BAD])
def test_a_config_that_cannot_be_used_changes_nothing(
    steady: Scene, change: Callable[[Config], None], paths: set[str]
) -> None:
    stream, good = OpenStream(steady), copy.deepcopy(steady.config)
    told, kept, reloads = (steady.count(event) for event in ("reload_refused", "reload_kept", "reloaded"))
    bad = copy.deepcopy(good)
    bad["authorization"]["rules"] = []  # sound by itself, and refused with the rest
    change(bad)
    write(steady.sidecar.file, bad)
    eventually(lambda: steady.count("reload_kept") > kept, "the old one is kept")
    assert refused(steady, told) == paths
    assert steady.count("reloaded") == reloads
    assert call(steady) is grpc.StatusCode.OK
    assert stream.ends() is grpc.StatusCode.OK
    write(steady.sidecar.file, good)
    eventually(lambda: steady.count("reloaded") > reloads, "the good one is taken again")


def test_a_key_that_does_not_fit_yet_is_waited_for(scene: Scene) -> None:
    certificate, _ = scene.pki.server
    before = certificate.read_bytes()
    scene.replace(certificate, scene.pki.leaf("localhost", dns=("localhost",), purposes=SERVER).chain_pem())
    eventually(lambda: refused(scene) == {"listen.tls.key"}, "the pair does not fit")
    assert call(scene) is grpc.StatusCode.OK
    scene.replace(certificate, before)
    eventually(lambda: scene.count("reloaded") == 1, "reloaded")


def test_a_worker_that_starts_later_runs_by_the_new_config(scene: Scene) -> None:
    scene.reload(lambda config: config["authorization"]["rules"][0].update(identities=[SPIFFE]))
    for name, pid in scene.sidecar.children("worker").items():
        os.kill(pid, signal.SIGKILL)
        eventually(lambda name=name: name not in scene.sidecar.children("worker"), "ended")  # type: ignore[misc]
    eventually(lambda: len(scene.sidecar.children("worker")) == 2, "two others")
    assert call(scene) is grpc.StatusCode.OK
    assert call(scene, client(scene)) is grpc.StatusCode.PERMISSION_DENIED
