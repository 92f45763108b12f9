"""The `telemetry` and `probes` sections: what the sidecar tells of itself, and to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from sidecar.config.addresses import Address, ListenAddress, TcpAddress
from sidecar.config.faults import expected
from sidecar.config.fields import FILE_EXPECTED, Name, Section, Url, Within, file_path, section_or_defaults, written
from sidecar.config.units import Duration, Size

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


def _log_file(value: Any, info: ValidationInfo) -> Any:
    if value in ("off", "stderr"):
        return value
    if not isinstance(value, str | Path):
        raise expected(f"{FILE_EXPECTED}, stderr or off")
    return file_path(value, info)


LogFile: TypeAlias = Annotated[
    Path | Literal["stderr", "off"],
    PlainValidator(_log_file),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "title": "file path, `stderr` or `off`", "minLength": 1}),
]


class AccessLog(Section):
    """One JSON line a call: who called what, when, with what outcome; never content."""

    file: LogFile = Field(
        "off",
        description="Where to: a file that is appended to and may be rotated by renaming, `stderr`, or `off`.",
    )
    sample: Share = Field(1.0, description="Share of the calls that are logged; those denied or failed always are.")


class Telemetry(Section):
    """Traces and the access log. They carry names, times and outcomes of calls, never content."""

    otlp: Url | None = Field(
        None, description="OTLP/gRPC endpoint that spans are sent to, such as `http://127.0.0.1:4317`. Unset, none are."
    )
    sample: Share = Field(
        1.0,
        description="Share of traces begun here that are sampled, 0 to 1; a caller's own decision is kept. Spans of "
        "calls that were denied or failed are always exported.",
    )
    service_name: Name = Field("langtrain-sidecar", description="The `service.name` of its spans.")
    access_log: Annotated[AccessLog, BeforeValidator(section_or_defaults)] = Field(
        written({}), description="One JSON line a call."
    )


def _tcp(address: Address) -> Address:
    if not isinstance(address, TcpAddress):
        raise expected("host:port or [v6 address]:port")
    return address


class Probes(Section):
    """A listener for kubelet and Prometheus: `/livez`, `/readyz` and `/metrics` in plaintext, and nothing else."""

    address: Annotated[ListenAddress, AfterValidator(_tcp)] | None = Field(
        None,
        description="Where to listen, such as `0.0.0.0:8086`: `host:port` or `[v6]:port`. Unset, nowhere. Plaintext on "
        "purpose: it answers three questions, none of them secret, to peers that have no certificates.",
    )
    min_free: Annotated[Size, Within(Size(0), Size(1 << 40))] = Field(
        written("64MiB"), description="Free space in the state directory below which the sidecar is not ready."
    )
    max_staleness: Annotated[Duration, Within(Duration(1), Duration(3600))] = Field(
        written("5s"), description="Silence of a change feed after which the sidecar is not ready."
    )
