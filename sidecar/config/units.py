"""Quantities as a config spells them: "10s", "500ms", "30d", "16MiB", "64MB", "1000/hour".

Duration is a float of seconds and Size an int of bytes, so that they serve as plain numbers; Rate is a token
bucket, Throughput a rate of calls or bytes. Each prints as it is written in a config. Text without a unit is refused:
10 could be anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from sidecar.config.faults import expected

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
PERIODS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}

DURATION_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,3})?(ms|s|m|h|d)$"
SIZE_PATTERN = r"^[0-9]{1,15}(B|kB|MB|GB|KiB|MiB|GiB)$"
THROUGHPUT_PATTERN = r"^[1-9][0-9]{0,11}(B|kB|MB|GB|KiB|MiB|GiB)?/(second|minute|hour|day)$"
RATE_PATTERN = r"^[1-9][0-9]{0,11}/(second|minute|hour|day)$"

DURATION_EXPECTED = 'a duration with a unit, such as "500ms", "10s", "5m", "1h" or "30d"'
SIZE_EXPECTED = 'a size with a unit, such as "512B", "64KiB", "16MiB" or "64MB"'
THROUGHPUT_EXPECTED = 'a rate such as "100/second" or "1000/day", or of bytes, such as "10MiB/second"'
RATE_EXPECTED = 'a rate such as "100/second" or "1000/hour", or {rate: 100/second, burst: 200}'


class Duration(float):
    """Seconds; written as "500ms", "10s", "5m", "1h", "30d"."""

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Raises ValueError for text without a unit or with one that is not known."""
        found = _match(DURATION_PATTERN, text, DURATION_EXPECTED)
        unit = found.group(2)
        return cls(float(text[: -len(unit)]) * SECONDS[unit])

    def __str__(self) -> str:
        for unit in ("d", "h", "m", "s"):
            if self % SECONDS[unit] == 0 and (self or unit == "s"):
                return f"{self / SECONDS[unit]:.0f}{unit}"
        return f"{self * 1000:.3f}".rstrip("0").rstrip(".") + "ms"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any) -> Duration:
            if isinstance(value, Duration):
                return value
            return cls.parse(_text(value, DURATION_EXPECTED))

        return _printed(read)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "title": "duration", "pattern": DURATION_PATTERN}


class Size(int):
    """Bytes; written as "512B", "64KiB", "16MiB", "64MB"."""

    @classmethod
    def parse(cls, text: str) -> Size:
        """Raises ValueError for text without a unit or with one that is not known."""
        unit = _match(SIZE_PATTERN, text, SIZE_EXPECTED).group(1)
        return cls(int(text[: -len(unit)]) * BYTES[unit])

    def __str__(self) -> str:
        for unit in ("GiB", "GB", "MiB", "MB", "KiB", "kB"):
            if self and self % BYTES[unit] == 0:
                return f"{int(self) // BYTES[unit]}{unit}"
        return f"{int(self)}B"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any) -> Size:
            if isinstance(value, Size):
                return value
            return cls.parse(_text(value, SIZE_EXPECTED))

        return _printed(read)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "title": "size", "pattern": SIZE_PATTERN}


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket of `burst` that refills evenly by `count` each `period` seconds; burst is count where unsaid."""

    count: int
    period: float
    burst: int

    @classmethod
    def parse(cls, text: str, burst: int | None = None) -> Rate:
        """Raises ValueError for text that is not N/unit."""
        unit = _match(RATE_PATTERN, text, RATE_EXPECTED).group(1)
        count = int(text.partition("/")[0])
        return cls(count, PERIODS[unit], count if burst is None else burst)

    @property
    def per_second(self) -> float:
        return self.count / self.period

    def __str__(self) -> str:
        unit = next(unit for unit, seconds in PERIODS.items() if seconds == self.period)
        return f"{self.count}/{unit}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any) -> Rate:
            if isinstance(value, Rate):
                return value
            if not isinstance(value, dict):
                return cls.parse(_text(value, RATE_EXPECTED))
            burst = value.get("burst")
            whole = isinstance(burst, int) and not isinstance(burst, bool) and 0 < burst < 10**12
            if not value.keys() <= {"rate", "burst"} or not (burst is None or whole):
                raise expected(RATE_EXPECTED)
            return cls.parse(_text(value.get("rate"), RATE_EXPECTED), burst)

        def write(rate: Rate) -> Any:
            return str(rate) if rate.burst == rate.count else {"rate": str(rate), "burst": rate.burst}

        return core_schema.no_info_plain_validator_function(
            read, serialization=core_schema.plain_serializer_function_ser_schema(write)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        rate = {"type": "string", "pattern": RATE_PATTERN}
        burst = {"type": "integer", "exclusiveMinimum": 0}
        whole = {"type": "object", "properties": {"rate": rate, "burst": burst}, "required": ["rate"]}
        return {"title": "rate", "anyOf": [rate, {**whole, "additionalProperties": False}]}


@dataclass(frozen=True, slots=True)
class Throughput:
    """`count` each `period` seconds, of bytes where it was written with a size's unit: "10MiB/second"."""

    count: int
    period: float
    size: str = ""

    @classmethod
    def parse(cls, text: str) -> Throughput:
        """Raises ValueError for text that is not N/unit or size/unit."""
        size, unit = _match(THROUGHPUT_PATTERN, text, THROUGHPUT_EXPECTED).groups()
        amount = text.partition("/")[0]
        return cls(Size.parse(amount) if size else int(amount), PERIODS[unit], size or "")

    def __str__(self) -> str:
        unit = next(unit for unit, seconds in PERIODS.items() if seconds == self.period)
        return f"{Size(self.count) if self.size else self.count}/{unit}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any) -> Throughput:
            if isinstance(value, Throughput):
                return value
            return cls.parse(_text(value, THROUGHPUT_EXPECTED))

        return _printed(read)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "title": "rate", "pattern": THROUGHPUT_PATTERN}


def _match(pattern: str, text: str, wanted: str) -> re.Match[str]:
    found = re.fullmatch(pattern, text)
    if found is None:
        raise expected(wanted)
    return found


def _text(value: Any, wanted: str) -> str:
    if not isinstance(value, str):
        raise expected(wanted)
    return value


def _printed(read: Any) -> CoreSchema:
    return core_schema.no_info_plain_validator_function(
        read, serialization=core_schema.plain_serializer_function_ser_schema(str)
    )
