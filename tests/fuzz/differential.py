"""The same frames to our connection, to h2 and to nghttp2: what they make of them may differ where the RFC allows it.

A sequence is compared item by item, as long as all agree: after a difference the two are in different states.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from random import Random
from zlib import crc32

from bench.harness import results
from sidecar.relay.http2 import frames
from tests.fuzz.ours import Ours
from tests.fuzz.peer_h2 import H2
from tests.fuzz.peer_nghttp2 import Nghttp2, library_version
from tests.fuzz.rules import RULES, Difference, Rule, shown
from tests.fuzz.sequences import generate
from tests.fuzz.verdicts import Act, Item, Subject, Verdict, cut

PEERS: dict[str, type[Subject]] = {"h2": H2, "nghttp2": Nghttp2}
_PART = 2_000  # sequences that a process compares at a time


@dataclass(frozen=True, slots=True)
class Step:
    """What our side made of an item.

    octets: the item, behind what was left of a frame that those before it did not finish.  done: of an act.
    state: of the stream of the first frame in them, before them.
    """

    item: Item
    octets: bytes
    verdict: Verdict
    done: bool
    state: str
    windows: dict[int, int]
    reasons: tuple[str, ...]
    credit: dict[int, int]


@dataclass(slots=True)
class Tally:
    """What became of the sequences compared with one side of one peer.

    items: bytes and acts compared, up to the end or the last difference.  alike: sequences without a difference.
    allowed: differences by rule.  forbidden: sequences shrunk to a difference that no rule allows, as text.
    """

    sequences: int = 0
    items: int = 0
    alike: int = 0
    allowed: Counter[str] = field(default_factory=Counter)
    forbidden: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.sequences += other.sequences
        self.items += other.items
        self.alike += other.alike
        self.allowed += other.allowed
        self.forbidden += other.forbidden


def run(seed: int, numbers: range, client: bool, peers: Iterable[str] = tuple(PEERS)) -> dict[str, Tally]:
    """Compare the sequences of some numbers, each by a seed of its own, with each peer's same side."""
    tallies = {name: Tally() for name in peers}
    for number in numbers:
        items = generate(Random(f"{seed} {client} {number}"), client)
        steps = trace(items, client)
        for name, tally in tallies.items():
            _count(tally, items, steps, client, name)
    return tallies


def run_apart(seed: int, count: int, jobs: int) -> dict[bool, dict[str, Tally]]:
    """As `run`, of the first `count` numbers, for both sides and in processes of their own."""
    parts = [(client, range(at, min(at + _PART, count))) for client in (False, True) for at in range(0, count, _PART)]
    sides = {client: {name: Tally() for name in PEERS} for client in (False, True)}
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        done = [(client, pool.submit(run, seed, numbers, client)) for client, numbers in parts]
        for client, future in done:
            for name, tally in future.result().items():
                sides[client][name].add(tally)
    return sides


def _count(tally: Tally, items: Sequence[Item], steps: Sequence[Step], client: bool, name: str) -> None:
    found = compare(steps, client, name)
    tally.sequences += 1
    tally.alike += not found
    last = len(steps) - 1
    for difference, rule in found:
        if rule is None:
            small = shrink(items, partial(_same, difference))
            again = forbidden(small, client, name)
            assert again is not None
            tally.forbidden.append(explained(small, again))
        else:
            tally.allowed[rule.name] += 1
        if rule is None or not rule.goes_on:
            last = difference.place
    tally.items += last + 1


def _same(difference: Difference, items: Sequence[Item]) -> bool:
    """Whether a sequence ends in a difference of the same kinds, in the same state."""
    found = forbidden(items, difference.client, difference.peer)
    if found is None:
        return False
    return (found.kinds, found.state, found.kind) == (difference.kinds, difference.state, difference.kind)


def trace(items: Sequence[Item], client: bool) -> list[Step]:
    """What our side makes of each item, up to the one that ends the connection."""
    subject, steps = Ours(client), []
    for item in items:
        if isinstance(item, Act):
            octets, stream = b"", item.stream
        else:
            octets = subject.unread + item
            stream = next((frame.stream for frame in cut(octets)), 0)
        state = subject.state(stream)
        if isinstance(item, Act):
            verdict, done = Verdict(), subject.act(item)
        else:
            verdict, done = subject.receive_pieces(_pieces(item)), True
        windows = {number: subject.window(number) for number in subject.sending()}
        reasons, credit = tuple(subject.reasons), dict(subject.credit)
        steps.append(Step(item, octets, verdict, done, state, windows, reasons, credit))
        if verdict.fault is not None:
            break
    return steps


def _completed(steps: Sequence[Step], client: bool) -> Verdict | None:
    """What our side makes of the frame or header block that the last step leaves unfinished, or None where none is."""
    *before, step = steps
    found = cut(step.octets)
    if not found:
        return None
    *_, last = found
    size = sum(frames.HEADER_LENGTH + len(frame.payload) for frame in found)
    begun = len(frames.PREFACE) if step.octets.startswith(frames.PREFACE) else 0
    assert isinstance(step.item, bytes)
    whole = step.item[: begun + size - (len(step.octets) - len(step.item))]
    rest = bytes(last.size - len(last.payload))
    if last.kind in (frames.HEADERS, frames.CONTINUATION) and not last.flags & frames.END_HEADERS:
        rest += frames.frame_header(0, frames.CONTINUATION, frames.END_HEADERS, last.stream)
    if not rest:
        return None
    return trace([*(each.item for each in before), whole + rest], client)[-1].verdict


