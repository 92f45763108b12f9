"""Links that tests put into the sidecar's chain."""

from __future__ import annotations

from typing import ClassVar

from interceptors.contract import PASS, Call, Interceptor, Message, Verdict, View


class Look(Interceptor):
    """Looks at the bytes of every message and changes nothing."""

    name = "look"
    view: ClassVar[View] = View.BYTES

    def on_request(self, call: Call, message: Message) -> Verdict:
        return PASS

    def on_response(self, call: Call, message: Message) -> Verdict:
        return PASS
