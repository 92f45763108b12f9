"""When memory that was freed, and that the C library keeps, is given back to the kernel. Counts come in.

What waits for slow readers comes in pieces of 16 KiB. Once they are dropped, a few small objects between them keep the
heap from shrinking, so that a worker would stay as large as the worst attack has made it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

LITTLE: Final = 8 << 20  # bytes held for callers, up to which what was freed is not needed again soon
WORTH: Final = 16 << 20  # bytes: less is not worth the looking, which takes milliseconds
QUIET: Final = 2  # looks in a row that find the process at rest


class Freed:
    """Looks a few times a second, and says when there may be much to give back.

    resident: bytes of memory of this process.  held: of them, those held for callers.
    """

    __slots__ = ("_least", "_quiet")

    def __init__(self) -> None:
        self._least = 1 << 62  # bytes that are in use, but for those held
        self._quiet = 0

    def look(self, resident: int, held: int, busy: bool) -> bool:
        """Whether to trim now, and to call `trimmed` then. busy: more may be held."""
        self._quiet = self._quiet + 1 if held <= LITTLE and not busy else 0
        # What is held may be so at every look until it is freed: it must not pass for what stays in use.
        self._least = min(self._least, resident - held)
        return self._quiet >= QUIET and resident - self._least >= WORTH

    def trimmed(self, resident: int, held: int) -> None:
        """Memory has been given back: what is left is in use."""
        self._least = resident - held


def trim_of(library: Any) -> Callable[[], None]:
    """What gives freed memory back to the kernel: malloc_trim(3), where the C library has it, as glibc does."""
    function = getattr(library, "malloc_trim", None)
    if function is None:
        return lambda: None

    def trim() -> None:
        function(ctypes.c_size_t(0))

    return trim
