"""Who may call what: static rules, each of which allows; what none allows is denied.

A call needs its method's permission, and what its messages demand beyond, each on every model that is named. Rules add
up: each of these may be granted by another. The holder of an API key may do what the key permits, and neither rules nor
roles add to that. Where roles and policies are in force (`interceptors.access`), roles grant as well to everybody else,
and every message has to pass the policies, whoever grants it (`interceptors.decided`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from interceptors.access import SENSITIVE, Access, covers
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
from interceptors.decided import MODEL, Decided
from interceptors.facts import CalledModel, KeyGrant, Principal
from interceptors.patterns import Pattern, PatternError, name_pattern, path_pattern
from interceptors.permits import LONGEST_MODEL, MOST_MODELS, NOTHING, Models, Permit, Scope

# Kind of principal → how its names begin.
KINDS: Final = {"spiffe": "spiffe://", "dns": "dns:", "cn": "cn:", "user": "user:", "key": "key:"}
MODELS, EVERYTHING = "models", "**"  # in patterns of resources
MOST_DECISIONS: Final = 16384  # remembered by principal and method

# ModelMesh (KServe) sends a call to the model that these name, whatever its message says.
ROUTING: Final = frozenset((b"mm-model-id", b"mm-vmodel-id"))
ROUTING_BINARY: Final = frozenset((b"mm-model-id-bin", b"mm-vmodel-id-bin"))
ROUTES: Final = ROUTING | ROUTING_BINARY

NO_PRINCIPAL: Final = Deny(Code.UNAUTHENTICATED, "authorize.no_principal", "client identity required")
NO_RULE: Final = Deny(Code.PERMISSION_DENIED, "authorize.no_rule", "permission denied")
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
    permissions: patterns of those that it grants, no others; None for all that are not sensitive.
    """

    identities: tuple[str, ...]
    methods: tuple[str, ...]
    models: tuple[str, ...] | None = None
    permissions: tuple[str, ...] | None = None


