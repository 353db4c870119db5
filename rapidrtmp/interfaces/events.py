"""
What happens on a server, in one order: who publishes, who watches, what is recorded, what is in trouble.

An event is recorded where it happens and costs that place next to nothing: all who want to know learn of it in a later
turn of the reactor. What is kept is bounded, and gone with the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from zope.interface import Attribute, Interface

from rapidrtmp.names import StreamName

__all__ = ["Event", "EventType", "IEventListener", "IEventLog", "RecordEvent", "no_event"]


class EventType(StrEnum):
    """What can happen."""

    PUBLISH = "publish"  # a publisher was admitted
    UNPUBLISH = "unpublish"  # it is gone; the stream may wait for it
    PLAY = "play"  # a client began to watch
    STOP = "stop"  # it does so no more
    TRACKS = "tracks"  # what the stream consists of is known, or has changed
    FIRST_SEGMENT = "first_segment"  # from now on players can begin
    HEALTH = "health"  # something is wrong with a publish, or no longer
    RECORDING_STARTED = "recording_started"
    RECORDING_DONE = "recording_done"  # all of it is stored
    RELAY = "relay"  # a relay connects, works, fails or ends
    LADDER = "ladder"  # a transcoder begins, works, fails or ends
    STORAGE = "storage"  # a storage does not take what is written, or does again
    NOTE = "note"  # a plugin says what it has seen or heard in a stream
    AUTH_REFUSED = "auth_refused"  # a client was not admitted


@dataclass(frozen=True, slots=True)
class Event:
    """
    One event.

    :ivar id: rises with each event, also over restarts of the server.
    :ivar time_ms: when it happened, in milliseconds since 1970.
    :ivar stream: which it concerns; ``None`` if it is none alone.
    :ivar peer: the address of the client that it concerns; ``""`` if there is none.
    :ivar data: what else is to be said, by name, as JSON can say it; nothing secret.
    """

    id: int
    time_ms: int
    type: EventType
    stream: StreamName | None
    peer: str = ""
    data: Mapping[str, object] = field(default_factory=dict)


class RecordEvent(Protocol):
    """Records an event; see :meth:`IEventLog.record`."""

    def __call__(
        self,
        type: EventType,
        stream: StreamName | None = None,
        peer: str = "",
        data: Mapping[str, object] = ...,
        /,
    ) -> None:
        """Record it."""


def no_event(
    _type: EventType, _stream: StreamName | None = None, _peer: str = "", _data: Mapping[str, object] = {}, /
) -> None:
    """Record nothing: for what works without a server."""


class IEventLog(Interface):
    """The log of a server."""

    last_id: int = Attribute("The id of the newest event, also before there is one.")
    oldest_gone: int = Attribute("The newest id that is not kept any more; events between later ones may be, too.")

    def record(
        type: EventType, stream: StreamName | None = None, peer: str = "", data: Mapping[str, object] = {}
    ) -> None:
        """Record that something has just happened. Never waits, and raises nothing."""

    def after(id: int) -> Sequence[Event]:
        """The events that are kept and came after the one with that id, in order."""

    def follow(listener: Callable[[Sequence[Event]], object]) -> Callable[[], None]:
        """
        Call ``listener`` with what is recorded from now on: in order, several at a time, in turns of the reactor of
        their own. It must not wait. Returns what ends this.
        """


class IEventListener(Interface):
    """
    A plugin that hears of everything.

    A contributor brings it (``Contribution.listeners``), or it is an instance of the class that a ``ListenerPlugin``
    names, which is called without arguments.
    """

    def event_recorded(event: Event) -> None:
        """
        Take one event: in order, from the reactor thread, in a turn of its own and never while a frame is handled.
        What takes long belongs into a thread or a process. What it raises is logged, and the next event comes all the
        same.
        """
