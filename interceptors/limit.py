"""How much a caller may call: budgets by identity, method, model or source, kept in a ledger that workers share.

Every message is checked against every budget that applies, and takes from all of them or from none. Where the call's
headers say all that a budget needs to know, a unary call is charged before its message is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil
from typing import Final, Literal, NamedTuple, TypeAlias

from interceptors import retry
from interceptors.bounded import Bounded
from interceptors.contract import (
    PASS,
    AnswerError,
    Call,
    Code,
    CodecError,
    Deny,
    Hook,
    Interceptor,
    Message,
    Method,
    Steps,
    Verdict,
    View,
    ask,
)
from interceptors.facts import Principal
from interceptors.ledger import Bucket, Charge, Ledger, TakeAll, Taken
from interceptors.patterns import Pattern, name_pattern, path_pattern

Part: TypeAlias = Literal["identity", "method", "model", "source"]
Weight: TypeAlias = Literal["calls", "bytes", "batch"]

MOST_REMEMBERED: Final = 4096  # methods, sources and models, each; callers choose them
MOST_MODELS: Final = 64  # that one message may name, for each costs a lock
# Bounds what callers add to the ledger: of models that only a pattern allows, several may share a bucket.
MODEL_BUCKETS: Final = 1024
ANYBODY: Final = "anonymous"  # a chain that only observes lets callers without an identity come this far
ANY_METHOD: Final = "*"  # no method's path

PUBLIC: Final = "rate limit exceeded"
UNREADABLE: Final = Deny(Code.INVALID_ARGUMENT, "limit.malformed_message", "request message cannot be read")
MANY_MODELS: Final = Deny(Code.INVALID_ARGUMENT, "limit.too_many_models", "request message names too many models")
TOO_LARGE: Final = Deny(Code.RESOURCE_EXHAUSTED, "limit.too_large", "request is larger than its rate limit can allow")
FULL: Final = Deny(Code.UNAVAILABLE, "limit.ledger_full", "rate limits cannot be kept at the moment")
BUSY: Final = Deny(Code.UNAVAILABLE, "limit.ledger_busy", "rate limits cannot be kept at the moment")
CANNOT: Final = {"too_large": TOO_LARGE, "ledger_full": FULL, "ledger_busy": BUSY}


@dataclass(frozen=True, slots=True)
class Budget:
    """A bucket for each combination of what `per` names.

    name: stable, of [a-z0-9.-]; denials give `limit.<name>` as their reason, and the buckets are kept under it.
    identities, methods, models: patterns, as of `authorize.Rule`, to which it applies; None is all.
    """

    name: str
    bucket: Bucket
    per: tuple[Part, ...]
    weight: Weight = "calls"
    identities: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class OwnBudget:
    """A fact: a budget that a credential brings along, charged as one of calls."""

    budget: Budget
    charge: Charge

    @classmethod
    def of(cls, name: str, bucket: Bucket, *parts: str) -> OwnBudget:
        """name: as of Budget, and no other budget's.  parts: what the bucket is kept under."""
        return cls(Budget(name, bucket, ()), Charge(_key((name, *parts)), bucket, 1))


