"""
The life of a server session, as a table: what may happen when, and what then is.

A connection publishes one stream at a time, whatever number of message streams it creates. What moves a session are the
client's commands, the server's decisions, the end of the handshake, and the client's errors; a command that is not in
the table for a state is a breach of protocol, a decision that is not is a bug of ours.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

from rapidrtmp.errors import MisuseError, PeerProtocolError
from rapidrtmp.rtmp.command import (
    CheckBandwidth,
    CloseStream,
    Command,
    Connect,
    CreateStream,
    DeleteStream,
    FCPublish,
    FCUnpublish,
    GetStreamLength,
    Play,
    Publish,
    ReleaseStream,
    UnknownCommand,
)
from rapidrtmp.rtmp.handshake import HandshakeDone

__all__ = ["TRANSITIONS", "Decision", "State", "Trigger", "next_state"]


class State(enum.Enum):
    """Where a session stands."""

    HANDSHAKING = "handshaking"
    UNCONNECTED = "not connected to an application"
    CONNECTED = "connected"
    PUBLISH_PENDING = "waiting to publish"  # until the edge says accept_publish or reject_publish
    PUBLISHING = "publishing"
    CLOSED = "closed"


class Decision(enum.Enum):
    """What the server decides."""

    ACCEPT_PUBLISH = "accept a publish"
    REJECT_PUBLISH = "reject a publish"
    END_PUBLISH = "end a publish"
    REFUSE_CONNECTION = "refuse the connection"


Trigger: TypeAlias = "type[Command] | type[HandshakeDone] | type[PeerProtocolError] | Decision"

#: Welcome in every state behind connect, and changing none.
_ALWAYS: tuple[type[Command], ...] = (
    CreateStream,
    ReleaseStream,
    FCPublish,
    CheckBandwidth,
    GetStreamLength,
    Play,
)
#: What ends a publish; said without one (often twice over), they change nothing.
_ENDINGS: tuple[type[Command], ...] = (FCUnpublish, DeleteStream, CloseStream)
_BEHIND_CONNECT = (State.CONNECTED, State.PUBLISH_PENDING, State.PUBLISHING)

TRANSITIONS: dict[tuple[State, Trigger], State] = {
    (State.HANDSHAKING, HandshakeDone): State.UNCONNECTED,
    (State.UNCONNECTED, Connect): State.CONNECTED,
    (State.CONNECTED, Publish): State.PUBLISH_PENDING,
    (State.PUBLISH_PENDING, Decision.ACCEPT_PUBLISH): State.PUBLISHING,
    (State.PUBLISH_PENDING, Decision.REJECT_PUBLISH): State.CONNECTED,
    (State.PUBLISHING, Decision.END_PUBLISH): State.CONNECTED,
    # A second publish is refused, and the first one goes on.
    (State.PUBLISH_PENDING, Publish): State.PUBLISH_PENDING,
    (State.PUBLISHING, Publish): State.PUBLISHING,
    **{(state, command): state for state in _BEHIND_CONNECT for command in _ALWAYS},
    **{(state, command): State.CONNECTED for state in _BEHIND_CONNECT for command in _ENDINGS},
    **{(state, UnknownCommand): state for state in (State.UNCONNECTED, *_BEHIND_CONNECT)},
    **{(state, Decision.REFUSE_CONNECTION): State.CLOSED for state in State},
    **{(state, PeerProtocolError): State.CLOSED for state in State},
}


def next_state(state: State, trigger: Trigger) -> State:
    """
    Look a move up in ``TRANSITIONS``.

    :raises PeerProtocolError: a command that has no place in ``state``.
    :raises MisuseError: a decision that has none.
    """
    following = TRANSITIONS.get((state, trigger))
    if following is not None:
        return following
    if isinstance(trigger, Decision):
        raise MisuseError(f"can not {trigger.value} while {state.value}")
    raise PeerProtocolError(f"{trigger.__name__} while {state.value}")
