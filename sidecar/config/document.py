"""YAML 1.2 text → plain mappings, lists, texts, numbers and booleans, and the line each came from.

YAML's core schema and nothing more: `off` and `no` are texts, dates are texts; tags, merge keys and a key given
twice are faults. Files are not read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sidecar.config.faults import ConfigError, Fault, Place, path_of, visible

# 10,000 rules, each of a mapping, three lists and five texts, and all else. The parser takes up to 0.2 ms for each, so
# it stops there; aliases are included, so that a few lines cannot unfold into a billion.
NODES_MAX = 100_000
TEXT_MAX = 4 << 20  # characters, aliases included: every process is given all of it
DEPTH_MAX = 40
NODES_EXPECTED = f"at most {NODES_MAX} values, those of aliases included"
TEXT_EXPECTED = f"at most {TEXT_MAX} characters in all values, those of aliases included"
CORE = "tag:yaml.org,2002:"
TEXTS = (f"{CORE}str", f"{CORE}timestamp", f"{CORE}merge", f"{CORE}value")
VERSION = re.compile(r"^%YAML[ \t]+(?!1\.2\b)", re.M)


@dataclass(frozen=True, slots=True)
class Document:
    """data: JSON types only.  lines: key path → line in the file, from 1."""

    data: dict[str, Any]
    lines: dict[Place, int]


def read(text: str) -> Document:
    """Raises ConfigError with every fault of form; one of syntax hides those behind it."""
    if VERSION.search(text):
        raise ConfigError([Fault("", "YAML 1.2", "a directive for another version")])
    loader = YAML(typ="safe", pure=True)
    loader.Composer = _Composer
    # YAML 1.2.2 §3.2.2.2: an anchor may be given again. A warning would put a piece of the file on stderr.
    loader.composer.warn_double_anchors = False
    try:
        root = loader.compose(text)
        walk = _Walk(loader.constructor)
        data = {} if root is None else walk.value(root, ())
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        origin = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = visible(str(error.problem or "it cannot be read"))
        raise ConfigError([Fault("", "valid YAML", problem, origin)]) from None
    except YAMLError:
        raise ConfigError([Fault("", "valid YAML", "a character that YAML does not allow")]) from None
    except RecursionError:
        raise ConfigError([Fault("", f"at most {DEPTH_MAX} levels of nesting", "more")]) from None
    if not walk.faults and not isinstance(data, dict):
        walk.fault((), "a mapping of sections", "a list" if isinstance(data, list) else "a single value", root)
    if walk.faults:
        raise ConfigError(walk.faults)
    return Document(data, walk.lines)


class _Composer(Composer):
    """Stops at the first value too many, before all others have been read. Raises ConfigError."""

    values = 1  # the root

    def compose_node(self, parent: Any, index: Any) -> Any:
        """index: None for the root and for keys, else where the node stands in its parent."""
        if index is not None:
            self.values += 1
            if self.values > NODES_MAX:
                line = self.parser.peek_event().start_mark.line + 1
                raise ConfigError([Fault("", NODES_EXPECTED, "more", f"line {line}")])
        return super().compose_node(parent, index)


@dataclass(slots=True)
class _Walk:
    constructor: SafeConstructor
    lines: dict[Place, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    nodes: int = 0
    characters: int = 0

    def fault(self, place: Place, expected: str, came: str, node: Node) -> None:
        self.faults.append(Fault(path_of(place), expected, came, f"line {node.start_mark.line + 1}"))

    def value(self, node: Node, place: Place) -> Any:
        """The value of a node. Children of one too deep, or beyond what may be in all, are left out with a fault."""
        self.nodes += 1
        if self.nodes > NODES_MAX:
            if self.nodes == NODES_MAX + 1:
                self.fault((), NODES_EXPECTED, "more", node)
            return None
        self.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, ScalarNode):
            before, self.characters = self.characters, self.characters + len(node.value)
            if self.characters > TEXT_MAX:
                if before <= TEXT_MAX:
                    self.fault((), TEXT_EXPECTED, "more", node)
                return None
            return self._scalar(node, place)
        if len(place) >= DEPTH_MAX:
            self.fault((), f"at most {DEPTH_MAX} levels of nesting", "more", node)
            return None
        if isinstance(node, SequenceNode):
            self._core(node, place, "seq")
            return [self.value(item, (*place, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, MappingNode)
        self._core(node, place, "map")
        return dict(self._pairs(node, place))

    def _pairs(self, node: MappingNode, place: Place) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key, held in node.value:
            if not isinstance(key, ScalarNode) or key.tag not in TEXTS or not key.value:
                self.fault(place, "keys that are texts", "another key", key)
                continue
            if key.value in seen:
                self.fault((*place, key.value), "each key once", f"a second, after line {seen[key.value]}", key)
                continue
            seen[key.value] = key.start_mark.line + 1
            self.lines[(*place, key.value)] = key.start_mark.line + 1
            yield key.value, self.value(held, (*place, key.value))

    def _scalar(self, node: ScalarNode, place: Place) -> Any:
        if node.tag in TEXTS:
            return node.value
        try:
            match str(node.tag).removeprefix(CORE):
                case "null":
                    return None
                case "bool":
                    return self.constructor.construct_yaml_bool(node)
                case "int":
                    return self.constructor.construct_yaml_int(node)
                case "float":
                    return self.constructor.construct_yaml_float(node)
        except ValueError:
            # Python refuses to read integers of thousands of digits.
            self.fault(place, "a number of reasonable size", "a longer one", node)
            return None
        self._core(node, place, "str")
        return None

    def _core(self, node: Node, place: Place, kind: str) -> None:
        if node.tag != CORE + kind:
            self.fault(place, "no YAML tag", f"the tag '{visible(str(node.tag))}'", node)
