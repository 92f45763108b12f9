"""Nobody shuts himself out unawares: whether whoever makes a change could take it back.

What roles give is known here; rules of the config and API keys are not. Policies that were there before have let the
call through that makes the change, so that only the new one is asked, and only about what this process knows of the
call that would take it away again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from interceptors.access import GRANTS_WRITE, GROUPS_WRITE, POLICIES_WRITE, ROLES_WRITE
from interceptors.facts import Principal
from sidecar.policy import names
from sidecar.policy.engine import Engine, moving_roots, objection
from sidecar.policy.explain import changed
from sidecar.policy.model import NO_OBLIGATIONS, NOTHING, Attributes, Item, Policy
from sidecar.policy.tables import Key, Rule
from sidecar.policy.validate import CostlyError

ADMINISTERING: Final = (GRANTS_WRITE, GROUPS_WRITE, POLICIES_WRITE, ROLES_WRITE)
DELETE: Final = "/langtrain.v1.PolicyService/DeletePolicy"
# What is known of the call that would delete a policy; of other roots all is known.
KNOWN: Final = {
    "user": frozenset(("kind", "name", "roles", "tenant")),
    "request": frozenset(("method", "model", "size", "version")),  # it names no model
    "environment": frozenset(("source", "time")),
}


def lost(
    engine: Engine, principal: Principal, source: str, put: Iterable[Item], drop: Iterable[Key], now: float
) -> str:
    """What `principal` would lose by a change that he needs to undo it, in a sentence; "" where he would not.

    source: where he calls from.  now: Unix seconds.
    """
    put = tuple(put)
    at = names.resource(f"tenants/{principal.tenant}")
    had = _rests_on(engine, principal, at, now)
    owed = _owed(engine, at)
    with changed(engine, put, drop):
        has = _rests_on(engine, principal, at, now)
        for permission, obligations in had.items():
            if permission not in has:
                return f"no role would give you {permission} any more"
            if more := sorted(has[permission] - obligations):
                return f"{permission} would oblige you to {more[0]}, and you may not meet it"
        for policy in put:
            if isinstance(policy, Policy) and (why := _denied(engine, principal, source, at, policy, owed, now)):
                return f"{why}, which would keep {POLICIES_WRITE} from you"
    return ""


def _rests_on(engine: Engine, principal: Principal, at: names.Resource, now: float) -> dict[str, frozenset[str]]:
    """What the principal has of what administering takes, by his roles, and the obligations of each."""
    found: dict[str, frozenset[str]] = {}
    for permission in ADMINISTERING:
        granting = engine.granting(at.tenant, permission)
        grants = engine.tables.grants(engine.caller(principal).members, granting, at)
        active = [grant for grant in grants if grant.begins <= now < grant.expires]
        if active or not principal.roles.isdisjoint(granting):
            found[permission] = NO_OBLIGATIONS.union(*(grant.obligations for grant in active))
    return found


def _owed(engine: Engine, at: names.Resource) -> frozenset[str]:
    """By the policies about changing policies."""
    try:
        return NO_OBLIGATIONS.union(*(rule.policy.obligations for rule in engine.rules(POLICIES_WRITE, at)))
    except CostlyError:
        return NO_OBLIGATIONS


def _denied(
    engine: Engine,
    principal: Principal,
    source: str,
    at: names.Resource,
    policy: Policy,
    owed: frozenset[str],
    now: float,
) -> str:
    """Why `policy`, which is in the engine, may keep the principal from deleting it, "" where it does not."""
    try:
        rules = engine.rules(POLICIES_WRITE, at)
    except CostlyError as error:
        return str(error)
    rule = next((rule for rule in rules if rule.policy is policy), None)
    if rule is None:
        return ""
    if more := sorted(policy.obligations - owed):
        return f"it obliges to {more[0]}, and you may not meet it"
    if unknown := _unknown(rule):
        return f"its condition asks for {', '.join(unknown)}, which is not known of you here"
    attributes = Attributes(
        request={"method": DELETE, "size": 2 + len(policy.name)},  # the name alone, a field of fewer than 128 bytes
        environment={"source": source},
    )
    scope = engine.scope(engine.caller(principal), at, NOTHING)
    outcome = rule.outcome(scope, moving_roots(attributes, now))
    reason = objection(policy, outcome)
    return f"it denies you: {reason} {' '.join(outcome.missing)}".rstrip() if reason else ""


def _unknown(rule: Rule) -> list[str]:
    """Attributes that the condition names, asked for or looked whether they are there."""
    named = rule.condition.named if rule.condition is not None else ()
    return sorted(".".join(path) for path in named if path[1] not in KNOWN.get(path[0], (path[1],)))
