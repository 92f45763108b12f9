"""What holders of API keys may do: what their keys permit, whatever rules say."""

from __future__ import annotations

from typing import Any

import pytest

from interceptors.access import INFERENCE, LOAD_FILES, READ, SHARED_MEMORY
from interceptors.authorize import Authorize, Rule
from interceptors.chain import Chain
from interceptors.contract import PASS, Call, Code, Interceptor, Method, ModelName, NoCodec, View
from interceptors.facts import KeyGrant, Principal
from tests.interceptors.links import scripted
from tests.playbook import PEER, Playbook, denied, request, run

INFER = Method("/inference.GRPCInferenceService/ModelInfer", True, True, INFERENCE, (SHARED_MEMORY,))
STREAM = Method("/inference.GRPCInferenceService/ModelStreamInfer", permission=INFERENCE)
METADATA = Method("/inference.GRPCInferenceService/ModelMetadata", True, True, READ)
OPAQUE = Method("/a.B/C", True, True)
EVERYBODY = Rule(("key:*",), ("/**",))


class Names(NoCodec):
    """A message is models by commas; with "!" behind, it demands shared memory as well."""

    def models(self, raw: bytes, response: bool) -> tuple[ModelName, ...]:
        names = raw.removesuffix(b"!").decode()
        return tuple(map(ModelName, names.split(","))) if names else ()

    def special(self, raw: bytes) -> tuple[str, ...]:
        return (SHARED_MEMORY,) if raw.endswith(b"!") else ()


def chain(*facts: object, rules: tuple[Rule, ...] = (), who: str = "key:k1") -> Chain:
    def on_start(call: Call) -> object:
        call.put(Principal("key", who))
        for fact in facts:
            call.put(fact)
        return PASS

    known: Interceptor = scripted("known", View.METADATA, gives=frozenset({Principal}), on_start=on_start)
    return Chain([known, Authorize(rules, keys=True)])


def reason(grant: KeyGrant, method: Method, message: bytes, **more: Any) -> str:
    told = run(chain(grant), method, [message], [b"r"], codec=Names(), peer=PEER, **more)
    return told.denied.reason if told.denied else ""


@pytest.mark.parametrize(
    ("permissions", "resources", "method", "message", "expected"),
    [
        ([INFERENCE], [], INFER, b"m", ""),
        ([INFERENCE], ["**"], INFER, b"m", ""),
        (["models.*"], [], INFER, b"m", ""),
        (["*"], [], OPAQUE, b"", ""),
        ([READ], [], INFER, b"m", "authorize.permission:models.inference"),
        (["models"], [], INFER, b"m", "authorize.permission:models.inference"),
        (["mod*"], [], INFER, b"m", "authorize.permission:models.inference"),
        ([INFERENCE], [], METADATA, b"m", "authorize.permission:models.read"),
        ([INFERENCE], [], OPAQUE, b"", "authorize.permission:upstream.opaque"),
        ([INFERENCE], ["models/fraud-*"], INFER, b"fraud-2", ""),
        ([INFERENCE], ["models/**"], INFER, b"m", ""),
        ([INFERENCE], ["models/fraud-*"], INFER, b"other", "authorize.model"),
        ([INFERENCE], ["models/fraud-*"], INFER, b"fraud-2,other", "authorize.model"),
        ([INFERENCE], ["models/fraud-*"], INFER, b"", "authorize.model"),
        ([INFERENCE], ["models/a", "models/b"], INFER, b"b,a", ""),
        ([INFERENCE], ["models/m/versions/2"], INFER, b"m", "authorize.model"),
        ([INFERENCE], ["datasets/m"], INFER, b"m", "authorize.model"),
        ([INFERENCE], ["tenants/other/models/m"], INFER, b"m", "authorize.model"),
        ([INFERENCE], ["models/a**"], INFER, b"ab", "authorize.model"),
        ([INFERENCE], [], INFER, b"m!", "authorize.permission:models.shared_memory"),
        ([INFERENCE, SHARED_MEMORY], [], INFER, b"m!", ""),
        ([INFERENCE, LOAD_FILES], [], INFER, b"m!", "authorize.permission:models.shared_memory"),
        ([INFERENCE, SHARED_MEMORY], ["models/a"], INFER, b"b!", "authorize.model"),
    ],
)
def test_a_key_is_for_what_it_permits(
    permissions: list[str], resources: list[str], method: Method, message: bytes, expected: str
) -> None:
    assert reason(KeyGrant(tuple(permissions), tuple(resources)), method, message) == expected


def test_every_message_of_a_stream_is_held_against_it() -> None:
    book = Playbook(chain(KeyGrant((INFERENCE,), ("models/a",))), STREAM, codec=Names())
    assert book >> request(b"a") << b"a" >> request(b"b") << denied(Code.PERMISSION_DENIED, "authorize.model")


def test_rules_add_nothing_to_a_key() -> None:
    links = chain(KeyGrant((READ,), ()), rules=(EVERYBODY,))
    told = run(links, INFER, [b"m"], codec=Names())
    assert told.denied is not None
    assert told.denied.reason == "authorize.permission:models.inference"


def test_a_holder_whose_key_says_nothing_may_do_nothing() -> None:
    told = run(chain(rules=(EVERYBODY,)), INFER, [b"m"], codec=Names())
    assert told.denied is not None
    assert told.denied.reason == "authorize.no_rule"


def test_two_keys_of_one_name_are_not_taken_for_each_other() -> None:
    """Whoever holds the second has what the second permits."""
    permits = [KeyGrant((INFERENCE,), ()), KeyGrant((READ,), ())]
    link = Authorize((), keys=True)
    reasons = []
    for grant in permits:

        def on_start(call: Call, grant: KeyGrant = grant) -> object:
            call.put(Principal("key", "key:k1"))
            call.put(grant)
            return PASS

        known = scripted("known", View.METADATA, gives=frozenset({Principal}), on_start=on_start)
        told = run(Chain([known, link]), INFER, [b"m"], codec=Names())
        reasons.append(told.denied.reason if told.denied else "")
    assert reasons == ["", "authorize.permission:models.inference"]
