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
    """Looks a few times a second, and has `trim` called when there may be much to give back."""

    __slots__ = ("_least", "_quiet")

    def __init__(self) -> None:
        self._least = 0  # bytes of memory that seem to be in use; 0 where that is not known
        self._quiet = 0

    def look(self, resident: int, rests: bool) -> bool:
        """Whether to trim now. resident: bytes of memory of this process.  rests: hardly any are held for callers."""
        self._quiet = self._quiet + 1 if rests else 0
        self._least = min(self._least or resident, resident)
        if self._quiet < QUIET or resident - self._least < WORTH:
            return False
        self._least = 0  # what is left after it is in use
        return True


def trim_of(library: Any) -> Callable[[], None]:
    """What gives freed memory back to the kernel: malloc_trim(3), where the C library has it, as glibc does."""
    function = getattr(library, "malloc_trim", None)
    if function is None:
        return lambda: None

    def trim() -> None:
        function(ctypes.c_size_t(0))

    return trim
