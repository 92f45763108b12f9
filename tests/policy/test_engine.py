"""Decisions at their edges: who, what, where and when, and that whatever goes wrong denies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from interceptors.access import SENSITIVE
from interceptors.facts import Principal
from sidecar.policy.engine import Engine
from sidecar.policy.explain import explain, reach
from sidecar.policy.model import Attributes, Decision, Grant, Group, Item, Policy, Question, Role, Snapshot
from sidecar.policy.validate import CostlyError, PolicyError

MODEL = "tenants/default/models/fraud-1"
DATASET = "tenants/default/datasets/d"
INFER = "models.inference"
ML = Role("ml", ("models.inference", "models.versions.*", "datasets.read"))
EVERYWHERE = Grant("b", ("user:okta/alice",), "ml", ("**",))


def user(name: str = "okta/alice", tenant: str = "default", roles: Iterable[str] = (), **attributes: Any) -> Principal:
    return Principal("user", f"user:{name}", tenant, frozenset(roles), tuple(attributes.items()))


ALICE = user()
ABOUT_DATASET = Attributes(resource={"classification_level": 2, "allowed_regions": ("eu", "us")})


def engine(*items: Item) -> Engine:
    made = Engine()
    for item in items:
        made.put(item)
    return made


def decide(
    made: Engine, who: Principal = ALICE, permission: str = INFER, resource: str = MODEL, now: float = 0.0
) -> Decision:
    return made.decide(who, permission, resource, now=now)


def allows(made: Engine, **question: Any) -> bool:
    decision = decide(made, **question)
    assert decision.allowed is (decision.reason == "policy.allowed")
    return decision.allowed


# Roles.


def test_without_a_role_nothing_is_allowed() -> None:
    assert decide(Engine()) == Decision(False, "policy.no_grant")
    assert decide(engine(ML)).reason == "policy.no_grant"


def test_a_grant_grants_what_its_role_permits() -> None:
    made = engine(ML, EVERYWHERE)
    assert decide(made) == Decision(True, "policy.allowed", ("b",))
    assert not allows(made, permission="models.deploy")
    assert not allows(made, who=user("okta/bob"))


@pytest.mark.parametrize(
    ("permissions", "asked", "granted"),
    [
        (("models.*",), "models.inference", True),
        (("models.*",), "models.versions.read", True),
        (("models.*",), "modelsx.read", False),
        (("models.*",), "datasets.read", False),
        (("*",), "datasets.read", True),
        (("models.versions.*",), "models.inference", False),
        (("models.inference",), "models.inference.batch", False),
        (("datasets.read", "models.read"), "models.read", True),
    ],
)
def test_wildcards_of_permissions(permissions: tuple[str, ...], asked: str, granted: bool) -> None:
    assert allows(engine(Role("ml", permissions), EVERYWHERE), permission=asked) is granted


@pytest.mark.parametrize("permission", sorted(SENSITIVE))
def test_what_is_sensitive_is_granted_only_by_name_and_denied_by_any(permission: str) -> None:
    wide = (
        Grant("a", ("user:**",), "all", ("**",)),
        Role("all", ("*", *(f"{permission.partition('.')[0]}.*" for permission in SENSITIVE))),
        Role("ml", ("*", "models.*", "upstream.*", "api_keys.*")),
        EVERYWHERE,
    )
    assert decide(engine(*wide), permission=permission).reason == "policy.no_grant"
    named = engine(*wide, Role("ml", (permission,)))
    assert decide(named, permission=permission).grants == ("b",)
    named.put(Policy("p", "deny", permissions=(f"{permission.partition('.')[0]}.*",)))
    assert decide(named, permission=permission).reason == "policy.deny"


def test_who_administers_access_may_write_what_it_takes_and_nothing_else_that_is_sensitive() -> None:
    admin = engine(Grant("a", ("user:**",), "builtin.admin", ("**",)))
    assert {permission for permission in SENSITIVE if allows(admin, permission=permission)} == {
        "certificates.revoke", "grants.write", "groups.write", "policies.write", "roles.write", "tokens.revoke",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("members", "who", "bound"),
    [
        (("user:okta/*",), ALICE, True),
        (("user:okta/*",), user("okta/a/b"), False),
        (("user:okta/**",), user("okta/a/b"), True),
        (("user:**",), Principal("spiffe", "spiffe://x/user:a"), False),
        (("user:bob", "user:okta/alice"), ALICE, True),
        (("dns:Host.Example.org",), Principal("dns", "dns:host.example.org"), True),
        (("dns:*.example.org",), Principal("dns", "dns:a.example.org"), True),
        (("cn:alice",), Principal("dns", "dns:alice"), False),
        (("key:k1",), Principal("key", "key:k1"), False),  # a key says itself what it permits
        (("key:*",), Principal("key", "key:k1"), False),
        (("group:team",), ALICE, True),
        (("group:team",), user("github/alice"), False),
        (("group:nosuch",), ALICE, False),
    ],
)
def test_members(members: tuple[str, ...], who: Principal, bound: bool) -> None:
    made = engine(ML, Group("team", ("user:okta/*",)), Grant("b", members, "ml", ("**",)))
    assert allows(made, who=who) is bound


@pytest.mark.parametrize(
    ("resources", "asked", "covered"),
    [
        (("models/fraud-*",), MODEL, True),
        (("models/fraud-*",), f"{MODEL}/versions/3", True),
        (("models/fraud-*",), "tenants/default/models/spam", False),
        (("models/spam", "models/fraud-1"), MODEL, True),
        (("models/fraud-1/versions/3",), MODEL, False),
        (("models/fraud-1/versions/3",), f"{MODEL}/versions/3", True),
        (("models/fraud-1/versions/3",), f"{MODEL}/versions/30", False),
        (("**",), "tenants/default", True),
        (("models/*",), "tenants/default", False),
    ],
)
def test_resources_of_a_grant(resources: tuple[str, ...], asked: str, covered: bool) -> None:
    made = engine(ML, Grant("b", ("user:okta/alice",), "ml", resources))
    assert allows(made, resource=asked) is covered


def test_a_name_with_a_star_is_no_pattern_of_who_asks() -> None:
    assert not allows(engine(ML, EVERYWHERE), who=user("okta/*"))


def test_roles_that_a_token_asserts_count_everywhere_in_its_own_tenant() -> None:
    made = engine(ML, Role("ml", ("*",), tenant="other"))
    assert decide(made, who=user(roles=["ml"])).grants == ("role:ml",)
    assert not allows(made, who=user(roles=["ml"]), permission="models.deploy")  # the other tenant's has it
    assert not allows(made, who=user(roles=["nosuch"]))
    assert allows(made, who=user(roles=["builtin.viewer"]), permission="models.read")
    assert (
        decide(made, who=user(roles=["ml", "builtin.admin"]), resource="tenants/other/models/m").reason
        == "policy.tenant"
    )


def test_builtin_roles_are_every_tenants_and_cannot_be_replaced() -> None:
    made = engine(Grant("b", ("user:a",), "builtin.admin", ("**",), tenant="t"))
    assert allows(made, who=user("a", "t"), resource="tenants/t/models/m", permission="anything.at_all")
    with pytest.raises(PolicyError):
        made.put(Role("builtin.viewer", ("*",)))


# Tenants.


def test_tenants_do_not_reach_each_other() -> None:
    made = engine(
        ML, Role("ml", ("*",), tenant="t"), EVERYWHERE, Grant("b", ("user:**",), "ml", ("**",), tenant="t"),
        Group("g", ("user:**",), tenant="t"), Grant("g", ("group:g",), "ml", ("**",)),
    )  # fmt: skip
    theirs = "tenants/t/models/fraud-1"
    assert allows(made)
    assert decide(made, resource=theirs).reason == "policy.tenant"
    assert decide(made, who=user(tenant="t")).reason == "policy.tenant"
    assert allows(made, who=user(tenant="t"), resource=theirs)
    assert decide(made, who=user("okta/bob")).reason == "policy.no_grant"  # the group is the other tenant's


def test_policies_are_their_tenants_own() -> None:
    made = engine(ML, EVERYWHERE, Policy("p", "deny", tenant="t"))
    assert allows(made)
    made.put(Policy("p", "deny"))
    assert decide(made) == Decision(False, "policy.deny", ("b",), ("p",))


# Time.


def test_a_grant_begins_and_ends_by_itself() -> None:
    made = engine(ML, Grant("b", ("user:okta/alice",), "ml", ("**",), begins=10.0, expires=20.0))
    assert decide(made, now=9.0) == Decision(False, "policy.no_grant", until=10.0)
    assert decide(made, now=10.0) == Decision(True, "policy.allowed", ("b",), until=20.0)
    assert allows(made, now=19.999)
    assert decide(made, now=20.0) == Decision(False, "policy.no_grant")
    assert allows(made, now=15.0)  # a clock that was set back


def test_of_several_grants_the_last_one_counts() -> None:
    made = engine(ML, *(Grant(f"b{end}", ("user:okta/alice",), "ml", ("**",), expires=end) for end in (10.0, 30.0)))
    assert decide(made, now=5.0).until == 30.0
    assert decide(made, now=10.0).grants == ("b30.0",)
    assert decide(made, who=user(roles=["ml"]), now=5.0).until == math.inf


def test_obligations_of_grants_are_met_until_one_of_them_changes() -> None:
    oblige = frozenset({"require:mfa"})
    made = engine(
        ML,
        Grant("b1", ("user:okta/alice",), "ml", ("**",), expires=30.0),
        Grant("b2", ("user:okta/alice",), "ml", ("**",), begins=10.0, expires=20.0, obligations=oblige),
    )
    assert [(decide(made, now=now).obligations, decide(made, now=now).until) for now in (5.0, 15.0, 25.0)] == [
        (frozenset(), 10.0), (oblige, 20.0), (frozenset(), 30.0),
    ]  # fmt: skip


# Policies.

CLEARANCE = Policy("sensitive_data_access", "allow", "user.clearance_level >= dataset.classification_level")
REGION = Policy("geographic_restriction", "allow", "user.location in dataset.allowed_regions")


@pytest.mark.parametrize(
    ("attributes", "reason", "policies", "missing"),
    [
        ({"clearance_level": 2, "location": "eu"}, "allowed", ("geographic_restriction", "sensitive_data_access"), ()),
        ({"clearance_level": 1, "location": "eu"}, "unmet", ("sensitive_data_access",), ()),
        ({"clearance_level": 2, "location": "cn"}, "unmet", ("geographic_restriction",), ()),
        ({"clearance_level": 2}, "missing", ("geographic_restriction",), ("user.location",)),
        ({"clearance_level": "high", "location": "eu"}, "error", ("sensitive_data_access",), ()),
    ],
)
def test_policies_that_allow_restrict_together(
    attributes: dict[str, Any], reason: str, policies: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    made = engine(ML, EVERYWHERE, CLEARANCE, REGION)
    decision = made.decide(user(**attributes), "datasets.read", DATASET, ABOUT_DATASET)
    assert (decision.reason, decision.policies, decision.missing) == (f"policy.{reason}", policies, missing)
    assert allows(made, who=user(**attributes))  # models are no datasets


def test_without_what_is_known_of_the_resource_it_is_missing() -> None:
    decision = decide(engine(ML, EVERYWHERE, CLEARANCE), user(clearance_level=9), "datasets.read", DATASET)
    assert decision.missing == ("dataset.classification_level",)


def test_a_policy_grants_nothing() -> None:
    assert decide(engine(Policy("p", "allow"))).reason == "policy.no_grant"


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("", "deny"), ("user.location == 'eu'", "deny"), ("user.location == 'us'", "allowed"),
        ("user.location > 1", "error"), ("user.nosuch == 1", "missing"), ("'x'", "error"),
        ("has(user.nosuch) && user.nosuch == 1", "allowed"),
    ],
)  # fmt: skip
def test_a_policy_that_denies_does_so_where_it_holds_or_errs(condition: str, reason: str) -> None:
    made = engine(ML, EVERYWHERE, Policy("p", "deny", condition), Policy("other", "allow", "user.location == 'eu'"))
    assert decide(made, user(location="eu")).reason == f"policy.{reason}"


@pytest.mark.parametrize(
    ("policy", "asked", "resource", "applies"),
    [
        (Policy("p", "deny", permissions=("models.*",)), INFER, MODEL, True),
        (Policy("p", "deny", permissions=("models.*",)), "datasets.read", DATASET, False),
        (Policy("p", "deny", permissions=(INFER,)), "models.versions.read", MODEL, False),
        (Policy("p", "deny", permissions=("*",)), INFER, MODEL, True),
        (Policy("p", "deny", resources=("models/fraud-*",)), INFER, MODEL, True),
        (Policy("p", "deny", resources=("models/fraud-*",)), INFER, f"{MODEL}/versions/1", True),
        (Policy("p", "deny", resources=("models/spam",)), INFER, MODEL, False),
        (Policy("p", "deny", permissions=("datasets.*",), resources=("models/*",)), INFER, MODEL, False),
        (Policy("p", "deny", resources=("**",)), INFER, "tenants/default", True),
        (Policy("p", "deny"), INFER, "tenants/default", True),
        (Policy("p", "deny", "user.name != ''"), INFER, MODEL, True),
        (Policy("p", "deny", "model.id != ''"), INFER, MODEL, True),
        (Policy("p", "deny", "model.id != ''"), INFER, f"{MODEL}/versions/1", True),
        (Policy("p", "deny", "model.id != ''"), "datasets.read", DATASET, False),
        (Policy("p", "deny", "dataset.id != ''"), "datasets.read", DATASET, True),
        (Policy("p", "deny", "dataset.id != ''"), INFER, MODEL, False),
        (
            Policy("p", "deny", "dataset.id != ''", permissions=("*",)),
            INFER,
            MODEL,
            True,
        ),  # what it asks for is missing
        (
            Policy("p", "deny", "resource.id != '' && environment.time > timestamp('1960-01-01T00:00:00Z')"),
            INFER,
            MODEL,
            True,
        ),
    ],
)
def test_where_a_policy_applies(policy: Policy, asked: str, resource: str, applies: bool) -> None:
    assert allows(engine(ML, EVERYWHERE, policy), permission=asked, resource=resource) is not applies


def test_obligations_of_policies_that_allow() -> None:
    redact, mfa = frozenset({"redact:pii"}), frozenset({"require:mfa"})
    made = engine(
        ML, EVERYWHERE, Policy("p", "allow", obligations=redact),
        Policy("q", "allow", "request.size > 0", obligations=mfa),
        Policy("r", "allow", resources=("models/spam",), obligations=frozenset({"other"})),
    )  # fmt: skip
    assert made.decide(ALICE, INFER, MODEL, Attributes(request={"size": 1})).obligations == redact | mfa
    assert made.decide(ALICE, INFER, MODEL).obligations == frozenset()


# What somebody else grants.


def test_what_is_granted_elsewhere_is_only_asked_of_policies() -> None:
    owing = Grant("o", ("user:okta/alice",), "ml", ("**",), obligations=frozenset({"redact:pii"}))
    made = engine(ML, owing, Policy("p", "allow", "user.cleared", obligations=frozenset({"require:mfa"})))
    bob, cleared = user("okta/bob"), user("okta/bob", cleared=True)
    assert made.decide(bob, INFER, MODEL, granted=True).missing == ("user.cleared",)
    assert made.decide(cleared, INFER, MODEL).reason == "policy.no_grant"
    assert made.decide(cleared, INFER, MODEL, granted=True) == Decision(
        True, "policy.allowed", (), ("p",), obligations=frozenset({"require:mfa"})
    )
    alice = user(cleared=True)
    assert made.decide(alice, INFER, MODEL).obligations == {"redact:pii", "require:mfa"}
    assert made.decide(alice, INFER, MODEL, granted=True).obligations == {"require:mfa"}


def test_a_tenant_is_not_crossed_by_what_is_granted_elsewhere() -> None:
    assert Engine().decide(user(tenant="other"), INFER, MODEL, granted=True).reason == "policy.tenant"


# The beginning of a call, before it is known what it is about.

ON_FRAUD = Grant("f", ("user:okta/alice",), "ml", ("models/fraud-*",))


def begins(made: Engine, who: Principal = ALICE, now: float = 0.0, granted: bool = False, **environment: Any) -> str:
    decision = made.begin(who, INFER, Attributes(environment=environment), now, granted)
    return "" if decision.allowed else decision.reason


def test_a_call_may_begin_where_anything_is_granted() -> None:
    assert begins(engine(ML)) == "policy.no_grant"
    assert begins(engine(ML), granted=True) == ""
    assert begins(engine(ML, ON_FRAUD)) == ""
    assert begins(engine(ML, ON_FRAUD), user("okta/bob")) == "policy.no_grant"
    assert begins(engine(ML), user(roles=["ml"])) == ""
    assert begins(engine(Role("other", ("models.read",)), ON_FRAUD)) == "policy.no_grant"


def test_a_beginning_ends_with_its_grant_and_waits_for_the_next() -> None:
    made = engine(
        ML, Grant("a", ("user:okta/*",), "ml", ("**",), expires=10.0),
        Grant("b", ("user:okta/*",), "ml", ("models/m",), begins=20.0),
    )  # fmt: skip
    assert made.begin(ALICE, INFER, now=0.0).until == 10.0
    assert made.begin(ALICE, INFER, now=10.0) == Decision(False, "policy.no_grant", until=20.0)
    assert begins(made, now=20.0) == ""


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Policy("p", "deny"), "policy.deny"),
        (Policy("p", "deny", permissions=("models.*",)), "policy.deny"),
        (Policy("p", "deny", permissions=("datasets.*",)), ""),
        (Policy("p", "deny", resources=("models/*",)), ""),
        (Policy("p", "allow", "user.cleared"), "policy.missing"),
        (Policy("p", "allow", "environment.source == '10.0.0.7'"), ""),
        (Policy("p", "deny", "environment.source == '10.0.0.7'"), "policy.deny"),
        (Policy("p", "allow", "environment.time.getHours() == 1"), "policy.unmet"),
        (Policy("p", "allow", "request.size < 0"), ""),  # not known yet
        (Policy("p", "allow", "model.level < 0"), ""),
        (Policy("p", "deny", "resource.level < 0"), ""),
    ],
)
def test_a_call_begins_only_where_policies_about_everything_let_it(policy: Policy, reason: str) -> None:
    for made, granted in ((engine(ML, ON_FRAUD, policy), False), (engine(policy), True)):
        assert begins(made, granted=granted, source="10.0.0.7") == reason


def test_a_beginning_tells_what_may_be_owed() -> None:
    made = engine(
        ML, Grant("a", ("user:okta/alice",), "ml", ("models/m",), obligations=frozenset({"one"})),
        Grant("b", ("user:okta/bob",), "ml", ("models/m",), obligations=frozenset({"two"})),
        Policy("p", "allow", "request.size > 0", ("models.*",), ("models/x",), obligations=frozenset({"three"})),
        Policy("q", "allow", permissions=("datasets.*",), obligations=frozenset({"four"})),
    )  # fmt: skip
    assert made.begin(ALICE, INFER).obligations == {"one", "three"}
    assert made.begin(ALICE, INFER, granted=True).obligations == {"three"}
    made.drop(Grant, "default", "a")
    made.drop(Policy, "default", "p")
    assert made.begin(ALICE, INFER, granted=True).obligations == frozenset()
    assert made.begin(user("okta/bob"), INFER).obligations == {"two"}


# What decisions depend on.


def test_a_decision_that_depends_on_the_request_is_made_again() -> None:
    made = engine(ML, EVERYWHERE, Policy("p", "deny", "request.size > 10"), Policy("q", "allow", "request.tokens < 5"))
    answers = [made.decide(ALICE, INFER, MODEL, Attributes(request={"size": size, "tokens": 1})) for size in (1, 11, 1)]
    assert [answer.reason for answer in answers] == ["policy.allowed", "policy.deny", "policy.allowed"]
    assert not any(answer.standing for answer in answers)
    assert made.decide(ALICE, INFER, MODEL, Attributes(request={"size": 1, "tokens": 5})).policies == ("q",)
    assert made.decide(ALICE, INFER, MODEL).missing == ("request.size",)


def test_a_decision_that_depends_on_the_time_of_day_may_change_at_any_time() -> None:
    made = engine(ML, EVERYWHERE, Policy("hours", "allow", "environment.time.getHours() >= 9"))
    assert decide(made, now=9 * 3600.0) == Decision(
        True, "policy.allowed", ("b",), ("hours",), (), frozenset(), -math.inf, False
    )
    assert not allows(made, now=9 * 3600.0 - 1)
    assert allows(made, now=9 * 3600.0 + 86400)


def test_attributes_of_a_resource_are_another_object_when_they_change() -> None:
    made = engine(ML, EVERYWHERE, Policy("p", "deny", "resource.secret"))
    for secret in (True, False, True):
        about = Attributes(resource={"secret": secret})
        assert [made.decide(ALICE, INFER, MODEL, about).allowed for _ in range(2)] == [not secret] * 2


def test_principals_that_are_equal_here_and_not_there() -> None:
    made = engine(ML, EVERYWHERE, Policy("p", "allow", "user.vetted == true"))
    for vetted, allowed in ((True, True), (1, False), (1.0, False), (True, True)):
        assert allows(made, who=user(vetted=vetted)) is allowed


def test_what_a_token_says_of_names_and_roles_is_not_believed() -> None:
    denied = ("user.name == 'user:okta/root'", "user.tenant == 't'", "'root' in user.roles", "resource.id == 'other'")
    made = engine(ML, EVERYWHERE, *(Policy(f"p{at}", "deny", text) for at, text in enumerate(denied)))
    who = Principal(
        "user", "user:okta/alice", attributes=(("name", "user:okta/root"), ("tenant", "t"), ("roles", ("root",)))
    )
    assert made.decide(who, INFER, MODEL, Attributes(resource={"id": "other"})).allowed


def test_only_what_may_be_asked_for_has_to_be_looked_up() -> None:
    made = engine(Policy("p", "allow", "user.a == request.b || has(dataset.c)"), Policy("q", "deny", "model.d == 1"))
    assert made.reads("datasets.read", DATASET) == {("user", "a"), ("request", "b"), ("dataset", "c")}
    assert made.reads(INFER, MODEL) == {("model", "d")}


# Changes.


def test_a_change_acts_at_once() -> None:
    made = engine(ML, EVERYWHERE)
    assert allows(made)
    made.put(Role("ml", ("datasets.read",)))
    assert not allows(made)
    made.put(ML)
    assert allows(made)
    made.drop(Grant, "default", "b")
    assert not allows(made)
    made.put(Grant("b", ("group:g",), "ml", ("**",)))
    assert not allows(made)
    made.put(Group("g", ("user:okta/alice",)))
    assert allows(made)
    made.put(Group("g", ("user:okta/bob",)))
    assert not allows(made)
    made.put(Grant("b", ("user:**",), "ml", ("models/*",)))
    assert allows(made)
    made.put(Policy("p", "deny"))
    assert not allows(made)
    made.put(Policy("p", "deny", resources=("models/spam",)))
    assert allows(made)
    made.drop(Role, "default", "ml")
    assert not allows(made)
    made.drop(Policy, "default", "p")
    made.drop(Policy, "default", "p")
    made.drop(Group, "default", "g")
    made.drop(Grant, "default", "b")
    assert made.tables.snapshot() == Snapshot()


def test_what_is_not_valid_changes_nothing() -> None:
    made = engine(ML, EVERYWHERE)
    with pytest.raises(PolicyError):
        made.put(Grant("b", ("user:bob",), "ml", ()))
    assert allows(made)
    with pytest.raises(PolicyError, match="condition: nothing is named 'nobody'"):
        Engine(Snapshot(policies=(Policy("p", "deny", "nobody.a == 1"),)))


# What goes wrong.


@pytest.mark.parametrize(
    ("permission", "resource", "reason"),
    [
        ("*", MODEL, "permission"), ("", MODEL, "permission"), ("models.*", MODEL, "permission"),
        ("models", MODEL, "permission"),
        (INFER, "", "resource"), (INFER, "models/fraud-1", "resource"), (INFER, "tenants/default/models/*", "resource"),
        (INFER, f"{MODEL}/versions", "resource"), (INFER, "tenants/default/models/a\0b", "resource"),
    ],
)  # fmt: skip
def test_what_has_no_name_is_denied(permission: str, resource: str, reason: str) -> None:
    made = engine(Grant("b", ("user:**",), "builtin.admin", ("**",)))
    assert decide(made, permission=permission, resource=resource) == Decision(False, f"policy.{reason}")


class Broken(Mapping[str, Any]):
    """Attributes that cannot be read."""

    def __getitem__(self, name: str) -> Any:
        raise RuntimeError("broken")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("broken")

    def __len__(self) -> int:
        return 1


def test_an_error_of_the_engine_denies() -> None:
    made = engine(ML, EVERYWHERE, Policy("p", "allow", "environment.time.getHours() < 24"))
    assert allows(made)
    assert decide(made, now=math.inf).reason == "policy.no_grant"  # when every grant is over
    made.put(Policy("q", "allow", "user.a == 1"))
    unhashable: Any = Principal("user", "user:okta/alice", attributes=(("a", ["x"]),))  # type: ignore[arg-type]
    assert decide(made, who=unhashable) == Decision(False, "policy.internal", until=-math.inf)
    made.drop(Policy, "default", "q")
    for broken in (Attributes(Broken()), Attributes({}, {}, Broken())):
        assert made.decide(ALICE, INFER, MODEL, broken) == Decision(False, "policy.internal", until=-math.inf)


def test_what_is_remembered_is_bounded() -> None:
    made = engine(Grant("b", ("user:**",), "builtin.admin", ("**",)), Policy("p", "allow", "user.name != ''"))
    kept: tuple[Any, ...] = (made._callers, made._granting, made._rules, made._scopes, made._decisions)
    for each in kept:
        each.most = 8
    for number in range(100):
        asked = f"models.p{number}", f"tenants/default/models/m{number}"
        assert made.decide(user(f"u{number}"), *asked).allowed
    assert [len(each) for each in kept] == [8] * 5


def test_policies_that_together_would_hold_everybody_up_are_not_asked_and_nothing_is_allowed() -> None:
    costly = " || ".join(["request.purpose.contains('nothing')"] * 70)
    made = engine(ML, EVERYWHERE, *(Policy(f"p{at}", "deny", costly) for at in range(200)))
    assert decide(made).reason == made.begin(ALICE, INFER).reason == "policy.costly"
    assert explain(made, Question(ALICE, INFER, MODEL)).decision.reason == "policy.costly"
    with pytest.raises(CostlyError):
        list(reach(made, INFER, MODEL, 0.0))
    for at in range(1, 200):
        made.drop(Policy, "default", f"p{at}")
    assert made.decide(ALICE, INFER, MODEL, Attributes(request={"purpose": "x"})).allowed
    plain = engine(ML, EVERYWHERE, *(Policy(f"p{at}", "allow", "user.level >= 3") for at in range(1_000)))
    assert decide(plain).reason == "policy.missing"


@pytest.mark.parametrize(
    ("condition", "value", "fits"),
    [
        ("user.a == true", True, True),
        ("user.a == true", "true", False),
        ("true != user.a", 1, False),
        ("user.a == 3", 3.0, True),
        ("user.a == -3", "-3", False),
        ("user.a == 3", True, False),
        ("user.a == 'x'", ("x",), False),
        ("user.a in ['x', 'y']", "x", True),
        ("user.a in ['x', 'y']", ("x",), False),
        ("user.a in [1, 2]", "1", False),
        ("has(user.a) && user.a == true", "true", False),
        ("user.a == 1 || user.a == '1'", "1", True),
        ("user.a in [1, '1']", "1", True),
        ("'x' in user.a", ("x",), True),
        ("user.a == ['x']", ("x",), True),
    ],
)
def test_what_is_compared_with_a_value_of_another_kind_objects(condition: str, value: Any, fits: bool) -> None:
    made = engine(ML, EVERYWHERE, Policy("p", "deny", condition))
    assert (decide(made, user(a=value)).reason != "policy.error") is fits


def test_a_key_has_what_it_was_issued_for_and_no_more() -> None:
    """Grants that an earlier version took, by itself and by a group, are still read, and give nothing."""
    key = Principal("key", "key:k1")
    grant = Grant("b", ("key:k1", "user:okta/*", "group:team"), "ml", ("**",))
    deny = Policy("p", "deny", "user.kind == 'key' && model.id == 'm'")
    made = engine(ML, Group("team", ("key:*", "dns:a")), grant, deny)
    assert allows(made)
    assert decide(made, who=key).reason == made.begin(key, INFER).reason == "policy.no_grant"
    assert made.decide(key, INFER, MODEL, granted=True).allowed  # by the key itself
    assert made.decide(key, INFER, "tenants/default/models/m", granted=True).reason == "policy.deny"
    assert explain(made, Question(key, INFER, MODEL)).suggested == ()
    assert {each.member for each in reach(made, INFER, MODEL, 0.0) if each.grant} == {"user:okta/*", "dns:a"}
    made.drop(Grant, "default", "b")
    made.drop(Group, "default", "team")
    assert not allows(made)
