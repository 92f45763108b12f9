"""What a test asks the server to end a call with, carried in one metadata field, and how it must arrive."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass

FIELD = "x-peers-ending-bin"
DETAILS = "grpc-status-details-bin"

# One letter each of 1 to 4 bytes of UTF-8, what percent-encoding must escape, and what a header may not hold.
ALPHABET = "aZ09 ~%+/=éß中🚀\t\r\n"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call shall end.

    code: gRPC status.  message: its text.  details: the bytes of grpc-status-details-bin, "" for none.
    text, binary: values of the trailing fields x-peers-text (repeated) and x-peers-data-bin.
    after: responses sent before the end of a stream.
    bare: a stream ends without reading a request, a unary call that fails without a response (trailers only).
    """

    code: int
    message: str
    details: bytes = b""
    text: tuple[str, ...] = ()
    binary: bytes = b""
    after: int = 0
    bare: bool = False

    def field(self) -> tuple[str, bytes]:
        """The metadata field that asks the server for this ending."""
        plain = asdict(self) | {"details": self.details.hex(), "binary": self.binary.hex()}
        return FIELD, json.dumps(plain).encode()

    @classmethod
    def read(cls, value: bytes) -> Ending:
        plain = json.loads(value)
        data = {"details": bytes.fromhex(plain["details"]), "binary": bytes.fromhex(plain["binary"])}
        return cls(**plain | data | {"text": tuple(plain["text"])})

    def trailers(self) -> tuple[tuple[str, str | bytes], ...]:
        """The trailing metadata that the server sends, and that the client must see."""
        fields: list[tuple[str, str | bytes]] = [("x-peers-text", value) for value in self.text]
        if self.binary:
            fields.append(("x-peers-data-bin", self.binary))
        if self.details:
            fields.append((DETAILS, self.details))
        return tuple(fields)


def endings(code: int, count: int, streaming: bool, rng: random.Random) -> list[Ending]:
    """`count` endings with status `code`, each with texts, details and trailers of its own."""
    return [_ending(code, number, streaming, rng) for number in range(count)]


def _ending(code: int, number: int, streaming: bool, rng: random.Random) -> Ending:
    return Ending(
        code=code,
        # A call that ends well has no message: clients drop it.
        message="" if code == 0 else f"{number}:" + "".join(rng.choices(ALPHABET, k=rng.randrange(200))) + ".",
        details=rng.randbytes(rng.randrange(600)) if number % 3 else b"",
        text=tuple(f"value {rng.randrange(1000)}" for _ in range(rng.randrange(3))),
        binary=rng.randbytes(rng.randrange(64)),
        after=rng.randrange(4) if streaming else 0,
        bare=rng.random() < 0.3,
    )
