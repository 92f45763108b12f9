"""Events handed to a recorder in another process: each durable once, whoever ends in between."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from interceptors.events import Durability, Event
from sidecar.audit import frames
from sidecar.audit.fold import Fold
from sidecar.audit.ports import Recorder
from sidecar.audit.process import Desk, last_numbers
from sidecar.audit.recorder_remote import AWAY, RETURNING, Pace, RemoteRecorder
from sidecar.internal.marshalled import Reader
from sidecar.processes.messages import Attach

DEADLINE_S = 15.0


def commit(number: int = 0) -> Event:
    return Event("call.denied", 1.0, Durability.COMMIT, requests=number)


def batch(number: int = 0) -> Event:
    return Event("call.allowed", 1.0, requests=number)


class Scene:
    """One process that records, and the recorder's end, on one loop."""

    def __init__(self, file: Path, **options: Any) -> None:
        self.file = file
        self.loop = asyncio.get_running_loop()
        self.recorder = RemoteRecorder(self.loop, **options)
        self.told: list[BaseException | None] = []

    def desk(self) -> Desk:
        return Desk(self.loop, self.file, "boot")

    def connect(self, desk: Desk) -> None:
        ours, theirs = socket.socketpair()
        self.recorder.attach(ours)
        desk.attach(Attach("worker", "worker-0.1"), theirs)

    def pair(self) -> socket.socket:
        """Connect to a recorder that the test plays itself; its end."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self.recorder.attach(ours)
        return theirs

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not holds():  # noqa: ASYNC110 - what is waited for is in a file, or in several places
                await asyncio.sleep(0.005)

    def numbers(self) -> list[int]:
        """`requests` of the events in the file."""
        lines = [json.loads(line) for line in self.file.read_bytes().splitlines()] if self.file.exists() else []
        return [line["requests"] for line in lines if line["kind"].startswith("call.")]


def play(tmp_path: Path, scene: Callable[[Scene], Awaitable[None]], **options: Any) -> None:
    options.setdefault("pace", Pace(close_s=0.2))

    async def run() -> None:
        await scene(Scene(tmp_path / "audit" / "events.jsonl", **options))

    asyncio.run(run())


def test_is_a_recorder_that_is_closed_until_it_is_connected(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        recorder: Recorder = s.recorder
        assert recorder.failed == AWAY
        desk = s.desk()
        s.connect(desk)
        assert s.recorder.failed is None
        s.recorder.close()
        desk.close()

    play(tmp_path, scene)


def test_events_arrive_in_order_and_commits_are_told(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        desk = s.desk()
        s.connect(desk)
        for number in range(1000):
            s.recorder.record(batch(number))
        s.recorder.record(commit(1000), s.told.append)
        assert s.told == []
        await s.until(lambda: s.told)
        assert s.told == [None]
        assert s.numbers() == list(range(1001))
        s.recorder.close()
        desk.close()

    play(tmp_path, scene)


def test_closing_waits_until_all_is_durable(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        desk = s.desk()
        s.connect(desk)
        for number in range(500):
            s.recorder.record(batch(number))
        closing = asyncio.to_thread(s.recorder._finish, s.recorder._socket)  # type: ignore[arg-type]
        s.recorder._flush()
        s.loop.remove_reader(s.recorder._socket.fileno())  # type: ignore[union-attr]
        await closing
        assert s.numbers() == list(range(500))
        s.recorder.close()
        await desk.finish(DEADLINE_S)
        desk.close()

    play(tmp_path, scene)


def test_a_connection_that_comes_after_closing_is_closed(tmp_path: Path) -> None:
    """A recorder that is told to stop waits for all who are connected."""

    async def scene(s: Scene) -> None:
        s.recorder.close()
        with s.pair() as theirs:
            assert theirs.recv(1) == b""

    play(tmp_path, scene)


def test_what_was_not_acknowledged_is_handed_in_again_and_written_once(tmp_path: Path) -> None:
    """The first recorder writes, and dies before it can say so."""

    async def scene(s: Scene) -> None:
        mute = s.desk()
        taken = s.pair()
        s.recorder.record(commit(1), s.told.append)
        s.recorder.record(batch(2))
        await asyncio.sleep(0)
        s.recorder._flush()
        reader = Reader()
        for values in reader.feed(taken.recv(1 << 16)):
            mute.take("boot/worker-0.1", values)
        await s.until(lambda: s.numbers() == [1, 2])
        taken.close()
        mute.close()
        await s.until(lambda: s.recorder.failed == AWAY)
        s.recorder.record(batch(3))
        assert s.told == []
        after = s.desk()
        s.connect(after)
        assert s.recorder.failed == RETURNING
        await s.until(lambda: s.recorder.failed is None)
        assert s.told == [None]
        await s.until(lambda: s.numbers() == [1, 2, 3])
        s.recorder.close()
        after.close()

    play(tmp_path, scene)


def test_a_recorder_that_does_not_answer_closes_the_gate(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        theirs = s.pair()
        s.recorder.record(commit(1), s.told.append)
        await s.until(lambda: s.recorder.failed is not None)
        assert s.recorder.failed == "the audit recorder does not answer"
        await s.until(lambda: s.told)
        assert str(s.told[0]) == "the audit recorder does not answer"
        theirs.send(frames.answer(1, None))
        await s.until(lambda: s.recorder.failed is None)
        s.recorder.close()
        theirs.close()

    play(tmp_path, scene, pace=Pace(stall_s=0.05, look_s=0.01, close_s=0.1))


def test_a_disk_that_fails_closes_the_gate(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        theirs = s.pair()
        s.recorder.record(commit(1), s.told.append)
        theirs.send(frames.answer(0, "No space left on device"))
        await s.until(lambda: s.told)
        assert str(s.told[0]) == s.recorder.failed == "No space left on device"
        theirs.send(frames.answer(1, None))
        await s.until(lambda: s.recorder.failed is None)
        s.recorder.close()
        theirs.close()

    play(tmp_path, scene)


def test_a_full_queue_is_told_before_anything_is_lost(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        theirs = s.pair()
        seen = []
        for number in range(50):
            seen.append(s.recorder.failed)
            s.recorder.record(batch(number))
        assert seen[29] is None
        assert seen[30] == "30 events wait for the audit recorder"
        theirs.close()
        desk = s.desk()
        s.connect(desk)
        await s.until(lambda: s.recorder.failed is None)
        await s.until(lambda: s.numbers() == list(range(40)))
        await s.until(lambda: b"audit.lost" in s.file.read_bytes())
        lost = [json.loads(line) for line in s.file.read_bytes().splitlines() if b"audit.lost" in line]
        assert [line["count"] for line in lost] == [10]
        s.recorder.close()
        desk.close()

    play(tmp_path, scene, pace=Pace(capacity=40, look_s=0.01))


def test_refusals_are_folded_before_they_are_handed_in(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        desk = s.desk()
        s.connect(desk)
        for _ in range(50):
            s.recorder.record(Event("connection.refused", 1.0, source="10.0.0.1", reason="tls.expired", fold=True))
        await s.until(lambda: s.file.read_bytes().count(b"\n") == 2)
        assert [json.loads(line)["count"] for line in s.file.read_bytes().splitlines()] == [1, 49]
        s.recorder.close()
        desk.close()

    play(tmp_path, scene, fold=Fold(window=0.05), pace=Pace(look_s=0.01))


def test_an_event_that_cannot_be_handed_in_leaves_a_line(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        desk = s.desk()
        s.connect(desk)
        s.recorder.record(Event("call.allowed", 1.0, model=object()))  # type: ignore[arg-type]
        s.recorder.record(batch(1))
        await s.until(lambda: s.file.read_bytes().count(b"\n") == 2)
        kinds = [json.loads(line)["kind"] for line in s.file.read_bytes().splitlines()]
        assert kinds == ["audit.malformed", "call.allowed"]
        s.recorder.close()
        desk.close()

    play(tmp_path, scene)


@pytest.mark.parametrize("junk", [b"\xff\xff\xff\xff", b"\0\0\0\1x", frames.answer(1, None), b"\0\0\0\2()"])
def test_a_visitor_that_talks_nonsense_is_shown_out(tmp_path: Path, junk: bytes) -> None:
    async def scene(s: Scene) -> None:
        desk = s.desk()
        ours, theirs = socket.socketpair()
        desk.attach(Attach("worker", "worker-0.9"), theirs)
        ours.setblocking(False)
        ours.send(junk)
        await s.until(lambda: desk.measure()[0] == 0)
        ours.close()
        desk.close()

    play(tmp_path, scene)


def test_the_last_numbers_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    lines = [f'{{"kind":"x","process":"boot/{name}","sequence":{number}}}\n' for name, number in
             (("a", 1), ("a", 2), ("b", 1), ("c", 9), ("b", 2), ("a", 3))]  # fmt: skip
    file.write_text("".join(lines))
    assert last_numbers(file, 100) == {"boot/a": 3, "boot/b": 2, "boot/c": 9}
