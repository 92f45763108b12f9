"""What the documents show works: their Python runs, the quick start's config loads, their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from interceptors.contract import Code
from sidecar.config.load import load
from sidecar.telemetry.metrics import PREFIX, TABLE
from tests.playbook import Playbook, denied, request
from tests.processes import REPOSITORY

DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text("utf-8"))
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_the_interceptors_that_are_shown_run() -> None:
    shown: dict[str, object] = {"__name__": "shown"}
    for block in blocks(REPOSITORY / "docs" / "writing-an-interceptor.md", "python"):
        exec(compile(block, "writing-an-interceptor.md", "exec", dont_inherit=True), shown)
    scored, score = shown["Scored"], shown["Score"]
    assert isinstance(scored, type)
    assert isinstance(score, type)
    assert Playbook(scored(), answers={score: 0.1}) >> request(b"fine") << b"fine"
    suspicious = denied(Code.PERMISSION_DENIED, "scored.suspicious")
    assert Playbook(scored(), answers={score: 0.9}) >> request(b"odd") << suspicious
    assert Playbook(scored()) >> request(b"odd") << denied(Code.UNAVAILABLE, "scored.no_answer")


def test_the_limits_that_are_shown_load(tmp_path: Path) -> None:
    (quickstart,) = blocks(REPOSITORY / "docs" / "quickstart.md", "yaml")
    (shown,) = blocks(REPOSITORY / "docs" / "limits.md", "yaml")
    file = tmp_path / "sidecar.yaml"
    file.write_text(quickstart + shown, "utf-8")
    assert [limit.title for limit in load(file, {}).limits] == ["free-tier", "identity-model.batch", "source.bytes"]


def test_the_quick_starts_config_loads(tmp_path: Path) -> None:
    (shown,) = blocks(REPOSITORY / "docs" / "quickstart.md", "yaml")
    file = tmp_path / "sidecar.yaml"
    file.write_text(shown, "utf-8")
    config = load(file, {})
    assert [rule.models for rule in config.authorization.rules] == [("topics",)]


def test_the_operations_guide_says_what_each_metric_is_watched_for() -> None:
    text = (REPOSITORY / "docs" / "operations.md").read_text("utf-8")
    table = text.partition("## What to watch\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("|")][2:]
    named = [name for row in rows for name in re.findall(r"`([a-z_]+)`", row)]
    assert sorted(named) == sorted(metric.name.removeprefix(PREFIX) for metric in TABLE)
