"""Static rules: who may call what, and about which models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interceptors.authorize import MOST_DECISIONS, Authorize, Rule, RuleError
from interceptors.chain import Chain
from interceptors.contract import (
    PASS,
    Call,
    Code,
    CodecError,
    Deny,
    Headers,
    Interceptor,
    Method,
    ModelName,
    NoCodec,
    View,
)
from interceptors.facts import CalledModel, Principal
from interceptors.patterns import path_pattern
from interceptors.permits import Permit
from tests.interceptors.links import scripted
from tests.playbook import PEER, Playbook, Session, denied, end, request, run

INFER = Method("/inference.GRPCInferenceService/ModelInfer", True, True)
STREAM = Method("/inference.GRPCInferenceService/ModelStreamInfer")
A = Principal("spiffe", "spiffe://example.org/team/a")
NO_RULE = Deny(Code.PERMISSION_DENIED, "authorize.no_rule", "permission denied")
MALFORMED = Deny(Code.INVALID_ARGUMENT, "authorize.malformed", "request message cannot be read")
NO_MODEL = Deny(Code.PERMISSION_DENIED, "authorize.model", "permission denied")


class Names(NoCodec):
    """A codec whose messages are model names by commas; "-" names none, "broken" cannot be read."""

    def models(self, raw: bytes, response: bool) -> tuple[ModelName, ...]:
        if raw == b"broken":
            raise CodecError("broken")
        return () if raw == b"-" else tuple(ModelName(*name.split("@")) for name in raw.decode().split(","))

    def decode(self, raw: bytes, response: bool) -> object:
        raise CodecError("not decoded here")

    def encode(self, body: object, response: bool) -> bytes:
        raise CodecError("not decoded here")


def rule(
    identities: str = "spiffe://example.org/team/*",
    methods: str = "/inference.GRPCInferenceService/*",
    models: Sequence[str] | None = None,
) -> Rule:
    return Rule((identities,), (methods,), None if models is None else tuple(models))


def known(principal: Principal | None) -> Interceptor:
    def on_start(call: Call) -> object:
        if principal:
            call.put(principal)
        return PASS

    return scripted("known", View.METADATA, gives=frozenset({Principal}) if principal else (), on_start=on_start)


def chain(*rules: Rule, principal: Principal = A, observe_only: bool = False) -> Chain:
    return Chain([known(principal), Authorize(rules)], observe_only)


@pytest.mark.parametrize(
    ("rules", "method", "allowed"),
    [
        ([], INFER, False),
        ([rule()], INFER, True),
        ([rule()], Method("/inference.Other/ModelInfer"), False),
        ([rule("spiffe://example.org/team/b")], INFER, False),
        ([rule("spiffe://example.org/team/b"), rule()], INFER, True),
        ([rule("spiffe://example.org/*")], INFER, False),
        ([rule("spiffe://example.org/**", "/**")], INFER, True),
        ([Rule((), ("/**",))], INFER, False),
        ([Rule(("spiffe://example.org/**",), ())], INFER, False),
    ],
)
def test_rules_allow_and_all_else_is_denied(rules: list[Rule], method: Method, allowed: bool) -> None:
    told = run(chain(*rules), method, [b"m"])
    assert told.denied == (None if allowed else NO_RULE)
    assert (told.upstream_headers is not None) is allowed


@pytest.mark.parametrize(
    ("identity", "kind", "name", "allowed"),
    [
        ("spiffe://example.org/a", "spiffe", "spiffe://example.org/a", True),
        ("spiffe://example.org/a", "cn", "cn:spiffe://example.org/a", False),
        ("spiffe://example.org/a", "cn", "spiffe://example.org/a", False),
        ("spiffe://**", "dns", "spiffe://example.org", False),
        ("cn:spiffe://**", "cn", "cn:spiffe://example.org/a", True),
        ("cn:spiffe://**", "spiffe", "cn:spiffe://example.org/a", False),
        ("cn:**", "spiffe", "spiffe://example.org/a", False),
        ("dns:*", "dns", "dns:a.example.org", True),
        ("dns:*.EXAMPLE.org", "dns", "dns:a.example.org", True),
        ("dns:*", "cn", "cn:a.example.org", False),
        ("cn:*", "dns", "dns:a.example.org", False),
    ],
)
def test_identities_never_match_across_kinds(
    identity: str, kind: Literal["spiffe", "dns", "cn"], name: str, allowed: bool
) -> None:
    told = run(chain(rule(identity), principal=Principal(kind, name)), INFER, [b"m"])
    assert told.denied == (None if allowed else NO_RULE)


def test_without_a_principal_nobody_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Authorize, "needs", frozenset())
    told = run(Chain([Authorize([rule()])]), INFER, [b"m"])
    assert told.denied == Deny(Code.UNAUTHENTICATED, "authorize.no_principal", "client identity required")


@pytest.mark.parametrize(
    ("models", "raw", "denial"),
    [
        (["digits"], b"digits", None),
        (["digits"], b"digits@7", None),
        (["digits", "fraud-*"], b"fraud-2", None),
        (["digits"], b"other", NO_MODEL),
        (["digits"], b"digits,other", NO_MODEL),  # a message that names two is about both
        (["digits"], b"other,digits", NO_MODEL),
        (["digits"], b"", NO_MODEL),  # the server's default
        (["*"], b"", None),
        (["*"], b"-", NO_MODEL),
        ([], b"digits", NO_MODEL),
        (["*"], b"m" * 257, NO_MODEL),
        (["digits"], b"broken", MALFORMED),
    ],
)
def test_models(models: list[str], raw: bytes, denial: Deny | None) -> None:
    told = run(chain(rule(models=models)), INFER, [raw], codec=Names())
    assert told.denied == denial
    assert told.upstream == ([] if denial else [raw])


@pytest.mark.parametrize("pattern", ["*-public", "*", "?igits", "secret*"])
def test_a_model_name_with_nul_is_no_name_of_a_model(pattern: str) -> None:
    """Triton hands the name to its core as a C string, which ends at the NUL."""
    for raw in (b"secret\0-public", b"\0igits"):
        assert run(chain(rule(models=[pattern])), INFER, [raw], codec=Names()).denied == NO_MODEL


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        ((b"mm-model-id", b"a"), True),
        ((b"mm-model-id", b"secret"), False),
        ((b"mm-vmodel-id", b"a"), True),
        ((b"mm-vmodel-id", b"secret"), False),
        ((b"mm-model-id-bin", b"YQ=="), False),
        ((b"mm-balanced", b"true"), True),
    ],
)
def test_metadata_that_chooses_a_model_is_authorised(header: tuple[bytes, bytes], allowed: bool) -> None:
    """ModelMesh calls the model that it names, not the message's."""
    book = Playbook(chain(rule(models=["a"])), method=STREAM, headers=[header], codec=Names())
    assert (book >> request(b"a")).session.told.denied == (None if allowed else NO_MODEL)
    free = Playbook(chain(rule()), method=STREAM, headers=[header], codec=Names())
    assert (free >> request(b"a")).session.told.denied is None


