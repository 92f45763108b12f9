"""How many inferences a request message asks for: the first dimension of its inputs, or its examples.

Of several numbers the largest counts, and whatever parsers might read otherwise counts as well, so that nobody pays
for less than the server may be made to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from sidecar.relay.codecs.wire import LENGTH, VARINT, Slot, Walk, expect

Count: TypeAlias = Callable[[bytes], int]  # from 1; raises CodecError


def one(raw: bytes) -> int:
    """Of a message that does not tell."""
    return 1


def shapes(inputs: int, shape: int) -> Count:
    """The largest first number of `repeated int64 shape`, packed or not, in a repeated message field `inputs`."""

    def count(raw: bytes) -> int:
        walk = Walk(raw)
        largest = 1
        for slot in _within(walk, [_whole(raw)], inputs):
            largest = max(largest, _first(walk, _fields(walk, slot, shape)))
        return largest

    return count


def tensors(path: Sequence[int]) -> Count:
    """The largest first dimension of the tensorflow.TensorProto at `path`, field numbers from the outside in.

    TensorProto { TensorShapeProto tensor_shape = 2; }, of which { repeated Dim dim = 2; }, of which { int64 size = 1; }
    """

    def count(raw: bytes) -> int:
        walk = Walk(raw)
        slots = [_whole(raw)]
        for number in (*path, SHAPE):
            slots = _within(walk, slots, number)
        largest = 1
        for slot in slots:
            for dimension in _within(walk, [slot], DIMENSION)[:1]:
                sizes = [walk.int64(size) for size in _fields(walk, dimension, SIZE)]
                largest = max(largest, sizes[-1] if sizes else 1)
        return largest

    return count


def examples(number: int) -> Count:
    """The examples in a tensorflow.serving.Input: its lists, with context or without, are fields 1 and 2."""

    def count(raw: bytes) -> int:
        walk = Walk(raw)
        inputs = _within(walk, [_whole(raw)], number)
        lists = [slot for kind in (1, 2) for slot in _within(walk, inputs, kind)]
        return max(1, len(_within(walk, lists, 1)))

    return count


SHAPE: Final = 2
DIMENSION: Final = 2
SIZE: Final = 1


def _whole(raw: bytes) -> Slot:
    return Slot(0, LENGTH, 0, len(raw))


def _fields(walk: Walk, message: Slot, number: int) -> list[Slot]:
    return walk.slots(message.begin, message.end, frozenset((number,)))


def _within(walk: Walk, messages: Sequence[Slot], number: int) -> list[Slot]:
    """The message fields `number` of each of `messages`."""
    found = [slot for message in messages for slot in _fields(walk, message, number)]
    for slot in found:
        expect(slot, LENGTH)
    return found


def _first(walk: Walk, numbers: Sequence[Slot]) -> int:
    """The first of a repeated int64, whose occurrences are single numbers or packed ones, and maybe none."""
    for slot in numbers:
        if slot.kind == LENGTH:
            if slot.begin < slot.end:
                return walk.packed_int64(slot)
        else:
            expect(slot, VARINT)
            return walk.int64(slot)
    return 1
