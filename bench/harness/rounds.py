"""Interleaved rounds: proxies take turns under the same load, so that what disturbs the machine meets them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.harness import schedstat
from bench.harness.errors import BenchError
from bench.harness.loads import Load
from bench.harness.proxies import Proxy

LEAST = 100  # calls in an entry's part of a round
WARM_UP = 0.1  # of a round's calls


@dataclass(frozen=True, slots=True)
class Sample:
    """One proxy's part of a round.

    cpu_us: CPU time per call in microseconds.
    waited: time the proxy stood ready without getting its core, as a share of its CPU time: a busy machine.
    rate: calls per second.  p50_us: of a call's time, None where the load does not tell.
    """

    cpu_us: float
    waited: float
    rate: float
    p50_us: float | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A proxy under a load. title: as tables name the two.  calls: in a round, less where the proxy's share is."""

    title: str
    proxy: Proxy
    load: Load
    calls: int

    def count(self, part: float = 1.0) -> int:
        return max(round(self.calls * part * self.proxy.share), min(self.calls, LEAST))


@dataclass(frozen=True, slots=True)
class Rounds:
    """Samples by title, round by round: those at the same place were taken beside each other."""

    samples: dict[str, tuple[Sample, ...]]

    def ratios(self, title: str, to: str) -> tuple[float, ...]:
        """CPU time of one to another's, by round."""
        pairs = zip(self.samples[title], self.samples[to], strict=True)
        return tuple(one.cpu_us / other.cpu_us for one, other in pairs)

    def added(self, title: str, to: str, alone: str) -> tuple[float, ...]:
        """By round, what one adds to the median call's time, to what another adds. alone: without either."""
        return tuple(
            (_p50(one) - _p50(none)) / (_p50(other) - _p50(none))
            for one, other, none in zip(self.samples[title], self.samples[to], self.samples[alone], strict=True)
        )


def _p50(sample: Sample) -> float:
    if sample.p50_us is None:
        raise BenchError("the load does not tell how long calls took")
    return sample.p50_us


def measure(proxy: Proxy, load: Load, calls: int) -> Sample:
    """Put `calls` calls through `proxy`.

    Raises BenchError, with the end of the proxy's log, when one failed or the proxy's evidence disagrees.
    """
    pid = proxy.process.pid
    try:
        with load.connected(proxy.port, calls, proxy.sampled) as go:
            before = schedstat.read(pid)
            report = go()
            proxy.finish(calls)
            used = schedstat.spent(before, schedstat.read(pid))
    except BenchError as error:
        raise BenchError(f"{proxy.title}: {error}\nits last lines:\n{proxy.process.tail()}") from error
    return Sample(used.run_ns / calls / 1e3, used.wait_ns / used.run_ns, calls / report.seconds, report.p50_us)


def take_turns(entries: Sequence[Entry], rounds: int, tell: Callable[[str], None]) -> Rounds:
    """Run `rounds` rounds after a warm-up that is not counted; the order turns round every time.

    Titles tell the entries apart.  Raises BenchError when any round is void.
    """
    order = list(entries)
    for entry in order:
        measure(entry.proxy, entry.load, entry.count(WARM_UP))
    samples: dict[str, list[Sample]] = {entry.title: [] for entry in order}
    for number in range(rounds):
        for entry in order:
            samples[entry.title].append(measure(entry.proxy, entry.load, entry.count()))
        order.reverse()
        figures = ", ".join(f"{taken[-1].cpu_us:.1f} {title}" for title, taken in samples.items())
        tell(f"round {number + 1} of {rounds}, us a call: {figures}")
    return Rounds({title: tuple(taken) for title, taken in samples.items()})
