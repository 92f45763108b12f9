"""What an interceptor is: decisions about one gRPC call, with no I/O, no clock and no grpc import.

A driver (the relay, a test playbook) runs a chain of interceptors over a call, answers their questions and
acts on their verdicts. How a chain is folded and compiled is `interceptors.chain`; what is known about a
caller is `interceptors.facts`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, cast

from mypy_extensions import mypyc_attr

T = TypeVar("T")
RawField: TypeAlias = tuple[bytes, bytes]
Parameter: TypeAlias = int | str  # an integer as unsigned 64 bits, however it was spelt
# What becomes of a parameter: a value of the same type, or None where it goes.
Change: TypeAlias = Callable[[Parameter], "Parameter | None"]


class View(IntEnum):
    """How deep an interceptor looks; the relay decodes no deeper than the deepest link of a plan asks."""

    METADATA = 0
    BYTES = 1
    DECODED = 2


class Code(IntEnum):
    """gRPC status codes (grpc.github.io/grpc/core/md_doc_statuscodes.html)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class CodecError(ValueError):
    """A message that its codec cannot read or write."""


class Codec(Protocol):
    """What a protocol's messages say. `response` tells the side the message travels on."""

    def models(self, raw: bytes, response: bool) -> tuple[ModelName, ...]:
        """Every model a message names; all of them must be allowed, for a server acts on all.

        () only where the protocol's message has no place for one (ServerLive), or concerns models that it does not
        name (reloading the whole config): a rule that names models does not allow it. A place left empty gives
        ModelName(""), which is the server's default and must be allowed like any other name.
        Raises CodecError on a malformed message, and where a field that may stand once stands there twice: whatever
        counts then, another parser may read the other.
        """

    def special(self, raw: bytes) -> tuple[str, ...]:
        """The permissions that a request message demands beyond its method's, of `Method.special`; most demand none.

        Raises CodecError where a message seems to say what demands one and cannot be read.
        """

    def with_parameter(self, raw: bytes, response: bool, name: str, change: Change) -> bytes:
        """`raw` with what `change` makes of the value of the call's parameter `name`, of the same type.

        Where there is none, or it stays as it is, that is `raw` itself. Raises CodecError where the message seems to
        have the parameter and cannot be read.
        """

    def without_models(self, raw: bytes, hidden: Callable[[ModelName], bool]) -> bytes:
        """An answer that lists models, less those that are `hidden`. Raises CodecError on a malformed message."""

    def batch(self, raw: bytes) -> int:
        """How many inferences a request message asks for, from 1; 1 where the protocol does not tell.

        Where its inputs say different numbers, the largest. Raises CodecError on a malformed message.
        """

    def decode(self, raw: bytes, response: bool) -> object:
        """The decoded form. Raises CodecError on a malformed message or where the protocol has none."""

    def encode(self, body: object, response: bool) -> bytes:
        """The serialized form of what `decode` gave. Raises CodecError."""


@dataclass(slots=True, init=False, unsafe_hash=True)
class ModelName:
    """Never changed; not frozen, and made by a constructor that is compiled, for one is made with every message."""

    name: str
    version: str

    def __init__(self, name: str, version: str = "") -> None:
        self.name = name
        self.version = version


OPAQUE: Final = "upstream.opaque"  # the permission that methods need of which nothing is known


class Method(NamedTuple):
    """A gRPC method; one of unknown shape counts as streaming on both sides.

    unary_request and unary_response: exactly one message travels on that side.
    permission: what a call of it needs.  special: what its messages may demand beyond (`Codec.special`).
    parameters: its messages may have parameters of the call.  lists: its answers list models.
    """

    path: str  # "/package.Service/Method"
    unary_request: bool = False
    unary_response: bool = False
    permission: str = OPAQUE
    special: tuple[str, ...] = ()
    parameters: bool = False
    lists: bool = False


