"""The processes of a running sidecar, as its command lines tell."""

from __future__ import annotations

from pathlib import Path

from sidecar.processes.nursery import PROGRAM


def of(pid: int) -> list[int]:
    """Process ids of the sidecar's children, the nursery among them."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers(pid: int) -> dict[str, int]:
    """Name → process id of the relay workers of the sidecar that was started as `pid`."""
    return dict(of_role(pid, "worker"))


def of_role(pid: int, role: str) -> list[tuple[str, int]]:
    """Name and process id of those of one role."""
    return [(name, child) for each, name, child in everyone(pid) if each == role]


def everyone(pid: int) -> list[tuple[str, str, int]]:
    """Role, name and process id of every child that has a role."""
    found = []
    for child in of(pid):
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue  # it has ended meanwhile
        if words[0] == PROGRAM:
            found.append((words[1].rpartition("-")[0], words[1], child))
    return found
