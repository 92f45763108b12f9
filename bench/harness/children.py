"""The processes of a running sidecar, as its command lines tell."""

from __future__ import annotations

from pathlib import Path


def workers(pid: int) -> dict[str, int]:
    """Name → process id of the relay workers of the sidecar that was started as `pid`."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue  # it has ended meanwhile
        if len(words) > 5 and words[4] == "worker":
            found[words[5]] = int(child)
    return found
