"""KeyUpdate messages by hand (RFC 8446): Python's ssl cannot send them, so they are sealed with its logged secrets."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

_UPDATE = b"\x18\x00\x00\x01"  # key_update, of one byte
_HANDSHAKE, _APPLICATION = b"\x16", b"\x17"
_TAG = 16  # bytes
_SHA256, _SHA384 = hashes.SHA256(), hashes.SHA384()


class Secret(NamedTuple):
    """A client's traffic secret."""

    value: bytes
    cipher: str

    @property
    def hash(self) -> hashes.HashAlgorithm:
        return _SHA384 if self.cipher.endswith("SHA384") else _SHA256

    def expand(self, label: bytes, size: int) -> bytes:
        """HKDF-Expand-Label with an empty context (RFC 8446 7.1)."""
        label = b"tls13 " + label
        info = size.to_bytes(2, "big") + bytes((len(label),)) + label + b"\0"
        return HKDFExpand(self.hash, size, info).derive(self.value)

    def next(self) -> Secret:
        return self._replace(value=self.expand(b"traffic upd", self.hash.digest_size))


def listen(context: ssl.SSLContext, cipher: str = "TLS_AES_256_GCM_SHA384") -> Callable[[], Secret]:
    """Have a context log its secrets; the function gives the client's once a handshake is done.

    cipher: what the handshake agrees on.
    """
    with tempfile.NamedTemporaryFile(prefix="keys-", delete=False) as file:
        path = Path(file.name)
    context.keylog_filename = str(path)

    def found() -> Secret:
        lines = [line.split() for line in path.read_text().splitlines()]
        path.unlink()
        return Secret(bytes.fromhex(next(words[2] for words in lines if words[0] == "CLIENT_TRAFFIC_SECRET_0")), cipher)

    return found


class Updates(Iterator[bytes]):
    """Records, each a KeyUpdate under the keys that the one before has brought. Nothing else may be sent before.

    asks: for one in answer (update_requested).
    """

    def __init__(self, secret: Secret, asks: bool = True) -> None:
        self._secret = secret
        self._asks = asks

    def __next__(self) -> bytes:
        secret, self._secret = self._secret, self._secret.next()
        return _sealed(secret, 0, _UPDATE + bytes((self._asks,)), _HANDSHAKE)

    def beside(self, data: bytes) -> bytes:
        """Application data, and a KeyUpdate behind it."""
        secret, self._secret = self._secret, self._secret.next()
        update = _UPDATE + bytes((self._asks,))
        return _sealed(secret, 0, data, _APPLICATION) + _sealed(secret, 1, update, _HANDSHAKE)


def _sealed(secret: Secret, sequence: int, said: bytes, kind: bytes) -> bytes:
    """One record (RFC 8446 5.2, 5.3). sequence: of the records under this secret, below 256."""
    chacha = "CHACHA20" in secret.cipher
    key = secret.expand(b"key", 16 if "AES_128" in secret.cipher else 32)
    nonce = secret.expand(b"iv", 12)
    nonce = nonce[:-1] + bytes((nonce[-1] ^ sequence,))
    size = len(said) + 1 + _TAG
    header = _APPLICATION + b"\x03\x03" + size.to_bytes(2, "big")
    sealer = ChaCha20Poly1305(key) if chacha else AESGCM(key)
    return header + sealer.encrypt(nonce, said + kind, header)
