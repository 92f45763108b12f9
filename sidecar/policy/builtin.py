"""The roles that every tenant has. Their names are reserved, so customers may create any plain name.

None names a sensitive permission (`interceptors.access`), so none grants one, the administrator's neither.
"""

from __future__ import annotations

from typing import Final

from sidecar.policy.model import Role

RESERVED: Final = "builtin."

ROLES: Final = (
    Role("builtin.viewer", ("datasets.read", "experiments.read", "models.read")),
    Role(
        "builtin.ml_engineer",
        ("datasets.read", "experiments.*", "models.evaluate", "models.inference", "models.read", "models.train"),
    ),
    Role(
        "builtin.data_scientist",
        (
            "datasets.create", "datasets.read", "experiments.*", "models.deploy", "models.evaluate", "models.inference",
            "models.read", "models.train",
        ),
    ),
    Role(
        "builtin.security_officer",
        (
            "api_keys.*", "audit.*", "datasets.read", "grants.*", "groups.*", "models.read", "policies.*",
            "principals.*", "roles.*", "threats.*",
        ),
    ),
    Role("builtin.admin", ("*",)),
)  # fmt: skip

NAMES: Final = frozenset(role.name for role in ROLES)
