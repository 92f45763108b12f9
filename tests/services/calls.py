"""One raw call to a socket of the services, with the metadata that is given: how it ended.

    python -m tests.services.calls SOCKET PATH [SEAL_HEX …]

makes it as another process of the same user, and prints the outcome as JSON.
"""

from __future__ import annotations

import json
import secrets
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from sidecar.internal import mac
from sidecar.internal.mac import Caller
from tests.processes import Process
from tests.services.front import ALICE, boottime

LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """reason, fields: of google.rpc's details.  proof: hex, "" where the answer had none."""

    code: str
    message: str = ""
    reason: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    proof: str = ""


REFUSED = Outcome("UNAUTHENTICATED", "internal call refused", "INTERNAL_CALL_REFUSED")


def seal(key: bytes, method: str, caller: Caller = ALICE, now: float | None = None) -> bytes:
    nonce = secrets.token_bytes(mac.NONCE_SIZE)
    return mac.seal(key, caller, method, nonce, boottime() if now is None else now)


def call(socket: Path, path: str, seals: tuple[bytes, ...], raw: bytes = b"") -> Outcome:
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        method: Any = channel.stream_stream(path)
        answers = method(iter((raw,)), metadata=[(mac.CALL_HEADER, each) for each in seals], timeout=LIMIT_S)
        head = dict(answers.initial_metadata() or ())
        proof = head.get(mac.PROOF_HEADER, b"").hex()
        try:
            next(answers, None)
            answers.cancel()
        except grpc.RpcError:
            reason, fields = details(answers.trailing_metadata())
            return Outcome(answers.code().name, answers.details(), reason, fields, proof)
        return Outcome("OK", proof=proof)


def attack(where: Path, path: str, *seals: bytes) -> Outcome:
    """A call by another process of the same user."""
    command = [sys.executable, "-m", "tests.services.calls", str(where), path, *(each.hex() for each in seals)]
    with Process(command) as attacker:
        return Outcome(**json.loads(attacker.wait_line(lambda line: line.startswith("{"))))


def details(trailers: Any) -> tuple[str, dict[str, str]]:
    """The reason, and what is wrong with which field."""
    status = Status.FromString(dict(trailers or ()).get("grpc-status-details-bin", b""))
    info, bad = ErrorInfo(), BadRequest()
    for each in status.details:
        each.Unpack(info) or each.Unpack(bad)
    assert info.domain in ("langtrain", "")
    return info.reason, {each.field: each.description for each in bad.field_violations}


def main() -> None:
    socket, path, *seals = sys.argv[1:]
    outcome = call(Path(socket), path, tuple(map(bytes.fromhex, seals)))
    print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    main()
