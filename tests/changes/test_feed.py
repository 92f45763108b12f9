from __future__ import annotations

import asyncio
import functools
import itertools
import random
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from interceptors.contract import AnswerError
from sidecar.changes import publisher as publisher_module
from sidecar.changes import said
from sidecar.changes.follower import Follower
from sidecar.changes.publisher import Publisher
from sidecar.internal.marshalled import LENGTH, frame

TOPIC = "keys"
MARK = "so"  # a topic that says that all keys are told


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Feed:
    """A publisher, and a follower whose listener writes down what it is told."""

    def __init__(self, slow: bool = False, **answers: Callable[[Any], Awaitable[None]]) -> None:
        """slow: an entry fills a slice."""
        loop = asyncio.get_running_loop()
        self.clock = Clock()
        self.told: list[tuple[str, Any]] = []
        self.known: dict[str, Any] = {}
        self.publisher = Publisher(loop, self.clock, answers)
        timer = itertools.count().__next__ if slow else time.perf_counter
        self.follower = Follower(loop, self.clock, {TOPIC: self._listen, MARK: self._listen}, (MARK,), timer)

    def _listen(self, key: str, value: Any) -> None:
        self.told.append((key, value))
        if value is None:
            del self.known[key]
        else:
            self.known[key] = value

    async def relinked(self, *changes: tuple[str, str, Any]) -> Publisher:
        """With another publisher in place of the first, who tells this."""
        self.publisher.close()
        await until(lambda: self.follower._socket is None)
        following = Publisher(asyncio.get_running_loop(), self.clock, {})
        following.publish(*changes)
        self.told.clear()
        self.link(following)
        return following

    def link(self, publisher: Publisher | None = None, buffer: int = 0) -> tuple[socket.socket, socket.socket]:
        one, two = socket.socketpair()
        if buffer:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            two.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        (publisher or self.publisher).attach(one)
        self.follower.attach(two)
        return one, two

    def close(self) -> None:
        self.publisher.close()
        self.follower.close()


