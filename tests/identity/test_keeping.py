"""Issuers are asked now and then, and once however many want their keys."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from sidecar.identity import keeping as module
from sidecar.identity.keeping import SOONEST_S, Keeping, UnknownSourceError
from sidecar.identity.sources import KeySource, SourceError
from tests.identity.issuing import jwk
from tests.identity.issuing import jwks as key_set

LOGIN = KeySource("https://login.example", "", "", 3_600.0)
OTHER = KeySource("https://other.example", "", "", 3_600.0)
GOOD = key_set(jwk("ES256"))


class Scene:
    """An issuer whose answer is `answer`, given once `open` is set."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.kept: list[tuple[str, bytes | None]] = []
        self.now = 1_000.0
        self.answer: bytes | SourceError = GOOD
        self.open = threading.Event()
        self.open.set()
        loop = asyncio.get_running_loop()
        self.keeping = Keeping(loop, self._fetch, self._keep, lambda: self.now, lambda: 0.5)

    def _fetch(self, source: KeySource) -> bytes:
        self.asked.append(source.issuer)
        assert self.open.wait(20)
        if isinstance(self.answer, SourceError):
            raise self.answer
        return self.answer

    def _keep(self, source: KeySource, octets: bytes | None) -> None:
        self.kept.append((source.issuer, octets))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - what threads do has no event here
                await asyncio.sleep(0.01)


def play(scene: Callable[[Scene], Awaitable[None]]) -> None:
    async def run() -> None:
        made = Scene()
        await scene(made)
        made.open.set()
        made.keeping.close()

    asyncio.run(run())


def test_keys_are_there_before_anybody_wants_them() -> None:
    async def scene(at: Scene) -> None:
        at.keeping.configure([LOGIN, OTHER])
        await at.until(lambda: len(at.kept) == 2)
        assert sorted(at.kept) == [(LOGIN.issuer, GOOD), (OTHER.issuer, GOOD)]

    play(scene)


def test_a_thousand_who_want_them_are_one() -> None:
    async def scene(at: Scene) -> None:
        at.open.clear()
        at.keeping.configure([LOGIN])
        wanting = [asyncio.ensure_future(at.keeping.refresh(LOGIN.key)) for _ in range(1_000)]
        await at.until(lambda: bool(at.asked))
        at.open.set()
        await asyncio.gather(*wanting)
        assert (at.asked, len(at.kept)) == ([LOGIN.issuer], 1)

    play(scene)


def test_the_issuer_has_peace_for_a_while_whatever_is_wanted() -> None:
    async def scene(at: Scene) -> None:
        at.keeping.configure([LOGIN])
        await at.until(lambda: bool(at.kept))
        await at.keeping.refresh(LOGIN.key)
        at.now += SOONEST_S - 1
        await at.keeping.refresh(LOGIN.key)
        assert len(at.asked) == 1
        at.now += 1
        await at.keeping.refresh(LOGIN.key)
        assert len(at.asked) == 2

    play(scene)


def test_whoever_gives_up_takes_nothing_from_the_others() -> None:
    async def scene(at: Scene) -> None:
        at.open.clear()
        at.keeping.configure([LOGIN])
        one, other = (asyncio.ensure_future(at.keeping.refresh(LOGIN.key)) for _ in range(2))
        await at.until(lambda: bool(at.asked))
        one.cancel()
        at.open.set()
        await other
        assert at.kept == [(LOGIN.issuer, GOOD)]

    play(scene)


@pytest.mark.parametrize("answer", [SourceError("refused"), b"{}", b'{"keys": []}', b"<html>"])
def test_what_is_no_key_set_is_not_kept_and_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | SourceError
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)

    async def scene(at: Scene) -> None:
        at.answer = answer
        at.keeping.configure([LOGIN])
        await at.until(lambda: len(at.asked) >= 3)
        with pytest.raises(SourceError):
            await at.keeping.refresh(LOGIN.key)
        assert at.kept == []
        at.answer = GOOD
        await at.until(lambda: bool(at.kept))
        assert at.kept == [(LOGIN.issuer, GOOD)]

    play(scene)


def test_a_defect_of_the_fetch_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)

    async def scene(at: Scene) -> None:
        at.answer = None  # type: ignore[assignment]  # at which what reads it raises TypeError
        at.keeping.configure([LOGIN])
        await at.until(lambda: len(at.asked) >= 2)
        at.answer = GOOD
        await at.until(lambda: bool(at.kept))

    play(scene)


def test_keys_are_fetched_again_after_a_while() -> None:
    async def scene(at: Scene) -> None:
        at.keeping.configure([KeySource(LOGIN.issuer, "", "", 0.01)])
        await at.until(lambda: len(at.kept) >= 3)
        assert set(at.kept) == {(LOGIN.issuer, GOOD)}

    play(scene)


def test_a_source_that_goes_takes_its_keys_along_and_one_that_stays_is_not_asked_again() -> None:
    async def scene(at: Scene) -> None:
        at.keeping.configure([LOGIN, OTHER])
        await at.until(lambda: len(at.kept) == 2)
        at.keeping.configure([OTHER])
        assert at.kept[2:] == [(LOGIN.issuer, None)]
        assert len(at.asked) == 2
        with pytest.raises(UnknownSourceError):
            await at.keeping.refresh(LOGIN.key)

    play(scene)
