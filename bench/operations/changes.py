"""Certificate rotations and config reloads under load: none may lose a call."""

from __future__ import annotations

import json

from bench.harness.callers import Callers
from bench.harness.results import Figure
from bench.harness.scene import Scene, Stage, replace
from bench.operations.given import Given


def run(stage: Stage, given: Given) -> list[Figure]:
    with stage.sidecar() as scene, Callers(scene.address, scene.pki.credentials(), given.rate, given.streams) as load:
        rotated, reloaded = [], []
        for number in range(given.changes):
            rotated.append(scene.reloaded(scene.pki.rotate))
            reloaded.append(scene.reloaded(lambda: _reconfigure(scene, number)))  # noqa: B023 - called at once
        rate, calls, fresh, unbegun = load.rate(), load.calls, load.fresh, load.unbegun
        load.finish()
    about = f"{given.changes} rotations and {given.changes} reloads, {given.streams} streams open"
    return [
        Figure(f"{about}: calls lost", "calls", [len(load.failures)], bar=0),
        Figure(f"{about}: unary calls answered", "calls/s", [round(rate, 1)]),
        Figure(f"{about}: unary calls answered in all", "calls", [calls]),
        Figure(f"{about}: calls answered on fresh connections", "calls", [fresh]),
        Figure(f"{about}: calls not begun, {given.rate:g}/s being too many", "calls", [unbegun]),
        Figure("rotation, from the change of the files until all workers have switched", "s", rotated),
        Figure("reload, from the change of the config until all workers have switched", "s", reloaded),
    ]


def _reconfigure(scene: Scene, number: int) -> None:
    """Another rule each time, which lets nobody else in."""
    rules = [{"identities": [f"spiffe://example.org/changed/{number}"], "methods": ["/bench.Echo/*"]}]
    rules += scene.config["authorization"]["rules"]
    replace(scene.file, json.dumps({**scene.config, "authorization": {"rules": rules}}).encode())
