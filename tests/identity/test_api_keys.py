"""The form of API keys: found again, told from likenesses, and not to be had back from what is kept."""

from __future__ import annotations

import os
import re
import zlib
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.identity.api_keys import (
    DIGITS,
    LENGTH,
    SECRET,
    ApiKey,
    ApiKeyError,
    keyed_hash,
    matches,
    new,
    parse,
)

HASH_KEY = bytes(range(32))
keys = st.integers(0, 1 << 32).map(lambda seed: new(Random(seed).randbytes))


@given(keys)
def test_a_key_is_what_its_text_says(key: ApiKey) -> None:
    assert parse(key.text) == key
    assert len(key.text) == LENGTH
    assert re.fullmatch(r"ltk_\w+", key.text, re.ASCII)
    assert matches(parse(key.text), HASH_KEY, keyed_hash(key, HASH_KEY))


@given(keys, st.data())
def test_any_one_character_changed_is_no_key(key: ApiKey, data: st.DataObject) -> None:
    """CRC-32 finds every burst of up to 32 bits, which a character is."""
    at = data.draw(st.integers(0, LENGTH - 1))
    other = data.draw(st.sampled_from([*(digit for digit in DIGITS if digit != key.text[at]), " ", "é", "\n"]))
    with pytest.raises(ApiKeyError):
        parse(key.text[:at] + other + key.text[at + 1 :])


def test_two_characters_changed_places_is_a_wrong_checksum() -> None:
    text = ApiKey("AbCdEfGhIjKl", "Z9" + "x" * (SECRET - 2)).text
    with pytest.raises(ApiKeyError, match="checksum"):
        parse(text.replace("Z9", "9Z"))


@pytest.mark.parametrize("text", ["", "ltk_", "sk-abc", "ltk_" + "A" * 62, "LTK_" + "0" * 62, "ltk_é"])
def test_what_looks_otherwise_is_malformed(text: str) -> None:
    with pytest.raises(ApiKeyError, match="malformed"):
        parse(text)


def test_the_checksum_is_the_one_that_scanners_are_told_of() -> None:
    """zlib's CRC-32 in base 62, most significant digit first: reckoned by hand for one key."""
    key = ApiKey("000000000000", "0" * SECRET)

    number = zlib.crc32(b"ltk_000000000000_" + b"0" * SECRET)
    spelt = sum(DIGITS.index(digit) * 62**place for place, digit in enumerate(reversed(key.text[-6:])))
    assert spelt == number


def test_what_is_kept_tells_neither_the_secret_nor_whose_hash_key_it_was() -> None:
    key = new(os.urandom)
    kept = keyed_hash(key, HASH_KEY)
    assert len(kept) == 32
    assert not matches(key, bytes(32), kept)
    assert not matches(ApiKey(key.key_id, key.secret[::-1]), HASH_KEY, kept)
    assert not matches(ApiKey(key.key_id[::-1], key.secret), HASH_KEY, kept)
    with pytest.raises(ValueError, match="has 31 bytes, expected 32"):
        keyed_hash(key, bytes(31))


def test_every_digit_is_as_likely() -> None:
    counts = Counter(new(Random(1).randbytes).secret + "".join(new(Random(n).randbytes).secret for n in range(2000)))
    assert set(counts) == set(DIGITS)
    expected = sum(counts.values()) / 62
    # Chi-squared of 61 degrees of freedom: beyond 110 once in ten thousand; the seeds are fixed.
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 110
