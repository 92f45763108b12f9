"""`langtrain-sidecar status`: a running sidecar, asked through its own front door, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from langtrain.v1 import sidecar_pb2 as pb
from sidecar.shown import as_json, safe, table

_GOOD = ("serving", "ready")
_MIB = 1 << 20


def as_table(status: pb.Status, now: datetime) -> RenderableType:
    """now: aware, what expiries are counted from."""
    return Group(_head(status), *_tables(status, now))


def print_table(status: pb.Status, in_place: bool = False) -> None:
    """in_place: on a terminal, instead of what is there."""
    console = Console(highlight=False, emoji=False)
    if in_place and console.is_terminal:
        console.clear()
    console.print(as_table(status, datetime.now(UTC)))


def watch(statuses: Iterable[pb.Status], json_lines: bool) -> None:
    """Show each as it comes."""
    for status in statuses:
        if json_lines:
            print(json.dumps(as_json(status)), flush=True)
        else:
            print_table(status, in_place=True)


def _head(status: pb.Status) -> Text:
    up = timedelta(seconds=status.uptime.seconds)
    head = Text(f"langtrain-sidecar {safe(status.version)}, up {up}, config {safe(status.config_digest[:8])}")
    if status.draining:
        head.append("  draining", "bold yellow")
    return head


def _tables(status: pb.Status, now: datetime) -> Iterator[Table]:
    if status.workers:
        yield table(
            ("process", "pid", "state", "restarts", "MiB", "connections", "calls"), map(_worker, status.workers)
        )
    if status.upstreams:
        yield table(("model server", "state", "connections", "failures"), map(_upstream, status.upstreams))
    if status.chains:
        yield table(("methods", "links"), _chains(status.chains))
    if status.certificates:
        rows = (_certificate(each, now) for each in status.certificates)
        yield table(("certificate", "subject", "expires"), rows)
    if status.feeds:
        yield table(("feed", "last heard of"), map(_feed, status.feeds))


def _worker(worker: pb.Worker) -> tuple[str | Text, ...]:
    counts = map(str, (worker.restarts, worker.memory // _MIB, worker.connections, worker.calls))
    state = _state(pb.WorkerState.Name(worker.state).removeprefix("WORKER_STATE_"))
    return (worker.role, str(worker.pid or "–"), state, *counts)


def _upstream(upstream: pb.Upstream) -> tuple[str | Text, ...]:
    state = _state(pb.UpstreamState.Name(upstream.state).removeprefix("UPSTREAM_STATE_"))
    return upstream.address, state, str(upstream.connections), str(upstream.failures)


def _chains(chains: Iterable[pb.Chain]) -> Iterator[tuple[str | Text, ...]]:
    """A row for each chain that differs: a service whose known methods all have it stands for them."""
    groups: dict[str, list[str]] = {}
    services: dict[str, set[str]] = {}
    for chain in chains:
        links = " → ".join(map(_link, chain.links))
        groups.setdefault(links, []).append(chain.method)
        services.setdefault(chain.method.rpartition("/")[0], set()).add(links)
    for links, methods in groups.items():
        whole = (service for service, found in services.items() if found == {links})
        single = [method for method in methods if len(services[method.rpartition("/")[0]]) > 1]
        yield Text("\n".join(map(safe, sorted([*(f"{service}/*" for service in whole), *single])))), links


def _link(link: pb.Link) -> str:
    depth = pb.Depth.Name(link.depth).removeprefix("DEPTH_").lower()
    return link.name if link.depth == pb.DEPTH_METADATA else f"{link.name} ({depth})"


def _certificate(certificate: pb.Certificate, now: datetime) -> tuple[str | Text, ...]:
    expires = certificate.expires.ToDatetime(UTC)
    left = (expires - now).days
    text = Text(f"{expires:%Y-%m-%d %H:%M} UTC, in {left} days", "yellow" if left < 7 else "")
    return certificate.setting, certificate.subject, text


def _feed(feed: pb.Feed) -> tuple[str | Text, ...]:
    if not feed.HasField("staleness"):
        return feed.name, Text("never", "red")
    staleness, limit = (each.ToTimedelta().total_seconds() for each in (feed.staleness, feed.limit))
    return feed.name, Text(f"{staleness:.1f} s of {limit:g} s", "red" if staleness > limit else "")


def _state(name: str) -> Text:
    word = name.lower().replace("_", " ")
    return Text(word, "green" if word in _GOOD else "yellow")
