"""One HTTP/2 stream: two halves with a state each, windows, and what waits to be sent.

RFC 9113 §5.1 draws the product of the two halves; here each half moves by a table of its own: (state, input) → state,
and what is absent is a fault of the peer.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol, TypeAlias

from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.fields import RequestHead, ResponseHead, TrailerBlock

Piece: TypeAlias = bytes | memoryview  # of a payload

# States of a half.
AWAIT: Final = 0  # no final header block yet
BODY: Final = 1  # headers seen, DATA or trailers may follow
ENDED: Final = 2  # END_STREAM seen
RESET: Final = 3  # RST_STREAM, ours or theirs

# What may arrive on a receiving half. Plain integers, here and above: an Enum's look-up and hash cost more than the
# frame they would name.
HEADERS: Final = 0
HEADERS_END: Final = 1
INFORMATIONAL: Final = 2
DATA: Final = 3
DATA_END: Final = 4
INPUTS: Final = (HEADERS, HEADERS_END, INFORMATIONAL, DATA, DATA_END)

# What a peer may do, by the state of our receiving half. A block after the head must end the stream (RFC 9113 §8.1).
# A stream that was reset is no longer known, and what still arrives for it is ignored by its number.
RECEIVE: Final[dict[int, dict[int, int]]] = {
    AWAIT: {HEADERS: BODY, HEADERS_END: ENDED, INFORMATIONAL: AWAIT},
    BODY: {DATA: BODY, DATA_END: ENDED, HEADERS_END: ENDED},
    ENDED: {},
}


def fault_code(state: int) -> ErrorCode:
    """The error code for an input that `state` has no entry for (RFC 9113 §5.1, half-closed (remote); §8.1)."""
    return ErrorCode.STREAM_CLOSED if state == ENDED else ErrorCode.PROTOCOL_ERROR


class StreamOwner(Protocol):
    """Who acts on one stream's events; called while bytes are received, and may send at once."""

    def on_head(self, head: RequestHead | ResponseHead, end: bool) -> None: ...

    def on_data(self, payload: bytes, end: bool) -> None:
        """payload: DATA without padding; its window is returned by `Connection.consume`."""

    def on_view(self, payload: memoryview) -> None:
        """DATA as it stands in what was read, which the view keeps in memory: whoever keeps any of it copies that."""

    def on_trailers(self, trailers: TrailerBlock) -> None: ...

    def on_reset(self, code: int, reason: str) -> None:
        """The stream is gone, by the peer's RST_STREAM (reason "") or by ours for its fault."""

    def on_refused(self) -> None:
        """The peer did not process this stream at all (RFC 9113 §6.8, §8.7): it may be tried again."""

    def on_sent(self, count: int) -> None:
        """count bytes of DATA that had to wait have left."""


class Stream:
    """State of one stream; all work is `Connection`'s."""

    __slots__ = (
        "empty",
        "expected",
        "fresh",
        "held",
        "id",
        "owner",
        "queue",
        "queued",
        "receive",
        "released",
        "send",
        "send_window",
        "since",
        "span",
        "tail",
        "unreturned",
        "window",
    )

    def __init__(self, number: int, send_window: int, window: int) -> None:
        self.id = number
        self.owner: StreamOwner | None = None
        self.receive = AWAIT
        self.send = AWAIT
        self.send_window = send_window  # bytes we may send
        self.window = window  # bytes the peer may send
        self.span = window  # all of it: what the peer may send, with what is held and not yet returned
        self.since = 0.0  # when the head of an answer came, or window was last returned, until it is widest
        self.fresh: list[bytes] | None = None  # DATA that came and is not yet the owner's
        self.held = 0  # bytes received and not consumed
        self.unreturned = 0  # bytes consumed and not yet announced
        self.empty = False  # a DATA frame without data has come
        self.expected = -1  # content-length less what came, -1: not declared
        self.queue: deque[tuple[Piece, bool]] | None = None  # DATA waiting for window or room, none of it empty
        self.queued = 0  # bytes in queue
        self.tail: bytes | None = None  # trailers waiting behind the queue
        self.released = False
