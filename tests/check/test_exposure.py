from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from sidecar.check.exposure import examine, judge
from sidecar.check.report import Report
from sidecar.check.sockets import Listener, Process, Sockets
from sidecar.check.sockets_proc import is_own
from sidecar.config.addresses import TcpAddress
from sidecar.config.upstream import Upstream
from tests.config.configs import SOUND, load

MODEL = Process(7, "model")
OTHER = Process(8, "other")


def upstream(settings: str = "address: 127.0.0.1:8001") -> Upstream:
    return load(f"{SOUND}upstream: {{{settings}}}").upstream


def sockets(**listening: Sequence[str]) -> Sockets:
    """Who listens where: model=["127.0.0.1:8001"], and so on; nobody sees who holds those of `hidden`."""
    listeners: list[Listener] = []
    owners: dict[int, tuple[Process, ...]] = {}
    for name, places in listening.items():
        for place in places:
            host, _, port = place.rpartition(":")
            inode = len(listeners) + 1
            listeners.append(Listener(ip_address(host.strip("[]")), int(port), inode, uid=5 if name == "hidden" else 6))
            if name != "hidden":
                owners[inode] = ({"model": MODEL, "other": OTHER}[name],)
    return Sockets(listeners, {}, owners)


def told(report: Report) -> list[str]:
    return [*(f"fault {each}" for each in report.faults), *(f"warning {each}" for each in report.warnings)]


def judged(settings: str, table: Sockets, own: str = "") -> list[str]:
    return told(judge(upstream(settings), table, lambda host: host == own))


AROUND = "which can be reached around the sidecar"


@pytest.mark.parametrize(
    ("settings", "table"),
    [
        ("address: 127.0.0.1:8001", sockets()),
        ("address: 127.0.0.1:8001", sockets(model=["127.0.0.1:8001"])),
        ("address: localhost:8001", sockets(model=["[::1]:8001"])),
        ("address: 127.0.0.1:8001", sockets(model=["127.0.0.1:8001"], other=["0.0.0.0:22"])),
        ("address: 127.0.0.1:8001, ports: [8002]", sockets(model=["127.0.0.1:8001", "127.0.0.1:8002"])),
        ("address: 10.0.0.1:8001, tls: {ca: a}", sockets(other=["0.0.0.0:8001"])),
        ("address: model.example.org:8001, tls: {ca: a}", sockets(other=["0.0.0.0:8001"])),
    ],
)
def test_what_is_shut(settings: str, table: Sockets) -> None:
    assert judged(settings, table) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_model_server_on_every_interface(host: str, name: str) -> None:
    place = str(sockets(model=[f"{host}:8001"]).listeners[0])
    assert judged(f"address: {name}:8001", sockets(model=[f"{host}:8001"])) == [
        "fault upstream.address: expected the model server on loopback only, came model (pid 7) listening on "
        f"{place}, {AROUND}"
    ]


def test_a_further_port_that_nobody_declared() -> None:
    assert judged("address: 127.0.0.1:8001", sockets(model=["127.0.0.1:8001", "127.0.0.1:8002"])) == [
        "fault upstream.ports: expected every further port of the model server to be listed, came model (pid 7) "
        "listening on 127.0.0.1:8002; close it, or add 8002"
    ]


def test_a_declared_port_is_for_loopback_as_well() -> None:
    assert judged("address: 127.0.0.1:8001, ports: [8002]", sockets(model=["127.0.0.1:8001", "0.0.0.0:8002"])) == [
        "fault upstream.address: expected further ports of the model server on loopback only, came model (pid 7) "
        f"listening on 0.0.0.0:8002, {AROUND}"
    ]


def test_the_same_process_behind_another_address_of_this_host() -> None:
    table = sockets(model=["127.0.0.1:8001", "10.0.0.1:8001"])
    assert [line[:22] for line in judged("address: 127.0.0.1:8001, ports: [8001]", table)] == ["fault upstream.address"]


def test_an_address_of_this_host_is_not_another_host() -> None:
    settings = "address: 10.0.0.1:8001, tls: {ca: a}"
    assert len(judged(settings, sockets(model=["0.0.0.0:8001"]), own="10.0.0.1")) == 1
    assert len(judged(settings, sockets(model=["10.0.0.1:8001"]))) == 1


