"""Who decides is killed, stopped, or has its data spoilt, under load: nobody gets in who may not.

Intruders call all the time, each a caller who may not: with a key or a grant that was taken back, a token that has
ended or that another key has signed, a grant that a policy denies, or nothing at all. Their method is one that nobody
else calls, so what the model server has counted of it is what got in. Honest callers call beside them, and are judged:
by what they were refused before it was due, otherwise than as UNAVAILABLE, and by what they were let in later than
`state.max_staleness` after nothing could be known any more. They have to be let in again after each trial, without
anybody's help.
"""

from __future__ import annotations

import http.server
import itertools
import os
import shutil
import signal
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc

from bench.harness.echo_server import UNARY
from bench.harness.errors import BenchError
from bench.harness.issuer import Issuer
from bench.harness.postgres import Postgres, postgres
from bench.harness.results import Figure
from bench.harness.scene import Scene, Stage
from bench.operations.given import Given
from bench.operations.taken import BACK_S, BAR_S, LIMIT_S, STALE_S, Caller, Desk, ready, scene_of, services
from langtrain.v1 import policies_pb2 as policies

FORBIDDEN: Final = "/bench.Echo/Forbidden"
FAULT_S: Final = 1.5  # for which something is wrong
STALL_S: Final = 8.0  # the same of what keeps workers from knowing: longer than state.max_staleness
FRESH_S: Final = 1.5  # of what workers know: they report it twice a second, and the machine is slow
STEADY_S: Final = 1.0
PAUSE_S: Final = 0.03  # between calls of a caller
SURE_S: Final = 3.0  # for which whoever was let in goes on to be: as of the last that was heard, and machines are slow
GARBAGE: Final = (b"", b"{", b'{"keys": []}', b'{"keys": [{"kty": "oct", "k": "AAAA"}]}', b"\xff" * 4096)
OK, UNAVAILABLE, DENIED = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED
# Tables, and whether they are read only by a services process that begins.
TABLES: Final = {"changes": False, "policy_items": True, "head": False, "revocations": True}


class Rows(NamedTuple):
    """Rows of a table, and what becomes of a column of theirs. keys: columns by which a row is found again."""

    table: str
    keys: tuple[str, ...]
    column: str
    spoilt: str
    where: str = "true"


ITEM: Final = ("kind", "tenant", "name")
ROWS: Final = (
    Rows("policy_items", ITEM, "body", "'\\xff00'", "kind = 'policy'"),
    Rows("revocations", ("id",), "name", "'x' || name"),
    Rows("policy_items", ITEM, "body", "substring(body FOR 9)", "kind IN ('grant', 'role')"),
    Rows("api_keys", ("key_id",), "permissions", "'[' || permissions"),
    Rows("migrations", ("number",), "checksum", "'x' || checksum"),
)


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


class Fault(NamedTuple):
    """severs: whether it keeps workers from knowing what is so.

    tells: whether they are told of what cannot be read. Then honest callers may be refused at once, and who has a grant
    that cannot be read is denied.
    """

    make: Callable[[], AbstractContextManager[None]]
    severs: bool = False
    tells: bool = False


@dataclass(slots=True)
class Trial:
    """One fault. since: when it began, on the monotonic clock.  over: it has ended; what comes of that has not yet."""

    fault: Fault
    since: float
    over: bool = False


