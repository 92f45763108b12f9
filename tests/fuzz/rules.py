"""Where implementations may differ: each rule names the text that allows what we do and what the peer does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from sidecar.relay.http2 import frames
from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.fields import Field
from tests.fuzz.verdicts import Act, Frame, Item, Subject, Verdict, cut

if TYPE_CHECKING:
    from tests.fuzz.differential import Step

_GENERIC: Final = {None, ErrorCode.PROTOCOL_ERROR, ErrorCode.INTERNAL_ERROR}
_HEADS: Final = ("head", "informational", "trailers")  # events that tell of a header block
_BLOCK: Final = (frames.HEADERS, frames.CONTINUATION)
_PAST: Final = ("half-closed", "closed", "reset")  # states in which a peer may send no more DATA or HEADERS
_ALTSVC: Final = 0x0A  # RFC 7838
_STRIPPED: Final = (b"x", b"a")  # what is left of `sequences`' values with whitespace around them
_CONTROLS = re.compile(rb"[\x01-\x08\x0b-\x1f\x7f]")
_VISIBLE = re.compile(rb"[!-~]+")


class Difference:
    """What a peer made of an item, beside what we did.

    place: of the item in its sequence.  kinds: in what they differ: fault, resets, events, answers, windows, act.
    completed: what we make of the item once the frame or block that it leaves unfinished is whole.
    """

    def __init__(
        self,
        peer: str,
        client: bool,
        place: int,
        step: Step,
        theirs: Verdict,
        done: bool,
        subject: Subject,
        completed: Callable[[], Verdict | None],
    ) -> None:
        self.peer = peer
        self.client = client
        self.place = place
        self.step = step
        self.state = step.state
        self.ours = step.verdict
        self.theirs = theirs
        self.credit = (step.credit, subject.credit)
        self.completed = completed
        names = ("fault", "resets", "events", "answers")
        self.kinds = {name for name in names if getattr(self.ours, name) != getattr(theirs, name)}
        if step.done != done:
            self.kinds.add("act")
        if self.ours.fault is None and theirs.fault is None:
            if any(window != subject.window(number) for number, window in step.windows.items()):
                self.kinds.add("windows")

    @cached_property
    def frames(self) -> list[Frame]:
        return cut(self.step.octets)

    @property
    def kind(self) -> int:
        """The type of the item's only or first frame, -1 where there is none."""
        return self.frames[0].kind if self.frames else -1

    @property
    def payload(self) -> bytes:
        """Of that frame."""
        return self.frames[0].payload

    @property
    def fields(self) -> list[Field]:
        """Of the header blocks that we took."""
        return [field for event in self.ours.events if event[0] in _HEADS for field in event[2]]

    @property
    def request(self) -> dict[bytes, bytes]:
        """What a request that we took says; empty where there is none."""
        heads = [] if self.client else [event[2] for event in self.ours.events if event[0] == "head"]
        return dict(heads[-1]) if heads else {}

    @property
    def status(self) -> bytes:
        return dict(self.fields).get(b":status", b"")

    def because(self, *reasons: str) -> bool:
        """Whether ours refuses for one of these."""
        return any(reason in self.step.reasons for reason in reasons)

    def has(self, name: bytes) -> bool:
        return any(field[0] == name for field in self.fields)

    def __str__(self) -> str:
        side = "client" if self.client else "server"
        ours, theirs = brief(self.ours), brief(self.theirs)
        return f"{self.peer}, {side}, stream {self.state}: we {ours} {self.step.reasons}, it {theirs}; {self.kinds}"


def brief(verdict: Verdict) -> str:
    """A verdict in a line."""
    if verdict.fault is not None:
        return f"end the connection with {verdict.fault}"
    parts = [f"reset {verdict.resets}"] if verdict.resets else []
    parts += [f"tell {' '.join(str(part)[:60] for part in event)}" for event in verdict.events]
    parts += [f"answer {answer.hex() or 'SETTINGS'}" for answer in verdict.answers]
    return ", ".join(parts) or "do nothing"