def _pieces(octets: bytes) -> list[bytes]:
    """The bytes as a transport might cut them, always the same way."""
    rng = Random(crc32(octets))
    cuts = sorted(rng.randint(0, len(octets)) for _ in range(rng.choice((0, 0, 1, 3))))
    return [octets[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(octets)], strict=True)]


def compare(steps: Sequence[Step], client: bool, name: str) -> list[tuple[Difference, Rule | None]]:
    """The differences of a peer's verdicts from ours, with what allows each: None, of the last, where nothing does."""
    found: list[tuple[Difference, Rule | None]] = []
    subject = PEERS[name](client)
    try:
        for place, step in enumerate(steps):
            if isinstance(step.item, Act):
                theirs, done = Verdict(), step.done and subject.act(step.item)
            else:
                theirs, done = subject.receive(step.item), True
            difference = Difference(
                name, client, place, step, theirs, done, subject, partial(_completed, steps[: place + 1], client)
            )
            if difference.kinds:
                rule = next((rule for rule in RULES if rule.covers(difference)), None)
                found.append((difference, rule))
                if rule is None or not rule.goes_on:
                    break
            if theirs.fault is not None or subject.over:
                break
    finally:
        subject.close()
    return found


def forbidden(items: Sequence[Item], client: bool, name: str) -> Difference | None:
    """The difference that nothing allows, in a sequence that has one."""
    found = compare(trace(items, client), client, name)
    return next((difference for difference, rule in found if rule is None), None)


def shrink(items: Sequence[Item], still: Callable[[Sequence[Item]], bool]) -> Sequence[Item]:
    """A subsequence from which nothing can be left away, and for which `still` holds as for the whole."""
    small, at = list(items), len(items) - 1
    while at >= 0:
        less = small[:at] + small[at + 1 :]
        if still(less):
            small = less
        at -= 1
    return small


def write(file: Path, seed: int, sides: dict[bool, dict[str, Tally]]) -> None:
    """The counts of a run, as the other result files have theirs."""
    record = {
        "bench": "differential",
        "machine": results.machine(),
        "set_up": {
            "sequences": f"seed {seed}, generated by tests/fuzz/sequences.py, cut anywhere on our side",
            "compared": "events, resets, end, codes, acknowledgements, send windows, item by item up to a difference",
            "peers": versions(),
            "command": "make bench-differential",
        },
        "results": [
            _record(name, client, tally) for client, tallies in sides.items() for name, tally in tallies.items()
        ],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=2) + "\n")


def versions() -> dict[str, str]:
    """Of the peers."""
    return {"h2": version("h2"), "nghttp2": library_version()}


def _record(name: str, client: bool, tally: Tally) -> dict[str, object]:
    return {
        "metric": f"sequences to a {'client' if client else 'server'}, beside {name}",
        "value": tally.sequences,
        "unit": "sequences",
        "items": tally.items,
        "alike": tally.alike,
        "allowed": {rule.name: tally.allowed[rule.name] for rule in RULES if tally.allowed[rule.name]},
        "forbidden": {"value": len(tally.forbidden), "bar": 0, "met": not tally.forbidden},
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.differential", description=__doc__)
    parser.add_argument("--sequences", type=int, default=100_000, help="of each side, each compared with every peer")
    parser.add_argument("--seed", type=int, default=1, help="of the first sequence; the same seed, the same sequences")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that compare")
    parser.add_argument("--out", type=Path, help="where the results go, if anywhere")
    arguments = parser.parse_args()
    sides = run_apart(arguments.seed, arguments.sequences, arguments.jobs)
    for client, tallies in sides.items():
        for name, tally in tallies.items():
            print("\n".join(report(name, client, tally)))
    if arguments.out is not None:
        write(arguments.out, arguments.seed, sides)
    return int(any(tally.forbidden for tallies in sides.values() for tally in tallies.values()))


def report(name: str, client: bool, tally: Tally) -> Iterator[str]:
    """What a run found, in lines."""
    counts = f"{tally.alike} alike, {tally.allowed.total()} differences allowed, {len(tally.forbidden)} forbidden"
    yield f"{'client' if client else 'server'}, ours and {name}'s: {tally.sequences} sequences, {counts}"
    for rule in RULES:
        if tally.allowed[rule.name]:
            departs = {"": "", "we": ", from which we depart", "peer": f", from which {name} departs"}[rule.departs]
            yield f"  {tally.allowed[rule.name]:7} {rule.name} ({rule.section}{departs}): {rule.why}"
    yield from tally.forbidden


def explained(items: Iterable[Item], difference: Difference) -> str:
    """A forbidden difference, and the sequence that leads to it."""
    return "\n    ".join((f"FORBIDDEN: {difference}", *map(shown, items)))


if __name__ == "__main__":
    sys.exit(main())
