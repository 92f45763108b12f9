"""What scrapers read: both formats, by Prometheus's own parsers and by promtool."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

from sidecar.telemetry import metrics
from sidecar.telemetry.exposition import accepts_open_metrics, render
from sidecar.telemetry.merge import merged
from sidecar.telemetry.metrics import TABLE, Kind
from tests.parts import require
from tests.telemetry.boards import Slot, scraped, slot

ODD = 'a"b\\c\nd é'


def full() -> Slot:
    """A board with a row of every metric."""
    place = slot()
    board = place.taken()
    for metric in TABLE:
        if metric.kind is Kind.INFO:
            board.inform(metric, tuple(ODD for _ in metric.labels))
        else:
            board.count(metric, tuple(ODD for _ in metric.labels))
            board.set(metric, 2.0, tuple(ODD for _ in metric.labels))
    return place


@pytest.mark.parametrize("parse", [open_metrics, plain], ids=["OpenMetrics", "text"])
def test_every_metric_is_read_as_what_it_is(parse) -> None:  # type: ignore[no-untyped-def]
    text = render(merged([full().process()], 100.0), parse is open_metrics).decode()
    families = {family.name: family for family in parse(text)}
    assert len(families) == len(TABLE)
    for metric in TABLE:
        plain_info = parse is plain and metric.kind is Kind.INFO
        stem = metric.name if plain_info else metric.name.removesuffix("_total").removesuffix("_info")
        family = families[stem]
        assert family.type == ("gauge" if plain_info else metric.kind.value)
        assert family.documentation == metric.help
        assert {sample.name for sample in family.samples} == set(metric.series)
        labels = family.samples[-1].labels
        assert all(labels[name] == ODD for name in metric.labels)


def test_promtool_finds_nothing_to_mend() -> None:
    require(shutil.which("promtool") is not None, "promtool: apt-get install prometheus")
    text = render(merged([full().process()], 100.0), False)
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_workers_become_one() -> None:
    places = [slot(), slot(), slot()]
    for number, place in enumerate(places, start=1):
        board = place.taken()
        board.count(metrics.DENIALS, ("a",), number)
        board.set(metrics.UPSTREAM_UP, float(number > 1), ("m:1",))
        board.set(metrics.FEED_AGE, float(number), ("policy",))
        board.set(metrics.MEMORY, number * 100.0)
        board.inform(metrics.CONFIG, ("old" if number == 1 else "new",))
    found = scraped(*places)
    assert found['denials_total{reason="a"}'] == 6
    assert found['upstream_up{endpoint="m:1"}'] == 0
    assert found['feed_age_seconds{feed="policy"}'] == 3
    assert [found[f'resident_memory_bytes{{process="worker-{n}"}}'] for n in range(3)] == [100, 200, 300]
    assert {name for name in found if name.startswith("config_info")} == {
        'config_info{digest="old"}',
        'config_info{digest="new"}',
    }


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,*/*;q=0.1",
            True,
        ),
        ("text/plain", False),
        ("", False),
    ],
)
def test_the_scraper_says_which_format(accept: str, wanted: bool) -> None:
    assert accepts_open_metrics(accept) is wanted
