"""The `limits` section: how much callers may call."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from sidecar.config.faults import expected
from sidecar.config.fields import Distinct, IdentityPattern, MethodPattern, Name, OneOrMore, Section, Spelt
from sidecar.config.units import SIZE_PATTERN, Size, Throughput

LIMIT_NAME = r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"
LIMIT_NAME_EXPECTED = 'a name of lower-case letters, digits, "." and "-", such as "free-tier"'
BURST_EXPECTED = 'a whole number above 0, or for bytes a size such as "20MiB"'
MOST_BURST = 10**15


def _name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(LIMIT_NAME, value):
        raise expected(LIMIT_NAME_EXPECTED)
    return value


def _burst(value: Any) -> int:
    """A plain int where it is of calls, a Size where it is of bytes."""
    burst = Size.parse(value) if isinstance(value, str) and re.fullmatch(SIZE_PATTERN, value) else value
    if isinstance(burst, bool) or not isinstance(burst, int) or not 0 < burst <= MOST_BURST:
        raise expected(BURST_EXPECTED)
    return burst


def _written(burst: int) -> int | str:
    return str(burst) if isinstance(burst, Size) else burst


def _alone(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


LimitName: TypeAlias = Annotated[
    str,
    PlainValidator(_name),
    WithJsonSchema({"type": "string", "title": "text", "pattern": f"^({LIMIT_NAME})$"}),
]
Burst: TypeAlias = Annotated[
    int,
    PlainValidator(_burst),
    PlainSerializer(_written),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "exclusiveMinimum": 0},
                {"type": "string", "title": "size", "pattern": SIZE_PATTERN},
            ]
        }
    ),
]
Part: TypeAlias = Literal["identity", "method", "model", "source"]
PARTS: TypeAlias = Annotated[
    OneOrMore[Part],
    Distinct,
    BeforeValidator(_alone),
    Spelt({"enum": ["identity", "method", "model", "source"]}),
]


class Limit(Section):
    """A bucket for each identity, method, model or source, or combination of them, that refills evenly."""

    per: PARTS = Field(
        description="What has a bucket of its own: `identity`, `method`, `model`, `source` (an IPv4 address, or the "
        "/64 of an IPv6 one), or a list of them for each combination."
    )
    rate: Throughput = Field(
        description="How it refills: `1000/second`, `100/day`, or `10MiB/second` where `weight` is `bytes`."
    )
    burst: Burst | None = Field(
        None, description="How much it holds; what `rate` gives in one of its units of time where unset."
    )
    weight: Literal["calls", "bytes", "batch"] = Field(
        "calls",
        description="What is counted: calls, where each message of a stream is one; bytes of request messages; or "
        "inferences, where a request for a batch of 8 is 8.",
    )
    name: LimitName | None = Field(
        None,
        description="Its stable name: refusals have the reason `limit.<name>`, and buckets are kept under it when its "
        "rate changes. Unset, `per` and `weight` make it, such as `identity-model.bytes`.",
    )
    identities: OneOrMore[IdentityPattern] | None = Field(
        None, description="Only callers that match one of these patterns; unset, all."
    )
    methods: OneOrMore[MethodPattern] | None = Field(
        None, description="Only methods that match one of these patterns; unset, all."
    )
    models: OneOrMore[Name] | None = Field(
        None, description="Only messages that name a model that matches one of these patterns; unset, all."
    )

    @property
    def title(self) -> str:
        """The name it goes by."""
        return self.name or "-".join(sorted(self.per)) + ("" if self.weight == "calls" else f".{self.weight}")

    @property
    def capacity(self) -> int:
        """What its buckets hold."""
        return int(self.burst or self.rate.count)

    @property
    def asks_model(self) -> bool:
        """Whether it needs messages that tell their model or their batch size."""
        return "model" in self.per or self.models is not None or self.weight == "batch"
