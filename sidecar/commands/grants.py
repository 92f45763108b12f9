"""`langtrain-sidecar grants`: who has which role on what, and until when."""

# Annotations are values here, but for those of clients: see `connected`.
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.commands.connected import Span, connected
from sidecar.commands.roles import AllowLockout

if TYPE_CHECKING:
    from langtrain import auth

app = typer.Typer(no_args_is_help=True, help="Who has which role on what, and until when.")

GrantId = Annotated[str, typer.Argument(metavar="ID", show_default=False)]


@app.command("list")
@connected
def list_(
    roles: "auth.RoleManager",
    member: Annotated[str, typer.Option(help="Only those that name it.")] = "",
    role: Annotated[str, typer.Option(help="Only of this role.")] = "",
) -> Any:
    """All of them, those of the config first."""
    return roles.list_grants(member, role)


@app.command()
@connected
def get(roles: "auth.RoleManager", grant_id: GrantId) -> Any:
    """One of them."""
    return roles.get_grant(grant_id)


@app.command()
@connected
def create(
    roles: "auth.RoleManager",
    role: Annotated[str, typer.Argument(show_default=False)],
    member: Annotated[
        list[str], typer.Option("--member", "-m", help='An identity, a pattern of them, or "group:NAME"; said again.')
    ],
    resource: Annotated[
        list[str], typer.Option("--resource", "-r", help='Such as "models/fraud-*"; "**" for everything.')
    ],
    expires_in: Span = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    approver: Annotated[str, typer.Option(help="Who has agreed.")] = "",
    obligation: Annotated[
        list[str] | None, typer.Option("--obligation", help='What a call must meet: "redact:pii".')
    ] = None,
    allow_lockout: AllowLockout = False,
) -> Any:
    """Give members a role on resources, until it expires by itself."""
    return roles.grant(
        role, member, resource, expires_in, reason, approver, obligations=obligation or (), allow_lockout=allow_lockout
    )


@app.command()
@connected
def revoke(
    roles: "auth.RoleManager",
    grant_id: GrantId,
    reason: Annotated[str, typer.Option(help="For the record.")] = "",
    allow_lockout: AllowLockout = False,
) -> Any:
    """For good. Open calls that rest on it end."""
    return roles.revoke(grant_id, reason, allow_lockout)