@dataclass(slots=True)
class Honest:
    """Callers who may, by what they are, calling without pause, each on a thread. codes: of their calls."""

    callers: Mapping[str, Caller]
    trial: Trial | None = None
    codes: Counter[grpc.StatusCode] = field(default_factory=Counter)
    early: int = 0  # refused though all was known
    late: int = 0  # let in though nothing could be known any more
    otherwise: Counter[str] = field(default_factory=Counter)  # refused, and not as UNAVAILABLE
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Honest:
        for each in self.callers.items():
            self._threads.append(threading.Thread(target=self._call, args=each, daemon=True))
            self._threads[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(LIMIT_S)

    def back(self) -> None:
        """Once all are let in again on every connection, and go on to be. Raises BenchError where they are not."""
        since = began = time.monotonic()
        while time.monotonic() - since < STEADY_S:
            for title, caller in self.callers.items():
                for at in range(len(caller.channels)):
                    if (code := _code(caller, at, UNARY)) is OK:
                        continue
                    since = time.monotonic()
                    if since - began > BACK_S:
                        raise BenchError(f"expected the honest caller with a {title} to be let in again, came {code}")
                    time.sleep(PAUSE_S)

    def _call(self, title: str, caller: Caller) -> None:
        at = 0
        while not self._over.wait(PAUSE_S):
            at += 1
            began, trial = time.monotonic(), self.trial
            self.judge(title, trial, began, _code(caller, at, UNARY), time.monotonic())

    def judge(self, title: str, trial: Trial | None, began: float, code: grpc.StatusCode, ended: float) -> None:
        """One call. trial: None where all is well.  began, ended: on the monotonic clock."""
        self.codes[code] += 1
        if code is OK:
            severed = trial is not None and trial.fault.severs and not trial.over
            self.late += severed and trial is not None and began - trial.since > STALE_S + BAR_S
        elif code is UNAVAILABLE:
            at_once = trial is not None and trial.fault.tells
            self.early += not at_once and (trial is None or ended - trial.since < SURE_S)
        elif (title, code) != ("grant", DENIED) or trial is None or not trial.fault.tells:
            self.otherwise[f"{title}: {code.name}"] += 1


class Stand(NamedTuple):
    """What a fault is made of. server: the database's; None where that is SQLite."""

    scene: Scene
    served: Keys
    server: Postgres | None

    @property
    def database(self) -> Postgres:
        assert self.server is not None
        return self.server


def run(part: str, stage: Stage, given: Given) -> list[Figure]:
    """One kind of fault, again and again."""
    title, make = FAULTS[part]
    tokens = Issuer(stage.pki.folder)
    served = Keys(tokens.jwks.read_bytes())
    with ExitStack() as stack:
        stack.callback(served.close)
        server = stack.enter_context(postgres(stage.processes)) if part.startswith(POSTGRES) else None
        url = "sqlite" if server is None else server.url
        keys = {"url": served.url, "refresh": "10s"}
        scene, desk, _ = stack.enter_context(scene_of(stage, tokens, keys, url))
        callers = {
            "key": ready(desk.key), "token": ready(lambda: desk.token(tokens)), "grant": ready(desk.granted),
        }  # fmt: skip
        fault = make(Stand(scene, served, server))
        with Intruders(intruders(scene, desk, tokens)) as calling, Honest(callers) as honest:
            for _ in range(given.faults):
                honest.trial = Trial(fault, time.monotonic())
                with fault.make():
                    honest.trial.over = True
                _told(desk)
                honest.back()
                honest.trial = None
        got_in = stage.counts().get(FORBIDDEN, 0)
    each = list(calling.tried.values())
    if calling.let_in.total() > got_in or min(each) < given.faults:
        raise BenchError(f"expected every intruder to call again and again, came {calling.tried}, {calling.let_in}")
    return _figures(title, given.faults, calling.tried.total(), got_in, honest, fault)


def _figures(title: str, trials: int, tried: int, got_in: int, honest: Honest, fault: Fault) -> list[Figure]:
    if honest.otherwise:
        print(f"{title}: refused otherwise: {dict(honest.otherwise)}")
    about = f"{title}, {trials} times"
    made = [
        Figure(f"{about}: calls of intruders", "calls", [tried]),
        Figure(f"{about}: those that reached the model server", "calls", [got_in], bar=0),
        Figure(f"{about}: calls of honest callers let in", "calls", [honest.codes[OK]]),
        Figure(f"{about}: those refused as UNAVAILABLE", "calls", [honest.codes[UNAVAILABLE]]),
        Figure(f"{about}: those refused otherwise", "calls", [honest.otherwise.total()], bar=0),
        Figure(f"{about}: those refused within {SURE_S:g} s, or without a fault", "calls", [honest.early], bar=0),
    ]
    if fault.severs:
        late = f"{about}: calls of honest callers let in later than max_staleness and {BAR_S:g} s"
        made.append(Figure(late, "calls", [honest.late], bar=0))
    return made


def _code(caller: Caller, at: int, method: str) -> grpc.StatusCode:
    """Of a call on one of the connections."""
    call: Any = caller.channels[at % len(caller.channels)].unary_unary(method)
    try:
        call(b"x", timeout=LIMIT_S, metadata=caller.metadata)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return OK


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
        "a token of a key that nobody knows": desk.token(other, key_id="2"),  # for which keys are fetched anew
        "no grant": nobody,
    }