def looped(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test that runs on a loop of its own."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        async def timed() -> None:
            async with asyncio.timeout(60):
                await test(*arguments, **named)

        asyncio.run(timed())

    return run


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what others do on this loop has no event of its own
        await asyncio.sleep(0)


@looped
async def test_everything_is_told_then_each_change() -> None:
    feed = Feed()
    feed.publisher.publish((TOPIC, "a", b"1"), ("other", "x", 1))
    feed.link()
    await asyncio.wait_for(feed.follower.begun.wait(), 20)
    feed.publisher.publish((TOPIC, "b", (1, "two", None)))
    feed.publisher.publish((TOPIC, "a", None))
    await until(lambda: len(feed.told) == 3)
    assert feed.told == [("a", b"1"), ("b", (1, "two", None)), ("a", None)]
    feed.close()


@looped
async def test_before_everything_is_told_nothing_is_known_to_be_so() -> None:
    feed = Feed()
    assert feed.follower.age() == float("inf")
    assert not feed.follower.begun.is_set()
    feed.link()
    await until(feed.follower.begun.is_set)
    assert feed.follower.age() == 0.0
    feed.close()


@looped
async def test_beats_keep_it_fresh_and_silence_ages_it() -> None:
    feed = Feed()
    feed.link()
    await until(feed.follower.begun.is_set)
    feed.clock.now += 3
    assert feed.follower.age() == 3.0
    await until(lambda: feed.follower.age() == 0.0)  # by a beat
    feed.publisher.close()
    feed.clock.now += 60
    await asyncio.sleep(0)
    assert feed.follower.age() == 60.0
    assert feed.follower.begun.is_set()
    feed.close()


@looped
async def test_a_beat_is_as_old_as_it_is() -> None:
    """What a stopped worker finds in its socket does not make what it knows any younger."""
    feed = Feed()
    ours, theirs = socket.socketpair()
    feed.follower.attach(theirs)
    ours.send(b"".join(said.whole([], 0, 1_000.0)) + frame((said.BEAT, 0, 1_001.0)))
    feed.clock.now = 1_031.0
    await until(feed.follower.begun.is_set)
    assert feed.follower.age() == 30.0
    feed.close()
    ours.close()


@looped
async def test_what_was_known_stays_and_the_next_publisher_corrects_it() -> None:
    feed = Feed()
    feed.publisher.publish((TOPIC, "gone", b"1"), (TOPIC, "same", b"2"), (TOPIC, "new", b"3"))
    feed.link()
    await until(feed.follower.begun.is_set)
    feed.publisher.close()
    await until(lambda: feed.follower._socket is None)
    assert feed.known == {"gone": b"1", "same": b"2", "new": b"3"}
    feed.told.clear()
    following = Publisher(asyncio.get_running_loop(), feed.clock, {})
    following.publish((TOPIC, "same", b"2"), (TOPIC, "new", b"4"))
    feed.link(following)
    await until(lambda: feed.known == {"same": b"2", "new": b"4"})
    assert sorted(feed.told, key=str) == [("gone", None), ("new", b"4")]
    following.close()
    feed.close()


@looped
async def test_everything_is_told_a_slice_at_a_time_and_is_known_at_the_end() -> None:
    feed = Feed(slow=True)
    feed.publisher.publish((MARK, "all", 1), *((TOPIC, str(at), at) for at in range(5)))
    feed.link()
    feed.clock.now += 2
    feed.publisher.publish((TOPIC, "6", 6))
    seen = []
    while not feed.follower.begun.is_set():
        assert feed.follower.age() == float("inf")
        seen.append(len(feed.told))
        await asyncio.sleep(0)
    assert set(seen) >= {1, 2, 3, 4, 5}  # turns between them
    await until(lambda: len(feed.told) == 7)
    assert [key for key, _ in feed.told] == ["0", "1", "2", "3", "4", "all", "6"]
    feed.close()


@looped
async def test_what_says_that_all_is_told_goes_first_and_comes_last() -> None:
    feed = Feed(slow=True)
    feed.publisher.publish((MARK, "all", 1), (TOPIC, "gone", 1), (TOPIC, "same", 2), (TOPIC, "new", 3))
    feed.link()
    await until(feed.follower.begun.is_set)
    following = await feed.relinked((MARK, "all", 1), (TOPIC, "same", 2), (TOPIC, "new", 4))
    feed.clock.now += 3
    while len(feed.told) < 4:
        assert feed.follower.age() == 3.0  # as old as it was before
        await asyncio.sleep(0)
    assert feed.told == [("all", None), ("gone", None), ("new", 4), ("all", 1)]
    await until(lambda: feed.follower.age() < 3.0)
    following.close()
    feed.close()


@looped
async def test_where_the_telling_is_cut_off_nothing_says_that_all_is_told() -> None:
    feed = Feed(slow=True)
    feed.publisher.publish((MARK, "all", 1), (TOPIC, "a", 1))
    feed.link()
    await until(feed.follower.begun.is_set)
    following = await feed.relinked((MARK, "all", 2), *((TOPIC, f"b{at}", at) for at in range(5)))
    await until(lambda: "b1" in feed.known)
    feed.follower._detach()
    following.close()
    for _ in range(50):
        await asyncio.sleep(0)
    assert "all" not in feed.known
    assert "b4" not in feed.known
    last = await feed.relinked((MARK, "all", 3), (TOPIC, "b0", 0))
    await until(lambda: feed.known == {"all": 3, "b0": 0})
    last.close()
    feed.close()


@looped
async def test_a_listener_that_fails_in_a_later_slice_ends_it_too() -> None:
    feed = Feed(slow=True)
    feed.publisher.publish((TOPIC, "a", 1), (TOPIC, "b", 2))
    feed.link()
    await until(feed.follower.begun.is_set)
    del feed.known["b"]
    following = await feed.relinked((TOPIC, "new", 1))  # "b" goes, at which the listener raises
    await until(lambda: feed.follower._socket is None)
    assert "new" not in feed.known
    following.close()
    feed.close()


@pytest.mark.parametrize("most", [4_000, publisher_module.MOST_UNSENT])
@looped
async def test_whoever_reads_slowly_ends_up_with_what_is_so(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Changes amid the telling of everything come behind it, and dropped ones are made good."""
    monkeypatch.setattr(publisher_module, "MOST_UNSENT", most)
    chance = random.Random(7)
    feed = Feed()
    expected: dict[str, bytes] = {}

    def change() -> None:
        key = str(chance.randrange(300))
        value = chance.randbytes(chance.randrange(400)) if chance.random() < 0.8 else None
        if value is None:
            expected.pop(key, None)
        else:
            expected[key] = value
        feed.publisher.publish((TOPIC, key, value))

    for _ in range(400):
        change()
    feed.link(buffer=4_096)
    for _ in range(3_000):
        change()
        if chance.random() < 0.3:
            await asyncio.sleep(0)
    await until(lambda: feed.known == expected)
    feed.close()


@looped
async def test_an_answer_comes_behind_what_the_question_brought() -> None:
    async def fetch(argument: Any) -> None:
        feed.publisher.publish((TOPIC, argument, b"fresh"))

    feed = Feed(fetch=fetch)
    feed.link()
    await feed.follower.ask("fetch", "issuer")
    assert feed.known == {"issuer": b"fresh"}
    feed.close()


@looped
async def test_what_cannot_be_answered_is_said() -> None:
    async def fail(argument: Any) -> None:
        raise RuntimeError("of which nothing may be told")

    feed = Feed(fail=fail)
    with pytest.raises(AnswerError, match="not running"):
        await feed.follower.ask("fail", "")
    feed.link()
    with pytest.raises(AnswerError, match=r"^RuntimeError$"):
        await feed.follower.ask("fail", "")
    with pytest.raises(AnswerError, match="nobody answers"):
        await feed.follower.ask("else", "")
    feed.close()


@looped
async def test_whoever_waits_for_an_answer_hears_that_the_publisher_has_gone() -> None:
    started = asyncio.Event()

    async def never(argument: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    feed = Feed(never=never)
    feed.link()
    asked = asyncio.ensure_future(feed.follower.ask("never", ""))
    await started.wait()
    feed.publisher.close()
    with pytest.raises(AnswerError, match="has gone"):
        await asked
    feed.close()


@looped
async def test_who_comes_before_all_is_there_hears_of_nothing_until_it_is() -> None:
    feed = Feed()
    feed.publisher.publish((TOPIC, "a", 1))
    feed.link()
    await until(lambda: feed.known == {"a": 1})
    successor = Publisher(asyncio.get_running_loop(), feed.clock, {}, begun=False)
    feed.link(successor)
    feed.clock.now += 7
    successor.publish((TOPIC, "b", 2))
    successor._beat()
    for _ in range(5):
        await asyncio.sleep(0)  # whatever was said is heard
    assert feed.known == {"a": 1}, "nothing is taken back"
    assert feed.follower.age() >= 7
    successor.publish((TOPIC, "a", 1))
    successor.begin()
    await until(lambda: feed.known == {"a": 1, "b": 2})
    assert feed.told == [("a", 1), ("b", 2)]
    assert feed.follower.age() == 0
    successor.close()
    feed.close()


@looped
async def test_questions_beyond_the_most_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "MOST_ASKED", 2)
    release, open_ones = asyncio.Event(), asyncio.Semaphore(0)

    async def wait(argument: Any) -> None:
        open_ones.release()
        await release.wait()

    feed = Feed(wait=wait)
    feed.link()
    waiting = [asyncio.ensure_future(feed.follower.ask("wait", "")) for _ in range(2)]
    async with asyncio.timeout(20):
        for _ in waiting:
            await open_ones.acquire()
    with pytest.raises(AnswerError, match="too many questions"):
        await feed.follower.ask("wait", "")
    release.set()
    await asyncio.gather(*waiting)
    feed.close()


@looped
async def test_what_its_listener_fails_at_is_not_taken_for_known() -> None:
    feed = Feed()
    feed.publisher.publish((TOPIC, "a", b"1"))
    feed.link()
    await until(feed.follower.begun.is_set)
    feed.known.clear()
    feed.publisher.publish((TOPIC, "a", None))  # at which the listener raises
    await until(lambda: feed.follower._socket is None)
    feed.clock.now += 7
    assert feed.follower.age() == 7.0
    feed.close()


JUNK = [
    b"\xff\xff\xff\xff",
    LENGTH.pack(1) + b"x",
    frame((99,)),
    frame((said.BEAT, 5, 1.0)),  # of changes that did not come
    frame((said.CHANGE, 2, 1.0, [])),  # neither
    frame((said.END, 1, 1.0)),
    frame((said.ENTRIES, [])),
]


@pytest.mark.parametrize("junk", JUNK)
@looped
async def test_a_publisher_that_says_what_it_may_not_is_left(junk: bytes) -> None:
    feed = Feed()
    ours, theirs = socket.socketpair()
    feed.follower.attach(theirs)
    ours.send(b"".join(said.whole([(TOPIC, "a", b"1")], 0, 1_000.0)))
    await until(feed.follower.begun.is_set)
    ours.send(junk)
    await until(lambda: feed.follower._socket is None)
    assert feed.known == {"a": b"1"}
    feed.close()
    ours.close()


@pytest.mark.parametrize("junk", [b"\xff\xff\xff\xff", LENGTH.pack(1) + b"x", frame((said.ASK, "1", "what", 0))])
@looped
async def test_a_follower_that_says_what_it_may_not_is_left(junk: bytes) -> None:
    feed = Feed()
    ours, theirs = socket.socketpair()
    feed.publisher.attach(theirs)
    ours.send(junk)
    await until(lambda: not feed.publisher._followers)
    feed.publisher.publish((TOPIC, "a", b"1"))
    feed.close()
    ours.close()


def test_what_cannot_be_told_changes_nothing() -> None:
    async def scene() -> None:
        feed = Feed()
        feed.link()
        await feed.follower.begun.wait()
        with pytest.raises(ValueError, match="unmarshallable"):
            feed.publisher.publish((TOPIC, "k", object()))
        feed.publisher.publish((TOPIC, "k", 1))
        async with asyncio.timeout(20):
            while feed.known != {"k": 1}:  # noqa: ASYNC110 - what a socket brings has no event here
                await asyncio.sleep(0.005)
        feed.close()

    asyncio.run(scene())
