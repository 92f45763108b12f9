"""Sequences of requests are their caller's own, however an id is spelt; answers tell callers their own ids."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interceptors.chain import Chain
from interceptors.contract import PASS, Call, Code, Deny, Interceptor, Method, Parameter, View
from interceptors.facts import Principal
from interceptors.sequences import KEY, MOST_NAMED, Sequences, own
from sidecar.relay.codecs.registry import registry
from tests.interceptors.links import scripted
from tests.playbook import METHOD, Session
from tests.relay.codecs.inference import ORACLE, entry, field

CODECS = registry("open-inference")
OIP = "/inference.GRPCInferenceService/"
UNARY, STREAM = OIP + "ModelInfer", OIP + "ModelStreamInfer"
NAME = "sequence_id"
A = Principal("spiffe", "spiffe://example.org/a")
B = Principal("spiffe", "spiffe://example.org/b")
SECRET = bytes(range(KEY))


def known(principal: Principal | None) -> Interceptor:
    def on_start(call: Call) -> object:
        if principal is not None:
            call.put(principal)
        return PASS

    return scripted(
        "known", View.METADATA, gives=frozenset({Principal}) if principal else frozenset(), on_start=on_start
    )


def session(
    path: str = UNARY, principal: Principal | None = A, secret: bytes = SECRET, observe_only: bool = False
) -> Session:
    method = CODECS.method(path)
    assert method is not None
    return Session(Chain([known(principal), Sequences(secret)], observe_only), method, codec=CODECS.codec(path))


def infer(kind: str, value: Any, **more: Any) -> bytes:
    raw: bytes = ORACLE["Request"](model_name="m", parameters={NAME: {kind: value}}, **more).SerializeToString()
    return raw


def answer(kind: str, value: Any) -> bytes:
    raw: bytes = ORACLE["Response"](model_name="m", parameters={NAME: {kind: value}}).SerializeToString()
    return raw


def upstream(kind: str, value: Any, principal: Principal = A, secret: bytes = SECRET) -> Any:
    """The id with which a model server sees what `principal` calls `value`; all else is as it was."""
    before = infer(kind, value, id="42", raw_input_contents=[b"data"])
    one = session(principal=principal, secret=secret)
    one.request(before)
    one.half_close()
    assert one.told.denied is None
    (raw,) = one.told.upstream
    seen, expected = ORACLE["Request"].FromString(raw), ORACLE["Request"].FromString(before)
    assert seen.parameters[NAME].WhichOneof("parameter_choice") == kind
    got = getattr(seen.parameters[NAME], kind)
    expected.parameters[NAME].CopyFrom(seen.parameters[NAME])
    assert seen == expected
    return got


@pytest.mark.parametrize(
    ("kind", "value"), [("int64_param", 42), ("uint64_param", 1 << 63), ("string_param", "42"), ("int64_param", -1)]
)
def test_each_principal_has_ids_of_its_own(kind: str, value: Any) -> None:
    others = [
        B,
        Principal("spiffe", A.name, "other"),
        Principal("spiffe", "a", A.name),
    ]
    mine = upstream(kind, value)
    assert mine == upstream(kind, value)  # the same in another call, connection or worker
    assert mine == upstream(kind, value, Principal("spiffe", A.name, roles=frozenset({"r"})))
    assert len({mine, value, *(upstream(kind, value, other) for other in others)}) == 2 + len(others)
    assert mine != upstream(kind, value, secret=bytes(KEY))


@pytest.mark.parametrize(("kind", "value"), [("int64_param", 0), ("uint64_param", 0), ("string_param", "")])
def test_what_says_that_there_is_none_stays(kind: str, value: Any) -> None:
    one = session()
    raw = infer(kind, value)
    one.request(raw)
    one.half_close()
    assert one.told.upstream == [raw]


identifiers = st.one_of(st.integers(1, (1 << 64) - 1), st.text(min_size=1, max_size=200))
principals = st.builds(
    Principal, st.just("dns"), st.text("ab:/", max_size=4), st.text("ab:/", max_size=4)
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(principals, identifiers), max_size=8))
def test_no_two_meet_and_each_keeps_its_type(some: list[tuple[Principal, Parameter]]) -> None:
    found: dict[Parameter, tuple[Principal, Parameter]] = {}
    for who, said in some:
        given = own(SECRET, who, said)
        if isinstance(said, int):
            assert isinstance(given, int)
            assert 0 < given < 1 << 63
        else:
            assert isinstance(given, str)
            assert len(given) == 32
        assert given == own(SECRET, who, said)
        assert found.setdefault(given, (who, said)) == (who, said)


def test_a_number_is_one_however_it_is_spelt() -> None:
    """Triton takes both for the same 64 bits."""
    assert upstream("int64_param", 7) == upstream("uint64_param", 7)
    assert upstream("int64_param", 7) != int(upstream("string_param", "7"), 16)


@pytest.mark.parametrize(
    "parameters",
    [
        field(4, field(1, b"sequence_id")),
        field(4, entry(b"sequence_id", b"\x08\x01")),
        field(4, entry(b"sequence_id", b"\x10\x07")) * 2,
        field(4, entry(b"sequence_id", b"\x10\x07\x1a\x01s")),
        field(4, field(1, b"sequence_id") + field(1, b"x") + field(2, b"\x10\x07")),
    ],
)
def test_an_id_that_cannot_be_told_is_refused(parameters: bytes) -> None:
    one = session(STREAM)
    one.request(infer("int64_param", 7))
    one.request(field(1, b"m") + parameters)
    assert one.told.denied == Deny(Code.INVALID_ARGUMENT, "sequences.malformed", "request message cannot be read")
    assert len(one.told.upstream) == 1


@pytest.mark.parametrize(("kind", "value"), [("int64_param", 42), ("string_param", "mine")])
def test_callers_hear_their_own_ids_again(kind: str, value: Any) -> None:
    one = session()
    one.request(infer(kind, value))
    one.half_close()
    given = getattr(ORACLE["Request"].FromString(one.told.upstream[0]).parameters[NAME], kind)
    one.response(answer(kind, given))
    one.trailers()
    assert one.told.client == [answer(kind, value)]
    assert one.told.denied is None


def test_a_stream_hears_each_of_its_sequences_and_no_other() -> None:
    one = session(STREAM)
    for value in (1, 2):
        one.request(infer("int64_param", value))
    first, second = (ORACLE["Request"].FromString(raw).parameters[NAME].int64_param for raw in one.told.upstream)
    for said in (second, first, 5, 0):
        one.response(answer("uint64_param", said))
    heard = [ORACLE["Response"].FromString(raw).parameters for raw in one.told.client]
    assert [each[NAME].uint64_param if NAME in each else None for each in heard] == [2, 1, None, 0]
    bare = {"model_name": "m", "parameters": {NAME: {"int64_param": first}}}
    one.response(ORACLE["StreamResponse"](infer_response=bare).SerializeToString())
    assert ORACLE["StreamResponse"].FromString(one.told.client[-1]).infer_response.parameters[NAME].int64_param == 1


def test_an_answer_that_cannot_be_read_is_not_passed_on() -> None:
    one = session(STREAM)
    one.request(infer("int64_param", 1))
    one.response(field(4, entry(b"sequence_id", b"\x10\x07")) * 2 + field(5, b""))
    denied = Deny(Code.INTERNAL, "sequences.malformed_answer", "response message cannot be read")
    assert (one.told.denied, one.told.client) == (denied, [])


def test_answers_to_who_named_no_sequence_are_left_alone() -> None:
    """Triton's ensembles say `sequence_id: 0` in every answer; another server may give out ids."""
    one = session()
    one.request(raw := ORACLE["Request"](model_name="m").SerializeToString())
    one.half_close()
    one.response(answer("int64_param", 5))
    one.trailers()
    assert (one.told.upstream, one.told.client) == ([raw], [answer("int64_param", 5)])


