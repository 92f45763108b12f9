"""What the relay tells whoever counts: the Meter port. What is made of it is not known here."""

from __future__ import annotations

from typing import Final, Protocol

from interceptors.contract import Call, Outcome
from interceptors.events import Travel


class Meter(Protocol):
    """Called on the event loop's thread with every call; never blocks or raises, and costs about a microsecond."""

    def connection_opened(self) -> None:
        """A client's connection was accepted."""

    def tls_refused(self, reason: str) -> None:
        """A client's TLS handshake failed. reason: of `tls_errors.TlsError`."""

    def connection_failed(self, reason: str) -> None:
        """A client broke HTTP/2's rules, which ended its connection. reason: "http2." and the error code's name."""

    def abused(self, reason: str) -> None:
        """A limit refused or ended a client's connection or call. reason: stable, one of few."""

    def turned_away(self, status: int, reason: str) -> None:
        """A call was refused before it began, by an overload limit. reason: stable, one of few."""

    def call_ended(self, call: Call, outcome: Outcome, travel: Travel) -> None:
        """A call is over: after the end hooks, and before what they emitted is published."""

    def retried(self) -> None:
        """A call is sent to a model server once more."""

    def upstream_connected(self, endpoint: str, result: str) -> None:
        """An attempt to connect is over. result: "success", "refused", "timeout", "tls" or "unfit"."""

    def upstream_state(self, endpoint: str, up: bool) -> None:
        """An endpoint can be called from now on, or no longer."""

    def upstream_forgotten(self, endpoint: str) -> None:
        """An endpoint is no longer one: its name does not resolve to it, or the config does not name it."""


class Unmetered:
    """The Meter of a relay that nobody watches."""

    def connection_opened(self) -> None:
        pass

    def tls_refused(self, reason: str) -> None:
        pass

    def connection_failed(self, reason: str) -> None:
        pass

    def abused(self, reason: str) -> None:
        pass

    def turned_away(self, status: int, reason: str) -> None:
        pass

    def call_ended(self, call: Call, outcome: Outcome, travel: Travel) -> None:
        pass

    def retried(self) -> None:
        pass

    def upstream_connected(self, endpoint: str, result: str) -> None:
        pass

    def upstream_state(self, endpoint: str, up: bool) -> None:
        pass

    def upstream_forgotten(self, endpoint: str) -> None:
        pass


UNMETERED: Final = Unmetered()
