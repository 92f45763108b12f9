"""Whatever comes, the answer is a config or a ConfigError, and no fault repeats a secret."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config.faults import ConfigError
from sidecar.config.load import build, parse
from sidecar.config.model import Config
from sidecar.config.reference import schema
from tests.config.configs import DIRECTORY, SOUND, load

WHOLE = schema()
# Every name that the schema has.
KEYS = sorted({key for section in (WHOLE, *WHOLE["$defs"].values()) for key in section["properties"]})
TEXTS = ["none", "1s", "16MiB", "1/second", "127.0.0.1:1", "unix:///a", "spiffe://a/*", "dns:a", "/**", "a.pem", "a:B"]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(TEXTS)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
DATA = st.dictionaries(st.sampled_from(list(Config.model_fields)) | st.text(max_size=4), VALUES, max_size=5)


def places(value: Any, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    held = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(each for key, inner in held for each in places(inner, (*place, key)))]


def swapped(data: Any, place: tuple[str | int, ...], value: Any) -> Any:
    """`data` with another value at `place`."""
    if not place:
        return value
    if isinstance(data, dict):
        return {key: swapped(held, place[1:], value) if key == place[0] else held for key, held in data.items()}
    return [swapped(held, place[1:], value) if index == place[0] else held for index, held in enumerate(data)]


EFFECTIVE = load(SOUND + 'authorization: {rules: [{identities: ["dns:a"], methods: [/**]}]}').effective()


@given(DATA)
@settings(deadline=None)
def test_any_data(data: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigError):
        build(data, DIRECTORY, {})


@given(st.sampled_from(places(EFFECTIVE)[1:]), VALUES)
@settings(deadline=None)
def test_a_sound_config_with_one_value_swapped(place: tuple[str | int, ...], value: Any) -> None:
    with contextlib.suppress(ConfigError):
        config = build(swapped(EFFECTIVE, place, value), DIRECTORY, {})
        assert build(config.effective(), DIRECTORY, {}) == config


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"#%@` \n\t,?\\0~.<é\0\x7f"), max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse(text, DIRECTORY, {})


@given(
    st.dictionaries(
        st.sampled_from([f"LANGTRAIN_SIDECAR__{key.upper()}" for key in KEYS]), st.text(max_size=12), max_size=3
    )
)
@settings(deadline=None)
def test_any_environment(environ: dict[str, str]) -> None:
    with contextlib.suppress(ConfigError):
        parse(SOUND, DIRECTORY, environ)


SECRET = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----\n"


@given(st.sampled_from(places(EFFECTIVE)[1:]))
@settings(deadline=None)
def test_no_fault_repeats_a_secret_wherever_it_is_put(place: tuple[str | int, ...]) -> None:
    with pytest.raises(ConfigError) as raised:
        build(swapped(EFFECTIVE, place, SECRET), DIRECTORY, {})
    assert "MIGHAgEA" not in str(raised.value)