def test_answers_are_looked_at_only_where_a_sequence_is_named() -> None:
    for named, view in ((True, View.BYTES), (False, View.METADATA)):
        one = session()
        one.request(infer("int64_param", 1) if named else ORACLE["Request"](model_name="m").SerializeToString())
        assert one.plan.answers_view(one.call) is view
    # The answers to a stream may come before its requests.
    assert session(STREAM).plan.answers_view(session(STREAM).call) is View.BYTES


def test_what_is_remembered_of_a_stream_is_bounded() -> None:
    one = session(STREAM)
    for value in range(1, MOST_NAMED + 2):
        one.request(infer("int64_param", value))
    first, last = (ORACLE["Request"].FromString(one.told.upstream[at]).parameters[NAME].int64_param for at in (0, -1))
    for said in (first, last):
        one.response(answer("int64_param", said))
    heard = [ORACLE["Response"].FromString(raw).parameters for raw in one.told.client]
    assert [each[NAME].int64_param if NAME in each else None for each in heard] == [None, MOST_NAMED + 1]


def test_only_methods_that_can_carry_it_are_looked_at() -> None:
    link = Sequences(SECRET)
    looked = {path for path in CODECS.paths if link.depth(CODECS.method(path) or METHOD, frozenset()) is not None}
    assert looked == {UNARY, STREAM}
    assert link.depth(Method("/a.B/C"), frozenset()) is None


def test_a_chain_that_only_observes_lets_strangers_say_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sequences, "needs", frozenset())
    one = session(principal=None, observe_only=True)
    one.request(raw := infer("int64_param", 7))
    one.half_close()
    assert one.told.upstream == [raw]


def test_a_key_of_another_size() -> None:
    with pytest.raises(ValueError, match="expected a key of 32 bytes, got 16"):
        Sequences(bytes(16))
