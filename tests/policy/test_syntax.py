"""What an expression is found to read, and what is refused for what it might cost or mean."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.syntax import HIGHEST, LONGEST, LONGEST_REGEX, MOST_COST, SyntaxFault, outline


@pytest.mark.parametrize(
    ("text", "reads", "tested"),
    [
        (
            "user.clearance_level >= dataset.classification_level",
            "user.clearance_level dataset.classification_level",
            "",
        ),
        ("user.location in dataset.allowed_regions", "user.location dataset.allowed_regions", ""),
        ("has(user.mfa) && user.mfa", "", "user.mfa"),
        ("has(user.address.city)", "user.address", "user.address.city"),
        ("has(user.address) && has(user.address.city)", "", "user.address user.address.city"),
        ("has(user.mfa) || user.age > 3", "user.age", "user.mfa"),
        ('user["location"] == "eu"', "user.location", ""),
        ("resource.tags[0] == 'x'", "resource.tags", ""),
        ("(user).location == 'eu'", "user.location", ""),
        ("user.groups.exists(g, g == user.team)", "user.groups user.team", ""),
        ("user.groups.exists(user, user == 'a')", "user.groups", ""),
        ("user.groups.all(g, g != 'x') && g.x", "user.groups g.x", ""),  # bound within the macro alone
        ("size(user.groups) > 1 || user.groups.size() == 0", "user.groups", ""),
        ("user.name.startsWith(request.prefix)", "user.name request.prefix", ""),
        ("user.a ? user.b : user.c", "user.a user.b user.c", ""),
        ("type(user.a) == int", "user.a", ""),
        ("[user.a, 1][0] == 1", "user.a", ""),
        ("user", "user", ""),
        ("'user.a' == \"user.b\" // user.c", "", ""),
        ("user.map == 1 && user.in_ == 2", "user.map user.in_", ""),
        ("-1 < 2 && !true", "", ""),
        ("timestamp(user.hired) < environment.time - duration('24h')", "user.hired environment.time", ""),
    ],
)
def test_what_it_reads(text: str, reads: str, tested: str) -> None:
    found = outline(text)
    assert {".".join(path) for path in found.reads} == set(reads.split())
    assert {".".join(path) for path in found.tested} == set(tested.split())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected an expression of 1 to 4096 characters, got 0"),
        ("user.a ==", "expected a value, got the end, at character 10"),
        ("user.a = 1", "cannot read '= 1', at character 8"),
        ("user.a == 1 2", "expected an operator or the end, got '2'"),
        ("(user.a", "expected ')', got the end"),
        ("user.", "expected a name, got the end"),
        ("user.in == 1", "expected a name, got 'in'"),
        ("has(user)", "has() expects an attribute"),
        ("has(1)", "has() expects an attribute"),
        ("nosuch(1)", "no function 'nosuch'"),
        ("user.a.nosuch()", "no function 'nosuch'"),
        ("size(1, 2)", "'size' takes 1 arguments, got 2"),
        ("user.a.startsWith()", "'startsWith' takes 1 arguments, got 0"),
        ("if == 1", "expected a value, got 'if'"),
        ("{'a': 1}.a == 1", "no map or message is written here"),
        ("Message{}", "no map or message is written here"),
        ("user.a == b'x'", "no bytes are written here"),
        ("user.a == Rb'x'", "no bytes are written here"),
        ("user[request.key] == 1", "expected a text or a number as written"),
        ("user[1 + 1] == 1", "expected a text or a number as written"),
        ("-user.a < 1", "expected a number after '-'"),
        ("--1 < 1", "expected a number after '-'"),
        ("user.g.all(x, user.h.exists(y, x == y))", "'exists' within another macro"),
        ("user.g.all(int, true)", "'int' cannot be a variable"),
        ("user.g.map(x, x) == []", "no function 'map'"),
        ("duration(user.a) > duration('1s')", "duration() expects a text as written"),
        ("duration('1000000h') > duration('1s')", "duration() expects 876000h at most"),
        ("duration('one hour') > duration('1s')", "duration() expects a text as written"),
        ("size('four') == 4", "size() expects an attribute or a list"),
        ("user.?a == 1", "expected a name, got '?'"),
        ("'\\ud800' == user.a", "no character"),
        ("'\\q' == user.a", "no escape"),
        ("'\n' == user.a", "cannot read"),
        ("user.a == 'unclosed", "cannot read"),
        ("1x == 1", "cannot read"),
        ("user.a == 1 \0", "cannot read"),
        ("user.a\u00a0== 1", "cannot read"),
        ("usér.a == 1", "cannot read"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(SyntaxFault) as refused:
        outline(text)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "pattern",
    [
        "a{2}", "(a{100}){100}", "\\\\w+", "\\\\d", "\\\\pL", "\\\\bx", "(?i)a", "(?:(?i)a)", "(?P<n>a)", "[\\\\w]",
        "a" * (LONGEST_REGEX + 1), "\\\\",
    ],
)  # fmt: skip
def test_patterns_that_may_take_long_are_refused(pattern: str) -> None:
    with pytest.raises(SyntaxFault, match="expected a pattern as written"):
        outline(f"user.name.matches('{pattern}')")
    with pytest.raises(SyntaxFault, match="expected a pattern as written"):
        outline("user.name.matches(user.pattern)")


@pytest.mark.parametrize(
    "pattern", ["^[a-z0-9._-]+@example\\\\.org$", "(a|b)*c", "(?:a+)+$", "[^a]?", "a" * LONGEST_REGEX]
)
def test_patterns_that_do_not_are_taken(pattern: str) -> None:
    assert outline(f"user.name.matches('{pattern}')").reads == {("user", "name")}


@pytest.mark.parametrize(
    "text",
    [
        "(" * (HIGHEST + 1) + "true" + ")" * (HIGHEST + 1),
        "[" * (HIGHEST + 1) + "]" * (HIGHEST + 1),
        "!" * (HIGHEST + 1) + "true",
        "1" + " + 1" * HIGHEST,
        "1" + " == 1" * HIGHEST,
        "user" + ".a" * HIGHEST,
        "true ? 1 : " * HIGHEST + "1",
        "(" * 4000,
        "user.g.all(x, " * 100,
    ],
)
def test_nesting_is_bounded(text: str) -> None:
    with pytest.raises(SyntaxFault):
        outline(text)


def test_long_conjunctions_are_not_nesting() -> None:
    assert outline(" && ".join(["user.a == 1"] * 200)).cost < MOST_COST


@pytest.mark.parametrize(
    "text",
    [
        "user.g.all(x, x.matches('^abc$'))",  # compiled for each element
        "user.g.all(x, user.a + user.b != x)",
        " && ".join(["user.g.exists(x, x == user.a)"] * 8),
        " && ".join([f"user.name.matches('{'a' * 100}')"] * 8),
        "+".join(["user.a"] * 40) + " == ''",
    ],
)
def test_what_may_take_long_is_refused(text: str) -> None:
    with pytest.raises(SyntaxFault, match="at most 1000 are allowed"):
        outline(text)


def test_what_a_text_is_joined_to_is_no_list() -> None:
    assert outline("'/' + " + " + ".join(["user.a"] * 20) + " == ''").cost < MOST_COST
    with pytest.raises(SyntaxFault, match="at most 1000 are allowed"):
        outline(" + ".join(["user.a"] * 20) + " == []")


def test_length_is_bounded() -> None:
    assert outline("true" + " " * (LONGEST - 4)).reads == frozenset()
    with pytest.raises(SyntaxFault, match="got 4097"):
        outline("true" + " " * (LONGEST - 3))


@given(st.text(alphabet="user.a()[]'\"\\!?:&|<=+-*/ 019x,{}rb\n", max_size=60) | st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(SyntaxFault):
        assert 0 < outline(text).cost <= MOST_COST
