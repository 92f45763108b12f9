"""Huffman strings of HPACK (RFC 7541 §5.2), decoded an octet at a time.

A state is an inner node of the code's tree, of which there are 256: it and the next octet say which symbols end within
the octet, and where in the tree it leads.
"""

from __future__ import annotations

from typing import Final

_EOS: Final = 256
# RFC 7541 Appendix B: the length in bits of each symbol's code. The code is canonical, which is all of it.
_LENGTHS: Final = bytes((
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
))  # fmt: skip


def _tree() -> list[list[int]]:
    """The inner nodes, the root first: for each bit the number of the next one, or ~symbol."""
    nodes = [[0, 0]]
    code = 0
    for length in range(1, max(_LENGTHS) + 1):
        for symbol in range(len(_LENGTHS)):
            if _LENGTHS[symbol] == length:
                _plant(nodes, code, length, symbol)
                code += 1
        code <<= 1
    return nodes


def _plant(nodes: list[list[int]], code: int, length: int, symbol: int) -> None:
    at = 0
    for place in range(length - 1, 0, -1):
        bit = code >> place & 1
        if not nodes[at][bit]:
            nodes[at][bit] = len(nodes)
            nodes.append([0, 0])
        at = nodes[at][bit]
    nodes[at][code & 1] = ~symbol


def _by_octet(nodes: list[list[int]]) -> tuple[bytes, list[bytes | None]]:
    """By state and octet: the next state, and what was said, None with EOS in it."""
    nexts, says = bytearray(), list[bytes | None]()
    texts: dict[bytes, bytes] = {}
    halves = [[_walk(nodes, state, half) for half in range(16)] for state in range(len(nodes))]
    for firsts in halves:
        for between, first in firsts:
            for state, second in halves[between]:
                nexts.append(state)
                if first is None or second is None:
                    says.append(None)
                else:
                    says.append(texts.setdefault(first + second, first + second))
    return bytes(nexts), says


def _walk(nodes: list[list[int]], state: int, half: int) -> tuple[int, bytes | None]:
    """Four bits: the next state, and what was said; of four bits no two symbols end."""
    text: bytes | None = b""
    for place in (3, 2, 1, 0):
        state = nodes[state][half >> place & 1]
        if state < 0:
            text = None if ~state == _EOS else bytes((~state,))
            state = 0
    return state, text


def _ends(nodes: list[list[int]]) -> frozenset[int]:
    """The states in which a string may end: what follows its last code is less than an octet of ones."""
    found, state = [], 0
    for _ in range(8):
        found.append(state)
        state = nodes[state][1]
    return frozenset(found)


_NODES: Final = _tree()
_NEXTS, _SAYS = _by_octet(_NODES)
_ENDS: Final = _ends(_NODES)


def decode(coded: bytes) -> bytes:
    """What a string says. Raises ValueError when it is malformed."""
    state, nexts, says = 0, _NEXTS, _SAYS
    text: list[bytes] = []
    for place in range(len(coded)):
        at = state << 8 | coded[place]
        said = says[at]
        if said is None:
            raise ValueError("EOS in a Huffman string")
        text.append(said)
        state = nexts[at]
    if state not in _ENDS:
        raise ValueError("Huffman padding is not less than an octet of ones")
    return b"".join(text)