def test_every_message_of_a_stream_is_authorised() -> None:
    links = [known(A), Authorize([rule(models=["digits", "fraud-*"])])]
    book = (
        Playbook(links, STREAM, codec=Names()) >> request(b"digits") << b"digits" >> request(b"fraud-1") << b"fraud-1"
    )
    assert book >> request(b"other") << denied(Code.PERMISSION_DENIED, "authorize.model")
    assert book.session.told.upstream == [b"digits", b"fraud-1"]
    assert not book.session.told.half_closed
    assert book.session.call.get(CalledModel) == CalledModel("other", "")  # the record shows what was refused


def test_rules_about_models_add_up() -> None:
    rules = [rule(models=["digits"]), rule(models=["text"]), rule("spiffe://example.org/team/b", models=["secret"])]
    for raw, allowed in ((b"digits", True), (b"text", True), (b"digits,text", True), (b"secret", False)):
        assert (run(chain(*rules), INFER, [raw], codec=Names()).denied is None) is allowed


def test_a_rule_without_models_allows_every_message() -> None:
    rules = [rule(models=["digits"]), rule()]
    for raw in (b"other", b"-", b"broken", b"m" * 300):
        session = Session(chain(*rules), INFER, codec=Names())
        session.request(raw)
        session.half_close()
        assert session.told.upstream == [raw]


