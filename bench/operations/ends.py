"""Workers that are killed, and sidecars that are told to stop, under load."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from bench.harness.callers import Callers, Failure, labels
from bench.harness.errors import BenchError
from bench.harness.results import Figure
from bench.harness.scene import Scene, Stage
from bench.operations.given import Given

QUEUED = 40  # connections that come while a worker is stopped: some of them wait for it
SHOWS_S = 2.0  # after a kill, within which what it cost shows
UNREAD_S = 0.2
OWN, OTHERS, WAITED = "the killed worker", "a living worker", "nobody yet"
PATIENCE_S = 60.0  # of a connection that waits: a successor's start takes seconds on a busy machine
GRACE_S = 30.0  # the default of listen.grace
WORKERS = 4


def kills(stage: Stage, given: Given) -> list[Figure]:
    queued = lost_queued = 0
    killed, ready = [], []
    with (
        stage.sidecar(WORKERS) as scene,
        Callers(scene.address, scene.pki.credentials(), given.rate, given.streams) as load,
    ):
        file = scene.pki.written(scene.pki.client)
        for number in range(given.kills):
            name, pid = sorted(scene.workers().items())[number % WORKERS]
            os.kill(pid, signal.SIGSTOP)
            waiting = [connect(scene) for _ in range(QUEUED)]
            killed.append(time.monotonic())
            os.kill(pid, signal.SIGKILL)
            # At once: those that wait for the successor must not keep the others from their handshakes.
            with ThreadPoolExecutor(QUEUED) as pool:
                lost_queued += QUEUED - sum(pool.map(lambda each: served(each, scene, file), waiting))
            queued += QUEUED
            load.wait(partial(_replaced, scene, name), "see a successor", PATIENCE_S)
            load.more(200)
            ready.append(time.monotonic() - killed[-1])
            time.sleep(SHOWS_S)
        rate = load.rate()
        load.finish()
    fates = Counter(_fate(each, load.seen, killed) for each in load.failures)
    streams = sum(each.kind == "stream" and _fate(each, load.seen, killed) is OWN for each in load.failures)
    about = f"{given.kills} workers of {WORKERS} killed (-9) under load"
    if fates[OTHERS]:
        print("lost with a living worker:", labels([e for e in load.failures if _fate(e, load.seen, killed) is OTHERS]))
    return [
        Figure(f"{about}: calls lost that were with a living worker", "calls", [fates[OTHERS]], bar=0),
        Figure(f"{about}: connections lost of {queued} that came before the kill", "connections", [lost_queued], bar=0),
        Figure(f"{about}: calls lost with the killed worker, each kill", "calls", [round(fates[OWN] / given.kills, 1)]),
        Figure(f"{about}: of them streams, of {given.streams} open, each kill", "streams",
               [round(streams / given.kills, 1)]),
        Figure(f"{about}: calls begun later that gave up while their connection waited for the successor",
               "calls", [fates[WAITED]]),
        Figure(f"{about}: unary calls answered", "calls/s", [round(rate, 1)]),
        Figure(f"{about}: until those connections are served, a successor runs and 200 calls more are answered",
               "s", ready),
    ]  # fmt: skip


def _replaced(scene: Scene, name: str) -> bool:
    running = scene.workers()
    return name not in running and len(running) == WORKERS


def _fate(failure: Failure, seen: Mapping[str, float], killed: Sequence[float]) -> str:
    """With whom a call was lost: the worker that was killed just then, a living one, or nobody yet.

    Of a killed worker nothing is heard afterwards, but for what its client had still to read.
    """
    if failure.by and seen[failure.by] > failure.at + UNREAD_S:
        return OTHERS
    connected = "failed to connect" not in failure.detail
    return OWN if connected and any(at <= failure.at <= at + SHOWS_S for at in killed) else WAITED


def connect(scene: Scene) -> socket.socket:
    host, _, port = scene.address.rpartition(":")
    return socket.create_connection((host, int(port)), PATIENCE_S)


def served(waiting: socket.socket, scene: Scene, client: Path) -> bool:
    """Whether a connection gets its handshake and the first frame."""
    context = ssl.create_default_context(cafile=str(scene.pki.ca))
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(client)
    try:
        with context.wrap_socket(waiting, server_hostname="localhost") as secured:
            return bool(secured.recv(9))
    except OSError:
        return False


def stops(stage: Stage, given: Given) -> list[Figure]:
    late = unclean = open_calls = 0
    lost: list[Failure] = []
    took = []
    for _ in range(given.stops):
        with stage.sidecar(WORKERS) as scene:
            with Callers(scene.address, scene.pki.credentials(), given.rate, given.streams) as load:
                load.more(100)
                told = time.monotonic()
                os.kill(scene.process.pid, signal.SIGTERM)
                scene.until("draining", WORKERS)
                load.finish()
            unclean += _exit_status(scene) != 0
            took.append(time.monotonic() - told)
            late += took[-1] > GRACE_S
            lost += [each for each in load.failures if each.begun < told]
            open_calls += load.finished
    about = f"{given.stops} x SIGTERM under load"
    # A call whose connection is still being made has not come to the sidecar, and its client may make it elsewhere.
    unmade = sum("failed to connect" in each.detail for each in lost)
    if lost:
        print("begun before SIGTERM and lost:", labels(lost))
    return [
        Figure(f"{about}: calls in flight lost", "calls", [len(lost) - unmade], bar=0),
        Figure(f"{about}: calls begun before it whose connection was not made any more", "calls", [unmade]),
        Figure(f"{about}: streams that were open and ended well, of {given.stops * given.streams}",
               "streams", [open_calls]),
        Figure(f"{about}: exits after the grace of {GRACE_S:g} s", "exits", [late], bar=0),
        Figure(f"{about}: exits with another status than 0", "exits", [unclean], bar=0),
        Figure(f"{about}: until the exit, the callers ending their streams at once", "s", took),
    ]  # fmt: skip


def _exit_status(scene: Scene) -> int:
    try:
        return scene.process.ended(GRACE_S + 10)
    except BenchError:
        return -1
