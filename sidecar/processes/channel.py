"""The control channel between the supervisor and one child: messages and descriptors over an inherited socketpair.

A frame is the message's length (4 bytes, big-endian), the number of its descriptors (1 byte), and the message. The
descriptors travel with the frame's first byte, so they arrive no later than it does.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from sidecar.processes.messages import LARGEST, ChannelError, Message, decode, encode

HEAD: Final = struct.Struct("!IB")
READ: Final = 64 << 10  # bytes
MOST_DESCRIPTORS: Final = 250  # of one message; the kernel passes 253 (SCM_MAX_FD)
SPACE: Final = socket.CMSG_LEN(MOST_DESCRIPTORS * array("i").itemsize)  # bytes
MOST_UNSENT: Final = 2 * LARGEST  # bytes that wait for a peer that does not read

Handler = Callable[[Message, list[int]], None]


class Frames:
    """Bytes and descriptors in, messages with their descriptors out."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._descriptors: deque[int] = deque()

    def feed(self, data: bytes, descriptors: Sequence[int]) -> list[tuple[Message, list[int]]]:
        """Raises ChannelError; every descriptor that was not handed out is closed by `close`."""
        self._data += data
        self._descriptors.extend(descriptors)
        found = []
        while len(self._data) >= HEAD.size:
            length, count = HEAD.unpack_from(self._data)
            if length > LARGEST or count > MOST_DESCRIPTORS:
                raise ChannelError(f"a frame of {length} bytes and {count} descriptors is beyond the limits")
            if len(self._data) < HEAD.size + length:
                break
            if len(self._descriptors) < count:
                raise ChannelError(f"expected {count} descriptors with a message, came {len(self._descriptors)}")
            message = decode(bytes(self._data[HEAD.size : HEAD.size + length]))
            del self._data[: HEAD.size + length]
            found.append((message, [self._descriptors.popleft() for _ in range(count)]))
        return found

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.popleft())


class Channel:
    """One end. Until `attach`, it can only be read by `first`, which blocks; from then on an event loop moves it."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._frames = Frames()
        self._unsent: deque[tuple[memoryview, list[int]]] = deque()
        self._waiting = 0  # bytes in _unsent
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: Handler | None = None
        self._lost: Callable[[], None] | None = None
        self._early: list[tuple[Message, list[int]]] = []

    def fileno(self) -> int:
        return self._socket.fileno()

    def first(self) -> tuple[Message, list[int]]:
        """The first message, waited for. Raises ChannelError where the peer closes before it has said one."""
        while not self._early:
            data, descriptors = self._receive()
            if not data:
                raise ChannelError("the supervisor closed the control channel before the first message")
            self._early += self._frames.feed(data, descriptors)
        return self._early.pop(0)

    def attach(self, loop: asyncio.AbstractEventLoop, handle: Handler, lost: Callable[[], None]) -> None:
        """handle: called with each message and its descriptors, which it owns.  lost: called once, at the end."""
        self._loop, self._handle, self._lost = loop, handle, lost
        self._socket.setblocking(False)
        loop.add_reader(self._socket.fileno(), self._readable)
        for message, descriptors in self._early:
            handle(message, descriptors)
        self._early.clear()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send now or soon; nothing where the channel has ended. descriptors: stay the caller's.

        Raises ChannelError where more waits than a peer that reads would leave, OSError where a descriptor is not open
        or none is left.
        """
        if self._socket.fileno() < 0:
            return
        data = encode(message)
        if self._waiting + len(data) > MOST_UNSENT:
            raise ChannelError(f"a peer does not read its control channel: {self._waiting} bytes wait")
        frame = memoryview(HEAD.pack(len(data), len(descriptors)) + data)
        copies: list[int] = []
        try:
            for each in descriptors:
                copies.append(os.dup(each))
        except OSError:
            _close_all(copies)
            raise
        self._unsent.append((frame, copies))
        self._waiting += len(frame)
        self._flush()

    def detach(self) -> None:
        """Leave the event loop, which has ended: what is sent from here on blocks."""
        self._loop = None
        if self._socket.fileno() >= 0:
            self._socket.setblocking(True)

    def close(self) -> None:
        """Close it, what was not sent included; `lost` is not called any more."""
        self._lost = None
        self._end()

    def _flush(self) -> None:
        try:
            while self._unsent:
                frame, descriptors = self._unsent[0]
                # A descriptor goes once, with the first byte: what is left of the frame goes without.
                sent = socket.send_fds(self._socket, [frame], descriptors) if descriptors else self._socket.send(frame)
                _close_all(descriptors)
                self._waiting -= sent
                if sent < len(frame):
                    self._unsent[0] = (frame[sent:], [])
                else:
                    self._unsent.popleft()
        except BlockingIOError:
            if self._loop is not None:
                self._loop.add_writer(self._socket.fileno(), self._flush)
            return
        except OSError:
            self._end()
            return
        if self._loop is not None:
            self._loop.remove_writer(self._socket.fileno())

    def _receive(self) -> tuple[bytes, list[int]]:
        # Not socket.recv_fds, which drops the flags it is given: what comes must not be inherited by other children.
        data, ancillary, flags, _ = self._socket.recvmsg(READ, SPACE, socket.MSG_CMSG_CLOEXEC)
        descriptors = [number for _, _, packed in ancillary for number in array("i", packed)]
        if flags & socket.MSG_CTRUNC:
            _close_all(descriptors)
            raise ChannelError("descriptors were lost: too many came at once, or none is left")
        return data, descriptors

    def _readable(self) -> None:
        assert self._handle is not None
        try:
            data, descriptors = self._receive()
            messages = self._frames.feed(data, descriptors) if data else []
        except BlockingIOError:
            return
        except (OSError, ChannelError):
            self._end()
            return
        for message, owned in messages:
            self._handle(message, owned)
        if not data:
            self._end()

    def _end(self) -> None:
        number = self._socket.fileno()
        if number < 0:
            return
        if self._loop is not None:
            self._loop.remove_reader(number)
            self._loop.remove_writer(number)
        self._frames.close()
        for _, descriptors in self._unsent:
            _close_all(descriptors)
        self._unsent.clear()
        self._socket.close()
        lost, self._lost = self._lost, None
        if lost is not None:
            lost()


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
