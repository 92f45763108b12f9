import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config.units import Duration, Rate, Size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("10s", 10), ("1.5s", 1.5), ("5m", 300), ("1h", 3600), ("30d", 2_592_000), ("0s", 0)],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "10", "10 s", "-1s", "1w", "1S", "s", "1.s", ".5s", "1e3s", "१s", "1s\n", "1" * 13 + "s"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="a duration with a unit"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("text", "count"), [("512B", 512), ("64kB", 64_000), ("64KiB", 65_536), ("16MiB", 1 << 24), ("64MB", 64_000_000)]
)
def test_sizes_are_bytes(text: str, count: int) -> None:
    assert Size.parse(text) == count


@pytest.mark.parametrize("text", ["", "16", "16M", "16mb", "1.5MiB", "-1B", "16 MiB", "16MiB "])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="a size with a unit"):
        Size.parse(text)


def test_a_rate_is_a_bucket_that_refills_evenly() -> None:
    assert Rate.parse("1000/hour") == Rate(1000, 3600.0, 1000)
    assert Rate.parse("90/minute", burst=5) == Rate(90, 60.0, 5)
    assert Rate.parse("90/minute").per_second == 1.5


@pytest.mark.parametrize(
    "text", ["", "0/second", "1/s", "1/fortnight", "/second", "1", "1.5/second", "1/second/second"]
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="a rate such as"):
        Rate.parse(text)


@given(st.integers(0, 10**12))
@settings(deadline=None)
def test_durations_print_as_they_are_read(milliseconds: int) -> None:
    text = str(Duration(milliseconds / 1000))
    assert Duration.parse(text) == pytest.approx(milliseconds / 1000)
    assert str(Duration.parse(text)) == text


@given(st.integers(0, 1 << 45))
@settings(deadline=None)
def test_sizes_print_as_they_are_read(count: int) -> None:
    assert Size.parse(str(Size(count))) == count


@pytest.mark.parametrize(
    ("value", "text"),
    [(Duration(90), "90s"), (Duration(86400), "1d"), (Duration(0.25), "250ms"), (Size(1 << 20), "1MiB")],
)
def test_the_longest_unit_that_fits(value: object, text: str) -> None:
    assert str(value) == text