def test_messages_are_looked_at_only_where_a_rule_names_models() -> None:
    rules = [rule(), rule(methods="/inference.GRPCInferenceService/ModelInfer", models=["digits"])]
    assert chain(*rules).plan(INFER).request_view is View.BYTES
    assert chain(*rules).plan(STREAM).request_view is View.METADATA
    assert chain(*rules).plan(INFER).response_view is View.METADATA


def test_the_called_model_is_put_for_records() -> None:
    session = Session(chain(rule(models=["*"])), STREAM, codec=Names())
    for raw, text in ((b"a", "a"), (b"a@2", "a/2"), (b"b,c", "c")):
        session.request(raw)
        assert session.call.get(CalledModel).text == text


def test_observing_notes_each_denial_and_lets_pass() -> None:
    session = Session(chain(rule(models=["digits"]), observe_only=True), STREAM, codec=Names())
    session.request(b"other")
    assert [denial.reason for denial in session.call.would_deny] == ["authorize.model"]
    session = Session(chain(rule("dns:x", models=["digits"]), observe_only=True), STREAM, codec=Names())
    session.request(b"broken")
    assert session.told.upstream == [b"broken"]
    assert [denial.reason for denial in session.call.would_deny] == ["authorize.no_rule"]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (Rule(("team/a",), ("/**",)), "rules[1].identities[0]"),
        (Rule(("cn:a", "*"), ("/**",)), "rules[1].identities[1]"),
        (Rule(("Spiffe://example.org/a",), ("/**",)), "rules[1].identities[0]"),
        (Rule(("cn:a",), ("**",)), "rules[1].methods[0]"),
        (Rule(("cn:a",), ("/a/b", "inference.X/*")), "rules[1].methods[1]"),
        (Rule(("cn:a",), ("/**",), ("a", "")), "rules[1].models[1]"),
    ],
)
def test_rules_that_cannot_be_read(bad: Rule, field: str) -> None:
    with pytest.raises(RuleError) as caught:
        Authorize([rule(), bad])
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


who = st.text(st.sampled_from("ab/.*"), max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(who, min_size=1, max_size=2), max_size=6), who)
def test_no_rule_that_covers_a_name_is_passed_over(patterns: list[list[str]], name: str) -> None:
    """A decision finds its rules by how names begin: each that would allow is among them, in whatever place."""
    principal = Principal("spiffe", f"spiffe://{name}")
    for at, texts in enumerate(patterns):
        others = [Rule((f"spiffe://{text}",), ("/x.Y/Z",)) for each in patterns for text in each]
        allowing = Rule(tuple(f"spiffe://{text}" for text in texts), ("/a.B/*",))
        call = Call(Method("/a.B/C"), Headers(()), PEER, 0.0)
        call.put(principal)
        covered = any(path_pattern(f"spiffe://{text}").matches(principal.name) for text in texts)
        verdict = Authorize([*others[:at], allowing, *others[at:]]).on_start(call)
        assert verdict == (PASS if covered else NO_RULE)


def test_decisions_are_remembered_within_bounds() -> None:
    link = Authorize([rule()])
    for number in range(MOST_DECISIONS + 10):
        call = Call(Method(f"/a.B/M{number}"), Headers(()), PEER, 0.0)
        call.put(A)
        assert link.on_start(call) == NO_RULE
    assert len(link._decisions) == MOST_DECISIONS


identities = st.sampled_from(["spiffe://example.org/team/a", "spiffe://example.org/**", "dns:a", "cn:*"])
methods = st.sampled_from(["/**", "/a.B/*", "/a.B/C", "/x.Y/Z"])
named = st.none() | st.lists(st.sampled_from(["a", "a*", "b", "*"]), max_size=2).map(tuple)
rules = st.lists(st.builds(Rule, st.tuples(identities), st.tuples(methods), named), max_size=4)


@settings(max_examples=150, deadline=None)
@given(rules, st.data())
def test_a_tighter_set_of_rules_never_allows_more(some: list[Rule], data: st.DataObject) -> None:
    """Taking a rule away, or naming models in it, leaves no message through that was not allowed before."""
    tighter = list(some)
    if some:
        at = data.draw(st.integers(0, len(some) - 1))
        taken = tighter.pop(at)
        if data.draw(st.booleans()):
            models = ("a",) if taken.models is None else taken.models[:1]
            tighter.append(Rule(taken.identities, taken.methods, models))
    messages = data.draw(st.lists(st.sampled_from([b"a", b"ab", b"b", b"a,b", b"-", b""]), max_size=4))
    method = Method(data.draw(st.sampled_from(["/a.B/C", "/x.Y/Z"])))
    loose = run(chain(*some), method, messages, codec=Names())
    tight = run(chain(*tighter), method, messages, codec=Names())
    assert tight.upstream == loose.upstream[: len(tight.upstream)]
    if loose.denied:
        assert tight.denied
    if tight.upstream_headers is not None:
        assert loose.upstream_headers is not None