@mypyc_attr(allow_interpreted_subclasses=True)
class Message:
    """One gRPC message, uncompressed.

    raw: its serialized bytes.  body: its decoded form, set by the chain for links whose view is DECODED, else None.
    Never changed in place: a link that changes a message forwards a new one, made from bytes (`Message(raw)`)
    or from a decoded form (`Message.of(call, body, response)`). The chain derives the body of what is forwarded
    from its raw form, so the two agree.
    """

    __slots__ = ("body", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.body: object | None = None

    @classmethod
    def of(cls, call: Call, body: object, response: bool) -> Message:
        """Raises CodecError where `body` cannot be written."""
        return cls(call.codec.encode(body, response))

    def __repr__(self) -> str:
        return f"Message({len(self.raw)} bytes)"  # content stays out of logs and tracebacks


NO_NAMES: Final[frozenset[bytes]] = frozenset()


class Headers:
    """A header block, in order, as it travels: names lower-case ASCII, values bytes. `-bin` values are base64.

    given: the block as it came, shared with other calls and never touched. Edits stand beside it, so that whoever
    encodes the block encodes only what is new.  without: names whose given fields no longer travel.  added: fields
    that travel behind the given ones.
    """

    __slots__ = ("added", "given", "without")

    def __init__(self, given: tuple[RawField, ...]) -> None:
        self.given = given
        self.without: frozenset[bytes] = NO_NAMES
        self.added: tuple[RawField, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.without or self.added)

    @property
    def fields(self) -> tuple[RawField, ...]:
        """Every field that travels, in order."""
        without = self.without
        kept = tuple([field for field in self.given if field[0] not in without]) if without else self.given
        return kept + self.added

    def get(self, name: bytes) -> bytes | None:
        """The first value of `name`, or None."""
        if name not in self.without:
            for key, value in self.given:
                if key == name:
                    return value
        for key, value in self.added:
            if key == name:
                return value
        return None

    def all(self, name: bytes) -> tuple[bytes, ...]:
        given = () if name in self.without else self.given
        return tuple([value for fields in (given, self.added) for key, value in fields if key == name])

    def set(self, name: bytes, value: bytes) -> None:
        """Replace every value of `name` by one. Raises ValueError for what may not travel in a header."""
        check_field(name, value)
        self.edit(frozenset((name,)), ((name, value),))

    def drop(self, name: bytes) -> None:
        """Remove every value of `name`. Raises ValueError for a header that is not a link's to change."""
        check_name(name)
        if self.get(name) is not None:
            self.edit(frozenset((name,)), ())

    def edit(self, without: frozenset[bytes], added: tuple[RawField, ...]) -> None:
        """Remove every value of the names in `without`, then put `added` behind.

        Nothing is checked: whoever calls vouches for the fields.
        """
        if self.without or self.added:
            without, earlier = self.without | without, without
            added = (*[field for field in self.added if field[0] not in earlier], *added)
        self.without, self.added = without, added


NAME_OCTETS = b"abcdefghijklmnopqrstuvwxyz0123456789-_."
# gRPC over HTTP/2, "Custom-Metadata": ASCII-Value is %x20-7E.
VALUE_OCTETS = bytes(range(0x20, 0x7F))
# What a link may not set: the call's own headers, which the relay derives, and what ends a call.
CALL_HEADERS = frozenset(
    (b"te", b"content-type", b"content-length", b"host", b"connection", b"transfer-encoding", b"upgrade")
)


def check_name(name: bytes) -> None:
    """Raise ValueError unless a header of this name is a link's to change."""
    if not name or name.translate(None, NAME_OCTETS) or name in CALL_HEADERS or name.startswith(b"grpc-"):
        raise ValueError(
            f"header name {name!r} may not be changed by an interceptor: expected [a-z0-9-_.]+ outside the call's "
            "own headers"
        )


def check_field(name: bytes, value: bytes) -> None:
    """Raise ValueError unless a link may send this header field."""
    check_name(name)
    if value.translate(None, VALUE_OCTETS) or value[:1] == b" " or value[-1:] == b" ":
        raise ValueError(f"value of header {name!r} has octets outside 0x20-0x7e or outer spaces")


RETRY_PUSHBACK: Final = b"grpc-retry-pushback-ms"


def check_denial_field(name: bytes, value: bytes) -> None:
    """Raise ValueError unless a denial may carry this trailer: any field of a link's, and gRPC's pushback (A6)."""
    if name != RETRY_PUSHBACK:
        check_field(name, value)
    elif not (value.isdigit() and len(value) <= 10):
        raise ValueError(f"{RETRY_PUSHBACK.decode()} is a number of milliseconds, got {value!r}")


class Trailers:
    """How the upstream ended a call: status, message, and the other trailing fields in order.

    headers: edited in place, with a `changed` of its own.  changed: `end_with` was called.
    """

    __slots__ = ("changed", "headers", "message", "status")

    def __init__(self, status: int, message: str, headers: Headers) -> None:
        self.status = status
        self.message = message
        self.headers = headers
        self.changed = False

    def end_with(self, status: Code, message: str) -> None:
        """Put another status and message in place of the upstream's."""
        self.status = status
        self.message = message
        self.changed = True


@mypyc_attr(native_class=False)
@dataclass(frozen=True, slots=True)
class Pass:
    """Send on what came in. Said aloud: a hook that falls off its end returns None, and None denies."""


@mypyc_attr(native_class=False)
@dataclass(frozen=True, slots=True)
class Forward:
    """Send these in place of what came in: none holds it back, several release what was held."""

    messages: tuple[Message, ...] = ()


@mypyc_attr(native_class=False)
@dataclass(frozen=True, slots=True)
class Detail:
    """One google.rpc error detail: a protobuf message and its type URL."""

    type_url: str
    value: bytes


@mypyc_attr(native_class=False)
@dataclass(frozen=True, slots=True)
class Deny:
    """End the call. reason: stable, for the audit log.  public: for the caller, nothing to learn from."""

    code: Code
    reason: str
    public: str = "request refused"
    details: tuple[Detail, ...] = ()
    trailers: tuple[RawField, ...] = ()


Verdict: TypeAlias = Pass | Forward | Deny
PASS = Pass()
HOLD = Forward()


@mypyc_attr(allow_interpreted_subclasses=True)
class Ask(Generic[T]):
    """A question only the outside can answer (unwrap a key, score a text). The driver replies with a T."""


Steps: TypeAlias = Generator[Ask[Any], Any, T]
Hook: TypeAlias = "Verdict | Steps[Verdict]"


def ask(question: Ask[T]) -> Steps[T]:
    """`answer = yield from ask(question)`; what the outside cannot answer is raised here as AnswerError."""
    return cast(T, (yield question))


class AnswerError(Exception):
    """The outside could not answer a question: its helper is gone, overloaded or too late."""


@mypyc_attr(allow_interpreted_subclasses=True)
class NoCodec:
    """The codec of a protocol whose messages are opaque."""

    def models(self, raw: bytes, response: bool) -> tuple[ModelName, ...]:
        return ()

    def special(self, raw: bytes) -> tuple[str, ...]:
        return ()

    def with_parameter(self, raw: bytes, response: bool, name: str, change: Change) -> bytes:
        return raw

    def without_models(self, raw: bytes, hidden: Callable[[ModelName], bool]) -> bytes:
        raise CodecError("this protocol's messages are opaque: they list no models")

    def batch(self, raw: bytes) -> int:
        return 1

    def decode(self, raw: bytes, response: bool) -> object:
        raise CodecError("this protocol's messages are opaque: no decoded form is configured")

    def encode(self, body: object, response: bool) -> bytes:
        raise CodecError("this protocol's messages are opaque: no decoded form is configured")


NO_CODEC: Final = NoCodec()


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """Where a call comes from; shared by all calls of one connection, compared by identity.

    address: "ip:port" or "unix".  source: the part that names the host, for limits and aggregation.
    certificate: a `facts.PeerCertificate`, or None where the client presented none.
    """

    address: str
    source: str
    certificate: object | None = None


# What a hook may raise and only its own call pays for; a library that thinks it ends a program raises SystemExit.
RAISED: Final = (Exception, SystemExit)


@dataclass(frozen=True, slots=True)
class Fault:
    """An exception that a hook raised, for the operator's log; its text may hold content, so callers never see it."""

    link: str
    hook: str
    error: Any


MOST_NOTED: Final = 16  # faults and would-be denials kept of one call; a stream could bring one with every message
BEGUN: Final = 1 << 30  # value of Call.began once every link has begun
_NEVER: Final = float("inf")
NO_OBLIGATIONS: Final[frozenset[str]] = frozenset()


class Call:
    """One call as its links see it. A plain class with plain slots, because one is made for every call.

    headers: the caller's own metadata and call headers, without pseudo-headers; edits made until the call
    is sent upstream travel.  started, now: Unix seconds; the driver moves `now` before each hook.
    deadline: Unix seconds, or None.  expires: Unix seconds at which what lets the call in ends, and the call with it,
    messages that still come and go included; on_start may bring it forward.
    obligations: what links demand of others; once all have begun, with those of `possible` that the plan can honour.
    events: what links emitted, drained by the driver.
    would_deny: filled only by a chain that observes.  faults: what hooks raised; the driver logs them.
    began, counted: the chain's own notes of how far the call has come.
    """

    __slots__ = (
        "began",
        "codec",
        "counted",
        "deadline",
        "events",
        "expires",
        "facts",
        "faults",
        "headers",
        "method",
        "now",
        "obligations",
        "peer",
        "possible",
        "started",
        "would_deny",
    )

    def __init__(
        self,
        method: Method,
        headers: Headers,
        peer: Peer,
        started: float,
        deadline: float | None = None,
        codec: Codec = NO_CODEC,
    ) -> None:
        self.method = method
        self.headers = headers
        self.peer = peer
        self.started = started
        self.deadline = deadline
        self.expires = _NEVER
        self.codec = codec
        self.now = started
        self.obligations = NO_OBLIGATIONS
        self.possible = NO_OBLIGATIONS
        self.events: list[object] = []
        self.would_deny: tuple[Deny, ...] = ()
        self.faults: tuple[Fault, ...] = ()
        self.facts: dict[type, Any] = {}
        self.began = 0
        self.counted = 0

    def put(self, fact: object) -> None:
        self.facts[type(fact)] = fact

    def get(self, kind: type[T]) -> T:
        """Raises KeyError where no link has put one; `find` gives None."""
        fact: T = self.facts[kind]
        return fact

    def find(self, kind: type[T]) -> T | None:
        fact: T | None = self.facts.get(kind)
        return fact

    def emit(self, event: object) -> None:
        self.events.append(event)

    def oblige(self, name: str) -> None:
        """Demand that some link of the chain honours `name` (`redact:pii`); else the call is denied.

        From `on_start` only, since the plan is chosen when it has run. Raises RuntimeError afterwards.
        """
        if self.began == BEGUN:
            raise RuntimeError(f"obligation {name!r} came after on_start, when the call's plan is already chosen")
        self.obligations |= {name}

    def may_oblige(self, names: frozenset[str]) -> None:
        """Have `names` honoured from the first message on where that can be, for a message may turn out to need it.

        Whoever asks looks into `obligations` then, and denies what is not there. From `on_start` only, as `oblige`.
        """
        if self.began == BEGUN:
            raise RuntimeError("obligations came after on_start, when the call's plan is already chosen")
        self.possible |= names

    def note_denial(self, verdict: Deny) -> None:
        if len(self.would_deny) < MOST_NOTED:
            self.would_deny += (verdict,)

    def note_fault(self, fault: Fault) -> None:
        if len(self.faults) < MOST_NOTED:
            self.faults += (fault,)


@dataclass(slots=True, init=False, eq=False)
class Outcome:
    """How a call ended.

    status: the gRPC status the caller saw, or would have seen.  seconds: from the first header to the end.
    requests, responses: messages that came in, by side, where they were counted.
    cancelled: the caller went away before the end.
    cause: why the driver ended the call where nobody denied it ("upstream.unreachable", "deadline"), else "".
    """

    status: int
    denied: Deny | None
    seconds: float
    requests: int
    responses: int
    cancelled: bool
    cause: str

    def __init__(
        self,
        status: int,
        denied: Deny | None,
        seconds: float,
        requests: int = 0,
        responses: int = 0,
        cancelled: bool = False,
        cause: str = "",
    ) -> None:
        self.status = status
        self.denied = denied
        self.seconds = seconds
        self.requests = requests
        self.responses = responses
        self.cancelled = cancelled
        self.cause = cause


@mypyc_attr(allow_interpreted_subclasses=True)
class Interceptor:
    """Override what you need. One instance serves every call: per-call state goes in `call.put`."""

    name: ClassVar[str]
    view: ClassVar[View] = View.METADATA
    needs: ClassVar[frozenset[type]] = frozenset()  # facts read; checked against the chain at start
    gives: ClassVar[frozenset[type]] = frozenset()  # facts written
    honours: ClassVar[frozenset[str]] = frozenset()  # obligations it can meet
    observer: ClassVar[bool] = False  # sees every outcome, and an exception in it lets the call go on
    # A fact without which its message hooks pass answers as they are. By the end of a unary request it is known whether
    # there is one; where there is none, answers stream through unless another link looks at them.
    awaits: ClassVar[type | None] = None

    def depth(self, method: Method, obligations: frozenset[str]) -> View | None:
        """How deep this link looks into calls of `method`.

        None, or METADATA from a link with message hooks, leaves these hooks out of the plan, and the link then
        honours no obligation.
        """
        return self.view

    def on_start(self, call: Call) -> Hook:
        """The call's headers are here; nothing of it has gone upstream. May edit `call.headers`."""
        return PASS

    def on_request(self, call: Call, message: Message) -> Hook:
        return PASS

    def on_headers(self, call: Call, headers: Headers) -> Hook:
        """The upstream's response headers; may be edited in place or refused."""
        return PASS

    def on_response(self, call: Call, message: Message) -> Hook:
        return PASS

    def on_flush(self, call: Call, response: bool) -> Hook:
        """That side has half-closed; what was held may be released now, and no later."""
        return PASS

    def on_trailers(self, call: Call, trailers: Trailers) -> Hook:
        """The upstream's status and trailers; may be edited in place or refused."""
        return PASS

    def on_end(self, call: Call, outcome: Outcome) -> None:
        """Once for each link whose on_start ran, in reverse order; observers see every outcome."""
