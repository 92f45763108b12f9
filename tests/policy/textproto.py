"""Reads the part of protobuf's text format in which CEL's conformance files are written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, list[Any]]  # field → its values: texts, bytes of texts, numbers, names, messages

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)|(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(?P<word>\[[\w./]+\]|[-+.\w]+)"""
    r"""|(?P<mark>[{}<>\[\],;:])""",
    re.DOTALL,
)
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(.))", re.DOTALL)
_ESCAPED = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def read(text: str) -> Message:
    """Texts come as bytes, numbers and names as they are written. Raises ValueError for what it cannot read."""
    tokens = list(_tokens(text))
    tokens.reverse()
    return _message(tokens, "")


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"cannot read {text[at : at + 40]!r}")
        at = found.end()
        if found.lastgroup != "space":
            yield found[0]


def _message(tokens: list[str], end: str) -> Message:
    message: Message = {}
    while tokens and tokens[-1] != end:
        name = tokens.pop()
        if tokens[-1] == ":":
            tokens.pop()
        values = message.setdefault(name, [])
        if tokens[-1] == "[":
            tokens.pop()
            while tokens[-1] != "]":
                values.append(_value(tokens))
                if tokens[-1] == ",":
                    tokens.pop()
            tokens.pop()
        else:
            values.append(_value(tokens))
        if tokens and tokens[-1] in ",;":
            tokens.pop()
    if end:
        tokens.pop()
    return message


def _value(tokens: list[str]) -> Any:
    token = tokens.pop()
    if token in "{<":
        return _message(tokens, "}" if token == "{" else ">")
    if token[0] not in "\"'":
        return token
    text = _unescaped(token)
    while tokens and tokens[-1][0] in "\"'":
        text += _unescaped(tokens.pop())
    return text


def _unescaped(token: str) -> bytes:
    def one(found: re.Match[bytes]) -> bytes:
        if found[1] or found[4]:
            return bytes([int(found[1], 16) if found[1] else int(found[4], 8)])
        if found[2] or found[3]:
            return chr(int(found[2] or found[3], 16)).encode()
        return _ESCAPED.get(found[5], found[5])

    return _ESCAPE.sub(one, token[1:-1].encode())
