"""What the supervisor and a child, or the nursery, say to each other, as bytes. Typed and bounded; moving them is
`channel`.

A message travels as JSON: {"is": "Report", …} with exactly the fields of its class. Descriptors travel beside it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, TypeAlias, get_args, get_origin, get_type_hints

from sidecar.errors import SidecarError

LARGEST: Final = 32 << 20  # bytes of one message: a config has 4 MiB of text at most, and grows when spelt out


class ChannelError(SidecarError):
    """A peer broke the rules of the control channel, or does not read it."""


@dataclass(frozen=True, slots=True)
class Bear:
    """To the nursery: make a child of this name. Its end of its control channel comes with the message."""

    name: str


@dataclass(frozen=True, slots=True)
class Born:
    """What became of a Bear. pid: of the child, whose pidfd comes with the message; 0 where there is none.

    fault: why there is none.
    """

    name: str
    pid: int
    fault: str


@dataclass(frozen=True, slots=True)
class Start:
    """The first message to a child: who it is, and all it needs to begin.

    role, slot: its place.  name: unique among all children of this boot.  key: the per-boot key, hex.
    generation: of `settings`, which are the role's own.  descriptors: names of those that come with the message.
    """

    role: str
    slot: int
    name: str
    key: str
    log_level: str
    run_directory: str
    generation: int
    settings: dict[str, Any]
    descriptors: list[str]


@dataclass(frozen=True, slots=True)
class Ready:
    """The child has made all it needs, and waits for Go."""


@dataclass(frozen=True, slots=True)
class Go:
    """Begin to serve."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The child cannot start. faults: key path and problem of each."""

    faults: list[list[str]]


@dataclass(frozen=True, slots=True)
class Report:
    """Said several times a second; a child that is silent hangs.

    connections, calls: open now.  resident: bytes of memory.  lag: seconds that the event loop was late.
    detail: the role's own, for status.
    """

    connections: int = 0
    calls: int = 0
    resident: int = 0
    lag: float = 0.0
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make the parts of a new generation, and change nothing yet."""

    generation: int
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """faults: why the generation cannot be used, as in Failed; empty where it can."""

    generation: int
    faults: list[list[str]]


@dataclass(frozen=True, slots=True)
class Commit:
    """Switch to the generation that was prepared."""

    generation: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """Forget the generation that was prepared: some child cannot use it."""

    generation: int


@dataclass(frozen=True, slots=True)
class Attach:
    """A connection, whose descriptor comes with the message.

    role: of the process at its other end.  name: that process's.
    """

    role: str
    name: str


@dataclass(frozen=True, slots=True)
class Tend:
    """Take what comes to another place as well, for nobody stands there. Its descriptors come with the message."""

    slot: int


@dataclass(frozen=True, slots=True)
class Leave:
    """Somebody stands at that place again."""

    slot: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Take nothing new, finish what is open within `grace` seconds, and exit.

    last: nobody comes after: what waits at the listening sockets is still taken.
    """

    grace: float
    last: bool


@dataclass(frozen=True, slots=True)
class End:
    """Exit now; what is open is cut."""


@dataclass(frozen=True, slots=True)
class Question:
    """A child asks about the whole sidecar. number: of the question, for its answer.  what: what it wants."""

    number: int
    what: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """To a Question. fault: why there is none, "" where `result` is one."""

    number: int
    result: dict[str, Any]
    fault: str


@dataclass(frozen=True, slots=True)
class Level:
    """Log from here on what is at least of this level."""

    level: str


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The process of a role, by which the child knows it. pid: 0 while there is none."""

    role: str
    pid: int


Message: TypeAlias = (
    Bear | Born | Start | Ready | Go | Failed | Report | Prepare | Prepared | Commit | Abandon | Attach | Drain | End
    | Question | Answer | Level | Neighbour | Tend | Leave
)  # fmt: skip
CLASSES: Final = {kind.__name__: kind for kind in get_args(Message)}
TYPES: Final = {name: get_type_hints(kind) for name, kind in CLASSES.items()}


def encode(message: Message) -> bytes:
    """Raises ChannelError for one that is too large."""
    data = json.dumps({"is": type(message).__name__, **asdict(message)}, separators=(",", ":")).encode()
    if len(data) > LARGEST:
        raise ChannelError(f"message {type(message).__name__} of {len(data)} bytes, at most {LARGEST} may be sent")
    return data


def decode(data: bytes) -> Message:
    """Raises ChannelError for anything that `encode` would not have written."""
    try:
        said = json.loads(data)
    except ValueError:
        raise ChannelError("expected a message in JSON, came something else") from None
    name = said.pop("is", None) if isinstance(said, dict) else None
    kind = CLASSES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ChannelError("expected a message of a known kind, came another")
    known = [each.name for each in fields(kind)]
    if sorted(said) != sorted(known):
        raise ChannelError(f"message {name}: expected the fields {', '.join(known) or '(none)'}, came others")
    for each in known:
        if not _fits(said[each], TYPES[name][each]):
            raise ChannelError(f"message {name}: field {each} is of another type")
    made: Message = kind(**said)
    return made


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a JSON value is of a field's type."""
    if wanted is float:
        return type(value) in (int, float)
    if get_origin(wanted) is list:
        return type(value) is list and all(_fits(each, get_args(wanted)[0]) for each in value)
    return type(value) is (get_origin(wanted) or wanted)
