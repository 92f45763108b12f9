"""The two sides of nghttp2 as subjects: the C library without a socket, by ctypes (Debian: libnghttp2-14)."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterable
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    byref,
    c_int,
    c_int32,
    c_size_t,
    c_ssize_t,
    c_uint8,
    c_uint32,
    c_void_p,
)
from functools import cache
from typing import Any, Final

from sidecar.relay.http2 import frames
from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.fields import Field
from tests.fuzz.verdicts import REQUEST, RESPONSE, TRAILERS, Act, Verdict, read_output, told

_TEMPORAL: Final = -521  # NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE: the message is malformed
_BAD_MAGIC: Final = -903
_NO_END: Final = 0x2  # NGHTTP2_DATA_FLAG_NO_END_STREAM
_EOF: Final = 0x1  # NGHTTP2_DATA_FLAG_EOF
_IDLE: Final = 1  # NGHTTP2_STREAM_STATE_IDLE: named by a priority only
_PLENTY: Final = 1_000_000


class _Head(Structure):
    _fields_ = (
        ("length", c_size_t), ("stream", c_int32), ("kind", c_uint8), ("flags", c_uint8), ("reserved", c_uint8),
    )  # fmt: skip


class _Frame(Structure):
    """nghttp2_frame, as far as it is read here: the head, and the word behind it (RST_STREAM's code)."""

    _fields_ = (("head", _Head), ("word", c_uint32))


class _Pair(Structure):
    """nghttp2_nv."""

    _fields_ = (
        ("name", ctypes.c_char_p), ("value", ctypes.c_char_p), ("name_length", c_size_t), ("value_length", c_size_t),
        ("flags", c_uint8),
    )  # fmt: skip


class _Setting(Structure):
    _fields_ = (("key", c_int32), ("value", c_uint32))


_Read = CFUNCTYPE(c_ssize_t, c_void_p, c_int32, c_void_p, c_size_t, POINTER(c_uint32), c_void_p, c_void_p)


class _Provider(Structure):
    """nghttp2_data_provider."""

    _fields_ = (("source", c_void_p), ("read", _Read))


_OnFrame = CFUNCTYPE(c_int, c_void_p, POINTER(_Frame), c_void_p)
_OnField = CFUNCTYPE(
    c_int, c_void_p, POINTER(_Frame), c_void_p, c_size_t, c_void_p, c_size_t, c_uint8, c_void_p
)  # fmt: skip
_OnData = CFUNCTYPE(c_int, c_void_p, c_uint8, c_int32, c_void_p, c_size_t, c_void_p)
_OnClose = CFUNCTYPE(c_int, c_void_p, c_int32, c_uint32, c_void_p)


@cache
def library() -> ctypes.CDLL | None:
    """The library, or None where it is not installed."""
    name = ctypes.util.find_library("nghttp2")
    if name is None:
        return None
    found = ctypes.CDLL(name)
    found.nghttp2_session_mem_recv.restype = c_ssize_t
    found.nghttp2_session_mem_recv.argtypes = (c_void_p, ctypes.c_char_p, c_size_t)
    found.nghttp2_session_mem_send.restype = c_ssize_t
    found.nghttp2_session_mem_send.argtypes = (c_void_p, POINTER(c_void_p))
    found.nghttp2_session_get_remote_window_size.argtypes = (c_void_p,)
    found.nghttp2_session_get_stream_remote_window_size.argtypes = (c_void_p, c_int32)
    found.nghttp2_session_get_stream_local_close.argtypes = (c_void_p, c_int32)
    found.nghttp2_stream_get_state.argtypes = (c_void_p,)
    found.nghttp2_session_want_read.argtypes = (c_void_p,)
    found.nghttp2_session_find_stream.argtypes = (c_void_p, c_int32)
    found.nghttp2_session_find_stream.restype = c_void_p
    found.nghttp2_session_del.argtypes = (c_void_p,)
    found.nghttp2_session_del.restype = None
    found.nghttp2_submit_rst_stream.argtypes = (c_void_p, c_uint8, c_int32, c_uint32)
    found.nghttp2_submit_headers.argtypes = (
        c_void_p, c_uint8, c_int32, c_void_p, POINTER(_Pair), c_size_t, c_void_p,
    )  # fmt: skip
    found.nghttp2_submit_data.argtypes = (c_void_p, c_uint8, c_int32, POINTER(_Provider))
    found.nghttp2_submit_settings.argtypes = (c_void_p, c_uint8, POINTER(_Setting), c_size_t)
    return found


class _Info(Structure):
    """nghttp2_info."""

    _fields_ = (("age", c_int), ("number", c_int), ("version", ctypes.c_char_p), ("protocol", ctypes.c_char_p))


def library_version() -> str:
    found = library()
    assert found is not None
    found.nghttp2_version.restype = POINTER(_Info)
    text: bytes = found.nghttp2_version(0).contents.version
    return text.decode()


_sessions: dict[int, Nghttp2] = {}


def _on_frame(session: int, frame: Any, _: object) -> int:
    head = frame.contents.head
    subject = _sessions[session]
    if head.kind == frames.HEADERS:
        subject.block_ended(head.stream)
    elif head.kind == frames.RST_STREAM:
        stream = subject.library.nghttp2_session_find_stream(subject.session, head.stream)
        if stream and subject.library.nghttp2_stream_get_state(stream) != _IDLE:
            subject.peer_reset(head.stream, frame.contents.word)
        return 0
    elif head.kind != frames.DATA:
        return 0
    if head.flags & frames.END_STREAM:
        subject.events.append(("end", head.stream))
    return 0


def _on_begin(session: int, frame: Any, _: object) -> int:
    _sessions[session].fields = []
    return 0


def _on_field(session: int, frame: Any, name: int, name_size: int, value: int, size: int, flags: int, _: object) -> int:
    _sessions[session].fields.append((ctypes.string_at(name, name_size), ctypes.string_at(value, size)))
    return 0


def _on_bad_field(
    session: int, frame: Any, name: int, name_size: int, value: int, size: int, flags: int, _: object
) -> int:
    return _TEMPORAL


def _on_data(session: int, flags: int, stream: int, data: int, size: int, _: object) -> int:
    _sessions[session].events.append(("data", stream, ctypes.string_at(data, size)))
    return 0


def _on_close(session: int, stream: int, code: int, _: object) -> int:
    subject = _sessions.get(session)
    if subject is not None and code == ErrorCode.REFUSED_STREAM:
        subject.peer_reset(stream, code)
    return 0


def _read(session: int, stream: int, buffer: int, size: int, flags: Any, source: object, _: object) -> int:
    count = min(size, _sessions[session].saying)
    ctypes.memset(buffer, 0, count)
    _sessions[session].saying -= count
    if not _sessions[session].saying:
        flags[0] = _EOF | _NO_END
    return count


_HOOKS = (
    ("on_frame_recv", _OnFrame(_on_frame)), ("on_begin_headers", _OnFrame(_on_begin)),
    ("on_header", _OnField(_on_field)), ("on_invalid_header", _OnField(_on_bad_field)),
    ("on_data_chunk_recv", _OnData(_on_data)), ("on_stream_close", _OnClose(_on_close)),
)  # fmt: skip
_PROVIDER = _Provider(None, _Read(_read))


@cache
def _prepared() -> tuple[ctypes.CDLL, c_void_p, c_void_p]:
    """The library, what it calls, and its options: no limit of its own is met."""
    found = library()
    assert found is not None, "nghttp2 is not installed (Debian: libnghttp2-14)"
    callbacks, option = c_void_p(), c_void_p()
    found.nghttp2_session_callbacks_new(byref(callbacks))
    for name, hook in _HOOKS:
        getattr(found, f"nghttp2_session_callbacks_set_{name}_callback")(callbacks, hook)
    found.nghttp2_option_new(byref(option))
    found.nghttp2_option_set_max_outbound_ack(option, c_size_t(_PLENTY))
    found.nghttp2_option_set_max_continuations(option, c_size_t(_PLENTY))
    found.nghttp2_option_set_no_closed_streams(option, 1)
    return found, callbacks, option


def _pairs(fields: Iterable[Field]) -> Any:
    listed = list(fields)
    return (_Pair * len(listed))(*(_Pair(name, value, len(name), len(value), 0) for name, value in listed))


class Nghttp2:
    def __init__(self, client: bool) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.fields: list[Field] = []  # of the block being read
        self.saying = 0  # bytes of DATA to be sent
        self.credit: dict[int, int] = {}
        self.library, callbacks, option = _prepared()
        self.session = c_void_p()
        new = self.library.nghttp2_session_client_new2 if client else self.library.nghttp2_session_server_new2
        assert new(byref(self.session), callbacks, None, option) == 0
        assert self.session.value is not None
        _sessions[self.session.value] = self
        settings = (_Setting * 1)(_Setting(frames.ENABLE_PUSH, 0) if client else _Setting(3, 1_000))
        self.library.nghttp2_submit_settings(self.session, 0, settings, 1)
        self._sent(Verdict())

    def block_ended(self, stream: int) -> None:
        fields = self.fields
        kind = "trailers"
        if fields and fields[0][0][:1] == b":":
            status = dict(fields).get(b":status", b"")
            kind = "informational" if status[:1] == b"1" else "head"
        self.events.append((kind, stream, tuple(fields)))

    def peer_reset(self, stream: int, code: int) -> None:
        event = ("refused", stream) if code == ErrorCode.REFUSED_STREAM else ("reset", stream, code)
        if event not in self.events:
            self.events.append(event)

    def receive(self, octets: bytes) -> Verdict:
        verdict = Verdict()
        taken = self.library.nghttp2_session_mem_recv(self.session, octets, len(octets))
        verdict.events = told(self.events)
        self.events.clear()
        if taken < 0:
            verdict.fault = ErrorCode.PROTOCOL_ERROR if taken == _BAD_MAGIC else -taken
        self._sent(verdict)
        return verdict

    @property
    def over(self) -> bool:
        return not self.library.nghttp2_session_want_read(self.session)

    def window(self, stream: int) -> int:
        if not stream:
            return max(0, int(self.library.nghttp2_session_get_remote_window_size(self.session)))
        return int(self.library.nghttp2_session_get_stream_remote_window_size(self.session, stream))

    def _sent(self, verdict: Verdict) -> None:
        at, parts = c_void_p(), []
        while (size := self.library.nghttp2_session_mem_send(self.session, byref(at))) > 0:
            parts.append(ctypes.string_at(at, size))
        assert size == 0, f"nghttp2_session_mem_send: {size}"
        read_output(b"".join(parts), verdict, self.credit)

    def act(self, act: Act) -> bool:
        done = self._act(act)
        self._sent(Verdict())
        return done >= 0 and not self.saying

    def _act(self, act: Act) -> int:
        if act.deed == "open":
            return self._head(-1, REQUEST, frames.END_STREAM if act.size else 0)
        if act.deed == "reset":
            return int(self.library.nghttp2_submit_rst_stream(self.session, 0, act.stream, ErrorCode.CANCEL))
        if self.library.nghttp2_session_get_stream_local_close(self.session, act.stream) != 0:
            return -1
        if act.deed == "head":
            return self._head(act.stream, RESPONSE, 0)
        if act.deed == "end":
            return self._head(act.stream, TRAILERS, frames.END_STREAM)
        self.saying = act.size
        return int(self.library.nghttp2_submit_data(self.session, 0, act.stream, byref(_PROVIDER)))

    def _head(self, stream: int, fields: tuple[Field, ...], flags: int) -> int:
        pairs = _pairs(fields)
        return int(self.library.nghttp2_submit_headers(self.session, flags, stream, None, pairs, len(fields), None))

    def close(self) -> None:
        if self.session.value is not None:
            self.library.nghttp2_session_del(self.session)
            del _sessions[self.session.value]
            self.session = c_void_p()
