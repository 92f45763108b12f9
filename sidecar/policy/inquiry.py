"""What would be decided, why, what a change would do, and who can reach what: as of now, for whoever may ask.

Safe for many threads.
"""

from __future__ import annotations

import json
import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from heapq import nsmallest
from typing import Final, NamedTuple, TypeAlias

from sidecar.errors import RequestError
from sidecar.policy import builtin, explain, names
from sidecar.policy.asked import below
from sidecar.policy.explain import Explanation, Reach, Simulated
from sidecar.policy.live import Live
from sidecar.policy.model import Decision, Item, Question
from sidecar.policy.rows import KINDS, Key
from sidecar.policy.validate import Fault, excesses, faults

MOST_CHANGES: Final = 100
MOST_CALLS: Final = 1_000  # that were recorded

Place: TypeAlias = tuple[str, str, str, str]  # of a Reach in their order


class Change(NamedTuple):
    """That is not made. put: what comes in place of what has its name.  drop: what goes. Each with its field."""

    put: Sequence[tuple[str, Item]]
    drop: Sequence[tuple[str, Key]]


class Window(NamedTuple):
    """Recorded calls that are looked at: from `since` on and before `until`, Unix seconds; of these the last `most`."""

    since: float = 0.0
    until: float = math.inf
    most: int = MOST_CALLS


class Calls(NamedTuple):
    """questions: what recorded calls asked for, each once, the last first.  total: of the calls that asked for them.

    first, last: when these were, Unix seconds; 0 for none.  more: whether there were others in the window.
    """

    questions: Sequence[Question] = ()
    total: int = 0
    first: float = 0.0
    last: float = 0.0
    more: bool = False


class Inquiry:
    """recorded: calls of a tenant."""

    def __init__(self, live: Live, recorded: Callable[[str, Window], Calls]) -> None:
        self._live = live
        self._recorded = recorded

    def check(self, tenant: str, questions: Iterable[Question]) -> list[Decision]:
        """questions: of the tenant's principals."""
        with self._live.engine(tenant) as engine:
            return [
                engine.decide(each.principal, each.permission, each.resource, each.attributes, each.now)
                for each in questions
            ]

    def explain(self, question: Question) -> Explanation:
        with self._live.engine(question.principal.tenant) as engine:
            return explain.explain(engine, question)

    def simulate(
        self, tenant: str, change: Change, questions: Sequence[Question], window: Window
    ) -> tuple[Simulated, Calls]:
        """What would be decided otherwise, of what calls. questions: none for those that are recorded in the window.

        Raises RequestError with every fault of the change.
        """
        calls = Calls(questions) if questions else self._recorded(tenant, window)
        found = _faults(change)
        with self._live.engine(tenant) as engine:
            for field, key in change.drop:
                if engine.tables.get(KINDS[key.kind], *key[1:]) is None:
                    found.append((field, f"there is no {key.kind} {key.name[:80]!r}"))
            if found:
                raise RequestError(found)
            put, drop = [item for _, item in change.put], [(KINDS[key.kind], *key[1:]) for _, key in change.drop]
            return explain.simulate(engine, put, drop, calls.questions), calls

    def reach(self, about: Question, after: str, most: int) -> tuple[list[Reach], str]:
        """Who can do what it asks for with its resource, which is of its principal's tenant.

        Those after `after`, and where the next begin, "" after the last. Raises RequestError.
        """
        tenant, permission, resource, now = about.principal.tenant, about.permission, about.resource, about.now
        if names.resource(resource).tenant != tenant:
            raise RequestError([("resource", f"expected one of tenant {tenant}, got {resource[:80]!r}")])
        behind = _read_place(after)
        with self._live.engine(tenant) as engine:
            reaches = explain.reach(engine, permission, resource, now)
            found = nsmallest(most + 1, (each for each in reaches if _place(each) > behind), key=_place)
        return found[:most], _written(_place(found[most - 1])) if len(found) > most else ""


def _faults(change: Change) -> list[Fault]:
    found: list[Fault] = []
    if len(change.put) + len(change.drop) > MOST_CHANGES:
        found.append(
            ("put_policies", f"expected {MOST_CHANGES} changes at most, got {len(change.put) + len(change.drop)}")
        )
        return found
    for field, item in change.put:
        found += below(field, [*faults(item), *excesses(item)])
    for field, key in change.drop:
        if key.name in builtin.NAMES:
            found.append((field, "every tenant has this role"))
    return found


def _place(reach: Reach) -> Place:
    return reach.member, reach.role, reach.grant.id if reach.grant else "", reach.group


def _written(place: Place) -> str:
    return urlsafe_b64encode(json.dumps(place).encode()).decode()


def _read_place(token: str) -> Place:
    """Before all others for none. Raises RequestError for what `_written` does not make."""
    if not token:
        return "", "", "", ""
    try:
        member, role, grant, group = json.loads(urlsafe_b64decode(token.encode("ascii")))
        if not all(isinstance(each, str) for each in (member, role, grant, group)):
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        raise RequestError([("page_token", "expected that of the answer before")]) from None
    return member, role, grant, group
