"""h2spec's cases against our server, and the page that lists them."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.processes import REPOSITORY
from tests.relay.http2.h2spec import CASES, Case, page, verdict


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.section}: {case.name}")
def test_case(case: Case) -> None:
    assert case.holds(verdict(case.sent)), verdict(case.sent)


def test_every_case_is_there() -> None:
    """As many in each part as h2spec 2.6 runs, its strict mode's one besides."""
    parts = Counter(case.section.partition("/")[0] for case in CASES)
    assert parts == {"generic": 44, "http2": 95, "hpack": 8}


def test_another_verdict_than_h2specs_has_a_text_that_allows_it() -> None:
    for case in CASES:
        assert bool(case.ours) == bool(case.why)
        assert case.ours not in case.wanted
        assert not case.why or "RFC 9113 §" in case.why


def test_the_page_says_what_the_cases_say() -> None:
    assert (REPOSITORY / "docs" / "http2-conformance.md").read_text("utf-8") == "".join(page())
