"""Ways in which a message names models, read as protobuf's parsers read them.

Of a singular field the last occurrence counts, a singular message field's occurrences are merged, each
occurrence of a repeated one stands for itself. So what is authorised is what the server will see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from interceptors.contract import ModelName
from sidecar.relay.codecs.wire import LENGTH, Slot, Walk, expect

Find: TypeAlias = Callable[[bytes], tuple[ModelName, ...]]  # raises CodecError

UNNAMED = (ModelName(""),)
SPEC = frozenset((1, 2, 4))
ONE = frozenset((1,))


def none(raw: bytes) -> tuple[ModelName, ...]:
    """Of a message that names no model, or that concerns all whatever it names."""
    return ()


def pair(name: int, version: int | None = None) -> Find:
    """string name; string version."""
    wanted = frozenset((name,) if version is None else (name, version))

    def find(raw: bytes) -> tuple[ModelName, ...]:
        walk = Walk(raw)
        found = {slot.number: walk.text(slot) for slot in walk.slots(0, len(raw), wanted)}
        return (ModelName(found.get(name, ""), found.get(version, "") if version is not None else ""),)

    return find


def either(*numbers: int) -> Find:
    """One string field, whose number is another in another server's schema: every one given must be allowed."""
    wanted = frozenset(numbers)

    def find(raw: bytes) -> tuple[ModelName, ...]:
        walk = Walk(raw)
        found = {slot.number: walk.text(slot) for slot in walk.slots(0, len(raw), wanted)}
        return tuple(ModelName(name) for name in dict.fromkeys(found.values()) if name) or UNNAMED

    return find


def spec(number: int) -> Find:
    """A field of type tensorflow.serving.ModelSpec."""
    wanted = frozenset((number,))

    def find(raw: bytes) -> tuple[ModelName, ...]:
        walk = Walk(raw)
        return (model_spec(walk, walk.slots(0, len(raw), wanted)),)

    return find


def each_spec(outer: int, inner: int) -> Find:
    """A ModelSpec as field `inner` of each message in the repeated field `outer`."""
    wanted, within = frozenset((outer,)), frozenset((inner,))

    def find(raw: bytes) -> tuple[ModelName, ...]:
        walk = Walk(raw)
        found: dict[ModelName, None] = {}
        for slot in walk.slots(0, len(raw), wanted):
            expect(slot, LENGTH)
            found[model_spec(walk, walk.slots(slot.begin, slot.end, within))] = None
        return tuple(found) or UNNAMED

    return find


def everywhere(path: Sequence[int]) -> Find:
    """Every string at `path`, field numbers from the outside in, of a schema that is not known.

    Whether its fields are singular or repeated is not known either: all that are there must be allowed, and a
    message on the way that does not name one counts as naming the default.
    """
    *outer, last = (frozenset((number,)) for number in path)

    def find(raw: bytes) -> tuple[ModelName, ...]:
        walk = Walk(raw)
        messages = [(0, len(raw))]
        for wanted in outer:
            inside = []
            for begin, end in messages:
                for slot in walk.slots(begin, end, wanted):
                    expect(slot, LENGTH)
                    inside.append((slot.begin, slot.end))
            messages = inside
        found: dict[str, None] = {}
        for begin, end in messages:
            slots = walk.slots(begin, end, last)
            found.update(dict.fromkeys([walk.text(slot) for slot in slots] or [""]))
        return tuple(map(ModelName, found)) or UNNAMED

    return find


def streamed(raw: bytes) -> tuple[ModelName, ...]:
    """Of ModelStreamInfer's answers: Triton wraps ModelInferResponse (error_message = 1, infer_response = 2),
    MLServer sends it bare (model_name = 1, model_version = 2, and fields beyond)."""
    walk = Walk(raw)
    slots = walk.slots(0, len(raw))
    if any(slot.number > 2 for slot in slots):
        return pair(1, 2)(raw)
    name = version = ""
    wrapped = [slot for slot in slots if slot.number == 2]
    for slot in wrapped:
        expect(slot, LENGTH)
        for field in walk.slots(slot.begin, slot.end, frozenset((1, 2))):
            if field.number == 1:
                name = walk.text(field)
            else:
                version = walk.text(field)
    return (ModelName(name, version),) if wrapped else ()


def model_spec(walk: Walk, slots: Sequence[Slot]) -> ModelName:
    """tensorflow.serving.ModelSpec { string name = 1; oneof { Int64Value version = 2; string version_label = 4; } }

    slots: all occurrences of the field, merged here.
    """
    name = ""
    version: int | None = None
    label = ""
    for slot in slots:
        expect(slot, LENGTH)
        for field in walk.slots(slot.begin, slot.end, SPEC):
            if field.number == 1:
                name = walk.text(field)
            elif field.number == 4:
                label, version = walk.text(field), None
            else:
                expect(field, LENGTH)
                label, version = "", version or 0  # another of the oneof clears; the same merges
                for value in walk.slots(field.begin, field.end, ONE):
                    version = walk.int64(value)
    return ModelName(name, label if version is None else str(version))
