"""The control channel: messages cut anywhere, descriptors that arrive with theirs, peers that break the rules."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from sidecar.processes.channel import HEAD, MOST_UNSENT, Channel, Frames
from sidecar.processes.messages import LARGEST, Attach, ChannelError, Commit, Go, Message, Report, encode


def frame(message: Message, descriptors: int = 0) -> bytes:
    data = encode(message)
    return HEAD.pack(len(data), descriptors) + data


@pytest.mark.parametrize("cut", [1, 3, 5, 17, 1000])
def test_messages_cut_anywhere(cut: int) -> None:
    sent: list[Message] = [Go(), Commit(2), Report(detail={"x": "y" * 300})]
    data = b"".join([frame(message) for message in sent])
    frames = Frames()
    found = [each for at in range(0, len(data), cut) for each in frames.feed(data[at : at + cut], ())]
    assert [message for message, _ in found] == sent


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (HEAD.pack(LARGEST + 1, 0), "beyond the limits"),
        (HEAD.pack(2, 251), "beyond the limits"),
        (frame(Go(), descriptors=1), "expected 1 descriptors"),
        (HEAD.pack(2, 0) + b"{}", "of a known kind"),
    ],
)
def test_a_frame_that_breaks_the_rules(data: bytes, problem: str) -> None:
    with pytest.raises(ChannelError, match=problem):
        Frames().feed(data, ())


class End:
    """One end on a loop, with all that it was told."""

    def __init__(self, end: socket.socket) -> None:
        self.channel = Channel(end)
        self.got: asyncio.Queue[tuple[Message, list[int]]] = asyncio.Queue()
        self.lost = asyncio.Event()
        self.channel.attach(
            asyncio.get_running_loop(), lambda message, fds: self.got.put_nowait((message, fds)), self.lost.set
        )

    async def next(self) -> tuple[Message, list[int]]:
        return await asyncio.wait_for(self.got.get(), 10)


def test_descriptors_come_with_their_message_and_are_not_inherited() -> None:
    async def play() -> None:
        one, other = (End(each) for each in socket.socketpair())
        read, write = os.pipe()
        one.channel.send(Report(detail={"x": "y" * 400_000}))  # more than a socket's buffer
        one.channel.send(Attach("recorder", "a"), [read])
        one.channel.send(Go())
        os.close(read)
        assert isinstance((await other.next())[0], Report)
        message, [got] = await other.next()
        assert message == Attach("recorder", "a")
        assert not os.get_inheritable(got)
        os.write(write, b"through")
        assert os.read(got, 10) == b"through"
        assert await other.next() == (Go(), [])
        os.close(got)
        os.close(write)
        one.channel.close()
        await asyncio.wait_for(other.lost.wait(), 10)
        other.channel.send(Go())  # to nobody: no error
        other.channel.close()

    asyncio.run(play())


def test_a_peer_that_does_not_read_is_told_apart() -> None:
    async def play() -> None:
        ours, theirs = socket.socketpair()
        one = End(ours)
        big = Report(detail={"x": "y" * (LARGEST // 2)})
        for _ in range(2 * MOST_UNSENT // LARGEST):
            one.channel.send(big)
        with pytest.raises(ChannelError, match="does not read"):
            one.channel.send(big)
        one.channel.close()
        theirs.close()

    asyncio.run(play())


def test_a_peer_that_breaks_the_rules_is_left() -> None:
    async def play() -> None:
        ours, theirs = socket.socketpair()
        one = End(ours)
        theirs.sendall(HEAD.pack(2, 0) + b"{}")
        await asyncio.wait_for(one.lost.wait(), 10)
        assert theirs.recv(1) == b""
        theirs.close()

    asyncio.run(play())
