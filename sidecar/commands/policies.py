"""`langtrain-sidecar policies`: conditions that calls must meet besides."""

# Annotations are values here, but for those of clients: see `connected`.
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.commands.connected import connected
from sidecar.commands.roles import AllowLockout, Description, Name, Version

if TYPE_CHECKING:
    from langtrain import iam

app = typer.Typer(no_args_is_help=True, help="Conditions that calls must meet besides.")


class Effect(StrEnum):
    allow = "allow"
    deny = "deny"


Condition = Annotated[str, typer.Option(help="In CEL; without one it always holds.")]
EffectOption = Annotated[
    Effect, typer.Option(help="allow: only where the condition holds. deny: not where it holds.", show_default=False)
]
Permissions = Annotated[list[str] | None, typer.Option("--permission", "-p", help="What it applies to; any if not.")]
Resources = Annotated[list[str] | None, typer.Option("--resource", "-r", help='Such as "models/fraud-*".')]
Obligations = Annotated[list[str] | None, typer.Option("--obligation", help='What a call must meet: "redact:pii".')]


@app.command("list")
@connected
def list_(policies: "iam.PolicyEngine") -> Any:
    """All of them."""
    return policies.list_policies()


@app.command()
@connected
def get(
    policies: "iam.PolicyEngine", name: Name, version: Annotated[int, typer.Option(help="0 for the last.")] = 0
) -> Any:
    """One of them."""
    return policies.get_policy(name, version)


@app.command()
@connected
def versions(policies: "iam.PolicyEngine", name: Name) -> Any:
    """What one has been, the last version first."""
    return policies.list_policy_versions(name)


@app.command()
@connected
def create(
    policies: "iam.PolicyEngine",
    name: Name,
    effect: EffectOption,
    condition: Condition = "",
    permission: Permissions = None,
    resource: Resources = None,
    obligation: Obligations = None,
    description: Description = "",
    allow_lockout: AllowLockout = False,
) -> Any:
    """Make one. The same again changes nothing; another of its name is an error."""
    return policies.add_policy(
        name, condition, effect.value, permission or (), resource or (), obligation or (), description, allow_lockout
    )


@app.command()
@connected
def update(
    policies: "iam.PolicyEngine",
    name: Name,
    effect: EffectOption,
    condition: Condition = "",
    permission: Permissions = None,
    resource: Resources = None,
    obligation: Obligations = None,
    description: Description = "",
    version: Version = 0,
    allow_lockout: AllowLockout = False,
) -> Any:
    """Put all of one anew."""
    return policies.update_policy(
        name, condition, effect.value, permission or (), resource or (), obligation or (), description, version,
        allow_lockout,
    )  # fmt: skip


@app.command()
@connected
def delete(policies: "iam.PolicyEngine", name: Name, version: Version = 0) -> Any:
    """Take one away."""
    return policies.delete_policy(name, version)