def _told(desk: Desk) -> None:
    """Once workers are told again: until what they know is stale, callers are let in though nobody tells them."""
    until = time.monotonic() + BACK_S
    while True:
        with suppress(grpc.RpcError):
            if desk.staleness() < FRESH_S:
                return
        if time.monotonic() > until:
            raise BenchError(f"expected workers to be told again within {BACK_S:g} s, they were not")
        time.sleep(PAUSE_S)


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
def _spoilt(scene: Scene) -> Iterator[None]:
    """The database's files overwritten, and whoever has them open killed; afterwards they are as they were."""
    folder = _store(scene)
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
def _down(server: Postgres, immediately: bool) -> Iterator[None]:
    server.end(immediately)
    try:
        time.sleep(STALL_S)
        yield
    finally:
        server.start()


@contextmanager
def _cut(server: Postgres) -> Iterator[None]:
    """The others are ended by the server then, which begins anew."""
    os.kill(server.backends()[0], signal.SIGKILL)
    time.sleep(FAULT_S)
    server.backends()
    yield


@contextmanager
def _stalled(server: Postgres) -> Iterator[None]:
    server.signal(signal.SIGSTOP)
    try:
        time.sleep(STALL_S)
        yield
    finally:
        server.signal(signal.SIGCONT)


@contextmanager
def _gone(server: Postgres, scene: Scene, table: str, read_once: bool) -> Iterator[None]:
    server.run(f"CREATE SCHEMA IF NOT EXISTS kept; ALTER TABLE langtrain.{table} SET SCHEMA kept")
    try:
        if read_once:
            os.kill(services(scene), signal.SIGKILL)
        time.sleep(STALL_S)
        yield
    finally:
        server.run(f"ALTER TABLE kept.{table} SET SCHEMA langtrain")


@contextmanager
def _garbled(server: Postgres, scene: Scene, rows: Rows) -> Iterator[None]:
    """And everything is read anew; afterwards they are as they were."""
    table, column, keys = f"langtrain.{rows.table}", rows.column, ", ".join(rows.keys)
    server.run(
        f"CREATE SCHEMA IF NOT EXISTS kept; DROP TABLE IF EXISTS kept.rows; "
        f"CREATE TABLE kept.rows AS SELECT {keys}, {column} FROM {table} WHERE {rows.where}; "
        f"UPDATE {table} SET {column} = {rows.spoilt} WHERE {rows.where}"
    )
    (_store(scene) / "api-keys.bin").unlink(missing_ok=True)  # what is made of what is stored
    os.kill(services(scene), signal.SIGKILL)
    try:
        time.sleep(STALL_S)
        yield
    finally:
        found = " AND ".join(f"spoilt.{key} = kept.{key}" for key in rows.keys)
        server.run(f"UPDATE {table} AS spoilt SET {column} = kept.{column} FROM kept.rows AS kept WHERE {found}")


def _store(scene: Scene) -> Path:
    return Path(scene.config["state"]["directory"]) / "store"


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


def _tables(at: Stand) -> Fault:
    turn = itertools.cycle(TABLES.items())
    return Fault(lambda: _gone(at.database, at.scene, *next(turn)), severs=True)


def _rows(at: Stand) -> Fault:
    turn = itertools.cycle(ROWS)
    return Fault(lambda: _garbled(at.database, at.scene, next(turn)), tells=True)


POSTGRES: Final = "postgres-"
# By part: what it is called, and how it is made.
FAULTS: Final[dict[str, tuple[str, Callable[[Stand], Fault]]]] = {
    "services-killed": ("services process killed", lambda at: Fault(lambda: _killed(at.scene))),
    "services-stopped": ("services process stopped", lambda at: Fault(lambda: _stopped(at.scene), severs=True)),
    "sqlite-spoilt": ("SQLite's files spoilt", lambda at: Fault(lambda: _spoilt(at.scene), severs=True)),
    "keys-away": ("issuer's keys away", lambda at: Fault(lambda: _keys(at.served, "away"))),
    "keys-stalled": ("issuer's keys stalled", lambda at: Fault(lambda: _keys(at.served, "stalled"))),
    "keys-garbage": ("issuer's keys garbage", lambda at: Fault(lambda: _keys(at.served, "garbage"))),
    "postgres-killed": ("PostgreSQL killed", lambda at: Fault(lambda: _down(at.database, False), severs=True)),
    "postgres-shut": ("PostgreSQL shut down at once", lambda at: Fault(lambda: _down(at.database, True), severs=True)),
    "postgres-backend": ("a backend of PostgreSQL killed", lambda at: Fault(lambda: _cut(at.database))),
    "postgres-stopped": ("PostgreSQL stopped", lambda at: Fault(lambda: _stalled(at.database), severs=True)),
    "postgres-tables": ("a table of PostgreSQL gone", _tables),
    "postgres-rows": ("rows of PostgreSQL spoilt", _rows),
}
