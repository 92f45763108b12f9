"""CPU time per call of the sidecar with its chain on, beside Envoy without a filter, in one run.

A 1 KB unary call over mTLS, on 4 connections of 8 streams each and on 32 of one; with every call sampled and its
span sent to a sink, with tracing on and no call sampled, and without an exporter. The proxies take turns on a core
of their own; load, upstream and collectors have another. A round with a call that failed, or that the sidecar did
not record, is void and fails the run.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.harness import certificates, cores, envoy, payload, results, sidecar, upstream
from bench.harness.errors import BenchError
from bench.harness.h2load import TLS, Load, Shape
from bench.harness.paths import CACHE, RESULTS, ROOT
from bench.harness.processes import Processes, exit_on_signals
from bench.harness.results import Result
from bench.harness.rounds import Comparison, compare
from bench.harness.sidecar import Spans

MESSAGE = 1024  # bytes, before its prefix
BUSY = 0.1  # share of waiting above which figures are not worth quoting
CALLS = {Shape(4, 8): 60_000, Shape(32, 1): 30_000}  # in a round: some seconds each


def main() -> int:
    arguments = _arguments()
    exit_on_signals()
    try:
        comparisons, arrived, build = run(arguments.rounds, arguments.scale)
    except BenchError as error:
        print(f"bench relay-first failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; every process is stopped", file=sys.stderr)
        return 130
    options = sys.argv[1:]
    command = shlex.join(["python", "-m", "bench.relay_first", *options]) if options else "make bench-relay-first"
    found = [figure(comparison, command) for comparison in comparisons]
    print(results.table(found))
    if any(result.waited > BUSY for result in found):
        _tell(f"the machine was busy: a proxy waited for its core for over {BUSY:.0%} of its CPU time in some round")
    results.write(arguments.out, "relay-first", set_up(comparisons, arrived, build), found)
    print(f"written to {os.path.relpath(arguments.out, ROOT)}")
    return 0


def run(rounds: int, scale: float) -> tuple[list[Comparison], float, str]:
    """Start everything, compare on each shape, stop everything; also the share of sampled calls whose span arrived,
    and which build of the sidecar it was.

    scale: of the calls in a round.  Raises BenchError when something is missing, does not start, or a round is void.
    """
    claimed = cores.claim()
    with Processes(CACHE / f"run-{os.getpid()}") as processes:
        issued = certificates.issue(processes.folder, datetime.datetime.now(datetime.UTC))
        echo = upstream.start(processes)
        ours = [sidecar.start(processes, claimed.proxy, issued, echo, spans) for spans in Spans]
        peer = envoy.start(processes, claimed.proxy, issued, echo)
        load = Load(processes, issued, payload.framed(MESSAGE))
        for proxy in ours:
            if proxy.collector is not None:
                proxy.prove_traced(load)
        comparisons = [
            comparison
            for shape, calls in CALLS.items()
            for comparison in compare(ours, peer, load, shape, max(int(calls * scale), 100), rounds, _tell)
        ]
        exporting = next(proxy for proxy in ours if proxy.spans is Spans.EXPORTED)
        return comparisons, exporting.exported / exporting.calls, exporting.build


def figure(comparison: Comparison, command: str) -> Result:
    shape = comparison.shape
    streams = "1 stream" if shape.streams == 1 else f"{shape.streams} streams"
    return Result(
        metric=f"CPU per 1 KB unary call, mTLS, {shape.connections} connections x {streams}, {comparison.title}",
        value=comparison.subject_us,
        unit="us/call",
        peer=envoy.TITLE,
        peer_value=comparison.peer_us,
        ratio=comparison.ratio,
        spread=(min(comparison.ratios), max(comparison.ratios)),
        waited=comparison.waited,
        rounds=len(comparison.ratios),
        command=command,
    )


def set_up(comparisons: Sequence[Comparison], arrived: float, build: str) -> dict[str, object]:
    return {
        "sidecar": f"one worker; {sidecar.CHAIN}",
        "build": build,
        "python": platform.python_version(),
        "peer": f"{envoy.TITLE}; one worker, request ids, access log and timeouts off",
        "tls": f"{TLS}, P-256, client certificate required; plaintext HTTP/2 to the upstream",
        "load": "h2load: the same headers on every call; handshakes count; load and upstream share the other core",
        "spans": f"{arrived:.0%} of the sampled calls' spans arrived; the exporter drops what it has no room for",
        "calls per round": {str(comparison.shape): comparison.calls for comparison in comparisons},
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.relay_first", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count, 5 or more for figures worth quoting")
    parser.add_argument("--scale", type=float, default=1.0, help="of the calls in a round, below 1 for a quick look")
    parser.add_argument("--out", type=Path, default=RESULTS / "relay-first.json", help="where the results go")
    return parser.parse_args()


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
