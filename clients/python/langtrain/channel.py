"""A connection to a sidecar: where it is and who calls, from arguments or the environment.

| argument   | environment        |                                                                        |
|------------|--------------------|------------------------------------------------------------------------|
| `endpoint` | LANGTRAIN_ENDPOINT | "host:port", or "unix:///path"                                         |
| `ca`       | LANGTRAIN_CA       | PEM file that the sidecar's certificate chains to, the system's if not |
| `cert`     | LANGTRAIN_CERT     | PEM file: the certificate of who calls                                 |
| `key`      | LANGTRAIN_KEY      | PEM file: its private key                                              |
| `token`    | LANGTRAIN_TOKEN    | a JWT or an API key, or, as an argument, what gives one for each call  |

A token is sent over TLS or a Unix socket only.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.message import Message

from langtrain import calls

PathLike: TypeAlias = str | os.PathLike[str]
Token: TypeAlias = str | Callable[[], str]

PREFIX: Final = "LANGTRAIN_"
UNIX: Final = "unix:"


@dataclass(frozen=True, slots=True)
class Settings:
    """ca, cert, key: PEM. Its repr tells where, and nothing of who."""

    endpoint: str
    ca: bytes | None = field(default=None, repr=False)
    cert: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    token: Token | None = field(default=None, repr=False)
    plaintext: bool = False

    @property
    def local(self) -> bool:
        return self.endpoint.startswith(UNIX)


def settings(
    endpoint: str | None = None,
    *,
    ca: PathLike | None = None,
    cert: PathLike | None = None,
    key: PathLike | None = None,
    token: Token | None = None,
    unsafe_plaintext: bool = False,
) -> Settings:
    """Arguments, and the environment for what they leave out. Raises ValueError and OSError.

    unsafe_plaintext: without TLS, to a sidecar that listens so. At a Unix socket there is none unless ca or cert is
    given.
    """
    endpoint = endpoint or os.environ.get(f"{PREFIX}ENDPOINT")
    if not endpoint:
        raise ValueError(f"endpoint: expected host:port or unix:///path, here or in {PREFIX}ENDPOINT, came nothing")
    roots, chain, private = _file(ca, "CA"), _file(cert, "CERT"), _file(key, "KEY")
    if (chain is None) != (private is None):
        raise ValueError("cert and key: expected both or neither, came one of them")
    local = endpoint.startswith(UNIX)
    plaintext = unsafe_plaintext or (local and roots is None and chain is None)
    given = token or os.environ.get(f"{PREFIX}TOKEN") or None
    if given is not None and plaintext and not local:
        raise ValueError("token: expected TLS or a Unix socket, for who reads a token can use it; came plaintext")
    return Settings(endpoint, roots, chain, private, _checked(given), plaintext)


def call_credentials(token: Token | None = None) -> grpc.CallCredentials:
    """A token for any channel with TLS and any stub: `grpc.composite_channel_credentials(tls, call_credentials())`.

    token: of LANGTRAIN_TOKEN where it is left out. Raises ValueError.
    """
    given = _checked(token or os.environ.get(f"{PREFIX}TOKEN"))
    if given is None:
        raise ValueError(f"token: expected a JWT or an API key, here or in {PREFIX}TOKEN, came nothing")
    return grpc.metadata_call_credentials(_Bearer(given), name="langtrain")


def connect(where: Settings | None = None) -> grpc.Channel:
    """A plain channel, for any stub; it connects with its first call, and is its owner's to close.

    where: as the environment says where it is left out.
    """
    where = where or settings()
    credentials, options = _credentials(where), _options(where)
    if credentials is None:
        return grpc.insecure_channel(where.endpoint, options)
    return grpc.secure_channel(where.endpoint, credentials, options)


def connect_aio(where: Settings | None = None) -> grpc.aio.Channel:
    """The same for the event loop that runs."""
    where = where or settings()
    credentials, options = _credentials(where), _options(where)
    if credentials is None:
        return grpc.aio.insecure_channel(where.endpoint, options)
    return grpc.aio.secure_channel(where.endpoint, credentials, options)


class Connection:
    """A channel that all clients with the same settings share; it is closed with the last of them."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._methods: dict[type[Message], Any] = {}

    def method(self, request: Message) -> Any:
        """What makes the call that a request is for."""
        found = self._methods.get(type(request))
        if found is None:
            method = calls.methods()[request.DESCRIPTOR.full_name]
            make = self._channel.unary_stream if method.streams else self._channel.unary_unary
            found = make(
                method.path,
                request_serializer=type(request).SerializeToString,
                response_deserializer=method.response.FromString,
            )
            self._methods[type(request)] = found
        return found


_connections: Final[weakref.WeakValueDictionary[Any, Connection]] = weakref.WeakValueDictionary()
_connecting: Final = threading.Lock()


def shared(where: Settings) -> Connection:
    # A channel does not survive a fork.
    return _shared((where, os.getpid()), lambda: _closing(connect(where)))


def shared_aio(where: Settings) -> Connection:
    """Of the event loop that runs. Such a channel closes by itself when nobody holds it."""
    return _shared((where, os.getpid(), asyncio.get_running_loop()), lambda: Connection(connect_aio(where)))


def _shared(key: object, make: Callable[[], Connection]) -> Connection:
    with _connecting:
        found = _connections.get(key)
        if found is None:
            found = _connections[key] = make()
        return found


def _closing(channel: grpc.Channel) -> Connection:
    made = Connection(channel)
    weakref.finalize(made, channel.close)
    return made


def _credentials(where: Settings) -> grpc.ChannelCredentials | None:
    """None for a channel that has none."""
    if where.plaintext and where.token is None:
        return None
    if where.plaintext:
        transport = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
    else:
        transport = grpc.ssl_channel_credentials(where.ca, where.key, where.cert)
    if where.token is None:
        return transport
    return grpc.composite_channel_credentials(transport, call_credentials(where.token))


def _options(where: Settings) -> tuple[tuple[str, str], ...]:
    # A path is no name that a certificate could have; who listens there is this host.
    local = (("grpc.default_authority", "localhost"),) if where.local else ()
    return (("grpc.service_config", calls.service_config()), *local)


def _file(path: PathLike | None, name: str) -> bytes | None:
    """What is in the file of an argument, or of its environment variable."""
    found = path or os.environ.get(PREFIX + name)
    return Path(found).read_bytes() if found else None


def _checked(token: Token | None) -> Token | None:
    return _text(token) if isinstance(token, str) else token


def _text(token: str) -> str:
    """As it is sent. The error does not say what came."""
    text = token.strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("token: expected printable ASCII without blanks")
    return text


class _Bearer(grpc.AuthMetadataPlugin):
    def __init__(self, token: Token) -> None:
        self._token = token

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        try:
            text = self._token if isinstance(self._token, str) else _text(self._token())
        except Exception as error:
            callback((), error)
        else:
            callback((("authorization", f"Bearer {text}"),), None)
