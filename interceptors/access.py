"""Permissions: what they are called, which a rule must name to grant, and the port to whoever decides by more.

A permission is dotted, "models.inference". A pattern of permissions is one of them, "models.*" for all below, or "*".
What is asked for is a model, "models/digits", a version of it, "models/digits/versions/2", or else the tenant.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from interceptors.contract import Call, ModelName
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
TOKENS_REVOKE: Final = "tokens.revoke"  # shuts out everybody whom an issuer knows
CERTIFICATES_REVOKE: Final = "certificates.revoke"  # the same of a CA, whoever asks included

# They carry inputs, code or permissions around every check, or shut others out: granted only where they are named.
SENSITIVE: Final = frozenset(
    (
        SHARED_MEMORY, TRACE_SETTINGS, LOG_SETTINGS, LOAD_FILES, LOAD_CONFIG, UNKNOWN, KEYS_CREATE, KEYS_ROTATE,
        ROLES_WRITE, GROUPS_WRITE, GRANTS_WRITE, POLICIES_WRITE, TOKENS_REVOKE, CERTIFICATES_REVOKE,
    )
)  # fmt: skip


def covers(pattern: str, permission: str) -> bool:
    """Whether a pattern of permissions is about `permission`."""
    return pattern in ("*", permission) or (pattern.endswith(".*") and permission.startswith(pattern[:-1]))


class About(NamedTuple):
    """What a message is about. model: None where it is about no model in particular.  size: its bytes."""

    model: ModelName | None
    size: int


class Decision(Protocol):
    """reason: stable, of a denial, for the record.

    obligations: what links of the chain must do for the call, else it is denied.  until: Unix seconds, from which the
    decision may be another; -inf for any time.
    """

    @property
    def allowed(self) -> bool: ...

    @property
    def reason(self) -> str: ...

    @property
    def obligations(self) -> frozenset[str]: ...

    @property
    def until(self) -> float: ...


class Access(Protocol):
    """Whoever knows roles and policies. It never raises: what cannot be decided is not allowed.

    granted: whether a rule of the config, or the caller's API key, grants it already, so that only policies are asked.
    `call.now` is the time of every decision.
    """

    def begin(self, principal: Principal, permission: str, call: Call, granted: bool) -> Decision:
        """Whether anything at all may be allowed to a call of which no message has come.

        granted: on some models at least.  obligations: all that decisions on its messages may come to.
        """

    def decide(self, principal: Principal, permission: str, about: About, call: Call, granted: bool) -> Decision:
        """Asked for each permission that a message needs, on each model that it names."""
