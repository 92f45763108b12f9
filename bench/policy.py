"""What a decision costs: one condition, and a decision among few and among many policies and grants.

Of these 10 apply in every case. "Afresh" is a decision of which nothing is remembered, not even who asks; "remembered"
the next of the same kind; "of a request" one whose last condition asks for what only the request tells. Time is the
thread's own. Nothing is compared with a peer: none of them decides within the caller's process.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import thread_time_ns
from typing import Final

from bench.harness.paths import RESULTS, ROOT
from bench.harness.results import Figure, machine
from interceptors.facts import Principal
from sidecar.policy import library
from sidecar.policy.conditions import Scope, condition
from sidecar.policy.engine import Engine
from sidecar.policy.model import Attributes, Grant, Group, Policy, Role, Snapshot, Value

APPLICABLE: Final = 10
ALICE: Final = Principal("user", "user:okta/alice", attributes=(("clearance_level", 3), ("location", "eu")))
RESOURCE: Final = "tenants/default/models/fraud-1"
ABOUT: Final = Attributes(
    {"classification_level": 2, "allowed_regions": ("eu", "us")}, {"size": 1024}, {"source": "10.0.0.7"}
)
ROLE: Final = Role("ml", ("models.inference",))
TEAM: Final = Group("team", ("user:okta/*",))
CLEARANCE: Final = "user.clearance_level >= model.classification_level"
COMMAND: Final = "python -m bench.policy"


def main() -> int:
    arguments = _arguments()
    found = [*_conditions(arguments.rounds), *_among_policies(arguments.rounds), *_among_grants(arguments.rounds)]
    for figure in found:
        low, high = min(figure.values), max(figure.values)
        bar = "" if figure.bar is None else f", at most {figure.bar}: {'met' if figure.met else 'MISSED'}"
        print(f"{figure.metric:58} {median(figure.values):8.2f} {figure.unit} ({low:.2f} to {high:.2f}){bar}")
    record = {
        "bench": "policy",
        "machine": machine(),
        "set_up": {"applicable": APPLICABLE, "rounds": arguments.rounds, "time": "of the thread"},
        "results": [figure.record(COMMAND) for figure in found],
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {os.path.relpath(arguments.out, ROOT)}")
    return 0 if all(figure.met for figure in found) else 1


def _conditions(rounds: int) -> list[Figure]:
    asked = condition(CLEARANCE)
    roots: dict[str, dict[str, Value]] = {"user": dict(ALICE.attributes), "model": dict(ABOUT.resource)}
    context = library.Context(roots)
    scope = Scope(roots)
    moving = condition("request.size < 1000000")
    program = library.compile(CLEARANCE)
    request = {"request": ABOUT.request}
    return [
        Figure("a condition, context prebuilt", "us", _timed(lambda: asked.evaluate(context), rounds, 10_000)),
        Figure("a condition, from a dict", "us", _timed(lambda: program.execute(roots), rounds, 2_000)),
        Figure("a condition, remembered", "us", _timed(lambda: scope.outcome(asked, {}), rounds, 10_000)),
        Figure("a condition of the request", "us", _timed(lambda: scope.outcome(moving, request), rounds, 5_000)),
    ]  # fmt: skip


def _among_policies(rounds: int) -> list[Figure]:
    grant = Grant("b", ("user:okta/alice",), "ml", ("models/*",))
    few, many = (Engine(Snapshot(1, (ROLE,), (), (grant,), _policies(count))) for count in (APPLICABLE, 10_000))
    return _compared(few, many, f"{APPLICABLE} policies", "10000 policies", rounds)


def _among_grants(rounds: int) -> list[Figure]:
    few, many = (Engine(Snapshot(1, (ROLE,), (TEAM,), _grants(count))) for count in (100, 100_000))
    return _compared(few, many, "100 grants", "100000 grants", rounds)


def _policies(count: int) -> tuple[Policy, ...]:
    """The others are for another permission, another model, or models that begin otherwise."""
    applying = [
        Policy(f"a{at}", "allow", f"{CLEARANCE} - {at}", ("models.inference",), ("models/fraud-*",))
        for at in range(APPLICABLE)
    ]
    others = (
        lambda at: Policy(f"o{at}", "deny", CLEARANCE, (f"models.p{at}",), ("models/fraud-*",)),
        lambda at: Policy(f"o{at}", "deny", CLEARANCE, ("models.inference",), (f"models/m{at}",)),
        lambda at: Policy(f"o{at}", "deny", CLEARANCE, ("models.*",), (f"models/m{at}-*",)),
    )
    return (*applying, *(others[at % len(others)](at) for at in range(count - APPLICABLE)))


def _grants(count: int) -> tuple[Grant, ...]:
    """The others are somebody else's, or the caller's for other models."""
    applying = [Grant(f"a{at}", ("group:team",), "ml", ("models/fraud-*",)) for at in range(APPLICABLE)]
    others = (
        lambda at: Grant(f"o{at}", (f"user:okta/u{at}",), "ml", ("models/fraud-*",)),
        lambda at: Grant(f"o{at}", ("group:team",), "ml", (f"models/m{at}",)),
        lambda at: Grant(f"o{at}", ("group:team",), "ml", (f"models/m{at}-*",)),
    )
    return (*applying, *(others[at % len(others)](at) for at in range(count - APPLICABLE)))


def _compared(few: Engine, many: Engine, of_few: str, of_many: str, rounds: int) -> list[Figure]:
    figures = []
    for title, ask, times in (("afresh", _afresh, 300), ("remembered", _decide, 10_000)):
        pairs = [(_round(partial(ask, few), times), _round(partial(ask, many), times)) for _ in range(rounds)]
        figures += [
            Figure(f"a decision {title}, {of_few}", "us", [pair[0] for pair in pairs]),
            Figure(f"a decision {title}, {of_many}", "us", [pair[1] for pair in pairs]),
            Figure(f"{of_many} / {of_few}, {title}", "x", [median(pair[1] / pair[0] for pair in pairs)], bar=1.5),
        ]
    many.put(Policy("moving", "allow", "request.size < 1000000"))
    _decide(many)
    figures.append(Figure(f"a decision of a request, {of_many}", "us", _timed(lambda: _decide(many), rounds, 3_000)))
    many.drop(Policy, "default", "moving")
    return figures


def _decide(engine: Engine) -> None:
    assert engine.decide(ALICE, "models.inference", RESOURCE, ABOUT, 1.0).allowed


def _afresh(engine: Engine) -> None:
    engine.forget()
    _decide(engine)


def _timed(function: Callable[[], object], rounds: int, times: int) -> Sequence[float]:
    return [_round(function, times) for _ in range(rounds)]


def _round(function: Callable[[], object], times: int) -> float:
    """Microseconds of one call."""
    gc.collect()
    gc.disable()
    began = thread_time_ns()
    for _ in range(times):
        function()
    spent = thread_time_ns() - began
    gc.enable()
    return spent / times / 1e3


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="rounds that count")
    parser.add_argument("--out", type=Path, default=RESULTS / "policy.json", help="where the results go")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
