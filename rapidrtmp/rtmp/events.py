"""
What a server session reports: each event is one thing that a publisher did, past the wire format.

Nothing here carries a secret except ``PublishRequested.parameters``, which no ``repr`` shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from rapidrtmp.rtmp.amf import Value

__all__ = [
    "AudioReceived",
    "CommandIgnored",
    "Connected",
    "DataReceived",
    "Event",
    "MessageApplied",
    "MessageIgnored",
    "MetadataReceived",
    "PlayRefused",
    "PublishEnded",
    "PublishRequested",
    "VideoReceived",
]


@dataclass(frozen=True, slots=True)
class Connected:
    """
    A client connected to an application, and has been told so.

    What it says of itself is for people and logs: in printable characters, at most 64.

    :ivar app: the application as the client named it, without its query; ``live`` or ``live/extra``, or ``""``.
    :ivar tc_url_host: the host name in the URL the client used, or ``""``: a hint, which anybody can forge.
    :ivar client: how the client calls its software, or ``""``.
    """

    app: str
    tc_url_host: str
    client: str


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
    A video message of the accepted publish.

    :ivar msid: the message stream that was accepted.
    :ivar timestamp: RTMP's milliseconds, modulo 2**32.
    :ivar payload: the body of an FLV video tag, perhaps empty.
    """

    msid: int
    timestamp: int
    payload: bytes


class AudioReceived(NamedTuple):
    """
    An audio message of the accepted publish.

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
    The publisher ended its publish, or took the request back before it was answered; told once per publish.

    :ivar reason: the command that ended it: ``FCUnpublish``, ``deleteStream`` or ``closeStream``.
    """

    msid: int
    reason: str


@dataclass(frozen=True, slots=True)
class PlayRefused:
    """A client wanted to play over RTMP and has been told to watch over HLS."""

    app: str
    key: str


@dataclass(frozen=True, slots=True)
class CommandIgnored:
    """
    A command that means nothing to this server; one that waits for an answer has been told so.

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
    Connected
    | PublishRequested
    | VideoReceived
    | AudioReceived
    | MetadataReceived
    | DataReceived
    | PublishEnded
    | PlayRefused
    | CommandIgnored
    | MessageApplied
    | MessageIgnored
)
