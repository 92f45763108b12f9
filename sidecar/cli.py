"""The command line. Exit status: 0 done, 1 a fault that is told, 2 wrong usage or an error not understood.

Results go to stdout, everything else to stderr. Heavy imports stand in the commands that need them, so that
`--help` is quick.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from sidecar import build
from sidecar.commands import administrators, api_keys, grants, policies, principals, roles
from sidecar.commands.connected import AsJson, Ca, Cert, Endpoint, Key, Span, reached
from sidecar.errors import SidecarError

if TYPE_CHECKING:
    from rich.console import Console

    from sidecar.check.report import Report
    from sidecar.config import Config

NAME = "langtrain-sidecar"
ENVIRONMENT_DEBUG = "LANGTRAIN_SIDECAR_DEBUG"  # with one underscore: no part of the config

app = typer.Typer(name=NAME, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
config_commands = typer.Typer(no_args_is_help=True, help="Look at the configuration.")
certs_commands = typer.Typer(no_args_is_help=True, help="Certificates for development.")
app.add_typer(config_commands, name="config")
app.add_typer(certs_commands, name="certs")
app.add_typer(principals.app, name="principals")
app.add_typer(roles.app, name="roles")
app.add_typer(policies.app, name="policies")
app.add_typer(api_keys.app, name="api-keys")
app.add_typer(grants.app, name="grants")
app.command("claim")(administrators.claim)


class LogLevel(StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", help="The YAML file.", metavar="FILE", show_default=False, dir_okay=False)
]


def _version(asked: bool) -> None:
    if asked:
        from importlib import metadata

        try:
            version = metadata.version(NAME)
        except metadata.PackageNotFoundError:
            version = "(a source tree that is not installed)"
        typer.echo(f"{NAME} {version} ({build.of()})")
        raise typer.Exit


@app.callback(help="A security sidecar in front of AI model servers.")
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """What stands before a command."""


@app.command()
def serve(
    config: ConfigFile,
    log_level: Annotated[LogLevel, typer.Option(help="The least level that is logged.")] = LogLevel.info,
) -> None:
    """Stand in front of the model server until SIGTERM. Logs are JSON lines on stderr."""
    from sidecar import logs

    logs.configure(log_level.value)
    log = logs.Log("config")
    try:
        status = _serve(config, log_level.value)
    except SidecarError as error:
        if sys.stderr.isatty():
            raise
        for finding in _report_of(error).faults:
            log.error("refused", path=finding.path, detail=finding.problem, origin=finding.origin)
        status = 1
    except Exception as error:
        log.error("internal_error", error)
        status = 2
    raise typer.Exit(status)


def _serve(file: Path, log_level: str) -> int:
    from sidecar.processes import notify, privacy
    from sidecar.processes.spawn import Nursery

    privacy.hide_memory()
    # The limits on connections are the config's; the soft limit of descriptors is often a shell's default.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    manager = notify.from_environment()
    with Nursery() as nursery:
        from sidecar import serve as program  # takes long, and the nursery gets ready meanwhile
        from sidecar.config import Loader

        file = file.absolute()
        return program.serve(Loader(file, os.environ), file.parent, file, log_level, manager, nursery)


@app.command()
def check(config: ConfigFile, as_json: AsJson = False) -> None:
    """Check everything that can be checked without serving; list every fault."""
    from sidecar.check import run

    try:
        loaded = _load(config)
    except SidecarError as error:
        found = _report_of(error)
    else:
        found = run(loaded, datetime.now(UTC))
    if as_json:
        _print_json(found.as_json())
    else:
        _print_report(found)
    raise typer.Exit(1 if found.faults else 0)


@app.command()
def init(
    config: ConfigFile,
    tenant: Annotated[str, typer.Option(help="Whose administrator claims it.")] = "default",
    expires_in: Span = None,
    unsafe_beside_administrators: Annotated[
        bool,
        typer.Option(
            "--unsafe-beside-administrators",
            help="UNSAFE: also where the tenant has or has had one: whoever runs this makes himself another.",
        ),
    ] = False,
) -> None:
    """Print a one-time credential, by which somebody becomes the first administrator; good for an hour if not said.

    Run it as the sidecar's user, and with SQLite while the sidecar does not run. One that nobody has claimed is void
    from then on.
    """
    from sidecar import bootstrap
    from sidecar.identity.bootstrap_model import LIFETIME_S

    lifetime_s = LIFETIME_S if expires_in is None else expires_in.total_seconds()
    now = datetime.now(UTC).timestamp()
    typer.echo(bootstrap.init(_load(config), tenant, lifetime_s, unsafe_beside_administrators, now))
    until = datetime.fromtimestamp(now + lifetime_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    console = _console()
    console.print(f"Good once, until {until}: langtrain-sidecar claim. It is not shown again.", soft_wrap=True)
    if unsafe_beside_administrators:
        console.print("[yellow]warning[/] whoever claims it is an administrator beside those there are")


@config_commands.command("schema")
def config_schema() -> None:
    """The JSON Schema of the config file."""
    from sidecar.config.reference import schema

    _print_json(schema())


@config_commands.command("reference")
def config_reference() -> None:
    """Every setting, as Markdown."""
    from sidecar.config.reference import markdown

    typer.echo(markdown(), nl=False)


@config_commands.command("show")
def config_show(config: ConfigFile, as_json: AsJson = False) -> None:
    """The effective config: the file, the environment's overrides and the defaults."""
    loaded = _load(config)
    if as_json:
        _print_json(loaded.effective())
    else:
        from sidecar.config.reference import yaml

        typer.echo(yaml(loaded), nl=False)


