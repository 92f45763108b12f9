"""What is administered: the database that it is kept in, and all of it that is in the services process."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import uuid4

from interceptors.events import Event
from sidecar.identity.bootstrap_desk import KEY_FILE, BootstrapDesk
from sidecar.identity.keys_desk import KeyDesk
from sidecar.identity.keys_hash import FileHashKeys
from sidecar.identity.keys_keeping import KeyKeeping
from sidecar.identity.revocations_desk import RevocationDesk
from sidecar.identity.revocations_keeping import RevocationKeeping
from sidecar.policy.bootstrap import bootstrap
from sidecar.policy.desk import PolicyDesk
from sidecar.policy.inquiry import Calls, Inquiry, Window
from sidecar.policy.keeping import PolicyKeeping
from sidecar.policy.live import Live
from sidecar.policy.service import Counter
from sidecar.services.administrators import GrantedAdministrators
from sidecar.services.recorded import Recorded, described
from sidecar.state.following import Tell
from sidecar.state.housekeeping import Housekeeping
from sidecar.state.opening import open_store
from sidecar.state.outbox import Outbox
from sidecar.telemetry.pulse import boot_clock

KEYS_FILE: Final = "api-keys.bin"


class Keeping(Protocol):
    """Tells workers of one kind of thing that is kept in the state."""

    def start(self) -> None: ...

    def committed(self, sequence: int) -> None:
        """Something was written: from any thread."""

    def close(self) -> None: ...


class State:
    """The database, the events of its changes, and whoever follows them. record: as of Outbox. Raises StateError."""

    def __init__(self, directory: Path, url: str, record: Callable[[Sequence[Event]], None]) -> None:
        self.directory = directory
        self.keepings: list[Keeping] = []
        self.store = open_store(directory, url, self._committed)
        self.outbox = Outbox(self.store, record, uuid4().hex)
        self._housekeeping = Housekeeping(self.store, time.time)

    @classmethod
    def of(cls, settings: dict[str, str] | None, record: Callable[[Sequence[Event]], None]) -> State | None:
        return None if settings is None else cls(Path(settings["directory"]), settings["url"], record)

    def start(self) -> None:
        self.outbox.start()
        self._housekeeping.start()
        for each in self.keepings:
            each.start()

    def close(self) -> None:
        for each in self.keepings:
            each.close()
        self._housekeeping.close()
        self.outbox.close()
        self.store.close()

    def _committed(self, sequence: int) -> None:
        for each in self.keepings:
            each.committed(sequence)


class ApiKeys:
    """All of API keys. tell: from any thread. Raises StateError."""

    def __init__(self, hash_keys: FileHashKeys, state: State, tell: Tell) -> None:
        store, path = state.store, state.directory / KEYS_FILE
        self.desk = KeyDesk(store, state.outbox, hash_keys, time.time, os.urandom)
        state.keepings.append(KeyKeeping(store, self.desk, path, hash_keys, tell, boot_clock))

    @classmethod
    def of(cls, settings: dict[str, str] | None, state: State | None, tell: Tell) -> ApiKeys | None:
        if settings is None or state is None:
            return None
        return cls(FileHashKeys(Path(settings["hash_key"])), state, tell)

    async def touch(self, used: Any) -> None:
        """used: Unix seconds by key id, as a worker has gathered them."""
        await asyncio.get_running_loop().run_in_executor(None, self.desk.touch, dict(used))


class Policies:
    """All of roles, groups, grants and policies. tell: as of ApiKeys."""

    def __init__(self, state: State, tell: Tell) -> None:
        self._live = Live(state.store)
        self._recorded: Recorded | None = None
        self._keeping = PolicyKeeping(state.store, tell, boot_clock, self._live.warm)
        desk = PolicyDesk(state.store, self._live, state.outbox, time.time, os.urandom)
        administrators = GrantedAdministrators(lambda tenant: self._live.configured("grant", tenant))
        self.bootstrap = BootstrapDesk(state.store, state.outbox, administrators, state.directory / KEY_FILE, time.time)
        self.counter = Counter(desk, Inquiry(self._live, self._calls), time.time)
        state.keepings.append(self._keeping)

    @classmethod
    def of(cls, settings: dict[str, Any] | None, state: State | None, tell: Tell) -> Policies | None:
        return None if settings is None or state is None else cls(state, tell)

    def configure(self, settings: dict[str, Any]) -> None:
        """settings: "policies" of `process.main`'s."""
        services = [described(plain) for plain in settings["services"]]
        self._recorded = Recorded(Path(settings["events"]), settings["protocol"], services)
        items = bootstrap(settings["admins"])
        self._live.configure(items)
        self._keeping.configure(items)

    def _calls(self, tenant: str, window: Window) -> Calls:
        return Calls() if self._recorded is None else self._recorded.calls(tenant, window)


class Revocations:
    """All of what is revoked. tell: as of ApiKeys."""

    def __init__(self, state: State, tell: Tell) -> None:
        self._issuers: dict[str, str] = {}
        self._tell = tell
        self.desk = RevocationDesk(state.store, state.outbox, lambda: self._issuers, time.time)
        self._keeping = RevocationKeeping(state.store, self.desk, tell, boot_clock)
        state.keepings.append(self._keeping)

    @classmethod
    def of(cls, settings: dict[str, Any] | None, state: State | None, tell: Tell) -> Revocations | None:
        return None if settings is None or state is None else cls(state, tell)

    def begin(self) -> None:
        """As of RevocationKeeping, once it returns. Before State.start, from any thread. Raises StateError."""
        self._keeping.begin(self._tell)

    def configure(self, settings: dict[str, Any]) -> None:
        """settings: "revocations" of `process.main`'s."""
        self._issuers = settings["issuers"]
