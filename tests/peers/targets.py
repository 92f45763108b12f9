"""Where a client of these tests connects to, and channels to it, each with a connection of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeAlias, cast

import grpc
import grpc.aio

from tests.certificates import Certificates
from tests.peers.compressed import WATCHED

Options: TypeAlias = Sequence[tuple[str, Any]]
OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)
UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
DEADLINE = 60.0  # seconds; of calls that are expected to end by themselves


def plain_unary(channel: grpc.Channel, path: str) -> Any:
    """Calls of `path` whose messages are bytes."""
    return cast(Any, channel.unary_unary(path))


def plain_pour(channel: grpc.Channel, path: str) -> Any:
    return cast(Any, channel.unary_stream(path))


def plain_stream(channel: grpc.Channel, path: str) -> Any:
    return cast(Any, channel.stream_stream(path))


@dataclass(frozen=True, slots=True)
class Target:
    """address: "127.0.0.1:port".  certificates: what to present and trust, None for plaintext."""

    address: str
    certificates: Certificates | None = None

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def _credentials(self) -> grpc.ChannelCredentials | None:
        if self.certificates is None:
            return None
        client = self.certificates.client
        return grpc.ssl_channel_credentials(
            self.certificates.ca.read_bytes(), client.key.read_bytes(), client.certificate.read_bytes()
        )

    def channel(self, options: Options = ()) -> grpc.Channel:
        credentials = self._credentials()
        every = [OWN_CONNECTION, WATCHED, *options]
        if credentials is None:
            return grpc.insecure_channel(self.address, every)
        return grpc.secure_channel(self.address, credentials, every)

    def aio(self, options: Options = ()) -> grpc.aio.Channel:
        credentials = self._credentials()
        every = [OWN_CONNECTION, WATCHED, *options]
        if credentials is None:
            return grpc.aio.insecure_channel(self.address, every)
        return grpc.aio.secure_channel(self.address, credentials, every)


@dataclass(frozen=True, slots=True)
class Upstream:
    """A running interop server.  plain, mtls: its ports.  socket: its Unix socket, as "unix:///path".

    Only grpcio's has a socket and tells of its calls.
    """

    plain: Target
    mtls: Target | None = None
    socket: str | None = None

    @classmethod
    def announced(cls, line: str, certificates: Certificates, socket: str | None = None) -> Upstream:
        """What a server's line on stdout says, such as {"plain": "127.0.0.1:1", "mtls": "127.0.0.1:2"}."""
        ports = json.loads(line)
        mtls = Target(ports["mtls"], certificates) if "mtls" in ports else None
        return cls(Target(ports["plain"]), mtls, socket)

    def address(self, way: str) -> str:
        """Where a sidecar finds it by "plain", "mtls" or "socket"."""
        found = {"plain": self.plain, "mtls": self.mtls, "socket": self.socket}[way]
        assert found is not None, f"this server does not listen on {way}"
        return found.address if isinstance(found, Target) else found

    def ports(self) -> set[int]:
        return {target.port for target in (self.plain, self.mtls) if target is not None}

    def calls(self) -> dict[str, dict[str, int]]:
        """Calls by method, asked of the server itself: those "open" and those ever "begun"."""
        with self.plain.channel() as channel:
            answer = plain_unary(channel, "/peers.State/Calls")(b"", timeout=DEADLINE)
        report: dict[str, dict[str, int]] = json.loads(answer)
        return report

    def wait_quiet(self, timeout: float = 10.0) -> None:
        """Return once no call is open at the server. Raises AssertionError after `timeout` seconds."""
        limit = monotonic() + timeout
        with self.plain.channel() as channel:
            ask = plain_unary(channel, "/peers.State/Calls")
            while opened := json.loads(ask(b"", timeout=DEADLINE))["open"]:
                assert monotonic() < limit, f"still open at the server after {timeout} s: {opened}"
