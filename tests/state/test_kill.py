"""A process that is killed while it writes: what it acknowledged is there, and nothing by halves."""

from __future__ import annotations

import subprocess
import sys

from tests.state.engines import Engine, opened

RUNS = 8


def test_everything_acknowledged_is_there_and_nothing_by_halves(engine: Engine) -> None:
    acknowledged: set[str] = set()
    for run in range(RUNS):
        acknowledged |= killed(engine, run)
    with opened(engine) as store:
        there = {name for (name,) in store.read(lambda reading: reading.rows("SELECT name FROM things"))}
        changes = store.read(lambda reading: reading.rows("SELECT sequence, key FROM changes ORDER BY sequence"))
        head = store.read(lambda reading: reading.head())
    written = {key for _, key in changes}
    assert acknowledged <= written
    assert there == {f"{name} {half}" for name in written for half in "ab"}
    assert [sequence for sequence, _ in changes] == list(range(1, head.sequence + 1))


def killed(engine: Engine, run: int) -> set[str]:
    """What it acknowledged, whole lines of it, before a kill between two of them, each time a little later."""
    command = [sys.executable, "-m", "tests.state.writing", str(engine.directory), engine.url, str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(5 + 7 * run)]
        writer.kill()
        lines += writer.stdout.readlines()
    return {line.strip() for line in lines if line.endswith("\n")}
