"""Interleaved rounds: two proxies take turns under the same load, so that what disturbs the machine meets both."""

from __future__ import annotations

from collections.abc import Callable
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
    """All rounds of one shape: the subject's samples and the peer's, round by round."""

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
        report = load.run(proxy.port, shape, calls)
        proxy.finish(calls)
        used = schedstat.spent(before, schedstat.read(pid))
    except BenchError as error:
        raise BenchError(f"{proxy.title}: {error}\nits last lines:\n{proxy.process.tail()}") from error
    return Sample(used.run_ns / calls / 1e3, used.wait_ns / used.run_ns, calls / report.seconds)


def compare(
    subject: Proxy, peer: Proxy, load: Load, shape: Shape, calls: int, rounds: int, tell: Callable[[str], None]
) -> Comparison:
    """Run `rounds` rounds after a warm-up that is not counted; who goes first changes every round.

    Raises BenchError when any round is void.
    """
    for proxy in (subject, peer):
        measure(proxy, load, shape, max(calls // 10, shape.connections * shape.streams))
    samples: dict[str, list[Sample]] = {subject.title: [], peer.title: []}
    for number in range(rounds):
        for proxy in (subject, peer) if number % 2 == 0 else (peer, subject):
            samples[proxy.title].append(measure(proxy, load, shape, calls))
        ours, theirs = samples[subject.title][-1], samples[peer.title][-1]
        tell(f"{shape} round {number + 1} of {rounds}: {ours.cpu_us:.1f} beside {theirs.cpu_us:.1f} us a call")
    return Comparison(shape, calls, tuple(samples[subject.title]), tuple(samples[peer.title]))
