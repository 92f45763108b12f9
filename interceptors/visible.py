"""Who sees what there is: of an answer that lists models, those that the caller may read."""

from __future__ import annotations

from typing import Final

from interceptors.contract import (
    PASS,
    Call,
    Code,
    CodecError,
    Deny,
    Forward,
    Interceptor,
    Message,
    Method,
    ModelName,
    Verdict,
    View,
)
from interceptors.decided import Decided
from interceptors.permits import Permit

MALFORMED: Final = Deny(Code.INTERNAL, "visible.malformed", "response message cannot be read")


class Visible(Interceptor):
    """Takes models out of answers that list them. Not for a chain that only observes: it would change what callers see.

    Stands behind `authorize`, whose Permit says what may be read, or Decided under roles and policies.
    """

    name = "visible"
    view = View.BYTES
    needs = frozenset({Permit})

    def depth(self, method: Method, obligations: frozenset[str]) -> View | None:
        return View.BYTES if method.lists else None

    def on_response(self, call: Call, message: Message) -> Verdict:
        scope, decided = call.get(Permit).scope, call.find(Decided)
        if decided is None and scope.models is None:
            return PASS

        def hidden(model: ModelName) -> bool:
            return not (scope.covers(model.name) if decided is None else decided.sees(call, model))

        try:
            return Forward((Message(call.codec.without_models(message.raw, hidden)),))
        except CodecError:
            return MALFORMED
