"""MLServer and KServe as upstreams: processes on loopback, and their clients, each in a virtual environment."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from tests.peers import venvs
from tests.peers.targets import DEADLINE, Target, plain_unary
from tests.processes import Process

FOREIGN = venvs.HERE / "foreign"
READY = b"\x08\x01"  # ServerReadyResponse{ready: true}


@dataclass(frozen=True, slots=True)
class ModelServer:
    """A running model server.  target: its gRPC port.  ports: the others that it opens."""

    target: Target
    ports: tuple[int, ...]


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on just now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def write_repository(directory: Path, grpc_port: int, http_port: int) -> None:
    """MLServer's folder: settings, the classifier `digits`, a text model as `words` and `secret`, and `sums`,
    whose answers depend on earlier ones.
    """
    settings = {
        "host": "127.0.0.1",
        "grpc_port": grpc_port,
        "http_port": http_port,
        "parallel_workers": 0,
        # MLServer streams neither through gzip nor with its metrics on.
        "gzip_enabled": False,
        "metrics_endpoint": None,
    }
    _json(directory / "settings.json", settings)
    models = {"digits": ("mlserver_sklearn.SKLearnModel", {"uri": "./model.joblib", "version": "v1"})}
    models |= dict.fromkeys(("words", "secret"), ("words.Words", {"version": "v1"}))
    models["sums"] = ("sums.Sums", {"version": "v1"})
    for name, (implementation, parameters) in models.items():
        folder = directory / name
        folder.mkdir()
        _json(
            folder / "model-settings.json",
            {"name": name, "implementation": implementation, "parameters": parameters},
        )
        source = implementation.partition(".")[0] + ".py"
        if name != "digits":
            shutil.copy(FOREIGN / source, folder / source)
    training = [venvs.python("mlserver"), str(FOREIGN / "train_digits.py"), str(directory / "digits" / "model.joblib")]
    with Process(training) as process:
        assert process.wait(DEADLINE) == 0, process.tail()


def _json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content), "utf-8")


@contextmanager
def mlserver(directory: Path) -> Iterator[ModelServer]:
    """MLServer with the models of `write_repository`. Skips the test where MLServer is not installed."""
    python = venvs.python("mlserver")
    grpc_port, http_port = free_ports(2)
    write_repository(directory, grpc_port, http_port)
    command = [python, "-c", "from mlserver.cli import main; main()", "start", str(directory)]
    with Process(command, directory=directory) as process:
        yield _ready(process, ModelServer(Target(f"127.0.0.1:{grpc_port}"), (http_port,)))


@contextmanager
def kserve(directory: Path) -> Iterator[ModelServer]:
    """KServe's server with the model `double`. Skips the test where KServe is not installed."""
    python = venvs.python("kserve")
    grpc_port, http_port = free_ports(2)
    command = [python, str(FOREIGN / "kserve_server.py"), str(grpc_port), str(http_port)]
    with Process(command, directory=directory) as process:
        yield _ready(process, ModelServer(Target(f"127.0.0.1:{grpc_port}"), (http_port,)))


def _ready(process: Process, server: ModelServer) -> ModelServer:
    process.wait_line(lambda line: "gRPC server" in line, timeout=DEADLINE)
    with server.target.channel() as channel:
        grpc.channel_ready_future(channel).result(DEADLINE)
        ready = plain_unary(channel, "/inference.GRPCInferenceService/ServerReady")
        assert ready(b"", timeout=DEADLINE) == READY, process.tail()
    return server


def client(venv: str, script: str, *arguments: str, target: Target, stranger: bool = False) -> Any:
    """What a client program of `foreign` wrote as JSON. stranger: it presents the stranger's certificate."""
    command = [venvs.python(venv), str(FOREIGN / script)]
    files: list[str] = []
    if target.certificates:
        pair = target.certificates.stranger if stranger else target.certificates.client
        files = [str(target.certificates.ca), str(pair.certificate), str(pair.key)]
    command += [argument.replace("ADDRESS", target.address) for argument in arguments] + files
    with Process(command) as process:
        line = process.wait_line(lambda line: line.startswith("{"), timeout=DEADLINE)
        assert process.wait() == 0, process.tail()
    return json.loads(line)
