"""What it costs to know who calls and to decide what they may do: `make bench-access`.

CPU time per call, as in `bench.relay`: the sidecar that verifies a JWT, decides by a role and three conditions, and
limits, beside Envoy that asks a Python service about each call, which verifies the JWT and nothing else; and beside the
sidecar whose callers are known by their certificates and allowed by one rule. A token's first sight is timed alone.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import grpc

from bench.harness import certificates, cores, ext_authz, issuer, payload, results, sidecar, upstream
from bench.harness.certificates import Certificates
from bench.harness.driver import Driver
from bench.harness.errors import BenchError
from bench.harness.issuer import Issuer
from bench.harness.loads import Shape
from bench.harness.paths import CACHE, RESULTS, ROOT
from bench.harness.processes import Processes, exit_on_signals
from bench.harness.results import Figure
from bench.harness.rounds import Entry, Rounds, take_turns
from bench.harness.sidecar import SIDECAR, Setup, Sidecar
from bench.relay import VARIED
from langtrain.v1 import policies_pb2 as pb
from langtrain.v1 import policies_pb2_grpc
from sidecar.identity import jwks
from sidecar.identity.model import Issuer as Trusted
from sidecar.identity.tokens import Tokens

COMMAND: Final = "python -m bench.access"
TITLE: Final = "JWT, a role, 3 conditions"
PLAIN: Final = replace(SIDECAR, title="certificate, a rule", rules=1)
CALLS: Final = 20_000
SHARE: Final = 0.25  # of them that the peer is given
FIRST: Final = 500  # tokens
BESIDE: Final = "/inference.GRPCInferenceService/ModelStreamInfer"  # of the load's permission, and not called by it
TOLD_S: Final = 10.0  # for the worker to be told of what was made
RATIO, ADDED_US, FIRST_US = 0.3, 25.0, 250.0  # bars
CONDITIONS: Final = {
    "clearance": "user.clearance_level >= model.classification_level",
    "regions": "user.location in model.allowed_regions",
    "size": "request.size < 1000000",
}


def main() -> int:
    arguments = _arguments()
    exit_on_signals()
    try:
        with Processes(CACHE / f"run-{os.getpid()}") as processes:
            rounds, build = run(processes, arguments.rounds, arguments.scale)
    except BenchError as error:
        print(f"bench access failed: {error}", file=sys.stderr)
        return 1
    asked = [
        COMMAND,
        *(f"--{name} {value:g}" for name, value in (("rounds", arguments.rounds), ("scale", arguments.scale))),
    ]
    found = [{**each, "command": " ".join(asked)} for each in (*_of_calls(rounds), first_sight(arguments.rounds))]
    for each in found:
        print(f"{each['metric']}: {each['value']:g} {each['unit']}{'' if each.get('met', True) else '  MISSED'}")
    record = {
        "bench": "access",
        "machine": results.machine(),
        "set_up": {
            "sidecar": "1 KB unary over mTLS, 4 connections x 8 streams, varying headers, a token of "
            "RS256 with each call; limits, audit file, access log, metrics and 1% of spans on",
            "build": build,
            "peer": f"{ext_authz.TITLE}: grpcio, joserfc",
        },
        "results": found,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {os.path.relpath(arguments.out, ROOT)}")
    return 0


def run(processes: Processes, rounds: int, scale: float) -> tuple[Rounds, str]:
    """Raises BenchError when something is missing, does not start, or a round is void."""
    claimed = cores.claim()
    issued = certificates.issue(processes.folder, datetime.datetime.now(datetime.UTC))
    keys, model = Issuer(processes.folder), upstream.start(processes)

    def started(setup: Setup, callers: str) -> Sidecar:
        evidence = replace(VARIED, callers=callers, beside=("/langtrain.v1.", BESIDE))
        return sidecar.start(processes, claimed.proxy, issued, model.port, setup, evidence)

    token = keys.token("client", clearance_level=3, location="eu")
    full = started(Setup(TITLE, jwks=keys.jwks, policies=True), issuer.CALLERS)
    administer(full, issued, token)
    plain = started(PLAIN, certificates.CALLERS)
    peer = replace(
        ext_authz.start(
            processes, claimed.proxy, issued, model.port, keys.jwks, issuer.ISSUER, issuer.AUDIENCE
        ), share=SHARE,
    )  # fmt: skip
    body, shape = payload.framed(1024), Shape(4, 8)
    tokens = Driver(processes, issued, body, shape, authorization=f"Bearer {token}")
    bare = Driver(processes, issued, body, shape)
    calls = max(int(CALLS * scale), 1)
    proxies = ((full, tokens), (plain, bare), (peer, tokens))
    entries = [Entry(proxy.title, proxy, load, calls) for proxy, load in proxies]
    return take_turns(entries, rounds, lambda line: print(line, file=sys.stderr, flush=True)), full.build


def administer(one: Sidecar, issued: Certificates, token: str) -> None:
    """A role for the callers, and the conditions. Returns once the worker decides by them: it lets the token's holder
    in, and it puts no grant in force before the policies that were made earlier."""
    files = [file.read_bytes() for file in (issued.ca, issued.client_key, issued.client)]
    with grpc.secure_channel(f"localhost:{one.port}", grpc.ssl_channel_credentials(*files)) as channel:
        service: Any = policies_pb2_grpc.PolicyServiceStub(channel)
        role = pb.Role(name="caller", permissions=["models.inference"])
        service.CreateRole(pb.CreateRoleRequest(role=role), timeout=10)
        for name, condition in CONDITIONS.items():
            policy = pb.Policy(name=name, effect=pb.EFFECT_ALLOW, condition=condition, permissions=["models.inference"])
            service.CreatePolicy(pb.CreatePolicyRequest(policy=policy), timeout=10)
        grant = pb.Grant(members=[f"{issuer.CALLERS}*"], role="caller", resources=["models/*"])
        service.CreateGrant(pb.CreateGrantRequest(grant=grant), timeout=10)
        one.process.wait_for(lambda: _let_in(channel, token) or None, "let the caller in", TOLD_S)


def _let_in(channel: grpc.Channel, token: str) -> bool:
    """Whether a call is."""
    call: Any = channel.stream_stream(BESIDE)
    message = payload.framed(1024)[payload.PREFIX.size :]
    try:
        return bool(list(call(iter([message]), timeout=10, metadata=(("authorization", f"Bearer {token}"),))))
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
            raise BenchError(f"expected the caller to be let in or denied, came {error.code()}") from error
        return False


def _of_calls(rounds: Rounds) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for title, samples in rounds.samples.items():
        figure = Figure(f"CPU time a call, {title}", "us", [sample.cpu_us for sample in samples])
        found.append(figure.record(COMMAND))
    ratios = rounds.ratios(TITLE, ext_authz.TITLE)
    found.append(
        _judged(Figure(f"CPU time a call, {TITLE}, to the peer's", "x", ratios), RATIO) | {"peer": ext_authz.TITLE}
    )
    pairs = zip(rounds.samples[TITLE], rounds.samples[PLAIN.title], strict=True)
    added = [one.cpu_us - other.cpu_us for one, other in pairs]
    found.append(_judged(Figure(f"CPU time a call, added to that of {PLAIN.title}", "us", added), ADDED_US))
    return found


def first_sight(rounds: int) -> dict[str, Any]:
    """Microseconds for a token that was not seen before, all of its checks included."""
    with tempfile.TemporaryDirectory() as folder:
        issued = Issuer(Path(folder))
        keys = jwks.read(issued.jwks.read_bytes(), frozenset(("RS256",)))
    trusted = Trusted(issuer.NAME, issuer.ISSUER, frozenset((issuer.AUDIENCE,)), frozenset(("RS256",)))
    known = Tokens([trusted], _Known(keys), lambda who, digest: False)
    values = []
    for number in range(rounds):
        fresh = [issued.token(f"caller-{number}-{at}", clearance_level=3) for at in range(FIRST)]
        gc.collect()
        began, now = time.thread_time_ns(), time.time()
        for text in fresh:
            known.identify(text, b"", "", now)
        values.append((time.thread_time_ns() - began) / FIRST / 1e3)
    return _judged(Figure("a token's first sight, RS256 of 2,048 bits", "us", values), FIRST_US)


class _Known:
    """An issuer's keys, in force."""

    def __init__(self, keys: jwks.KeySet) -> None:
        self._keys = keys

    def of(self, issuer: str, now: float) -> jwks.KeySet:
        return self._keys


def _judged(figure: Figure, bar: float) -> dict[str, Any]:
    """By its median, as every figure of costs is."""
    return figure.record(COMMAND) | {"bar": bar, "met": median(figure.values) <= bar}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count")
    parser.add_argument("--scale", type=float, default=1.0, help="of the calls in a round, below 1 for a quick look")
    parser.add_argument("--out", type=Path, default=RESULTS / "access.json", help="where the results go")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
