"""What roles and policies say of one call: of its beginning, of each message, and again whenever they have changed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import inf
from typing import Final, TypeAlias

from interceptors.access import About, Access, Decision
from interceptors.bounded import Bounded
from interceptors.contract import BEGUN, NO_CODEC, Call, Code, Deny, ModelName
from interceptors.facts import Principal
from interceptors.permits import LONGEST_MODEL, Permit, sound

PERMISSION_DENIED: Final = "permission denied"
# Reasons for which nothing can be said of the caller, only of us.
UNDECIDED: Final = frozenset(("policy.stale", "policy.damaged"))
MODEL: Final = Deny(Code.PERMISSION_DENIED, "authorize.model", PERMISSION_DENIED)
MOST_ASKED: Final = 64  # permissions on models that an open call rests on; a stream may name any number
MFA: Final = "require:mfa"  # met by callers whose token says so
Asked: TypeAlias = tuple[str, str, str, bool]  # permission, model, version, whether there is a model
# As Triton reads a version (C's strtol): blanks before it, a sign, zeros and whatever stands behind count for nothing.
NUMBER: Final = re.compile(r"[ \t-\r]*([+-]?[0-9]+)")
METHODS: Final = "amr"  # the attribute that lists how a caller was authenticated (RFC 8176), where an issuer may set it


class Decided:
    """A call under roles and policies.

    access: who decides.  principal: about whom.  permission: the method's.  permit: what is granted without roles.
    routed: models that metadata names.  until: Unix seconds, from which what the call rests on may not hold any more.
    """

    __slots__ = ("_asked", "_first", "access", "permission", "permit", "principal", "routed", "until")

    def __init__(
        self, access: Access, principal: Principal, permission: str, permit: Permit, routed: tuple[ModelName, ...]
    ) -> None:
        self.access = access
        self.principal = principal
        self.permission = permission
        self.permit = permit
        self.routed = routed
        self.until = inf
        self._first: tuple[Asked, About] | None = None
        self._asked: Bounded[Asked, About] | None = None  # where there is more than the first

    def begin(self, call: Call) -> Deny | None:
        """Why the call may not begin, or None."""
        decision = self._begin(call)
        if not decision.allowed:
            return _denial(decision.reason)
        if decision.obligations:
            call.may_oblige(decision.obligations)
        method = call.method
        if method.lists:  # its message is not looked at
            return self._all(call, self.permission, self.routed, 0) if self.routed else None
        if not method.unary_request and call.codec is NO_CODEC:  # it goes upstream before its first message
            return self._ask(call, self.permission, About(None, 0))
        return None

    def message(self, call: Call, models: Sequence[ModelName], special: Sequence[str], size: int) -> Deny | None:
        """Why a message may not pass, or None. special: permissions beyond the method's.  size: bytes."""
        for permission in (self.permission, *special):
            denied = self._all(call, permission, models, size)
            if denied is None and self.routed:  # beside what the message says, for not every server heeds metadata
                denied = self._all(call, permission, self.routed, size)
            if denied is not None:
                return denied
        return None

    def sees(self, call: Call, model: ModelName) -> bool:
        """Whether a model that an answer lists is shown."""
        return self._denied(call, self.permission, About(model, 0)) is None

    def again(self, call: Call, now: float) -> Deny | None:
        """Why the call may not go on as it is, or None. now: Unix seconds."""
        call.now = now
        self.until = inf
        decision = self._begin(call)
        if not decision.allowed:
            return _denial(decision.reason)
        asked = (() if self._first is None else (self._first,)) if self._asked is None else self._asked.items()
        for key, about in asked:
            denied = self._denied(call, key[0], about)
            if denied is not None:
                return denied
        return None

    def _begin(self, call: Call) -> Decision:
        models = self.permit.scope.models
        decision = self.access.begin(self.principal, self.permission, call, models is None or len(models) > 0)
        self.until = min(self.until, decision.until)
        return decision

    def _all(self, call: Call, permission: str, models: Sequence[ModelName], size: int) -> Deny | None:
        """One that names no model is about all of the tenant."""
        if not models:
            return self._ask(call, permission, About(None, size))
        for model in models:
            denied = self._ask(call, permission, About(model, size))
            if denied is None and model.version and (number := _number(model.version)) != model.version:
                denied = self._ask(call, permission, About(ModelName(model.name, number), size))
            if denied is not None:
                return denied
        return None

    def _ask(self, call: Call, permission: str, about: About) -> Deny | None:
        model = about.model
        key = (permission, "", "", False) if model is None else (permission, model.name, model.version, True)
        self._rest_on(key, about)
        return self._denied(call, permission, about)

    def _rest_on(self, key: Asked, about: About) -> None:
        """Most calls ask once, and need no map."""
        if self._first is None or (self._asked is None and self._first[0] == key):
            self._first = key, about
            return
        if self._asked is None:
            self._asked = Bounded(MOST_ASKED)
            self._asked.keep(*self._first)
        self._asked.keep(key, about)

    def _denied(self, call: Call, permission: str, about: About) -> Deny | None:
        model = about.model
        if model is not None and not (sound(model.name) and sound(model.version)):
            return MODEL
        granted = self.permit.grants("" if permission == self.permission else permission, model)
        decision = self.access.decide(self.principal, permission, about, call, granted)
        self.until = min(self.until, decision.until)
        if not decision.allowed:
            return _denial(decision.reason)
        for name in sorted(decision.obligations - call.obligations) if decision.obligations else ():
            if name == MFA and _several_factors(self.principal):
                continue
            if call.began == BEGUN:
                return Deny(Code.PERMISSION_DENIED, f"authorize.obligation:{name}", PERMISSION_DENIED)
            call.oblige(name)  # the chain denies where nobody can
        return None


def _number(version: str) -> str:
    """What a server that counts versions takes it for; as it is where that is no number."""
    if len(version) > LONGEST_MODEL or (found := NUMBER.match(version)) is None:
        return version
    return str(int(found[1]))


def _several_factors(principal: Principal) -> bool:
    """RFC 8176 2: "mfa" says that several authentication factors were used."""
    methods = dict(principal.attributes).get(METHODS)
    return isinstance(methods, tuple) and "mfa" in methods


def _denial(reason: str) -> Deny:
    if reason in UNDECIDED:
        return Deny(Code.UNAVAILABLE, reason, "permission cannot be decided at the moment")
    return Deny(Code.PERMISSION_DENIED, reason, PERMISSION_DENIED)
