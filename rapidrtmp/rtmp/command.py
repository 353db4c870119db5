"""
What a client asks of the server: connect, createStream, publish and their like, as dataclasses over AMF.

A command message holds a name, a transaction id, a command object (or null) and arguments (RTMP 1.0, 7.2). Clients are
careless with all but the first, so whatever is missing or of the wrong type reads as empty here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from rapidrtmp.rtmp.amf import AmfError, Value
from rapidrtmp.rtmp.amf0 import read_values
from rapidrtmp.rtmp.limits import DEFAULT_AMF_LIMITS, AmfLimits
from rapidrtmp.rtmp.message import UnreadableError

__all__ = [
    "CheckBandwidth",
    "CloseStream",
    "Command",
    "CommandParts",
    "Connect",
    "CreateStream",
    "DeleteStream",
    "FCPublish",
    "FCUnpublish",
    "GetStreamLength",
    "Pause",
    "Play",
    "Publish",
    "Receive",
    "ReleaseStream",
    "Seek",
    "UnknownCommand",
    "printable",
    "read_command",
    "read_data",
    "read_parts",
]

#: A publish that names another type, or none, is live.
_PUBLISH_KINDS = frozenset({"live", "record", "append"})
_MAX_PRINTABLE = 64


@dataclass(frozen=True, slots=True)
class _Transaction:
    """
    What all commands have.

    :ivar transaction: the id an answer must carry; 0 or less (or not a number) says that none is wanted.
    """

    transaction: float

    @property
    def wants_answer(self) -> bool:
        """Whether the client waits for ``_result`` or ``_error``; GStreamer, for one, often does not."""
        return self.transaction > 0


@dataclass(frozen=True, slots=True)
class Connect(_Transaction):
    """
    Connect to an application (7.2.1.1).

    :ivar app: as sent; a query in it may hold a secret, likewise in ``tc_url``.
    :ivar client: how the client names its software, printable.
    :ivar properties: all that the command object holds.
    """

    app: str = field(repr=False)
    tc_url: str = field(repr=False)
    client: str
    properties: Mapping[str, Value] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class CreateStream(_Transaction):
    """Make a message stream to publish or play on (7.2.1.3)."""


@dataclass(frozen=True, slots=True)
class ReleaseStream(_Transaction):
    """Flash-era politeness before a publish: free the name."""


@dataclass(frozen=True, slots=True)
class FCPublish(_Transaction):
    """Flash-era politeness before a publish: it is about to begin."""


@dataclass(frozen=True, slots=True)
class FCUnpublish(_Transaction):
    """The publish is over."""


@dataclass(frozen=True, slots=True)
class CheckBandwidth(_Transaction):
    """``_checkbw``: measure the way. Some hardware waits for an answer, any answer."""


@dataclass(frozen=True, slots=True)
class GetStreamLength(_Transaction):
    """How long is what I am about to play? FFmpeg gives up on ``_error``."""


@dataclass(frozen=True, slots=True)
class Publish(_Transaction):
    """
    Publish on the message stream this came on (7.2.2.6).

    :ivar name: as sent; its query may hold a secret.
    :ivar kind: ``live``, ``record`` or ``append``.
    """

    name: str = field(repr=False)
    kind: str


@dataclass(frozen=True, slots=True)
class Play(_Transaction):
    """
    Play on the message stream this came on (7.2.2.1).

    :ivar name: as sent; its query may hold a secret.
    """

    name: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pause(_Transaction):
    """Send nothing for now, or what comes from now on again (7.2.2.8); ``is_paused`` is which."""

    is_paused: bool


@dataclass(frozen=True, slots=True)
class Receive(_Transaction):
    """Send video, or audio, or do not (7.2.2.4, 7.2.2.5): ``is_wanted``, and ``is_video`` for which of them."""

    is_video: bool
    is_wanted: bool


@dataclass(frozen=True, slots=True)
class Seek(_Transaction):
    """Play from another place (7.2.2.7), which what is live has not."""


@dataclass(frozen=True, slots=True)
class DeleteStream(_Transaction):
    """
    Delete a message stream (7.2.2.3).

    :ivar msid: which; ``None`` if the client named none: GStreamer puts the stream's name there.
    """

    msid: int | None


@dataclass(frozen=True, slots=True)
class CloseStream(_Transaction):
    """Stop publishing or playing on the message stream this came on."""


@dataclass(frozen=True, slots=True)
class UnknownCommand(_Transaction):
    """
    Any other command, or an answer to one of ours (which wants no answer).

    :ivar name: printable.
    """

    name: str


Command: TypeAlias = (
    Connect
    | CreateStream
    | ReleaseStream
    | FCPublish
    | FCUnpublish
    | CheckBandwidth
    | GetStreamLength
    | Publish
    | Play
    | Pause
    | Receive
    | Seek
    | DeleteStream
    | CloseStream
    | UnknownCommand
)


class CommandParts(NamedTuple):
    """A command message taken apart; ``properties`` is the command object, or the first object of an answer."""

    name: str
    transaction: float
    properties: dict[str, Value]
    arguments: list[Value]

    def text(self, index: int) -> str:
        """The argument at ``index``, or ``""``."""
        return _text(self.arguments[index]) if index < len(self.arguments) else ""


def read_command(payload: bytes, limits: AmfLimits = DEFAULT_AMF_LIMITS) -> Command:
    """
    Read a command message of type 20 or 17; an AMF3 one has one byte, 0, before AMF0 values.

    Names are recognised whatever their case. Arguments are read up to the first that is unreadable.

    :raises UnreadableError: name, transaction id or command object are no AMF, or the name is not text.
    """
    parts = read_parts(payload, limits)
    build = _COMMANDS.get(parts.name.lower())
    return build(parts) if build else UnknownCommand(parts.transaction, printable(parts.name))


def read_data(payload: bytes, limits: AmfLimits = DEFAULT_AMF_LIMITS) -> tuple[str, list[Value]]:
    """
    Read a data message of type 18 or 15: its name and the values behind it (7.1.2).

    ``@setDataFrame``, by which publishers ask for the rest to be kept, is taken off. Values are read up to the first
    that is unreadable.

    :raises UnreadableError: there is no name.
    """
    values = _readable_values(payload, limits, required=1)
    if values[:1] == ["@setDataFrame"]:
        del values[0]
    if not values or not isinstance(values[0], str):
        raise UnreadableError("data message without a name")
    return values[0], values[1:]


def printable(text: str, length: int = _MAX_PRINTABLE) -> str:
    """``text`` as it may stand in a log: at most ``length`` characters, those that are not printable replaced."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:length])


