"""A worker's knowledge of API keys: the file that it was told of, once it is open, and what has changed since.

Used on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, Final

from interceptors.contract import Code
from sidecar.identity.api_keys import ApiKeyError
from sidecar.identity.keys_file import KeyFile, KeyFileError
from sidecar.identity.keys_lookup import KeyChange, KeyLookup
from sidecar.identity.keys_model import HashKey, KeyRecord, decode, holder
from sidecar.identity.keys_ports import HashKeys
from sidecar.identity.keys_used import Used
from sidecar.logs import Log
from sidecar.state.ports import StateError

log = Log("identity")

Changed = Callable[[Collection[str] | None], None]  # names of principals whose keys have; None for any
RETRY_S: Final = 1.0
NEVER: Final = float("-inf")


class StaleKeysError(ApiKeyError):
    """Keys may have changed since they were last known, or are not known yet."""

    code = Code.UNAVAILABLE
    public = "client identity cannot be verified now"

    def __init__(self) -> None:
        super().__init__("identify.key_stale")


class KeysKnown:
    """age: seconds since what was told was known to be so.  changed: told whenever keys have changed, of whom.

    clock: seconds of CLOCK_BOOTTIME.
    """

    def __init__(self, age: Callable[[], float], changed: Changed, clock: Callable[[], float]) -> None:
        self.used = Used()
        self._age = age
        self._changed = changed
        self._clock = clock
        self._so = NEVER  # when whoever tells had read what there is
        self._hash_keys: HashKeys | None = None
        # The file that is to be used, up to which change it is, and of which database.
        self._wanted: tuple[str, int, str] | None = None
        self._opening: asyncio.Future[KeyFile] | None = None
        self._lookup: KeyLookup | None = None
        self._pending: list[KeyChange] = []
        self._told: dict[str, KeyChange] = {}  # all that is so beside the file
        self._began = NEVER  # when whoever tells did
        self._anew = False  # it is another than before

    def configure(self, hash_keys: HashKeys | None) -> None:
        """hash_keys: None where no keys are taken."""
        if hash_keys is not None and (self._hash_keys is None or self._hash_keys.current != hash_keys.current):
            self._lookup = None
        self._hash_keys = hash_keys
        self._open()

    def age(self) -> float:
        """Seconds since all that is known was known to be so; infinite while nothing is."""
        return math.inf if self._lookup is None else max(self._age(), self._clock() - self._so)

    def identify(self, text: str, now: float, max_staleness_s: float) -> KeyRecord:
        """text: the key.  now: Unix seconds. Raises ApiKeyError, StaleKeysError."""
        lookup = self._lookup
        if lookup is None or self.age() > max_staleness_s:
            raise StaleKeysError
        try:
            record = lookup.identify(text, now)
        except KeyFileError as error:
            log.error("api_keys_damaged", error)
            raise StaleKeysError from None
        self.used.note(record.key_id, now)
        return record

    def listen_file(self, _key: str, value: Any) -> None:
        """value: the path, the last change and the database of the file of keys; None where there is none."""
        self._wanted = value
        lookup = self._lookup
        if (
            lookup is not None
            and value is not None
            and (lookup.database != value[2] or lookup.sequence_of_file > value[1])
        ):
            # Another database is in its place, or this one as it was earlier: what is known here is not so any more.
            log.warning("api_keys_another_database")
            lookup.close()
            self._lookup = None
        self._open()

    def listen_so(self, _key: str, value: Any) -> None:
        """value: of `SO`; None where whoever tells has begun anew, and has not read yet."""
        if value is None:
            return
        self._so, began = value
        if began != self._began:
            self._began, self._anew = began, True
            asyncio.get_running_loop().call_soon(self._apply)

    def listen(self, key: str, value: Any) -> None:
        """value: number and body of a key's change; None where the file has it."""
        if value is None:
            self._told.pop(key, None)
            return
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._apply)
        self._told[key] = change = KeyChange(value[0], key, value[1])
        self._pending.append(change)

    def _apply(self) -> None:
        if self._lookup is None:
            return  # once the file is open
        pending, self._pending = self._pending, []
        if self._anew and self._wanted is not None and self._lookup.sequence_of_file >= self._wanted[1]:
            # What another tells goes back, until it has told all, to what was so before; from then on that alone is so,
            # over the file that it goes with.
            self._anew = False
            self._lookup.begin_anew(self._told.values())
            self._changed(None)
        elif pending:
            self._lookup.apply(pending, max(each.sequence for each in pending))
            self._changed({holder(decode(each.body)) for each in pending})

    def _open(self) -> None:
        """In a thread: opening reads the file's directory."""
        if self._wanted is None or self._hash_keys is None or self._opening is not None:
            return
        if self._lookup is not None and self._lookup.sequence_of_file >= self._wanted[1]:
            return
        loop = asyncio.get_running_loop()
        work = partial(_opened, self._wanted, self._hash_keys.current)
        self._opening = loop.run_in_executor(None, work)
        self._opening.add_done_callback(partial(self._opened, self._wanted))

    def _opened(self, wanted: tuple[str, int, str], opening: asyncio.Future[KeyFile]) -> None:
        self._opening = None
        try:
            file = opening.result()
        except (KeyFileError, StateError) as error:
            log.warning("api_keys_unusable", detail=str(error))
            asyncio.get_running_loop().call_later(RETRY_S, self._open)
            return
        if self._hash_keys is None or wanted != self._wanted:
            file.close()
            self._open()
            return
        if self._lookup is None:
            self._lookup = KeyLookup(file, self._hash_keys)
            self._lookup.begin_anew(self._told.values())
            self._changed(None)
        else:
            self._lookup.swap(file)  # of the same database, and later: else there would be none by now
        self._apply()
        self._open()  # perhaps there is another by now


def _opened(wanted: tuple[str, int, str], hash_key: HashKey) -> KeyFile:
    """Raises KeyFileError, StateError."""
    path, sequence, database = wanted
    file = KeyFile(Path(path), hash_key)
    if file.database != database or file.sequence < sequence:
        file.close()
        raise KeyFileError(f"file of API keys {path} is of another database, or not up to change {sequence}")
    return file
