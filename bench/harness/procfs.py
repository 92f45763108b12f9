"""Memory and CPU time of processes. The memory of a sidecar's processes root alone may read."""

from __future__ import annotations

import os
from pathlib import Path

from bench.harness.errors import BenchError


def memory(pid: int) -> int:
    """Bytes of a process, those that it shares with others counted in part (PSS). Raises BenchError."""
    lines = _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, threads that have ended included. Raises BenchError."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except PermissionError:
        raise BenchError(f"{file} is root's to read: run this bench as root") from None
    except OSError as error:
        raise BenchError(f"{file}: {error.strerror}") from None
