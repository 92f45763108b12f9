"""PostgreSQL is away when the sidecar starts, or later, and comes: meanwhile whoever depends on it is refused."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from langtrain.v1 import api_keys_pb2 as pb
from langtrain.v1 import revocations_pb2, sidecar_pb2
from langtrain.v1.api_keys_pb2_grpc import ApiKeyServiceStub
from langtrain.v1.sidecar_pb2_grpc import SidecarServiceStub
from tests import sidecars
from tests.certificates import CLIENT, Certificates
from tests.e2e import test_revocations as revocations
from tests.e2e.test_limits import channel
from tests.e2e.test_telemetry import free_port, get
from tests.e2e.test_tokens import call
from tests.e2e.upstream import echo
from tests.identity.keyring import made
from tests.sidecars import Sidecar, guarded
from tests.state.postgres import Server
from tests.telemetry.boards import samples
from tests.waiting import eventually

CODE = grpc.StatusCode
FAULTS = frozenset(("state_away", "state_lost", "revocations_unknown"))
RULES = [{"identities": [CLIENT], "methods": ["/**"], "permissions": ["upstream.opaque", "api_keys.*", "sidecar.*"]}]


class Scene:
    """A sidecar that takes API keys, and a client whom a rule of its config lets call everything."""

    def __init__(self, running: Sidecar, opened: grpc.Channel, probes: int) -> None:
        self.running = running
        self.opened = opened
        self.probes = probes
        self.service = ApiKeyServiceStub(opened)

    def by_rule(self) -> CODE:
        return call(self.opened, None)

    def by_key(self, text: str) -> CODE:
        return call(self.opened, text)

    def create(self) -> str:
        wanted = pb.CreateApiKeyRequest(owner="user:login/alice", permissions=["upstream.opaque"])
        text: str = self.service.CreateApiKey(wanted, timeout=30, wait_for_ready=True).text
        return text

    def refusal(self) -> tuple[CODE, str]:
        """With which a key is not made, and the reason."""
        with pytest.raises(grpc.RpcError) as raised:
            self.create()
        failed: Any = raised.value
        [detail] = rpc_status.from_call(failed).details
        return failed.code(), detail.value.decode(errors="replace")

    def made(self) -> str:
        """A key, made and let in as soon as that can be."""
        found: list[str] = []

        def comes() -> bool:
            try:
                found.append(self.create())
            except grpc.RpcError:
                return False
            return True

        eventually(comes, "a key is made", 60)
        eventually(lambda: self.by_key(found[0]) is CODE.OK, "a key is let in")
        return found[0]

    def ready(self) -> tuple[int, str]:
        return get(self.probes, "/readyz")

    def feed_age(self) -> float:
        return samples(get(self.probes, "/metrics")[1].encode())['feed_age_seconds{feed="api-keys"}']

    def said(self) -> str:
        """Why the state is not there, as the log has it."""
        return "\n".join(str(line) for event in FAULTS for line in self.running.logged(event))


@contextmanager
def scene(tmp_path: Path, certificates: Certificates, url: str, **more: Any) -> Iterator[Scene]:
    probes = free_port()
    with echo() as (_, upstream), ExitStack() as stack:
        config = guarded(certificates, upstream)
        config["authentication"]["api_keys"] = {}
        config |= {
            "authorization": {"rules": RULES, **more},
            "state": {"url": url, "max_staleness": "2s"},
            "probes": {"address": f"127.0.0.1:{probes}", "min_free": "1MB", "max_staleness": "2s"},
        }
        running = stack.enter_context(sidecars.serve(config, tmp_path, faults=FAULTS))
        yield Scene(running, stack.enter_context(channel(running.address, certificates)), probes)


def test_a_sidecar_starts_before_its_database(tmp_path: Path, certificates: Certificates, server: Server) -> None:
    url = server.new_database()
    with ExitStack() as away:
        away.enter_context(server.down())
        with scene(tmp_path, certificates, url) as at:
            assert at.by_rule() is CODE.OK
            assert at.by_key(made(1)[0].text) is CODE.UNAVAILABLE
            code, reason = at.refusal()
            assert code is CODE.UNAVAILABLE
            assert "STATE_UNAVAILABLE" in reason
            said = "[-]feed failed: api-keys was never heard of\nfailed\n"
            eventually(lambda: at.ready() == (503, said), "it says why it is not ready")
            assert math.isinf(at.feed_age())
            status = SidecarServiceStub(at.opened).GetStatus(sidecar_pb2.GetStatusRequest(), timeout=30).status
            assert [(feed.name, feed.HasField("staleness")) for feed in status.feeds] == [("api-keys", False)]
            assert "state in PostgreSQL test_" in at.said()
            away.close()
            at.made()
            eventually(lambda: at.ready()[0] == 200, "it is ready")
            assert at.feed_age() < 2


def test_a_database_that_goes_and_comes_back(tmp_path: Path, certificates: Certificates, server: Server) -> None:
    with scene(tmp_path, certificates, server.new_database()) as at:
        text = at.made()
        with server.down():
            eventually(lambda: at.by_key(text) is CODE.UNAVAILABLE, "keys end with the staleness")
            assert at.by_rule() is CODE.OK
            assert at.refusal()[0] is CODE.UNAVAILABLE
            eventually(lambda: "api-keys is silent for" in at.ready()[1], "it says why it is not ready")
        eventually(lambda: at.by_key(text) is CODE.OK, "keys are let in again")
        at.made()


def test_where_policies_decide_rules_wait_for_them(tmp_path: Path, certificates: Certificates, server: Server) -> None:
    """Some policy may deny what a rule allows."""
    url = server.new_database()
    with ExitStack() as away:
        away.enter_context(server.down())
        with scene(tmp_path, certificates, url, policies=True) as at:
            assert at.by_rule() is CODE.UNAVAILABLE
            away.close()
            eventually(lambda: at.by_rule() is CODE.OK, "the rule holds", 60)


def test_a_database_that_is_not_there_yet(tmp_path: Path, certificates: Certificates, server: Server) -> None:
    with scene(tmp_path, certificates, server.address("made_later")) as at:
        assert at.by_rule() is CODE.OK
        eventually(lambda: 'database "made_later" does not exist' in at.said(), "it says so")
        server.run("postgres", "CREATE DATABASE made_later")
        at.made()


def test_a_wrong_password_is_said_and_not_shown(tmp_path: Path, certificates: Certificates, server: Server) -> None:
    url = server.new_database()
    server.demand_password(url, "guarded", "the-right-one")
    passwords = tmp_path / "passwords"
    passwords.touch(0o600)
    passwords.write_text("*:*:*:guarded:a-wrong-one\n")
    address = url.replace("sidecar@", "guarded@") + f"&passfile={passwords}"
    with scene(tmp_path, certificates, address) as at:
        assert at.by_rule() is CODE.OK
        eventually(lambda: 'password authentication failed for user "guarded"' in at.said(), "it says so")
        passwords.write_text("*:*:*:guarded:the-right-one\n")
        at.made()
        log = at.running.process.log
    assert "a-wrong-one" not in log
    assert "the-right-one" not in log


def test_what_is_revoked_stays_so_where_the_next_services_process_finds_no_database(
    tmp_path: Path, certificates: Certificates, server: Server
) -> None:
    state = {"url": server.new_database(), "max_staleness": "2s"}
    with revocations.scene(tmp_path, certificates, FAULTS, state=state) as at:
        eventually(lambda: at.of_stranger() == {CODE.OK}, "the workers know that nothing is revoked")
        pem = certificates.stranger.certificate.read_text()
        at.service.RevokeCertificate(revocations_pb2.RevokeCertificateRequest(pem=pem), timeout=30)
        eventually(lambda: at.of_stranger() == {CODE.UNAUTHENTICATED}, "all workers have been told")
        seen: set[CODE] = set()

        def stale() -> bool:
            codes = at.of_stranger()
            seen.update(codes)
            return codes == {CODE.UNAVAILABLE}

        with server.down():
            [services] = at.running.children("services").values()
            os.kill(services, signal.SIGKILL)
            eventually(stale, "the workers know that they know nothing")
            eventually(
                lambda: {*at.running.children("services").values()} - {services} != set(),
                "there is another",
            )
            assert stale()
        eventually(lambda: at.of_stranger() == {CODE.UNAUTHENTICATED}, "the workers are told again", 60)
        assert seen <= {CODE.UNAUTHENTICATED, CODE.UNAVAILABLE}
