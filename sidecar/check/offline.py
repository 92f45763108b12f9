"""Everything that can be checked without serving."""

from __future__ import annotations

import random
from datetime import datetime

from interceptors.ledger import NoLedger
from interceptors.sequences import KEY
from sidecar import wiring
from sidecar.check import exposure, material, places
from sidecar.check.report import Report, of_error, total, warning
from sidecar.config.model import Config
from sidecar.errors import SidecarError


def run(config: Config, now: datetime) -> Report:
    """now: aware. Imports the config's own interceptors, which runs their code."""
    weak = total(warning(path, "is on and weakens security") for path in config.warnings())
    return (
        weak
        + material.inspect(config, now)
        + places.inspect(config)
        + _chain(config)
        + exposure.examine(config.upstream)
    )


def _chain(config: Config) -> Report:
    try:
        wiring.chain(config, random.Random(0).randbytes, NoLedger(), bytes(KEY))  # noqa: S311  # no call runs through it
    except SidecarError as error:
        return of_error(error)
    return Report()
