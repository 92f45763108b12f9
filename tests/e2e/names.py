"""A DNS server of the tests' own (dnsmasq), and what has one process ask it and nobody else."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.parts import require
from tests.processes import Process

SERVER: Final = "127.53.0.1"  # of loopback, at port 53: resolv.conf(5) knows no other port
# A mount namespace of its own, in which these two files say how names are looked up.
OWN_RESOLVER: Final = 'mount --bind "$0" /etc/resolv.conf && mount --bind "$1" /etc/nsswitch.conf && shift && exec "$@"'


class Names:
    """process: the server's.  under: a command that runs another one so that it asks this server."""

    def __init__(self, directory: Path) -> None:
        self._hosts = directory / "hosts"
        self._hosts.touch()
        resolver, switch = directory / "resolv.conf", directory / "nsswitch.conf"
        resolver.write_text(f"nameserver {SERVER}\n")
        switch.write_text("hosts: dns\n")
        self.under = ("unshare", "--mount", "sh", "-c", OWN_RESOLVER, str(resolver), str(switch))
        self.process = Process(
            ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=",
             "--bind-interfaces", f"--listen-address={SERVER}", "--pid-file", "--log-facility=-", "--local=/test/",
             "--log-queries", f"--addn-hosts={self._hosts}"]
        )  # fmt: skip
        self.process.wait_line(lambda line: "read " in line)

    def put(self, name: str, *addresses: str) -> None:
        """The name has these addresses from now on, and no others."""
        seen = self.process.log.count("read ")
        self._hosts.write_text("".join(f"{address} {name}\n" for address in addresses))
        os.kill(self.process.pid, signal.SIGHUP)
        self.process.wait_line(lambda line: self.process.log.count("read ") > seen)


@contextmanager
def names(directory: Path) -> Iterator[Names]:
    require(shutil.which("dnsmasq") is not None, "dnsmasq (Debian: dnsmasq-base)")
    require(os.geteuid() == 0, "root, which may have a mount namespace and a server at port 53")
    made = Names(directory)
    with made.process:
        yield made
