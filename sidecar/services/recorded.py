"""Calls of late, as the audit trail has them: what a change of policies is tried against."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Any, Final, NamedTuple

from interceptors.authorize import KINDS
from interceptors.contract import OPAQUE
from interceptors.facts import Principal
from sidecar.policy import names
from sidecar.policy.inquiry import Calls, Window
from sidecar.policy.model import Attributes, Question
from sidecar.relay.codecs.registry import registry

TAIL: Final = 8 << 20  # bytes of the trail that are looked at
ALLOWED: Final = "call.allowed"
CALLS: Final = (ALLOWED, "call.denied")


class DescribedMethod(NamedTuple):
    """A `registry.OpaqueMethod`."""

    name: str
    permission: str | None
    unary_request: bool = False
    unary_response: bool = False


class DescribedService(NamedTuple):
    """A `registry.OpaqueService`."""

    service: str
    permission: str | None
    methods: tuple[DescribedMethod, ...]
    model_field: tuple[int, ...] = ()


def described(plain: Mapping[str, Any]) -> DescribedService:
    """plain: one of the config's `upstream.services`."""
    methods = (DescribedMethod(each["name"], each["permission"]) for each in plain["methods"])
    return DescribedService(plain["service"], plain["permission"], tuple(methods))


class Recorded:
    """file: of events, JSON lines.  protocol, services: as of `registry`."""

    def __init__(self, file: Path, protocol: str, services: Sequence[DescribedService]) -> None:
        self._file = file
        self._codecs = registry(protocol, services)

    def calls(self, tenant: str, window: Window) -> Calls:
        """What calls of a tenant asked for by their methods, each principal, method and model once, the last first.

        Of their attributes there are those that are recorded: method, model and version of the request, the source and
        when it was. What tokens said of the caller is not, nor what messages demanded beside.
        """
        found: dict[tuple[str, str, str], Question] = {}
        lines, cut = _tail(self._file)
        total, first, last, more, all_seen = 0, inf, 0.0, False, not cut
        for line in reversed(lines):
            event = _event(line, tenant)
            if event is None:
                continue
            time = datetime.fromisoformat(event["time"]).timestamp()
            all_seen = all_seen or time < window.since
            if not window.since <= time < window.until:
                continue
            key = (event["principal"], event["method"], event["model"])
            if key not in found:
                question = self._question(event, tenant, time)
                if question is None:
                    continue
                if len(found) == window.most:
                    more = True
                    continue
                found[key] = question
            total, first, last = total + event["count"], min(first, time), max(last, time)
        return Calls(list(found.values()), total, first if total else 0.0, last, more or not all_seen)

    def _question(self, event: Mapping[str, Any], tenant: str, time: float) -> Question | None:
        kind = next((kind for kind, prefix in KINDS.items() if event["principal"].startswith(prefix)), None)
        if kind is None:
            return None
        method = self._codecs.method(event["method"])
        model, version = _parted(event["model"])
        resource, request = f"tenants/{tenant}", {"method": event["method"]}
        if model:
            resource += f"/models/{names.segment(model)}"
            request |= {"model": model, "version": version}
            if version:
                resource += f"/versions/{names.segment(version)}"
        return Question(
            Principal(kind, event["principal"], tenant),  # type: ignore[arg-type]
            OPAQUE if method is None else method.permission,
            resource,
            Attributes(request=request, environment={"source": event["source"]}),
            time,
            event["kind"] == ALLOWED,
        )


def _tail(file: Path) -> tuple[list[bytes], bool]:
    """Its last lines, none of them cut; and whether there are others before them."""
    try:
        with file.open("rb") as trail:
            size = trail.seek(0, os.SEEK_END)
            trail.seek(max(0, size - TAIL))
            lines = trail.read(TAIL).split(b"\n")
    except FileNotFoundError:
        return [], False
    return lines[1 if size > TAIL else 0 : -1], size > TAIL


def _event(line: bytes, tenant: str) -> dict[str, Any] | None:
    """A call of the tenant's, None for whatever else there is."""
    if b'"kind":"call.' not in line:
        return None
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return None  # the disk's fault, and of no moment here
    return event if event["kind"] in CALLS and event["tenant"] == tenant and event["method"] else None


def _parted(model: str) -> tuple[str, str]:
    """What was called, and its version, as records spell them: "digits/2"."""
    name, _, version = model.rpartition("/")
    return (name, version) if name and version.isdecimal() else (model, "")
