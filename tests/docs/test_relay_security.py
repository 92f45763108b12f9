"""The limits that the relay's security model names are all there are, with the defaults that the program has."""

from __future__ import annotations

import re

from sidecar.config import reference
from tests.processes import REPOSITORY

ROW = re.compile(r"^\| `(\w+)` \| (`[^`]+`|unset) \| ", re.MULTILINE)
SETTING = re.compile(r"^\| `(\w+)` \| [^|]+ \| (`[^`]+`|unset) \| ", re.MULTILINE)


def section(text: str, title: str) -> str:
    """What stands below a heading, up to the next."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_defaults_are_the_programs() -> None:
    page = (REPOSITORY / "docs" / "relay-security.md").read_text("utf-8")
    shown = dict(ROW.findall(section(page, "Limits, and why so much")))
    real = dict(SETTING.findall(section(reference.markdown(), "`listen.limits`")))
    assert len(real) > 20
    assert shown == real
