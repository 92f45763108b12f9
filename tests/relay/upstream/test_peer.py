"""A pool that only talks to one process: what its callback is given is enough to tell who listens at a Unix socket."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
import uvloop

from interceptors.chain import Chain
from interceptors.contract import NO_CODEC
from sidecar.relay.relay import Relay
from sidecar.relay.settings import FrontSettings, Target, UpstreamSettings
from sidecar.relay.upstream.pool import Pool
from tests.relay.world import Answers, Codecs, Recorder


@pytest.mark.parametrize("meant", [True, False])
def test_the_process_at_the_other_end_is_known_before_anything_is_sent(tmp_path: Path, meant: bool) -> None:
    path = str(tmp_path / "services.sock")
    expected = os.getpid() if meant else os.getpid() + 1
    said: list[bytes] = []

    class Listens(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            said.append(data)

    def admit(connection: socket.socket | None) -> str | None:
        assert connection is not None
        pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return None if pid == expected else f"process {pid} listens there, expected {expected}"

    async def scenario() -> str | None:
        loop: Any = asyncio.get_running_loop()
        server = await loop.create_unix_server(Listens, path)
        relay = Relay(loop, FrontSettings(), Chain([]), Codecs(NO_CODEC), Recorder(), None, Answers())
        settings = UpstreamSettings((Target("", 0, path),))
        relay.pool = pool = Pool(loop, relay, settings, None, None, lambda: 0.5, admit=admit)
        pool.start()
        async with asyncio.timeout(15):
            while not said and pool.failure is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        failure = pool.failure
        await pool.stop()
        server.close()
        return failure

    failure = uvloop.run(scenario())
    assert (failure is None) is meant
    assert bool(said) is meant
    assert meant or failure == f"process {os.getpid()} listens there, expected {expected}"
