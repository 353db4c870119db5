"""
The life of a session as a table: what may happen in which state, and the state that follows.

A connection publishes or plays one stream at a time, whatever number of message streams it creates. A session moves by
the client's commands, the server's decisions, the end of the handshake, and the peer's errors. The table is the same
for both roles: the server receives the commands and makes the decisions, the client says the commands and gets the
decisions. So a move that is not in the table is the fault of the side that makes it: of the peer, which breaks the
protocol, or of our own code.
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
    Pause,
    Play,
    Publish,
    Receive,
    ReleaseStream,
    Seek,
    UnknownCommand,
)
from rapidrtmp.rtmp.handshake import HandshakeDone

__all__ = ["BUSY_STATES", "TRANSITIONS", "Decision", "Role", "State", "Trigger", "next_state"]


class Role(enum.Enum):
    """The end of the connection that a session is."""

    SERVER = "server"
    CLIENT = "client"


class State(enum.Enum):
    """Where a session stands."""

    HANDSHAKING = "handshaking"
    UNCONNECTED = "not connected to an application"
    CONNECT_PENDING = "waiting to be connected"  # until the server says accept_connect or reject_connect
    CONNECTED = "connected"
    PUBLISH_PENDING = "waiting to publish"  # until the server says accept_publish or reject_publish
    PUBLISHING = "publishing"
    PLAY_PENDING = "waiting to play"  # until the server says accept_play or reject_play
    PLAYING = "playing"
    CLOSED = "closed"


class Decision(enum.Enum):
    """What the server decides."""

    ACCEPT_CONNECT = "accept a connection"
    REJECT_CONNECT = "reject a connection"
    ACCEPT_PUBLISH = "accept a publish"
    REJECT_PUBLISH = "reject a publish"
    END_PUBLISH = "end a publish"
    ACCEPT_PLAY = "accept a play"
    REJECT_PLAY = "reject a play"
    END_PLAY = "end a play"
    REFUSE_CONNECTION = "refuse the connection"


Trigger: TypeAlias = "type[Command] | type[HandshakeDone] | type[PeerProtocolError] | Decision"

#: Welcome in every state behind connect, and changing none.
_ALWAYS: tuple[type[Command], ...] = (
    *(CreateStream, ReleaseStream, FCPublish, CheckBandwidth, GetStreamLength),
    *(Pause, Receive, Seek),  # of a play, which may just have ended
)
#: What ends a publish or a play; said without one (often twice over), they change nothing.
_ENDINGS: tuple[type[Command], ...] = (DeleteStream, CloseStream)
_PUBLISH_STATES = (State.PUBLISH_PENDING, State.PUBLISHING)
_PLAY_STATES = (State.PLAY_PENDING, State.PLAYING)
#: Those in which a publish or a play runs, or waits for its answer.
BUSY_STATES = frozenset({*_PUBLISH_STATES, *_PLAY_STATES})
_BEHIND_CONNECT = (State.CONNECTED, *_PUBLISH_STATES, *_PLAY_STATES)

TRANSITIONS: dict[tuple[State, Trigger], State] = {
    (State.HANDSHAKING, HandshakeDone): State.UNCONNECTED,
    (State.UNCONNECTED, Connect): State.CONNECT_PENDING,
    (State.CONNECT_PENDING, Decision.ACCEPT_CONNECT): State.CONNECTED,
    (State.CONNECT_PENDING, Decision.REJECT_CONNECT): State.CLOSED,
    (State.CONNECTED, Publish): State.PUBLISH_PENDING,
    (State.PUBLISH_PENDING, Decision.ACCEPT_PUBLISH): State.PUBLISHING,
    (State.PUBLISH_PENDING, Decision.REJECT_PUBLISH): State.CONNECTED,
    (State.PUBLISHING, Decision.END_PUBLISH): State.CONNECTED,
    (State.CONNECTED, Play): State.PLAY_PENDING,
    (State.PLAY_PENDING, Decision.ACCEPT_PLAY): State.PLAYING,
    (State.PLAY_PENDING, Decision.REJECT_PLAY): State.CONNECTED,
    (State.PLAYING, Decision.END_PLAY): State.CONNECTED,
    # A second publish or play is refused, and the first one continues.
    **{(state, command): state for state in BUSY_STATES for command in (Publish, Play)},
    **{(state, command): state for state in _BEHIND_CONNECT for command in _ALWAYS},
    **{(state, command): State.CONNECTED for state in _BEHIND_CONNECT for command in _ENDINGS},
    **{(state, FCUnpublish): State.CONNECTED for state in (State.CONNECTED, *_PUBLISH_STATES)},
    **{(state, FCUnpublish): state for state in _PLAY_STATES},
    **{(state, UnknownCommand): state for state in (State.UNCONNECTED, State.CONNECT_PENDING, *_BEHIND_CONNECT)},
    **{(state, Decision.REFUSE_CONNECTION): State.CLOSED for state in State},
    **{(state, PeerProtocolError): State.CLOSED for state in State},
}


def next_state(state: State, trigger: Trigger, role: Role) -> State:
    """
    Look a move up in ``TRANSITIONS``.

    :param role: our end of the connection.
    :raises PeerProtocolError: the peer made a move that has no place in ``state``.
    :raises MisuseError: we made one.
    """
    following = TRANSITIONS.get((state, trigger))
    if following is not None:
        return following
    what = trigger.value if isinstance(trigger, Decision) else trigger.__name__
    if isinstance(trigger, Decision) is (role is Role.SERVER):
        raise MisuseError(f"cannot {what} while {state.value}")
    raise PeerProtocolError(f"{what} while {state.value}")
