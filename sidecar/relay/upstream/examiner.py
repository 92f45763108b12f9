"""Asks one endpoint's grpc.health.v1 service again and again, and keeps its standing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecar.logs import Log
from sidecar.relay.settings import HealthSettings, Target
from sidecar.relay.upstream.health import Check, Standing, Verdict
from sidecar.relay.upstream.wire import UpstreamWire

if TYPE_CHECKING:
    from sidecar.relay.upstream.endpoint import Endpoint

_log = Log("upstream")


class Examiner:
    """standing: what checks have said; without checks it is good."""

    def __init__(self, endpoint: Endpoint, settings: HealthSettings) -> None:
        self.standing = Standing(settings.grpc, settings.failures)
        self._endpoint = endpoint
        self._settings = settings
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """The endpoint has come up: nothing that is known of what was there before holds."""
        self.standing.forget()
        if self._settings.grpc:
            if self._task is not None:
                self._task.cancel()
            self._task = self._endpoint.run(self._keep())

    async def _keep(self) -> None:
        while self._endpoint.wires:
            wire = next((wire for wire in self._endpoint.wires if wire.connection.can_open and not wire.closing), None)
            if wire is not None:  # else every stream is taken, which shows that it lives
                self._hear(await self._ask(wire))
            await asyncio.sleep(self._endpoint.pool.jittered(self._settings.interval_s))

    async def _ask(self, wire: UpstreamWire) -> Verdict:
        """One check."""
        endpoint = self._endpoint
        answer: asyncio.Future[Verdict] = endpoint.pool.loop.create_future()
        scheme = b"http" if endpoint.pool.channel is None else b"https"
        check = Check(wire.connection, scheme, _authority(endpoint), self._settings.service)
        check.done = answer.set_result
        wire.touch()
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await answer
        except TimeoutError:
            return Verdict.SILENT
        finally:
            if check.done is not None:
                check.give_up()
                wire.touch()
            if wire.retired:
                endpoint.freed(wire)

    def _hear(self, found: Verdict) -> None:
        endpoint, standing = self._endpoint, self.standing
        before = standing.known, standing.reason
        standing.hear(found)
        if found is Verdict.UNIMPLEMENTED and not before[0]:
            _log.warning("upstream_health_unimplemented", address=endpoint.address)
        if before == (standing.known, standing.reason):
            return
        if standing.reason:
            _log.warning("upstream_unhealthy", address=endpoint.address, reason=standing.reason)
        else:
            _log.info("upstream_healthy", address=endpoint.address)
        endpoint.pool.review()


def _authority(endpoint: Endpoint) -> bytes:
    target = endpoint.target
    return b"localhost" if target.path else str(Target(endpoint.name, target.port)).encode()
