"""What each target's corpus begins with, before a fuzzer finds more."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from sidecar.relay.grpc_wire import frame
from tests.config.configs import SOUND
from tests.fuzz.coding import Coder
from tests.fuzz.sequences import generate
from tests.fuzz.verdicts import REQUEST, RESPONSE, TRAILERS
from tests.processes import REPOSITORY
from tests.relay.http2.h2spec import CASES

_LONGEST = 600  # bytes


def seeds(name: str) -> Iterator[bytes]:
    """The first inputs of a target."""
    yield b""
    yield from {
        "server_frames": _server_frames, "client_frames": lambda: _frames(True), "header_blocks": _header_blocks,
        "messages": _messages, "timeout": _timeouts, "metadata": _metadata, "config": _configs,
    }[name]()  # fmt: skip


def _frames(client: bool) -> Iterator[bytes]:
    for number in range(150):
        items = [item for item in generate(Random(number), client)[1:] if isinstance(item, bytes)]
        octets = b"".join(items)[:_LONGEST]
        yield bytes((number % 256,)) + octets


def _server_frames() -> Iterator[bytes]:
    yield from _frames(False)
    for case in CASES:
        yield b"\x00" + case.sent[:_LONGEST]


def _header_blocks() -> Iterator[bytes]:
    for number in range(80):
        rng = Random(number)
        coder = Coder(rng)
        blocks = [coder.block(rng.choice((REQUEST, RESPONSE, TRAILERS))) for _ in range(rng.randint(1, 4))]
        blocks.append(coder.broken(TRAILERS))
        yield b"".join(bytes((len(block),)) + block for block in blocks if len(block) < 256)


def _messages() -> Iterator[bytes]:
    for raw in (b"", b"a", b"ab" * 30, bytes(1_024), bytes(1_025)):
        for encoding in (b"", b"gzip", b"deflate"):
            yield b"\x00" + frame(raw, encoding) * 2
            yield b"\x07" + frame(raw, encoding) + frame(b"more")
    yield b"\x00\x02" + bytes(4)
    yield b"\x00\x00\xff\xff\xff\xff"


def _timeouts() -> Iterator[bytes]:
    yield from (b"1S", b"99999999H", b"0n", b"10m", b"5u", b"30M", b"123456789S", b"1s", b"-1S", b"1 S", b"1.5S", b"S")


def _metadata() -> Iterator[bytes]:
    yield from (
        b"x\0value",
        b"x-bin\0AAA=",
        b"x-bin\0AAA,AA==",
        b"x-bin\0A",
        b"grpc-timeout\x001S",
        b"grpc-message\0%41%zz",
        b"Upper\0v",
        b"x\0 v",
        b"te\0gzip",
        b"host\0other",
        b"content-type\0text/plain",
        b"grpc-encoding\0gzip",
        b"grpc-accept-encoding\0gzip,br",
        b"content-length\x005",
        b"connection\0close",
        b"x\0\xc3\xa9",
        b"\0",
        b":path\0/",
    )


def _configs() -> Iterator[bytes]:
    yield SOUND.encode()
    example = (REPOSITORY / "examples" / "sidecar.yaml").read_bytes()
    lines = [line.partition(b" #")[0].rstrip() for line in example.splitlines() if not line.lstrip().startswith(b"#")]
    yield b"\n".join(line for line in lines if line)
    yield SOUND.encode() + b'authorization: {rules: [{identities: ["dns:a"], methods: [/**]}]}'
    yield from (
        b"a: [1, {b: c}]",
        b"- 1",
        b"a: &x 1\nb: *x",
        b"{",
        b"a: 1\na: 2",
        b"!!python/object:x {}",
        b"\xff",
        b"---\n...",
    )
