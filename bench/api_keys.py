"""What API keys cost: a look-up among a thousand and among a million, the memory of workers, the file they share.

Keys are made in a database as the services process has it, whose file workers look up. A look-up is all of it: the
checksum, the record found and checked, the secret's hash compared, the record's times. Look-ups are of keys at random
among all there are, in rounds that take turns; each round is one sample. Time is the processor's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, process_time, process_time_ns
from typing import IO, Any

from bench.harness import results
from bench.harness.paths import RESULTS, ROOT
from bench.harness.results import Figure
from sidecar.identity import api_keys
from sidecar.identity.keys_file import KeyFile
from sidecar.identity.keys_hash import FileHashKeys, make
from sidecar.identity.keys_lookup import KeyLookup
from sidecar.identity.keys_model import NEVER, KeyRecord
from sidecar.identity.keys_publish import publish
from sidecar.identity.keys_store_sql import ADD, _values
from sidecar.state.opening import open_store
from sidecar.state.ports import Transaction, Value

FEW, MANY = 1_000, 1_000_000
SAMPLE = 100_000  # keys of the many that are looked up
LOOKUPS = 20_000  # in a round
WORKERS = 4
BATCH = 10_000
NOW = 1_700_000_000.0
FLAT = 1.3  # times as long among the many, at most
MEMORY = 20.0  # MB, of a worker
MB = 1e6
COMMAND = "make bench-api-keys"
PROCESSES = get_context("spawn")


@dataclass(frozen=True, slots=True)
class Place:
    """path: of the file.  texts: some of its keys.  figures: what making it took."""

    path: Path
    hash_key: Path
    texts: list[str]
    figures: list[Figure]


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.folder or Path(folder), arguments.rounds, arguments.many)
    for figure in found:
        low, high = min(figure.values), max(figure.values)
        bar = "" if figure.bar is None else f"  bar {figure.bar:g}: {'met' if figure.met else 'MISSED'}"
        print(f"{figure.metric:64} {median(figure.values):10.2f} {figure.unit:8} ({low:.2f} to {high:.2f}){bar}")
    write(arguments.out, found)
    print(f"written to {os.path.relpath(arguments.out, ROOT)}")
    return 0 if all(figure.met for figure in found) else 1


def measure(folder: Path, rounds: int, many: int) -> list[Figure]:
    hash_key = folder / "hash.key"
    folder.mkdir(0o700, parents=True, exist_ok=True)
    if not hash_key.exists():
        make(hash_key)
    places = [_made(folder / f"{count}", hash_key, count) for count in (FEW, many)]
    return [*places[1].figures, *_lookups(places, rounds, many), *_memory(places[1], many)]


def _made(folder: Path, hash_key: Path, count: int) -> Place:
    """In a process of its own, so that this one's memory is not that of who made them."""
    texts, figures = _elsewhere(_make, folder, hash_key, count)
    return Place(folder / "api-keys.bin", hash_key, texts, figures)