def shown(item: Item) -> str:
    """An item in a line."""
    if isinstance(item, Act):
        return f"{item.deed} {item.stream} {item.size}"
    found = [f"{frame.kind:02x} {frame.flags:02x} {frame.stream} {frame.payload[:80].hex()}" for frame in cut(item)]
    return f"{item[:600].hex()} ({'; '.join(found)})"


def _refuses(verdict: Verdict) -> bool:
    return verdict.fault is not None or bool(verdict.resets)


@dataclass(frozen=True)
class Rule:
    """name: for the report.  section: the text.  why: what it says, and who does what.  allows: which differences.

    stricter: who alone refuses, "peer" or "we"; "" where that is not what they differ in.  departs: who does other
    than the text says, "" nobody.  goes_on: whether both are in the same state afterwards.
    """

    name: str
    section: str
    why: str
    allows: Callable[[Difference], bool]
    stricter: str = ""
    departs: str = ""
    goes_on: bool = False

    def covers(self, found: Difference) -> bool:
        if self.stricter:
            ours, theirs = _refuses(found.ours), _refuses(found.theirs)
            if (ours, theirs) != ((False, True) if self.stricter == "peer" else (True, False)):
                return False
        return self.allows(found)


def _connection_for_stream(found: Difference) -> bool:
    milder, harder = (found.ours, found.theirs) if found.ours.fault is None else (found.theirs, found.ours)
    return milder.fault is None and harder.fault is not None and bool(milder.resets) and not milder.events


def _other_code(found: Difference) -> bool:
    ours, theirs = found.ours.fault, found.theirs.fault
    return ours is not None and theirs is not None and (ours in _GENERIC or theirs in _GENERIC)


def _other_code_of_streams(found: Difference) -> bool:
    ours, theirs = found.ours.resets, found.theirs.resets
    if found.kinds != {"resets"} or ours.keys() != theirs.keys():
        return False
    return all(ours[stream] in _GENERIC or theirs[stream] in _GENERIC for stream in ours)


def _closed(found: Difference) -> bool:
    """To a frame on a closed stream both answer by one of: nothing, STREAM_CLOSED, the end of the connection."""

    def fits(verdict: Verdict) -> bool:
        ends = (None, ErrorCode.STREAM_CLOSED, ErrorCode.PROTOCOL_ERROR)
        return (
            not verdict.events and verdict.fault in ends and set(verdict.resets.values()) <= {ErrorCode.STREAM_CLOSED}
        )

    of_streams = found.kind in (frames.DATA, *_BLOCK)
    return found.state in ("closed", "reset") and of_streams and fits(found.ours) and fits(found.theirs)


def _closed_and_broken(found: Difference) -> bool:
    codes = {found.ours.fault, found.theirs.fault}
    return found.state in _PAST and ErrorCode.STREAM_CLOSED in codes and None not in codes


def _block_and_frame_broken(found: Difference) -> bool:
    """A block that does not decode, and a frame behind its first that is too large."""
    too_large = any(why.startswith("frame of ") for why in found.step.reasons)
    return too_large and found.kind == frames.HEADERS and found.theirs.fault == ErrorCode.COMPRESSION_ERROR


def _in_trailers(found: Difference) -> bool:
    of_trailers = bool(found.fields) and not found.status and not found.request
    return of_trailers and (found.has(b"content-length") or found.has(b"host"))


def _on_itself(found: Difference) -> bool:
    if found.kind == frames.HEADERS and found.frames[0].flags & frames.PRIORITY_FLAG:
        at = 1 if found.frames[0].flags & frames.PADDED else 0
    elif found.kind == frames.PRIORITY:
        at = 0
    else:
        return False
    return int.from_bytes(found.payload[at : at + 4], "big") & frames.MAX_STREAM_ID == found.frames[0].stream


def _unfinished(found: Difference) -> bool:
    later = found.completed()
    return later is not None and _refuses(later)


