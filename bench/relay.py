"""What a call through the sidecar costs, its chain on, beside other proxies that have none: `python -m bench.relay`.

CPU time per call of all of a proxy's processes, from schedstat, on a core of its own; load and model server have
another. Each row is a load; the proxies take turns under it, round after round. A round with a call that failed, or
that the sidecar did not record, is void and fails the run. Rows that are not run again keep their figures in the file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from bench.harness import certificates, cores, envoy, payload, results, sidecar, upstream
from bench.harness.certificates import Certificates
from bench.harness.driver import Driver
from bench.harness.errors import BenchError
from bench.harness.h2load import TLS, TRACE_ID, H2Load
from bench.harness.loads import Load, Shape
from bench.harness.paths import CACHE, RESULTS, ROOT
from bench.harness.peers import PEERS
from bench.harness.processes import Processes, exit_on_signals
from bench.harness.proxies import Peer, Proxy
from bench.harness.rounds import Entry, Rounds, take_turns
from bench.harness.sidecar import FIRST, SIDECAR, Setup, Sidecar
from bench.harness.trail import Evidence

MESSAGE, LARGE = 1024, 600_000  # bytes, before their prefix
BUSY = 0.1  # share of waiting above which figures are not worth quoting
ONE, MANY = (Setup(f"sidecar, {title}", rules=count) for title, count in (("1 rule", 1), ("10,000 rules", 10_000)))
TWO = Setup("sidecar, two workers", workers=2)
PLAIN = Setup("sidecar", tls=False)
DIRECT = "no proxy"
OTHERS = (envoy.TITLE, "nginx", "nghttpx", "haproxy")
ALONE = Evidence(trace="")  # the caller has no trace
VARIED = Evidence(trace=TRACE_ID[16:])  # as the driver's vary


@dataclass(frozen=True, slots=True)
class Bar:
    """What the median ratio of two entries may be at most. added: not of CPU time, but of time added to a call."""

    of: str
    to: str
    most: float | None
    added: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One load, and who takes turns under it. calls: in a round.  loads: by what they add to a proxy's title."""

    title: str
    calls: int
    loads: dict[str, Callable[[Stage], Load]]
    bars: tuple[Bar, ...]
    setups: tuple[Setup, ...] = (SIDECAR,)
    peers: tuple[str, ...] = tuple(PEERS)
    tls: bool = True
    evidence: Evidence = VARIED
    direct: bool = False
    callers: int = 0  # of identities of their own, in a round


@dataclass(frozen=True, slots=True)
class Stage:
    """What a row's loads are made of."""

    processes: Processes
    certificates: Certificates

    def h2load(self, shape: Shape, traces: bool = False) -> Load:
        return H2Load(self.processes, self.certificates, payload.framed(MESSAGE), shape, traces)

    def driver(self, shape: Shape, size: int = MESSAGE, tls: bool = True, **more: Any) -> Driver:
        return Driver(self.processes, self.certificates if tls else None, payload.framed(size), shape, **more)


def against_envoy(most: float | None, *titles: str) -> tuple[Bar, ...]:
    return tuple(Bar(title, envoy.TITLE, most) for title in titles or (SIDECAR.title,))