def _make(folder: Path, hash_key: Path, count: int) -> tuple[list[str], list[Figure]]:
    key_of_hashes = FileHashKeys(hash_key).current
    store, texts = open_store(folder, "sqlite"), folder / "texts"

    def records(begin: int, sample: IO[str]) -> Iterator[KeyRecord]:
        for number in range(begin, min(begin + BATCH, count)):
            key = api_keys.new(os.urandom)
            if number % max(1, count // SAMPLE) == 0:
                sample.write(f"{key.text}\n")
            yield KeyRecord(
                key.key_id, "default", f"user:corp/{number}", "batch", ("models.inference",), ("models/fraud-*",),
                NOW - 1, NEVER, "1000/hour", False, key.key_id, "", NEVER, 0.0, key_of_hashes.name,
                api_keys.keyed_hash(key, key_of_hashes.key),
            )  # fmt: skip

    if not texts.exists():
        with texts.with_suffix(".new").open("w") as sample:
            for begin in range(0, count, BATCH):
                rows = [_values(record) for record in records(begin, sample)]
                store.write(partial(_add, rows), 120.0)
        texts.with_suffix(".new").rename(texts)
    before, wall, cpu = _peak(), perf_counter(), process_time()
    publish(store, folder / "api-keys.bin", key_of_hashes)
    wall, cpu = perf_counter() - wall, process_time() - cpu
    size = (folder / "api-keys.bin").stat().st_size
    figures = [
        Figure(f"file of {count:,} keys made of SQLite, wall", "s", [wall]),
        Figure(f"file of {count:,} keys made of SQLite, CPU", "s", [cpu]),
        Figure(
            f"file of {count:,} keys made of SQLite, its maker's peak memory (VmHWM) grew by", "MB", [_peak() - before]
        ),
        Figure(f"file of {count:,} keys, size", "MB", [size / MB]),
    ]
    before_s = perf_counter()
    KeyFile(folder / "api-keys.bin", key_of_hashes).close()
    figures.append(Figure(f"file of {count:,} keys opened", "ms", [(perf_counter() - before_s) * 1e3]))
    store.close()
    return texts.read_text().split(), figures


def _add(rows: Sequence[Sequence[Value]], transaction: Transaction) -> None:
    transaction.run_many(ADD, rows)


def _lookups(places: Sequence[Place], rounds: int, many: int) -> list[Figure]:
    """Rounds take turns in one process; the first of each is not counted."""
    identify, find = _elsewhere(_look, [(place.path, place.hash_key, place.texts) for place in places], rounds)
    found = []
    for title, (few_us, many_us) in (("look-up", identify), ("look-up, of it the record found", find)):
        found += [
            Figure(f"{title}, {FEW:,} keys", "us CPU", few_us),
            Figure(f"{title}, {many:,} keys", "us CPU", many_us),
        ]
    ratio = median(identify[1]) / median(identify[0])
    found.append(Figure(f"look-up, {many:,} keys over {FEW:,} (of the medians)", "times", [ratio], FLAT))
    return found


def _look(places: Sequence[tuple[Path, Path, list[str]]], rounds: int) -> tuple[list[list[float]], list[list[float]]]:
    lookups = [KeyLookup(KeyFile(path, FileHashKeys(key).current), FileHashKeys(key)) for path, key, _ in places]
    identify: list[list[float]] = [[] for _ in places]
    find: list[list[float]] = [[] for _ in places]
    chance = Random(1)
    for number in range(rounds + 1):
        for at, lookup in enumerate(lookups):
            texts = chance.choices(places[at][2], k=LOOKUPS)
            begin = process_time_ns()
            for text in texts:
                lookup.identify(text, NOW)
            took = process_time_ns() - begin
            ids = [api_keys.parse(text).key_id for text in chance.choices(places[at][2], k=LOOKUPS)]
            begin = process_time_ns()
            for key_id in ids:
                lookup.find(key_id)
            took_find = process_time_ns() - begin
            if number:
                identify[at].append(took / LOOKUPS / 1e3)
                find[at].append(took_find / LOOKUPS / 1e3)
    return identify, find


def _memory(place: Place, many: int) -> list[Figure]:
    """How much each of several workers grows by, from before it opens the file to after it has looked many up."""
    pipes = []
    for _ in range(WORKERS):
        ours, theirs = PROCESSES.Pipe()
        PROCESSES.Process(target=_work, args=(place.path, place.hash_key, place.texts, theirs), daemon=True).start()
        pipes.append(ours)
    for pipe in pipes:  # all of them are at work before one is measured
        pipe.recv()
    grown = []
    for pipe in pipes:
        pipe.send("measure")
        grown.append(pipe.recv())
    for pipe in pipes:
        pipe.send("end")
    title = f"{WORKERS} workers, {many:,} keys, {len(place.texts):,} looked up: each grew by"
    return [
        Figure(f"{title} ({kind})", "MB", [each[kind] for each in grown], MEMORY) for kind in ("Rss", "Pss", "Private")
    ]


def _work(path: Path, hash_key: Path, texts: list[str], pipe: Connection) -> None:
    keys = FileHashKeys(hash_key)
    for text in texts:
        api_keys.parse(text)
    before = _memory_now()
    lookup = KeyLookup(KeyFile(path, keys.current), keys)
    for text in texts:
        lookup.identify(text, NOW)
    pipe.send("ready")
    pipe.recv()
    after = _memory_now()
    pipe.send({kind: after[kind] - before[kind] for kind in before})
    pipe.recv()


def _memory_now() -> dict[str, float]:
    """MB of this process: resident, its share of what is shared, and its own alone."""
    sizes: dict[str, float] = {"Rss": 0.0, "Pss": 0.0, "Private": 0.0}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        kind = "Private" if name.startswith("Private_") and "Hugetlb" not in name else name
        if kind in sizes:
            sizes[kind] += int(rest.split()[0]) * 1024 / MB
    return sizes


def _peak() -> float:
    """MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / MB


def _elsewhere(job: Any, *arguments: Any) -> Any:
    with PROCESSES.Pool(1) as pool:
        return pool.apply(job, arguments)


def write(file: Path, found: Sequence[Figure]) -> None:
    record = {
        "bench": "api-keys",
        "machine": results.machine(),
        "set_up": {
            "keys": f"{FEW} and {MANY} of SQLite; look-ups among all of the few and {SAMPLE} of the many, at random",
            "look-ups": f"{LOOKUPS} in a round; the file in {tempfile.gettempdir()}, in the kernel's cache",
        },
        "results": [figure.record(COMMAND) for figure in found],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.api_keys", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="rounds that count")
    parser.add_argument("--many", type=int, default=MANY, help="keys, where not a million")
    parser.add_argument("--folder", type=Path, help="where the keys are; made there the first time, and kept")
    parser.add_argument("--out", type=Path, default=RESULTS / "api-keys.json", help="where the results go")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
