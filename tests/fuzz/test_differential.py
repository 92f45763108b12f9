"""Frame sequences to both our sides, h2's and nghttp2's: a bounded run of `differential`, and proof that it sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import pytest

from sidecar.relay.http2 import frames
from tests.fuzz import differential
from tests.fuzz.differential import PEERS, forbidden, run, run_apart, shrink
from tests.fuzz.ours import Ours
from tests.fuzz.peer_nghttp2 import library
from tests.fuzz.rules import Difference
from tests.fuzz.sequences import generate
from tests.fuzz.verdicts import Act, Item, Verdict, cut
from tests.parts import require

_SEQUENCES = 4_000  # of each side
_SEED = 2026


@pytest.fixture(autouse=True)
def _nghttp2() -> None:
    require(library() is not None, "nghttp2 is not installed (Debian: libnghttp2-14)")


@pytest.mark.parametrize("client", [False, True])
def test_no_difference_that_the_rfc_does_not_allow(client: bool) -> None:
    for name, tally in run(_SEED, range(_SEQUENCES), client).items():
        assert not tally.forbidden, "\n".join(tally.forbidden)
        assert tally.sequences == _SEQUENCES
        assert tally.alike > _SEQUENCES / 2, name
        assert sum(tally.allowed.values()) > _SEQUENCES / 20, "nothing is at fault in what is generated"


def _without_answers(verdict: Verdict) -> None:
    verdict.answers.clear()


def _without_end(verdict: Verdict) -> None:
    verdict.events = [event for event in verdict.events if event[0] != "end"]


def _without_a_field(verdict: Verdict) -> None:
    verdict.events = [(*event[:2], event[2][:-1]) if event[0] == "head" else event for event in verdict.events]


def _short_data(verdict: Verdict) -> None:
    verdict.events = [(*event[:2], event[2][1:]) if event[0] == "data" else event for event in verdict.events]


def _never_reset(verdict: Verdict) -> None:
    verdict.resets.clear()


def _never_ended(verdict: Verdict) -> None:
    verdict.fault = None


def _ended_by_a_ping(verdict: Verdict) -> None:
    if any(len(answer) == 8 for answer in verdict.answers):
        verdict.fault = 2


def _first_forbidden(client: bool, name: str) -> tuple[Sequence[Item], Difference]:
    """The first sequence that has one, shrunk, and the difference."""
    for number in range(200):
        items: Sequence[Item] = generate(Random(number), client)
        if forbidden(items, client, name) is not None:
            items = shrink(items, lambda some: forbidden(some, client, name) is not None)
            found = forbidden(items, client, name)
            assert found is not None
            return items, found
    raise AssertionError(f"{name} and what is bent look alike")


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize(
    "bend",
    [_without_answers, _without_end, _without_a_field, _short_data, _never_reset, _never_ended, _ended_by_a_ping],
)
def test_what_is_bent_is_seen(monkeypatch: pytest.MonkeyPatch, bend: Callable[[Verdict], None], client: bool) -> None:
    class Bent(Ours):
        def receive_pieces(self, pieces: list[bytes]) -> Verdict:
            verdict = super().receive_pieces(pieces)
            bend(verdict)
            return verdict

    monkeypatch.setattr(differential, "Ours", Bent)
    for name in PEERS:
        items, _ = _first_forbidden(client, name)
        assert len(items) <= 8, "it was not shrunk"  # a client's fourth stream has three before it


def test_windows_that_do_not_add_up_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ours, "window", lambda self, stream: 1)
    for name in PEERS:
        assert _first_forbidden(False, name)[1].kinds == {"windows"}


def test_a_seed_gives_one_sequence() -> None:
    assert generate(Random("7"), False) == generate(Random("7"), False)
    assert generate(Random("7"), False) != generate(Random("8"), False)


@pytest.mark.parametrize("client", [False, True])
def test_every_kind_of_item_is_generated(client: bool) -> None:
    items = [item for number in range(600) for item in generate(Random(number), client)]
    kinds = {frame.kind for item in items if isinstance(item, bytes) for frame in cut(item)}
    assert set(range(10)) <= kinds
    assert max(kinds) > frames.CONTINUATION
    deeds = {item.deed for item in items if isinstance(item, Act)}
    assert deeds == {"say", "end", "reset", "open" if client else "head"}


def test_what_is_shrunk_cannot_be_shorter() -> None:
    items = [bytes((number,)) for number in range(9)]
    assert shrink(items, lambda some: b"\x02" in some and b"\x05" in some) == [b"\x02", b"\x05"]


def test_processes_find_what_one_does() -> None:
    apart = run_apart(_SEED, 60, jobs=2)
    assert apart == {client: run(_SEED, range(60), client) for client in (False, True)}
