"""Who may call the services, and what every call is answered with: attacks by another process of the same user."""

from __future__ import annotations

import socket
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

import langtrain
from sidecar.internal import mac, peer
from sidecar.internal.called import caller_of
from sidecar.internal.mac import SealError
from sidecar.services.guard import Refusal
from sidecar.services.server import CALLS, STREAMS
from tests.operations.in_memory import SilentSupervisorError
from tests.processes import Process
from tests.services.calls import REFUSED, Outcome, attack, call, seal
from tests.services.front import ALICE, boottime
from tests.services.running import KEY, Running

STATUS = "/langtrain.v1.SidecarService/GetStatus"
DRAIN = "/langtrain.v1.SidecarService/Drain"


def test_the_relay_is_answered_with_proof(services: Running) -> None:
    sealed = seal(KEY, STATUS)
    answered = call(services.sockets / CALLS, STATUS, (sealed,))
    nonce = mac.unseal(KEY, STATUS, sealed, boottime()).nonce
    assert answered == Outcome("OK", proof=mac.prove(KEY, STATUS, nonce).hex())
    assert services.refusals == []


def forged_name() -> bytes:
    """A sealed call of alice's, somebody else's name of the same length in it."""
    return seal(KEY, DRAIN).replace(b"/team/alice", b"/team/admin")


@pytest.mark.parametrize(
    ("path", "seals", "reason"),
    [
        (DRAIN, (), "internal.missing"),
        (DRAIN, (b"",), "internal.forged"),
        (DRAIN, (bytes(200),), "internal.forged"),
        (DRAIN, (bytes(mac.LONGEST + 1),), "internal.malformed"),
        (DRAIN, ("of its own key",), "internal.forged"),
        (DRAIN, ("of another name",), "internal.forged"),
        (DRAIN, ("of another method",), "internal.forged"),
        (DRAIN, ("of long ago",), "internal.expired"),
        (DRAIN, ("of days to come",), "internal.expired"),
        (DRAIN, ("good", "good"), "internal.missing"),
        ("/langtrain.v1.None/None", (), "internal.missing"),
    ],
)
def test_a_forged_call_is_refused_and_recorded(
    services: Running, path: str, seals: tuple[str | bytes, ...], reason: str
) -> None:
    made = {
        "of its own key": seal(b"k" * 32, DRAIN),
        "of another name": forged_name(),
        "of another method": seal(KEY, STATUS),
        "of long ago": seal(KEY, DRAIN, now=boottime() - 60),
        "of days to come": seal(KEY, DRAIN, now=boottime() + 1e6),
        "good": seal(KEY, DRAIN),
    }
    sent = [each if isinstance(each, bytes) else made[each] for each in seals]
    assert attack(services.sockets / CALLS, path, *sent) == REFUSED
    assert services.refusals == [Refusal(reason, path)]
    assert services.operations.asked == []


@pytest.mark.parametrize("where", [CALLS, STREAMS])
def test_a_replayed_call_is_refused_at_both_sockets(services: Running, where: str) -> None:
    sealed = seal(KEY, DRAIN)
    assert call(services.sockets / CALLS, DRAIN, (sealed,)).code == "OK"
    assert attack(services.sockets / where, DRAIN, sealed) == REFUSED
    assert services.refusals == [Refusal("internal.replayed", DRAIN)]
    assert services.operations.asked == [("drain", None, "", ALICE.name)]


def test_of_one_call_sent_by_many_at_once_one_passes(services: Running) -> None:
    sealed = seal(KEY, DRAIN)
    places = [services.sockets / name for name in (CALLS, STREAMS)] * 20
    with ThreadPoolExecutor(8) as pool:
        codes = Counter(pool.map(lambda place: call(place, DRAIN, (sealed,)).code, places))
    assert codes == {"OK": 1, "UNAUTHENTICATED": 39}
    assert len(services.operations.asked) == 1
    assert Counter(each.reason for each in services.refusals) == {"internal.replayed": 39}


def test_open_calls_without_a_seal_keep_nobody_waiting(services: Running) -> None:
    """More than there are threads, none of them ended by who made them."""
    with grpc.insecure_channel(f"unix:{services.sockets / STREAMS}") as channel:
        never = threading.Event()
        method: Any = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        held = [method(iter(never.wait, None), timeout=60) for _ in range(40)]
        with langtrain.Sidecar(services.target) as sidecar:
            assert next(sidecar.watch_status()).version == "0.1.0"
        assert {each.code() for each in held} == {grpc.StatusCode.UNAUTHENTICATED}
        never.set()


def test_who_takes_the_sockets_place_proves_nothing(services: Running) -> None:
    where = services.sockets / CALLS
    with Process([sys.executable, "-m", "tests.services.impostor", str(where)]) as impostor:
        impostor.wait_line(lambda line: line == "up")
        # The front has not connected to the socket yet.
        with langtrain.Sidecar(services.target) as sidecar, pytest.raises(langtrain.UnavailableError):
            sidecar.status()
        with socket.socket(socket.AF_UNIX) as connected:
            connected.connect(str(where))
            with pytest.raises(SealError, match=f"process {impostor.pid} listens"):
                peer.expect(connected, services.pid)


def test_what_is_not_there_is_answered_with_proof_too(services: Running) -> None:
    path = "/langtrain.v1.SidecarService/None"
    answered = call(services.sockets / CALLS, path, (seal(KEY, path),))
    assert (answered.code, answered.message) == ("UNIMPLEMENTED", "this sidecar has no such method")
    assert (answered.reason, bool(answered.proof)) == ("METHOD_UNKNOWN", True)


@pytest.mark.parametrize(
    ("path", "where"), [(DRAIN, CALLS), ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", STREAMS)]
)
def test_what_is_no_message_is_answered_with_proof_too(services: Running, path: str, where: str) -> None:
    answered = call(services.sockets / where, path, (seal(KEY, path),), b"\xff")
    assert (answered.code, answered.message) == ("INVALID_ARGUMENT", "request message cannot be read")
    assert (answered.reason, bool(answered.proof)) == ("REQUEST_MALFORMED", True)


@pytest.mark.parametrize(
    ("raised", "message", "reason"),
    [
        (RuntimeError("password=hunter2"), "internal error", "INTERNAL"),
        (SilentSupervisorError("/run/control.sock"), "the sidecar does not answer", "SUPERVISOR_SILENT"),
    ],
)
@pytest.mark.parametrize("path", [STATUS, "/langtrain.v1.SidecarService/WatchStatus"])
def test_an_errors_text_stays_inside(
    services: Running, path: str, raised: Exception, message: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    services.operations.raises = raised
    answered = call(services.sockets / CALLS, path, (seal(KEY, path),))
    assert (answered.code, answered.message, answered.reason) == ("INTERNAL", message, reason)
    # What is understood needs no log line of a defect; what is not has one, and grpcio adds none with its text.
    assert [record.getMessage() for record in caplog.records] == ["service_defect"] * isinstance(raised, RuntimeError)


def test_a_method_reached_around_the_guard_has_no_caller() -> None:
    context: grpc.ServicerContext | None = None
    with pytest.raises(RuntimeError, match="around the guard"):
        caller_of(context)