class Authorize(Interceptor):
    """Denies what no rule allows; where a message decides, every request message is checked."""

    name = "authorize"
    view = View.BYTES
    needs = frozenset({Principal})
    gives = frozenset({Permit})

    def __init__(self, rules: Sequence[Rule], keys: bool = False, access: Access | None = None) -> None:
        """keys: whether callers may hold API keys.  access: roles and policies, None where there are none.

        Raises RuleError, its field "rules[0].methods[1]", for a rule that cannot be read.
        """
        self._keys = keys
        self._access = access
        self._all = [_Compiled(rule, f"rules[{at}]") for at, rule in enumerate(rules)]
        self._rules = _Index(self._all)
        # Patterns are shared by the rules that spell them alike.
        self._naming = {pattern: None for rule in self._all if rule.models is not None for pattern in rule.methods}
        self._decisions: Bounded[tuple[str, str, str], Permit | Deny] = Bounded(MOST_DECISIONS)
        self._granted: Bounded[tuple[KeyGrant, str], Permit | Deny] = Bounded(MOST_DECISIONS)
        self._scopes: Bounded[Models, Scope] = Bounded(MOST_MODELS)

    def depth(self, method: Method, obligations: frozenset[str]) -> View | None:
        if method.lists:
            return None  # it names no model, and whoever may read some sees these in the answer (`visible`)
        if self._access is not None:
            return View.BYTES
        # A key may be for some models only, whichever method its holder calls.
        if self._keys or any(pattern.matches(method.path) for pattern in self._naming):
            return View.BYTES
        return View.BYTES if method.special and self._withholds(method) else None

    def on_start(self, call: Call) -> Verdict:
        principal = call.find(Principal)
        if principal is None:
            return NO_PRINCIPAL
        if principal.kind == "key":
            decision = self._by_key(call)
        else:
            key = (principal.kind, principal.name, call.method.path)
            decision = self._decisions.get(key) or self._decisions.keep(key, self._decide(principal, call.method))
        if self._access is not None:
            return self._begin(call, self._access, principal, NOTHING if isinstance(decision, Deny) else decision)
        if isinstance(decision, Deny):
            return decision
        if decision.scope.models is not None and not _routed_within(call, decision.scope):
            return MODEL
        call.put(decision)
        return PASS

    def _begin(self, call: Call, access: Access, principal: Principal, permit: Permit) -> Verdict:
        """Under roles and policies. permit: what is granted without them."""
        routed: tuple[ModelName, ...] = ()
        for name, value in call.headers.fields:
            if name in ROUTES:
                if name in ROUTING_BINARY:
                    return MODEL
                routed = (*routed, ModelName(value.decode()))
        decided = Decided(access, principal, call.method.permission, permit, routed)
        denied = decided.begin(call)
        if denied is not None:
            return denied
        call.put(permit)
        call.put(decided)
        return PASS

    def on_request(self, call: Call, message: Message) -> Verdict:
        if self._access is not None:
            return self._decide_on(call, message)
        permit = call.find(Permit)
        free = permit is None or permit.scope.models is None  # without one the chain only observes
        codec, raw = call.codec, message.raw
        try:
            special = codec.special(raw)
        except CodecError:
            return PASS if permit is None else MALFORMED
        try:
            models = codec.models(raw, False)
        except CodecError:
            return PASS if free and not special else MALFORMED
        for model in models:
            _note(call, model)
            if permit is not None and not permit.scope.covers(model.name):
                return MODEL
        if permit is not None:
            for permission in special:
                scope = permit.special.get(permission)
                if scope is None or not _within(scope, models):
                    return missing(permission)
        return PASS if models or free else MODEL

    def _decide_on(self, call: Call, message: Message) -> Verdict:
        """Under roles and policies."""
        decided = call.find(Decided)
        codec, raw = call.codec, message.raw
        try:
            special, models = codec.special(raw), codec.models(raw, False)
        except CodecError:
            return PASS if decided is None else MALFORMED  # without one the chain only observes
        for model in models:
            _note(call, model)
        denied = None if decided is None else decided.message(call, models, special, len(raw))
        return PASS if denied is None else denied

    def _withholds(self, method: Method) -> bool:
        """Whether some rule about `method` does not grant all that its messages may demand, on every model."""
        return any(
            rule.models is not None or not all(map(rule.grants, method.special))
            for rule in self._all
            if rule.about(method.path)
        )

    def _decide(self, principal: Principal, method: Method) -> Permit | Deny:
        matching = [rule for rule in self._rules.near(principal) if rule.of(principal) and rule.about(method.path)]
        if not matching:
            return NO_RULE
        scope = self._scope(matching, method.permission)
        if scope is None:
            return missing(method.permission)
        special = {name: self._scope(matching, name) for name in method.special}
        return Permit(scope, {name: granted for name, granted in special.items() if granted is not None})

    def _by_key(self, call: Call) -> Permit | Deny:
        grant, method = call.find(KeyGrant), call.method
        if grant is None:
            return NO_RULE
        key = (grant, method.path)
        return self._granted.get(key) or self._granted.keep(key, self._grant(grant, method))

    def _grant(self, grant: KeyGrant, method: Method) -> Permit | Deny:
        def granted(permission: str) -> bool:
            return any(covers(pattern, permission) for pattern in grant.permissions)

        if not granted(method.permission):
            return missing(method.permission)
        models = models_of(grant.resources)
        scope = self._scopes.get(models) or self._scopes.keep(models, Scope(models))
        return Permit(scope, {name: scope for name in method.special if granted(name)})

    def _scope(self, rules: Sequence[_Compiled], permission: str) -> Scope | None:
        """On which models `rules` grant `permission`; None where none does."""
        granted = [rule.models for rule in rules if rule.grants(permission)]
        if not granted:
            return None
        named = [models for models in granted if models is not None]
        key = tuple([pattern for models in named for pattern in models]) if len(named) == len(granted) else None
        return self._scopes.get(key) or self._scopes.keep(key, Scope(key))


def models_of(resources: Sequence[str]) -> Models:
    """Which models patterns of resources cover: none of them where they are about something else, None for all."""
    found: list[Pattern] = []
    for resource in resources or (EVERYTHING,):
        kind, _, name = resource.partition("/")
        if resource == EVERYTHING or (kind == MODELS and name == EVERYTHING):
            return None
        # Of a version alone nothing can be granted here: a rule covers a model with all of them.
        if kind == MODELS and name and "/" not in name and EVERYTHING not in name:
            found.append(name_pattern(name))
    return tuple(found)


def missing(permission: str) -> Deny:
    """The denial of what needs a permission that no rule grants."""
    return Deny(Code.PERMISSION_DENIED, f"authorize.permission:{permission}", "permission denied")


def _within(scope: Scope, models: Sequence[ModelName]) -> bool:
    """Whether all of a message is in scope; one that names no model concerns all."""
    return scope.models is None or (bool(models) and all(scope.covers(model.name) for model in models))


def _routed_within(call: Call, scope: Scope) -> bool:
    """Whether metadata that chooses a model, in place of the message's own name, chooses one that is allowed."""
    for name, value in call.headers.fields:
        if name in ROUTING and not scope.covers(value.decode("ascii", "replace")):
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

    __slots__ = ("identities", "methods", "models", "permissions")

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

        self.permissions = rule.permissions

    def grants(self, permission: str) -> bool:
        if self.permissions is None:
            return permission not in SENSITIVE
        return any(covers(pattern, permission) for pattern in self.permissions)

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
