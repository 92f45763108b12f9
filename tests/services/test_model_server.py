"""The services' own connection to the model server follows reloads, and what its certificates' files hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest as Question

from interceptors.contract import Code
from sidecar.processes.messages import Abandon, Commit, Prepare
from sidecar.services.model_server_grpc import GrpcModelServer
from sidecar.services.process import InForce, channel
from sidecar.services.reflection import ModelServerError
from tests.certificates import Certificates, make
from tests.peers import messages
from tests.services import running


class Scene:
    """A model server of each of two authorities, and the services' own view of the first."""

    def __init__(self, directory: Path, cleanup: ExitStack) -> None:
        self.authorities = [make(directory / name) for name in ("first", "second")]
        self.targets: list[str] = []
        for authority in self.authorities:
            pair = authority.server.key.read_bytes(), authority.server.certificate.read_bytes()
            credentials = grpc.ssl_server_credentials([pair], authority.ca.read_bytes(), require_client_auth=True)
            server = running.ModelServer(directory, credentials)
            cleanup.callback(server.stop)
            self.targets.append(server.target)
        self.view = InForce(self.settings(0), lambda settings: None)
        self.asked = GrpcModelServer(lambda: channel(self.view.settings["model_server"]))

    def settings(self, which: int, target: int | None = None) -> dict[str, Any]:
        mine: Certificates = self.authorities[which]
        tls = {
            "ca": str(mine.ca), "certificate": str(mine.sidecar.certificate), "key": str(mine.sidecar.key),
            "server_name": "",
        }  # fmt: skip
        return {"model_server": {"address": self.targets[which if target is None else target], "tls": tls}}

    def answers(self) -> bool:
        """Whether it is connected to, over TLS on both sides."""
        try:
            answer = self.asked.ask(Question(list_services=""))
        except ModelServerError as error:
            return error.status is not Code.UNAVAILABLE
        return messages.SERVICE in {service.name for service in answer.list_services_response.service}

    def rotate(self) -> None:
        """The second authority's files in place of the first's."""
        ours, theirs = ((each.ca, each.sidecar.certificate, each.sidecar.key) for each in self.authorities)
        for one, other in zip(ours, theirs, strict=True):
            one.write_bytes(other.read_bytes())


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as cleanup:
        yield Scene(tmp_path, cleanup)


def test_a_reload_moves_it_once_it_is_committed(scene: Scene) -> None:
    assert scene.answers()
    scene.view.prepare(Prepare(2, scene.settings(0, target=1)))  # a server that it would not trust
    assert scene.answers()
    scene.view.abandon(Abandon(2))
    scene.view.commit(Commit(2))
    assert scene.answers()
    scene.view.prepare(Prepare(3, scene.settings(0, target=1)))
    scene.view.commit(Commit(3))
    assert not scene.answers()
    scene.view.prepare(Prepare(4, scene.settings(1)))
    scene.view.commit(Commit(3))
    assert not scene.answers()
    scene.view.prepare(Prepare(5, scene.settings(1)))
    scene.view.commit(Commit(5))
    assert scene.answers()


def test_what_its_files_hold_counts_from_the_next_question_on(scene: Scene) -> None:
    scene.view.prepare(Prepare(2, scene.settings(0, target=1)))
    scene.view.commit(Commit(2))
    assert not scene.answers()
    scene.rotate()
    assert scene.answers()
    scene.authorities[0].ca.unlink()
    assert not scene.answers()
