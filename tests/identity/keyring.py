"""API keys for tests: made of a seed, so that a failure can be repeated."""

from __future__ import annotations

from random import Random

from sidecar.identity import api_keys
from sidecar.identity.api_keys import ApiKey
from sidecar.identity.keys_model import NEVER, HashKey, KeyRecord

HASH_KEY = HashKey("of the tests", bytes(range(32)))
OTHER_HASH_KEY = HashKey("of others", bytes(32))
NOW = 1_700_000_000.0
DAY_S = 86400.0


def made(seed: int, hash_key: HashKey = HASH_KEY) -> tuple[ApiKey, KeyRecord]:
    """A key, and its record: good at NOW and for ever."""
    key = api_keys.new(Random(seed).randbytes)
    return key, KeyRecord(
        key.key_id, "default", f"user:corp/{seed}", "for ü", ("models.inference",), ("models/fraud-*",), NOW - 1, NEVER,
        "1000/hour", False, key.key_id, "", NEVER, 0.0, hash_key.name, api_keys.keyed_hash(key, hash_key.key),
    )  # fmt: skip
