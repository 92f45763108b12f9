"""Calls that are open, asked again after a reload or a change of keys."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from interceptors.authorize import Authorize, Rule
from interceptors.chain import Chain
from interceptors.contract import PASS, Call, Deny, Headers, Interceptor, Message, Method, View
from interceptors.facts import Principal
from sidecar.policy.access import Given, PolicyAccess
from sidecar.policy.model import Grant, Policy, Role
from sidecar.standing import CHANGED, Standing
from tests.interceptors.links import scripted
from tests.playbook import PEER, STARTED
from tests.policy.knowing import STALENESS_S, Knowing

A = Principal("spiffe", "spiffe://example.org/a")
B = Principal("spiffe", "spiffe://example.org/b")
METHOD = Method("/a.B/C", True, True)
RULE = Rule(("spiffe://example.org/*",), ("/**",))
NARROW = Rule(("spiffe://example.org/*",), ("/**",), ("m",))
GRANT = Grant("g", (A.name,), "caller", ("**",))


def known(principal: Principal) -> Interceptor:
    def on_start(call: Call) -> object:
        call.put(principal)
        return PASS

    return scripted("known", View.METADATA, gives=frozenset({Principal}), on_start=on_start)


def chain(
    rules: Sequence[Rule], access: PolicyAccess | None = None, who: Principal = A, observe: bool = False
) -> Chain:
    return Chain([known(who), Authorize(rules, access=access)], observe)


def opened(by: Chain) -> Call:
    """A call that `by` let in, whose message has passed."""
    call = Call(METHOD, Headers(()), PEER, STARTED)
    plan = by.plan(METHOD)
    assert plan.start(call) is None
    passed = plan.request(call, Message(b"m"))
    assert isinstance(passed, list)
    return call


def again(call: Call, by: Chain) -> Deny | None:
    return Standing(by, lambda: STARTED)(call, PEER)


def told() -> Knowing:
    at = Knowing()
    at.tell(Role("caller", (METHOD.permission,)), GRANT)
    return at


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (chain([RULE]), chain([RULE]), ""),
        (chain([RULE]), chain([]), "authorize.no_rule"),
        (chain([RULE]), chain([NARROW]), "authorize.changed"),
        (chain([RULE]), chain([RULE], who=B), "authorize.changed"),
    ],
)
def test_an_open_call_goes_on_where_it_would_be_let_in_as_it_was(before: Chain, now: Chain, expected: str) -> None:
    denied = again(opened(before), now)
    assert (denied.reason if denied else "") == expected


def test_what_policies_decided_is_decided_again() -> None:
    at = told()
    access = PolicyAccess(at.known, Given(), STALENESS_S)
    by = chain([], access)
    call = opened(by)
    assert again(call, by) is None
    at.tell(Policy("p", "deny", "request.size == 1"))
    denied = again(call, by)
    assert denied is not None
    assert denied.reason == "policy.deny"
    at.tell(gone=["policy/default/p", "grant/default/g"])
    denied = again(call, by)
    assert denied is not None
    assert denied.reason == "policy.no_grant"


def test_who_was_decided_on_otherwise_begins_anew() -> None:
    at = told()
    access, other = (PolicyAccess(at.known, Given(), STALENESS_S) for _ in range(2))
    assert again(opened(chain([], access)), chain([], other)) == CHANGED
    assert again(opened(chain([RULE])), chain([RULE], access)) == CHANGED
    assert again(opened(chain([RULE], access)), chain([RULE])) == CHANGED
    assert again(opened(chain([RULE], access)), chain([RULE, RULE], access)) is None


def test_a_chain_that_observes_ends_nothing() -> None:
    at = told()
    access = PolicyAccess(at.known, Given(), STALENESS_S)
    by = chain([], access, observe=True)
    call = opened(by)
    at.tell(Policy("p", "deny"))
    assert again(call, by) is None
