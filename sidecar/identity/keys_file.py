"""All API keys in one file, for workers to find one among a million by two reads, and to keep none of them in memory.

    0     header: what it is, of which database and up to which change, how many keys; its MAC
    256   directory: for each bucket of ids where its records begin, and where the last ends; offsets of 8 bytes
    …     records by id: length of 4 bytes, MAC of 16, the id, the record as `keys_model.encode` has it

A key's id is random, so its first four digits spread ids evenly over the buckets, of which there is one for each key or
two. Reads are pread's: they cost a microsecond from the kernel's cache, and no page of the file counts as a worker's.
MACs are by a key that is derived from that of the hashes. A record's is over the file's nonce as well, so none is taken
for good that is damaged, was written by somebody else, or was cut from a file in which it was not revoked yet.

How the file is replaced and who is told of it is not handled here.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import IO, Final

from interceptors.contract import Code
from sidecar.errors import SidecarError
from sidecar.identity.api_keys import DIGITS, ID
from sidecar.identity.keys_model import HashKey, KeyRecord, decode, encode
from sidecar.state.files import open_private, replace
from sidecar.state.ports import Head

MAGIC: Final = b"LTAPIKEY"
VERSION: Final = 1
HEADER: Final = 256  # bytes
# magic, version, database, sequence, keys, buckets, size, nonce, digest of the directory; then the MAC of these
FIXED: Final = Struct("<8sQ36sQQQQ16s32s")
OFFSET: Final = Struct("<Q")
RANGE: Final = Struct("<QQ")
LENGTH: Final = Struct("<I")
TAG: Final = 16  # bytes
LARGEST_BUCKET: Final = 1 << 20  # bytes
READ: Final = 1 << 20
WRITE: Final = 1 << 20
BASE: Final = len(DIGITS)
VALUES: Final = bytes.maketrans(DIGITS.encode(), bytes(range(BASE)))
SPREAD: Final = BASE**4


class KeyFileError(SidecarError):
    """The file of API keys cannot be used."""

    code = Code.UNAVAILABLE
    public = "API keys cannot be looked up at the moment"
    wire_reason = "API_KEYS_UNAVAILABLE"


class KeyFile:
    """Opens a file that `build` made with the same hash key. Raises KeyFileError, StateError.

    database, sequence: of whose keys, and up to which change.  keys: how many.
    Opening reads the directory, 8 to 16 bytes for each key, which is for no event loop.
    """

    def __init__(self, path: Path, hash_key: HashKey) -> None:
        self.path = path
        self._key = _mac_key(hash_key)
        self._fd = open_private(path, os.O_RDONLY)
        try:
            self._open()
        except BaseException:
            os.close(self._fd)
            raise

    def find(self, key_id: str) -> KeyRecord | None:
        """key_id: of the form of `api_keys`. Raises KeyFileError where what is read is damaged."""
        name = key_id.encode()
        at = HEADER + OFFSET.size * _bucket(name, self._buckets)
        begin, end = RANGE.unpack(self._read(at, RANGE.size))
        if not self._first <= begin <= end <= self._size or end - begin > LARGEST_BUCKET:
            raise self._error("has a damaged directory")
        octets = self._read(begin, end - begin)
        at, end = 0, len(octets)
        while at < end:
            begin = at + LENGTH.size + TAG
            if begin > end or (after := begin + LENGTH.unpack_from(octets, at)[0]) > end:
                raise self._error("has a damaged record")
            if octets.startswith(name, begin):
                said = octets[begin:after]
                if not hmac.compare_digest(_tag(said, self._key, self._nonce), octets[at + LENGTH.size : begin]):
                    raise self._error("has a damaged record")
                return decode(said[ID:])
            at = after
        return None

    def close(self) -> None:
        os.close(self._fd)

    def _open(self) -> None:
        octets = self._read(0, HEADER)
        fixed, tag = octets[: FIXED.size], octets[FIXED.size : FIXED.size + 32]
        magic, version, database, sequence, keys, buckets, size, nonce, digest = FIXED.unpack(fixed)
        if magic != MAGIC:
            raise self._error("is no file of API keys")
        if version != VERSION:
            raise self._error(f"is of version {version}, expected {VERSION}")
        if not hmac.compare_digest(hmac.digest(self._key, fixed, "sha256"), tag):
            raise self._error("was made with another hash key, or has a damaged header")
        if (found := os.fstat(self._fd).st_size) != size:
            raise self._error(f"has {found} bytes, expected {size}")
        self.database: str = database.decode()
        self.sequence: int = sequence
        self.keys: int = keys
        self._buckets: int = buckets
        self._nonce: bytes = nonce
        self._size: int = size
        self._first = HEADER + OFFSET.size * (buckets + 1)
        if self._digest() != digest:
            raise self._error("has a damaged directory")

    def _digest(self) -> bytes:
        found = blake2b(digest_size=32)
        for at in range(HEADER, self._first, READ):
            found.update(self._read(at, min(READ, self._first - at)))
        return found.digest()

    def _read(self, at: int, length: int) -> bytes:
        try:
            octets = os.pread(self._fd, length, at)
        except OSError as error:
            raise self._error(error.strerror or "cannot be read") from error
        if len(octets) != length:
            raise self._error("was cut short")
        return octets

    def _error(self, problem: str) -> KeyFileError:
        return KeyFileError(f"file of API keys {self.path} {problem}")


def build(
    path: Path,
    records: Iterable[KeyRecord],
    count: int,
    head: Head,
    hash_key: HashKey,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> None:
    """Replace the file, all at once. records: by id, so many, of the state at `head`. They are never all in memory.

    Raises KeyFileError where they are not so many, or not in order, and StateError; the file is then as it was.
    """
    replace(path, lambda file: _write(file, records, count, head, _mac_key(hash_key), random_bytes(16)))


def _write(file: IO[bytes], records: Iterable[KeyRecord], count: int, head: Head, key: bytes, nonce: bytes) -> None:
    buckets = min(max(1, (1 << (count - 1).bit_length()) // 2), SPREAD)
    directory = bytearray(OFFSET.size * (buckets + 1))
    at = HEADER + len(directory)
    file.seek(at)
    gathered, written, last, reached = bytearray(), 0, b"", 0
    for record in records:
        name = record.key_id.encode()
        if name <= last:
            raise KeyFileError(f"API key {record.key_id} came after {last.decode()}, expected them by id")
        bucket = _bucket(name, buckets)
        for number in range(reached, bucket + 1):
            OFFSET.pack_into(directory, OFFSET.size * number, at)
        reached, last, written = bucket + 1, name, written + 1
        said = name + encode(record)
        gathered += LENGTH.pack(len(said)) + _tag(said, key, nonce) + said
        at += LENGTH.size + TAG + len(said)
        if len(gathered) >= WRITE:
            file.write(gathered)
            gathered.clear()
    if written != count:
        raise KeyFileError(f"{written} API keys came, expected {count}")
    file.write(gathered)
    for number in range(reached, buckets + 1):
        OFFSET.pack_into(directory, OFFSET.size * number, at)
    digest = blake2b(directory, digest_size=32).digest()
    fixed = FIXED.pack(MAGIC, VERSION, head.identity.encode(), head.sequence, count, buckets, at, nonce, digest)
    file.seek(0)
    file.write((fixed + hmac.digest(key, fixed, "sha256")).ljust(HEADER, b"\0"))
    file.write(directory)


def _bucket(name: bytes, buckets: int) -> int:
    """Rises with the name."""
    one, two, three, four = name[:4].translate(VALUES)
    return (((one * BASE + two) * BASE + three) * BASE + four) * buckets // SPREAD


def _tag(said: bytes, key: bytes, nonce: bytes) -> bytes:
    return blake2b(said, digest_size=TAG, key=key, salt=nonce).digest()


def _mac_key(hash_key: HashKey) -> bytes:
    return hmac.digest(hash_key.key, b"langtrain file of api keys 1", "sha256")
