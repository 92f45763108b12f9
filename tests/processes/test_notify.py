"""What a service manager hears, by the datagrams of sd_notify(3)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.processes.notify import Notify


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(10)
        yield end


def test_what_is_said(manager: socket.socket) -> None:
    notify = Notify({"NOTIFY_SOCKET": manager.getsockname()}, 1)
    notify.ready("serving")
    notify.reloading(12.5)
    notify.stopping()
    notify.alive()
    notify.close()
    assert [manager.recv(1000) for _ in range(4)] == [
        b"READY=1\nSTATUS=serving",
        b"RELOADING=1\nMONOTONIC_USEC=12500000",
        b"STOPPING=1",
        b"WATCHDOG=1",
    ]


def test_a_manager_that_does_not_read_hears_all_but_signs_of_life_once_it_does(manager: socket.socket) -> None:
    notify = Notify({"NOTIFY_SOCKET": manager.getsockname()}, 1)
    for _ in range(1000):  # more than any queue holds
        notify.alive()
    notify.ready("serving")
    notify.stopping()
    heard: list[bytes] = []
    while not heard or heard[-1] != b"STOPPING=1":
        heard.append(manager.recv(1000))
        notify.alive()
    notify.close()
    assert set(heard[:-2]) == {b"WATCHDOG=1"}
    assert heard[-2] == b"READY=1\nSTATUS=serving"


def test_an_abstract_name() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(b"\0langtrain-test-notify")
        end.settimeout(10)
        notify = Notify({"NOTIFY_SOCKET": "@langtrain-test-notify"}, 1)
        notify.stopping()
        notify.close()
        assert end.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "20000000"}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "7"}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_how_often_it_is_to_say_that_it_lives(environ: dict[str, str], seconds: float) -> None:
    assert Notify(environ, 7).watchdog_s == seconds


def test_a_manager_that_is_gone_harms_nobody(tmp_path: Path) -> None:
    notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "none")}, 1)
    notify.ready("serving")
    notify.close()
