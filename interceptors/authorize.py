"""Who may call what: static rules, each of which allows; what none allows is denied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from interceptors.bounded import Bounded
from interceptors.contract import (
    PASS,
    Call,
    Code,
    CodecError,
    Deny,
    Interceptor,
    Message,
    Method,
    ModelName,
    Verdict,
    View,
)
from interceptors.facts import CalledModel, Principal
from interceptors.patterns import Pattern, PatternError, name_pattern, path_pattern

# Kind of principal → how its names begin.
KINDS: Final = {"spiffe": "spiffe://", "dns": "dns:", "cn": "cn:", "user": "user:", "key": "key:"}
MOST_DECISIONS: Final = 16384  # remembered by principal and method
MOST_MODELS: Final = 1024  # answers remembered for each set of model patterns
LONGEST_MODEL: Final = 256  # characters; a longer name is no model of ours

# ModelMesh (KServe) sends a call to the model that these name, whatever its message says.
ROUTING: Final = frozenset((b"mm-model-id", b"mm-vmodel-id"))
ROUTING_BINARY: Final = frozenset((b"mm-model-id-bin", b"mm-vmodel-id-bin"))

NO_PRINCIPAL: Final = Deny(Code.UNAUTHENTICATED, "authorize.no_principal", "client identity required")
NO_RULE: Final = Deny(Code.PERMISSION_DENIED, "authorize.no_rule", "permission denied")
MODEL: Final = Deny(Code.PERMISSION_DENIED, "authorize.model", "permission denied")
MALFORMED: Final = Deny(Code.INVALID_ARGUMENT, "authorize.malformed", "request message cannot be read")


class RuleError(ValueError):
    """A rule that says nothing that can be checked. field: where in the rule."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Rule:
    """Allows `identities` to call `methods`, about `models` only where these are given.

    identities: path-like patterns typed by their form, "spiffe://…", "dns:…" or "cn:…".
    methods: path-like patterns of "/package.Service/Method".  models: name patterns; None allows every message.
    """

    identities: tuple[str, ...]
    methods: tuple[str, ...]
    models: tuple[str, ...] | None = None


class Permission:
    """What a principal may do with a method. models: patterns of which each message's model matches one, or None."""

    __slots__ = ("_known", "models")

    def __init__(self, models: tuple[Pattern, ...] | None) -> None:
        self.models = models
        self._known: Bounded[str, bool] = Bounded(MOST_MODELS)

    def covers(self, model: str) -> bool:
        if self.models is None:
            return True
        # A server in C reads a name only up to its NUL, so "secret" and what stands behind would pass as "*-public".
        if len(model) > LONGEST_MODEL or "\0" in model:
            return False
        known = self._known.get(model)
        if known is None:
            known = self._known.keep(model, any(pattern.matches(model) for pattern in self.models))
        return known


class Authorize(Interceptor):
    """Denies what no rule allows; where the rule names models, every request message is checked."""

    name = "authorize"
    view = View.BYTES
    needs = frozenset({Principal})

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Raises RuleError, its field "rules[0].methods[1]", for a rule that cannot be read."""
        compiled = [_Compiled(rule, f"rules[{at}]") for at, rule in enumerate(rules)]
        self._rules = _Index(compiled)
        # Patterns are shared by the rules that spell them alike.
        self._naming = {pattern: None for rule in compiled if rule.models is not None for pattern in rule.methods}
        self._decisions: Bounded[tuple[str, str, str], Permission | Deny] = Bounded(MOST_DECISIONS)
        self._permissions: Bounded[tuple[Pattern, ...] | None, Permission] = Bounded(MOST_MODELS)

    def depth(self, method: Method, obligations: frozenset[str]) -> View | None:
        return View.BYTES if any(pattern.matches(method.path) for pattern in self._naming) else None

    def on_start(self, call: Call) -> Verdict:
        principal = call.find(Principal)
        if principal is None:
            return NO_PRINCIPAL
        key = (principal.kind, principal.name, call.method.path)
        decision = self._decisions.get(key) or self._decisions.keep(key, self._decide(principal, call.method.path))
        if isinstance(decision, Deny):
            return decision
        if decision.models is not None and not _routed_within(call, decision):
            return MODEL
        call.put(decision)
        return PASS

    def on_request(self, call: Call, message: Message) -> Verdict:
        permission = call.find(Permission)
        free = permission is None or permission.models is None  # without one the chain only observes
        try:
            models = call.codec.models(message.raw, False)
        except CodecError:
            return PASS if free else MALFORMED
        for model in models:
            _note(call, model)
            if permission is not None and not permission.covers(model.name):
                return MODEL
        return PASS if models or free else MODEL

    def _decide(self, principal: Principal, path: str) -> Permission | Deny:
        models: list[Pattern] = []
        matching = [rule for rule in self._rules.near(principal) if rule.of(principal) and rule.about(path)]
        if not matching:
            return NO_RULE
        for rule in matching:
            if rule.models is None:
                return self._permission(None)
            models += rule.models
        return self._permission(tuple(models))

    def _permission(self, models: tuple[Pattern, ...] | None) -> Permission:
        return self._permissions.get(models) or self._permissions.keep(models, Permission(models))


def _routed_within(call: Call, permission: Permission) -> bool:
    """Whether metadata that chooses a model, in place of the message's own name, chooses one that is allowed."""
    for name, value in call.headers.fields:
        if name in ROUTING and not permission.covers(value.decode("ascii", "replace")):
            return False
        if name in ROUTING_BINARY:  # base64 of what a rule would have to be read against: nobody needs it
            return False
    return True


