"""Messages survive the way, and nothing else is taken for one."""

from __future__ import annotations

import json

import pytest

from sidecar.processes.messages import (
    LARGEST,
    Attach,
    Bear,
    Born,
    ChannelError,
    Drain,
    Go,
    Message,
    Prepared,
    Report,
    Start,
    Tend,
    decode,
    encode,
)

START = Start("worker", 1, "worker-1.4", "ab" * 32, "info", "/run/x", 3, {"config": {}}, ["listen-0"])


@pytest.mark.parametrize(
    "message",
    [START, Bear("worker-1.4"), Born("worker-1.4", 4711, ""), Go(), Drain(2.5, True), Drain(3, False),
     Attach("recorder", "recorder-0.1"), Tend(1), Prepared(2, [["workers", "expected 1"]]),
     Report(3, 2, 1 << 40, 0.25, {"upstream": True})],
    ids=lambda message: type(message).__name__,
)  # fmt: skip
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    assert decode(encode(message)) == message


def said(**fields: object) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\xff", "in JSON"),
        (b"[]", "of a known kind"),
        (said(), "of a known kind"),
        (said(**{"is": "Exec", "command": "sh"}), "of a known kind"),
        (said(**{"is": ["Go"]}), "of a known kind"),
        (said(**{"is": "Level"}), "expected the fields level"),
        (said(**{"is": "Level", "level": "info", "more": 2}), "expected the fields level"),
        (said(**{"is": "Drain", "grace": "1", "last": True}), "field grace is of another type"),
        (said(**{"is": "Drain", "grace": True, "last": True}), "field grace is of another type"),
        (said(**{"is": "Drain", "grace": 1, "last": 1}), "field last is of another type"),
        (said(**{"is": "Prepared", "generation": 1, "faults": ["x"]}), "field faults is of another type"),
    ],
)
def test_anything_else_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ChannelError, match=problem):
        decode(data)


def test_a_message_is_bounded() -> None:
    with pytest.raises(ChannelError, match="at most"):
        encode(Report(detail={"x": "y" * LARGEST}))
