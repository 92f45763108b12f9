"""Attacks a running sidecar in every way, twice each, while an honest caller calls; and has its model server do so."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from bench.abuse import hostile, modes, stand
from bench.abuse.bystander import HEALTH
from bench.abuse.stand import Stand
from bench.abuse.tap import BYSTANDER, HONEST
from bench.harness import builds, cores, results
from bench.harness.errors import BenchError
from bench.harness.paths import CACHE, RESULTS, ROOT
from bench.harness.processes import Processes, exit_on_signals

TIMEOUT_S = 10.0  # of the bystander's calls
VICTIM_S = 1.0  # the deadline of calls that a hostile model server is asked to answer
HANG_S = 1.0  # beyond its deadline
STREAMS = 100  # `listen.limits.concurrent_streams`
P99_MS = 250.0
GROWTH_MB = 5.0
AMONG = 3  # modes of a mix
TOGETHER = " + "  # between their names
SHOWN = 6  # counters of an attack
KINDS = ("steady_ms", "fresh_ms")  # of the bystander's calls


def by_clients(scene: Stand, names: Sequence[str], seconds: float) -> dict[str, Any]:
    """Two identical attacks; what the bystander, the model server, the metrics and the memory say."""
    chosen = [modes.MODES[name] for name in names]
    stand.told(scene.control)
    before, memory = stand.counted(scene.probes), [scene.settled()]
    attacks, found = [], []
    for _ in range(2):
        bystander = scene.bystander(BYSTANDER, TIMEOUT_S)
        attacks.append(scene.attack(names, seconds))
        found.append(scene.found(bystander))
        memory.append(scene.settled())
    ended = {what: sum(each[what] for each in attacks) for what in ("connections", "cut", "resets")}
    tap, counts = stand.told(scene.control), stand.more(before, stand.counted(scene.probes))
    return judged({
        "bystander": merged(found),
        "in_flight": {"most": tap["most"], "limit": STREAMS * sum(mode.connections for mode in chosen)},
        "refused_at_upstream": {"streams": tap["refused_streams"], "bytes": tap["refused_bytes"]},
        "memory_mb": megabytes(memory),
        "attacker": ended,
        "counted": shown(counts),
        "was_counted": all(counted_as(mode, counts) for mode in chosen),
        "was_cut": not any(mode.cuts for mode in chosen) or ended["cut"] + ended["resets"] > 0,
    })  # fmt: skip


def by_upstream(scene: Stand, name: str, seconds: float) -> dict[str, Any]:
    """Two identical attacks by the model server. The bystander asks the sidecar itself; others call the model."""
    before, memory = stand.counted(scene.probes), [scene.settled()]
    found, victims, again = [], [], []
    for _ in range(2):
        callers = scene.bystander(BYSTANDER, VICTIM_S)
        bystander = scene.bystander(HEALTH, TIMEOUT_S)
        stand.told(scene.control, name)
        time.sleep(seconds)
        found.append(scene.found(bystander))
        victims.append(scene.found(callers))
        stand.told(scene.control, HONEST)
        begun = time.monotonic()
        scene.until(scene.reaches_upstream, "reach its model server again")
        again.append(time.monotonic() - begun)
        memory.append(scene.settled())
    counts = stand.more(before, stand.counted(scene.probes))
    called = merged(victims)
    return judged({
        "bystander": merged(found),
        "callers": {"answers": called["answers"], "worst_ms": max(called[kind]["worst"] for kind in KINDS)},
        "up_again_s": round(max(again), 2),
        "memory_mb": megabytes(memory),
        "counted": shown(counts),
    })  # fmt: skip


def merged(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of two runs of a bystander: answers together, of times the worse."""
    answers: dict[str, int] = {}
    for each in found:
        for answer, count in each["answers"].items():
            answers[answer] = answers.get(answer, 0) + count
    worse = {kind: {key: max(each[kind][key] for each in found) for key in ("p50", "p99", "worst")} for kind in KINDS}
    return {"answers": answers, "details": [text for each in found for text in each["details"]][:3], **worse}


def megabytes(memory: Sequence[int]) -> dict[str, float]:
    before, first, second = (round(size / 1e6, 1) for size in memory)
    return {"before": before, "first": first, "second": second, "second_adds": round(second - first, 1)}


def shown(counts: dict[tuple[str, str], int]) -> dict[str, int]:
    """The counters that say why something was refused or cut, most first."""
    kinds = (modes.ABUSE, modes.ERRORS, modes.DENIALS, modes.TLS, "langtrain_sidecar_call_failures_total",
             "langtrain_sidecar_upstream_connects_total")  # fmt: skip
    told = {f"{name.removeprefix('langtrain_sidecar_')} {labels}": count for (name, labels), count in counts.items()
            if name in kinds}  # fmt: skip
    return dict(sorted(told.items(), key=lambda item: -item[1])[:SHOWN])


def counted_as(mode: modes.Mode, counts: dict[tuple[str, str], int]) -> bool:
    return mode.counted is modes.NOTHING or mode.counted in counts


