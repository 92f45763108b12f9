"""Parameters of Open Inference calls: what a request demands by them, and how one is changed.

A map of parameters is a repeated message { string key = 1; InferParameter value = 2; }, and a parameter one of
{ bool = 1; int64 = 2; string = 3; double = 4; uint64 = 5 }. What two parsers might read differently is refused.

Keys stand in messages as they are, so a message in which some octets do not occur has no such parameter; only where
they occur is more looked at. Most have none, and data are not looked through that stand beside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from interceptors.access import LOAD_CONFIG, LOAD_FILES, SHARED_MEMORY
from interceptors.contract import Change, CodecError, Parameter
from sidecar.relay.codecs.fields import spell
from sidecar.relay.codecs.wire import LENGTH, VARINT, Slot, Walk, expect, varint

Demand: TypeAlias = Callable[[bytes], tuple[str, ...]]  # permissions; raises CodecError

SHARED: Final = "shared_memory_"  # how keys begin by which a tensor is elsewhere
FILE: Final = "file:"
MARK: Final = SHARED.encode()
SHORT: Final = 4096  # bytes, up to which looking through a whole message costs less than finding its fields
# ModelInferRequest: parameters = 4, inputs = 5, outputs = 6; of an input parameters = 4, of an output parameters = 2.
PARAMETERS: Final = 4
INPUTS: Final = 5
OUTPUTS: Final = 6
PLACES: Final = frozenset((PARAMETERS, INPUTS, OUTPUTS))
OF_CALL: Final = frozenset((PARAMETERS,))
OF_INPUT: Final = frozenset((4,))
OF_OUTPUT: Final = frozenset((2,))
OF_LOAD: Final = frozenset((3,))
WRAPPED: Final = frozenset((2,))  # ModelStreamInferResponse { infer_response = 2 }, where a server wraps its answers
INT64: Final = 2
STRING: Final = 3
UINT64: Final = 5
IDS: Final = frozenset((INT64, STRING, UINT64))  # what a parameter that is changed may be


def nothing(raw: bytes) -> tuple[str, ...]:
    """Of a message that demands no more than its method."""
    return ()


def shared_memory(raw: bytes) -> tuple[str, ...]:
    """Of a ModelInferRequest: whether some tensor is to be read or written elsewhere."""
    if not mentions(raw, MARK, PLACES):
        return ()
    walk = Walk(raw)
    for slot in walk.slots(0, len(raw), PLACES):
        expect(slot, LENGTH)
        entries = [slot]
        if slot.number != PARAMETERS:
            entries = walk.slots(slot.begin, slot.end, OF_INPUT if slot.number == INPUTS else OF_OUTPUT)
        for each in entries:
            if entry(walk, each)[0].startswith(SHARED):
                return (SHARED_MEMORY,)
    return ()


def of_load(raw: bytes) -> tuple[str, ...]:
    """Of a RepositoryModelLoadRequest, parameters = 3: whether files come with it, or a config.

    What else is said may be as much to a server that is not known here.
    """
    walk = Walk(raw)
    keys = [entry(walk, slot)[0] for slot in walk.slots(0, len(raw), OF_LOAD)]
    found = {LOAD_FILES if key.startswith(FILE) else LOAD_CONFIG for key in keys}
    # In this order, whatever order a map's entries came in: a denial names the first.
    return tuple([permission for permission in (LOAD_FILES, LOAD_CONFIG) if permission in found])


def with_parameter(raw: bytes, name: str, change: Change) -> bytes:
    """As of Codec, of a message whose parameters are field 4."""
    if not mentions(raw, name.encode(), OF_CALL):
        return raw
    edited = _edited(Walk(raw), 0, len(raw), name, change)
    return raw if edited is None else edited


def with_wrapped_parameter(raw: bytes, name: str, change: Change) -> bytes:
    """The same of ModelStreamInfer's answers, wrapped (error_message = 1, infer_response = 2) or bare."""
    if not mentions(raw, name.encode(), WRAPPED | OF_CALL):
        return raw
    walk = Walk(raw)
    slots = walk.slots(0, len(raw))
    if any(slot.number > 2 for slot in slots):
        edited = _edited(walk, 0, len(raw), name, change)
        return raw if edited is None else edited
    at = 0
    parts: list[bytes] = []
    for slot in slots:
        inner = _edited(walk, slot.begin, slot.end, name, change) if slot.number == 2 else None
        parts.append(raw[at : slot.end] if inner is None else _field(2, inner))
        at = slot.end
    return b"".join(parts)


def mentions(raw: bytes, mark: bytes, places: frozenset[int]) -> bool:
    """Whether `mark` may stand in the fields `places`: in a short message anywhere, in one that cannot be read too."""
    if len(raw) > SHORT:
        try:
            slots = Walk(raw).slots(0, len(raw), places)
        except CodecError:
            return mark in raw
        return any(raw.find(mark, slot.begin, slot.end) >= 0 for slot in slots)
    return mark in raw


def entry(walk: Walk, slot: Slot) -> tuple[str, Slot | None]:
    """The key of a map's entry, and the field that is its value. Raises CodecError where there is anything else."""
    expect(slot, LENGTH)
    fields = walk.slots(slot.begin, slot.end)
    found = {field.number: field for field in fields}
    if len(found) < len(fields) or not found.keys() <= {1, 2}:
        raise CodecError("a parameter has fields beyond one key and one value")
    value = found.get(2)
    if value is not None:
        expect(value, LENGTH)
    return walk.text(found[1]) if 1 in found else "", value


def _edited(walk: Walk, begin: int, end: int, name: str, change: Change) -> bytes | None:
    """The message data[begin:end] with its parameter changed, or None where nothing does."""
    data = bytes(walk.data)
    at, found = begin, False
    edited: bytes | None = None
    for slot in walk.slots(begin, end):
        if slot.number == PARAMETERS:
            key, value = entry(walk, slot)
            if key == name:
                if found:
                    raise CodecError(f"parameter {name} occurs twice")
                found = True
                number, before = _value(walk, value, name)
                after = change(before)
                if after != before:
                    field = b"" if after is None else _field(PARAMETERS, _entry(name, number, after))
                    edited = data[begin:at] + field + data[slot.end : end]
        at = slot.end
    return edited


def _value(walk: Walk, slot: Slot | None, name: str) -> tuple[int, Parameter]:
    """The field number that tells a parameter's type, and its value."""
    fields = walk.slots(slot.begin, slot.end) if slot is not None else []
    if len(fields) != 1 or fields[0].number not in IDS:
        raise CodecError(f"parameter {name} is not one integer or one string")
    field = fields[0]
    if field.number == STRING:
        return STRING, walk.text(field)
    expect(field, VARINT)
    return field.number, varint(walk.data, field.begin)[0]


def _entry(name: str, number: int, value: Parameter) -> bytes:
    said = spell(number << 3 | VARINT) + spell(value) if isinstance(value, int) else _field(number, value.encode())
    return _field(1, name.encode()) + _field(2, said)


def _field(number: int, payload: bytes) -> bytes:
    return spell(number << 3 | LENGTH) + spell(len(payload)) + payload
