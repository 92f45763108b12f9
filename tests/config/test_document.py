# ruff: noqa: E501  # a fault is told in one line, and stands here in one
import pytest

from sidecar.config.document import NODES_MAX, TEXT_MAX, read
from sidecar.config.faults import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"), ("no", "no"), ("Yes", "Yes"), ("y", "y"), ("on", "on"), ("true", True), ("False", False),
        ("010", 10), ("0o17", 15), ("0x1F", 31), ("12:30:45", "12:30:45"), ("2020-01-01", "2020-01-01"), ("1e3", 1000.0),
        ("127.0.0.1:8443", "127.0.0.1:8443"), ("~", None), ("null", None), ("", None), ("'5'", "5"), ("[1, a]", [1, "a"]),
        ("{b: 1}", {"b": 1}), ("=", "="),
    ],
)  # fmt: skip
def test_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert read(f"a: {text}").data == {"a": value}


def test_nothing_is_an_empty_config() -> None:
    assert read("").data == read("# only a comment\n").data == {}


def test_every_place_has_its_line() -> None:
    lines = read("a:\n  b: 1\n  c:\n    - x\n    - {d: 2}\n").lines
    assert lines["a",] == 1
    assert lines["a", "c"] == 3
    assert lines["a", "c", 1, "d"] == 5


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read(text)
    return [str(fault) for fault in raised.value.faults]


def test_every_key_given_twice_is_told_and_no_value() -> None:
    assert faults("a: {b: hunter1, b: hunter2}\nc: 1\na: 2\n") == [
        "a.b (line 1): expected each key once, came a second, after line 1",
        "a (line 3): expected each key once, came a second, after line 1",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "a: [",
            "config (line 1, column 5): expected valid YAML, came expected the node content, but found '<stream end>'",
        ),
        ("a: b: c", "config (line 1, column 5): expected valid YAML, came mapping values are not allowed here"),
        (
            "a: 1\n\tb: 2",
            "config (line 2, column 1): expected valid YAML, came found character '\\t' that cannot start any token",
        ),
        ("a: *b", "config (line 1, column 4): expected valid YAML, came found undefined alias 'b'"),
        ("a: 1\n---\nb: 2", "config (line 2, column 1): expected valid YAML, came but found another document"),
        ("a: \0", "config: expected valid YAML, came a character that YAML does not allow"),
        ("a: !python/object:os.system x", "a (line 1): expected no YAML tag, came the tag '!python/object:os.system'"),
        ("a: !!binary x", "a (line 1): expected no YAML tag, came the tag 'tag:yaml.org,2002:binary'"),
        ("a: !!set {b}", "a (line 1): expected no YAML tag, came the tag 'tag:yaml.org,2002:set'"),
        ("1: a", "config (line 1): expected keys that are texts, came another key"),
        ("? [a]\n: b", "config (line 1): expected keys that are texts, came another key"),
        ("- a", "config (line 1): expected a mapping of sections, came a list"),
        ("a", "config (line 1): expected a mapping of sections, came a single value"),
        ("%YAML 1.1\n---\na: off", "config: expected YAML 1.2, came a directive for another version"),
        ("a: " + "[" * 60 + "]" * 60, "config (line 1): expected at most 40 levels of nesting, came more"),
        ("a: " + "[" * 1000 + "]" * 1000, "config: expected at most 40 levels of nesting, came more"),
        ("a: &x [*x]", "config (line 1): expected at most 40 levels of nesting, came more"),
        ("a: " + "9" * 5000, "a (line 1): expected a number of reasonable size, came a longer one"),
    ],
)
def test_faults_of_form(text: str, fault: str) -> None:
    assert faults(text) == [fault]


def test_an_anchor_given_again_counts_from_there_on() -> None:
    assert read("a: &x 1\nb: *x\nc: &x 2\nd: *x").data == {"a": 1, "b": 1, "c": 2, "d": 2}


def test_aliases_do_not_unfold_without_bound() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert faults("\n".join(lines))[0].endswith("expected at most 100000 values, those of aliases included, came more")


def test_what_is_beyond_the_most_values_is_not_read() -> None:
    most = "a:\n" + "- x\n" * (NODES_MAX - 2)  # the mapping and the list are values as well
    assert len(read(most).data["a"]) == NODES_MAX - 2
    assert faults(f"{most}- x\n- [that is no YAML\n") == [
        f"config (line {NODES_MAX}): expected at most 100000 values, those of aliases included, came more"
    ]


def test_texts_do_not_unfold_without_bound() -> None:
    share = TEXT_MAX // 64
    text = f"a: &a {'x' * share}\nb: [{', '.join(['*a'] * 63)}]\n"
    assert sum(map(len, read(text).data["b"])) == TEXT_MAX - share
    assert faults(f"{text}c: y\n") == [
        "config (line 3): expected at most 4194304 characters in all values, those of aliases included, came more"
    ]
