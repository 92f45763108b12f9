"""Who asks for a change, for what, and why it is refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from interceptors.contract import Code
from interceptors.facts import Principal
from sidecar.errors import RequestError, SidecarError
from sidecar.internal.mac import Caller
from sidecar.policy.validate import Fault


class NotFoundError(SidecarError):
    """There is no such thing in this tenant."""

    code = Code.NOT_FOUND
    public = "no such role, group, grant or policy"
    wire_reason = "POLICY_NOT_FOUND"


class ExistsError(SidecarError):
    """Its name is taken."""

    code = Code.ALREADY_EXISTS
    public = "there is one of this name"
    wire_reason = "POLICY_EXISTS"


class VersionError(SidecarError):
    """It has changed since the caller saw it."""

    code = Code.ABORTED
    public = "it has another version than the one that was to be changed"
    wire_reason = "POLICY_VERSION"


class UnchangeableError(SidecarError):
    """The config has it, or every tenant does."""

    code = Code.FAILED_PRECONDITION
    public = "what is built in or in the config is not changed here"
    wire_reason = "POLICY_UNCHANGEABLE"


class TooManyError(SidecarError):
    """The tenant has as many as it may."""

    code = Code.RESOURCE_EXHAUSTED
    public = "there are as many as there may be"
    wire_reason = "POLICY_TOO_MANY"


class InUseError(RequestError):
    """Grants name it. Left behind, they would give something again as soon as there is another of its name."""

    code = Code.FAILED_PRECONDITION
    public = "grants name it"
    wire_reason = "POLICY_IN_USE"


class EscalationError(RequestError):
    """Whoever asks does not have what he would give. faults: of each permission, which the caller learns."""

    code = Code.PERMISSION_DENIED
    public = "nobody gives what he does not have"
    wire_reason = "POLICY_ESCALATION"


class LockoutError(RequestError):
    """Whoever asks could not undo it."""

    code = Code.FAILED_PRECONDITION
    public = "you could not undo it"
    wire_reason = "POLICY_LOCKOUT"


class Asked(NamedTuple):
    """key: of idempotency, "" for none.  digest: SHA-256 of the request without it.

    allow_lockout: it is to be done although whoever asks could not undo it.
    """

    caller: Caller
    method: str
    key: str = ""
    digest: bytes = b""
    allow_lockout: bool = False

    @property
    def principal(self) -> Principal:
        """As far as the relay says who that is: without attributes."""
        caller = self.caller
        return Principal(caller.kind, caller.name, caller.tenant, frozenset(caller.roles))  # type: ignore[arg-type]


def below(section: str, faults: Iterable[Fault]) -> list[Fault]:
    """Faults of a thing, as those of the request that it came in. section: "role"."""
    return [(f"{section}.{'grant_id' if field == 'id' else field}", problem) for field, problem in faults]