class Limit(Interceptor):
    """Denies RESOURCE_EXHAUSTED what is beyond a budget, and UNAVAILABLE where the ledger cannot tell.

    A unary call counts 1 towards budgets of calls, a stream 1 for each of its messages, the first with its opening.
    Stands after `authorize`: what that denies is not charged, and names that it does not allow are not remembered.
    """

    name = "limit"
    view = View.BYTES
    needs = frozenset({Principal})

    def __init__(
        self,
        budgets: Sequence[Budget],
        ledger: Ledger,
        methods: Collection[str] = (),
        models: Collection[str] = (),
        own: bool = False,
    ) -> None:
        """methods, models: those that have buckets of their own; every other method shares one, other models some.

        own: whether callers may bring an OwnBudget.

        Raises PatternError, and ValueError for two budgets of one name.
        """
        names = [budget.name for budget in budgets]
        if len(set(names)) < len(names):
            raise ValueError(f"expected each name of a budget once, got {sorted(names)}")
        self._budgets = tuple(map(_Compiled, budgets))
        self._ledger = ledger
        self._methods = frozenset(methods)
        self._models = frozenset(models)
        self._own = own
        self._known: Bounded[str, _Applying] = Bounded(MOST_REMEMBERED)
        self._sources: Bounded[str, str] = Bounded(MOST_REMEMBERED)
        self._folded: Bounded[str, str] = Bounded(MOST_REMEMBERED)
        self._due: Bounded[tuple[str, str, str, str], _Due] = Bounded(MOST_REMEMBERED)

    def depth(self, method: Method, obligations: frozenset[str]) -> View | None:
        applying = self._applying(method.path)
        by_headers = applying.early or self._own
        return View.BYTES if applying.late or (by_headers and not method.unary_request) else None

    def on_start(self, call: Call) -> Hook:
        applying = self._applying(call.method.path)
        # Where the one message is charged as well, all waits for it, so that a refusal takes nothing.
        if not (applying.early or self._own) or (applying.late and call.method.unary_request):
            return PASS
        return self._take(self._by_headers(call, applying.early))

    def on_request(self, call: Call, message: Message) -> Hook:
        applying = self._applying(call.method.path)
        opening = call.find(_Opened) is None
        if opening:
            call.put(OPENED)
        charged = opening and not call.method.unary_request
        due = NOTHING if charged else self._by_headers(call, applying.early)
        if applying.late:
            try:
                added = list(self._by_message(call, message, applying.late))
            except CodecError:
                return UNREADABLE
            except _TooManyError:
                return MANY_MODELS
            due = due.and_also(added)
        return self._take(due)

    def _take(self, due: _Due) -> Hook:
        if not due.charges:
            return PASS
        taken = self._ledger.take_all(due.charges)
        return self._take_later(due) if taken.refusal == "ledger_busy" else _judged(due, taken)

    def _take_later(self, due: _Due) -> Steps[Verdict]:
        try:
            taken = yield from ask(TakeAll(due.charges))
        except AnswerError:
            return BUSY
        return _judged(due, taken)

    def _by_headers(self, call: Call, budgets: Sequence[_Compiled]) -> _Due:
        """What budgets of calls that ask for no model are charged. budgets: those of the call's method."""
        due = self._by_config(call, budgets) if budgets else NOTHING
        own = call.find(OwnBudget) if self._own else None
        return due if own is None else due.and_also(((own.budget, own.charge),))

    def _by_config(self, call: Call, budgets: Sequence[_Compiled]) -> _Due:
        principal = call.find(Principal)
        tenant, name = ("", "") if principal is None else (principal.tenant, principal.name)
        key = (tenant, name, call.method.path, call.peer.source)
        known = self._due.get(key)
        if known is None:
            ours = [budget for budget in budgets if budget.of(principal)]
            charges = [budget.charge(self._parts(call, budget, principal), 1) for budget in ours]
            known = self._due.keep(key, _Due(tuple(budget.said for budget in ours), tuple(charges)))
        return known

    def _by_message(
        self, call: Call, message: Message, budgets: Sequence[_Compiled]
    ) -> Iterator[tuple[Budget, Charge]]:
        """What the other budgets are charged. Raises CodecError, _TooManyError."""
        principal = call.find(Principal)
        names: list[str] | None = None
        for budget in budgets:
            if not budget.of(principal):
                continue
            cost = _cost(call, message, budget.said.weight)
            parts = self._parts(call, budget, principal)
            if not budget.asks_model:
                yield budget.said, budget.charge(parts, cost)
                continue
            names = _models(call, message) if names is None else names
            about = [name for name in names if budget.matches(name)]
            if "model" not in budget.said.per:
                about = about[:1]
                yield from ((budget.said, budget.charge(parts, cost)) for _ in about)
                continue
            for model in dict.fromkeys(map(self._model, about)):
                yield budget.said, budget.charge((*parts, model), cost)

    def _parts(self, call: Call, budget: _Compiled, principal: Principal | None) -> tuple[str, ...]:
        """What names a bucket of `budget`, its model apart."""
        parts: list[str] = []
        for part in budget.said.per:
            if part == "identity":
                parts.append(ANYBODY if principal is None else f"{principal.tenant}/{principal.name}")
            elif part == "method":
                parts.append(call.method.path if call.method.path in self._methods else ANY_METHOD)
            elif part == "source":
                source = call.peer.source
                parts.append(self._sources.get(source) or self._sources.keep(source, network_of(source)))
        return tuple(parts)

    def _model(self, name: str) -> str:
        """What a model's bucket is named after."""
        if name in self._models:
            return f"={name}"
        known = self._folded.get(name)
        if known is None:
            number = self._ledger.fold(name.encode("utf-8", "surrogatepass"), MODEL_BUCKETS)
            known = self._folded.keep(name, f"#{number}")
        return known

    def _applying(self, path: str) -> _Applying:
        known = self._known.get(path)
        if known is None:
            about = [budget for budget in self._budgets if budget.about(path)]
            early = tuple(budget for budget in about if budget.early)
            late = tuple(budget for budget in about if not budget.early)
            known = self._known.keep(path, _Applying(early, late))
        return known


