"""`langtrain-sidecar api-keys`: a key's text goes to stdout once, when it is made or fetched."""

# Annotations are values here, but for those of clients: see `connected`.
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.commands.connected import Span, connected

if TYPE_CHECKING:
    from langtrain import auth

app = typer.Typer(no_args_is_help=True, help="API keys, each shown once.")

KeyId = Annotated[str, typer.Argument(metavar="ID", show_default=False)]


@app.command("list")
@connected
def list_(
    manager: "auth.AuthenticationManager", owner: Annotated[str, typer.Option(help="Only this one's.")] = ""
) -> Any:
    """All of them, by id."""
    return manager.list_api_keys(owner)


@app.command()
@connected
def get(manager: "auth.AuthenticationManager", key_id: KeyId) -> Any:
    """What is known of one."""
    return manager.get_api_key(key_id)


@app.command()
@connected
def create(
    manager: "auth.AuthenticationManager",
    owner: Annotated[str, typer.Argument(help='"user:login/alice"; without a kind, a user.', show_default=False)],
    permission: Annotated[list[str], typer.Option("--permission", "-p", help="What it permits; said again.")],
    resource: Annotated[
        list[str] | None, typer.Option("--resource", "-r", help='Such as "models/fraud-*"; everything if not said.')
    ] = None,
    expires_in: Span = None,
    rate: Annotated[str, typer.Option(help='Such as "1000/hour".')] = "",
    auto_rotate: Annotated[
        bool, typer.Option("--auto-rotate", help="Prepare a successor before it expires, for its owner to fetch.")
    ] = False,
    title: Annotated[str, typer.Option(help="For people.")] = "",
) -> Any:
    """Make one. Its text goes to stdout, and is never shown again."""
    days = None if expires_in is None else expires_in.total_seconds() / 86400
    return manager.create_api_key(owner, permission, days, auto_rotate, rate, resource or (), title)


@app.command()
@connected
def rotate(manager: "auth.AuthenticationManager", key_id: KeyId, overlap: Span = None) -> Any:
    """Make a successor; the key goes on for the overlap, a day if not said."""
    return manager.rotate_api_key(key_id, overlap)


@app.command()
@connected
def fetch(manager: "auth.AuthenticationManager", key_id: KeyId, overlap: Span = None) -> Any:
    """Get the successor that was prepared for a key of your own."""
    return manager.fetch_api_key(key_id, overlap)


@app.command()
@connected
def revoke(
    manager: "auth.AuthenticationManager",
    key_id: KeyId,
    successors: Annotated[bool, typer.Option("--successors", help="Those too that it was rotated to.")] = False,
) -> Any:
    """For good. Prints those that were not revoked before."""
    return manager.revoke_api_key(key_id, successors)
