"""How often a database that cannot be reached is tried."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.state.ports import LostError, SchemaError, StateError
from sidecar.state.reaching import FIRST_PAUSE_S, LONGEST_PAUSE_S, Reaching


class Server:
    """clock: seconds.  fault: why no connection is made, None where one is."""

    def __init__(self) -> None:
        self.clock = 100.0
        self.fault: StateError | None = LostError("away")
        self.tried: list[float] = []
        self.reaching = Reaching(self._connect, lambda: self.clock)

    def _connect(self) -> Any:
        self.tried.append(self.clock)
        if self.fault is not None:
            raise self.fault
        return "a connection"

    def ask(self) -> str:
        try:
            return str(self.reaching.connect())
        except StateError as error:
            return f"{type(error).__name__}: {error}"


def test_pauses_grow_and_end_with_the_first_connection() -> None:
    server = Server()
    for _ in range(4_000):  # of a hundredth of a second each
        assert server.ask() == "LostError: away"
        server.clock += 0.01
    pauses = [after - before for before, after in zip(server.tried, server.tried[1:], strict=False)]
    assert pauses[0] < pauses[1] < pauses[2]
    assert min(pauses) >= FIRST_PAUSE_S
    assert LONGEST_PAUSE_S <= max(pauses) < LONGEST_PAUSE_S + 0.02
    assert len(server.tried) < 50
    server.fault = None
    server.clock += LONGEST_PAUSE_S
    assert server.ask() == server.ask() == "a connection"
    server.fault = LostError("away again")
    before = len(server.tried)
    server.ask()
    server.clock += FIRST_PAUSE_S
    server.ask()
    assert len(server.tried) == before + 2


def test_who_comes_meanwhile_is_told_what_was_found() -> None:
    server = Server()
    server.fault = SchemaError("of a later version")
    with pytest.raises(SchemaError, match="of a later version"):
        server.reaching.connect()
    with pytest.raises(StateError, match="of a later version"):
        server.reaching.connect()
    assert len(server.tried) == 1
