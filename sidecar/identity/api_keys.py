"""What an API key looks like, and what is kept of it.

    ltk_ 4Zk2hJm8QwEr _ q7…43 characters…Xb 0aB3dE
         key id          secret              checksum

The id is public: it names the key in lists and records. The checksum is of all before it, so that a scanner knows a
leaked key from a likeness of one, and a typing error costs no look-up. Of the secret a keyed hash is kept.
"""

from __future__ import annotations

import hmac
import re
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

from interceptors.contract import Code
from sidecar.errors import SidecarError

PREFIX: Final = "ltk_"
DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID: Final = 12  # characters: 71 bits
SECRET: Final = 43  # characters: 256 bits
CHECK: Final = 6  # characters: CRC-32
LENGTH: Final = len(PREFIX) + ID + 1 + SECRET + CHECK
LEAST_HASH_KEY: Final = 32  # bytes
_FORM: Final = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{ID}}})_([0-9A-Za-z]{{{SECRET}}})([0-9A-Za-z]{{{CHECK}}})")


class ApiKeyError(SidecarError):
    """What was presented is no API key. reason: stable, for the record."""

    code = Code.UNAUTHENTICATED
    public = "API key is not valid"
    wire_reason = "API_KEY_INVALID"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ApiKey(NamedTuple):
    """A key as its holder has it. text: all of it, shown once."""

    key_id: str
    secret: str

    @property
    def text(self) -> str:
        said = f"{PREFIX}{self.key_id}_{self.secret}"
        return said + checksum(said)


def new(random_bytes: Callable[[int], bytes]) -> ApiKey:
    """random_bytes: as os.urandom."""
    return ApiKey(random_text(random_bytes, ID), random_text(random_bytes, SECRET))


def parse(text: str) -> ApiKey:
    """Raises ApiKeyError for another form, and where the checksum is not that of the rest."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ApiKeyError("identify.key_malformed")
    if checksum(text[:-CHECK]) != found[3]:
        raise ApiKeyError("identify.key_checksum")
    return ApiKey(found[1], found[2])


def keyed_hash(key: ApiKey, hash_key: bytes) -> bytes:
    """What is kept: 32 bytes. The secret has 256 bits of its own, so nothing is gained by making this slow.

    Raises ValueError for a hash key that is too short.
    """
    if len(hash_key) < LEAST_HASH_KEY:
        raise ValueError(f"the key of API keys' hashes has {len(hash_key)} bytes, expected {LEAST_HASH_KEY} or more")
    return hmac.digest(hash_key, f"{key.key_id}_{key.secret}".encode("ascii"), "sha256")


def matches(key: ApiKey, hash_key: bytes, kept: bytes) -> bool:
    """In a time that does not tell how much of it matches."""
    return hmac.compare_digest(keyed_hash(key, hash_key), kept)


def checksum(text: str) -> str:
    """Of an ASCII text, in CHECK characters."""
    number, digits = zlib.crc32(text.encode("ascii")), ""
    for _ in range(CHECK):
        number, digit = divmod(number, len(DIGITS))
        digits = DIGITS[digit] + digits
    return digits


def random_text(random_bytes: Callable[[int], bytes], length: int) -> str:
    """So many of DIGITS, evenly: an octet beyond the last whole round of digits is drawn again."""
    even = 256 - 256 % len(DIGITS)
    text = ""
    while len(text) < length:
        text += "".join(DIGITS[octet % len(DIGITS)] for octet in random_bytes(length) if octet < even)
    return text[:length]
