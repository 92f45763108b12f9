"""Keeps issuers' keys fresh, in the services process: fetched now and then, and at once when a token names another.

However many callers bring tokens with keys that are not known here, an issuer is asked once, and not again for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from sidecar.identity import jwks
from sidecar.identity.jwks import KeySetError
from sidecar.identity.sources import KeySource, SourceError
from sidecar.logs import Log

log = Log("identity")

SOONEST_S: Final = 5.0  # from the end of one fetch to the next that a token brings about
RETRY_S: Final = 1.0  # after a failure, twice as long after each more
LONGEST_RETRY_S: Final = 60.0

Keep = Callable[[KeySource, bytes | None], None]  # a set that was fetched just now; None: the source is no longer ours


class UnknownSourceError(SourceError):
    """Nobody here fetches that."""


class Keeping:
    """fetch: called in a thread; raises SourceError.  keep: told, on the loop's thread, of each set that is one.

    clock: monotonic seconds.  jitter: from 0 to 1, spreads what many sidecars do at one time.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fetch: Callable[[KeySource], bytes],
        keep: Keep,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._fetch = fetch
        self._keep = keep
        self._clock = clock
        self._jitter = jitter
        self._kept: dict[str, _Kept] = {}

    def configure(self, sources: Iterable[KeySource]) -> None:
        """These from here on; those that stay are not fetched again for it."""
        wanted = {source.key: source for source in sources}
        for key, kept in list(self._kept.items()):
            if wanted.get(key) != kept.source:
                kept.stop()
                del self._kept[key]
                if key not in wanted:
                    self._keep(kept.source, None)
        for key, source in wanted.items():
            if key not in self._kept:
                self._kept[key] = _Kept(self, source)

    async def refresh(self, key: str) -> None:
        """Fetch a source's keys, unless that was tried a moment ago. Raises SourceError where it fails."""
        kept = self._kept.get(key)
        if kept is None:
            raise UnknownSourceError("no such source")
        await kept.refresh()

    def close(self) -> None:
        for kept in self._kept.values():
            kept.stop()

    async def fetched(self, source: KeySource) -> None:
        """Fetch, and tell. Raises SourceError."""
        octets = await self._loop.run_in_executor(None, partial(self._fetch, source))
        try:
            found = jwks.read(octets)
        except KeySetError as error:
            raise SourceError(f"what the issuer publishes is no key set: {error}") from None
        log.debug("keys_fetched", issuer=source.issuer, keys=len(found.keys), passed_over=found.passed_over)
        self._keep(source, octets)

    def now(self) -> float:
        return self._clock()

    def spread(self, seconds: float) -> float:
        return seconds * (0.9 + 0.2 * self._jitter())

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop


class _Kept:
    """One source."""

    def __init__(self, keeping: Keeping, source: KeySource) -> None:
        self.source = source
        self._keeping = keeping
        self._tried = float("-inf")  # when the last fetch ended
        self._failure = ""  # of the last, "" where it was good
        self._fetching: asyncio.Task[None] | None = None
        self._task = keeping.loop.create_task(self._run())

    async def refresh(self) -> None:
        if self._fetching is None and self._keeping.now() - self._tried < SOONEST_S:
            if self._failure:
                raise SourceError(self._failure)
            return
        # Shielded: whoever gives up must not take the fetch away from the others who wait for it.
        await asyncio.shield(self._fetch())

    def stop(self) -> None:
        self._task.cancel()
        if self._fetching is not None:
            self._fetching.cancel()

    def _fetch(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._fetching = self._keeping.loop.create_task(self._fetch_once())
            self._fetching.add_done_callback(_heed)
        return self._fetching

    async def _fetch_once(self) -> None:
        try:
            await self._keeping.fetched(self.source)
        except SourceError as error:
            if not self._failure:
                log.warning("keys_unavailable", issuer=self.source.issuer, detail=str(error))
            self._failure = str(error)
            raise
        finally:
            self._fetching, self._tried = None, self._keeping.now()
        if self._failure:
            log.info("keys_available", issuer=self.source.issuer)
        self._failure = ""

    async def _run(self) -> None:
        pause = RETRY_S
        while True:
            try:
                await asyncio.shield(self._fetch())
            except SourceError:
                wait, pause = pause, min(2 * pause, LONGEST_RETRY_S)
            except Exception as error:
                log.error("keys_defect", error)
                wait, pause = pause, min(2 * pause, LONGEST_RETRY_S)
            else:
                wait, pause = self.source.refresh_s, RETRY_S
            await asyncio.sleep(self._keeping.spread(wait))


def _heed(task: asyncio.Task[None]) -> None:
    """Whoever waited has its exception, and where nobody did it is told all the same."""
    if not task.cancelled():
        task.exception()