@config_commands.command("digest")
def config_digest(config: ConfigFile) -> None:
    """The SHA-256 of the effective config. What files hold is not part of it."""
    typer.echo(_load(config).digest())


@certs_commands.command("dev")
def certs_dev(
    directory: Annotated[Path, typer.Argument(help="Where to put them; made where absent.", file_okay=False)],
    trust_domain: Annotated[str, typer.Option(help="The SPIFFE trust domain they speak for.")] = "example.org",
) -> None:
    """Make a development CA and certificates. Overwrites nothing."""
    from sidecar.certs import dev

    made = dev.create(directory, now=datetime.now(UTC), trust_domain=trust_domain)
    for path in made:
        typer.echo(str(path))
    _console().print("[yellow]For development only:[/] whoever reads these files can be anyone.")


@app.command()
def status(
    endpoint: Endpoint,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask a running sidecar how it is. Exits 1 where it is not reached, or does not tell this caller."""
    import langtrain
    from sidecar import shown
    from sidecar import status as overview

    with reached(endpoint), langtrain.Sidecar(endpoint, ca=ca, cert=cert, key=key) as sidecar:
        if watch:
            overview.watch(sidecar.watch_status(), as_json)
        elif as_json:
            _print_json(shown.as_json(sidecar.status()))
        else:
            overview.print_table(sidecar.status())


@app.command()
def demo(
    directory: Annotated[
        Path, typer.Option(help="Where the model server's environment is kept between runs.", file_okay=False)
    ] = Path(".cache/demo"),
) -> None:
    """Show the sidecar at work in front of a real model server, on this machine."""
    from sidecar import demo as show

    raise typer.Exit(show.run(directory))


def main() -> NoReturn:
    """Run the command line and exit."""
    try:
        app()
    except SidecarError as error:
        _fail(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        _surprise(error)
    sys.exit(0)


def _load(file: Path) -> Config:
    from sidecar.config import load

    return load(file, os.environ)


def _report_of(error: SidecarError) -> Report:
    from sidecar.check import report

    return report.of_error(error)


def _fail(error: SidecarError) -> NoReturn:
    _print_report(_report_of(error))
    sys.exit(1)


def _surprise(error: Exception) -> NoReturn:
    """An error that is not understood: its kind, and its trace only where asked for."""
    if os.environ.get(ENVIRONMENT_DEBUG):
        traceback.print_exception(error)
    else:
        hint = f"set {ENVIRONMENT_DEBUG}=1 for its trace"
        _console().print(f"[red]error[/] internal error of kind {type(error).__name__}; {hint}", soft_wrap=True)
    sys.exit(2)


def _print_report(found: Report) -> None:
    console = _console()
    for weak in found.warnings:
        console.print(f"[yellow]warning[/] {_escape(str(weak))}", soft_wrap=True)
    for fault in found.faults:
        console.print(f"[red]fault[/] {_escape(str(fault))}", soft_wrap=True)
    if found.faults:
        console.print(f"{len(found.faults)} fault{'s' if len(found.faults) > 1 else ''}", highlight=False)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=True))


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, emoji=False)
