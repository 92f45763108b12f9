"""Questions and their answers: protobuf to values and back."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.struct_pb2 import ListValue, Struct
from google.protobuf.struct_pb2 import Value as Said

from interceptors.authorize import KINDS
from interceptors.facts import Attribute, Principal
from langtrain.v1 import policies_pb2 as pb
from sidecar.errors import RequestError
from sidecar.policy import messages, names
from sidecar.policy.asked import Asked
from sidecar.policy.explain import Explanation, Reach, Simulated
from sidecar.policy.inquiry import MOST_CALLS, Calls, Change, Window
from sidecar.policy.model import Attributes, Decision, Item, Question, Value
from sidecar.policy.rows import Key
from sidecar.policy.store_sql import Stored
from sidecar.policy.validate import Fault

ROOTS: Final = ("resource", "request", "environment")
MOST_TOLD: Final = 1_000  # faults, grants or policies of one answer
WHOLE: Final = 2.0**53  # up to which a double spells every whole number


def read_question(said: pb.Question, at: str, asked: Asked, now: float) -> Question:
    """at: how the path of its fields begins.  now: Unix seconds. Raises RequestError with every fault."""
    found: list[Fault] = []
    principal = _subject(said.subject, f"{at}subject", asked, found)
    resource = full_name(said.resource, asked.caller.tenant)
    for of, name, check in (("permission", said.permission, names.permission), ("resource", resource, names.resource)):
        try:
            check(name)
            if of == "resource":
                names.reachable(name)
        except names.NameFault as error:
            found.append((f"{at}{of}", f"{error}, got {name[:80]!r}"))
    attributes = _attributes(said.attributes, f"{at}attributes", found)
    if said.HasField("time"):
        try:
            now = messages.read_time(said.time, f"{at}time")
        except RequestError as error:
            found += error.faults
    if found:
        raise RequestError(found)
    return Question(principal, said.permission, resource, attributes, now)


def read_questions(said: Sequence[pb.Question], asked: Asked, now: float) -> list[Question]:
    """Raises RequestError with every fault."""
    read: list[Question] = []
    found: list[Fault] = []
    for at, each in enumerate(said):
        try:
            read.append(read_question(each, f"questions[{at}].", asked, now))
        except RequestError as error:
            found += error.faults
    if found:
        raise RequestError(found[:MOST_TOLD])
    return read


def full_name(resource: str, tenant: str) -> str:
    """resource: relative to the tenant, which "" is, or in full."""
    if resource.startswith("tenants/"):
        return resource
    return f"tenants/{tenant}/{resource}" if resource else f"tenants/{tenant}"


def read_change(request: pb.SimulateRequest, tenant: str) -> Change:
    put: list[tuple[str, Item]] = []
    for at, role in enumerate(request.put_roles):
        put.append((f"put_roles[{at}]", messages.read_role(role, tenant)))
    for at, grant in enumerate(request.put_grants):
        named = pb.Grant()
        named.CopyFrom(grant)
        named.grant_id = grant.grant_id or f"simulated-{at}"
        put.append((f"put_grants[{at}]", messages.read_grant(named, tenant, f"put_grants[{at}]")))
    for at, policy in enumerate(request.put_policies):
        put.append((f"put_policies[{at}]", messages.read_policy(policy, tenant)))
    gone = (
        ("role", "delete_roles", request.delete_roles),
        ("grant", "delete_grants", request.delete_grants),
        ("policy", "delete_policies", request.delete_policies),
    )
    drop = [(f"{field}[{at}]", Key(kind, tenant, name)) for kind, field, said in gone for at, name in enumerate(said)]
    return Change(put, drop)


def decision(made: Decision, now: float) -> pb.Decision:
    """now: as of which it was made, Unix seconds."""
    return pb.Decision(
        allowed=made.allowed,
        reason=made.reason,
        grants=made.grants,
        policies=made.policies,
        missing=made.missing,
        obligations=sorted(made.obligations),
        until=messages.timestamp(max(made.until, now)),
    )


def explained(found: Explanation, now: float) -> pb.ExplainResponse:
    response = pb.ExplainResponse(decision=decision(found.decision, now), enough=found.enough)
    for considered in found.grants[:MOST_TOLD]:
        response.grants.add(grant=messages.grant(Stored(considered.grant)), state=considered.state)
    for judged in found.policies[:MOST_TOLD]:
        outcome = judged.outcome
        policy = messages.policy(Stored(judged.policy, judged.policy.version))
        response.policies.add(policy=policy, holds=outcome.holds, missing=outcome.missing, error=outcome.error)
    for grant in found.suggested:
        response.suggested.add(members=grant.members, role=grant.role, resources=grant.resources)
    return response


def read_window(request: pb.SimulateRequest) -> Window:
    """Raises RequestError."""
    found = [
        (field, f"expected 1 to {MOST_CALLS}, or 0 for that, got {value}")
        for field, value in (("most_questions", request.most_questions), ("most_changed", request.most_changed))
        if not 0 <= value <= MOST_CALLS
    ]
    if found:
        raise RequestError(found)
    since = messages.read_time(request.since, "since") if request.HasField("since") else 0.0
    until = messages.read_time(request.until, "until") if request.HasField("until") else math.inf
    if since >= until:
        raise RequestError([("until", "expected a time after `since`")])
    return Window(since, until, request.most_questions or MOST_CALLS)


def simulated(found: Simulated, calls: Calls, most: int) -> pb.SimulateResponse:
    """calls: that were looked at.  most: of what is another that is told; 0 for all."""
    kinds = Counter((each.before.allowed, each.after.allowed) for each in found.changed)
    response = pb.SimulateResponse(
        questions=len(calls.questions),
        undecided=found.undecided,
        lacking=[pb.SimulateResponse.Lacking(attribute=name, questions=count) for name, count in found.lacking],
        newly_denied=kinds[True, False],
        newly_allowed=kinds[False, True],
        otherwise_obliged=kinds[True, True],
        granted_elsewhere=found.elsewhere,
        calls=calls.total,
        first=messages.timestamp(calls.first),
        last=messages.timestamp(calls.last),
        more=calls.more,
    )
    for each in found.changed[: most or None]:
        now = each.question.now
        response.changed.add(
            question=question(each.question), before=decision(each.before, now), after=decision(each.after, now)
        )
    return response


def question(asked: Question) -> pb.Question:
    principal = asked.principal
    subject = pb.Subject(principal=principal.name, roles=sorted(principal.roles))
    subject.attributes.update({name: _plain(value) for name, value in principal.attributes})
    return pb.Question(
        subject=subject,
        permission=asked.permission,
        resource=asked.resource.removeprefix(f"tenants/{principal.tenant}").removeprefix("/"),
        attributes=_struct(asked.attributes),
        time=messages.timestamp(asked.now),
    )


def reach(found: Reach) -> pb.ListAccessResponse.Reach:
    return pb.ListAccessResponse.Reach(
        member=found.member,
        role=found.role,
        grant_id=found.grant.id if found.grant else "",
        group=found.group,
        policies=found.policies,
    )


def _subject(said: pb.Subject, field: str, asked: Asked, found: list[Fault]) -> Principal:
    attributes = []
    for name, value in sorted(said.attributes.fields.items()):
        read = _value(value, f"{field}.attributes.{name}", found)
        if isinstance(read, tuple) and not all(isinstance(each, str) for each in read):
            found.append((f"{field}.attributes.{name}", "expected a list of texts"))
        elif isinstance(read, Mapping):
            found.append((f"{field}.attributes.{name}", "expected a text, a number, true, false or a list of texts"))
        elif read is not None:
            attributes.append((name, read))
    caller = asked.principal
    kind, name = (caller.kind, caller.name) if not said.principal else _identity(said.principal, field, found)
    roles = frozenset(said.roles) if said.roles or said.principal else caller.roles
    return Principal(kind, name, caller.tenant, roles, tuple(attributes))


def _identity(name: str, field: str, found: list[Fault]) -> tuple[Any, str]:
    kind = next((kind for kind, prefix in KINDS.items() if name.startswith(prefix)), None)
    try:
        return kind, names.identity(name)
    except names.NameFault as error:
        found.append((f"{field}.principal", f"{error}, got {name[:80]!r}"))
        return "user", name


def _attributes(said: Struct, field: str, found: list[Fault]) -> Attributes:
    roots: dict[str, Mapping[str, Value]] = {}
    for name, value in sorted(said.fields.items()):
        read = _value(value, f"{field}.{name}", found)
        if name not in ROOTS:
            found.append((f"{field}.{name}", f"expected {', '.join(ROOTS)}"))
        elif not isinstance(read, Mapping):
            found.append((f"{field}.{name}", "expected attributes by name"))
        else:
            roots[name] = read
    return Attributes(**roots)


def _value(said: Said, field: str, found: list[Fault]) -> Any:
    """None where it is none, which is told."""
    match said.WhichOneof("kind"):
        case "string_value":
            return said.string_value
        case "bool_value":
            return said.bool_value
        case "number_value":
            number = said.number_value
            return int(number) if number.is_integer() and abs(number) <= WHOLE else number
        case "list_value":
            return tuple(_value(each, f"{field}[{at}]", found) for at, each in enumerate(said.list_value.values))
        case "struct_value":
            fields = sorted(said.struct_value.fields.items())
            return {name: _value(each, f"{field}.{name}", found) for name, each in fields}
        case _:
            found.append((field, "expected a text, a number, true, false, a list or attributes by name"))
            return None


def _plain(value: Attribute) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _struct(attributes: Attributes) -> Struct:
    given = {root: getattr(attributes, root) for root in ROOTS}
    made = Struct()
    for root, values in given.items():
        if values:
            made.fields[root].CopyFrom(_said(values))
    return made


def _said(value: Any) -> Said:
    match value:
        case bool():
            return Said(bool_value=value)
        case int() | float():
            return Said(number_value=float(value))
        case str():
            return Said(string_value=value)
        case tuple() | list():
            return Said(list_value=ListValue(values=[_said(each) for each in value]))
        case _:
            return Said(struct_value=Struct(fields={name: _said(each) for name, each in value.items()}))
