"""Answers that list models: an answer less some of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from interceptors.contract import CodecError, ModelName
from sidecar.relay.codecs.wire import LENGTH, Walk, expect

# Ten times as many fields as of what callers send, for nobody but the model server writes them: 13,000 models.
MOST_FIELDS: Final = 1 << 16
MODELS: Final = 1  # RepositoryIndexResponse { repeated ModelIndex models = 1; }, of which name = 1 and version = 2
NAMED: Final = frozenset((1, 2))


def without(raw: bytes, hidden: Callable[[ModelName], bool]) -> bytes:
    """A RepositoryIndexResponse less the models that are `hidden`. Raises CodecError on a malformed message."""
    walk = Walk(raw, MOST_FIELDS)
    kept: list[bytes] = []
    at = 0
    for slot in walk.slots(0, len(raw)):
        if slot.number != MODELS:
            raise CodecError(f"a list of models has a field {slot.number}")
        expect(slot, LENGTH)
        said = walk.once(slot.begin, slot.end, NAMED)
        name, version = [walk.text(said[number]) if number in said else "" for number in (1, 2)]
        if not hidden(ModelName(name, version)):
            kept.append(raw[at : slot.end])
        at = slot.end
    return b"".join(kept)
