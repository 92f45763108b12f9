"""Patterns: what they cover by table, against a regular expression by property, and in linear time by count."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interceptors.patterns import LONGEST, PatternError, name_pattern, path_pattern

SERVICE = "/inference.GRPCInferenceService"


@pytest.mark.parametrize(
    ("pattern", "text", "covers"),
    [
        (f"{SERVICE}/ModelInfer", f"{SERVICE}/ModelInfer", True),
        (f"{SERVICE}/ModelInfer", f"{SERVICE}/ModelInferX", False),
        (f"{SERVICE}/ModelInfer", f"{SERVICE}/modelinfer", False),
        (f"{SERVICE}/*", f"{SERVICE}/ModelInfer", True),
        (f"{SERVICE}/*", f"{SERVICE}/", True),
        (f"{SERVICE}/*", SERVICE, False),
        (f"{SERVICE}/*", "/inference.GRPCInferenceServiceX/ModelInfer", False),
        (f"{SERVICE}/*", f"{SERVICE}/a/b", False),
        (f"{SERVICE}/Model*", f"{SERVICE}/ModelInfer", True),
        (f"{SERVICE}/Model*", f"{SERVICE}/ServerLive", False),
        (f"{SERVICE}/*Infer", f"{SERVICE}/ModelInfer", True),
        (f"{SERVICE}/*Infer", f"{SERVICE}/ModelInferX", False),
        ("/*/*", f"{SERVICE}/ModelInfer", True),
        ("/*", f"{SERVICE}/ModelInfer", False),
        ("/**", f"{SERVICE}/ModelInfer", True),
        ("/inference.**", f"{SERVICE}/ModelInfer", True),
        ("/inferenceXGRPC/*", "/inference.GRPC/A", False),
        ("/inference.GRPC/*", "/inferenceXGRPC/A", False),  # a dot is a dot
        ("spiffe://example.org/team/*", "spiffe://example.org/team/a", True),
        ("spiffe://example.org/team/*", "spiffe://example.org/team/a/b", False),
        ("spiffe://example.org/team/**", "spiffe://example.org/team/a/b", True),
        ("spiffe://example.org/team/**", "spiffe://example.org/team", False),
        ("spiffe://example.org/*/a", "spiffe://example.org/x/a", True),
        ("spiffe://example.org/*/a", "spiffe://example.org/x/y/a", False),
        ("spiffe://example.org/**/a", "spiffe://example.org/x/y/a", True),
        ("spiffe://*/team", "spiffe://evil.example/team", True),
        ("spiffe://example.org/team/*", "spiffe://example.org.evil/team/a", False),
        ("dns:*.example.org", "dns:a.example.org", True),
        ("dns:*.example.org", "dns:example.org", False),
        ("a?", "ab", False),  # no wildcard in paths
        ("a?", "a?", True),
        ("a[b]", "a[b]", True),
        ("a[b]", "ab", False),
        ("***", "a/b", True),
        ("*", "", True),
        ("a\n*", "a\nb", True),
        ("a", "a\n", False),
    ],
)
def test_path_like(pattern: str, text: str, covers: bool) -> None:
    assert path_pattern(pattern).matches(text) is covers


@pytest.mark.parametrize(
    ("pattern", "text", "covers"),
    [
        ("digits", "digits", True),
        ("digits", "digits2", False),
        ("fraud-*", "fraud-2", True),
        ("fraud-*", "fraud-", True),
        ("fraud-*", "fraud", False),
        ("fraud-*", "a-fraud-2", False),
        ("fraud-*", "fraud-eu/v2", True),
        ("*-v?", "fraud-v2", True),
        ("*-v?", "fraud-v22", False),
        ("v?", "v", False),
        ("*", "", True),
        ("a", "A", False),
    ],
)
def test_names(pattern: str, text: str, covers: bool) -> None:
    assert name_pattern(pattern).matches(text) is covers


@pytest.mark.parametrize("text", ["", "a" * (LONGEST + 1)])
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(PatternError, match=f"pattern has {len(text)} characters, expected 1 to {LONGEST}"):
        path_pattern(text)


def test_patterns_are_compiled_once() -> None:
    assert path_pattern("/a/*") is path_pattern("/a/*")
    assert path_pattern("a?") is not name_pattern("a?")


def _expression(pattern: str, path_like: bool) -> str:
    wild = {"**": ".*", "*": "[^/]*" if path_like else ".*", "?": re.escape("?") if path_like else "."}
    parts = re.findall(r"\*\*+|\*|[^*]", pattern)
    return "".join(wild.get(part[:2], re.escape(part)) for part in parts)


@settings(max_examples=300, deadline=None)
@given(st.text("ab/*?", min_size=1, max_size=9), st.text("ab/?", max_size=9), st.booleans())
def test_patterns_agree_with_a_regular_expression(pattern: str, text: str, path_like: bool) -> None:
    compiled = path_pattern(pattern) if path_like else name_pattern(pattern)
    assert compiled.matches(text) is bool(re.fullmatch(_expression(pattern, path_like), text))


class Counted(str):
    """A text that counts how many characters were looked at."""

    looked = 0

    def __iter__(self) -> Iterator[str]:
        for character in str(self):
            self.looked += 1
            yield character


def test_no_pattern_looks_at_a_character_twice() -> None:
    text = Counted("a" * 2000 + "/")
    assert not path_pattern("*a" * 1000).matches(text)  # a backtracking matcher would not come back from this
    assert text.looked <= len(text)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab/*?"), min_size=1, max_size=8), st.text(st.sampled_from("ab/?"), max_size=8))
def test_what_a_pattern_covers_begins_with_its_prefix(pattern: str, text: str) -> None:
    for made in (path_pattern(pattern), name_pattern(pattern)):
        assert not made.matches(text) or text.startswith(made.prefix)
        assert pattern.startswith(made.prefix)