ROWS: dict[str, Row] = {
    "identical-4x8": Row(
        "1 KB unary, mTLS, 4 connections x 8 streams, identical headers (h2load)", 20_000,
        {"": lambda stage: stage.h2load(Shape(4, 8))}, against_envoy(0.5), evidence=ALONE,
    ),
    "varying-4x8": Row(
        "1 KB unary, mTLS, 4 connections x 8 streams, varying headers", 20_000,
        {"": lambda stage: stage.driver(Shape(4, 8))}, against_envoy(0.9),
    ),
    "identical-32x1": Row(
        "1 KB unary, mTLS, 32 connections x 1 stream, identical headers (h2load)", 15_000,
        {"": lambda stage: stage.h2load(Shape(32, 1))}, against_envoy(0.75), evidence=ALONE,
    ),
    "varying-32x1": Row(
        "1 KB unary, mTLS, 32 connections x 1 stream, varying headers", 15_000,
        {"": lambda stage: stage.driver(Shape(32, 1))}, against_envoy(1.0),
    ),
    "stream": Row(
        "a stream of 100 x 200 B from the server, mTLS, 4 connections x 8 streams, varying headers", 2_000,
        {"": lambda stage: stage.driver(Shape(4, 8), path=payload.STREAM, answer=payload.STREAMED)},
        against_envoy(0.6), evidence=replace(VARIED, method=payload.STREAM),
    ),
    "large-plaintext": Row(
        "600 KB unary, plaintext, 4 connections x 2 streams, varying headers", 400,
        {"": lambda stage: stage.driver(Shape(4, 2), LARGE, tls=False)},
        against_envoy(1.2), setups=(PLAIN,), tls=False, evidence=replace(VARIED, callers=""),
    ),
    "large-mtls": Row(
        "600 KB unary, mTLS, 4 connections x 2 streams, varying headers", 400,
        {"": lambda stage: stage.driver(Shape(4, 2), LARGE)}, against_envoy(1.3),
    ),
    "fixed-rate": Row(
        "1 KB unary, mTLS, 1,000 calls a second, one stream a connection, varying headers", 3_000,
        {
            f", {count:,} connections": lambda stage, count=count: stage.driver(Shape(count, 1), rate=1000)  # type: ignore[misc]
            for count in (32, 1000)
        },
        tuple(
            Bar(f"{title}, 1,000 connections", f"{title}, 32 connections", most)
            for title, most in ((SIDECAR.title, 1.7), *((peer, None) for peer in OTHERS))
        ),
        peers=("envoy", "nginx", "nghttpx", "haproxy"),
    ),
    "rules": Row(
        "1 KB unary, mTLS, 4 connections x 8 streams, varying headers, 10,000 rules to 1", 20_000,
        {"": lambda stage: stage.driver(Shape(4, 8))}, (Bar(MANY.title, ONE.title, 1.15),),
        setups=(ONE, MANY), peers=(),
    ),
    "rules-new-callers": Row(
        "1 KB unary, mTLS, the first call of each of 500 identities, 10,000 rules to 1; handshakes apart", 500,
        {"": lambda stage: stage.driver(Shape(500, 1), identities=stage.certificates.callers)},
        (Bar(MANY.title, ONE.title, 1.15),), setups=(ONE, MANY), peers=(), callers=500,
    ),
    "sequential": Row(
        "1 KB unary, mTLS, one call after the other, varying headers", 3_000,
        {"": lambda stage: stage.driver(Shape(1, 1))}, (Bar(SIDECAR.title, envoy.TITLE, 1.0, added=True),),
        direct=True,
    ),
    "workers": Row(
        "1 KB unary, mTLS, 32 connections x 1 stream, varying headers, two workers to one, on one core", 15_000,
        {"": lambda stage: stage.driver(Shape(32, 1))}, (Bar(TWO.title, SIDECAR.title, 1.18),),
        setups=(SIDECAR, TWO), peers=(),
    ),
}  # fmt: skip
FIRST_ROWS: dict[str, Row] = {
    f"first-{shape}": Row(
        f"1 KB unary, mTLS, {shape}, identical headers (h2load); identify, authorize and record alone", calls,
        {"": lambda stage, shape=shape: stage.h2load(shape, traces=True)},  # type: ignore[misc]
        against_envoy(None, *(setup.title for setup in FIRST)), setups=FIRST, peers=("envoy",), evidence=Evidence(),
    )
    for shape, calls in ((Shape(4, 8), 30_000), (Shape(32, 1), 15_000))
}  # fmt: skip


def main() -> int:
    arguments = _arguments()
    exit_on_signals()
    rows = ROWS | FIRST_ROWS
    try:
        claimed = cores.claim()
        for name in arguments.rows or ROWS:
            rounds, build = run(rows[name], claimed, arguments.rounds, arguments.scale, arguments.without)
            told = record(rows[name], rounds, f"python -m bench.relay {shlex.join([name, *_options(sys.argv[1:])])}")
            print(table(name, told), flush=True)
            write(arguments.out, name, told, build)
    except BenchError as error:
        print(f"bench relay failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; every process is stopped", file=sys.stderr)
        return 130
    print(f"written to {os.path.relpath(arguments.out, ROOT)}")
    return 0


def run(row: Row, claimed: cores.Cores, rounds: int, scale: float, without: Sequence[str]) -> tuple[Rounds, str]:
    """Start everything, take turns, stop everything; also which build of the sidecar it was.

    scale: of the calls in a round.  Raises BenchError when something is missing, does not start, or a round is void.
    """
    _tell(row.title)
    with Processes(CACHE / f"run-{os.getpid()}") as processes:
        now = datetime.datetime.now(datetime.UTC)
        issued = certificates.issue(processes.folder, now, row.callers * len(row.setups) * (rounds + 1))
        model = upstream.start(processes)
        ours = [
            sidecar.start(processes, claimed.proxy, issued, model.port, setup, row.evidence) for setup in row.setups
        ]
        given = issued if row.tls else None
        proxies: list[Proxy] = [*ours]
        beside = [name for name in row.peers if name not in without]
        proxies += [PEERS[name](processes, claimed.proxy, given, model.port) for name in beside]
        stage = Stage(processes, issued)
        for one in ours:
            _prove_traced(one, stage, row)
        entries = [
            Entry(proxy.title + suffix, proxy, load, row.calls if row.callers else max(int(row.calls * scale), 1))
            for suffix, make in row.loads.items()
            for load in (make(stage),)
            for proxy in proxies
        ]
        if row.direct:
            entries.append(_direct(model, stage, row))
        return take_turns(entries, rounds, _tell), ours[0].build


