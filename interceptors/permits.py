"""What static rules, or an API key, let a principal do with a method: on which models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from interceptors.bounded import Bounded
from interceptors.contract import ModelName
from interceptors.patterns import Pattern

MOST_MODELS: Final = 1024  # answers remembered for each set of model patterns
LONGEST_MODEL: Final = 256  # characters; a longer name is no model of ours

Models: TypeAlias = "tuple[Pattern, ...] | None"


class Scope:
    """On which models something is granted. models: patterns of which each model's name matches one; None for all."""

    __slots__ = ("_known", "models")

    def __init__(self, models: Models) -> None:
        self.models = models
        self._known: Bounded[str, bool] = Bounded(MOST_MODELS)

    def covers(self, model: str) -> bool:
        if self.models is None:
            return True
        if not sound(model):
            return False
        known = self._known.get(model)
        if known is None:
            known = self._known.keep(model, any(pattern.matches(model) for pattern in self.models))
        return known


class Permit:
    """What a principal may do with a method.

    scope: of the method's permission.  special: by permission, of what its messages may demand beyond.
    """

    __slots__ = ("scope", "special")

    def __init__(self, scope: Scope, special: Mapping[str, Scope]) -> None:
        self.scope = scope
        self.special = special

    def keeps(self, earlier: Permit | None) -> bool:
        """Whether whoever was let in by `earlier`, or by none, may go on so: each scope is free now, or as it was."""
        if earlier is None:
            return self.scope.models is None
        now, before = {"": self.scope, **self.special}, {"": earlier.scope, **earlier.special}
        return all(
            name in now and (now[name].models is None or now[name].models == scope.models)
            for name, scope in before.items()
        )

    def grants(self, permission: str, model: ModelName | None) -> bool:
        """permission: the method's, as "", or a special one.  model: None for what concerns all."""
        scope = self.special.get(permission) if permission else self.scope
        return scope is not None and (scope.models is None if model is None else scope.covers(model.name))


NOTHING: Final = Permit(Scope(()), {})


def sound(name: str) -> bool:
    """Whether a text can be a model's name or version.

    A server in C reads one only up to its NUL, so "secret" and what stands behind would pass as "*-public".
    """
    return len(name) <= LONGEST_MODEL and "\0" not in name
