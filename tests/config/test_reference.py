import re
from pathlib import Path
from typing import Any

import pytest

from sidecar.config import reference
from sidecar.config.units import DURATION_PATTERN, RATE_PATTERN, SIZE_PATTERN, THROUGHPUT_PATTERN

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text("utf-8") == reference.markdown(), (
        "run: langtrain-sidecar config reference > docs/configuration.md"
    )


def sections() -> list[tuple[str, dict[str, Any]]]:
    schema = reference.schema()
    return [("", schema), *schema["$defs"].items()]


def fields() -> list[tuple[str, dict[str, Any]]]:
    return [(f"{name}.{key}", field) for name, held in sections() for key, field in held.get("properties", {}).items()]


@pytest.mark.parametrize(("name", "section"), sections(), ids=lambda value: value if isinstance(value, str) else "")
def test_sections_say_what_they_are_and_refuse_what_they_do_not_know(name: str, section: dict[str, Any]) -> None:
    assert section["description"].endswith(".")
    assert section["additionalProperties"] is False


def test_every_setting_says_what_it_is() -> None:
    silent = [
        name for name, field in fields() if not field.get("description", "").endswith(".") and "$ref" not in field
    ]
    assert silent == []


def test_every_setting_outside_a_list_has_a_default() -> None:
    required = {name: held["required"] for name, held in sections() if "required" in held}
    assert required == {
        "Dpop": ["origins"],
        "Limit": ["per", "rate"],
        "Mtls": ["trust_domains"],
        "OpaqueMethod": ["name"],
        "OpaqueService": ["service"],
        "Plugin": ["use"],
        "Rule": ["identities", "methods"],
        "TokenIssuer": ["name", "issuer", "audiences"],
        "TokenRoles": ["claim", "grant"],
        "TokenTenants": ["claim", "allowed"],
        "TrustDomain": ["name"],
        "UpstreamTls": ["ca"],
    }


def test_whatever_is_unsafe_is_off_and_says_so() -> None:
    unsafe = {name: field for name, field in fields() if ".unsafe_" in name}
    assert len(unsafe) == 6
    assert all(field["default"] is False and field["description"].startswith("UNSAFE: ") for field in unsafe.values())


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (DURATION_PATTERN, "10s", "10"),
        (SIZE_PATTERN, "16MiB", "16"),
        (RATE_PATTERN, "1/second", "1MiB/second"),
        (THROUGHPUT_PATTERN, "1MiB/second", "1MiB"),
    ],
)
def test_the_schema_tells_units_apart(pattern: str, good: str, bad: str) -> None:
    assert re.search(pattern, good)
    assert not re.search(pattern, bad)
