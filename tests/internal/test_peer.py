"""Who listens at a socket, by the kernel's word."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest
import uvloop

from sidecar.internal import peer
from sidecar.internal.mac import SealError
from tests.processes import Process

LISTEN = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print('up'); s.accept()"


def test_the_event_loop_shows_it_too(tmp_path: Path) -> None:
    path = f"{tmp_path}/s"

    async def found() -> peer.Peer:
        server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), path)
        _, writer = await asyncio.open_unix_connection(path)
        seen = peer.peer(writer.get_extra_info("socket"))
        writer.close()
        server.close()
        return seen

    assert uvloop.run(found()).pid == os.getpid()


def test_a_process_that_listens_is_known_by_its_number(tmp_path: Path) -> None:
    path = f"{tmp_path}/s"
    with Process([sys.executable, "-c", LISTEN, path]) as helper, socket.socket(socket.AF_UNIX) as connected:
        helper.wait_line(lambda line: line == "up")
        connected.connect(path)
        assert peer.peer(connected) == (helper.pid, os.geteuid(), os.getegid())
        peer.expect(connected, helper.pid)
        with pytest.raises(SealError, match=rf"process {helper.pid} listens at the socket, expected {os.getpid()}"):
            peer.expect(connected, os.getpid())
