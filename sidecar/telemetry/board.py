"""One process's numbers in shared memory: written by that process alone, without locks, read by another.

The file (a memfd, or one in a directory of our own) outlives its process. Whoever takes the board over after a
kill -9 counts on where the dead one stopped, so totals never fall; gauges and infos say what is, and begin unset.

Every number is one aligned double, stored whole. A row's labels are valid by their CRC, so that a reader needs no
ordering between stores, and a row half made when its writer died is free again.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator
from typing import Final

from sidecar.telemetry.layout import BEAT, ENTRY, HEADER, Labels, Region, layout, others, pack, unpack
from sidecar.telemetry.metrics import OVERFLOWS, Kind, Metric

LAYOUT: Final = layout()
UNSET: Final = math.nan


class Board:
    """The writer's side. cells: the numbers; `cells[index] += 1.0` counts.

    A board of another layout, as an upgrade meets, begins anew.  Raises OSError where `fd` is no file to be mapped.
    """

    def __init__(self, fd: int) -> None:
        fresh = os.pread(fd, HEADER, 0)[: len(LAYOUT.header)] != LAYOUT.header or os.fstat(fd).st_size != LAYOUT.size
        if fresh:
            os.ftruncate(fd, 0)
        os.ftruncate(fd, LAYOUT.size)
        self._memory = mmap.mmap(fd, LAYOUT.size)
        self.cells = memoryview(self._memory)[LAYOUT.cells_at :].cast("d")
        self._beat = memoryview(self._memory)[BEAT : BEAT + 8].cast("d")
        self._rows: dict[Metric, dict[Labels, int]] = {}
        for region in LAYOUT.regions.values():
            self._adopt(region)
        self._memory[: len(LAYOUT.header)] = LAYOUT.header  # last: from here on a reader believes it

    def beat(self, now: float) -> None:
        """Give a sign of life. now: CLOCK_BOOTTIME seconds."""
        self._beat[0] = now

    def cell(self, metric: Metric) -> int:
        """Index of the number, or first bucket, of a metric without labels."""
        return LAYOUT.regions[metric].cell

    def has(self, metric: Metric, labels: Labels) -> bool:
        """Whether a label set has a row."""
        return labels in self._rows[metric]

    def row(self, metric: Metric, labels: Labels) -> int | None:
        """Index of the first number of a label set's row, made where there is room; None where there is none."""
        found = self._rows[metric].get(labels)
        return found if found is not None else self._make(LAYOUT.regions[metric], labels)

    def row_or_other(self, metric: Metric, labels: Labels) -> int:
        """As `row`; where there is no room that of "other", which is counted."""
        found = self.row(metric, labels)
        if found is not None:
            return found
        overflow = self.row(OVERFLOWS, (metric.stem,))
        if overflow is not None:
            self.cells[overflow] += 1.0
        return LAYOUT.regions[metric].cell

    def count(self, metric: Metric, labels: Labels = (), by: float = 1.0) -> None:
        """For what happens seldom; what happens with every call keeps its index."""
        self.cells[self.row_or_other(metric, labels) if labels else self.cell(metric)] += by

    def set(self, metric: Metric, value: float, labels: Labels = ()) -> None:
        """Set a gauge."""
        self.cells[self.row_or_other(metric, labels) if labels else self.cell(metric)] = value

    def unset(self, metric: Metric, labels: Labels) -> None:
        """Give up a gauge's row: what it spoke of is gone."""
        found = self._rows[metric].pop(labels, None)
        if found is not None:
            self.cells[found] = UNSET

    def inform(self, metric: Metric, labels: Labels) -> None:
        """Say something by labels, in place of what was said before."""
        for earlier in list(self._rows[metric]):
            self.unset(metric, earlier)
        self.set(metric, 1.0, labels)

    def _adopt(self, region: Region) -> None:
        """Take a metric's rows over from whoever wrote them before."""
        rows: dict[Labels, int] = {}
        for row in range(region.rows):
            if region.gauge:
                self.cells[region.cell_of(row)] = UNSET
            elif region.entry >= 0:
                at = LAYOUT.entry_at(region, row)
                labels = unpack(self._memory[at : at + ENTRY])
                if labels is not None:
                    rows[labels] = region.cell_of(row)
        self._rows[region.metric] = rows
        if region.entry >= 0 and not region.gauge:
            self._write(region, 0, others(region.metric))

    def _make(self, region: Region, labels: Labels) -> int | None:
        taken = set(self._rows[region.metric].values())
        # The first row is that of "other": a gauge, which has none, leaves it out for all that.
        free = (row for row in range(1, region.rows) if region.cell_of(row) not in taken)
        row = next(free, 0 if region.metric.kind is Kind.INFO else None)
        return None if row is None else self._write(region, row, labels)

    def _write(self, region: Region, row: int, labels: Labels) -> int | None:
        entry = pack(labels)
        if entry is None:
            return None
        at = LAYOUT.entry_at(region, row)
        self._memory[at : at + len(entry)] = entry
        cell = self._rows[region.metric][labels] = region.cell_of(row)
        return cell


def bury(fd: int) -> None:
    """Say that a board's process is gone, so that its gauges no longer count. For whoever has seen it end."""
    if os.fstat(fd).st_size == LAYOUT.size:
        os.pwrite(fd, bytes(8), BEAT)


class BoardView:
    """The reader's side. A board that its writer has not made yet reads as empty."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._memory: mmap.mmap | None = None

    def beat(self) -> float:
        """When its process last gave a sign of life, CLOCK_BOOTTIME seconds; 0.0 where it never did."""
        memory = self._mapped()
        return 0.0 if memory is None else memoryview(memory)[BEAT : BEAT + 8].cast("d")[0]

    def rows(self) -> Iterator[tuple[Metric, Labels, tuple[float, ...]]]:
        """Every row in use. A histogram's numbers are its buckets, each by itself, then the sum."""
        memory = self._mapped()
        if memory is None:
            return
        cells = memoryview(memory)[LAYOUT.cells_at :].cast("d")
        for region in LAYOUT.regions.values():
            for row in range(region.rows):
                labels = self._labels(memory, region, row)
                if labels is None:
                    continue
                first = region.cell_of(row)
                values = tuple(cells[first : first + region.metric.width])
                if not math.isnan(values[0]):
                    yield region.metric, labels, values

    @staticmethod
    def _labels(memory: mmap.mmap, region: Region, row: int) -> Labels | None:
        if region.entry < 0:
            return ()
        at = LAYOUT.entry_at(region, row)
        return unpack(memory[at : at + ENTRY])

    def _mapped(self) -> mmap.mmap | None:
        if self._memory is None:
            if os.fstat(self._fd).st_size != LAYOUT.size:
                return None
            self._memory = mmap.mmap(self._fd, LAYOUT.size, prot=mmap.PROT_READ)
        return self._memory if self._memory[: len(LAYOUT.header)] == LAYOUT.header else None
