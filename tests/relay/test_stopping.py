"""Stopping while the connection to the model server is being made: nothing is written to what is closed already."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop

from interceptors.chain import Chain
from interceptors.contract import NO_CODEC
from sidecar.relay.relay import Relay
from sidecar.relay.settings import FrontSettings, Target, UpstreamSettings
from sidecar.relay.upstream.pool import Pool
from tests.relay.world import Answers, Codecs, Recorder


@pytest.mark.parametrize("turns", range(8))
def test_a_pool_stopped_at_any_moment_of_its_connecting(turns: int, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        loop: Any = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        relay = Relay(loop, FrontSettings(), Chain([]), Codecs(NO_CODEC), Recorder(), None, Answers())
        relay.pool = pool = Pool(loop, relay, UpstreamSettings((Target("127.0.0.1", port),)), None, None, lambda: 0.5)
        pool.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        await pool.stop()
        for _ in range(10):
            await asyncio.sleep(0)
        server.close()

    uvloop.run(scenario())
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
