"""Who administers a tenant: a `bootstrap_desk.Administrators` over roles and grants."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from interceptors.access import GRANTS_WRITE
from sidecar.identity.bootstrap_desk import ROLE
from sidecar.identity.bootstrap_model import Record
from sidecar.policy import builtin, names
from sidecar.policy.model import Grant, Item, Role
from sidecar.policy.rows import Key
from sidecar.policy.store_sql import PolicyReading, PolicyStore, Stored
from sidecar.policy.validate import check
from sidecar.state.ports import ConflictError, Reading, Transaction

PAGE: Final = 1_000


class GrantedAdministrators:
    """configured: what the config has of a tenant's grants."""

    def __init__(self, configured: Callable[[str], Iterable[Item]]) -> None:
        self._configured = configured

    def there(self, reading: Reading, tenant: str, now: float) -> bool:
        """Whether a grant of a role that names GRANTS_WRITE is in force on everything, or will be."""
        store = PolicyReading(reading)
        roles = {role.name for role in (*builtin.ROLES, *_roles(store, tenant)) if GRANTS_WRITE in role.permissions}
        configured = (each for each in self._configured(tenant) if isinstance(each, Grant))
        return any(grant.role in roles and _reaches(grant, now) for grant in configured) or any(
            _reaches(grant, now) for role in sorted(roles) for grant in _grants(store, tenant, role)
        )

    def has(self, reading: Reading, tenant: str, grant: str) -> bool:
        return PolicyReading(reading).get(Key("grant", tenant, grant)) is not None

    def add(self, transaction: Transaction, claimed: Record) -> None:
        """Raises ConflictError where the grant's name is taken."""
        if self.has(transaction, claimed.tenant, claimed.grant):
            raise ConflictError(f"there is a grant {claimed.grant}")
        made = datetime.fromtimestamp(claimed.made, UTC).isoformat(timespec="seconds")
        reason = f"claimed by the one-time credential {claimed.id}, made at {made} by {claimed.maker}"
        grant = Grant(
            claimed.grant, (claimed.claimant,), ROLE, (names.EVERYTHING,), claimed.tenant, reason=reason
        )  # fmt: skip
        check(grant)
        who, now = claimed.claimant, claimed.claimed
        PolicyStore(transaction).put(Stored(grant, created=now, creator=who, updated=now, updater=who))


def _roles(store: PolicyReading, tenant: str) -> Iterator[Role]:
    return (stored.item for stored in _all(store, "role", tenant) if isinstance(stored.item, Role))


def _grants(store: PolicyReading, tenant: str, role: str) -> Iterator[Grant]:
    return (stored.item for stored in _all(store, "grant", tenant, role) if isinstance(stored.item, Grant))


def _all(store: PolicyReading, kind: str, tenant: str, role: str = "") -> Iterator[Stored]:
    after = ""
    while some := store.page(Key(kind, tenant, after), PAGE, role=role):
        yield from some
        last = some[-1].item
        after = last.id if isinstance(last, Grant) else last.name


def _reaches(grant: Grant, now: float) -> bool:
    own = f"tenants/{grant.tenant}"
    return now < grant.expires and any(names.scope(resource, grant.tenant) == own for resource in grant.resources)
