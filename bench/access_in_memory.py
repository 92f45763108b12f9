"""What roles and policies add to a call in a worker, and what it takes to put many of them in force.

Of a call: as `bench.in_memory` counts the CPU time of the relay's own code, with policies and without, in rounds that
take turns. A role grants what each call needs, and three policies have to hold: their conditions compare attributes of
the caller with those of the model; in a further case the third reads the request, so that it is evaluated for each.

Of many: a worker is told of them all at once, as at its start; how long that takes, and how long it keeps the event
loop at most, whose turn lasts for a slice and what the engine needs for one more.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from bench.harness.paths import RESULTS, ROOT
from bench.harness.results import Figure, machine
from bench.in_memory import Bench
from sidecar.build import of as build
from sidecar.policy import rows
from sidecar.policy.access import Given, PolicyAccess
from sidecar.policy.known import Known
from sidecar.policy.model import Grant, Item, Policy, Role
from sidecar.telemetry.pulse import boot_clock

COMMAND: Final = "python -m bench.access_in_memory"
CALLER: Final = "spiffe://example.org/bench/a"
ADDED_US: Final = 25.0
GIVEN: Final = Given(
    resources=(("models/digits", {"classification_level": 2, "allowed_regions": ("eu", "us"), "owner": "vision"}),),
    identities=((CALLER, {"clearance_level": 3, "location": "eu", "team": "vision"}),),
)
ROLE: Final = Role("ml", ("models.inference",))
GRANT: Final = Grant("g", (CALLER,), "ml", ("models/*",))
STANDING: Final = (
    "user.clearance_level >= model.classification_level",
    "user.location in model.allowed_regions",
    "user.team == model.owner",
)
MOVING: Final = "request.size < 1000000"


def main() -> int:
    arguments = _arguments()
    found = [*_calls(arguments.rounds, arguments.batches), *_many(arguments.many)]
    for figure in found:
        low, high = min(figure.values), max(figure.values)
        bar = "" if figure.bar is None else f", at most {figure.bar}: {'met' if figure.met else 'MISSED'}"
        print(f"{figure.metric:58} {median(figure.values):9.2f} {figure.unit} ({low:.2f} to {high:.2f}){bar}")
    record = {
        "bench": "access in memory",
        "machine": machine(),
        "set_up": {"rounds": arguments.rounds, "batches": arguments.batches, "build": build()},
        "results": [figure.record(COMMAND) for figure in found],
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {os.path.relpath(arguments.out, ROOT)}")
    return 0 if all(figure.met for figure in found) else 1


def _calls(rounds: int, batches: int) -> list[Figure]:
    cases = {
        "without policies": None,
        "a role and 3 conditions": _access(STANDING),
        "a role and 3 conditions, one of the request": _access((*STANDING[:2], MOVING)),
    }
    benches = {title: Bench(False, access) for title, access in cases.items()}
    times: dict[str, list[float]] = {title: [] for title in cases}
    for number in range(rounds + 1):
        for title, bench in benches.items():
            taken = bench.round(batches)
            if number:  # the first makes what is remembered
                times[title].append(taken)
    plain, *others = cases
    figures = [Figure(f"a call, {plain}", "us", times[plain])]
    for title in others:
        added = [after - before for before, after in zip(times[plain], times[title], strict=True)]
        figures += [
            Figure(f"a call, {title}", "us", times[title]),
            Figure(f"added by {title}", "us", [median(added)], bar=ADDED_US),
        ]
    return figures


def _access(conditions: Iterable[str]) -> PolicyAccess:
    known = _known()
    policies = [Policy(f"p{at}", "allow", text, ("models.inference",)) for at, text in enumerate(conditions)]
    asyncio.run(_tell(known, [ROLE, GRANT, *policies]))
    return PolicyAccess(known, GIVEN, 1e9)


def _many(count: int) -> list[Figure]:
    grants = [Grant(f"g{at}", (f"user:okta/u{at}",), "ml", (f"models/m{at % 1000}",)) for at in range(count)]
    known = _known()
    gc.collect()
    gc.disable()  # as in a worker, which looks for garbage seldom
    turns = asyncio.run(_tell(known, [ROLE, *grants]))
    gc.enable()
    return [
        Figure(f"{count} grants put in force", "s", [sum(turns)]),
        Figure(f"the longest turn among {len(turns)}", "ms", [max(turns) * 1e3]),
        Figure("turns of more than 2 ms", "of them", [float(sum(turn > 0.002 for turn in turns))]),
    ]


def _known() -> Known:
    return Known(lambda: 0.0, lambda tenants: None, boot_clock)


async def _tell(known: Known, items: Iterable[Item]) -> list[float]:
    """Returns how long each turn of the event loop took until all was in force, in seconds."""
    for item in items:
        known.listen(str(rows.key(item)), rows.encode(item))
    known.listen_so(rows.SO, (boot_clock(), 1.0))
    turns = []
    while not known.begun.is_set():
        began = perf_counter()
        await asyncio.sleep(0)
        turns.append(perf_counter() - began)
    return turns


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="rounds that count")
    parser.add_argument("--batches", type=int, default=500, help="of 8 calls, in a round")
    parser.add_argument("--many", type=int, default=100_000, help="grants that are told at once")
    parser.add_argument("--out", type=Path, default=RESULTS / "access-in-memory.json", help="where the results go")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
