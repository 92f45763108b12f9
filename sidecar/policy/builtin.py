"""The roles that every tenant has. Their names are reserved, so customers may create any plain name.

Those who administer access name the sensitive permissions (`interceptors.access`) that this takes, and no others: what
carries inputs or code around every check, or makes keys, nobody has by a role of ours.
"""

from __future__ import annotations

from typing import Final

from interceptors.access import (
    CERTIFICATES_REVOKE,
    GRANTS_WRITE,
    GROUPS_WRITE,
    POLICIES_WRITE,
    ROLES_WRITE,
    TOKENS_REVOKE,
)
from sidecar.policy.model import Role

RESERVED: Final = "builtin."
_NAMED: Final = (CERTIFICATES_REVOKE, GRANTS_WRITE, GROUPS_WRITE, POLICIES_WRITE, ROLES_WRITE, TOKENS_REVOKE)

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
            "access.*", "api_keys.*", "audit.*", "certificates.*", "datasets.read", "grants.*", "groups.*",
            "models.read", "policies.*", "principals.*", "revocations.*", "roles.*", "threats.*", "tokens.*", *_NAMED,
        ),
    ),
    Role("builtin.admin", ("*", *_NAMED)),
)  # fmt: skip

BY_NAME: Final = {role.name: role for role in ROLES}
NAMES: Final = frozenset(BY_NAME)
