"""`langtrain-sidecar principals`: what callers may do, and why. They are stored nowhere: whoever vouches for them knows
them."""

# Annotations are values here, but for those of clients: see `connected`.
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.commands.connected import connected

if TYPE_CHECKING:
    from langtrain import iam

app = typer.Typer(no_args_is_help=True, help="What callers may do, and why.")

Principal = Annotated[
    str, typer.Argument(help='"user:login/alice"; without a kind, a user; "" for yourself.', show_default=False)
]
Permission = Annotated[str, typer.Argument(help='Such as "models.inference".', show_default=False)]
Resource = Annotated[str, typer.Argument(help='Such as "models/fraud-1"; the tenant itself if not said.')]
Roles = Annotated[list[str] | None, typer.Option("--role", help="One that a token asserts; said again.")]
Attributes = Annotated[
    list[str] | None,
    typer.Option("--attribute", "-a", metavar="ROOT.NAME=VALUE", help="Of user, resource, request or environment."),
]


@app.command("list-access")
@connected
def list_access(policies: "iam.PolicyEngine", permission: Permission, resource: Resource = "") -> Any:
    """Who can reach a resource."""
    return policies.list_access(permission, resource)


@app.command()
@connected
def check(
    policies: "iam.PolicyEngine",
    principal: Principal,
    permission: Permission,
    resource: Resource = "",
    role: Roles = None,
    attribute: Attributes = None,
) -> Any:
    """What would be decided. Exits 1 where it would be denied."""
    return policies.check(principal, permission, resource, role or (), *_by_root(attribute or []))


@app.command()
@connected
def explain(
    policies: "iam.PolicyEngine",
    principal: Principal,
    permission: Permission,
    resource: Resource = "",
    role: Roles = None,
    attribute: Attributes = None,
) -> Any:
    """Why, or why not, and which grant would change it."""
    return policies.explain(principal, permission, resource, role or (), *_by_root(attribute or []))


def _by_root(attributes: list[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The user's, and the others by root. Values are JSON where they are, else texts. Raises ValueError."""
    found: dict[str, dict[str, Any]] = {}
    for text in attributes:
        path, equals, value = text.partition("=")
        root, dot, name = path.partition(".")
        if not (equals and dot and name):
            raise ValueError(f"--attribute: expected ROOT.NAME=VALUE such as user.level=3, came {text!r}")
        try:
            found.setdefault(root, {})[name] = json.loads(value)
        except json.JSONDecodeError:
            found[root][name] = value
    return found.pop("user", {}), found
