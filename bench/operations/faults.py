"""Who decides is killed, stopped, or has its files spoilt, under load: nobody gets in who may not.

Intruders call all the time, each a caller who may not: with a key or a grant that was taken back, a token that has
ended or that another key has signed, a grant that a policy denies, or nothing at all. Their method is one that nobody
else calls, so what the model server has counted of it is what got in. Honest callers beside them may be refused while
something is wrong, and have to be let in again after each trial.
"""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import grpc

from bench.harness.echo_server import UNARY
from bench.harness.errors import BenchError
from bench.harness.issuer import Issuer
from bench.harness.results import Figure
from bench.harness.scene import Scene, Stage
from bench.operations.given import Given
from bench.operations.taken import BACK_S, LIMIT_S, Caller, Desk, ready, scene_of, services
from langtrain.v1 import policies_pb2 as policies

TRIALS: Final = 20
FORBIDDEN: Final = "/bench.Echo/Forbidden"
FAULT_S: Final = 1.5  # for which something is wrong
STALL_S: Final = 7.0  # the same of what is stopped: longer than state.max_staleness
PAUSE_S: Final = 0.03  # between calls of an intruder
GARBAGE: Final = (b"", b"{", b'{"keys": []}', b'{"keys": [{"kty": "oct", "k": "AAAA"}]}', b"\xff" * 4096)


class Keys:
    """An issuer's keys over HTTP. mode: "well", "away", "stalled", or "garbage"."""

    def __init__(self, jwks: bytes) -> None:
        self.mode = "well"
        self.asked = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                if outer.mode == "away":
                    return
                if outer.mode == "stalled":
                    time.sleep(STALL_S)
                body = GARBAGE[outer.asked % len(GARBAGE)] if outer.mode == "garbage" else jwks
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/jwks"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Intruders:
    """Call without pause, each on a thread. tried: calls by what they are.  let_in: the same of those answered."""

    def __init__(self, callers: dict[str, Caller]) -> None:
        self.tried: Counter[str] = Counter()
        self.let_in: Counter[str] = Counter()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=each, daemon=True) for each in callers.items()]

    def __enter__(self) -> Intruders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(LIMIT_S)

    def _call(self, title: str, caller: Caller) -> None:
        at = 0
        while not self._over.wait(PAUSE_S):
            at += 1
            call: Any = caller.channels[at % len(caller.channels)].unary_unary(FORBIDDEN)
            try:
                call(b"x", timeout=LIMIT_S, metadata=caller.metadata)
                self.let_in[title] += 1
            except grpc.RpcError:
                pass
            self.tried[title] += 1


def run(stage: Stage, given: Given) -> list[Figure]:
    del given
    tokens = Issuer(stage.pki.folder)
    served = Keys(tokens.jwks.read_bytes())
    found = []
    try:
        with scene_of(stage, tokens, {"url": served.url, "refresh": "10s"}) as (scene, desk, _):
            folder = Path(scene.config["state"]["directory"]) / "store"
            honest = {
                "key": ready(desk.key), "token": ready(lambda: desk.token(tokens)), "grant": ready(desk.granted),
            }  # fmt: skip
            faults: dict[str, Callable[[], AbstractContextManager[None]]] = {
                "services process killed": lambda: _killed(scene),
                "services process stopped": lambda: _stopped(scene),
                "database spoilt": lambda: _spoilt(scene, folder),
                "issuer's keys away": lambda: _keys(served, "away"),
                "issuer's keys stalled": lambda: _keys(served, "stalled"),
                "issuer's keys garbage": lambda: _keys(served, "garbage"),
            }
            with Intruders(intruders(scene, desk, tokens)) as calling:
                for title, fault in faults.items():
                    before, tried = stage.counts().get(FORBIDDEN, 0), calling.tried.total()
                    for _ in range(TRIALS):
                        with fault():
                            pass
                        _back(honest)
                    got_in = stage.counts().get(FORBIDDEN, 0) - before
                    found += [
                        Figure(f"{title}: calls of intruders", "calls", [calling.tried.total() - tried]),
                        Figure(f"{title}: those that reached the model server", "calls", [got_in], bar=0),
                    ]
                each = list(calling.tried.values())
            if calling.let_in or min(each) < TRIALS or len(each) < len(calling.tried):
                raise BenchError(f"expected every intruder to be refused again and again, came {calling.let_in}")
    finally:
        served.close()
    return found


