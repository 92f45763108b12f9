"""`python -P -m sidecar.telemetry SETTINGS`: the telemetry process, as another of the sidecar's processes starts it."""

from __future__ import annotations

import asyncio
import sys

from sidecar import logs
from sidecar.telemetry.process import Telemetry
from sidecar.telemetry.settings import Settings


def main(arguments: list[str]) -> None:
    """arguments: the settings as JSON, and the least level that is logged."""
    settings, level = arguments
    logs.configure(level)
    asyncio.run(Telemetry(Settings.of(settings)).run())


if __name__ == "__main__":
    main(sys.argv[1:])
