"""Interleaved rounds: proxies take turns under the same load, so that what disturbs the machine meets them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.harness import schedstat
from bench.harness.errors import BenchError
from bench.harness.h2load import Load, Shape
from bench.harness.proxies import Proxy


@dataclass(frozen=True, slots=True)
class Sample:
    """One proxy's part of a round.

    cpu_us: CPU time per call in microseconds, TLS handshakes included.
    waited: time the proxy stood ready without getting its core, as a share of its CPU time: a busy machine.
    rate: calls per second.
    """

    cpu_us: float
    waited: float
    rate: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rounds of one shape: a subject's samples and the peer's, round by round."""

    title: str  # the subject's
    shape: Shape
    calls: int
    subject: tuple[Sample, ...]
    peer: tuple[Sample, ...]

    @property
    def subject_us(self) -> float:
        return median(sample.cpu_us for sample in self.subject)

    @property
    def peer_us(self) -> float:
        return median(sample.cpu_us for sample in self.peer)

    @property
    def ratios(self) -> tuple[float, ...]:
        """Subject to peer, by round."""
        return tuple(ours.cpu_us / theirs.cpu_us for ours, theirs in zip(self.subject, self.peer, strict=True))

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios; below 1 the subject is the cheaper one."""
        return median(self.ratios)

    @property
    def waited(self) -> float:
        """The worst share of waiting in any round."""
        return max(sample.waited for sample in (*self.subject, *self.peer))


def measure(proxy: Proxy, load: Load, shape: Shape, calls: int) -> Sample:
    """Put `calls` calls through `proxy`.

    Raises BenchError, with the end of the proxy's log, when one failed or the proxy's evidence disagrees.
    """
    pid = proxy.process.pid
    try:
        before = schedstat.read(pid)
        report = load.run(proxy.port, shape, calls, proxy.sampled)
        proxy.finish(calls)
        used = schedstat.spent(before, schedstat.read(pid))
    except BenchError as error:
        raise BenchError(f"{proxy.title}: {error}\nits last lines:\n{proxy.process.tail()}") from error
    return Sample(used.run_ns / calls / 1e3, used.wait_ns / used.run_ns, calls / report.seconds)


def compare(
    subjects: Sequence[Proxy],
    peer: Proxy,
    load: Load,
    shape: Shape,
    calls: int,
    rounds: int,
    tell: Callable[[str], None],
) -> list[Comparison]:
    """Run `rounds` rounds after a warm-up that is not counted; the order turns round every time.

    Titles tell the proxies apart.  Raises BenchError when any round is void.
    """
    order = [*subjects, peer]
    for proxy in order:
        measure(proxy, load, shape, max(calls // 10, shape.connections * shape.streams))
    samples: dict[str, list[Sample]] = {proxy.title: [] for proxy in order}
    for number in range(rounds):
        for proxy in order:
            samples[proxy.title].append(measure(proxy, load, shape, calls))
        order.reverse()
        figures = ", ".join(f"{taken[-1].cpu_us:.1f} {title}" for title, taken in samples.items())
        tell(f"{shape} round {number + 1} of {rounds}, us a call: {figures}")
    theirs = tuple(samples[peer.title])
    return [Comparison(subject.title, shape, calls, tuple(samples[subject.title]), theirs) for subject in subjects]
