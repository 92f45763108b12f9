"""Policies and decisions, as steps: what must hold besides, and why a call is allowed or denied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import wraps
from typing import Any, Final, Literal, ParamSpec, TypeAlias, TypeVar

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from langtrain.calls import Steps, pages
from langtrain.errors import AlreadyExistsError
from langtrain.names import identity, timestamp
from langtrain.same import same_or_raise
from langtrain.v1 import policies_pb2 as pb

M = TypeVar("M", bound=Message)
P = ParamSpec("P")
R = TypeVar("R")
Effect: TypeAlias = Literal["allow", "deny"]
EFFECTS: Final[dict[str, pb.Effect.ValueType]] = {"allow": pb.EFFECT_ALLOW, "deny": pb.EFFECT_DENY}
Attributes: TypeAlias = Mapping[str, Any]
MOST_QUESTIONS: Final = 1000  # of one request


def policy(
    name: str,
    condition: str = "",
    effect: Effect = "allow",
    permissions: Iterable[str] = (),
    resources: Iterable[str] = (),
    obligations: Iterable[str] = (),
    description: str = "",
    version: int = 0,
) -> pb.Policy:
    """A policy as `simulate` takes it. Raises ValueError for another effect.

    condition: in CEL, over user, resource, model, dataset, request and environment; "" always holds.
    effect: "allow": what it applies to is allowed only where the condition holds; "deny": denied where it holds.
    permissions, resources: what it applies to; without both, whatever has the attributes that the condition reads.
    obligations: what a call must then meet, such as "redact:pii".
    """
    if effect not in EFFECTS:
        raise ValueError(f"effect: expected allow or deny, came {effect!r}")
    return pb.Policy(
        name=name,
        effect=EFFECTS[effect],
        condition=condition,
        permissions=permissions,
        resources=resources,
        obligations=obligations,
        description=description,
        version=version,
    )


def question(
    principal: str,
    permission: str,
    resource: str = "",
    roles: Iterable[str] = (),
    user: Attributes | None = None,
    attributes: Mapping[str, Attributes] | None = None,
    at: datetime | timedelta | None = None,
) -> pb.Question:
    """May the principal do what the permission names with the resource? As `check_many` and `simulate` take it.

    principal: an identity, without a kind a user; "" for the caller.  resource: "models/fraud-1/versions/2"; "" for
    the tenant itself.  roles, user: what whoever vouches for the principal asserts: roles and attributes.
    attributes: by root: "resource", "request" and "environment".  at: aware, or from now on; now where left out.
    """
    return pb.Question(
        subject=pb.Subject(principal=principal and identity(principal), roles=roles, attributes=_struct(user)),
        permission=permission,
        resource=resource,
        attributes=_struct(attributes),
        time=timestamp(at),
    )


def _taking(make: Callable[P, M]) -> Callable[[Callable[[M], Steps[R]]], Callable[P, Steps[R]]]:
    """Lets steps that take a message take what the message is made of."""

    def decorate(steps: Callable[[M], Steps[R]]) -> Callable[P, Steps[R]]:
        @wraps(make)
        def made(*arguments: P.args, **named: P.kwargs) -> Steps[R]:
            return steps(make(*arguments, **named))

        made.__name__, made.__qualname__, made.__doc__ = steps.__name__, steps.__qualname__, steps.__doc__
        return made

    return decorate


def add_policy(
    name: str,
    condition: str = "",
    effect: Effect = "allow",
    permissions: Iterable[str] = (),
    resources: Iterable[str] = (),
    obligations: Iterable[str] = (),
    description: str = "",
    allow_lockout: bool = False,
) -> Steps[pb.Policy]:
    """Make a policy, or find it made with the same content. Arguments as of `policy`.

    allow_lockout: also where it may keep the caller from deleting it; without it that is a PreconditionError.
    Raises AlreadyExistsError where there is one of other content.
    """
    wanted = policy(name, condition, effect, permissions, resources, obligations, description)
    try:
        response: pb.CreatePolicyResponse = yield pb.CreatePolicyRequest(policy=wanted, allow_lockout=allow_lockout)
    except AlreadyExistsError as error:
        found = yield from get_policy(wanted.name)
        same_or_raise(error, "policy", "update_policy", found, wanted)
        return found
    return response.policy


def update_policy(
    name: str,
    condition: str = "",
    effect: Effect = "allow",
    permissions: Iterable[str] = (),
    resources: Iterable[str] = (),
    obligations: Iterable[str] = (),
    description: str = "",
    version: int = 0,
    allow_lockout: bool = False,
) -> Steps[pb.Policy]:
    """Put all of a policy anew. Arguments as of `policy`; allow_lockout as of `add_policy`.

    version: the one that it replaces, 0 for any. Raises ConflictError where it is another.
    """
    wanted = policy(name, condition, effect, permissions, resources, obligations, description, version)
    response: pb.UpdatePolicyResponse = yield pb.UpdatePolicyRequest(policy=wanted, allow_lockout=allow_lockout)
    return response.policy


def delete_policy(name: str, version: int = 0) -> Steps[None]:
    """version: as of `update_policy`."""
    yield pb.DeletePolicyRequest(name=name, version=version)


def get_policy(name: str, version: int = 0) -> Steps[pb.Policy]:
    """version: 0 for the last."""
    response: pb.GetPolicyResponse = yield pb.GetPolicyRequest(name=name, version=version)
    return response.policy


def list_policies() -> Steps[list[pb.Policy]]:
    return (yield from pages(pb.ListPoliciesRequest(), "policies"))


def list_policy_versions(name: str) -> Steps[list[pb.Policy]]:
    """What a policy has been, the last version first."""
    return (yield from pages(pb.ListPolicyVersionsRequest(name=name), "policies"))


@_taking(question)
def check(asked: pb.Question) -> Steps[pb.Decision]:
    """What would be decided. Arguments as of `question`."""
    response: pb.CheckResponse = yield pb.CheckRequest(question=asked)
    return response.decision


def check_many(questions: Iterable[pb.Question]) -> Steps[list[pb.Decision]]:
    """The same of each `question`, in their order."""
    asked, decided = list(questions), list[pb.Decision]()
    for start in range(0, len(asked), MOST_QUESTIONS):
        response = yield pb.CheckManyRequest(questions=asked[start : start + MOST_QUESTIONS])
        decided += response.decisions
    return decided


@_taking(question)
def explain(asked: pb.Question) -> Steps[pb.ExplainResponse]:
    """Why, or why not, and which grant would change it. Arguments as of `question`."""
    response: pb.ExplainResponse = yield pb.ExplainRequest(question=asked)
    return response


def list_access(permission: str, resource: str = "") -> Steps[list[pb.ListAccessResponse.Reach]]:
    """Who can reach a resource."""
    return (yield from pages(pb.ListAccessRequest(permission=permission, resource=resource), "reaches"))


def simulate(
    put_roles: Iterable[pb.Role] = (),
    put_grants: Iterable[pb.Grant] = (),
    put_policies: Iterable[pb.Policy] = (),
    delete_roles: Iterable[str] = (),
    delete_grants: Iterable[str] = (),
    delete_policies: Iterable[str] = (),
    questions: Iterable[pb.Question] = (),
    since: datetime | timedelta | None = None,
    until: datetime | timedelta | None = None,
    most_questions: int = 0,
    most_changed: int = 0,
) -> Steps[pb.SimulateResponse]:
    """Which decisions would be others, were a change made that is not made.

    put_…: in place of what has their names.  delete_…: names, of grants ids.
    questions: the calls; where there are none, those that the sidecar has recorded of late, from `since` on and before
    `until`: aware times, or spans from now on, negative ones.  most_questions, most_changed: how many are looked at and
    told; 0 for 1,000.
    """
    response: pb.SimulateResponse = yield pb.SimulateRequest(
        put_roles=put_roles,
        put_grants=put_grants,
        put_policies=put_policies,
        delete_roles=delete_roles,
        delete_grants=delete_grants,
        delete_policies=delete_policies,
        questions=questions,
        since=timestamp(since),
        until=timestamp(until),
        most_questions=most_questions,
        most_changed=most_changed,
    )
    return response


def _struct(values: Mapping[str, Any] | None) -> Struct | None:
    if values is None:
        return None
    made = Struct()
    made.update(values)
    return made
