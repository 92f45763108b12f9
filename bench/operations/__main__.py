"""Runs all parts, or those that are named, and keeps what the others found before."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.harness import results
from bench.harness.errors import BenchError
from bench.harness.paths import CACHE, RESULTS, ROOT
from bench.harness.processes import Processes, exit_on_signals
from bench.harness.results import Figure
from bench.harness.scene import Stage
from bench.operations import budgets, changes, ends, faults, starts, taken, trust
from bench.operations.given import Given

PARTS: dict[str, Callable[[Stage, Given], list[Figure]]] = {
    "starts": starts.run,
    "changes": changes.run,
    "kills": ends.kills,
    "stops": ends.stops,
    "revocations": trust.revocations,
    "removals": trust.removals,
    "expiries": trust.expiries,
    "taken": taken.run,
    "taken-certificates": taken.certificates,
    "taken-expiries": taken.expiries,
    "taken-stalls": taken.stalls,
    "taken-kills": taken.kills,
    **{f"faults-{part}": partial(faults.run, part) for part in faults.FAULTS},
    "limits": budgets.run,
}


def main() -> int:
    arguments = _arguments()
    exit_on_signals()
    given = Given(
        arguments.rate, arguments.streams, arguments.changes, arguments.kills, arguments.stops, arguments.trials,
        arguments.rounds, arguments.starts, arguments.faults,
    )  # fmt: skip
    met = True
    for part in arguments.parts or PARTS:
        try:
            with Processes(CACHE / f"run-{os.getpid()}", stop_s=40.0) as processes:
                found = PARTS[part](Stage(processes), given)
        except BenchError as error:
            print(f"bench operations {part} failed: {error}", file=sys.stderr)
            return 1
        for figure in found:
            print(_line(figure), flush=True)
            met = met and figure.met
        write(arguments.out, part, found, _command(part, given))
    print(f"written to {os.path.relpath(arguments.out, ROOT)}")
    return 0 if met else 1


def _line(figure: Figure) -> str:
    made = figure.record("")
    low, high = min(figure.values), max(figure.values)
    spread = f" ({low:.3g} to {high:.3g}, {len(figure.values)} trials)" if len(figure.values) > 1 else ""
    return f"{figure.metric}: {made['value']:g} {figure.unit}{spread}{'' if figure.met else '  MISSED'}"


def _command(part: str, given: Given) -> str:
    """What repeats a part; the whole is `make bench-operations`."""
    options = {
        name: value for name, value in zip(Given.__slots__, _values(given), strict=True) if value != DEFAULTS[name]
    }
    return " ".join(["python -m bench.operations", part, *(f"--{name} {value:g}" for name, value in options.items())])


def _values(given: Given) -> list[float]:
    return [getattr(given, name) for name in Given.__slots__]


def write(file: Path, part: str, found: list[Figure], command: str) -> None:
    """Put one part's figures in place of those that it had."""
    before = json.loads(file.read_text())["results"] if file.exists() else {}
    whole = {
        "bench": "operations",
        "machine": results.machine(),
        "set_up": {
            "sidecar": "4 workers (starts: 2), mTLS with a CRL, one rule, everything else by default",
            "load": "grpcio, an open loop: unary calls on 20 connections, 5 calls a second on fresh ones, and streams; "
            "starts: none",
            "cores": "shared by the sidecar, the model server and the callers",
        },
        "results": {**before, part: [figure.record(command) for figure in found]},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(whole, indent=2) + "\n")


DEFAULTS: dict[str, float] = {
    "rate": 500, "streams": 100, "changes": 100, "kills": 20, "stops": 50, "trials": 100, "rounds": 50, "starts": 10,
    "faults": 20,
}  # fmt: skip
MEANINGS = {
    "rate": "unary calls begun each second",
    "streams": "open all the time",
    "changes": "rotations, and as many reloads",
    "kills": "of workers",
    "stops": "by SIGTERM",
    "trials": "of each kind of lost trust",
    "rounds": "of limits, and as many in which a worker is killed",
    "starts": "of sidecars",
    "faults": "of each kind of whoever decides",
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.operations", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all where none is named")
    for name, default in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=MEANINGS[name])
    parser.add_argument("--out", type=Path, default=RESULTS / "operations.json", help="where the results go")
    arguments = parser.parse_args()
    named = {given: [part for part in PARTS if part == given or _whole(given, part)] for given in arguments.parts}
    if unknown := [given for given, parts in named.items() if not parts]:
        parser.error(f"no such part: {', '.join(unknown)}")
    arguments.parts = [part for parts in named.values() for part in parts]
    return arguments


def _whole(given: str, part: str) -> bool:
    """Whether several parts are named by how they begin, and this is one of them."""
    return given not in PARTS and part.startswith(f"{given}-")


if __name__ == "__main__":
    sys.exit(main())
