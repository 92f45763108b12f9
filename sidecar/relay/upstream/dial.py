"""Making one connection: socket, TLS, the peer's SETTINGS, within a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecar.relay.settings import Target
from sidecar.relay.tls_errors import TlsError
from sidecar.relay.upstream.wire import UpstreamWire

if TYPE_CHECKING:
    from sidecar.relay.upstream.endpoint import Endpoint


class DialError(Exception):
    """No connection. Its text says why.  result: as of `Meter.upstream_connected`."""

    result = "refused"


class DialTimeoutError(DialError):
    """Nobody answered in time."""

    result = "timeout"


class DialTlsError(DialError):
    """The other end is not who it should be, or does not take us for who we are."""

    result = "tls"


class UnfitError(DialError):
    """Somebody answers who may not be used."""

    result = "unfit"


class SentAwayError(DialError):
    """There was one, and the endpoint told it to go away (GOAWAY) before it was of use."""


async def dial(endpoint: Endpoint, target: Target, within_s: float) -> UpstreamWire:
    """A connection that is ready for calls. Raises DialError."""
    loop, channel = endpoint.pool.loop, endpoint.pool.channel
    wire = UpstreamWire(endpoint, channel(endpoint.name) if channel is not None else None)
    try:
        async with asyncio.timeout(within_s):
            if target.path:
                await loop.create_unix_connection(lambda: wire, target.path)
            else:
                await loop.create_connection(lambda: wire, target.host, target.port)
            await wire.settled
            return wire
    except TimeoutError:
        wire.abort()
        raise DialTimeoutError(f"no HTTP/2 settings within {within_s:g} s") from None
    except TlsError as error:
        wire.abort()
        raise DialTlsError(str(error)) from error
    except OSError as error:
        wire.abort()
        raise DialError(str(error) or type(error).__name__) from error
    except BaseException:
        # Cancelled while it connects, uvloop has closed the transport and tells the protocol nothing of it.
        wire.abort()
        raise
