from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable

import pytest
import uvloop

from sidecar.relay.settings import Target
from sidecar.relay.upstream.resolve import is_name, system_lookup


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("model.example.org", True), ("model", True), ("10.0.0.1", False), ("::1", False), ("", False),
        ("localhost", False), ("LocalHost", False), ("a.localhost", False), ("localhost.example.org", True),
    ],
)  # fmt: skip
def test_what_is_looked_up(host: str, name: bool) -> None:
    assert is_name(Target(host, 1)) is name


def test_the_hosts_own_resolver() -> None:
    async def scenario(host: str) -> Iterable[str]:
        return await system_lookup(asyncio.get_running_loop())(host, 1)

    assert all(ipaddress.ip_address(each).is_loopback for each in uvloop.run(scenario("localhost")))
    with pytest.raises(socket.gaierror):
        uvloop.run(scenario("no-such-name.invalid"))  # RFC 6761 §6.4
