"""Roles and policies behind Authorize: the beginning of calls, each of their messages, and calls that are open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from interceptors.access import DEPLOY, INFERENCE, LOAD_FILES, READ, SHARED_MEMORY
from interceptors.authorize import Authorize, Rule
from interceptors.chain import Chain
from interceptors.contract import (
    NO_CODEC,
    PASS,
    Call,
    Code,
    CodecError,
    Deny,
    Forward,
    Interceptor,
    Message,
    Method,
    ModelName,
    NoCodec,
    RawField,
    View,
)
from interceptors.decided import MOST_ASKED, Decided
from interceptors.facts import KeyGrant, Principal
from interceptors.permits import LONGEST_MODEL
from interceptors.visible import Visible
from sidecar.policy.access import Given, PolicyAccess
from sidecar.policy.model import Grant, Group, Item, Policy, Role
from sidecar.relay.codecs.registry import registry
from tests.interceptors.links import scripted
from tests.playbook import STARTED, Session, Transcript, run
from tests.policy.knowing import STALENESS_S, Knowing
from tests.relay.codecs.inference import ORACLE

INFER = Method("/i.S/Infer", True, True, INFERENCE, (SHARED_MEMORY,))
STREAM = Method("/i.S/Stream", permission=INFERENCE, special=(SHARED_MEMORY,))
LOAD = Method("/i.S/Load", True, True, DEPLOY, (LOAD_FILES,))
OPAQUE = Method("/a.B/C")

A = Principal("spiffe", "spiffe://example.org/team/a")
ML = Role("ml", (INFERENCE,))
ON_FRAUD = Grant("g", (A.name,), "ml", ("models/fraud-*",))
ANYWHERE = Grant("g", (A.name,), "ml", ("**",))
FREE = Rule((A.name,), ("/**",))


class Names(NoCodec):
    """A message is models by commas, "name@version"; "!" at its end demands shared memory, "broken" is none."""

    def models(self, raw: bytes, response: bool) -> tuple[ModelName, ...]:
        if raw == b"broken":
            raise CodecError("broken")
        names = raw.removesuffix(b"!").decode()
        return tuple(ModelName(*name.split("@")) for name in names.split(",")) if names else ()

    def special(self, raw: bytes) -> tuple[str, ...]:
        return (SHARED_MEMORY,) if raw.endswith(b"!") else ()


class Scene:
    """A chain under roles and policies. links: behind Authorize."""

    def __init__(
        self,
        *items: Item,
        rules: Sequence[Rule] = (),
        principal: Principal = A,
        facts: Sequence[object] = (),
        links: Sequence[Interceptor] = (),
        observe: bool = False,
        given: Given | None = None,
    ) -> None:
        def on_start(call: Call) -> object:
            for fact in (principal, *facts):
                call.put(fact)
            return PASS

        self.at = Knowing()
        self.at.tell(*items)
        self.access = PolicyAccess(self.at.known, given or Given(), STALENESS_S)
        known = scripted("known", View.METADATA, gives=frozenset({Principal}), on_start=on_start)
        self.authorize = Authorize(rules, True, self.access)
        self.chain = Chain([known, self.authorize, *links], observe)

    def run(self, method: Method, *messages: bytes, headers: Sequence[RawField] = ()) -> Transcript:
        return run(self.chain, method, messages, [b"r"], codec=Names(), headers=headers)

    def reason(self, method: Method, *messages: bytes, headers: Sequence[RawField] = ()) -> str:
        told = self.run(method, *messages, headers=headers)
        return told.denied.reason if told.denied else ""

    def open(self, *messages: bytes, method: Method = STREAM, codec: Any = None) -> Session:
        session = Session(self.chain, method, codec=codec or Names())
        for raw in messages:
            session.request(raw)
        assert not session.over
        return session


def again(session: Session, now: float = STARTED) -> str:
    denied = session.call.get(Decided).again(session.call, now)
    return denied.reason if denied else ""


# Roles and rules both grant.


@pytest.mark.parametrize(
    ("items", "rules", "message", "reason"),
    [
        ([], [], b"fraud-1", "policy.no_grant"),
        ([ML, ON_FRAUD], [], b"fraud-1", ""),
        ([ML, ON_FRAUD], [], b"fraud-1@2", ""),
        ([ML, ON_FRAUD], [], b"other", "policy.no_grant"),
        ([ML, ON_FRAUD], [], b"fraud-1,other", "policy.no_grant"),
        ([ML, ON_FRAUD], [], b"", "policy.no_grant"),
        ([ML, ANYWHERE], [], b"", ""),
        ([ML, ANYWHERE], [], b"any", ""),
        ([ML, ANYWHERE], [], b"broken", "authorize.malformed"),
        ([], [FREE], b"any", ""),
        ([], [FREE], b"", ""),
        ([], [FREE], b"broken", "authorize.malformed"),
        ([], [Rule((A.name,), ("/**",), ("m-*",))], b"m-1", ""),
        ([], [Rule((A.name,), ("/**",), ("m-*",))], b"fraud-1", "policy.no_grant"),
        ([], [Rule((A.name,), ("/**",), ("m-*",))], b"", "policy.no_grant"),
        ([ML, ON_FRAUD], [Rule((A.name,), ("/**",), ("m-*",))], b"m-1,fraud-1", ""),
        ([ML, ON_FRAUD], [Rule((A.name,), ("/other/*",))], b"m-1", "policy.no_grant"),
        ([Role("ml", (READ,)), ON_FRAUD], [], b"fraud-1", "policy.no_grant"),
    ],
)
@pytest.mark.parametrize("method", [INFER, STREAM])
def test_what_roles_and_rules_grant(
    items: list[Item], rules: list[Rule], message: bytes, reason: str, method: Method
) -> None:
    scene = Scene(*items, rules=rules)
    assert scene.reason(method, message) == reason
    told = scene.run(method, message)
    assert told.upstream == ([] if reason else [message])


def test_denials_tell_callers_nothing() -> None:
    assert Scene().run(INFER, b"m").denied == Deny(Code.PERMISSION_DENIED, "policy.no_grant", "permission denied")
    denied = Scene(ML, ON_FRAUD).run(INFER, b"m").denied
    assert denied == Deny(Code.PERMISSION_DENIED, "policy.no_grant", "permission denied")


def test_a_chain_that_observes_denies_nothing() -> None:
    scene = Scene(observe=True)
    assert scene.reason(INFER, b"m") == ""
    assert scene.reason(INFER, b"broken") == ""


@pytest.mark.parametrize(
    ("message", "items", "reason"),
    [
        (b"fraud-1!", [ML, ON_FRAUD], "policy.no_grant"),
        (b"fraud-1!", [Role("ml", (INFERENCE, SHARED_MEMORY)), ON_FRAUD], ""),
        (b"other!", [ML, ANYWHERE, Role("s", (SHARED_MEMORY,)), Grant("s", (A.name,), "s", ("models/m",))], "no_grant"),
        (b"!", [ML, ANYWHERE], "policy.no_grant"),
    ],
)
def test_what_messages_demand_beyond(message: bytes, items: list[Item], reason: str) -> None:
    assert Scene(*items).reason(INFER, message).endswith(reason)
    assert bool(Scene(*items).reason(INFER, message)) is bool(reason)


def test_a_rule_grants_what_messages_demand_beyond() -> None:
    rule = Rule((A.name,), ("/**",), ("m",), (INFERENCE, SHARED_MEMORY))
    assert Scene(rules=[rule]).reason(INFER, b"m!") == ""
    assert Scene(rules=[rule, FREE]).reason(INFER, b"x!") == "policy.no_grant"


# Policies are asked whoever grants.


def with_key(*items: Item, resources: tuple[str, ...] = ()) -> Scene:
    return Scene(*items, principal=Principal("key", "key:abc"), facts=[KeyGrant((INFERENCE,), resources)])


@pytest.mark.parametrize("message", [b"m", b"m@1", b""])
def test_policies_apply_to_everybody(message: bytes) -> None:
    deny = Policy("p", "deny", "request.size >= 0")
    assert Scene(deny, rules=[FREE]).reason(INFER, message) == "policy.deny"
    assert Scene(deny, ML, ANYWHERE).reason(INFER, message) == "policy.deny"
    assert with_key(deny).reason(INFER, message) == "policy.deny"
    assert with_key().reason(INFER, message) == ""


def test_a_key_may_do_what_it_permits_and_no_more() -> None:
    assert with_key(resources=("models/m",)).reason(INFER, b"m") == ""
    assert with_key(resources=("models/m",)).reason(INFER, b"fraud-1") == "policy.no_grant"
    to_key = Grant("g", ("key:abc",), "ml", ("models/fraud-*",))  # from before they were refused
    assert with_key(ML, to_key, resources=("models/m",)).reason(INFER, b"fraud-1") == "policy.no_grant"
    to_group = Grant("g", ("group:all",), "ml", ("models/fraud-*",))
    members = Group("all", ("key:abc",))
    assert with_key(ML, members, to_group, resources=("models/m",)).reason(INFER, b"fraud-1") == "policy.no_grant"


def test_every_message_of_a_stream_is_decided() -> None:
    scene = Scene(ML, ON_FRAUD, Policy("p", "deny", "request.size > 9"))
    told = scene.run(STREAM, b"fraud-1", b"fraud-2", b"fraud-1,fraud-2", b"fraud-3")
    assert told.upstream == [b"fraud-1", b"fraud-2"]
    assert told.denied == Deny(Code.PERMISSION_DENIED, "policy.deny", "permission denied")
    assert told.reset


def test_a_stream_begins_only_where_something_may_be_allowed() -> None:
    """It goes upstream before its first message."""
    for items in ((), (ML, Policy("p", "deny"), ANYWHERE), (ML, ANYWHERE, Policy("p", "allow", "user.cleared"))):
        assert Scene(*items).run(STREAM).upstream_headers is None
    assert Scene(ML, ON_FRAUD).run(STREAM).upstream_headers is not None


def test_a_stream_that_names_no_model_begins_only_where_it_may_go_on() -> None:
    opaque = Role("ml", (OPAQUE.permission,))
    on_model = run(Scene(opaque, ON_FRAUD).chain, OPAQUE)
    assert on_model.upstream_headers is None
    assert run(Scene(opaque, ANYWHERE).chain, OPAQUE, [b"m"]).upstream == [b"m"]


def test_a_model_that_metadata_names_is_decided_on_as_well() -> None:
    scene = Scene(ML, ON_FRAUD)
    routed = [(b"mm-model-id", b"fraud-2")]
    assert scene.reason(INFER, b"fraud-1", headers=routed) == ""
    assert scene.reason(INFER, b"fraud-1", headers=[(b"mm-vmodel-id", b"other")]) == "policy.no_grant"
    assert scene.reason(INFER, b"fraud-1", headers=[*routed, (b"mm-model-id", b"other")]) == "policy.no_grant"
    assert scene.reason(INFER, b"fraud-1", headers=[(b"mm-model-id-bin", b"AAAA")]) == "authorize.model"
    assert scene.reason(INFER, b"", headers=routed) == "policy.no_grant"  # it may be about anything all the same
    assert Scene(ML, ANYWHERE).reason(INFER, b"", headers=routed) == ""
    assert scene.reason(INFER, b"fraud-1!", headers=routed) == "policy.no_grant"
    deny = Policy("p", "deny", resources=("models/other",))
    ruled = Scene(deny, rules=[FREE])
    assert ruled.reason(INFER, b"fraud-1", headers=[(b"mm-model-id", b"other")]) == "policy.deny"


@pytest.mark.parametrize("name", [b"secret\0x", b"m" * (LONGEST_MODEL + 1), b"m@1\0", b"m@" + b"1" * 300])
def test_what_can_be_no_model_is_none(name: bytes) -> None:
    """A server in C would read "secret" there, which a policy denies."""
    deny = Policy("p", "deny", resources=("models/secret",))
    assert Scene(deny, rules=[FREE]).reason(INFER, name) == "authorize.model"


def test_the_servers_default_model_is_none_that_policies_know() -> None:
    assert Scene(rules=[FREE]).reason(INFER, b"@1") == "policy.resource"


# Lists.

INDEX_PATH = "/inference.GRPCInferenceService/RepositoryIndex"
INDEX = ORACLE["Index"](models=[{"name": name, "version": "1"} for name in ("digits", "fraud-1", "secret")])


def seen(scene: Scene, headers: Sequence[RawField] = ()) -> list[str] | str:
    codecs = registry("open-inference")
    method = codecs.method(INDEX_PATH)
    assert method is not None
    answer = INDEX.SerializeToString()
    told = run(scene.chain, method, [b""], [answer], codec=codecs.codec(INDEX_PATH), headers=headers)
    if told.denied:
        return told.denied.reason
    return [model.name for model in ORACLE["Index"].FromString(told.client[0]).models]


READER = Role("ml", (READ,))


@pytest.mark.parametrize(
    ("items", "rules", "expected"),
    [
        ([], [], "policy.no_grant"),
        ([READER, ON_FRAUD], [], ["fraud-1"]),
        ([READER, ANYWHERE], [], ["digits", "fraud-1", "secret"]),
        ([READER, ANYWHERE, Policy("p", "deny", "model.secret")], [], []),  # nothing is said of any
        ([READER, ANYWHERE, Policy("p", "deny", resources=("models/secret",))], [], ["digits", "fraud-1"]),
        ([Policy("p", "deny", resources=("models/secret",))], [FREE], ["digits", "fraud-1"]),
        ([READER, ON_FRAUD], [Rule((A.name,), ("/**",), ("digits",))], ["digits", "fraud-1"]),
        ([Policy("p", "allow", "true", obligations=frozenset({"redact:pii"}))], [FREE], []),
    ],
)
def test_lists_show_what_the_caller_may_read(items: list[Item], rules: list[Rule], expected: object) -> None:
    assert seen(Scene(*items, rules=rules, links=[Visible()])) == expected


def test_a_list_is_of_the_model_that_metadata_names() -> None:
    scene = Scene(READER, ON_FRAUD, links=[Visible()])
    assert seen(scene, [(b"mm-model-id", b"fraud-2")]) == ["fraud-1"]
    assert seen(scene, [(b"mm-model-id", b"other")]) == "policy.no_grant"


# Obligations.


class Redact(Interceptor):
    """Honours one, where it is owed."""

    name = "redact"
    view = View.BYTES
    honours = frozenset({"redact:pii"})

    def depth(self, method: Method, obligations: frozenset[str]) -> View | None:
        return View.BYTES if "redact:pii" in obligations else None

    def on_request(self, call: Call, message: Message) -> Forward:
        return Forward((Message(message.raw + b"[-]"),))


REDACTED = Grant("r", (A.name,), "ml", ("models/people",), obligations=frozenset({"redact:pii"}))


def test_an_obligation_of_a_decision_is_met_by_a_link() -> None:
    scene = Scene(ML, REDACTED, links=[Redact()])
    assert scene.run(INFER, b"people").upstream == [b"people[-]"]
    assert scene.run(STREAM, b"people", b"people").upstream == [b"people[-]"] * 2


def test_who_may_owe_nothing_is_not_looked_at() -> None:
    assert Scene(ML, ON_FRAUD, links=[Redact()]).run(INFER, b"fraud-1").upstream == [b"fraud-1"]


def test_a_stream_that_names_no_model_owes_from_its_beginning() -> None:
    opaque = Role("ml", (OPAQUE.permission,))
    owing = Grant("r", (A.name,), "ml", ("**",), obligations=frozenset({"redact:pii"}))
    told = run(Scene(opaque, owing).chain, OPAQUE, [b"m"])
    assert told.denied == Deny(Code.PERMISSION_DENIED, "chain.unmet_obligation:redact:pii")
    assert told.upstream_headers is None
    assert run(Scene(opaque, owing, links=[Redact()]).chain, OPAQUE, [b"m"]).upstream == [b"m[-]"]


def test_an_obligation_that_nobody_can_meet_denies_what_owes_it_and_nothing_else() -> None:
    scene = Scene(ML, REDACTED, ON_FRAUD)
    denied = Deny(Code.PERMISSION_DENIED, "authorize.obligation:redact:pii", "permission denied")
    assert scene.run(INFER, b"people").denied == denied
    assert scene.reason(INFER, b"fraud-1") == ""
    told = scene.run(STREAM, b"fraud-1", b"people", b"fraud-1")
    assert (told.upstream, told.denied) == ([b"fraud-1"], denied)
    policy = Policy("p", "allow", "request.size < 100", obligations=frozenset({"redact:pii"}))
    assert Scene(policy, rules=[FREE]).run(INFER, b"m").denied == denied


@pytest.mark.parametrize(
    ("methods", "met"), [(("pwd", "mfa"), True), (("pwd",), False), ("mfa", False), ((), False), (None, False)]
)
def test_several_factors_are_what_a_token_says(methods: Any, met: bool) -> None:
    who = Principal("user", "user:okta/a", attributes=() if methods is None else (("amr", methods),))
    rule = Rule((who.name,), ("/**",))
    policy = Policy("p", "allow", obligations=frozenset({"require:mfa"}))
    reason = Scene(policy, rules=[rule], principal=who).reason(INFER, b"m")
    assert reason == ("" if met else "authorize.obligation:require:mfa")


# What cannot be decided.


def test_what_may_have_changed_is_not_relied_upon() -> None:
    scene = Scene(ML, ANYWHERE, rules=[FREE])
    session = scene.open(b"m")
    scene.at.clock += STALENESS_S + 1
    stale = Deny(Code.UNAVAILABLE, "policy.stale", "permission cannot be decided at the moment")
    assert scene.run(INFER, b"m").denied == stale
    assert again(session) == "policy.stale"
    session.request(b"m")
    assert session.told.denied == stale
    assert session.told.upstream == [b"m"]


def test_a_tenant_with_a_damaged_policy_is_not_decided_for() -> None:
    scene = Scene(rules=[FREE])
    scene.at.tell_rows(("policy/default/p", b"{"))
    damaged = Deny(Code.UNAVAILABLE, "policy.damaged", "permission cannot be decided at the moment")
    assert scene.run(INFER, b"m").denied == damaged


# Open calls.


def test_an_open_call_goes_on_while_all_that_it_rests_on_holds() -> None:
    scene = Scene(ML, ON_FRAUD, Grant("other", (A.name,), "ml", ("models/m",)))
    session = scene.open(b"fraud-1", b"m")
    assert again(session) == ""
    scene.at.tell(Policy("p", "deny", resources=("models/fraud-2",)))
    assert again(session) == ""
    scene.at.tell(gone=["grant/default/other"])
    assert again(session) == "policy.no_grant"


def test_an_open_call_without_a_message_rests_on_what_let_it_begin() -> None:
    scene = Scene(ML, ON_FRAUD)
    session = Session(scene.chain, STREAM, codec=Names())
    session.start()
    assert again(session) == ""
    scene.at.tell(gone=["role/default/ml"])
    assert again(session) == "policy.no_grant"


@pytest.mark.parametrize(
    "change",
    [
        Policy("p", "deny"),
        Policy("p", "deny", resources=("models/fraud-1",)),
        Policy("p", "allow", "user.cleared"),
        Policy("p", "deny", "request.size == 7 && request.model == 'fraud-1'"),
        Policy("p", "allow", obligations=frozenset({"redact:pii"})),
        Role("ml", (READ,)),
        Grant("g", (A.name,), "ml", ("models/m",)),
        Grant("g", ("user:bob",), "ml", ("**",)),
    ],
    ids=str,
)
def test_an_open_call_is_denied_by_what_has_changed(change: Item) -> None:
    scene = Scene(ML, ON_FRAUD)
    session = scene.open(b"fraud-1")
    scene.at.tell(change)
    assert again(session) != ""
    scene.at.tell(ML, ON_FRAUD, *([Policy("p", "allow")] if isinstance(change, Policy) else []))
    assert again(session) == ""


def test_what_an_open_call_rests_on_ends_by_itself() -> None:
    until = STARTED + 60
    scene = Scene(ML, Grant("g", (A.name,), "ml", ("**",), expires=until), rules=[Rule((A.name,), ("/**",), ("m",))])
    session = scene.open(b"m")
    assert session.call.get(Decided).until == float("inf")  # a rule grants that
    session.request(b"fraud-1")
    assert session.call.get(Decided).until == scene.at.known.due == until
    assert again(session, until - 1) == ""
    assert again(session, until) == "policy.no_grant"


def test_what_follows_is_what_an_open_call_rests_on_then() -> None:
    until = STARTED + 60
    scene = Scene(ML, Grant("g", (A.name,), "ml", ("**",), expires=until), Grant("h", (A.name,), "ml", ("models/m",)))
    session = scene.open(b"m")
    assert again(session, until) == ""
    assert session.call.get(Decided).until == float("inf")


def test_the_time_of_day_may_end_an_open_call_at_any_time() -> None:
    scene = Scene(ML, ANYWHERE, Policy("p", "allow", "environment.time.getFullYear() == 2023"))
    session = scene.open(b"m")
    assert session.call.get(Decided).until == float("-inf")
    assert again(session) == ""
    assert again(session, STARTED + 365 * 86400) == "policy.unmet"


def test_of_a_stream_that_names_any_number_of_models_not_all_are_kept() -> None:
    scene = Scene(ML, ANYWHERE)
    session = scene.open(*(f"m{number}".encode() for number in range(MOST_ASKED + 10)))
    assert len(session.call.get(Decided)._asked or ()) == MOST_ASKED


def test_messages_are_looked_at_whatever_the_method() -> None:
    authorize = Scene().authorize
    for method in (INFER, STREAM, LOAD, OPAQUE):
        assert authorize.depth(method, frozenset()) is View.BYTES
    assert NO_CODEC.models(b"", False) == ()


@pytest.mark.parametrize("spelt", ["02", "+2", " 2", "\t2", "2x", "2.0", "002 "])
def test_a_version_is_decided_as_it_is_spelt_and_as_the_number_that_a_server_takes_it_for(spelt: str) -> None:
    second = Policy("second", "deny", "", (INFERENCE,), ("models/digits/versions/2",))
    scene = Scene(ML, ANYWHERE, second)
    assert scene.reason(INFER, f"digits@{spelt}".encode()) == "policy.deny"
    assert scene.reason(INFER, b"digits@2") == "policy.deny"
    assert scene.reason(INFER, b"digits@20") == scene.reason(INFER, b"digits@v2") == ""
    by_number = Policy("by-number", "deny", "request.version == '2'", (INFERENCE,), ("models/*",))
    assert Scene(ML, ANYWHERE, by_number).reason(INFER, f"digits@{spelt}".encode()) == "policy.deny"
    first = Grant("g", (A.name,), "ml", ("models/digits/versions/2",))
    assert Scene(ML, first).reason(INFER, f"digits@{spelt}".encode()) == "policy.no_grant"
