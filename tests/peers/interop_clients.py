"""The clients of the interop cases, and which cases a client and a server have.

A client that is a program of its own is started with ADDRESS RUNS [CA CERTIFICATE KEY] and prints
{case: [null or what went wrong, for each run]}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.peers import interop_sync, venvs
from tests.peers.targets import Target
from tests.peers.toolchains import CPP, GO, JAVA
from tests.processes import Process

Results: TypeAlias = dict[str, list[str | None]]

CASES = tuple(interop_sync.CASES)
RUNS = 20  # in a row, on one channel
PACKED_ANSWERS = frozenset({"server_compressed_unary", "server_compressed_streaming"})


@dataclass(frozen=True, slots=True)
class Client:
    """name: also of its toolchain, where Debian's builds it.  command: what runs it.  tls: whether it speaks TLS."""

    name: str
    command: Callable[[], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    tls: bool = True

    def __str__(self) -> str:
        return self.name

    def run(self, target: Target, names: Sequence[str] = CASES) -> Results:
        """What came of every run of these cases. Raises ProcessError where the client fails itself."""
        command = [*self.command(), target.address, str(RUNS)]
        if target.certificates:
            pair = target.certificates.client
            command += [str(target.certificates.ca), str(pair.certificate), str(pair.key)]
        with Process(command, environment=self.environment) as client:
            line = client.wait_line(lambda line: line.startswith("{"), timeout=240)
            assert client.wait() == 0, client.tail()
        said: Results = json.loads(line)
        assert set(said) == set(CASES), "the clients do not have the same cases"
        return {name: said[name] for name in names}


class Grpcio(Client):
    """grpcio's blocking client, in this process; its first fault is raised as it is."""

    def run(self, target: Target, names: Sequence[str] = CASES) -> Results:
        with target.channel() as channel:
            for name in names:
                for _ in range(RUNS):
                    interop_sync.CASES[name](channel)
        return passed(names)


def _grpc_js() -> list[str]:
    return [*venvs.node(), str(venvs.HERE / "interop.cjs")]


GRPCIO = Grpcio("grpcio", list)
GRPC_JS = Client("js", _grpc_js, {"NODE_PATH": str(venvs.node_modules("node"))})
GRPC_GO = Client("go", lambda: GO.command("client"))
GRPC_CPP = Client("cpp", lambda: CPP.command("client"))
GRPC_JAVA = Client("java", lambda: JAVA.command("client"), tls=False)
OTHERS = (GRPC_JS, GRPC_GO, GRPC_CPP, GRPC_JAVA)


def cases(client: Client, server: str) -> tuple[str, ...]:
    """Those that apply to the two.

    grpc-go 1.33 compresses no response whose request was not, and does not tell servers that it takes gzip;
    grpc-java compresses only for who does. Every other pair has all.
    """
    lacking = server == "go" or (server, client) == ("java", GRPC_GO)
    return tuple(name for name in CASES if not (lacking and name in PACKED_ANSWERS))


def passed(names: Sequence[str] = CASES) -> Results:
    """What a client says when nothing went wrong."""
    return {name: [None] * RUNS for name in names}