def read_parts(payload: bytes, limits: AmfLimits = DEFAULT_AMF_LIMITS) -> CommandParts:
    """
    Take a command message apart, whatever it says; arguments are read up to the first that is unreadable.

    :raises UnreadableError: name, transaction id or command object are no AMF, or the name is not text.
    """
    values = _readable_values(payload, limits, required=3)
    if not values or not isinstance(values[0], str):
        raise UnreadableError("command without a name")
    transaction = values[1] if len(values) > 1 else 0.0
    properties = values[2] if len(values) > 2 else None
    return CommandParts(
        values[0],
        transaction if isinstance(transaction, float) else 0.0,
        properties if isinstance(properties, dict) else {},
        values[3:],
    )


def _readable_values(payload: bytes, limits: AmfLimits, required: int) -> list[Value]:
    """The values up to the first unreadable one, which is an error only among the first ``required``."""
    values: list[Value] = []
    try:
        for value in read_values(payload.removeprefix(b"\0"), limits):
            values.append(value)
    except AmfError:
        if len(values) < required:
            raise
    return values


def _text(value: Value) -> str:
    return value if isinstance(value, str) else ""


def _connect(parts: CommandParts) -> Connect:
    properties = {key.lower(): value for key, value in parts.properties.items()}  # "tcurl" has been met
    app, tc_url, client = (_text(properties.get(key)) for key in ("app", "tcurl", "flashver"))
    return Connect(parts.transaction, app, tc_url, printable(client), parts.properties)


def _publish(parts: CommandParts) -> Publish:
    kind = parts.text(1).lower()
    return Publish(parts.transaction, parts.text(0), kind if kind in _PUBLISH_KINDS else "live")


def _delete_stream(parts: CommandParts) -> DeleteStream:
    target = parts.arguments[0] if parts.arguments else None
    if isinstance(target, float) and target.is_integer() and 0 < target < 2**32:
        return DeleteStream(parts.transaction, int(target))
    return DeleteStream(parts.transaction, None)


def _play(parts: CommandParts) -> Play:
    """``play`` with a name; ``play2`` with an object that has it, in ``NetStreamPlayOptions``."""
    options = parts.arguments[0] if parts.arguments else None
    name = options.get("streamName") if isinstance(options, dict) else options
    return Play(parts.transaction, _text(name))


def _flag(parts: CommandParts) -> bool:
    """The first argument; no is what is said without one."""
    return bool(parts.arguments) and parts.arguments[0] is True


def _answer(parts: CommandParts) -> UnknownCommand:
    return UnknownCommand(0.0, printable(parts.name))


_COMMANDS: dict[str, Callable[[CommandParts], Command]] = {
    "connect": _connect,
    "createstream": lambda parts: CreateStream(parts.transaction),
    "releasestream": lambda parts: ReleaseStream(parts.transaction),
    "fcpublish": lambda parts: FCPublish(parts.transaction),
    "fcunpublish": lambda parts: FCUnpublish(parts.transaction),
    "_checkbw": lambda parts: CheckBandwidth(parts.transaction),
    "getstreamlength": lambda parts: GetStreamLength(parts.transaction),
    "publish": _publish,
    "play": _play,
    "play2": _play,
    "pause": lambda parts: Pause(parts.transaction, _flag(parts)),
    "pauseraw": lambda parts: Pause(parts.transaction, _flag(parts)),
    "receiveaudio": lambda parts: Receive(parts.transaction, False, _flag(parts)),
    "receivevideo": lambda parts: Receive(parts.transaction, True, _flag(parts)),
    "seek": lambda parts: Seek(parts.transaction),
    "deletestream": _delete_stream,
    "closestream": lambda parts: CloseStream(parts.transaction),
    "_result": _answer,
    "_error": _answer,
}
