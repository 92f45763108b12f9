"""Ways in which a message names models, read as protobuf's parsers read them.

Where parsers might read it otherwise, because what may stand once stands there twice, it is not read at all; each
occurrence of a repeated field stands for itself. So what is authorised is what the server will see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from interceptors.bounded import Bounded
from interceptors.contract import CodecError, ModelName
from sidecar.relay.codecs.wire import LENGTH, Slot, Walk, expect

Find: TypeAlias = Callable[[bytes], tuple[ModelName, ...]]  # raises CodecError

MOST_KNOWN: Final = 1024  # names that are remembered, for callers choose them
LONGEST_KNOWN: Final = 512  # bytes of one of them
UNNAMED = (ModelName(""),)
SPEC = frozenset((1, 2, 4))
ONE = frozenset((1,))


def none(raw: bytes) -> tuple[ModelName, ...]:
    """Of a message that names no model, or that concerns all whatever it names."""
    return ()


def pair(name: int, version: int | None = None) -> Find:
    """string name; string version."""
    wanted = frozenset((name,) if version is None else (name, version))
    known: Bounded[tuple[bytes, bytes], tuple[ModelName, ...]] = Bounded(MOST_KNOWN)

    def find(raw: bytes) -> tuple[ModelName, ...]:
        named: bytes | None = None
        versioned: bytes | None = None
        for slot in Walk(raw).slots(0, len(raw), wanted):
            number, kind, begin, end = slot
            if kind != LENGTH:
                expect(slot, LENGTH)
            if (named if number == name else versioned) is not None:
                raise CodecError(f"field {number} occurs twice")
            if number == name:
                named = raw[begin:end]
            else:
                versioned = raw[begin:end]
        key = named or b"", versioned or b""
        found = known.get(key)
        if found is None:
            found = (ModelName(*map(_text, key)),)
            if len(key[0]) + len(key[1]) <= LONGEST_KNOWN:
                known.keep(key, found)
        return found

    return find


def either(*numbers: int) -> Find:
    """One string field, whose number is another in another server's schema: every one given must be allowed."""
    wanted = frozenset(numbers)

    def find(raw: bytes) -> tuple[ModelName, ...]:
        walk = Walk(raw)
        found = [walk.text(slot) for slot in walk.once(0, len(raw), wanted).values()]
        return tuple(ModelName(name) for name in dict.fromkeys(found) if name) or UNNAMED

    return find


def spec(number: int) -> Find:
    """A field of type tensorflow.serving.ModelSpec."""
    wanted = frozenset((number,))

    def find(raw: bytes) -> tuple[ModelName, ...]:
        walk = Walk(raw)
        return (model_spec(walk, walk.once(0, len(raw), wanted).get(number)),)

    return find


def each_spec(outer: int, inner: int) -> Find:
    """A ModelSpec as field `inner` of each message in the repeated field `outer`."""
    wanted, within = frozenset((outer,)), frozenset((inner,))

    def find(raw: bytes) -> tuple[ModelName, ...]:
        walk = Walk(raw)
        found: dict[ModelName, None] = {}
        for slot in walk.slots(0, len(raw), wanted):
            expect(slot, LENGTH)
            found[model_spec(walk, walk.once(slot.begin, slot.end, within).get(inner))] = None
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


def model_spec(walk: Walk, slot: Slot | None) -> ModelName:
    """tensorflow.serving.ModelSpec { string name = 1; oneof { Int64Value version = 2; string version_label = 4; } }

    slot: the field, or None where it is absent.
    """
    if slot is None:
        return UNNAMED[0]
    expect(slot, LENGTH)
    said = walk.once(slot.begin, slot.end, SPEC)
    name = walk.text(said[1]) if 1 in said else ""
    version, label = said.get(2), said.get(4)
    if version is None:
        return ModelName(name, walk.text(label) if label is not None else "")
    if label is not None:
        raise CodecError("fields 2 and 4 stand together, expected one of them")
    expect(version, LENGTH)
    value = walk.once(version.begin, version.end, ONE).get(1)
    return ModelName(name, str(walk.int64(value)) if value is not None else "0")


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise CodecError("a name is not UTF-8") from None
