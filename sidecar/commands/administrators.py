"""`langtrain-sidecar claim`: the first administrator, by the credential that `langtrain-sidecar init` has printed."""

# Annotations are values here, but for those of clients: see `connected`.
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.commands.connected import connected

if TYPE_CHECKING:
    from langtrain import auth


@connected
def claim(
    roles: "auth.RoleManager",
    file: Annotated[
        Path | None,
        typer.Option(
            "--credential", metavar="FILE", help="A file that has it. Else it is asked for, or read from stdin."
        ),
    ] = None,
) -> Any:
    """Become the first administrator, once, by the credential that `init` has printed."""
    return roles.claim_administrator(_read(file))


def _read(file: Path | None) -> str:
    """Never an argument: those are everybody's to see."""
    if file is not None:
        try:
            return file.read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise typer.BadParameter(f"{file} cannot be read: {why}", param_hint="--credential") from None
    if sys.stdin.isatty():
        text: str = typer.prompt("Credential", hide_input=True, err=True)
        return text.strip()
    return sys.stdin.readline().strip()