def judged(found: dict[str, Any]) -> dict[str, Any]:
    """What was found, and which of the bars it misses."""
    bystander, memory = found["bystander"], found["memory_mb"]
    errors = {answer: count for answer, count in bystander["answers"].items() if answer != "OK"}
    missed = {
        "bystander errors": bool(errors),
        "p99": bystander["steady_ms"]["p99"] > P99_MS,
        "p99 of fresh connections": bystander["fresh_ms"]["p99"] > P99_MS,
        "memory": memory["second_adds"] > GROWTH_MB,
        "in flight": "in_flight" in found and found["in_flight"]["most"] > found["in_flight"]["limit"],
        "refused at upstream": any(found.get("refused_at_upstream", {}).values()),
        "not cut": not found.get("was_cut", True),
        "not counted": not found.get("was_counted", True),
        "hang": "callers" in found and found["callers"]["worst_ms"] > 1e3 * (VICTIM_S + HANG_S),
        "wrong answer": found.get("callers", {}).get("answers", {}).get("WRONG", 0) > 0,
    }
    return {**found, "missed": [what for what, holds in missed.items() if holds]}


def mixes(count: int, seed: int) -> dict[str, list[str]]:
    """Name → modes, drawn at random."""
    chance = Random(seed)
    drawn = [chance.sample(sorted(modes.MODES), AMONG) for _ in range(count)]
    return {TOGETHER.join(names): names for names in drawn}


def line(name: str, found: dict[str, Any]) -> str:
    bystander, memory = found["bystander"], found["memory_mb"]
    parts = [f"p99 {bystander['steady_ms']['p99']:g} ms, fresh {bystander['fresh_ms']['p99']:g} ms"]
    if "in_flight" in found:
        parts += [f"in flight {found['in_flight']['most']} of {found['in_flight']['limit']}",
                  f"cut {found['attacker']['cut']} of {found['attacker']['connections']}"]  # fmt: skip
    else:
        parts += [f"callers {found['callers']['answers']}, worst {found['callers']['worst_ms']:g} ms"]
    parts += [f"memory {memory['before']:g} {memory['first']:g} {memory['second']:g} MB"]
    parts += [f"{what}: {count}" for what, count in list(found["counted"].items())[:1]]
    return f"{name}: {'; '.join(parts)}{'  MISSED ' + ', '.join(found['missed']) if found['missed'] else ''}"


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _arguments(arguments)
    exit_on_signals()
    every = chosen.modes or [*modes.MODES, *hostile.MODES]
    attacks = {name: name.split(TOGETHER) for name in every} | mixes(chosen.mixes, chosen.seed)
    proxy = None if chosen.anywhere else cores.claim().proxy
    met = True
    try:
        with Processes(CACHE / f"run-{os.getpid()}") as processes:
            scene = Stand(processes, proxy, builds.sidecar() if chosen.compiled else ROOT)
            for name, names in attacks.items():
                client = names[0] in modes.MODES
                found = by_clients(scene, names, chosen.seconds) if client else by_upstream(scene, name, chosen.seconds)
                print(line(name, found), flush=True)
                met = met and not found["missed"]
                # What else the machine had to do: on one that is shared, times say little about the sidecar.
                load = {"load_average": round(os.getloadavg()[0], 1), "cores": os.cpu_count()}
                write(chosen.out, scene, proxy, name, {"seconds": chosen.seconds, "machine": load, **found})
            for fault in scene.faults():
                print(f"logged: {fault}")
                met = False
    except BenchError as error:
        print(f"bench abuse failed: {error}", file=sys.stderr)
        return 1
    print(f"written to {os.path.relpath(chosen.out, ROOT)}")
    return 0 if met else 1


def write(file: Path, scene: Stand, core: int | None, name: str, found: dict[str, Any]) -> None:
    """Put one attack's findings in place of those that it had."""
    before = json.loads(file.read_text())["results"] if file.exists() else {}
    whole = {
        "bench": "abuse",
        "machine": results.machine(),
        "set_up": {
            "sidecar": f"1 worker, {scene.build}, mTLS, three rules, one of which decodes messages; limits by default "
            f"but {stand.LIMITS}",
            "cores": "shared by all"
            if core is None
            else "one for the sidecar's processes; one for the attackers, "
            "the bystander and the model server, none of them slowed or put back",
            "bystander": "grpcio: 50 calls a second on 2 connections, and 4 a second each on a fresh one; "
            "times are the worse of two attacks",
            "bars": {"p99_ms": P99_MS, "second_adds_mb": GROWTH_MB, "hang_s": HANG_S},
        },
        "results": {**before, name: found},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(whole, indent=2) + "\n")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.abuse", description=__doc__)
    parser.add_argument(
        "modes",
        nargs="*",
        metavar="mode",
        help="one, or several at once joined by ' + '; all alone where none is named; --list",
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of each attack; there are two of each mode")
    parser.add_argument("--mixes", type=int, default=20, help="of three modes of clients each, drawn at random")
    parser.add_argument("--seed", type=int, default=1, help="of the mixes")
    parser.add_argument("--compiled", action="store_true", help="the sidecar as its image ships it")
    parser.add_argument("--anywhere", action="store_true", help="do not keep a core for the sidecar")
    parser.add_argument("--list", action="store_true", help="print the modes and leave")
    parser.add_argument("--out", type=Path, default=RESULTS / "abuse.json", help="where the results go")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        print("\n".join([*modes.MODES, *hostile.MODES]))
        parser.exit()
    of_clients = {part for name in chosen.modes for part in name.split(TOGETHER) if name not in hostile.MODES}
    if unknown := of_clients - modes.MODES.keys():
        parser.error(f"no such mode: {', '.join(sorted(unknown))}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
