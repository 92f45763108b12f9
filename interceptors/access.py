"""Permissions: what they are called, which a rule must name to grant, and the port to whoever decides by more.

A permission is dotted, "models.inference". A pattern of permissions is one of them, "models.*" for all below, or "*".
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final, Protocol

from interceptors.contract import NO_OBLIGATIONS, Call, ModelName
from interceptors.facts import Principal

READ: Final = "models.read"  # metadata, readiness, config, statistics, what there is
INFERENCE: Final = "models.inference"
DEPLOY: Final = "models.deploy"
SHARED_MEMORY: Final = "models.shared_memory"  # inputs and outputs that are not in the messages
TRACE_SETTINGS: Final = "models.trace_settings"  # may have inputs written to a file
LOG_SETTINGS: Final = "models.log_settings"  # the same
LOAD_FILES: Final = "models.load_files"  # a model's files, code included, come with the call
LOAD_CONFIG: Final = "models.load_config"  # the same of its configuration, which may name code
UNKNOWN: Final = "upstream.unknown"  # a method that the protocol of its service does not have, as far as is known here

KEYS_CREATE: Final = "api_keys.create"  # gives away whatever a key may permit
KEYS_ROTATE: Final = "api_keys.rotate"  # the same of whatever one does
ROLES_WRITE: Final = "roles.write"  # gives whoever has the role what it says from then on
GROUPS_WRITE: Final = "groups.write"  # the same of what the group is granted
GRANTS_WRITE: Final = "grants.write"
POLICIES_WRITE: Final = "policies.write"  # takes away what denies

# They carry inputs, code or permissions around every check: granted only where they are named.
SENSITIVE: Final = frozenset(
    (
        SHARED_MEMORY, TRACE_SETTINGS, LOG_SETTINGS, LOAD_FILES, LOAD_CONFIG, UNKNOWN, KEYS_CREATE, KEYS_ROTATE,
        ROLES_WRITE, GROUPS_WRITE, GRANTS_WRITE, POLICIES_WRITE,
    )
)  # fmt: skip
SERVER: Final = "server"  # the resource of calls that are about no model in particular


def covers(pattern: str, permission: str) -> bool:
    """Whether a pattern of permissions is about `permission`."""
    return pattern in ("*", permission) or (pattern.endswith(".*") and permission.startswith(pattern[:-1]))


def resource_of(model: ModelName) -> str:
    """What a model is called as a resource: "models/digits", "models/digits/versions/2"; relative to the tenant."""
    return f"models/{model.name}/versions/{model.version}" if model.version else f"models/{model.name}"


@dataclass(frozen=True, slots=True)
class Decision:
    """reason: stable, of a denial for the record, "" where it allows.

    obligations: what links of the chain must do for the call, else it is denied.  until: Unix seconds, from which the
    decision holds no more.
    """

    allowed: bool
    reason: str = ""
    obligations: frozenset[str] = NO_OBLIGATIONS
    until: float = inf


class Access(Protocol):
    """Whoever knows roles and policies."""

    def decide(self, principal: Principal, permission: str, resource: str, call: Call) -> Decision:
        """resource: as of `resource_of`, or SERVER. Asked for each permission and resource of a call and its messages.

        Never raises: what cannot be decided is not allowed.
        """
