"""The committed inputs of each target, and which of those that were found are worth to be among them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from hashlib import sha1
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.targets import Target

CORPUS = Path(__file__).parent / "corpus"
_TRACED = ("/sidecar/", "/interceptors/")

Arc = tuple[str, int, int]  # a file, a line, and the line that came before it


def inputs(target: str) -> list[bytes]:
    """The committed ones."""
    return [file.read_bytes() for file in sorted((CORPUS / target).iterdir())]


def keep(folder: Path, inputs: Iterable[bytes]) -> int:
    """Put inputs into a folder, each under its SHA-1; how many are new there."""
    folder.mkdir(parents=True, exist_ok=True)
    new = 0
    for octets in inputs:
        file = folder / sha1(octets, usedforsecurity=False).hexdigest()
        new += not file.exists()
        file.write_bytes(octets)
    return new


def worthwhile(target: Target, inputs: Iterable[bytes]) -> list[bytes]:
    """Of some inputs those that take a way through our code which no shorter one takes."""
    known: set[Arc] = set()
    found = []
    for octets in sorted(inputs, key=lambda each: (len(each), each)):
        arcs = _arcs(target, octets)
        if not arcs <= known:
            known |= arcs
            found.append(octets)
    return found


def _arcs(target: Target, octets: bytes) -> set[Arc]:
    arcs: set[Arc] = set()

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename
        if not any(part in file for part in _TRACED):
            return None
        last = 0

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            if event == "line":
                arcs.add((file, last, frame.f_lineno))
                last = frame.f_lineno
            return step

        return step

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        target(octets)
    finally:
        sys.settrace(before)
    return arcs