def _direct(model: Peer, stage: Stage, row: Row) -> Entry:
    return Entry(model.title, model, stage.driver(Shape(1, 1), tls=False), row.calls)


def _prove_traced(one: Sidecar, stage: Stage, row: Row) -> None:
    """That the link that traces is on, where spans are exported: by a call that the caller has sampled."""
    if one.collector is not None:
        answer = payload.STREAMED if row.evidence.method == payload.STREAM else None
        load = stage.driver(Shape(1, 1), tls=row.tls, path=row.evidence.method, answer=answer, vary=False, sample=1)
        one.prove_traced(load)


def record(row: Row, rounds: Rounds, command: str) -> dict[str, Any]:
    """A row's figures, as the file has them."""
    entries = {
        title: {
            "cpu_us": _spread([sample.cpu_us for sample in samples], 1),
            "calls_a_second": round(median(sample.rate for sample in samples)),
            "waited": round(max(sample.waited for sample in samples), 3),
        }
        | ({"p50_us": _spread([sample.p50_us or 0.0 for sample in samples], 1)} if samples[0].p50_us else {})
        for title, samples in rounds.samples.items()
    }
    ratios = []
    for bar in row.bars:
        if bar.of not in rounds.samples or bar.to not in rounds.samples:
            continue
        found = rounds.added(bar.of, bar.to, DIRECT) if bar.added else rounds.ratios(bar.of, bar.to)
        said: dict[str, Any] = {"of": bar.of, "to": bar.to, "what": "p50 added" if bar.added else "CPU time"}
        said |= _spread(list(found), 3)
        if bar.most is not None:
            said |= {"bar": bar.most, "met": said["median"] <= bar.most}
        ratios.append(said)
    count = len(next(iter(rounds.samples.values())))
    return {"load": row.title, "entries": entries, "ratios": ratios, "rounds": count, "command": command}


def _spread(values: Sequence[float], digits: int) -> dict[str, float]:
    return {
        "median": round(median(values), digits), "low": round(min(values), digits), "high": round(max(values), digits)
    }  # fmt: skip


def table(name: str, told: dict[str, Any]) -> str:
    """A row's figures for the terminal."""
    lines = [f"{name}: {told['load']}"]
    for title, entry in told["entries"].items():
        cpu = entry["cpu_us"]
        line = f"  {title:40} {cpu['median']:9.1f} us of CPU a call ({cpu['low']:.1f} to {cpu['high']:.1f})"
        lines.append(line + (f", p50 {entry['p50_us']['median']:.0f} us" if "p50_us" in entry else ""))
    for ratio in told["ratios"]:
        line = f"  {ratio['of']} to {ratio['to']}, {ratio['what']}: {ratio['median']:.2f}"
        line += f" ({ratio['low']:.2f} to {ratio['high']:.2f})"
        if "bar" in ratio:
            line += f", bar {ratio['bar']}: {'met' if ratio['met'] else 'MISSED'}"
        lines.append(line)
    if any(entry["waited"] > BUSY for entry in told["entries"].values()):
        lines.append(f"  busy: a proxy waited for its core for over {BUSY:.0%} of its CPU time in some round")
    return "\n".join(lines)


def write(file: Path, name: str, told: dict[str, Any], build: str) -> None:
    """Put a row into the file, beside those that it has."""
    kept = json.loads(file.read_text())["rows"] if file.is_file() else {}
    kept[name] = told
    whole = {
        "bench": "relay",
        "machine": results.machine(),
        "set_up": {
            "sidecar": "one worker; identify by mTLS, authorize by the last of four rules, limit by identity, record "
            "every call to an fsynced file, trace with 1% sampled and exported, access log and metrics on",
            "build": build,
            "peers": f"{envoy.TITLE}; one worker or thread each, no access log, as they come",
            "tls": f"{TLS}, P-256, client certificate required; plaintext HTTP/2 to the model server",
        },
        "rows": {row: kept[row] for row in (*ROWS, *FIRST_ROWS) if row in kept},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(whole, indent=2) + "\n")


def _options(arguments: Sequence[str]) -> list[str]:
    """What was asked for besides rows."""
    return [text for text in arguments if text not in ROWS | FIRST_ROWS]


def _arguments() -> argparse.Namespace:
    names = ROWS | FIRST_ROWS
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"which to run: {', '.join(names)}; all but first-* if none")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, 5 or more for figures worth quoting")
    parser.add_argument("--scale", type=float, default=1.0, help="of the calls in a round, below 1 for a quick look")
    parser.add_argument("--without", nargs="*", default=[], choices=list(PEERS), help="peers to leave out")
    parser.add_argument("--out", type=Path, default=RESULTS / "relay.json", help="where the results go")
    arguments = parser.parse_args()
    for name in arguments.rows:
        if name not in names:
            parser.error(f"expected rows of {', '.join(names)}, got {name}")
    return arguments


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
