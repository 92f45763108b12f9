"""Who may call and what they may do: API keys, roles, groups and grants of a sidecar.

    role_manager = RoleManager()  # where the sidecar is says the environment, see `langtrain.channel`
    role_manager.create_role("ml_engineer", permissions=["models.train", "datasets.read"])

Every method is of `langtrain.keys` or `langtrain.roles`, where its arguments are explained.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Unpack

import grpc

from langtrain import keys, roles
from langtrain.client import AsyncClient, Caller, Client, Connecting, awaited, blocking
from langtrain.errors import NotEnforcedWarning, UnsupportedError
from langtrain.keys import IssuedKey, KeyLostError

__all__ = [
    "AsyncAuthenticationManager",
    "AsyncRoleManager",
    "AuthenticationManager",
    "IssuedKey",
    "KeyLostError",
    "RoleManager",
]


class _People(Caller):
    """mfa_required to idle_timeout: of people's sessions, which the sidecar does not have yet: they are taken, nothing
    enforces them, and a NotEnforcedWarning says so.  connecting: as of every client, see `langtrain.channel`.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        mfa_required: bool = False,
        mfa_methods: Sequence[str] = (),
        sso_providers: Mapping[str, Mapping[str, Any]] | None = None,
        session_timeout: str = "",
        concurrent_sessions: int = 0,
        idle_timeout: str = "",
        **connecting: Unpack[Connecting],
    ) -> None:
        super().__init__(endpoint, **connecting)
        settings = {
            "mfa_required": mfa_required,
            "mfa_methods": mfa_methods,
            "sso_providers": sso_providers,
            "session_timeout": session_timeout,
            "concurrent_sessions": concurrent_sessions,
            "idle_timeout": idle_timeout,
        }
        if given := ", ".join(name for name, value in settings.items() if value):
            text = f"not enforced yet, for the sidecar has no sessions of people: {given}"
            warnings.warn(text, NotEnforcedWarning, stacklevel=2)

    def authenticate(self, *arguments: object, **named: object) -> NoReturn:
        """Raises UnsupportedError: the sidecar has no sessions of people yet."""
        raise UnsupportedError(
            grpc.StatusCode.UNIMPLEMENTED,
            "the sidecar has no sessions of people yet; they call by tokens of their provider (authentication.jwt), "
            "by certificates or by API keys",
            "SESSIONS_UNSUPPORTED",
        )

    create_session = start_sso = enroll_mfa = authenticate


class AuthenticationManager(_People, Client):
    """API keys."""

    create_api_key = blocking(keys.create_api_key)
    get_api_key = blocking(keys.get_api_key)
    list_api_keys = blocking(keys.list_api_keys)
    rotate_api_key = blocking(keys.rotate_api_key)
    fetch_api_key = blocking(keys.fetch_api_key)
    revoke_api_key = blocking(keys.revoke_api_key)


class AsyncAuthenticationManager(_People, AsyncClient):
    """API keys."""

    create_api_key = awaited(keys.create_api_key)
    get_api_key = awaited(keys.get_api_key)
    list_api_keys = awaited(keys.list_api_keys)
    rotate_api_key = awaited(keys.rotate_api_key)
    fetch_api_key = awaited(keys.fetch_api_key)
    revoke_api_key = awaited(keys.revoke_api_key)


class RoleManager(Client):
    """Roles, groups, and grants of roles."""

    create_role = blocking(roles.create_role)
    update_role = blocking(roles.update_role)
    delete_role = blocking(roles.delete_role)
    get_role = blocking(roles.get_role)
    list_roles = blocking(roles.list_roles)
    create_group = blocking(roles.create_group)
    update_group = blocking(roles.update_group)
    delete_group = blocking(roles.delete_group)
    get_group = blocking(roles.get_group)
    list_groups = blocking(roles.list_groups)
    grant = blocking(roles.grant)
    revoke = blocking(roles.revoke)
    get_grant = blocking(roles.get_grant)
    list_grants = blocking(roles.list_grants)
    claim_administrator = blocking(roles.claim_administrator)


class AsyncRoleManager(AsyncClient):
    """Roles, groups, and grants of roles."""

    create_role = awaited(roles.create_role)
    update_role = awaited(roles.update_role)
    delete_role = awaited(roles.delete_role)
    get_role = awaited(roles.get_role)
    list_roles = awaited(roles.list_roles)
    create_group = awaited(roles.create_group)
    update_group = awaited(roles.update_group)
    delete_group = awaited(roles.delete_group)
    get_group = awaited(roles.get_group)
    list_groups = awaited(roles.list_groups)
    grant = awaited(roles.grant)
    revoke = awaited(roles.revoke)
    get_grant = awaited(roles.get_grant)
    list_grants = awaited(roles.list_grants)
    claim_administrator = awaited(roles.claim_administrator)
