"""`langtrain-sidecar init`: a one-time credential for a tenant's first administrator, made beside the database."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from uuid import uuid4

from interceptors.access import GRANTS_WRITE
from interceptors.events import Event
from sidecar import wiring
from sidecar.config.model import Config
from sidecar.errors import SettingError
from sidecar.identity import bootstrap_desk, keys_hash
from sidecar.identity import bootstrap_model as model
from sidecar.identity.bootstrap_desk import KEY_FILE
from sidecar.identity.bootstrap_model import LONGEST_S, SHORTEST_S, AdministeredError, Record
from sidecar.policy import names
from sidecar.policy.bootstrap import bootstrap
from sidecar.policy.builtin import BY_NAME
from sidecar.services.administrators import GrantedAdministrators
from sidecar.state.files import make_directory
from sidecar.state.opening import open_store
from sidecar.state.outbox import Outbox
from sidecar.state.ports import HeldError


def init(
    config: Config,
    tenant: str,
    lifetime_s: float,
    beside: bool,
    now: float,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> str:
    """The credential's text, which is kept nowhere. beside: also where the tenant has an administrator.

    Raises SettingError and StateError.
    """
    _check(config, tenant, lifetime_s)
    try:
        return _make(config, tenant, lifetime_s, beside, now, random_bytes)
    except AdministeredError as error:
        raise SettingError("--tenant", f"{error}; --unsafe-beside-administrators makes one all the same") from None
    except HeldError as error:
        raise SettingError("state", f"{error}; a sidecar that runs with it has to stop first") from None


def _make(
    config: Config, tenant: str, lifetime_s: float, beside: bool, now: float, random_bytes: Callable[[int], bytes]
) -> str:
    """Raises AdministeredError and StateError."""
    if not beside and (issuer := _asserting(config, tenant)):
        raise AdministeredError(f"tokens of {issuer} make administrators of tenant {tenant}")
    directory = config.store_directory
    make_directory(directory)
    # The lock of the database, where it is SQLite's, is first: whoever has it has the key file too.
    with closing(open_store(directory, config.state.url)) as store:
        key_file = directory / KEY_FILE
        if not key_file.exists():
            keys_hash.make(key_file, random_bytes)
        hash_key = keys_hash.FileHashKeys(key_file).current.key
        admins = bootstrap(config.authorization.bootstrap_admins)
        administrators = GrantedAdministrators(lambda of: [each for each in admins if each.tenant == of])
        credential = model.new(random_bytes)
        maker = f"uid {os.geteuid()} at {socket.gethostname()}"
        wanted = Record(credential.id, tenant, b"", now, now + lifetime_s, maker, beside)
        with closing(Outbox(store, _unrecorded, uuid4().hex)) as outbox:
            bootstrap_desk.make(outbox, administrators, hash_key, credential, wanted)
    return credential.text


def _check(config: Config, tenant: str, lifetime_s: float) -> None:
    if not config.authorization.policies:
        raise SettingError(
            "authorization.policies", "expected true, because an administrator is granted a role, came false"
        )
    if config.authentication.mtls is None and not config.authentication.jwt:
        raise SettingError(
            "authentication", "expected mtls or jwt, because whoever claims the credential is known by one of them"
        )
    try:
        names.plain(tenant)
    except names.NameFault as fault:
        raise SettingError("--tenant", f"{fault}, came {tenant!r}") from None
    if tenant not in _tenants(config):
        raise SettingError("--tenant", f"expected one of {', '.join(sorted(_tenants(config)))}, came {tenant!r}")
    if not SHORTEST_S <= lifetime_s <= LONGEST_S:
        raise SettingError("--expires-in", f"expected {SHORTEST_S:.0f} seconds to a day, came {lifetime_s:.0f} s")


def _tenants(config: Config) -> set[str]:
    """Those that callers can be of."""
    return {*wiring.tenants(config), *(("default",) if config.authentication.mtls is not None else ())}


def _asserting(config: Config, tenant: str) -> str:
    """The issuer whose tokens assert an administrator's role in the tenant, "" for none."""
    for issuer in config.authentication.jwt:
        tenants = (issuer.tenant,) if issuer.tenants is None else issuer.tenants.allowed
        granted = issuer.roles.grant.values() if issuer.roles else ()
        if tenant in tenants and any(name in BY_NAME and GRANTS_WRITE in BY_NAME[name].permissions for name in granted):
            return issuer.name
    return ""


def _unrecorded(events: Sequence[Event]) -> None:
    """Whoever serves records what was put: the audit trail is one process's."""
    raise AssertionError("an event was to be recorded beside the sidecar")
