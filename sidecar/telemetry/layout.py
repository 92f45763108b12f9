"""Where on a board each metric's numbers and label sets stand: computed from the table, the same in every process.

header   64 bytes   magic, digest of the layout, when its process last gave a sign of life
entries  256 bytes  one a row that has labels: CRC-32, length, label values separated by NUL
cells    8 bytes    doubles, one row after the other
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sidecar.telemetry.metrics import OTHER, TABLE, Kind, Metric

MAGIC: Final = b"LTBOARD1"
HEADER: Final = 64  # bytes
BEAT: Final = 48  # offset of the sign of life: a double
ENTRY: Final = 256  # bytes
_HEAD: Final = struct.Struct("<IH")  # CRC-32 of what follows, length of the key
KEY_MOST: Final = ENTRY - _HEAD.size  # bytes
SEPARATOR: Final = "\x00"

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """The rows of one metric. A counter's or histogram's first row, where it has labels, is that of "other".

    rows: all of them.  entry: number of the first row's entry, -1 without labels.  cell: the first row's first.
    """

    metric: Metric
    rows: int
    entry: int
    cell: int

    def cell_of(self, row: int) -> int:
        return self.cell + row * self.metric.width

    @property
    def gauge(self) -> bool:
        """Whether its rows are given up when their process ends."""
        return self.metric.kind in (Kind.GAUGE, Kind.INFO)


@dataclass(frozen=True, slots=True)
class Layout:
    """cells_at: offset of the first cell.  size: of the whole board.  Both in bytes."""

    regions: Mapping[Metric, Region]
    cells_at: int
    size: int
    header: bytes

    def entry_at(self, region: Region, row: int) -> int:
        return HEADER + (region.entry + row) * ENTRY


def layout(table: tuple[Metric, ...] = TABLE) -> Layout:
    regions: dict[Metric, Region] = {}
    entries = cells = 0
    for metric in table:
        rows = metric.rows + 1 if metric.labels else 1
        regions[metric] = Region(metric, rows, entries if metric.labels else -1, cells)
        entries += rows if metric.labels else 0
        cells += rows * metric.width
    cells_at = HEADER + entries * ENTRY
    digest = hashlib.sha256(repr(table).encode()).digest()
    return Layout(regions, cells_at, cells_at + cells * 8, MAGIC + digest)


def pack(labels: Labels) -> bytes | None:
    """An entry, or None where the labels do not fit into one."""
    key = SEPARATOR.join(label.replace(SEPARATOR, "?") for label in labels).encode("utf-8", "replace")
    if len(key) > KEY_MOST:
        return None
    body = struct.pack("<H", len(key)) + key
    return struct.pack("<I", zlib.crc32(body)) + body


def unpack(entry: bytes) -> Labels | None:
    """The labels of an entry, or None of one that is free, or was being written when its writer died."""
    check, length = _HEAD.unpack_from(entry)
    body = entry[4 : _HEAD.size + length]
    if zlib.crc32(body) != check or not check:
        return None
    return tuple(body[2:].decode("utf-8", "replace").split(SEPARATOR))


def others(metric: Metric) -> Labels:
    return (OTHER,) * len(metric.labels)
