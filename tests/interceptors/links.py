"""Links that do as they are told, for tests of chains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from interceptors.contract import (
    PASS,
    Ask,
    Call,
    Forward,
    Interceptor,
    Message,
    Outcome,
    Verdict,
    View,
    ask,
)


class Question(Ask[bool]):
    """May it go on?"""


def scripted(name: str = "link", view: Any = View.BYTES, **attributes: Any) -> Interceptor:
    """A link that overrides just the hooks it is given, without self: `scripted("a", on_start=lambda call: PASS)`."""
    own = {key: staticmethod(value) if callable(value) else value for key, value in attributes.items()}
    link: Interceptor = type(name, (Interceptor,), {"name": name, "view": view, **own})()
    return link


def diary(pages: list[tuple[str, Outcome]], name: str = "diary", observer: bool = True, **hooks: Any) -> Interceptor:
    """A link that keeps every outcome, in the order in which links ended."""
    return scripted(name, observer=observer, on_end=lambda call, outcome: pages.append((name, outcome)), **hooks)


class Hold(Interceptor):
    """Holds every message back until its side ends, then sends them on."""

    name = "hold"
    view = View.BYTES

    def on_request(self, call: Call, message: Message) -> Verdict:
        return self._keep(call, message, 0)

    def on_response(self, call: Call, message: Message) -> Verdict:
        return self._keep(call, message, 1)

    def on_flush(self, call: Call, response: bool) -> Verdict:
        held = call.find(_Held)
        return Forward(tuple(held.messages[response])) if held else PASS

    def _keep(self, call: Call, message: Message, side: int) -> Verdict:
        held = call.find(_Held)
        if held is None:
            held = _Held()
            call.put(held)
        held.messages[side].append(message)
        return Forward()


class _Held:
    def __init__(self) -> None:
        self.messages: tuple[list[Message], list[Message]] = ([], [])


def gives(verdict: object) -> Callable[..., Any]:
    """A hook that returns `verdict`, or raises it."""

    def hook(*args: object) -> object:
        if isinstance(verdict, BaseException):
            raise verdict
        return verdict

    return hook


def asks(verdict: object, otherwise: object = None) -> Callable[..., Any]:
    """A hook that asks a Question and gives `verdict` where the answer is yes."""

    def hook(*args: object) -> Any:
        chosen = verdict if (yield from ask(Question())) else otherwise
        if isinstance(chosen, BaseException):
            raise chosen
        return chosen

    return hook


def appends(text: bytes) -> Callable[..., Any]:
    """A message hook that rewrites: its text behind what came."""
    return lambda call, message: Forward((Message(message.raw + text),))
