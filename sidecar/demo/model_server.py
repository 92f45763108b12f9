"""MLServer with the demo's two models, on loopback only."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sidecar.demo.children import Child, Children
from sidecar.demo.errors import DemoError

HERE = Path(__file__).resolve().parent
MODELS = ("digits", "topics")
TRAIN_S = 120.0
READY_S = 60.0
TRIES = 3  # another program may take a free port before MLServer does


@dataclass(frozen=True, slots=True)
class Ports:
    grpc: int
    rest: int
    metrics: int


def train(children: Children, python: Path, directory: Path) -> dict[str, Any]:
    """Train both models into the model repository `directory`; what training said of them, see models/train.py."""
    command = [str(python), str(HERE / "models" / "train.py"), str(directory)]
    child = children.start("training", command, directory=directory.parent)
    status = child.wait_for("the end of training", child.process.poll, TRAIN_S)
    if status != 0:
        raise DemoError(f"training the models failed with status {status}:\n{child.tail()}")
    report: dict[str, Any] = json.loads((directory / "samples.json").read_text("utf-8"))
    return report


def start(children: Children, python: Path, directory: Path) -> Ports:
    """Serve the model repository `directory`; returns when both models answer. Raises DemoError."""
    for attempt in range(1, TRIES + 1):
        ports = _free_ports()
        settings = {
            "host": "127.0.0.1",
            "grpc_port": ports.grpc,
            "http_port": ports.rest,
            "metrics_port": ports.metrics,
            "parallel_workers": 0,
            "debug": False,
        }
        (directory / "settings.json").write_text(json.dumps(settings), "utf-8")
        child = children.start("MLServer", [str(python.with_name("mlserver")), "start", "."], directory=directory)
        try:
            child.wait_for("both models were ready", partial(_ready, ports), READY_S)
        except DemoError:
            if attempt == TRIES or not _port_was_taken(child):
                raise
            children.stop(child)
        else:
            return ports
    raise AssertionError("the last attempt returns or raises")


def _free_ports() -> Ports:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    numbers = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return Ports(*numbers)


def _port_was_taken(child: Child) -> bool:
    return "address already in use" in child.said().lower() or "failed to bind" in child.said().lower()


def _ready(ports: Ports) -> bool | None:
    """True, or None while a model or the gRPC port does not answer."""
    try:
        socket.create_connection(("127.0.0.1", ports.grpc), timeout=1).close()
        connection = http.client.HTTPConnection("127.0.0.1", ports.rest, timeout=1)
        for model in MODELS:
            connection.request("GET", f"/v2/models/{model}/ready")
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                return None
    except (OSError, http.client.HTTPException):
        return None
    return True
