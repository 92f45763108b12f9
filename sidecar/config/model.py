"""The whole config as a frozen model: what every part of the program reads, and the source of its reference.

How a file becomes one is `sidecar.config.load`; what sections demand of each other is `sidecar.config.rules`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, PlainValidator, WithJsonSchema

from sidecar.config.access import Authentication, Authorization
from sidecar.config.faults import expected
from sidecar.config.fields import (
    ClassReference,
    FilePath,
    Many,
    Section,
    StateUrl,
    Within,
    section_or_defaults,
    written,
)
from sidecar.config.limits import Limit
from sidecar.config.listen import Listen
from sidecar.config.telemetry import Probes, Telemetry
from sidecar.config.units import Duration, Size
from sidecar.config.upstream import Upstream

STATE_DIRECTORY = "./state"
EVENTS_FILE = Path("audit", "events.jsonl")
LIMITS_FILE = Path("limits.bin")
PROOFS_FILE = Path("proofs.bin")
STORE = Path("store")  # in state.directory, whose root a mount may leave open to others
HASH_KEY_FILE = Path("store", "api-keys.key")


class State(Section):
    """What the sidecar keeps."""

    directory: FilePath = Field(written(STATE_DIRECTORY), description="Directory for everything it keeps.")
    url: StateUrl = Field(
        written("sqlite"),
        description="Where what is administered is kept: `sqlite`, a file in `directory`, or `postgresql://…`, whose "
        "password is in a file that `passfile=` names.",
    )
    max_staleness: Annotated[Duration, Within(Duration(1), Duration(60))] = Field(
        written("5s"),
        description="How long a worker relies on what it was told of keys and revocations, where nobody says that it "
        "still holds. Calls that depend on it are refused from then on.",
    )


class Plugin(Section):
    """An interceptor of your own."""

    use: ClassReference = Field(
        description="Its class: `./path/file.py:Class`, relative to the config file, or `package.module:Class`."
    )
    settings: dict[str, Any] = Field(
        written({}),
        description="Keyword arguments for the class. They are shown by `config show`: name secrets by their file.",
    )


class Audit(Section):
    """What is recorded of calls."""

    file: FilePath | None = Field(
        None, description="JSON-lines file of events; `<state.directory>/audit/events.jsonl` where unset."
    )


WORKERS_MAX = 64


def _workers(value: Any) -> int | Literal["auto"]:
    if value == "auto" or (type(value) is int and 1 <= value <= WORKERS_MAX):
        return value  # type: ignore[no-any-return]
    raise expected(f"a number from 1 to {WORKERS_MAX}, or auto")


class Config(Section):
    """A sidecar's whole configuration."""

    listen: Annotated[Listen, BeforeValidator(section_or_defaults)] = Field(
        written({}), description="Where callers connect."
    )
    upstream: Annotated[Upstream, BeforeValidator(section_or_defaults)] = Field(
        written({}), description="The model server."
    )
    state: Annotated[State, BeforeValidator(section_or_defaults)] = Field(
        written({}), description="What the sidecar keeps."
    )
    authentication: Annotated[Authentication, BeforeValidator(section_or_defaults)] = Field(
        written({}), description="How callers prove who they are."
    )
    authorization: Annotated[Authorization, BeforeValidator(section_or_defaults)] = Field(
        written({}), description="What callers may do: nothing, but for what a rule allows."
    )
    limits: Many[Limit] = Field(
        (),
        description="How much callers may call; what is refused by authorization is not counted. All of them apply, "
        "and a call that one refuses takes from none.",
    )
    interceptors: Many[Plugin] = Field(
        (), description="Interceptors of your own, in order; they stand after authorization and limits."
    )
    audit: Annotated[Audit, BeforeValidator(section_or_defaults)] = Field(
        written({}), description="What is recorded of calls."
    )
    telemetry: Annotated[Telemetry, BeforeValidator(section_or_defaults)] = Field(
        written({}), description="Traces and the access log."
    )
    probes: Annotated[Probes, BeforeValidator(section_or_defaults)] = Field(
        written({}), description="Health, readiness and metrics for whoever runs the sidecar."
    )
    workers: Annotated[
        int | Literal["auto"],
        PlainValidator(_workers),
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": WORKERS_MAX}]}),
    ] = Field(
        1,
        description="Relay processes, which share the listener; `auto` is one for each core that the sidecar may use. "
        "Limits of `listen` hold for each of them.",
    )
    worker_memory: Annotated[Size, Within(Size(128 << 20), Size(1 << 40))] = Field(
        written("2GiB"),
        description="Memory of one relay process beyond which another takes its place, while it finishes its calls.",
    )
    unsafe_observe_only: bool = Field(
        False, description="UNSAFE: deny nothing; record what would have been denied. For trying out rules."
    )

    @property
    def events_file(self) -> Path:
        """Where events are recorded."""
        return self.audit.file or self.state.directory / EVENTS_FILE

    @property
    def limited(self) -> bool:
        """Whether any caller may have a budget."""
        return bool(self.limits) or self.authentication.api_keys is not None

    @property
    def stateful(self) -> bool:
        """Whether anything is administered, and so kept in a database."""
        given = self.authentication
        return given.api_keys is not None or given.revocations or self.authorization.policies

    @property
    def store_directory(self) -> Path:
        """Where the database is, or what goes with one that is elsewhere."""
        return self.state.directory / STORE

    @property
    def hash_key_file(self) -> Path:
        """With the key of API keys' hashes."""
        given = self.authentication.api_keys
        return given.hash_key if given and given.hash_key else self.state.directory / HASH_KEY_FILE

    @property
    def limits_file(self) -> Path:
        """Where the buckets of the limits are kept."""
        return self.state.directory / LIMITS_FILE

    @property
    def proofs_file(self) -> Path:
        """Where it is kept which proofs of possession were used."""
        return self.state.directory / PROOFS_FILE

    @property
    def memory(self) -> int:
        """Bytes that a worker may hold before it takes no more calls; by then another should have taken its place."""
        return int(self.listen.limits.memory or self.worker_memory * 3 // 2)

    def warnings(self) -> tuple[str, ...]:
        """The key path of every `unsafe_…` setting that is on."""
        return tuple(_unsafe(self, ""))

    def effective(self) -> dict[str, Any]:
        """All of it, defaults included, as a config file would spell it: JSON types only."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """SHA-256 of the effective config as canonical JSON, hex. What files hold is not part of it."""
        text = json.dumps(self.effective(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _unsafe(section: BaseModel, prefix: str) -> Iterator[str]:
    for name, value in section:
        if isinstance(value, BaseModel):
            yield from _unsafe(value, f"{prefix}{name}.")
        elif name.startswith("unsafe_") and value:
            yield prefix + name