def _note(call: Call, model: ModelName) -> None:
    called = call.find(CalledModel)
    if called is None or called.name != model.name or called.version != model.version:
        call.put(CalledModel(model.name[:LONGEST_MODEL], model.version[:LONGEST_MODEL]))


class _Compiled:
    """A rule, its patterns compiled. identities: by kind, so that kinds never compare across each other."""

    __slots__ = ("identities", "methods", "models")

    def __init__(self, rule: Rule, place: str) -> None:
        self.identities: dict[str, list[Pattern]] = {}
        for at, text in enumerate(rule.identities):
            field = f"{place}.identities[{at}]"
            kind = next((kind for kind, prefix in KINDS.items() if text.startswith(prefix)), None)
            if kind is None:
                raise RuleError(
                    field, f"expected {' or '.join(f'{prefix}…' for prefix in KINDS.values())}, got {text!r}"
                )
            # RFC 4343: DNS names compare without case; principals carry them in lower case.
            self.identities.setdefault(kind, []).append(_pattern(text.lower() if kind == "dns" else text, field))
        self.methods: list[Pattern] = []
        for at, text in enumerate(rule.methods):
            field = f"{place}.methods[{at}]"
            if not text.startswith("/"):
                raise RuleError(field, f"expected /package.Service/Method, where /** is every method, got {text!r}")
            self.methods.append(_pattern(text, field))
        self.models: list[Pattern] | None = None
        if rule.models is not None:
            self.models = [_pattern(text, f"{place}.models[{at}]", True) for at, text in enumerate(rule.models)]

    def about(self, path: str) -> bool:
        return any(pattern.matches(path) for pattern in self.methods)

    def of(self, principal: Principal) -> bool:
        return any(pattern.matches(principal.name) for pattern in self.identities.get(principal.kind, ()))


class _Index:
    """Rules by how the names begin that their identities cover, so that a decision looks at few of many."""

    __slots__ = ("_prefixes", "_rules")

    def __init__(self, rules: Sequence[_Compiled]) -> None:
        self._rules = rules
        self._prefixes: dict[tuple[str, int], dict[str, list[int]]] = {}  # by kind and length
        for number, rule in enumerate(rules):
            for kind, patterns in rule.identities.items():
                for prefix in {pattern.prefix for pattern in patterns}:
                    self._prefixes.setdefault((kind, len(prefix)), {}).setdefault(prefix, []).append(number)

    def near(self, principal: Principal) -> list[_Compiled]:
        """The rules, in their order, some of whose patterns begin as the principal's name does."""
        kind, name = principal.kind, principal.name
        found: set[int] = set()
        for (of, length), numbers in self._prefixes.items():
            if of == kind:
                found.update(numbers.get(name[:length], ()))
        return [self._rules[number] for number in sorted(found)]


def _pattern(text: str, field: str, name: bool = False) -> Pattern:
    try:
        return name_pattern(text) if name else path_pattern(text)
    except PatternError as error:
        raise RuleError(field, str(error)) from error