def intruders(scene: Scene, desk: Desk, tokens: Issuer) -> dict[str, Caller]:
    """By what they are."""
    key, grant, denied = ready(desk.key), ready(desk.granted), desk.granted()
    token = ready(lambda: desk.token(tokens))
    for each in (key, grant, token):
        each.take()
    deny = policies.Policy(
        name="intruder", effect=policies.EFFECT_DENY, condition=f"user.name == '{denied.name}'"
    )  # fmt: skip
    desk.policies.CreatePolicy(policies.CreatePolicyRequest(policy=deny), timeout=LIMIT_S)
    other = Issuer(Path(scene.config["state"]["directory"]))  # its keys are not the issuer's
    nobody = Caller([scene.channel(scene.pki.leaf(name="spiffe://example.org/bench/nobody"))], ())
    return {
        "a key that was revoked": key,
        "a token that was revoked": token,
        "a grant that was revoked": grant,
        "a grant that a policy denies": denied,
        "a token that has ended": desk.token(tokens, time.time() - 10),
        "a token that another key has signed": desk.token(other),
        "no grant": nobody,
    }


@contextmanager
def _killed(scene: Scene) -> Iterator[None]:
    os.kill(services(scene), signal.SIGKILL)
    time.sleep(FAULT_S)
    yield


@contextmanager
def _stopped(scene: Scene) -> Iterator[None]:
    pid = services(scene)
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(STALL_S)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def _spoilt(scene: Scene, folder: Path) -> Iterator[None]:
    """The database's files overwritten, and whoever has them open killed; afterwards they are as they were."""
    files = [file for file in folder.glob("state.db*") if file.is_file()]
    if not files:
        raise BenchError(f"expected a database in {folder}, came {sorted(file.name for file in folder.iterdir())}")
    pid = services(scene)
    os.kill(pid, signal.SIGSTOP)
    kept = folder / "kept"
    kept.mkdir(exist_ok=True)
    for file in files:
        shutil.copy2(file, kept / file.name)
        file.write_bytes(os.urandom(max(file.stat().st_size, 4096)))
    os.kill(pid, signal.SIGKILL)
    try:
        time.sleep(STALL_S)
        yield
    finally:
        for file in folder.glob("state.db*"):
            file.unlink()
        for file in kept.iterdir():
            file.rename(folder / file.name)


@contextmanager
def _keys(served: Keys, mode: str) -> Iterator[None]:
    """Until they were asked for in vain."""
    asked, served.mode = served.asked, mode
    until = time.monotonic() + BACK_S
    while served.asked == asked:
        if time.monotonic() > until:
            raise BenchError("expected the issuer's keys to be fetched again, they were not")
        time.sleep(0.05)
    try:
        yield
    finally:
        served.mode = "well"


def _back(honest: dict[str, Caller]) -> None:
    """Once all are let in again."""
    until = time.monotonic() + BACK_S
    for title, caller in honest.items():
        while not _answered(caller):
            if time.monotonic() > until:
                raise BenchError(f"expected the honest caller with a {title} to be let in again, it was not")
            time.sleep(0.05)


def _answered(caller: Caller) -> bool:
    call: Any = caller.channels[0].unary_unary(UNARY)
    try:
        call(b"x", timeout=LIMIT_S, metadata=caller.metadata)
    except grpc.RpcError:
        return False
    return True
