"""What the models say, for people and tools: JSON Schema, Markdown, and a config written out as YAML."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML

from sidecar.config.model import Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"
HEAD = """\
# Configuration reference

Written by `langtrain-sidecar config reference` from the program's own schema; `config schema` prints that as JSON
Schema. `config show --config FILE` prints a config with its defaults and overrides, `check --config FILE` all that is
wrong with one.

- The file is YAML 1.2: `off` and `no` are texts. An unknown key, and a key given twice, is a fault.
- Durations are `500ms`, `10s`, `5m`, `1h`, `30d`; sizes `512B`, `64KiB`, `16MiB`, `64MB`; rates `100/second`,
  `1000/hour`, or `{rate: 100/second, burst: 200}`: a bucket of `burst` that refills evenly by `rate`.
- A relative file path starts at the config file's directory. Secrets are never values, only files.
- The environment overrides the file: `LANGTRAIN_SIDECAR__LISTEN__ADDRESS` sets `listen.address`. Lists and mappings
  are written as YAML: `LANGTRAIN_SIDECAR__UPSTREAM__PORTS=[8080, 8082]`; an empty variable means nothing.
- Whatever weakens security is named `unsafe_…` and is logged as a warning at start.
"""


def schema() -> dict[str, Any]:
    """JSON Schema of the file."""
    return {"$schema": DIALECT, **Config.model_json_schema()}


def yaml(config: Config) -> str:
    """The effective config as a file that loads to the same."""
    out = io.StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.dump(config.effective(), out)
    return out.getvalue()


def markdown() -> str:
    """Every setting: its key, kind, default and meaning."""
    whole = schema()
    return "\n".join((HEAD, *_section(whole, whole, "")))


def _section(whole: Mapping[str, Any], model: Mapping[str, Any], path: str) -> Iterator[str]:
    """One table a section, its own settings first."""
    nested: list[tuple[str, Mapping[str, Any]]] = []
    yield f"## {f'`{path}`' if path else 'Top level'}\n"
    if path:
        yield f"{model['description']}\n"
    yield "| key | kind | default | meaning |"
    yield "| --- | --- | --- | --- |"
    for name, field in model["properties"].items():
        below = _model_in(whole, field)
        if below:
            nested.append((f"{path}.{name}" if path else name, below))
        default = "required" if name in model.get("required", ()) else _default(field.get("default"), bool(below))
        # A field that says of a section what the section says of itself leaves it to the section.
        meaning = field.get("description") or _resolve(whole, field)["description"]
        yield f"| `{name}` | {_kind(whole, field)} | {default} | {_cell(meaning)} |"
    yield ""
    for name, below in nested:
        yield from _section(whole, below, name)


def _resolve(whole: Mapping[str, Any], field: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in field:
        found: Mapping[str, Any] = whole["$defs"][field["$ref"].rpartition("/")[2]]
        return found
    return field


def _model_in(whole: Mapping[str, Any], field: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The section that a field holds, alone, as an alternative or in a list."""
    field = _resolve(whole, field)
    if field.get("title") == "rate":
        return None  # it can be a mapping, and is no section
    if "properties" in field:
        return field
    choices = [*field.get("anyOf", ()), field["items"]] if "items" in field else field.get("anyOf", ())
    return next((found for each in choices if (found := _model_in(whole, each))), None)


def _kind(whole: Mapping[str, Any], field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return " \\| ".join(f"`{choice}`" for choice in field["enum"])
    if "const" in field:
        return f"`{_value(field['const'])}`"
    if field.get("title") == "rate" or "anyOf" not in field:
        return _plain_kind(whole, field)
    return " or ".join(_kind(whole, choice) for choice in field["anyOf"] if choice.get("type") != "null")


def _plain_kind(whole: Mapping[str, Any], field: Mapping[str, Any]) -> str:
    if field.get("type") == "array":
        return f"list of {_kind(whole, field['items'])}"
    if field.get("title") == "rate":
        return "rate"
    if "$ref" in field:
        return "section"
    named = {"boolean": "true or false", "integer": "whole number", "object": "mapping"}
    title = str(field.get("title", ""))
    own = title == title.lower() or title == "URL"  # pydantic titles a field after its name, in capitals
    kind = title if title and own else named.get(field["type"], str(field["type"]))
    low, high = field.get("minimum"), field.get("maximum")
    bounds = field.get("x-range") or (f"from {low} to {high}" if low is not None and high is not None else "")
    return f"{kind}, {bounds}" if bounds else kind


def _default(value: Any, section: bool) -> str:
    if value is None:
        return "unset"
    return "see below" if section and value == {} else f"`{_value(value)}`"


def _value(value: Any) -> str:
    """As a config file would spell it, in one line."""
    if isinstance(value, dict) and value:
        return "{" + ", ".join(f"{key}: {_value(held)}" for key, held in value.items()) + "}"
    return value if isinstance(value, str) else json.dumps(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
