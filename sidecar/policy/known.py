"""A worker's knowledge of roles, groups, grants and policies: what it was told, put in force a little at a time.

Putting a hundred thousand grants in force takes seconds, so no call waits for more than a slice of it. What may take
something away is put in force at once, between two decisions, unless that is more than anybody changes in a moment. Of
so many changes new policies go first, then what replaces or takes away, each in the order in which it was told last;
what only adds goes last, in slices.
Used on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any, Final

from sidecar.logs import Log
from sidecar.policy import rows
from sidecar.policy.engine import Engine
from sidecar.policy.rows import KINDS, Key
from sidecar.policy.validate import PolicyError

log = Log("policy")

Changed = Callable[[Collection[str] | None], None]  # tenants whose things have; None for any
SLICE_S: Final = 0.001
MOST_AT_ONCE: Final = 2_000  # changes, some tens of milliseconds: more are made in several turns
NEVER: Final = -math.inf
POLICY: Final = "policy"
# Places in the order in which changes are put in force.
_POLICIES, _REPLACED, _POLICIES_GONE, _ADDED = range(4)


class Known:
    """engine: decides by what is known.  due: Unix seconds, the earliest at which a decision for an open call may be
    another; whoever asks decisions brings it forward, whoever looks after open calls sets it back.

    age: seconds since what was told was known to be so, more by the clock's until there is news.  changed: told of what
    is in force now, once it all is.  clock: seconds of CLOCK_BOOTTIME.  timer: seconds, for slices.
    """

    def __init__(
        self,
        age: Callable[[], float],
        changed: Changed,
        clock: Callable[[], float],
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.engine = Engine()
        self.due = math.inf
        self._age = age
        self._changed = changed
        self._clock = clock
        self._timer = timer
        self._so = NEVER  # when whoever tells had read what there is
        self._telling = False  # whoever tells has told all: not so while another in its place has yet to read it
        self.begun = asyncio.Event()  # everything was put in force once
        self._applied: dict[str, bytes] = {}
        self._heard: OrderedDict[str, bytes | None] = OrderedDict()
        self._waiting: tuple[OrderedDict[str, bytes | None], ...] = tuple(OrderedDict() for _ in range(4))  # by place
        self._since = math.inf  # when the first came that waits and may take something away
        self._sure_until = NEVER  # until which what is known may be relied upon, whatever comes
        self._sure_for = 0.0  # by which staleness that was found
        self._touched: set[str | None] = set()  # tenants
        self._scheduled = False
        self._damaged: dict[str, str | None] = {}  # key → tenant, None for any

    def doubt(self, tenant: str, max_staleness_s: float) -> str:
        """The reason for which nothing can be decided for a tenant, "" where it can."""
        if self.stale(max_staleness_s):
            return "policy.stale"
        if self._damaged and not {tenant, None}.isdisjoint(self._damaged.values()):
            return "policy.damaged"
        return ""

    def age(self) -> float:
        """Seconds since all that is in force was known to be so; infinite before everything was put in force once."""
        if not self.begun.is_set():
            return math.inf
        return max(self._clock() - min(self._so, self._since), self._age())  # of what nobody has told yet as well

    def stale(self, max_staleness_s: float) -> bool:
        """Whether something may be otherwise than is known here, or nothing is known yet."""
        now = self._clock()
        if now < self._sure_until and max_staleness_s == self._sure_for:
            return False
        age = self.age()
        if age > max_staleness_s:
            return True
        self._sure_until, self._sure_for = now - age + max_staleness_s, max_staleness_s
        return False

    def listen_so(self, _key: str, value: Any) -> None:
        """value: of `rows.SO`; None where whoever tells has begun anew, and has not read yet."""
        self._telling = value is not None
        if value is not None:
            self._so, _ = value
            if not self.begun.is_set() or self._heard or any(self._waiting):
                self._soon()

    def listen(self, key: str, value: Any) -> None:
        """value: a row; None where the thing is gone."""
        self._heard[key] = value  # and little more: at once there may be a hundred thousand
        self._heard.move_to_end(key)
        if self._since == math.inf:
            self._since = self._clock()
        self._soon()

    def _soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._apply)

    def _apply(self) -> None:
        """A slice of what was heard, or, once all of it has its place, of what waits."""
        self._scheduled = False
        if not self._telling:
            return  # what has gone by now may be told again
        until = self._timer() + SLICE_S
        pressing = len(self._heard) + sum(map(len, self._waiting[:_ADDED]))
        at_once = self.begun.is_set() and pressing <= MOST_AT_ONCE
        hurried = bool(self._heard) or any(self._waiting[:_ADDED])
        while self._heard or any(self._waiting):
            if self._heard:
                self._take_up(*self._heard.popitem(last=False))
            else:
                self._put(*next(filter(None, self._waiting)).popitem(last=False))
            whole = not self._heard and not any(self._waiting[:_ADDED])
            if (whole or not at_once) and self._timer() >= until:
                break
        waits = bool(self._heard) or any(self._waiting)
        if not self._heard and not any(self._waiting[:_ADDED]):
            self._since = math.inf
        if waits:
            self._soon()
        else:
            self.begun.set()
        if self._touched and (not waits or (hurried and self._since == math.inf)):
            touched, self._touched = self._touched, set()
            self._changed(None if None in touched else {each for each in touched if each is not None})

    def _take_up(self, key: str, value: bytes | None) -> None:
        """Where in the order a change stands, if it is one."""
        for waiting in self._waiting:
            waiting.pop(key, None)
        applied = self._applied.get(key)
        if value != applied or key in self._damaged:
            self._waiting[_place(key, value, applied)][key] = value

    def _put(self, key: str, row: bytes | None) -> None:
        try:
            named = rows.read_key(key)
        except ValueError as error:
            self._doubt(key, None, row, error)
            return
        self._touched.add(named.tenant)
        self._damaged.pop(key, None)
        if row is None:
            self._applied.pop(key, None)
            self._drop(named)
            return
        self._applied[key] = row
        try:
            item = rows.decode(named.kind, row)
            if rows.key(item) != named:
                raise ValueError(f"it is of {rows.key(item)}")
            self.engine.take(item)
        except (PolicyError, ValueError) as error:
            self._drop(named)
            self._doubt(key, named, row, error)

    def _drop(self, named: Key) -> None:
        self.engine.drop(KINDS[named.kind], named.tenant, named.name)

    def _doubt(self, key: str, named: Key | None, row: bytes | None, error: Exception) -> None:
        """What cannot be read grants nothing, and where it may have denied something, nothing is allowed."""
        if named is None:
            self._touched.add(None)
            self._damaged.pop(key, None)
        if row is not None:
            log.error("policy_damaged", key=key, detail=str(error))
            if named is None or named.kind == POLICY:
                self._damaged[key] = None if named is None else named.tenant


def _place(key: str, value: bytes | None, applied: bytes | None) -> int:
    kind = key.partition("/")[0]
    if kind == POLICY or kind not in KINDS:
        return _POLICIES_GONE if value is None else _POLICIES
    return _ADDED if applied is None else _REPLACED
