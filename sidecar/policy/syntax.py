"""What a CEL expression reads, and costs at most, from its text alone; what cannot be told is refused.

The library that evaluates shows no syntax tree and has no limits of its own, so the grammar is read here once more. A
text that passes ends soon and means what the language's definition says: where the library differs from it, the
construct is refused. Evaluating is `conditions`'.
Source: the CEL language definition (google/cel-spec, doc/langdef.md), "Syntax" and "Macros".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn, TypeAlias

Path: TypeAlias = tuple[str, ...]  # ("user", "location")

LONGEST: Final = 4096  # characters of an expression
HIGHEST: Final = 64  # expressions within one another; those that && or || join count as one
MOST_COST: Final = 1_000_000  # about nanoseconds
MOST_ELEMENTS: Final = 256  # of an attribute that is a list
LONGEST_VALUE: Final = 8192  # characters of an attribute, all elements of a list together, and PER_LEAF for each
PER_LEAF: Final = 8
LONGEST_REGEX: Final = 128  # characters

STEP: Final = 100  # cost of a node
ELEMENT_STEP: Final = 200  # of an element that is copied
REGEX_STEP: Final = 6000  # of a pattern's character: the library compiles it at each evaluation
PER_UNIT: Final = 10  # characters compared or copied in a unit of cost

LONGEST_DURATION: Final = 36_500 * 86_400.0  # seconds; the library takes what it cannot hold for the most it can

FUNCTIONS: Final = frozenset(("double", "duration", "dyn", "int", "size", "timestamp", "type", "uint"))
# Name → number of arguments.
METHODS: Final = {
    "contains": 1, "endsWith": 1, "matches": 1, "size": 0, "startsWith": 1,
    "getDate": 0, "getDayOfMonth": 0, "getDayOfWeek": 0, "getDayOfYear": 0, "getFullYear": 0, "getHours": 0,
    "getMilliseconds": 0, "getMinutes": 0, "getMonth": 0, "getSeconds": 0,
}  # fmt: skip
# The library copies a list that it builds with each element, so map() and filter() of 256 take seconds.
MACROS: Final = frozenset(("all", "exists", "exists_one"))
TYPES: Final = frozenset(("bool", "double", "int", "list", "map", "null_type", "string", "type", "uint"))
LITERALS: Final = frozenset(("bool", "number", "text"))
CONSTANTS: Final = frozenset(("true", "false", "null"))
RESERVED: Final = CONSTANTS | {
    "as", "break", "const", "continue", "else", "for", "function", "if", "import", "in", "let", "loop", "namespace",
    "package", "return", "var", "void", "while",
}  # fmt: skip
BINDING: Final = {  # how tightly an operator binds
    "||": 1, "&&": 2, "<": 3, "<=": 3, ">": 3, ">=": 3, "==": 3, "!=": 3, "in": 3, "+": 4, "-": 4, "*": 5, "/": 5,
    "%": 5,
}  # fmt: skip

_TOKEN: Final = re.compile(
    r"""(?P<space>(?:[\t\n\f\r ]|//[^\n]*)+)
    |(?P<bytes>(?:[bB][rR]?|[rR][bB])['"])
    |(?P<text>[rR](?:'''.*?'''|\"\"\".*?\"\"\"|'[^'\r\n]*'|"[^"\r\n]*")
        |(?:'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\"|'(?:\\.|[^\\'\r\n])*'|"(?:\\.|[^\\"\r\n])*"))
    |(?P<number>0x[0-9a-fA-F]+[uU]?|(?:\d+\.\d+|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)?|\d+[uU]?)(?![A-Za-z0-9_])
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<mark>&&|\|\||<=|>=|==|!=|[-+*/%<>!?:.,()\[\]])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPE: Final = re.compile(
    r"\\(?:[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))", re.DOTALL
)
_ESCAPED: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
# Classes of Unicode take milliseconds to compile, counted repetition multiplies what it repeats.
_DURATION: Final = re.compile(r"[-+]?((\d{1,12})(\.\d{1,9})?(h|m|s|ms|us|ns))+", re.ASCII)
_DURATION_PART: Final = re.compile(r"([\d.]+)([a-z]+)", re.ASCII)
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_REGEX: Final = re.compile(r"(?:\\[^\w\s]|[^\\{}(]|\((?!\?)|\(\?:)*", re.ASCII)


class SyntaxFault(ValueError):
    """An expression that is not one, or that is refused. at: characters before where it goes wrong."""

    def __init__(self, at: int, message: str) -> None:
        super().__init__(f"{message}, at character {at + 1}")
        self.at = at


@dataclass(frozen=True, slots=True)
class Outline:
    """What an expression asks for.

    reads: what must exist for it to have a value.  tested: what it asks `has` about, which may be absent.
    sized: what must be no text, for the library counts the bytes of one.  variables: names that macros bind.
    typed: what is compared with values as written, and of which kind these are, LITERALS; for the language, values of
    two kinds are unequal, and a policy that denies where `user.contractor == true` would let "true" through.
    cost: about nanoseconds, at most.
    """

    reads: frozenset[Path]
    tested: frozenset[Path]
    sized: frozenset[Path]
    typed: frozenset[tuple[Path, str]]
    variables: frozenset[str]
    cost: int


class _Token(NamedTuple):
    kind: str  # "text", "number", "name", "mark", "end"
    text: str
    at: int


@dataclass(slots=True)
class _Node:
    """An expression that was read, within which nothing of the next is kept.

    size: characters that its value holds at most.  elements: of its value, where that is a list.
    path: set while it is an attribute, or a root alone.  literal: set of a text as written.
    listed, textual: whether it can only be a list, or a text.  kind: of LITERALS, of it or of all its elements.
    """

    cost: int = STEP
    height: int = 1
    size: int = 64
    elements: int = 0
    path: Path | None = None
    literal: str | None = None
    listed: bool = False
    textual: bool = False
    kind: str = ""


def outline(text: str) -> Outline:
    """Raises SyntaxFault."""
    if not 0 < len(text) <= LONGEST:
        raise SyntaxFault(0, f"expected an expression of 1 to {LONGEST} characters, got {len(text)}")
    return _Reader(text).whole()


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            braced = text[at] in "{}"
            raise SyntaxFault(
                at, "no map or message is written here" if braced else f"cannot read {text[at : at + 10]!r}"
            )
        kind = found.lastgroup or ""
        if kind == "bytes":
            raise SyntaxFault(at, "no bytes are written here")
        if kind != "space":
            yield _Token(kind, found[0], at)
        at = found.end()
    yield _Token("end", "", at)


class _Reader:
    """Recursive descent; operators by how tightly they bind."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._next = 0
        self._nesting = 0
        self._bound = ""  # by the macro whose body is being read
        self._bound_size = 0
        self._within_macro = False
        self._reads: set[Path] = set()
        self._tested: set[Path] = set()
        self._sized: set[Path] = set()
        self._typed: set[tuple[Path, str]] = set()
        self._variables: set[str] = set()

    def whole(self) -> Outline:
        node = self._value()
        if self._token.kind != "end":
            self._fail("an operator or the end")
        if node.cost > MOST_COST:
            raise SyntaxFault(
                0, f"the expression may take {node.cost // 1000} us, at most {MOST_COST // 1000} are allowed"
            )
        tested, sized = frozenset(self._tested), frozenset(self._sized)
        typed, variables = frozenset(self._typed), frozenset(self._variables)
        return Outline(frozenset(self._reads) - tested, tested, sized, typed, variables, node.cost)

    # Tokens.

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next += token.kind != "end"
        return token

    def _takes(self, mark: str) -> bool:
        found = self._token.kind == "mark" and self._token.text == mark
        self._next += found
        return found

    def _expect(self, mark: str) -> None:
        if not self._takes(mark):
            self._fail(repr(mark))

    def _fail(self, expected: str) -> NoReturn:
        came = repr(self._token.text) if self._token.text else "the end"
        raise SyntaxFault(self._token.at, f"expected {expected}, got {came}")

    # Expressions.

    def _value(self) -> _Node:
        """An expression whose value counts, so that an attribute which it is has to exist."""
        return self._read(self._expression())

    def _read(self, node: _Node) -> _Node:
        if node.path is not None:
            self._reads.add(node.path)
            node.path = None
        return node

    def _expression(self) -> _Node:
        self._nesting += 1
        if self._nesting > HIGHEST:
            raise SyntaxFault(self._token.at, f"more than {HIGHEST} expressions within one another")
        node = self._operation(1)
        if self._takes("?"):
            self._read(node)
            then = self._read(self._operation(1))
            self._expect(":")
            node = self._joined(node, then, self._value())
        self._nesting -= 1
        return node

    def _operation(self, least: int) -> _Node:
        left = self._unary()
        while (binds := BINDING.get(self._token.text, 0)) >= least and self._token.kind in ("mark", "name"):
            operator = self._take()
            right = self._operation(binds + 1)
            if operator.text in ("==", "!=", "in"):
                self._compare(left, right, operator.text == "in")
            textual = operator.text == "+" and (left.textual or right.textual)
            left = self._joined(self._read(left), self._read(right), logical=binds <= 2)
            if binds > 2:
                left.cost += left.size // PER_UNIT
                if textual:
                    left.textual, left.elements = True, 0
                elif operator.text == "+":
                    left.cost += left.elements * ELEMENT_STEP
                else:
                    left.size, left.elements = 64, 0
        return left

    def _compare(self, left: _Node, right: _Node, among: bool) -> None:
        """among: whether `right` is a list, of whose elements one is to equal `left`."""
        for one, other in ((left, right),) if among else ((left, right), (right, left)):
            if one.path is not None and other.kind and other.listed is among:
                self._typed.add((one.path, other.kind))

    def _unary(self) -> _Node:
        if self._takes("-"):  # the library takes false for -true, and the least number for its own opposite
            if self._token.kind != "number":
                self._fail("a number after '-'")
            return self._member()
        many = 0
        while self._takes("!"):
            many += 1
        node = self._member()
        return self._joined(self._read(node), _Node(STEP * many, many)) if many else node

    def _joined(self, *nodes: _Node, logical: bool = False) -> _Node:
        """An expression of `nodes`, which may hold as much as all of them together."""
        node = _Node(
            STEP + sum(each.cost for each in nodes),
            max(each.height for each in nodes) + (not logical),
            sum(each.size for each in nodes),
            sum(each.elements for each in nodes),
        )
        if node.height > HIGHEST:
            raise SyntaxFault(self._token.at, f"more than {HIGHEST} expressions within one another")
        return node

    def _member(self) -> _Node:
        node = self._primary()
        while True:
            if self._takes("."):
                name = self._name()
                node = self._method(node, name) if self._takes("(") else self._selected(node, name.text)
            elif self._takes("["):
                node = self._indexed(node)
            else:
                return node

    def _name(self) -> _Token:
        if self._token.kind != "name" or self._token.text in CONSTANTS | {"in"}:
            self._fail("a name")
        return self._take()

    def _selected(self, node: _Node, name: str) -> _Node:
        selected = self._joined(node)
        if node.path is not None:
            selected.path = (*node.path, name)
        return selected

    def _indexed(self, node: _Node) -> _Node:
        at = self._token.at
        index = self._value()
        self._expect("]")
        if node.path is None:
            return self._joined(node, index)
        if index.literal is not None:
            return self._selected(node, index.literal)
        if self._tokens[self._next - 2].at != at or self._tokens[self._next - 2].kind != "number":
            raise SyntaxFault(at, "expected a text or a number as written, so that it is known what is read")
        return self._joined(self._read(node), index)

    def _primary(self) -> _Node:
        token = self._take()
        if token.kind == "number":
            return _Node(kind="number")
        if token.kind == "text":
            return _Node(size=len(token.text), literal=_decoded(token), textual=True, kind="text")
        if token.kind == "name" and token.text in CONSTANTS:
            return _Node(kind="" if token.text == "null" else "bool")
        if token.kind == "name" and token.text not in RESERVED:
            return self._called(token) if self._takes("(") else self._named(token.text)
        if token.kind == "mark" and token.text == "(":
            node = self._expression()
            self._expect(")")
            return node
        if token.kind == "mark" and token.text == "[":
            return self._list()
        self._next -= token.kind != "end"
        return self._fail("a value")

    def _named(self, name: str) -> _Node:
        if name == self._bound:
            return _Node(size=self._bound_size, elements=self._bound_size // PER_LEAF)
        if name in TYPES:
            return _Node()
        return _Node(size=LONGEST_VALUE, elements=MOST_ELEMENTS, path=(name,))

    def _list(self) -> _Node:
        nodes = []
        while not self._takes("]"):
            nodes.append(self._value())
            if not self._takes(","):
                self._expect("]")
                break
        node = self._joined(*nodes, _Node())
        node.elements, node.listed = len(nodes), True
        kinds = {each.kind for each in nodes}
        node.kind = kinds.pop() if len(kinds) == 1 else ""
        return node

    def _arguments(self) -> list[_Node]:
        nodes: list[_Node] = []
        if self._takes(")"):
            return nodes
        while True:
            nodes.append(self._expression())
            if self._takes(")"):
                return nodes
            self._expect(",")

    def _called(self, name: _Token) -> _Node:
        if name.text == "has":
            return self._has(name)
        if name.text not in FUNCTIONS:
            raise SyntaxFault(name.at, f"no function {name.text!r}")
        arguments = self._arguments()
        self._count(name, len(arguments), 1)
        if name.text == "size":
            return self._size(arguments[0], name)
        if name.text == "duration":
            _check_duration(arguments[0].literal, name.at)
        node = self._joined(self._read(arguments[0]))
        node.cost += node.size // PER_UNIT
        return node

    def _method(self, of: _Node, name: _Token) -> _Node:
        if name.text in MACROS:
            return self._macro(self._read(of), name)
        if name.text not in METHODS:
            raise SyntaxFault(name.at, f"no function {name.text!r}")
        arguments = self._arguments()
        self._count(name, len(arguments), METHODS[name.text])
        if name.text == "size":
            return self._size(of, name)
        node = self._joined(self._read(of), *map(self._read, arguments))
        node.cost += node.size // PER_UNIT
        if name.text == "matches":
            pattern = arguments[0].literal
            if pattern is None or len(pattern) > LONGEST_REGEX or not _REGEX.fullmatch(pattern):
                raise SyntaxFault(
                    name.at,
                    f"expected a pattern as written, of at most {LONGEST_REGEX} characters, no {{n}}, (?…) or \\w",
                )
            node.cost += (REGEX_STEP + node.size // PER_UNIT) * len(pattern)
        node.size, node.elements = 64, 0
        return node

    def _size(self, of: _Node, name: _Token) -> _Node:
        if of.path is not None:
            self._sized.add(of.path)
        elif not of.listed:
            raise SyntaxFault(name.at, "size() expects an attribute or a list, as in size(user.groups)")
        self._read(of)
        return _Node(of.cost + STEP, of.height + 1)

    def _has(self, name: _Token) -> _Node:
        node = self._expression()
        self._expect(")")
        if node.path is not None and len(node.path) > 1:
            self._tested.add(node.path)
            if len(node.path) > 2:
                self._reads.add(node.path[:-1])
        elif self._tokens[self._next - 3].text != ".":
            raise SyntaxFault(name.at, "has() expects an attribute, as in has(user.location)")
        return _Node(node.cost, node.height)

    def _macro(self, of: _Node, name: _Token) -> _Node:
        if self._within_macro:
            raise SyntaxFault(name.at, f"{name.text!r} within another macro")
        variable = self._name().text
        if variable in RESERVED | TYPES:
            raise SyntaxFault(name.at, f"{variable!r} cannot be a variable")
        self._expect(",")
        self._variables.add(variable)
        # What the elements cost together is linear in their sizes, which together are the list's.
        self._bound, self._bound_size = variable, of.size // max(of.elements, 1) + 1
        self._within_macro = True
        body = self._value()
        self._expect(")")
        self._bound, self._within_macro = "", False
        node = self._joined(of, body)
        node.cost = of.cost + STEP + of.elements * body.cost
        node.size, node.elements = 64, 0
        return node

    def _count(self, name: _Token, count: int, expected: int) -> None:
        if count != expected:
            raise SyntaxFault(name.at, f"{name.text!r} takes {expected} arguments, got {count}")


def _check_duration(text: str | None, at: int) -> None:
    """Raises SyntaxFault unless it is known to be one, and short enough."""
    if text is None or not _DURATION.fullmatch(text):
        raise SyntaxFault(at, "duration() expects a text as written, such as '36h' or '1h30m'")
    if sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text)) > LONGEST_DURATION:
        raise SyntaxFault(at, f"duration() expects {LONGEST_DURATION / 3600:.0f}h at most")


def _decoded(token: _Token) -> str:
    """The value of a literal."""
    opening = re.match(r"[rR]?('''|\"\"\"|'|\")", token.text)
    assert opening is not None
    body = token.text[opening.end() : -len(opening[1])]
    return body if token.text[0] in "rR" else _ESCAPE.sub(lambda found: _unescaped(found, token.at), body)


def _unescaped(found: re.Match[str], at: int) -> str:
    digits = found[1] or found[2] or found[3]
    if found[5] is not None:
        if found[5] not in "abfnrtv\\?\"'`":
            raise SyntaxFault(at, f"no escape {found[0]!r}")
        return _ESCAPED.get(found[5], found[5])
    number = int(digits, 16) if digits else int(found[4], 8)
    if number > 0x10FFFF or 0xD800 <= number < 0xE000:
        raise SyntaxFault(at, f"no character {found[0]!r}")
    return chr(number)