def test_a_call_ends_well_where_it_is_allowed() -> None:
    links = [known(A), Authorize([rule(models=["digits"])])]
    assert Playbook(links, INFER, codec=Names()) >> request(b"digits") << b"digits" >> end


DEPLOY = Method(
    "/inference.GRPCInferenceService/RepositoryModelLoad", True, True, "models.deploy", ("models.load_files",)
)
SHARED = Method("/inference.GRPCInferenceService/SystemSharedMemoryRegister", True, True, "models.shared_memory")
UNARY = INFER._replace(permission="models.inference", special=("models.shared_memory",))
STREAMED = STREAM._replace(permission="models.inference", special=("models.shared_memory",))
NO_INFERENCE = Deny(Code.PERMISSION_DENIED, "authorize.permission:models.inference", "permission denied")
NO_SHARED_MEMORY = Deny(Code.PERMISSION_DENIED, "authorize.permission:models.shared_memory", "permission denied")


class Demanding(Names):
    """Of a message that begins with "+", what follows demands shared memory as well; "+?" cannot be told."""

    def special(self, raw: bytes) -> tuple[str, ...]:
        if raw == b"+?":
            raise CodecError("cannot be told")
        return ("models.shared_memory",) if raw.startswith(b"+") else ()

    def models(self, raw: bytes, response: bool) -> tuple[ModelName, ...]:
        return super().models(raw.removeprefix(b"+"), response)


def granting(*permissions: str, models: Sequence[str] | None = None) -> Rule:
    return Rule(
        ("spiffe://example.org/team/*",), ("/**",), None if models is None else tuple(models), permissions or None
    )


@pytest.mark.parametrize(
    ("permissions", "method", "denied_for"),
    [
        ((), UNARY, ""),
        ((), Method("/a.B/C"), ""),
        ((), SHARED, "models.shared_memory"),
        ((), INFER._replace(permission="models.trace_settings"), "models.trace_settings"),
        ((), INFER._replace(permission="models.log_settings"), "models.log_settings"),
        ((), INFER._replace(permission="models.load_config"), "models.load_config"),
        ((), INFER._replace(permission="upstream.unknown"), "upstream.unknown"),
        (("models.inference",), UNARY, ""),
        (("models.inference",), DEPLOY, "models.deploy"),
        (("models.inference",), SHARED, "models.shared_memory"),
        (("models.inference",), Method("/a.B/C"), "upstream.opaque"),
        (("models.shared_memory",), SHARED, ""),
        (("models.shared_memory",), UNARY, "models.inference"),
        (("models.*",), SHARED, ""),
        (("models.*",), Method("/a.B/C"), "upstream.opaque"),
        (("models",), UNARY, "models.inference"),
        (("model.*",), UNARY, "models.inference"),
        (("models.infer",), UNARY, "models.inference"),
        (("*",), SHARED, ""),
        (("upstream.opaque",), Method("/a.B/C"), ""),
    ],
)
def test_a_rule_grants_what_it_says(permissions: tuple[str, ...], method: Method, denied_for: str) -> None:
    """One that says nothing grants all but what goes around other checks."""
    told = run(chain(granting(*permissions)), method, [b"m"], codec=Names())
    denial = Deny(Code.PERMISSION_DENIED, f"authorize.permission:{denied_for}", "permission denied")
    assert told.denied == (denial if denied_for else None)


