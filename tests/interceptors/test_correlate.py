"""The caller's trace is noted and left as it was."""

from __future__ import annotations

import pytest

from interceptors.chain import Chain
from interceptors.contract import RawField
from interceptors.correlate import Correlate
from interceptors.facts import TraceContext
from tests.playbook import Session

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def started(*values: bytes) -> Session:
    fields: list[RawField] = [(b"traceparent", value) for value in values]
    session = Session(Chain([Correlate()]), headers=[*fields, (b"tracestate", b"a=1")])
    session.start()
    return session


def test_the_callers_trace_is_noted_and_travels_unchanged() -> None:
    session = started(PARENT)
    assert session.call.get(TraceContext) == TraceContext(
        "0af7651916cd43dd8448eb211c80319c", "", "b7ad6b7169203331", True
    )
    assert session.call.headers.fields == ((b"traceparent", PARENT), (b"tracestate", b"a=1"))


@pytest.mark.parametrize("values", [(), (b"00-nonsense",), (PARENT, PARENT), (PARENT.upper(),)])
def test_what_names_no_trace_is_left_alone_too(values: tuple[bytes, ...]) -> None:
    session = started(*values)
    assert session.call.find(TraceContext) is None
    assert session.call.headers.all(b"traceparent") == values
