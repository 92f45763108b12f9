"""Random conditions over a few attributes, most of them well typed, and values of these attributes.

Nothing compares integers with doubles or a list with a text, looks for a text in another or divides a double by zero:
there cel-python is not what the definition says, and the conformance tests are the judge.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

TEXTS = ("", "a", "b", "eu", "us", "é")
ATTRIBUTES: dict[str, st.SearchStrategy[Any]] = {
    "level": st.integers(-3, 3) | st.sampled_from((-(2**63), 2**63 - 1)),
    "score": st.floats(-2, 2),
    "name": st.sampled_from(TEXTS),
    "active": st.booleans(),
    "groups": st.lists(st.sampled_from(TEXTS), max_size=3),
}
USERS = st.fixed_dictionaries(ATTRIBUTES)

_integers = st.sampled_from(("0", "1", "2", "-1", "9223372036854775807", "user.level"))
_doubles = st.sampled_from(("0.5", "1.0", "-2.5e-1", "user.score"))
_texts = st.sampled_from(("'a'", '"eu"', "r'b'", "'\\u00e9'", "user.name"))
_lists = st.sampled_from(("[]", "['a', 'eu']", "user.groups"))
_regexes = st.sampled_from(("'^a'", "'e.$'", "'^(a|b)*$'", "'[^a]'"))


def _arithmetic(of: st.SearchStrategy[str], operators: str) -> st.SearchStrategy[str]:
    return of | st.builds("({} {} {})".format, of, st.sampled_from(operators), of)


INTEGERS = _arithmetic(_integers, "+-*/%") | st.builds("size({})".format, _lists)
DOUBLES = _arithmetic(_doubles, "+-*")
LISTS = _lists | st.builds("({} + {})".format, _lists, _lists)
_comparing = st.sampled_from(("<", "<=", ">", ">=", "==", "!="))
_compared = st.builds("{} {} {}".format, INTEGERS, _comparing, INTEGERS) | st.builds(
    "{} {} {}".format, DOUBLES, _comparing, DOUBLES
)
_of_texts = (
    st.builds("{} {} {}".format, _texts, st.sampled_from(("<", "==", "!=")), _texts)
    | st.builds("{}.{}({})".format, _texts, st.sampled_from(("startsWith", "endsWith", "contains")), _texts)
    | st.builds("{}.matches({})".format, _texts, _regexes)
    | st.builds("{} in {}".format, _texts, LISTS)
)
_of_lists = st.builds("{} == {}".format, LISTS, LISTS) | st.builds(
    "{}.{}(g, {})".format,
    _lists,
    st.sampled_from(("all", "exists", "exists_one")),
    st.sampled_from(("g == 'a'", "g.startsWith(user.name)", "g != user.name", "size(user.groups) > 1", "user.active")),
)
_mistyped = st.sampled_from(("user.name > 1", "user.level", "!user.level", "user.groups && true", "user.name + 1 == 2"))
_atoms = st.sampled_from(("true", "false", "user.active", "has(user.name)", "has(user.absent)"))
CONDITIONS = st.recursive(
    _compared | _of_texts | _of_lists | _atoms | _mistyped,
    lambda inner: (
        st.builds("!({})".format, inner)
        | st.builds("({} && {})".format, inner, inner)
        | st.builds("({} || {})".format, inner, inner)
        | st.builds("({} ? {} : {})".format, inner, inner, inner)
    ),
    max_leaves=6,
)