def _judged(due: _Due, taken: Taken) -> Verdict:
    if not taken.refusal:
        return PASS
    return CANNOT.get(taken.refusal) or exceeded(due.budgets[taken.at], taken)


def exceeded(budget: Budget, taken: Taken) -> Deny:
    """The denial of a call for which `budget` holds too little now.

    Source of the fields: draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4: a quota of q each w seconds, of
    which r are left and in t seconds enough for this call.
    """
    detail, pushback = retry.after(taken.retry_after_s)
    bucket, name = budget.bucket, budget.name
    unit = {"calls": ';qu="requests"', "bytes": ';qu="content-bytes"', "batch": ""}[budget.weight]
    policy = f'"{name}";q={bucket.amount};w={bucket.period_s}{unit}'
    left = f'"{name}";r={taken.remaining};t={ceil(taken.retry_after_s)}'
    fields = (b"ratelimit-policy", policy.encode()), (b"ratelimit", left.encode())
    return Deny(Code.RESOURCE_EXHAUSTED, f"limit.{name}", PUBLIC, (detail,), (pushback, *fields))


def network_of(source: str) -> str:
    """An IPv4 address as it is, the /64 of an IPv6 one, for whoever has one address of it has all; else the text."""
    try:
        address = ip_address(source)
    except ValueError:
        return source
    if not isinstance(address, IPv6Address):
        return str(address)
    mapped = address.ipv4_mapped  # RFC 4291 2.5.5.2: one host, however it was reached
    return str(mapped or ip_network((int(address) >> 64 << 64, 64)))


class _TooManyError(Exception):
    """A message names more than MOST_MODELS models."""


class _Opened:
    """A call of which a message has come."""


OPENED: Final = _Opened()


def _models(call: Call, message: Message) -> list[str]:
    names = list(dict.fromkeys(model.name for model in call.codec.models(message.raw, False)))
    if len(names) > MOST_MODELS:
        raise _TooManyError
    return names


def _cost(call: Call, message: Message, weight: Weight) -> int:
    if weight == "bytes":
        return max(1, len(message.raw))
    return max(1, call.codec.batch(message.raw)) if weight == "batch" else 1


class _Compiled:
    """A budget with its patterns compiled. early: the headers alone say what a call costs it."""

    __slots__ = ("_identities", "_methods", "_models", "_prefix", "asks_model", "early", "said")

    def __init__(self, said: Budget) -> None:
        self.said = said
        self.asks_model = "model" in said.per or said.models is not None
        self.early = said.weight == "calls" and not self.asks_model
        self._identities = _patterns(said.identities)
        self._methods = _patterns(said.methods)
        self._models = None if said.models is None else tuple(map(name_pattern, said.models))
        # The rate is no part of it: who raises a limit does not hand out full buckets with it.
        self._prefix = (said.name, said.weight, *said.per)

    def about(self, path: str) -> bool:
        return _any(self._methods, path)

    def of(self, principal: Principal | None) -> bool:
        return self._identities is None or (principal is not None and _any(self._identities, principal.name))

    def matches(self, model: str) -> bool:
        return _any(self._models, model)

    def charge(self, parts: Sequence[str], cost: int) -> Charge:
        return Charge(_key((*self._prefix, *parts)), self.said.bucket, cost)


def _key(parts: Sequence[str]) -> bytes:
    """With its length before each part, so that no two lists of parts spell the same key."""
    return "".join([f"{len(part)}:{part}" for part in parts]).encode("utf-8", "surrogatepass")


class _Due(NamedTuple):
    """What a call is to be charged, and each charge's budget."""

    budgets: tuple[Budget, ...]
    charges: tuple[Charge, ...]

    def and_also(self, added: Sequence[tuple[Budget, Charge]]) -> _Due:
        return _Due(
            (*self.budgets, *(budget for budget, _ in added)), (*self.charges, *(charge for _, charge in added))
        )


NOTHING: Final = _Due((), ())


@dataclass(frozen=True, slots=True)
class _Applying:
    """The budgets that apply to one method."""

    early: tuple[_Compiled, ...]
    late: tuple[_Compiled, ...]


def _patterns(texts: tuple[str, ...] | None) -> tuple[Pattern, ...] | None:
    return None if texts is None else tuple(map(path_pattern, texts))


def _any(patterns: tuple[Pattern, ...] | None, text: str) -> bool:
    return patterns is None or any(pattern.matches(text) for pattern in patterns)
