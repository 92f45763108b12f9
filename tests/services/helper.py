"""The services process, alone: python -m tests.services.helper DIRECTORY, its key in hex in KEY."""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from pathlib import Path

import grpc

from sidecar.services.model_server_grpc import GrpcModelServer
from sidecar.services.server import Services, Settings
from tests.operations.in_memory import InMemory
from tests.services.front import boottime


def main() -> None:
    key = bytes.fromhex(os.environ.pop("KEY"))
    nowhere = GrpcModelServer(partial(grpc.insecure_channel, "unix:///nowhere.sock"))
    services = Services(Settings(Path(sys.argv[1])), key, InMemory(), nowhere, lambda refusal: None, boottime)
    services.start()
    print("up", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