def test_every_endpoint_is_looked_at() -> None:
    table = sockets(model=["127.0.0.1:8001"], other=["0.0.0.0:8002"])
    assert [line[:22] for line in judged("address: [127.0.0.1:8001, 127.0.0.1:8002]", table)] == [
        "fault upstream.address"
    ]


def test_a_name_that_turns_out_to_be_this_host() -> None:
    named = upstream("address: model.example.org:8001, tls: {ca: a}")
    table = sockets(model=["0.0.0.0:8001"])
    assert told(judge(named, table, lambda host: host == "10.0.0.1")) == []
    found = judge(named, table, lambda host: host == "10.0.0.1", [TcpAddress("10.0.0.1", 8001)])
    assert [line[:22] for line in told(found)] == ["fault upstream.address"]


def test_what_is_unsafe_by_config_is_a_warning() -> None:
    lines = judged("address: 127.0.0.1:8001, unsafe_open_upstream: true", sockets(model=["0.0.0.0:8001", "[::1]:9"]))
    assert [line.split(":")[0] for line in lines] == ["warning upstream.address", "warning upstream.ports"]


def test_a_process_that_cannot_be_seen() -> None:
    assert judged("address: 127.0.0.1:8001", sockets(hidden=["127.0.0.1:8001", "0.0.0.0:8002"])) == [
        "warning upstream.ports: the model server's process cannot be seen from here, so neither can its ports; other "
        "processes that cannot be seen listen on 0.0.0.0:8002"
    ]
    (fault, _) = judged("address: 127.0.0.1:8001", sockets(hidden=["0.0.0.0:8001"]))
    assert fault == (
        "fault upstream.address: expected the model server on loopback only, came a process listening on "
        f"0.0.0.0:8001, {AROUND}"
    )


def test_a_model_server_on_a_unix_socket_may_open_ports_too() -> None:
    table = sockets(model=["0.0.0.0:8000"])
    table = replace(table, unix={"/run/m.sock": 99}, owners={**table.owners, 99: (MODEL,)})
    lines = judged('address: "unix:///run/m.sock"', table)
    assert [line.split(":")[0] for line in lines] == ["fault upstream.address", "fault upstream.ports"]


SERVER = """
import socket, sys
held = []
for place in sys.argv[1:]:
    if place.startswith("/"):
        held.append(socket.socket(socket.AF_UNIX))
        held[-1].bind(place)
    else:
        held.append(socket.socket())
        held[-1].bind((place, 0))
        print(held[-1].getsockname()[1])
    held[-1].listen()
print("up", flush=True)
sys.stdin.read()
"""


@contextmanager
def listening(*places: str) -> Iterator[list[int]]:
    """A process that listens on hosts, at free ports, and on paths; the ports."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, *places], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = list(iter(process.stdout.readline, "up\n"))
        try:
            yield [int(line) for line in lines]
        finally:
            process.kill()


def test_a_real_server_on_loopback() -> None:
    with listening("127.0.0.1") as (port,):
        assert told(examine(upstream(f"address: 127.0.0.1:{port}"))) == []
    assert told(examine(upstream(f"address: 127.0.0.1:{port}"))) == []


def test_a_real_server_on_every_interface() -> None:
    with listening("0.0.0.0") as (port,):
        (line,) = told(examine(upstream(f"address: localhost:{port}")))
        assert line.startswith("fault upstream.address: expected the model server on loopback only, came python")
        assert line.endswith(f"listening on 0.0.0.0:{port}, {AROUND}")


def test_a_real_server_with_a_further_port() -> None:
    with listening("127.0.0.1", "127.0.0.1") as (port, further):
        (line,) = told(examine(upstream(f"address: 127.0.0.1:{port}")))
        assert line.endswith(f"close it, or add {further}")
        assert told(examine(upstream(f"address: 127.0.0.1:{port}, ports: [{further}]"))) == []


def test_a_real_server_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "model.sock"
    with listening(str(path), "0.0.0.0") as (port,):
        lines = told(examine(upstream(f'address: "unix://{path}", ports: [{port}]')))
        assert [line.split(":")[0] for line in lines] == ["fault upstream.address"]


def test_a_host_without_tables_says_nothing(tmp_path: Path) -> None:
    assert told(examine(upstream(), proc=tmp_path)) == []


def test_own_addresses_are_told_from_others() -> None:
    assert is_own("127.0.0.1")
    assert not is_own("192.0.2.1")  # RFC 5737: nobody's
    assert not is_own("2001:db8::1")  # RFC 3849: nobody's
