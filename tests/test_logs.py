from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar.errors import SidecarError
from sidecar.logs import Log, configure


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is logged, from level info up unless a test configures otherwise; the root logger is put back after it."""
    root = logging.getLogger()
    handlers, level, asyncio_level = root.handlers[:], root.level, logging.getLogger("asyncio").level
    stream = io.StringIO()
    configure("info", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(asyncio_level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_an_object(stream: io.StringIO) -> None:
    Log("relay").info("listening", address="127.0.0.1:1", limits={"a": [1, None, 2.5, True]})
    (line,) = lines(stream)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "event": "listening",
        "source": "relay",
        "address": "127.0.0.1:1",
        "limits": {"a": [1, None, 2.5, True]},
    }


def test_levels(stream: io.StringIO) -> None:
    log = Log("a")
    log.debug("hidden")
    log.warning("weak")
    log.error("broken", path="x")
    logging.getLogger("library").warning("said %s", "so")
    assert [(line["level"], line["event"], line["source"]) for line in lines(stream)] == [
        ("warning", "weak", "a"),
        ("error", "broken", "a"),
        ("warning", "said so", "library"),
    ]
    with pytest.raises(ValueError, match="log level: expected one of debug, info, warning, error, came 'loud'"):
        configure("loud")


def test_a_caller_cannot_forge_a_line_or_drive_a_terminal(stream: io.StringIO) -> None:
    text = '"}\n{"level": "error"}\x1b[2J\x7f\x9b1m\u2028é'
    Log("a").info("seen", path=text)
    raw = stream.getvalue()
    assert raw.count("\n") == 1
    assert raw.isascii()
    assert raw.rstrip("\n").isprintable()
    assert lines(stream)[0]["path"] == text


def test_secrets_are_withheld(stream: io.StringIO) -> None:
    Log("a").info(
        "seen",
        password="hunter2",
        headers={"authorization": "Bearer hunter2", "x-api_key": "hunter2"},
        text="-----BEGIN EC PRIVATE KEY-----\nhunter2",
        key="listen.tls.key",
    )
    assert "hunter2" not in stream.getvalue()
    assert lines(stream)[0]["key"] == "listen.tls.key"


def test_a_field_cannot_take_the_place_of_the_event(stream: io.StringIO) -> None:
    Log("a").info("seen", level="error", time="never", source="b")
    assert lines(stream)[0]["level"] == "info"
    assert lines(stream)[0]["source"] == "a"


def test_long_texts_are_cut(stream: io.StringIO) -> None:
    Log("a").info("seen", text="x" * 5000)
    assert lines(stream)[0]["text"] == "x" * 2000 + "… (5000 characters)"


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_errors_are_named_and_traced_at_debug_only(stream: io.StringIO) -> None:
    Log("a").error("broken", raised(SidecarError("port 1 is taken")))
    Log("a").error("broken", raised(KeyError("hunter2")))
    own, other = lines(stream)
    assert (own["error"], own["detail"]) == ("SidecarError", "port 1 is taken")
    assert other["error"] == "KeyError"
    assert "hunter2" not in stream.getvalue()
    assert "Traceback" not in stream.getvalue()
    configure("debug", stream)
    Log("a").error("broken", raised(SidecarError("port 1 is taken")))
    assert lines(stream)[-1]["trace"].startswith("Traceback (most recent call last)")
