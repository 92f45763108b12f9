"""PolicyService on a real gRPC server in this process, over either database, and callers of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from interceptors.events import Event
from langtrain.v1 import policies_pb2 as pb
from langtrain.v1.policies_pb2_grpc import PolicyServiceStub
from sidecar.audit.ports import AuditError
from sidecar.internal import mac
from sidecar.internal.mac import Caller
from sidecar.policy.bootstrap import bootstrap
from sidecar.policy.desk import PolicyDesk
from sidecar.policy.inquiry import Calls, Inquiry, Window
from sidecar.policy.live import Live
from sidecar.policy.service import Counter
from sidecar.services.model_server_grpc import GrpcModelServer
from sidecar.services.server import CALLS, Services, Settings
from sidecar.state.database_sqlite import SqliteDatabase
from sidecar.state.outbox import Outbox
from sidecar.state.store import DatabaseStore
from tests.operations.in_memory import InMemory
from tests.services.calls import LIMIT_S, details, seal
from tests.services.front import boottime

KEY = bytes(range(32))
NOW = 1_800_000_000.0
ADMIN = Caller("spiffe", "spiffe://example.org/admin", "default", "192.0.2.1")
BOB = Caller("user", "user:corp/bob", "default", "192.0.2.2")
STRANGER = Caller("user", "user:corp/eve", "other", "192.0.2.3")
# Of another tenant, whose issuer may make administrators there.
OTHER_ADMIN = Caller("user", "user:other/admin", "other", "192.0.2.4", ("builtin.admin",))


class Refused(Exception):
    """How a call of ours failed."""

    def __init__(self, error: Any) -> None:
        self.code: str = error.code().name
        self.reason, self.fields = details(error.trailing_metadata())
        super().__init__(f"{self.code} {self.reason} {error.details()} {self.fields}")


class Client:
    """One caller. Each method of the service is one of this, from a request to an answer; raises Refused."""

    def __init__(self, opened: grpc.Channel, caller: Caller) -> None:
        self._stub: Any = PolicyServiceStub(opened)
        self._caller = caller

    def __getattr__(self, method: str) -> Callable[[Message], Any]:
        return partial(self._call, method)

    def _call(self, method: str, request: Message) -> Any:
        sealed = seal(KEY, f"/langtrain.v1.PolicyService/{method}", self._caller)
        try:
            return getattr(self._stub, method)(request, timeout=LIMIT_S, metadata=[(mac.CALL_HEADER, sealed)])
        except grpc.RpcError as error:
            raise Refused(error) from None

    # What many tests do first.

    def role(self, name: str, *permissions: str, **more: Any) -> pb.Role:
        made: pb.Role = self.CreateRole(
            pb.CreateRoleRequest(role=pb.Role(name=name, permissions=permissions), **more)
        ).role
        return made

    def group(self, name: str, *members: str) -> pb.Group:
        made: pb.Group = self.CreateGroup(pb.CreateGroupRequest(group=pb.Group(name=name, members=members))).group
        return made

    def grant(self, member: str, role: str, *resources: str, **more: Any) -> pb.Grant:
        said = pb.Grant(members=[member], role=role, resources=resources or ["**"], **more)
        made: pb.Grant = self.CreateGrant(pb.CreateGrantRequest(grant=said)).grant
        return made

    def policy(self, name: str, condition: str, effect: pb.Effect.ValueType = pb.EFFECT_DENY, **more: Any) -> pb.Policy:
        """One that may shut out whoever makes it, too: see `test_lockout`."""
        said = pb.Policy(name=name, effect=effect, condition=condition, **more)
        made: pb.Policy = self.CreatePolicy(pb.CreatePolicyRequest(policy=said, allow_lockout=True)).policy
        return made

    def may(self, principal: str, permission: str, resource: str = "models/fraud-1") -> bool:
        question = pb.Question(subject=pb.Subject(principal=principal), permission=permission, resource=resource)
        allowed: bool = self.Check(pb.CheckRequest(question=question)).decision.allowed
        return allowed


class Scene:
    """A service over a store, with the time that it is there, what it recorded, and who calls it."""

    def __init__(self, store: DatabaseStore, directory: Path) -> None:
        self.store = store
        self.now = NOW
        self.recorded: list[Event] = []
        self.unrecorded = False
        self.calls = Calls()  # of late
        self.windows: list[Window] = []  # for which they were asked
        self.live = Live(store)
        self.live.configure(bootstrap([ADMIN.name]))
        outbox = Outbox(store, self._record, "of the tests")
        self.desk = PolicyDesk(store, self.live, outbox, lambda: self.now, os.urandom)
        counter = Counter(self.desk, Inquiry(self.live, self._called), lambda: self.now)
        upstream = GrpcModelServer(partial(grpc.insecure_channel, "unix:///nowhere.sock"))
        settings = Settings(directory / "services", calls=8)
        self._services = Services(settings, KEY, InMemory(), upstream, lambda refusal: None, boottime, None, counter)
        self._services.start()
        self._opened = grpc.insecure_channel(f"unix:{settings.directory / CALLS}")
        self.admin = self.client(ADMIN)
        self.bob = self.client(BOB)

    def client(self, caller: Caller) -> Client:
        return Client(self._opened, caller)

    def close(self) -> None:
        self._opened.close()
        self._services.stop(1.0)

    def _called(self, tenant: str, window: Window) -> Calls:
        self.windows.append(window)
        return self.calls

    def _record(self, events: Sequence[Event]) -> None:
        if self.unrecorded:
            raise AuditError("the disk is full")
        self.recorded += events


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One for all tests of a file that change nothing, over SQLite."""
    with tempfile.TemporaryDirectory(prefix="lt") as directory:
        store = DatabaseStore(SqliteDatabase(tmp_path_factory.mktemp("alone") / "state"))
        made = Scene(store, Path(directory))
        yield made
        made.close()
        store.close()


@pytest.fixture
def scene(store: DatabaseStore) -> Iterator[Scene]:
    # Not pytest's directory: a Unix socket's path has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="lt") as directory:
        made = Scene(store, Path(directory))
        yield made
        made.close()


def seconds(stamp: Any) -> float:
    return stamp.seconds + stamp.nanos / 1e9  # type: ignore[no-any-return]
