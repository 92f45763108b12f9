"""The interop servers that Debian's compilers build, each in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.certificates import Certificates
from tests.peers.targets import Upstream
from tests.peers.toolchains import TOOLCHAINS
from tests.processes import Process

TLS = ("go", "cpp")  # those that speak it


@contextmanager
def serve(name: str, certificates: Certificates) -> Iterator[tuple[Process, Upstream]]:
    """A server of one of `TOOLCHAINS`. SIGTERM ends it with status 0 once no call is open at it."""
    command = TOOLCHAINS[name].command("server")
    if name in TLS:
        pair = certificates.server
        command += [str(certificates.ca), str(pair.certificate), str(pair.key)]
    with Process(command) as server:
        line = server.wait_line(lambda line: line.startswith("{"))
        yield server, Upstream.announced(line, certificates)
