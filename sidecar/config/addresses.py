"""Addresses as a config spells them: "host:port", "[v6]:port", "unix:///path". Names are not resolved here."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any, TypeAlias

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from sidecar.config.faults import expected

UNIX = "unix://"
UNIX_PATH_MAX = 107  # bytes: sun_path is 108 with its NUL (unix(7))
HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
)
EXPECTED = "host:port, [v6 address]:port or unix:///absolute/path"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """host: a name, or an IP address in its shortest form, without brackets.  port: 0 to 65535."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this host can reach it; a name other than localhost is taken as reachable."""
        if self.host.lower() == "localhost" or self.host.lower().endswith(".localhost"):  # RFC 6761 §6.3
            return True
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return (mapped or address).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """path: absolute, of at most UNIX_PATH_MAX bytes."""

    path: str

    @property
    def loopback(self) -> bool:
        return True

    def __str__(self) -> str:
        return f"{UNIX}{self.path}"


Address: TypeAlias = TcpAddress | UnixAddress


def parse(text: str) -> Address:
    """Raises ValueError for what is not an address as EXPECTED says."""
    if text.startswith(UNIX):
        return _unix(text[len(UNIX) :])
    host, colon, digits = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", digits) or int(digits) > 65535:
        raise expected(EXPECTED)
    if host.startswith("[") and host.endswith("]"):
        return TcpAddress(str(_ip(host[1:-1], 6)), int(digits))
    if re.fullmatch(r"[0-9.]+", host):
        return TcpAddress(str(_ip(host, 4)), int(digits))
    if not HOST_NAME.fullmatch(host):
        raise expected(EXPECTED)
    return TcpAddress(host, int(digits))


def _ip(text: str, version: int) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    # A zone (fe80::1%eth0) names an interface of one machine: nothing a config should carry.
    if address is None or address.version != version or "%" in text:
        raise expected(EXPECTED)
    return address


def _unix(path: str) -> UnixAddress:
    if not path.startswith("/") or "\0" in path or path.endswith("/") or str(PurePosixPath(path)) != path:
        raise expected(EXPECTED)
    if len(path.encode()) > UNIX_PATH_MAX:
        raise expected(f"a Unix socket path of at most {UNIX_PATH_MAX} bytes")
    return UnixAddress(path)


def _read(value: Any) -> Address:
    if isinstance(value, TcpAddress | UnixAddress):
        return value
    if not isinstance(value, str):
        raise expected(EXPECTED)
    return parse(value)


def _read_connectable(value: Any) -> Address:
    address = _read(value)
    if isinstance(address, TcpAddress) and address.port == 0:
        raise expected("a port from 1 to 65535: nothing can be reached at port 0")
    return address


_SCHEMA = {"type": "string", "title": "address", "examples": ["127.0.0.1:8443", "[::1]:8443", "unix:///run/model.sock"]}

ListenAddress: TypeAlias = Annotated[
    Address, PlainValidator(_read), PlainSerializer(str, return_type=str), WithJsonSchema(_SCHEMA)
]
ConnectAddress: TypeAlias = Annotated[
    Address, PlainValidator(_read_connectable), PlainSerializer(str, return_type=str), WithJsonSchema(_SCHEMA)
]
