"""A chain: links in their order, checked once, compiled to one plan per kind of method.

A wrong order is a ChainError here, at start; at run time nothing in a chain raises. Nothing is read or sent here.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Final

from interceptors.bounded import Bounded
from interceptors.contract import NO_OBLIGATIONS, RAISED, Code, Deny, Interceptor, Method, View
from interceptors.plan import Plan, overrides

HOOKS: Final = ("on_start", "on_request", "on_headers", "on_response", "on_flush", "on_trailers", "on_end")
ATTRIBUTES: Final[tuple[tuple[str, type], ...]] = (
    ("view", View), ("needs", frozenset), ("gives", frozenset), ("honours", frozenset), ("observer", bool),
)  # fmt: skip
MESSAGE_HOOKS: Final = ("on_request", "on_response", "on_flush")
MOST_PLANS: Final = 4096  # looked up by method; callers choose method names
MOST_COMPILED: Final = 256


class ChainError(ValueError):
    """Links that do not fit together."""


class Chain:
    """An ordered list of links, the first nearest to the caller."""

    def __init__(self, links: Sequence[Interceptor], observe_only: bool = False) -> None:
        """observe_only: denials of links are noted in `call.would_deny` and the call goes on.

        Raises ChainError where a link needs a fact that nothing before it gives, or is not one that a chain can run.
        """
        given: dict[type, str] = {}
        for link in map(checked, links):
            for fact in sorted(link.needs.difference(given), key=lambda kind: kind.__name__):
                after = [other.name for other in links if fact in getattr(other, "gives", ())]
                where = f"only {', '.join(after)}, which must stand before it" if after else "no link of this chain"
                raise ChainError(f"link {link.name!r} needs the fact {fact.__name__}; it is given by {where}")
            given |= dict.fromkeys(link.gives, link.name)
        self.links = tuple(links)
        self.observe_only = observe_only
        self._plans: Bounded[object, Plan] = Bounded(MOST_PLANS)
        self._compiled: Bounded[object, Plan] = Bounded(MOST_COMPILED)

    def plan(self, method: Method, obligations: frozenset[str] = NO_OBLIGATIONS) -> Plan:
        """How calls of `method` are run; never raises. Same arguments, same plan, while it is remembered."""
        key = (method, obligations) if obligations else method
        return self._plans.get(key) or self._plans.keep(key, self._plan(method, obligations))

    def refusal(self, method: Method, obligations: frozenset[str]) -> Deny | None:
        """Why no call of `method` may go on under `obligations`, or None."""
        return self.plan(method, obligations).refusal

    def honoured(self, method: Method, obligations: frozenset[str]) -> frozenset[str]:
        """Those that calls of `method` can meet."""
        return obligations & self.plan(method, obligations).honours

    def _plan(self, method: Method, obligations: frozenset[str]) -> Plan:
        """Methods that every link looks into alike share one compiled plan, so that a new name costs little."""
        depths: list[View | None] = []
        refusal: Deny | None = None
        for link in self.links:
            try:
                depth = link.depth(method, obligations)
                view = None if depth is None else View(depth)
            except RAISED as error:
                view = None
                if not link.observer:
                    refusal = refusal or Deny(Code.INTERNAL, f"{link.name}.error:{type(error).__name__}")
            depths.append(view)
        working = (link for link, view in zip(self.links, depths, strict=True) if _works(link, view))
        met: frozenset[str] = frozenset(name for link in working for name in link.honours)
        if unmet := sorted(obligations - met):
            refusal = refusal or Deny(Code.PERMISSION_DENIED, f"chain.unmet_obligation:{unmet[0]}")
        key = (tuple(depths), method.unary_request, method.unary_response, refusal)
        plan = self._compiled.get(key)
        if plan is None:
            plan = Plan(
                self.links, depths, method, met, refusal, self.refusal, self.honoured, self.observe_only
            )  # fmt: skip
            self._compiled.keep(key, plan)
        return plan


def _works(link: Interceptor, depth: View | None) -> bool:
    """Whether `link` does its work at this depth; one whose message hooks are left out honours no obligation."""
    return depth is not None and (depth > View.METADATA or not any(overrides(link, hook) for hook in MESSAGE_HOOKS))


def checked(link: object) -> Interceptor:
    """`link`. Raises ChainError unless a chain can run it."""
    if not isinstance(link, Interceptor):
        raise ChainError(f"a chain holds Interceptor instances, got {type(link).__name__}")
    name = getattr(link, "name", "")
    if not isinstance(name, str) or not name:
        raise ChainError(f"interceptor {type(link).__name__} has no name: set the class attribute `name`")
    for attribute, kind in ATTRIBUTES:
        if not isinstance(value := getattr(link, attribute), kind):
            raise ChainError(f"link {name!r}: {attribute} is a {type(value).__name__}, expected a {kind.__name__}")
    for hook in HOOKS:
        function = getattr(link, hook)
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise ChainError(f"link {name!r}: {hook} is async; a hook that needs the outside is a generator that asks")
    if inspect.isgeneratorfunction(link.on_end):
        raise ChainError(f"link {name!r}: on_end is a generator; when a call has ended nothing can be asked")
    if link.view is View.METADATA and (looks := [hook for hook in MESSAGE_HOOKS if overrides(link, hook)]):
        raise ChainError(f"link {name!r} overrides {', '.join(looks)}, expected view BYTES or DECODED, got METADATA")
    if link.gives and not overrides(link, "on_start"):
        promised = ", ".join(sorted(kind.__name__ for kind in link.gives))
        raise ChainError(f"link {name!r} gives {promised}, expected an on_start that puts it")
    return link
