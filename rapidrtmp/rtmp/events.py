"""
What a session reports: each event is one thing that the peer did, past the wire format.

Nothing here carries a secret except parameters and properties, which no ``repr`` shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from rapidrtmp.rtmp.amf import Value

__all__ = [
    "AudioReceived",
    "CommandIgnored",
    "ConnectAccepted",
    "ConnectRejected",
    "ConnectRequested",
    "DataReceived",
    "EofReceived",
    "Event",
    "MessageApplied",
    "MessageIgnored",
    "MetadataReceived",
    "PauseRequested",
    "PlayAccepted",
    "PlayEnded",
    "PlayRejected",
    "PlayRequested",
    "PlayStopped",
    "PublishAccepted",
    "PublishEnded",
    "PublishRejected",
    "PublishRequested",
    "PublishStopped",
    "ReceiveRequested",
    "Status",
    "StatusReceived",
    "VideoReceived",
]


# ── events of a server session ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ConnectRequested:
    """
    A client wants to connect to an application. Answer with ``accept_connect`` or ``reject_connect``, now.

    What it says of itself is for people and logs: in printable characters, at most 64.

    :ivar app: the application as the client named it, without its query; ``live`` or ``live/extra``, or ``""``.
    :ivar tc_url_host: the host name in the URL the client used, or ``""``: a hint, which any client can forge.
    :ivar client: how the client calls its software, or ``""``.
    :ivar app_may_be_key: the URL may be one of a single segment, which is the stream's key
        (``rtmp://host/key?token=``).
    :ivar properties: all that the command's object holds, ``capsEx`` and ``fourCcList`` among it.
    """

    app: str
    tc_url_host: str
    client: str
    app_may_be_key: bool = False
    properties: Mapping[str, Value] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class PublishRequested:
    """
    A client wants to publish. Answer with ``accept_publish`` or ``reject_publish``, now or later.

    :ivar msid: the message stream to answer on.
    :ivar app: the application, cleaned of slashes and queries, not yet checked as a ``StreamName``; likewise ``key``.
    :ivar parameters: what the queries of tcUrl, application and stream name held, decoded; the later one wins.
    :ivar kind: ``live``, ``record`` or ``append``, as the client asked.
    """

    msid: int
    app: str
    key: str
    parameters: Mapping[str, str] = field(repr=False)
    kind: str


class VideoReceived(NamedTuple):
    """
    A video message of the accepted publish, or of the play that runs.

    :ivar msid: the message stream that was accepted.
    :ivar timestamp: RTMP's milliseconds, modulo 2**32.
    :ivar payload: the body of an FLV video tag, perhaps empty.
    """

    msid: int
    timestamp: int
    payload: bytes


class AudioReceived(NamedTuple):
    """
    An audio message of the accepted publish, or of the play that runs.

    :ivar msid: the message stream that was accepted.
    :ivar timestamp: RTMP's milliseconds, modulo 2**32.
    :ivar payload: the body of an FLV audio tag, perhaps empty.
    """

    msid: int
    timestamp: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class MetadataReceived:
    """
    The publisher described its stream (``onMetaData``); it may do so again at any time, and it may be wrong.

    :ivar values: what it said; empty if it said nothing readable.
    """

    msid: int
    values: dict[str, Value]


@dataclass(frozen=True, slots=True)
class DataReceived:
    """
    Any other data message of the accepted publish: captions, cue points, text.

    :ivar name: its first value.
    :ivar values: those after it.
    :ivar timestamp: RTMP's milliseconds, modulo 2**32.
    """

    msid: int
    name: str
    values: list[Value]
    timestamp: int


@dataclass(frozen=True, slots=True)
class PublishEnded:
    """
    The publisher ended its publish, or took the request back before it was answered; once per publish.

    :ivar reason: the command that ended it: ``FCUnpublish``, ``deleteStream`` or ``closeStream``.
    """

    msid: int
    reason: str


@dataclass(frozen=True, slots=True)
class PlayRequested:
    """
    A client wants to play. Answer with ``accept_play`` or ``reject_play``, now or later.

    :ivar msid: the message stream to answer on; the rest as in :class:`PublishRequested`.
    """

    msid: int
    app: str
    key: str
    parameters: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class PlayEnded:
    """
    The player ended its play, or took the request back before it was answered; once per play.

    :ivar reason: the command that ended it: ``deleteStream`` or ``closeStream``.
    """

    msid: int
    reason: str


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """The player wants to be sent nothing for now, or what comes from now on again."""

    msid: int
    is_paused: bool


@dataclass(frozen=True, slots=True)
class ReceiveRequested:
    """The player wants to be sent video, or does not; audio, where ``is_video`` is false."""

    msid: int
    is_video: bool
    is_wanted: bool


# ── events of a client session ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Status:
    """
    The information object of an ``onStatus``, ``_result`` or ``_error``.

    :ivar level: ``status``, ``warning`` or ``error``.
    :ivar code: such as ``NetStream.Publish.Start``; likewise ``description``: printable, ``""`` where it is missing.
    :ivar redirect: the URL to go to instead (``ex.redirect``, or the ``tcUrl`` of a reconnect request), or ``""``.
    """

    level: str
    code: str
    description: str
    redirect: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ConnectAccepted:
    """
    The server has connected us: publish or play now.

    :ivar properties: what it says of itself, both objects of its answer put together (``fmsVer``, ``capsEx``, …).
    """

    properties: Mapping[str, Value] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ConnectRejected:
    """The server will not connect us; the session is closed."""

    status: Status


@dataclass(frozen=True, slots=True)
class PublishAccepted:
    """Our publish has begun: send metadata, codec configs, and media from a keyframe on."""

    msid: int


@dataclass(frozen=True, slots=True)
class PublishRejected:
    """Our publish was refused; we are still connected."""

    status: Status


@dataclass(frozen=True, slots=True)
class PublishStopped:
    """The server has ended our publish, which was running."""

    status: Status


@dataclass(frozen=True, slots=True)
class PlayAccepted:
    """Our play has begun: media follows."""

    msid: int


@dataclass(frozen=True, slots=True)
class PlayRejected:
    """Our play was refused; we are still connected."""

    status: Status


@dataclass(frozen=True, slots=True)
class PlayStopped:
    """The server has ended our play, which was running, because the stream ended or for an error."""

    status: Status


@dataclass(frozen=True, slots=True)
class EofReceived:
    """The stream that we play has ended, or pauses (user control StreamEOF); servers differ in what follows."""

    msid: int


@dataclass(frozen=True, slots=True)
class StatusReceived:
    """Any other status, which changes nothing: a warning, a notice, a request to reconnect elsewhere."""

    status: Status


# ── events of both ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class CommandIgnored:
    """
    A command that means nothing here; one that waits for an answer has got an error.

    :ivar name: its name, in printable characters, at most 64.
    """

    name: str


@dataclass(frozen=True, slots=True)
class MessageApplied:
    """
    A message that concerns the session alone was read: an acknowledgement, a ping, a command that is only answered.

    With it every message makes an event at least, so that the caller can stop between any two messages.
    """


@dataclass(frozen=True, slots=True)
class MessageIgnored:
    """
    A message that was skipped, without harm to what follows.

    :ivar type_id: its RTMP message type.
    :ivar reason: what was wrong with it, for a log.
    """

    type_id: int
    reason: str


Event: TypeAlias = (
    ConnectRequested
    | ConnectAccepted
    | ConnectRejected
    | PublishRequested
    | PublishAccepted
    | PublishRejected
    | PublishStopped
    | PublishEnded
    | PlayRequested
    | PlayAccepted
    | PlayRejected
    | PlayStopped
    | PlayEnded
    | PauseRequested
    | ReceiveRequested
    | EofReceived
    | StatusReceived
    | VideoReceived
    | AudioReceived
    | MetadataReceived
    | DataReceived
    | CommandIgnored
    | MessageApplied
    | MessageIgnored
)
