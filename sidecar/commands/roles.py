"""`langtrain-sidecar roles`: named sets of permissions."""

# Annotations are values here, but for those of clients: see `connected`.
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.commands.connected import connected

if TYPE_CHECKING:
    from langtrain import auth

app = typer.Typer(no_args_is_help=True, help="Named sets of permissions.")

Name = Annotated[str, typer.Argument(show_default=False)]
Permissions = Annotated[
    list[str], typer.Option("--permission", "-p", help='One, or a pattern such as "models.*"; said again for others.')
]
Description = Annotated[str, typer.Option(help="For people.")]
Version = Annotated[int, typer.Option(help="Only where it has this version; 0 for any.")]
AllowLockout = Annotated[
    bool, typer.Option("--allow-lockout", help="Also where you lose by it what you need to undo it.")
]


@app.command("list")
@connected
def list_(roles: "auth.RoleManager") -> Any:
    """All of them, those that every tenant has first."""
    return roles.list_roles()


@app.command()
@connected
def get(roles: "auth.RoleManager", name: Name) -> Any:
    """One of them."""
    return roles.get_role(name)


@app.command()
@connected
def create(roles: "auth.RoleManager", name: Name, permission: Permissions, description: Description = "") -> Any:
    """Make one. The same again changes nothing; another of its name is an error."""
    return roles.create_role(name, permission, description)


@app.command()
@connected
def update(
    roles: "auth.RoleManager",
    name: Name,
    permission: Permissions,
    description: Description = "",
    version: Version = 0,
    allow_lockout: AllowLockout = False,
) -> Any:
    """Put all of one anew."""
    return roles.update_role(name, permission, description, version, allow_lockout)


@app.command()
@connected
def delete(
    roles: "auth.RoleManager",
    name: Name,
    version: Version = 0,
    force: Annotated[bool, typer.Option("--force", help="Revoke the grants that give it as well.")] = False,
    allow_lockout: AllowLockout = False,
) -> Any:
    """Take one away; refused while grants give it."""
    return roles.delete_role(name, version, force, allow_lockout)