@pytest.mark.parametrize(
    ("rules", "raw", "denial"),
    [
        ([granting()], b"m", None),
        ([granting()], b"+m", NO_SHARED_MEMORY),
        ([granting()], b"+broken", MALFORMED),
        ([granting()], b"+?", MALFORMED),
        ([granting()], b"broken", None),
        ([granting("models.inference", "models.shared_memory")], b"+m", None),
        ([granting(), granting("models.shared_memory")], b"+m", None),
        ([granting(), granting("models.shared_memory", models=["m"])], b"+m", None),
        ([granting(), granting("models.shared_memory", models=["m"])], b"+n", NO_SHARED_MEMORY),
        ([granting(), granting("models.shared_memory", models=["m"])], b"n", None),
        ([granting(), granting("models.shared_memory", models=["*"])], b"+-", NO_SHARED_MEMORY),
        ([granting(models=["m"]), granting("models.shared_memory")], b"+n", NO_MODEL),
        ([granting("models.shared_memory")], b"+m", NO_INFERENCE),
    ],
)  # fmt: skip
def test_what_a_message_demands_beyond_its_method(rules: list[Rule], raw: bytes, denial: Deny | None) -> None:
    told = run(chain(*rules), UNARY, [raw], codec=Demanding())
    assert told.denied == denial
    assert told.upstream == ([] if denial else [raw])


def test_the_second_message_of_a_stream_that_demands_more_is_denied() -> None:
    book = Playbook(chain(granting()), STREAMED, codec=Demanding()) >> request(b"m") << b"m"
    assert book >> request(b"+m") << denied(Code.PERMISSION_DENIED, "authorize.permission:models.shared_memory")
    assert book.session.told.upstream == [b"m"]
    assert book.session.told.reset


def test_messages_are_looked_at_unless_all_is_granted() -> None:
    assert chain(granting()).plan(UNARY).request_view is View.BYTES
    assert chain(granting("models.*")).plan(UNARY).request_view is View.METADATA
    assert chain(granting("models.*", models=["m"])).plan(UNARY).request_view is View.BYTES
    assert chain(granting("models.*"), rule()).plan(UNARY).request_view is View.BYTES
    assert chain(granting("models.*"), rule(methods="/a.B/*")).plan(UNARY).request_view is View.METADATA
    assert chain(granting()).plan(Method("/a.B/C")).request_view is View.METADATA


def test_observing_notes_what_is_missing() -> None:
    session = Session(chain(granting(), observe_only=True), STREAMED, codec=Demanding())
    for raw in (b"+m", b"+?"):
        session.request(raw)
    assert [denial.reason for denial in session.call.would_deny] == [
        "authorize.permission:models.shared_memory", "authorize.malformed",
    ]  # fmt: skip
    assert session.told.upstream == [b"+m", b"+?"]
    session = Session(chain(rule("dns:x"), observe_only=True), STREAMED, codec=Demanding())
    session.request(b"+?")
    assert session.told.upstream == [b"+?"]


permissions = st.sampled_from(["models.inference", "models.shared_memory", "models.*", "*"])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(permissions, max_size=2), max_size=3),
    st.lists(st.sampled_from([b"m", b"+m", b"+n"]), min_size=1, max_size=3),
)  # fmt: skip
def test_a_rule_less_never_grants_more(lists: list[list[str]], messages: list[bytes]) -> None:
    some = [granting(*each) for each in lists]
    loose = run(chain(*some), STREAMED, messages, codec=Demanding())
    tight = run(chain(*some[1:]), STREAMED, messages, codec=Demanding())
    assert tight.upstream == loose.upstream[: len(tight.upstream)]


@pytest.mark.parametrize(
    ("before", "now", "keeps"),
    [
        ([granting()], [granting()], True),
        ([granting(models=["m"])], [granting()], True),
        ([granting()], [granting(models=["m"])], False),
        ([granting("models.*")], [granting()], False),
        ([granting()], [granting("models.*")], True),
        ([granting("models.*")], [granting("models.*", models=["m"])], False),
        ([granting("models.*")], [granting(), granting("models.shared_memory", models=["m"])], False),
    ],
)
def test_whether_who_was_let_in_may_go_on(before: list[Rule], now: list[Rule], keeps: bool) -> None:
    earlier, later = permit(before), permit(now)
    assert later.keeps(earlier) is keeps
    assert later.keeps(later)
    assert permit([granting()]).keeps(None)
    assert not permit([granting(models=["m"])]).keeps(None)


def permit(rules: list[Rule]) -> Permit:
    call = Call(UNARY, Headers(()), PEER, 0.0)
    call.put(A)
    assert Authorize(rules).on_start(call) == PASS
    return call.get(Permit)
