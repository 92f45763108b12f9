"""The `limit` link over scripted calls of all four shapes, with a ledger that holds its buckets in a dict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from interceptors.chain import Chain
from interceptors.contract import (
    PASS,
    Call,
    Code,
    CodecError,
    Deny,
    Detail,
    Interceptor,
    Method,
    ModelName,
    NoCodec,
    Peer,
    Verdict,
    View,
)
from interceptors.facts import Principal
from interceptors.ledger import TAKEN, Bucket, Charge, TakeAll, Taken
from interceptors.limit import MOST_MODELS, Budget, Limit, OwnBudget, network_of
from interceptors.retry import retry_info
from tests.playbook import PEER, Playbook, denied, end, half_close, nothing, request, response, run

DAY_S = 86400
UNARY = Method("/a.B/Unary", True, True)
SERVER = Method("/a.B/Server", True, False)
CLIENT = Method("/a.B/Client", False, True)
BOTH = Method("/a.B/Both", False, False)
SHAPES = [UNARY, SERVER, CLIENT, BOTH]
PATHS = [method.path for method in SHAPES]


@dataclass
class Ledger:
    """Buckets that never refill. broken: what it answers instead."""

    broken: Taken | None = None
    taken: Counter[bytes] = field(default_factory=Counter)

    def take_all(self, charges: Sequence[Charge]) -> Taken:
        assert charges
        assert len({charge.key for charge in charges}) == len(charges)
        if self.broken:
            return self.broken
        for at, (key, bucket, cost) in enumerate(charges):
            if cost > bucket.burst:
                return Taken("too_large", at)
            if self.taken[key] + cost > bucket.burst:
                return Taken("exceeded", at, 1.5, bucket.burst - self.taken[key])
        for key, _, cost in charges:
            self.taken[key] += cost
        return TAKEN

    def fold(self, name: bytes, into: int) -> int:
        return sum(name) % into


class Words(NoCodec):
    """Messages of words: a model of each that begins with m, a batch of each that is a number; b"?" is malformed."""

    def models(self, raw: bytes, response: bool) -> tuple[ModelName, ...]:
        return tuple(ModelName(word.decode(), "1") for word in read(raw) if word[:1] == b"m")

    def batch(self, raw: bytes) -> int:
        return max([int(word) for word in read(raw) if word.isdigit()], default=1)


def read(raw: bytes) -> list[bytes]:
    if raw == b"?":
        raise CodecError("malformed")
    return raw.split()


class Known(Interceptor):
    """Gives every call the same principal, or none at all, and what its credential brings along."""

    name = "known"
    gives = frozenset({Principal})

    def __init__(self, who: str = "spiffe://example.org/a", *also: object) -> None:
        self.who = who
        self.also = also

    def on_start(self, call: Call) -> Verdict:
        if not self.who:
            return Deny(Code.UNAUTHENTICATED, "known.nobody")
        call.put(Principal("spiffe", self.who))
        for fact in self.also:
            call.put(fact)
        return PASS


def budget(name: str = "b", burst: int = 2, per: Any = ("identity",), **more: Any) -> Budget:
    return Budget(name, Bucket(burst, DAY_S, burst), per, **more)


def chain(ledger: Ledger, *budgets: Budget, who: str = "spiffe://example.org/a", observe: bool = False) -> Chain:
    return Chain([Known(who), Limit(budgets, ledger, PATHS, ["m-own"])], observe)


def calls(links: Chain, method: Method = UNARY, *requests: bytes, peer: Peer | None = None) -> str:
    """A whole call with these requests; the reason of its denial, or ""."""
    told = run(links, method, requests or (b"m",), (b"r",), codec=Words(), peer=peer or PEER)
    return told.denied.reason if told.denied else ""


@pytest.mark.parametrize("method", SHAPES, ids=lambda method: method.path)
def test_a_third_call_of_any_shape_is_refused(method: Method) -> None:
    links = chain(Ledger(), budget())
    assert [calls(links, method) for _ in range(4)] == ["", "", "limit.b", "limit.b"]


@pytest.mark.parametrize("method", [CLIENT, BOTH], ids=lambda method: method.path)
def test_every_message_of_a_stream_counts(method: Method) -> None:
    book = Playbook(chain(Ledger(), budget(burst=3)), method)
    refused = denied(Code.RESOURCE_EXHAUSTED, "limit.b")
    assert book >> request(b"1") << b"1" >> request(b"2") << b"2" >> request(b"3") << b"3" >> request(b"4") << refused


def test_a_stream_without_a_message_counts_as_one() -> None:
    links = chain(Ledger(), budget())
    for _ in range(2):
        assert Playbook(links, BOTH) >> half_close << nothing >> end
    assert Playbook(links, BOTH) >> half_close << denied(Code.RESOURCE_EXHAUSTED, "limit.b")


def test_answers_pass_uncounted() -> None:
    book = Playbook(chain(Ledger(), budget(burst=1)), SERVER) >> request(b"q") << b"q" >> half_close
    assert book >> response(b"1") << b"1" >> response(b"2") << b"2" >> end


def test_the_denial_says_when_to_come_again() -> None:
    links = chain(Ledger(), budget("free-tier", 1))
    calls(links)
    told = run(links, UNARY, [b"m"])
    assert told.denied is not None
    assert (told.status, told.message) == (Code.RESOURCE_EXHAUSTED, "rate limit exceeded")
    assert told.denied.details == (Detail("type.googleapis.com/google.rpc.RetryInfo", retry_info(1500)),)
    assert told.denied.trailers == (
        (b"grpc-retry-pushback-ms", b"1500"),
        (b"ratelimit-policy", b'"free-tier";q=1;w=86400;qu="requests"'),
        (b"ratelimit", b'"free-tier";r=0;t=2'),
    )


@pytest.mark.parametrize(
    ("weight", "raw", "costs"),
    [
        ("calls", b"m 8", 1),
        ("bytes", b"m 8", 3),
        ("bytes", b"", 1),
        ("batch", b"m 8", 8),
        ("batch", b"m", 1),
        ("batch", b"m 0", 1),
    ],
)
def test_weights(weight: Any, raw: bytes, costs: int) -> None:
    ledger = Ledger()
    assert calls(chain(ledger, budget(burst=10, weight=weight)), UNARY, raw) == ""
    assert list(ledger.taken.values()) == [costs]


@pytest.mark.parametrize("weight", ["bytes", "batch"])
def test_what_is_above_the_burst_never_passes_and_is_not_told_to_come_again(weight: Any) -> None:
    told = run(chain(Ledger(), budget(burst=10, weight=weight)), UNARY, [b"m 11" + b" " * 9], codec=Words())
    assert told.denied is not None
    assert (told.denied.code, told.denied.reason) == (Code.RESOURCE_EXHAUSTED, "limit.too_large")
    assert (told.denied.details, told.denied.trailers) == ((), ())


@pytest.mark.parametrize(
    ("refusal", "reason"), [("ledger_full", "limit.ledger_full"), ("ledger_busy", "limit.ledger_busy")]
)
def test_a_ledger_that_cannot_tell_refuses(refusal: Any, reason: str) -> None:
    links = chain(Ledger(Taken(refusal)), budget())
    assert Playbook(links, UNARY) >> request(b"m") << denied(Code.UNAVAILABLE, reason)


@pytest.mark.parametrize("method", SHAPES, ids=lambda method: method.path)
@pytest.mark.parametrize("budgets", [[budget(burst=1)], [budget(burst=1, weight="bytes")]], ids=["calls", "bytes"])
def test_a_busy_ledger_is_asked_again_with_patience(method: Method, budgets: list[Budget]) -> None:
    busy, free = Ledger(Taken("ledger_busy")), Ledger()

    def answer(question: TakeAll) -> Taken:
        return free.take_all(question.charges)

    links, answers = chain(busy, *budgets), {TakeAll: answer}
    told = run(links, method, [b"m"], [b"r"], codec=Words(), answers=answers)
    assert (told.status, told.upstream, told.client) == (0, [b"m"], [b"r"])
    assert list(free.taken.values()) == [1]
    told = run(links, method, [b"m"], [b"r"], codec=Words(), answers=answers)
    assert told.denied is not None
    assert (told.denied.code, told.denied.reason) == (Code.RESOURCE_EXHAUSTED, "limit.b")
    told = run(links, method, [b"m"], [b"r"], codec=Words(), answers={TakeAll: lambda question: Taken("ledger_busy")})
    assert told.denied is not None
    assert (told.denied.code, told.denied.reason) == (Code.UNAVAILABLE, "limit.ledger_busy")


@pytest.mark.parametrize("method", SHAPES, ids=lambda method: method.path)
def test_a_call_that_one_budget_refuses_takes_from_none(method: Method) -> None:
    ledger = Ledger()
    links = chain(ledger, budget("many", 100), budget("few", 1, ("method",)))
    assert [calls(links, method) for _ in range(5)] == ["", *["limit.few"] * 4]
    assert sorted(ledger.taken.values()) == [1, 1]


def test_nor_does_a_unary_call_whose_message_is_refused() -> None:
    ledger = Ledger()
    links = chain(ledger, budget("many", 100), budget("model", 1, ("model",)), budget("bytes", 3, weight="bytes"))
    assert [calls(links, UNARY, raw) for raw in (b"m1", b"m1", b"m2 ..", b"?")] == [
        "", "limit.model", "limit.too_large", "limit.malformed_message",
    ]  # fmt: skip
    assert sorted(ledger.taken.values()) == [1, 1, 2]


@pytest.mark.parametrize(
    ("per", "distinct"),
    [
        (("identity",), 2),
        (("method",), 2),
        (("source",), 2),
        (("model",), 2),
        (("identity", "method"), 4),
        (("identity", "method", "model", "source"), 16),
    ],
)
def test_each_combination_has_a_bucket(per: Any, distinct: int) -> None:
    ledger = Ledger()
    for who in ("spiffe://example.org/a", "spiffe://example.org/b"):
        links = chain(ledger, budget(burst=100, per=per), who=who)
        for method in (UNARY, SERVER):
            for model in (b"m1", b"m2"):
                for source in ("192.0.2.1", "192.0.2.2"):
                    assert calls(links, method, model, peer=Peer(f"{source}:1", source)) == ""
    assert len(ledger.taken) == distinct
    assert sum(ledger.taken.values()) == 16


def test_every_model_of_a_message_is_charged_once() -> None:
    ledger = Ledger()
    assert calls(chain(ledger, budget(per=("model",))), UNARY, b"m1 m2 m1") == ""
    assert sorted(ledger.taken.values()) == [1, 1]
    assert calls(chain(Ledger(), budget(per=("model",))), UNARY, b"no such word") == ""


def test_the_names_of_too_many_models_are_refused() -> None:
    links = chain(Ledger(), budget(per=("model",)))
    raw = b" ".join(b"m%d" % number for number in range(MOST_MODELS + 1))
    assert (
        Playbook(links, UNARY, codec=Words()) >> request(raw) << denied(Code.INVALID_ARGUMENT, "limit.too_many_models")
    )


@pytest.mark.parametrize(
    ("only", "who", "method", "raw", "charged"),
    [
        ({"identities": ("spiffe://example.org/*",)}, "spiffe://example.org/a", UNARY, b"m", 1),
        ({"identities": ("spiffe://example.org/*",)}, "spiffe://example.com/a", UNARY, b"m", 0),
        ({"methods": ("/a.B/*",)}, "spiffe://example.org/a", UNARY, b"m", 1),
        ({"methods": ("/a.C/*",)}, "spiffe://example.org/a", UNARY, b"m", 0),
        ({"models": ("m-*",)}, "spiffe://example.org/a", UNARY, b"m-1 m-2", 1),
        ({"models": ("m-*",)}, "spiffe://example.org/a", UNARY, b"m1", 0),
        ({"models": ("m-*",), "per": ("model",)}, "spiffe://example.org/a", UNARY, b"m-1 m-2 m3", 2),
    ],
)
def test_where_a_budget_applies(only: dict[str, Any], who: str, method: Method, raw: bytes, charged: int) -> None:
    ledger = Ledger()
    assert calls(chain(ledger, budget(**only), who=who), method, raw) == ""
    assert sum(ledger.taken.values()) == charged


def test_callers_cannot_add_buckets_without_bound() -> None:
    ledger = Ledger()
    links = chain(ledger, budget("method", 10**6, ("method",)), budget("model", 10**6, ("model",)))
    for number in range(3000):
        assert calls(links, Method(f"/a.B/Unknown{number}"), b"m-own m%d" % number) == ""
    methods = [key for key in ledger.taken if b"6:method" in key]
    assert len(methods) == 1  # all unknown methods are one
    assert len(ledger.taken) - len(methods) <= 1 + 1024
    (own,) = [key for key in ledger.taken if b"=m-own" in key]
    assert ledger.taken[own] == 3000  # what the config names stands alone


def test_keys_are_unmistakable() -> None:
    ledger = Ledger()
    for per, who, source in [
        (("identity", "source"), "spiffe://example.org/a", "b"),
        (("identity", "source"), "spiffe://example.org/a1:b", ""),
        (("source",), "spiffe://example.org/a", "default/spiffe://example.org/a1:b"),
    ]:
        assert calls(chain(ledger, budget(per=per), who=who), peer=Peer("x", source)) == ""
    assert len(ledger.taken) == 3


@pytest.mark.parametrize(
    ("source", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_sources(source: str, network: str) -> None:
    assert network_of(source) == network


def test_a_chain_that_observes_counts_the_unknown_as_one_and_refuses_nobody() -> None:
    ledger = Ledger()
    links = chain(ledger, budget(burst=1), who="", observe=True)
    assert [calls(links) for _ in range(3)] == ["", "", ""]
    assert list(ledger.taken.values()) == [1]


@pytest.mark.parametrize(
    ("budgets", "depths"),
    [
        ([budget()], [None, None, View.BYTES, View.BYTES]),
        ([budget(per=("method", "source"))], [None, None, View.BYTES, View.BYTES]),
        ([budget(per=("model",))], [View.BYTES] * 4),
        ([budget(weight="bytes")], [View.BYTES] * 4),
        ([budget(weight="batch", methods=(UNARY.path,))], [View.BYTES, None, None, None]),
        ([], [None] * 4),
    ],
)
def test_it_looks_no_deeper_than_its_budgets_need(budgets: list[Budget], depths: list[View | None]) -> None:
    link = Limit(budgets, Ledger())
    assert [link.depth(method, frozenset()) for method in SHAPES] == depths


def test_the_clock_of_the_call_plays_no_part() -> None:
    links = chain(Ledger(), budget(burst=1))
    assert calls(links) == ""
    for step_s in (3600.0, -3600.0):
        book = Playbook(links, UNARY)
        book.session.call.now += step_s
        assert book >> request(b"m") << denied(Code.RESOURCE_EXHAUSTED, "limit.b")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Limit([budget(), budget()], Ledger()), "each name of a budget once"),
        (lambda: Limit([budget(methods=("",))], Ledger()), "pattern has 0 characters"),
    ],
)
def test_budgets_that_say_nothing_are_refused(make: Callable[[], Limit], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make()


def bringing(ledger: Ledger, burst: int, *budgets: Budget, line: str = "k1") -> Chain:
    own = OwnBudget.of("api-key", Bucket(burst, DAY_S, burst), "default", line)
    return Chain([Known("key:k1", own), Limit(budgets, ledger, PATHS, own=True)])


@pytest.mark.parametrize("method", SHAPES, ids=lambda method: method.path)
def test_a_budget_that_a_credential_brings_along_is_charged_for_calls_of_any_shape(method: Method) -> None:
    links = bringing(Ledger(), 2)
    assert [calls(links, method) for _ in range(3)] == ["", "", "limit.api-key"]


def test_every_message_of_a_stream_counts_towards_it() -> None:
    book = Playbook(bringing(Ledger(), 2), BOTH)
    refused = denied(Code.RESOURCE_EXHAUSTED, "limit.api-key")
    assert book >> request(b"1") << b"1" >> request(b"2") << b"2" >> request(b"3") << refused


def test_it_stands_beside_those_of_the_config_and_what_one_refuses_takes_from_none() -> None:
    ledger = Ledger()
    links = bringing(ledger, 2, budget(burst=3), budget("bytes", 100, weight="bytes"))
    assert [calls(links) for _ in range(3)] == ["", "", "limit.api-key"]
    assert sorted(ledger.taken.values()) == [2, 2, 2]  # two calls, and a byte of each


def test_another_credentials_budget_is_another() -> None:
    ledger = Ledger()
    assert calls(bringing(ledger, 1)) == calls(bringing(ledger, 1, line="k2")) == ""
    assert calls(bringing(ledger, 1)) == "limit.api-key"


def test_without_one_nothing_is_charged() -> None:
    ledger = Ledger()
    links = Chain([Known(), Limit((), ledger, PATHS, own=True)])
    assert [calls(links, method) for method in SHAPES] == ["", "", "", ""]
    assert not ledger.taken
