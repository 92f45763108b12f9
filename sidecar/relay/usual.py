"""What a model server's answers take while no call waits for others, by method. Sans-I/O; times come in.

Learnt from cohorts: some calls that follow each other, all of whose answers are awaited. Of the answers that come
within a given time, most are of short calls, so that a method whose calls differ much would seem faster than it is.
"""

from __future__ import annotations

from typing import Final

COHORT: Final = 10  # calls
COHORT_S: Final = 60.0  # no answer is awaited for longer
FEW: Final = 3  # calls by which a method's usual is known at all
MANY: Final = 30  # calls by which it is lowered, lest chance does it
METHODS: Final = 64  # told apart, those that were answered last
TOLERANCE: Final = 1.75  # times the usual: more is late
SLACK_S: Final = 0.003  # and so much more: below it the noise of a machine tells more than the model server
LONGER: Final = 1.5  # times what was thought before


class Usual:
    """What a method's answers take.  seconds: 0.0 until known."""

    __slots__ = ("_calls", "_quiet_calls", "_quiet_total", "_total", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self._total = self._quiet_total = 0.0
        self._calls = self._quiet_calls = 0

    def late(self, seconds: float) -> bool:
        return self.seconds > 0.0 and seconds > TOLERANCE * self.seconds + SLACK_S

    def note(self, seconds: float, quiet: bool) -> None:
        """quiet: the call hardly had to wait for others."""
        self._total += seconds
        self._calls += 1
        if quiet:
            self._quiet_total += seconds
            self._quiet_calls += 1

    def learn(self) -> None:
        """The usual is what quiet calls took, and not more than what the others did."""
        if self._quiet_calls >= COHORT:
            self.replace()
        elif self._calls >= (MANY if self.seconds else FEW):
            mean = self._total / self._calls
            if not self.seconds:
                self.seconds = mean
            elif mean < self.seconds:
                self.seconds += (mean - self.seconds) / 4
            self._total, self._calls = 0.0, 0

    def replace(self) -> bool:
        """Learn from quiet calls alone, if there are some; whether they took much longer than was thought."""
        if self._quiet_calls < FEW:
            return False
        before, self.seconds = self.seconds, self._quiet_total / self._quiet_calls
        self.forget()
        return self.seconds > LONGER * before

    def forget(self) -> None:
        self._total = self._quiet_total = 0.0
        self._calls = self._quiet_calls = 0


class Usuals:
    """The usual of each method, and the cohort that is awaited now.

    began: when it did.  quiet: calls that may wait, itself included, when one is asked that hardly has to.
    """

    __slots__ = ("_by_path", "_chosen", "_cohort", "_ended", "began", "quiet")

    def __init__(self, now: float) -> None:
        """now: seconds of any clock that does not go back, as everywhere here."""
        self._by_path: dict[str, Usual] = {}
        self._cohort = 0
        self.gather(now)

    def gather(self, now: float, quiet: int = 1) -> None:
        """Begin a cohort."""
        self._cohort += 1
        self._chosen = self._ended = 0
        self.quiet = quiet
        self.began = now

    def pause(self) -> None:
        """Await none, and choose none until a cohort is begun."""
        self._cohort += 1
        self._chosen, self._ended = COHORT, 0

    def forget(self) -> None:
        """What has been noted, but not what has been learnt."""
        for usual in self._by_path.values():
            usual.forget()

    def choose(self, waiting: int) -> int:
        """Of a call that is asked while so many wait, itself included: the mark to give back when it ends."""
        if self._chosen == COHORT:
            return 0
        self._chosen += 1
        return -self._cohort if waiting <= self.quiet else self._cohort

    def end(self, mark: int, usual: Usual | None, seconds: float) -> bool:
        """A call has ended that was chosen; whether it is the last of its cohort.

        usual: of its method, if there is anything to learn from it.
        """
        if mark != self._cohort and mark != -self._cohort:
            return False
        self._ended += 1
        if usual is not None:
            usual.note(seconds, mark < 0)
        return self._ended == COHORT

    @property
    def complete(self) -> bool:
        """Whether the whole cohort has ended."""
        return self._ended == COHORT

    def known(self, path: str) -> Usual | None:
        return self._by_path.get(path)

    def of(self, path: str) -> Usual:
        """Of a method that is answered: a new one takes the place of that whose last answer is longest ago."""
        usual = self._by_path.pop(path, None)
        if usual is None:
            usual = Usual()
            if len(self._by_path) == METHODS:
                del self._by_path[next(iter(self._by_path))]
        self._by_path[path] = usual  # behind all others: a dict keeps its order
        return usual

    def learn(self) -> None:
        for usual in self._by_path.values():
            usual.learn()

    def replace(self) -> bool:
        """Learn from quiet calls alone; whether those of any method took much longer than was thought."""
        longer = [usual.replace() for usual in self._by_path.values()]  # all of them learn
        return any(longer)

    @property
    def longest(self) -> float:
        """Seconds."""
        return max([usual.seconds for usual in self._by_path.values()], default=0.0)
