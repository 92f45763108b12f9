"""What a sidecar holds and writes, for planning: memory fresh, of a connection and of an open call, bytes on disk.

One worker with mTLS, one rule, probes and an access log, before an echoing model server of grpcio. Memory is the
proportional set size (PSS): what processes share is counted once. Run as root: a sidecar hides its memory from others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import ssl
import sys
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc

from bench.harness import children, procfs, results
from bench.harness.echo_server import STREAM, UNARY
from bench.harness.errors import BenchError
from bench.harness.paths import CACHE, RESULTS, ROOT
from bench.harness.processes import Process, Processes, exit_on_signals, free_port, program
from bench.harness.results import Figure
from bench.harness.scene import Scene, Stage
from sidecar.relay.http2 import frames
from sidecar.telemetry.layout import layout
from sidecar.telemetry.metrics import TABLE, Kind

CONNECTIONS = 1000
CHANNELS = 20
STREAMS = 100  # on each channel
CALLS = 2000
CALLERS = 16
MESSAGE = b"x" * 1024
DENIED = "/bench.Other/Method"  # no rule allows it
SETTLED_S = 3.0  # for what comes after the last of something: acknowledgements, the next tick


def measure(processes: Processes) -> list[Figure]:
    """Every figure. Raises BenchError."""
    stage = Stage(processes)
    probes, access_log = free_port(), processes.folder / "access.jsonl"
    more: dict[str, Any] = {
        "probes": {"address": f"127.0.0.1:{probes}"},
        "telemetry": {"access_log": {"file": str(access_log)}},
    }
    with stage.sidecar(workers=1, crl=False, more=more) as scene:
        ((_, worker),) = children.of_role(scene.process.pid, "worker")
        time.sleep(SETTLED_S)
        found = fresh(scene)
        found += scrapes("fresh", probes)
        found += asyncio.run(calls(processes, scene, worker, access_log))
        found += [*scrapes("after calls of 2 methods", probes), *bounds()]
    with stage.sidecar(workers=1, crl=False) as scene:  # another: nothing is to fill room that calls have left
        time.sleep(SETTLED_S)
        ((_, worker),) = children.of_role(scene.process.pid, "worker")
        return [*found, *asyncio.run(idle(scene, worker))]


def fresh(scene: Scene) -> list[Figure]:
    """Memory of each process before the first call."""
    pids = {"supervisor": scene.process.pid} | {
        role: pid for role, _, pid in children.everyone(scene.process.pid)
    }  # of one worker, each role has one process
    sizes = {role: procfs.memory(pid) / 1e6 for role, pid in pids.items()}
    found = [Figure(f"memory, fresh {role}", "MB", [size]) for role, size in sizes.items()]
    return [*found, Figure("memory, fresh sidecar of 1 worker", "MB", [sum(sizes.values())])]


async def idle(scene: Scene, worker: int) -> list[Figure]:
    """Connections that are there and call nothing, and as many again once they have ended."""
    context = ssl.create_default_context(cafile=str(scene.pki.ca))
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(scene.pki.written(scene.pki.client))
    host, port = scene.address.split(":")
    sizes, begun, made_s = [procfs.memory(worker)], time.monotonic(), 0.0
    for _ in range(2):
        writers = []
        for _ in range(CONNECTIONS):
            _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
            writer.write(frames.PREFACE + frames.settings([]) + frames.SETTINGS_ACK)
            writers.append(writer)
        made_s = made_s or time.monotonic() - begun
        await asyncio.sleep(SETTLED_S)
        sizes.append(procfs.memory(worker))
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(SETTLED_S)
    before, first, second = sizes
    return [
        Figure("memory, idle mTLS connection", "KB", [(first - before) / CONNECTIONS / 1e3]),
        Figure("memory, another after one that has ended", "KB", [(second - first) / CONNECTIONS / 1e3]),
        Figure("handshakes, one after the other", "1/s", [CONNECTIONS / made_s]),
    ]


async def calls(processes: Processes, scene: Scene, worker: int, access_log: Path) -> list[Figure]:
    """What calls write, and what open ones hold."""
    options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
    credentials = scene.pki.credentials()
    channels = [grpc.aio.secure_channel(scene.address, credentials, options) for _ in range(CHANNELS)]
    try:
        for channel in channels:
            await once(channel, UNARY)
        return [
            await held(worker, channels),
            *await written(processes, scene, channels, access_log, 1),
            *await written(processes, scene, channels, access_log, CALLERS),
            await denied(channels[0]),
        ]
    finally:
        for channel in channels:
            await channel.close()


async def once(channel: Any, method: str) -> grpc.StatusCode:
    try:
        await channel.unary_unary(method)(MESSAGE, timeout=30)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def written(
    processes: Processes, scene: Scene, channels: list[Any], access_log: Path, callers: int
) -> list[Figure]:
    """On disk by allowed calls of so many callers, each with one call after the other."""
    trail = Path(scene.config["state"]["directory"]) / "audit" / "events.jsonl"
    ((_, recorder),) = children.of_role(scene.process.pid, "recorder")

    async def caller(number: int) -> None:
        for _ in range(CALLS // callers):
            if await once(channels[number % CHANNELS], UNARY) is not grpc.StatusCode.OK:
                raise BenchError("void: a call failed")

    await asyncio.sleep(SETTLED_S)
    files = (trail, access_log)
    before = list(map(size, files))
    tracer = traced(processes, recorder)
    begun = time.monotonic()
    await asyncio.gather(*(caller(number) for number in range(callers)))
    seconds = time.monotonic() - begun
    await asyncio.sleep(SETTLED_S)
    syncs = stopped(processes, tracer)
    recorded, logged = (size(file) - was for file, was in zip(files, before, strict=True))
    by = f"{callers} callers" if callers > 1 else "1 caller"
    return [
        Figure(f"allowed calls, {by}", "1/s", [CALLS / seconds]),
        Figure(f"audit trail, {by}", "bytes/call", [recorded / CALLS]),
        Figure(f"access log, {by}", "bytes/call", [logged / CALLS]),
        Figure(f"fdatasync of the audit trail, {by}", "1/s", [len(syncs) / seconds]),
        Figure(f"time of one fdatasync, {by}", "ms", [1e3 * each for each in syncs]),
    ]


def size(file: Path) -> int:
    return file.stat().st_size


def traced(processes: Processes, pid: int) -> Process:
    """strace, attached to a process and telling each fdatasync."""
    command = [program("strace", "strace"), "-f", "-T", "-e", "trace=fdatasync", "-e", "signal=none", "-p", str(pid)]
    tracer = processes.start(f"strace-{pid}", command)
    tracer.wait_for(lambda: "attached" in tracer.output() or None, "attach")
    return tracer


def stopped(processes: Processes, tracer: Process) -> list[float]:
    """Detach it; seconds of each fdatasync that it saw. Raises BenchError."""
    processes.stop(tracer)
    found = [float(seconds) for seconds in re.findall(r"= 0 <([0-9.]+)>", tracer.output())]
    if not found:
        raise BenchError(f"expected strace to see fdatasync, its last lines:\n{tracer.tail()}")
    return found


async def denied(channel: Any) -> Figure:
    """Calls that wait for their denial to be on disk."""
    took = []
    for _ in range(100):
        begun = time.monotonic()
        if await once(channel, DENIED) is not grpc.StatusCode.PERMISSION_DENIED:
            raise BenchError("void: a call was not denied")
        took.append(1e3 * (time.monotonic() - begun))
    return Figure("a denied call, whose event is on disk before the answer", "ms", took)


async def held(worker: int, channels: list[Any]) -> Figure:
    """Memory of streams that are open and have echoed one message."""
    await asyncio.sleep(SETTLED_S)
    before = procfs.memory(worker)
    streams = []
    for channel in channels * STREAMS:
        streams.append(channel.stream_stream(STREAM)())
        await streams[-1].write(MESSAGE)
        if await streams[-1].read() is grpc.aio.EOF:
            raise BenchError(f"void: a stream ended: {await streams[-1].code()}")
    await asyncio.sleep(SETTLED_S)
    after = procfs.memory(worker)
    for stream in streams:
        stream.cancel()
    return Figure("memory, open call", "KB", [(after - before) / len(streams) / 1e3])


# --- metrics ------------------------------------------------------------------------------------------------------


def scrapes(when: str, port: int) -> list[Figure]:
    """What a scraper gets."""
    took, text = [], b""
    for _ in range(10):
        begun = time.monotonic()
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read()
        connection.close()
        took.append(1e3 * (time.monotonic() - begun))
    samples = sum(1 for line in text.splitlines() if line and not line.startswith(b"#"))
    return [
        Figure(f"series, {when}", "", [samples]),
        Figure(f"size of a scrape, {when}", "KB", [len(text) / 1e3]),
        Figure(f"time of a scrape, {when}", "ms", took),
    ]


def bounds() -> list[Figure]:
    """What metrics can come to, however many methods callers invent."""
    series = 0
    for metric in TABLE:
        # A histogram has its buckets, +Inf, count and sum; each metric with labels has a row for `other`.
        width = len(metric.bounds) + 3 if metric.kind is Kind.HISTOGRAM else 1
        series += width * (metric.rows + 1 if metric.labels else 1)
    return [
        Figure("series at most, of one worker", "", [series]),
        Figure("shared memory for the metrics of a process", "KB", [layout().size / 1e3]),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "capacity.json", help="where the results go")
    chosen = parser.parse_args(arguments)
    exit_on_signals()
    try:
        with Processes(CACHE / f"run-{os.getpid()}", stop_s=40.0) as processes:
            found = measure(processes)
    except BenchError as error:
        print(f"bench capacity failed: {error}", file=sys.stderr)
        return 1
    for figure in found:
        made = figure.record("")
        low, high = min(figure.values), max(figure.values)
        spread = f"  ({low:.3g} to {high:.3g})" if len(figure.values) > 1 else ""
        print(f"{figure.metric:64} {made['value']:10,} {figure.unit}{spread}")
    whole = {
        "bench": "capacity",
        "machine": results.machine(),
        "set_up": {
            "sidecar": "1 worker, interpreted; mTLS, one rule, audit trail, access log, probes; grpcio as both peers",
            "connections": CONNECTIONS,
            "open_calls": CHANNELS * STREAMS,
            "calls": CALLS,
            "message": f"{len(MESSAGE)} bytes",
        },
        "results": [figure.record("python -m bench.capacity") for figure in found],
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(whole, indent=2) + "\n")
    print(f"written to {os.path.relpath(chosen.out, ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
