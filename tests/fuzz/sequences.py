"""Sequences of frames toward a server or a client: valid, nearly valid and invalid, in one deal from one seed."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from typing import Final

from sidecar.relay.http2 import frames
from sidecar.relay.http2.fields import Field
from tests.fuzz.coding import Coder
from tests.fuzz.verdicts import REQUEST, RESPONSE, TRAILERS, Act, Item

MOST = 14  # items of a sequence, besides those that open it
_EDGES: Final = (0, 1, 2, 16_383, 16_384, 16_385, 65_535, 65_536, frames.LARGEST_FRAME, frames.LARGEST_FRAME + 1,
                 frames.MAX_WINDOW - 1, frames.MAX_WINDOW, frames.MAX_WINDOW + 1, 0xFFFFFFFF)  # fmt: skip
_FRAGMENT: Final = 12  # bytes, of a block that is cut

# What stands in a block beside, or in place of, what would be well formed.
_ODD_FIELDS: Final[tuple[Field, ...]] = (
    (b":authority", b"localhost"), (b":path", b"/a.B/C"), (b":path", b""), (b":path", b"*"), (b":path", b"a.B/C"),
    (b":method", b"GET"), (b":method", b"CONNECT"), (b":method", b""), (b":method", b"OPTIONS"), (b":scheme", b""),
    (b":scheme", b"ftp"), (b":status", b"200"), (b":status", b"20"), (b":status", b"099"), (b":status", b"2xx"),
    (b":status", b""), (b":status", b"101"), (b":status", b"103"), (b":status", b"204"), (b":status", b"304"),
    (b":what", b"x"), (b":", b""), (b"", b"x"), (b"Upper", b"x"), (b"a b", b"x"), (b"a:b", b"x"), (b"a\x00", b"x"),
    (b"a\x80", b"x"), (b"x", b""), (b"x", b" a"), (b"x", b"a\t"), (b"x", b"a\x00b"), (b"x", b"a\nb"), (b"x", b"a\rb"),
    (b"x", b"\x7f"), (b"x", b"\x01"), (b"x", b"\xff\x80"), (b"te", b"gzip"), (b"te", b"trailers"), (b"te", b"Trailers"),
    (b"connection", b"close"), (b"keep-alive", b"1"), (b"proxy-connection", b"x"), (b"transfer-encoding", b"chunked"),
    (b"upgrade", b"h2c"), (b"content-length", b"0"), (b"content-length", b"5"), (b"content-length", b"100"),
    (b"content-length", b"-1"), (b"content-length", b"+5"), (b"content-length", b"5, 5"), (b"content-length", b""),
    (b"content-length", b"99999999999999999999"), (b"host", b"localhost"), (b"host", b"elsewhere"), (b"host", b""),
    (b"cookie", b"a=b"), (b"cookie", b"c=d"), (b"grpc-timeout", b"1S"), (b"x-bin", b"AAA="), (b"x", b"v" * 200),
)  # fmt: skip
_PLAIN_FIELDS: Final[tuple[Field, ...]] = (
    (b"grpc-timeout", b"1S"), (b"x-bin", b"AAA="), (b"user-agent", b"grpc-go/1.60"), (b"grpc-encoding", b"gzip"),
    (b"accept-encoding", b"gzip, deflate"), (b"x", b""), (b"x-long", b"v" * 300), (b"cookie", b"a=b"),
    (b"content-length", b"5"), (b"content-length", b"0"),
)  # fmt: skip


def generate(rng: Random, client: bool) -> list[Item]:
    """A sequence for a subject that is a client or a server, from its first byte on."""
    return _Deal(rng, client).sequence()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


class _Deal:
    def __init__(self, rng: Random, client: bool) -> None:
        self.rng = rng
        self.client = client
        self.coder = Coder(rng)
        self.streams: list[int] = []  # opened so far
        self.headed: set[int] = set()  # of those, what the sequence has sent a head on

    def sequence(self) -> list[Item]:
        rng = self.rng
        items: list[Item] = self._opening()
        if self.client:
            for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4))):
                items.append(self._open_act())
        kinds, weights = zip(*_KINDS[self.client], strict=True)
        for make in rng.choices(kinds, weights, k=rng.randint(1, MOST)):
            items.append(make(self))
        if rng.random() < 0.1:
            items[-1] = self._cut(items[-1])
        return items

    def _opening(self) -> list[Item]:
        """Preface and SETTINGS, or something that is neither."""
        rng = self.rng
        preface = b"" if self.client else frames.PREFACE
        if rng.random() < 0.96:
            first = frames.settings(()) if rng.random() < 0.7 else self._settings()
            return [preface + first, frames.SETTINGS_ACK] if rng.random() < 0.9 else [preface + first]
        return [rng.choice((
            lambda: preface + frames.SETTINGS_ACK,
            lambda: preface + frames.ping(bytes(8), False),
            lambda: preface + self._window(),
            lambda: preface + self._unknown(),
            lambda: preface + self._goaway(),
            lambda: preface[: rng.randrange(len(preface) + 1)],
            lambda: frames.settings(()),
            lambda: b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            lambda: frames.PREFACE + frames.settings(()),
        ))()]  # fmt: skip

    # --- streams ------------------------------------------------------------------------------------------------

    def _open_act(self) -> Item:
        number = 2 * len(self.streams) + 1
        self.streams.append(number)
        return Act("open", number, self.rng.randrange(2))

    def _fresh(self) -> int:
        """A stream that a client may open next."""
        number = max(self.streams, default=-1) + self.rng.choice((2, 2, 2, 2, 4))
        self.streams.append(number)
        return number

    def _number(self) -> int:
        """A stream that exists, as a rule."""
        rng = self.rng
        if self.streams and rng.random() < 0.88:
            return rng.choice(self.streams)
        return rng.choice((0, 1, 2, 3, 4, 5, 7, 99, frames.MAX_STREAM_ID))

    def _reserved(self, number: int) -> int:
        return number | 0x80000000 if self.rng.random() < 0.03 else number

    # --- header blocks ------------------------------------------------------------------------------------------

    def _fields(self, base: tuple[Field, ...]) -> list[Field]:
        """A list of fields: as it should be, or with a fault."""
        rng = self.rng
        fields = list(base)
        while rng.random() < 0.3:
            fields.append(rng.choice(_PLAIN_FIELDS))
        if rng.random() < 0.2:
            fault = rng.random()
            if fault < 0.55:
                fields.insert(rng.randint(0, len(fields)), rng.choice(_ODD_FIELDS))
            elif fault < 0.75:
                fields.pop(rng.randrange(len(fields)))
            elif fault < 0.9:
                odd = rng.choice(_ODD_FIELDS)
                fields = [odd if field[0] == odd[0] else field for field in fields]
            else:
                rng.shuffle(fields)
        return fields

    def _block(self, stream: int, base: tuple[Field, ...], end: bool) -> bytes:
        rng = self.rng
        coded = self.coder.block if rng.random() < 0.94 else self.coder.broken
        return self._block_frames(stream, coded(self._fields(base)), end)

    def _block_frames(self, stream: int, block: bytes, end: bool) -> bytes:
        rng = self.rng
        flags = (frames.END_STREAM if end else 0) | (rng.choice((0x40, 0x80, 0x02, 0x10)) if rng.random() < 0.03 else 0)
        pieces = [block]
        if rng.random() < 0.2:
            at = rng.randint(0, min(_FRAGMENT, len(block)))
            pieces = [block[:at], block[at:]]
            while rng.random() < 0.3:
                pieces.insert(rng.randint(1, len(pieces)), b"")
        if rng.random() < 0.1:
            flags |= frames.PRIORITY_FLAG
            on = rng.choice((0, 0, 1, 3, stream))
            pieces[0] = struct.pack(">LB", on, rng.randrange(256)) + pieces[0]
        if rng.random() < 0.1:
            flags |= frames.PADDED
            pad = rng.choice((0, 1, 7, 255))
            says = pad if rng.random() < 0.9 else rng.choice((len(pieces[0]) + pad, len(pieces[0]) + pad + 1, 255))
            pieces[0] = bytes((min(says, 255),)) + pieces[0] + bytes(pad)
        if len(pieces) == 1:
            flags |= frames.END_HEADERS
        made = [_frame(frames.HEADERS, flags, self._reserved(stream), pieces[0])]
        for place, piece in enumerate(pieces[1:], 2):
            last = frames.END_HEADERS if place == len(pieces) else 0
            made.append(_frame(frames.CONTINUATION, last, stream, piece))
        if len(made) > 1 and rng.random() < 0.1:
            fault = rng.random()
            if fault < 0.5:
                made.insert(1, rng.choice((self._ping, self._data, self._unknown, self._priority))())
            elif fault < 0.8:
                made[-1] = _frame(frames.CONTINUATION, 4, self._number(), pieces[-1])
            else:
                made[-1] = _frame(frames.CONTINUATION, 4, stream, pieces[-1])[:9] + pieces[-1]
        return b"".join(made)

    def _request(self) -> bytes:
        stream = self._fresh() if self.rng.random() < 0.93 else self._number()
        return self._block(stream, REQUEST, self.rng.random() < 0.35)

    def _response(self) -> bytes:
        rng = self.rng
        stream = self._number()
        if stream not in self.headed and rng.random() < 0.15:
            return self._block(stream, ((b":status", rng.choice((b"100", b"103"))),), rng.random() < 0.05)
        if stream in self.headed and rng.random() < 0.8:
            return self._block(stream, TRAILERS, rng.random() < 0.9)
        self.headed.add(stream)
        return self._block(stream, RESPONSE, rng.random() < 0.15)

    def _trailers(self) -> bytes:
        return self._block(self._number(), TRAILERS, self.rng.random() < 0.9)

    def _stray(self) -> bytes:
        return _frame(frames.CONTINUATION, self.rng.choice((0, 4)), self._number(), self.coder.block(TRAILERS))

    def _empty_block(self) -> bytes:
        flags = self.rng.choice((4, 5, 0xC, 0x24, 0x2C, 0x2D))
        return _frame(
            frames.HEADERS, flags, self._number(), self.rng.choice((b"", b"\x00", bytes(4), bytes(5), bytes(6)))
        )

    def _push(self) -> bytes:
        promised = struct.pack(">L", self.rng.choice((2, 2, 4, 1, 0)))
        payload = promised + self.coder.block(REQUEST) if self.rng.random() < 0.8 else promised[: self.rng.randrange(5)]
        return _frame(frames.PUSH_PROMISE, self.rng.choice((4, 4, 0xC)), self._number(), payload)

    # --- other frames -------------------------------------------------------------------------------------------

    def _data(self) -> bytes:
        rng = self.rng
        size = (
            rng.choice((0, 1, 5, 5, 5, 100, 100))
            if rng.random() < 0.8
            else rng.choice((16_383, 16_384, 16_384, 16_385))
        )
        payload = bytes(size)
        flags = int(rng.random() < 0.25)
        if rng.random() < 0.2:
            flags |= frames.PADDED
            pad = rng.choice((0, 1, 3, 255))
            says = pad if rng.random() < 0.8 else min(255, size + pad + rng.choice((0, 1)))
            payload = bytes((says,)) + payload[: 16_384 - 1 - pad] + bytes(pad)
            if rng.random() < 0.05:
                payload = b""
        if rng.random() < 0.03:
            flags |= rng.choice((0x02, 0x04, 0x10, 0x20, 0x40, 0x80))
        return _frame(frames.DATA, flags, self._reserved(self._number()), payload)

    def _flood(self) -> bytes:
        """DATA up to the edge of both windows, or past it."""
        number, parts = self._number(), []
        left = frames.DEFAULT_WINDOW + self.rng.choice((-1, 0, 0, 1, 200))
        while left:
            count = min(left, frames.DEFAULT_FRAME)
            parts.append(_frame(frames.DATA, 0, number, bytes(count)))
            left -= count
        return b"".join(parts)

    def _rst(self) -> bytes:
        size = 4 if self.rng.random() < 0.92 else self.rng.choice((0, 3, 5))
        code = struct.pack(">L", self.rng.choice((0, 1, 2, 7, 7, 8, 8, 11, 99)))
        return _frame(frames.RST_STREAM, 0, self._reserved(self._number()), (code + bytes(1))[:size])

    def _priority(self) -> bytes:
        size = 5 if self.rng.random() < 0.9 else self.rng.choice((0, 4, 6))
        number = self._number()
        on = number if self.rng.random() < 0.1 else self.rng.choice((0, 1, 3, 0x80000000))
        return _frame(frames.PRIORITY, 0, number, (struct.pack(">LB", on, 16) + bytes(1))[:size])

    def _settings(self) -> bytes:
        rng = self.rng
        pairs = []
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
            if rng.random() < 0.75:
                key, value = rng.choice((
                    (1, 0), (1, 100), (1, 4_096), (1, 65_536), (2, 0), (3, 0), (3, 1), (3, 100), (4, 0), (4, 1),
                    (4, 65_535), (4, 65_536), (4, 100_000), (4, frames.MAX_WINDOW), (5, 16_384), (5, 65_536),
                    (5, frames.LARGEST_FRAME), (6, 0), (6, 16_384), (0xABCD, 7), (0, 1),
                ))  # fmt: skip
            else:
                key, value = rng.choice((1, 2, 3, 4, 5, 6, 0x0A0A)), rng.choice(_EDGES)
            pairs.append((key, value))
        payload = b"".join(frames.SETTING.pack(*pair) for pair in pairs)
        flags = number = 0
        fault = rng.random()
        if fault < 0.04:
            payload = payload[:-1] or b"\x00"
        elif fault < 0.08:
            flags = frames.ACK
        elif fault < 0.11:
            number = self._number()
        elif fault < 0.14:
            flags = rng.choice((0x02, 0x80))
        return _frame(frames.SETTINGS, flags, number, payload)

    def _ping(self) -> bytes:
        size = 8 if self.rng.random() < 0.9 else self.rng.choice((0, 7, 9))
        number = 0 if self.rng.random() < 0.93 else self._number()
        return _frame(frames.PING, self.rng.choice((0, 0, 0, 1, 2)), number, self.rng.randbytes(size))

    def _goaway(self) -> bytes:
        rng = self.rng
        payload = struct.pack(
            ">LL", rng.choice((0, 1, 3, frames.MAX_STREAM_ID, frames.MAX_STREAM_ID)), rng.choice((0, 0, 2, 99))
        )
        size = len(payload) if rng.random() < 0.9 else rng.choice((0, 7))
        number = 0 if rng.random() < 0.93 else self._number()
        return _frame(
            frames.GOAWAY, rng.choice((0, 0, 0xFF)), number, payload[:size] + rng.choice((b"", b"", b"debug"))[:size]
        )

    def _window(self) -> bytes:
        rng = self.rng
        size = 4 if rng.random() < 0.92 else rng.choice((0, 3, 5))
        room = frames.MAX_WINDOW - frames.DEFAULT_WINDOW
        step = rng.choice((0, 1, 1, 1_000, 70_000, room - 1, room, room + 1, frames.MAX_WINDOW, 0x80000001))
        number = 0 if rng.random() < 0.3 else self._number()
        return _frame(frames.WINDOW_UPDATE, 0, self._reserved(number), (struct.pack(">L", step) + bytes(1))[:size])

    def _unknown(self) -> bytes:
        rng = self.rng
        kind = rng.choice((0x0B, 0x20, 0x7F, 0xFF))
        return _frame(kind, rng.randrange(256), self._number(), rng.randbytes(rng.choice((0, 1, 8, 40))))

    def _bent(self) -> bytes:
        """A frame one of whose head's octets is another."""
        rng = self.rng
        octets = bytearray(
            rng.choice((self._data, self._rst, self._ping, self._window, self._settings, self._trailers))()
        )
        octets[rng.choice((2, 3, 4, 5, 8))] ^= 1 << rng.randrange(8)
        return bytes(octets)

    def _act(self) -> Item:
        rng = self.rng
        if self.client and rng.random() < 0.2:
            return self._open_act()
        if not self.streams:
            return self._ping()
        deed = rng.choice(
            ("say", "say", "end", "reset") if self.client else ("head", "head", "say", "say", "end", "end", "reset")
        )
        return Act(deed, rng.choice(self.streams), rng.choice((1, 100, 5_000, 16_384)) if deed == "say" else 0)

    def _cut(self, item: Item) -> Item:
        return item[: self.rng.randint(0, len(item))] if isinstance(item, bytes) else item


_Make = Callable[[_Deal], Item]
_COMMON: Final[tuple[tuple[_Make, int], ...]] = (
    (_Deal._data, 22), (_Deal._flood, 1), (_Deal._rst, 6), (_Deal._priority, 4), (_Deal._settings, 8), (_Deal._ping, 4),
    (_Deal._goaway, 2), (_Deal._window, 10), (_Deal._unknown, 3), (_Deal._bent, 2), (_Deal._act, 18),
    (_Deal._stray, 1), (_Deal._empty_block, 1), (_Deal._push, 1),
)  # fmt: skip
_KINDS: Final[dict[bool, tuple[tuple[_Make, int], ...]]] = {
    False: ((_Deal._request, 30), (_Deal._trailers, 8), *_COMMON),
    True: ((_Deal._response, 38), *_COMMON),
}
