"""What commands that ask a running sidecar have in common: how it is reached, what is printed, how they end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Final

import typer

Endpoint = Annotated[
    str, typer.Option(help="host:port, or unix:///path.", envvar="LANGTRAIN_ENDPOINT", show_default=False)
]
Ca = Annotated[Path | None, typer.Option(envvar="LANGTRAIN_CA", help="PEM file: whom to believe.")]
Cert = Annotated[
    Path | None, typer.Option(envvar="LANGTRAIN_CERT", help="PEM file: who asks. A token comes in LANGTRAIN_TOKEN.")
]
Key = Annotated[Path | None, typer.Option(envvar="LANGTRAIN_KEY", help="PEM file: the certificate's key.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_REST: Final = (
    Parameter("endpoint", Parameter.KEYWORD_ONLY, annotation=Endpoint),
    Parameter("ca", Parameter.KEYWORD_ONLY, annotation=Ca, default=None),
    Parameter("cert", Parameter.KEYWORD_ONLY, annotation=Cert, default=None),
    Parameter("key", Parameter.KEYWORD_ONLY, annotation=Key, default=None),
    Parameter("as_json", Parameter.KEYWORD_ONLY, annotation=AsJson, default=False),
)


def span(text: str) -> timedelta:
    """A duration as an option has it: "30d"."""
    from sidecar.config.units import Duration

    try:
        return timedelta(seconds=Duration.parse(text))
    except ValueError as error:
        raise typer.BadParameter(f"expected {error}") from None


Span = Annotated[timedelta | None, typer.Option(parser=span, metavar="SPAN", help='Such as "8h" or "30d".')]


@contextmanager
def reached(endpoint: str) -> Iterator[None]:
    """What fails within is told in a line, and exits 1."""
    import langtrain

    try:
        yield
    except (langtrain.SidecarError, OSError, ValueError) as error:
        from rich.console import Console
        from rich.markup import escape

        from sidecar.shown import safe

        console = Console(stderr=True, highlight=False, emoji=False)
        console.print(f"[red]error[/] {escape(endpoint)}: {escape(safe(str(error)))}", soft_wrap=True)
        raise typer.Exit(1) from None


def connected(command: Callable[..., Any]) -> Callable[..., None]:
    """A command whose first parameter is a client, and which gives what is to be printed.

    The parameter's annotation says which, as "auth.RoleManager" of langtrain: quoted, so that no command loads what it
    does not need. Options say how it is reached. A decision that denies exits 1.
    """
    client, *own = signature(command).parameters.values()
    module, _, kind = client.annotation.rpartition(".")

    def run(endpoint: str, ca: Path | None, cert: Path | None, key: Path | None, as_json: bool, **given: Any) -> None:
        from sidecar.commands import printing

        with reached(endpoint):
            opened = getattr(import_module(f"langtrain.{module}"), kind)(endpoint, ca=ca, cert=cert, key=key)
            with opened:
                result = command(opened, **given)
        if as_json:
            typer.echo(json.dumps(printing.plain(result), indent=2))
        else:
            printing.show(result)
        raise typer.Exit(int(printing.denies(result)))

    described: Any = run
    described.__name__, described.__doc__ = command.__name__, command.__doc__
    described.__signature__ = Signature([each.replace(kind=Parameter.KEYWORD_ONLY) for each in own] + [*_REST])
    described.__annotations__ = {each.name: each.annotation for each in described.__signature__.parameters.values()}
    return run
