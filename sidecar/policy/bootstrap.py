"""What the config has of grants: the first administrators'. Nobody changes it but by the config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sidecar.policy import names
from sidecar.policy.model import Grant, Item

CONFIG: Final = "config."  # how the names of what the config has begin; reserved
ADMINS: Final = f"{CONFIG}bootstrap_admins"


def bootstrap(admins: Sequence[str]) -> list[Item]:
    """admins: patterns of identities, who have builtin.admin on everything of the default tenant."""
    return [Grant(ADMINS, tuple(admins), "builtin.admin", (names.EVERYTHING,))] if admins else []
