"""The interop cases with the servers of other languages behind the sidecar."""

from __future__ import annotations

from typing import Any

import pytest

from tests.certificates import Certificates
from tests.peers import interop_servers
from tests.peers.conftest import Front
from tests.peers.interop_clients import GRPCIO, OTHERS, Client, cases, passed

PLAIN, MTLS = Front("plain", "plain"), Front("mtls", "mtls", shapes=True)
LOOKED = Front("mtls", "plain", shapes=True, looked=True)
FRONTS = {"go": (PLAIN, MTLS, LOOKED), "cpp": (PLAIN, MTLS, LOOKED), "java": (PLAIN, LOOKED)}
WAYS = [
    pytest.param(client, front, server, marks=() if client is GRPCIO else pytest.mark.slow)
    for server, fronts in FRONTS.items()
    for front in fronts
    for client in (GRPCIO, *OTHERS)
    if client.tls or front.listen == "plain"
]


@pytest.mark.parametrize(("client", "front", "server"), WAYS, ids=str)
def test_cases(client: Client, front: Front, server: str, certificates: Certificates, through: Any) -> None:
    """All that apply; none leaves a call open at the server, which would not end."""
    names = cases(client, server)
    with interop_servers.serve(server, certificates) as (process, upstream), through(front, to=upstream) as target:
        assert client.run(target, names) == passed(names)
        assert process.terminate() == 0, process.tail()
