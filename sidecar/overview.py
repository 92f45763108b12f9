"""What operators are told of the running sidecar: put together from its config and from what its processes report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from interceptors.chain import Chain as LinkChain
from interceptors.contract import NO_OBLIGATIONS, Interceptor, Method, View
from sidecar.config.model import Config
from sidecar.operations.model import Certificate, Chain, Depth, Feed, Link, Upstream, UpstreamState, Worker, WorkerState
from sidecar.processes.crew import Child
from sidecar.processes.lifecycle import State
from sidecar.relay.codecs.registry import Codecs

STATES: Final = {
    State.WAITING: WorkerState.BACKING_OFF,
    State.STARTING: WorkerState.STARTING,
    State.SERVING: WorkerState.SERVING,
    State.OUTGOING: WorkerState.SERVING,
}  # all others drain
CONDITIONS: Final = {
    "ready": UpstreamState.READY,
    "connecting": UpstreamState.CONNECTING,
    "ejected": UpstreamState.EJECTED,
    "unhealthy": UpstreamState.DOWN,
    "down": UpstreamState.DOWN,
}
DEPTHS: Final = {View.METADATA: Depth.METADATA, View.BYTES: Depth.BYTES, View.DECODED: Depth.DECODED}
WORST: Final = (UpstreamState.READY, UpstreamState.CONNECTING, UpstreamState.EJECTED, UpstreamState.DOWN)


def workers(children: Sequence[Child]) -> tuple[Worker, ...]:
    return tuple(map(_worker, children))


def _worker(child: Child) -> Worker:
    role = "relay" if child.post.role == "worker" else child.post.role
    pid = child.process.pid if child.process is not None else 0
    state, report = STATES.get(child.state, WorkerState.DRAINING), child.report
    return Worker(role, pid, state, child.ends, report.resident, report.connections, report.calls)


def upstreams(children: Sequence[Child]) -> tuple[Upstream, ...]:
    """Each endpoint as the relays report it: the sum of what they count, and the worst of what they find."""
    found: dict[str, Upstream] = {}
    for child in children:
        for address, condition, connections, failures in child.report.detail.get("upstreams", ()):
            before = found.get(address, Upstream(address, UpstreamState.READY))
            state = max(before.state, CONDITIONS[condition], key=WORST.index)
            found[address] = Upstream(address, state, before.connections + connections, before.failures + failures)
    return tuple(found.values())


def feeds(children: Sequence[Child], limit_s: float) -> tuple[Feed, ...]:
    """What the relays follow, as the one that has heard of it least. limit_s: beyond which it is not relied upon."""
    found: dict[str, float] = {}
    for child in children:
        for name, age in child.report.detail.get("feeds", {}).items():
            found[name] = max(found.get(name, 0.0), age)
    return tuple(Feed(name, age, limit_s) for name, age in sorted(found.items()))


def chains(chain: LinkChain, codecs: Codecs, own: Mapping[str, str]) -> tuple[Chain, ...]:
    """What runs over calls of each method that is known by its name. own: the methods of our own services."""
    methods = [codecs.method(path) or Method(path) for path in sorted({*codecs.paths, *own})]
    return tuple(Chain(method.path, tuple(_link(link, method) for link in chain.links)) for method in methods)


def _link(link: Interceptor, method: Method) -> Link:
    depth = link.depth(method, NO_OBLIGATIONS)
    return Link(link.name, Depth.METADATA if depth is None else DEPTHS[depth])


def certificates(config: Config) -> tuple[Certificate, ...]:
    """Every certificate that the config names. Files are read; what cannot be is left out, for the config was tried."""
    return tuple(found for setting, path in _files(config) for found in _read(setting, path))


def _files(config: Config) -> Iterator[tuple[str, Path]]:
    listen, upstream, mtls = config.listen.tls, config.upstream.tls, config.authentication.mtls
    if listen is not None:
        yield "listen.tls.certificate", listen.certificate
        if listen.client_ca is not None:
            yield "listen.tls.client_ca", listen.client_ca
    for number, domain in enumerate(mtls.trust_domains if mtls is not None else ()):
        if domain.ca is not None:
            yield f"authentication.mtls.trust_domains[{number}].ca", domain.ca
    if upstream is not None:
        yield "upstream.tls.ca", upstream.ca
        if upstream.certificate is not None:
            yield "upstream.tls.certificate", upstream.certificate


def _read(setting: str, path: Path) -> Iterator[Certificate]:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return
    for each in found:
        yield Certificate(setting, each.subject.rfc4514_string(), each.not_valid_after_utc.timestamp())


def model_server(config: Config) -> dict[str, Any]:
    """How the services process reaches the model server, JSON types."""
    address, tls = config.upstream.address[0], config.upstream.tls
    files = None
    if tls is not None:
        given = {"ca": tls.ca, "certificate": tls.certificate, "key": tls.key}
        files = {name: str(path) if path is not None else "" for name, path in given.items()}
        files["server_name"] = tls.server_name or ""
    return {"address": str(address).replace("unix://", "unix:"), "tls": files}