def _setting_twice(found: Difference) -> bool:
    if found.kind != frames.SETTINGS:
        return False
    whole = found.payload[: len(found.payload) // 6 * 6]
    keys = [key for key, _ in frames.SETTING.iter_unpack(whole)]
    return len(set(keys)) < len(keys)


def _more_credit(found: Difference) -> bool:
    codes = {found.ours.fault, found.theirs.fault, *found.ours.resets.values(), *found.theirs.resets.values()}
    ours, theirs = found.credit
    return found.kind == frames.DATA and ErrorCode.FLOW_CONTROL_ERROR in codes and ours != theirs


def _all_padding(found: Difference) -> bool:
    return any(
        frame.kind in (frames.DATA, frames.HEADERS)
        and frame.flags & frames.PADDED
        and frame.payload[:1] == bytes((frame.size - 1 & 0xFF,))
        for frame in found.frames
    )


def _odd_target(found: Difference) -> bool:
    request = found.request
    if not request or request[b":method"] == b"CONNECT":
        return bool(request)
    names = (b":path", b":method", b":scheme", b":authority")
    plain = all(_VISIBLE.fullmatch(request.get(name, b"x")) for name in names)
    return found.peer == "nghttp2" and not (plain and request[b":path"].startswith(b"/"))


def _host_beside(found: Difference) -> bool:
    request = found.request
    return b"host" in request and request[b"host"] != request.get(b":authority")


def _low_status(found: Difference) -> bool:
    heads = [event[2] for event in found.theirs.events if event[0] == "head"]
    return found.because("response without one :status") and bool(heads) and heads[0][0][1].startswith(b"0")


def _te_in_capitals(found: Difference) -> bool:
    taken = [field for event in found.theirs.events if event[0] in _HEADS for field in event[2]]
    return found.because("connection-specific header") and (b"te", b"Trailers") in taken


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "connection for stream", "RFC 9113 §5.4.1", "a stream error may be treated as a connection error",
        _connection_for_stream,
    ),
    Rule("code", "RFC 9113 §5.4", "any applicable code may be used, a generic one always", _other_code),
    Rule(
        "code of a stream", "RFC 9113 §5.4", "any applicable code may be used, a generic one always",
        _other_code_of_streams, goes_on=True,
    ),
    Rule(
        "closed stream", "RFC 9113 §5.1",
        "frames on a closed stream may be ignored, answered by STREAM_CLOSED, or end the connection", _closed,
    ),
    Rule("closed, and broken besides", "RFC 9113 §5.4", "of several errors any may be reported", _closed_and_broken),
    Rule(
        "block and frame broken", "RFC 9113 §5.4",
        "of several errors any may be reported; nghttp2 reads blocks as they come", _block_and_frame_broken,
    ),
    Rule(
        "before the end", "RFC 9113 §5.4",
        "a stream error need not be reported beside the connection error behind it, nor does h2 tell of events then",
        lambda found: None not in (found.ours.fault, found.theirs.fault) and "fault" not in found.kinds,
    ),
    Rule(
        "unfinished frame or block", "RFC 9113 §5.4.1",
        "what is at fault already may end before it is whole: nghttp2 reads blocks, and frames' heads, as they come",
        _unfinished, stricter="peer",
    ),
    Rule(
        "frame too large", "RFC 9113 §4.2", "the length in a frame's head tells it; h2 waits for the payload",
        lambda found: found.kinds == {"fault"} and any(why.startswith("frame of ") for why in found.step.reasons),
        stricter="we",
    ),
    Rule(
        "DATA as it comes", "RFC 9113 §8.1",
        "nothing says when content is handed on; nghttp2 does before a frame is whole",
        lambda found: found.kinds == {"events"} and found.kind == frames.DATA and found.completed() is not None,
    ),
    Rule(
        "content of a malformed message", "RFC 9113 §8.1.1",
        "nothing says whether content is handed on before the reset",
        lambda found: found.kinds == {"events"} and bool(found.ours.resets) and not found.ours.events, goes_on=True,
    ),
    Rule(
        "windows announced", "RFC 9113 §5.2.1",
        "a receiver chooses when to announce window, so one may be overrun where another is not", _more_credit,
    ),
    Rule(
        "depends on itself", "RFC 9113 §5.3.2",
        "priorities are deprecated and may be ignored; to h2 and nghttp2 it is the error of RFC 7540 §5.3.1",
        _on_itself, stricter="peer",
    ),
    Rule(
        "padding of what is discarded", "RFC 9113 §5.1",
        "what comes on a closed stream is minimally processed: nghttp2 does not look at its padding",
        lambda found: found.state in _PAST
        and found.because("padded frame without the padding's length", "padding as long as its frame"),
    ),
    Rule(
        "increment of 0 on a closed stream", "RFC 9113 §5.1",
        "WINDOW_UPDATE on a closed stream is ignored; h2 looks at the increment first",
        lambda found: found.state in ("closed", "reset")
        and found.kind == frames.WINDOW_UPDATE
        and not any(found.payload),
        stricter="peer",
    ),
    Rule(
        "GOAWAY names no stream of ours", "RFC 9113 §6.8",
        "a receiver is asked to check only that the stream named does not grow; nghttp2 wants one that we opened",
        lambda found: found.peer == "nghttp2" and found.kind == frames.GOAWAY, stricter="peer",
    ),
    Rule(
        "acknowledged too often", "RFC 9113 §6.5.3", "no text makes an acknowledgement too many an error; nghttp2 does",
        lambda found: found.kind == frames.SETTINGS and found.frames[0].flags & 1 == 1 and not found.payload,
        stricter="peer",
    ),
    Rule(
        "no authority", "RFC 9113 §8.3.1",
        ":authority is not among what a request must have; h2 and nghttp2 want it, or host",
        lambda found: bool(found.request) and not found.request.keys() & {b":authority", b"host"}, stricter="peer",
    ),
    Rule(
        "target of a request", "RFC 9113 §8.1.1",
        "a malformed request may be answered before the reset: the layer above refuses targets and methods",
        _odd_target, stricter="peer",
    ),
    Rule(
        "host beside authority", "RFC 9113 §8.3.1",
        "another host than :authority should make a request malformed; the layer above refuses any", _host_beside,
        stricter="peer",
    ),
    Rule(
        "controls in a value", "RFC 9113 §8.2.1", "NUL, CR and LF must be refused; others may be, as nghttp2 does",
        lambda found: any(_CONTROLS.search(value) for _, value in found.fields), stricter="peer",
    ),
    Rule(
        "case of te", "RFC 9113 §8.2.2",
        'it holds nothing but "trailers", which h2 and nghttp2 take in capitals too (RFC 9110 §10.1.4)',
        _te_in_capitals, stricter="we",
    ),
    Rule(
        "content-length given twice", "RFC 9110 §8.6", "where both values are the same, it may be taken or refused",
        lambda found: sum(name == b"content-length" for name, _ in found.fields) > 1, stricter="peer",
    ),
    Rule(
        "content-length or host in trailers", "RFC 9110 §6.5.1",
        "a recipient may ignore them, as we do; nghttp2 holds the message to the one, and to a host that is not empty",
        _in_trailers, stricter="peer",
    ),
    Rule(
        "content-length of an interim response", "RFC 9110 §8.6",
        "a server must not send it; a client may ignore it, as we do; nghttp2 refuses it",
        lambda found: found.status.startswith(b"1") and found.has(b"content-length"), stricter="peer",
    ),
    Rule(
        "content-length of 204", "RFC 9110 §8.6", "a server must not send it; nghttp2 takes it out where it is 0",
        lambda found: found.status == b"204" and found.has(b"content-length"),
    ),
    Rule(
        "content of 204 or 304", "RFC 9110 §6.4.1",
        "they have none: nghttp2 resets the stream, we hand it on to the layer above, to which the status is a failure",
        lambda found: found.peer == "nghttp2" and found.client and found.kind == frames.DATA, stricter="peer",
    ),
    Rule(
        "status below 100", "RFC 9110 §15", "such a response should be taken for a 5xx, which is as much a failure",
        _low_status, stricter="we",
    ),
    Rule(
        "status 101", "RFC 9113 §8.6", "HTTP/2 has none; h2 takes it for an interim response",
        lambda found: found.because("status 101 does not exist in HTTP/2"), stricter="we",
    ),
    Rule(
        "frames of extensions", "RFC 9113 §5.5", "unknown ones are ignored; h2 knows ALTSVC",
        lambda found: found.peer == "h2" and found.kind == _ALTSVC, stricter="peer",
    ),
    # Where the peer does not do as the text says.
    Rule(
        "length of the content", "RFC 9113 §8.1.1",
        "content-length must be a number, and that of the content; h2 looks at it only when DATA comes, with int()",
        lambda found: found.peer == "h2"
        and found.because("content-length does not match", "malformed content-length"),
        stricter="we", departs="peer",
    ),
    Rule(
        "first frame", "RFC 9113 §3.4", "SETTINGS comes first, and no acknowledgement; h2 takes others as well",
        lambda found: found.peer == "h2" and found.because("the first frame is not SETTINGS"),
        stricter="we", departs="peer",
    ),
    Rule(
        "reserved bit of an increment", "RFC 9113 §6.9", "it is ignored; h2 takes it for part of the increment",
        lambda found: found.peer == "h2" and found.kind == frames.WINDOW_UPDATE and found.payload[:1] >= b"\x80",
        departs="peer",
    ),
    Rule(
        "frames on idle streams", "RFC 9113 §5.1",
        "they end the connection; h2 takes streams that never were for streams that it forgot",
        lambda found: found.peer == "h2" and found.because("RST_STREAM on an idle stream", "HEADERS on an idle stream"),
        departs="peer",
    ),
    Rule(
        "setting given twice", "RFC 9113 §6.5.3",
        "values are processed in the order in which they stand; h2 and nghttp2 look at the last of each only",
        _setting_twice, departs="peer",
    ),
    Rule(
        "window of a closed stream", "RFC 9113 §6.9.2",
        "a setting ends the connection where it makes a window too large; h2 counts those of streams that are closed",
        lambda found: found.peer == "h2"
        and found.kind == frames.SETTINGS
        and found.theirs.fault == ErrorCode.FLOW_CONTROL_ERROR,
        stricter="peer", departs="peer",
    ),
    Rule(
        "nothing but padding", "RFC 9113 §6.1", "padding may leave an empty payload; h2 refuses it", _all_padding,
        stricter="peer", departs="peer",
    ),
    Rule(
        "what GOAWAY refuses", "RFC 9113 §6.8",
        "streams beyond the one that it names were not processed; h2 tells of none, and takes nothing more",
        lambda found: found.peer == "h2" and found.kind == frames.GOAWAY and found.kinds == {"events"}, departs="peer",
    ),
    Rule(
        "status of other than three digits", "RFC 9110 §15", ":status is three digits; h2 takes anything",
        lambda found: found.peer == "h2" and found.because("response without one :status"),
        stricter="we", departs="peer",
    ),
    Rule(
        "empty scheme or method", "RFC 9113 §8.3.1",
        "each has one valid value (RFC 3986 §3.1, RFC 9110 §9.1); h2 takes none",
        lambda found: found.peer == "h2" and found.because("pseudo-headers missing, unknown or empty"),
        stricter="we", departs="peer",
    ),
    Rule(
        "empty DATA before the final response", "RFC 9113 §8.1",
        "a response begins with a head; nghttp2 lets empty DATA pass",
        lambda found: found.peer == "nghttp2" and found.kind == frames.DATA and found.because("DATA out of place"),
        stricter="we", departs="peer",
    ),
    # Where we do not do as the text says.
    Rule(
        "whitespace around a value of an answer", "RFC 9113 §8.2.1",
        "it makes a message malformed; we take it off, for gRPC servers send grpc-message as an application wrote it",
        lambda found: found.client and _STRIPPED in found.fields,
        stricter="peer", departs="we",
    ),
)  # fmt: skip
