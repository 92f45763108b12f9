"""The product document's code, block by block, and what each block consists of."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Final

MARK: Final = "Code Example"


@dataclass(frozen=True, slots=True)
class Call:
    """line: of the block.  text: what is called, "role_manager.create_role"."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement at a block's top. text: its first line.  calls: in it, as `calls` has them."""

    line: int
    text: str
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Block:
    title: str
    code: str
    statements: tuple[Statement, ...]


def blocks(text: str) -> list[Block]:
    """What follows each MARK, as far as it is Python: the document's prose after it is not.

    A block's title is its section's: the last line before it that stands alone and is no sentence.
    """
    lines = text.splitlines()
    starts = [number + 1 for number, line in enumerate(lines) if line.strip() == MARK]
    found, before = [], 0
    for start, end in zip(starts, [*(start - 1 for start in starts[1:]), len(lines)], strict=True):
        length = _code(lines[start:end])
        code = "\n".join(lines[start : start + length])
        found.append(Block(_title(lines[before:start]), code, statements(code)))
        before = start + length
    return found


def statements(code: str) -> tuple[Statement, ...]:
    lines = code.splitlines()
    return tuple(
        Statement(
            node.lineno,
            lines[node.lineno - 1],
            tuple(Call(call.lineno, ast.unparse(call.func)) for call in calls(node)),
        )
        for node in ast.parse(code).body
    )


def calls(statement: ast.stmt) -> list[ast.Call]:
    """In the order in which the tree is walked, which is the same for the same text."""
    return [node for node in ast.walk(statement) if isinstance(node, ast.Call)]


def _title(prose: list[str]) -> str:
    alone = [
        line.strip()
        for above, line, below in zip(["", *prose], prose, prose[1:], strict=False)
        if line.strip() and not above.strip() and not below.strip() and not line.rstrip().endswith((".", ":"))
    ]
    return alone[-1] if alone else ""


def _code(lines: list[str]) -> int:
    """How many lines are Python. A heading at their end, "Compliance & Governance", is none, though it parses."""
    length = max(length for length in range(len(lines) + 1) if _parses(lines[:length]))
    body = ast.parse("\n".join(lines[:length])).body
    while body and isinstance(body[-1], ast.Expr) and not calls(body[-1]):
        length = body.pop().lineno - 1
    return length


def _parses(lines: list[str]) -> bool:
    try:
        ast.parse("\n".join(lines))
    except SyntaxError:
        return False
    return True
