"""A worker's knowledge of API keys: the file that it was told of, once it is open, and what has changed since.

Used on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from interceptors.contract import Code
from sidecar.identity.api_keys import ApiKeyError
from sidecar.identity.keys_file import KeyFile, KeyFileError
from sidecar.identity.keys_lookup import KeyChange, KeyLookup
from sidecar.identity.keys_model import HashKey, KeyRecord
from sidecar.identity.keys_ports import HashKeys
from sidecar.identity.keys_used import Used
from sidecar.logs import Log
from sidecar.state.ports import StateError

log = Log("identity")

RETRY_S: Final = 1.0
NEVER: Final = float("-inf")


class StaleKeysError(ApiKeyError):
    """Keys may have changed since they were last known, or are not known yet."""

    code = Code.UNAVAILABLE
    public = "client identity cannot be verified now"

    def __init__(self) -> None:
        super().__init__("identify.key_stale")


class KeysKnown:
    """age: seconds since what was told was known to be so.  changed: told whenever keys have changed.

    clock: seconds of CLOCK_BOOTTIME.
    """

    def __init__(self, age: Callable[[], float], changed: Callable[[], None], clock: Callable[[], float]) -> None:
        self.used = Used()
        self._age = age
        self._changed = changed
        self._clock = clock
        self._so = NEVER  # when whoever tells had read what there is
        self._hash_keys: HashKeys | None = None
        self._wanted: tuple[str, int] | None = None  # the file that is to be used, and up to which change it is
        self._opening: asyncio.Future[KeyFile] | None = None
        self._lookup: KeyLookup | None = None
        self._pending: list[KeyChange] = []

    def configure(self, hash_keys: HashKeys | None) -> None:
        """hash_keys: None where no keys are taken."""
        if hash_keys is not None and (self._hash_keys is None or self._hash_keys.current != hash_keys.current):
            self._lookup = None
        self._hash_keys = hash_keys
        self._open()

    def identify(self, text: str, now: float, max_staleness_s: float) -> KeyRecord:
        """text: the key.  now: Unix seconds. Raises ApiKeyError, StaleKeysError."""
        lookup = self._lookup
        if lookup is None or max(self._age(), self._clock() - self._so) > max_staleness_s:
            raise StaleKeysError
        try:
            record = lookup.identify(text, now)
        except KeyFileError as error:
            log.error("api_keys_damaged", error)
            raise StaleKeysError from None
        self.used.note(record.key_id, now)
        return record

    def listen_file(self, _key: str, value: Any) -> None:
        """value: the path and the last change of the file of keys; None where there is none."""
        self._wanted = value
        self._open()

    def listen_so(self, _key: str, value: Any) -> None:
        """value: of `SO`; None where whoever tells has begun anew, and has not read yet."""
        if value is not None:
            self._so = value

    def listen(self, key: str, value: Any) -> None:
        """value: number and body of a key's change; None where the file has it."""
        if value is None:
            return
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._apply)
        self._pending.append(KeyChange(value[0], key, value[1]))

    def _apply(self) -> None:
        if self._lookup is None:
            return  # once the file is open
        pending, self._pending = self._pending, []
        if pending:
            self._lookup.apply(pending, max(each.sequence for each in pending))
            self._changed()

    def _open(self) -> None:
        """In a thread: opening reads the file's directory."""
        if self._wanted is None or self._hash_keys is None or self._opening is not None:
            return
        if self._lookup is not None and self._lookup.sequence_of_file >= self._wanted[1]:
            return
        loop = asyncio.get_running_loop()
        work = partial(_opened, Path(self._wanted[0]), self._hash_keys.current)
        self._opening = loop.run_in_executor(None, work)
        self._opening.add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Future[KeyFile]) -> None:
        self._opening = None
        try:
            file = opening.result()
            if self._hash_keys is None:
                file.close()
                return
            if self._lookup is None:
                self._lookup = KeyLookup(file, self._hash_keys)
            else:
                self._lookup.swap(file)
        except (KeyFileError, StateError) as error:
            log.warning("api_keys_unusable", detail=str(error))
            asyncio.get_running_loop().call_later(RETRY_S, self._open)
            return
        self._apply()
        self._open()  # perhaps there is another by now
        self._changed()


def _opened(path: Path, hash_key: HashKey) -> KeyFile:
    return KeyFile(path, hash_key)
