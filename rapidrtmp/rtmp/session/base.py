"""
What both ends of an RTMP connection do alike: bytes in, events out, and the answers that need no decision.

How it thinks: the handshake comes first; what it leaves over, and everything after, goes to the chunk reader, which
gives messages. A message goes to a method by its type (``_REACTIONS``); what a command means is for ``server`` and
``client`` to say. The session stands in one state of ``states``, and only ``_advance`` changes it.

Media that arrives before the publish (or play) it belongs to was accepted is held within bounds, and comes out once it
is: by the same or the next ``events()``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import ClassVar, TypeAlias

from rapidrtmp.errors import MisuseError, PeerProtocolError
from rapidrtmp.rtmp.aggregate import read_aggregate
from rapidrtmp.rtmp.amf import Value
from rapidrtmp.rtmp.amf0 import write_values
from rapidrtmp.rtmp.chunk import NO_MESSAGE, ChunkReader, Message
from rapidrtmp.rtmp.command import read_data
from rapidrtmp.rtmp.events import (
    AudioReceived,
    DataReceived,
    Event,
    MessageApplied,
    MessageIgnored,
    MetadataReceived,
    VideoReceived,
)
from rapidrtmp.rtmp.handshake import ClientHandshake, HandshakeDone, ServerHandshake
from rapidrtmp.rtmp.limits import SessionLimits
from rapidrtmp.rtmp.message import (
    MessageType,
    UnreadableError,
    UserControlType,
    read_number,
    read_user_control,
    write_number,
)
from rapidrtmp.rtmp.outbox import Outbox
from rapidrtmp.rtmp.session.states import BUSY_STATES, Role, State, Trigger, next_state

__all__ = ["CHUNK_SIZE", "WINDOW_SIZE", "Events", "Session"]

#: We ask for an acknowledgement of so many bytes, and let the peer do likewise.
WINDOW_SIZE = 2_500_000
#: What we send in, and what FFmpeg then sends in too: large enough that most messages are one chunk.
CHUNK_SIZE = 65536
#: What holding an event costs beyond its payload, about, in bytes.
_HELD_OVERHEAD = 100

Events: TypeAlias = Iterable[Event]

#: Where no message is read, and none sent.
_SILENT = (State.HANDSHAKING, State.CLOSED)
_CLOSED = State.CLOSED
_APPLIED = (MessageApplied(),)

#: What a media message becomes, of the message stream, its timestamp and its payload.
_MEDIA: dict[int, Callable[[int, int, bytes], VideoReceived | AudioReceived]] = {
    MessageType.VIDEO: VideoReceived,
    MessageType.AUDIO: AudioReceived,
}


class Session:
    """
    One end of a connection: ``receive_data`` stores, ``events`` reads, ``data_to_send`` drains what we say.

    A ``PeerProtocolError`` escapes from ``events`` alone, and closes the session: drain ``data_to_send`` once more,
    for it may tell the peer why, then close the connection.

    :cvar role: which end.
    :cvar receiving: the state in which media is received; ``receiving_pending`` the one before, in which it is held.
    :cvar sending: the state in which media may be sent.
    :ivar state: where the session stands; see ``states`` for what may happen there.
    :ivar msid: the message stream of the publish or play that runs or waits; of the last one, when none does.
    :ivar bytes_received: from the peer so far, handshake included; it does not wrap.
    :ivar is_read: whether ``events`` has come to its end: it may be left before.
    """

    role: ClassVar[Role]
    receiving: ClassVar[State]
    receiving_pending: ClassVar[State]
    sending: ClassVar[State]

    def __init__(self, handshake: ServerHandshake | ClientHandshake, limits: SessionLimits) -> None:
        self.state = State.HANDSHAKING
        self.msid = 0
        self.bytes_received = 0
        self.is_read = True
        self._limits = limits
        self._handshake = handshake
        self._reader = ChunkReader(limits.before_publishing())
        self._outbox = Outbox()
        self._acknowledged = 0
        self._window = self._told_window = WINDOW_SIZE
        self._unreadable = 0
        self._unpublished = 0
        self._held: deque[Event] = deque()
        self._held_bytes = 0

    @property
    def chunk_size(self) -> int:
        """The peer's: the most payload its next chunk can carry, in bytes."""
        return self._reader.chunk_size

    @property
    def is_within_message(self) -> bool:
        """Whether a message has begun whose end has not been read."""
        return self._reader.is_within_message

    @property
    def is_busy(self) -> bool:
        """Whether a publish or a play runs, or waits to be accepted."""
        return self.state in BUSY_STATES

    def _advance(self, trigger: Trigger) -> None:
        """Move along the table of ``states``; the only place where the state changes. Raises as ``next_state`` does."""
        self.state = next_state(self.state, trigger, self.role)

    # ── the three verbs ──────────────────────────────────────────────────────────────────────────────────────────────

    def receive_data(self, data: bytes) -> None:
        """Store bytes from the peer; they are read by ``events``. A closed session stores nothing."""
        state = self.state
        if state is State.CLOSED:
            return
        self.bytes_received += len(data)
        if state is State.HANDSHAKING:
            self._handshake.receive_data(data)
            return
        self._reader.receive_data(data)
        if self.bytes_received - self._acknowledged >= self._window:
            self._acknowledged = self.bytes_received
            self._outbox.send_control(MessageType.ACKNOWLEDGEMENT, write_number(self._acknowledged))

    def events(self) -> Generator[Event, None, None]:
        """
        Read what is there, event by event; everything before an error is delivered before it is raised.

        Each message makes an event at least. Call it after ``receive_data``, and after a decision made outside of its
        loop that media was held for.

        :raises PeerProtocolError: the peer broke a rule or passed a limit; the session is closed.
        """
        self.is_read = False
        try:
            if self.state is State.HANDSHAKING:
                yield from self._shake_hands()
            if self.state in _SILENT:
                return
            if self._held:
                yield from self._release_held()
            receiving, reader = self.receiving, self._reader
            reader.gather()
            while (message := reader.next_message()) is not None:
                media = _MEDIA.get(message.type_id)
                if media is not None and self.state is receiving:  # nearly always; nothing is held then
                    self._unreadable = 0
                    yield media(self.msid, message.timestamp, message.payload)
                else:
                    yield from self._react(message) or _APPLIED
                    if self._held:
                        yield from self._release_held()
                if self.state is _CLOSED:
                    return
        except PeerProtocolError as error:
            self._break_off(str(error))
            raise
        finally:
            self.is_read = True

    def data_to_send(self) -> bytes:
        """Drain what the peer is to receive."""
        return self._outbox.drain()

    # ── what either end may say ──────────────────────────────────────────────────────────────────────────────────────

    def send_ping(self, timestamp: int) -> None:
        """
        Ask the peer for a sign of life. Any byte from it is one: some never answer pings.

        Nothing is sent before the handshake is done, or after the session is closed.

        :param timestamp: milliseconds, which an answer repeats; taken modulo 2**32.
        """
        if self.state not in _SILENT:
            self._outbox.send_user_control(UserControlType.PING_REQUEST, timestamp)

    def send_video(self, timestamp: int, payload: bytes) -> None:
        """
        Send a video message of the publish or play that runs.

        :param timestamp: milliseconds; taken modulo 2**32.
        :param payload: the body of an FLV video tag.
        :raises MisuseError: nothing runs that media could belong to.
        """
        self._check_sending()
        self._outbox.send_video(self.msid, timestamp, payload)

    def send_audio(self, timestamp: int, payload: bytes) -> None:
        """Send an audio message, likewise."""
        self._check_sending()
        self._outbox.send_audio(self.msid, timestamp, payload)

    def send_data(self, timestamp: int, *values: Value) -> None:
        """Send a data message, likewise: its name and what follows that."""
        self._check_sending()
        self._outbox.send_data(self.msid, timestamp, write_values(*values))

    def _check_sending(self) -> None:
        if self.state is not self.sending:
            raise MisuseError(f"cannot send media while {self.state.value}")

    # ── for the two roles to say ─────────────────────────────────────────────────────────────────────────────────────

    def _read_command(self, message: Message) -> Events:
        """React to a command."""
        raise NotImplementedError

    def _break_off(self, description: str) -> None:
        """Close the session of a peer that broke a rule."""
        raise NotImplementedError

    # ── from bytes to messages ───────────────────────────────────────────────────────────────────────────────────────

    def _shake_hands(self) -> Events:
        for _ in self._handshake.events():
            self._advance(HandshakeDone)
            self._reader.receive_data(self._handshake.take_rest())
        self._outbox.send_bytes(self._handshake.data_to_send())
        return ()

    def _react(self, message: Message) -> Events:
        """Pass a message to the method for its type; skip it if that cannot read it."""
        try:
            return _REACTIONS.get(message.type_id, Session._skip_unknown)(self, message)
        except UnreadableError as error:
            return self._skip_unreadable(message, error)

    def _count_unpublished(self) -> None:
        """:raises PeerProtocolError: the peer says more than it may without a publish or a play."""
        if not self.is_busy:
            self._unpublished += 1
            if self._unpublished > self._limits.unpublished_messages:
                raise PeerProtocolError(f"{self._unpublished} messages without publishing")

    def _skip_unknown(self, message: Message) -> Events:
        self._count_unpublished()
        return (MessageIgnored(message.type_id, "a type of message that is not read here"),)

    def _skip_unreadable(self, message: Message, error: UnreadableError) -> Events:
        self._unreadable += 1
        if self._unreadable > self._limits.unreadable_messages:
            raise PeerProtocolError(f"{self._unreadable} unreadable messages in a row, the last one: {error}")
        return (MessageIgnored(message.type_id, str(error)),)

    # ── media and data ───────────────────────────────────────────────────────────────────────────────────────────────

    def _read_media(self, message: Message) -> Events:
        self._unreadable = 0
        event = _MEDIA[message.type_id](self.msid, message.timestamp, message.payload)
        return (event,) if self.state is self.receiving else self._hold(event, message)

    def _read_data(self, message: Message) -> Events:
        name, values = read_data(message.payload, self._limits.amf)
        self._unreadable = 0
        event: Event
        if name == "onMetaData":
            described = values[0] if values else None
            event = MetadataReceived(self.msid, described if isinstance(described, dict) else {})
        else:
            event = DataReceived(self.msid, name, values, message.timestamp)
        return (event,) if self.state is self.receiving else self._hold(event, message)

    def _read_aggregate(self, message: Message) -> Events:
        try:
            for part in read_aggregate(message, self._limits.command_bytes):
                yield from self._react(part)
                if self.state is State.CLOSED:
                    return
        except UnreadableError as error:
            yield from self._skip_unreadable(message, error)
        yield from _APPLIED

    def _hold(self, event: Event, message: Message) -> Events:
        """Keep an event for when what it belongs to is accepted, if that is asked for and there is room."""
        if self.state is not self.receiving_pending:
            self._count_unpublished()
            return (MessageIgnored(message.type_id, "nothing is published"),)
        cost = len(message.payload) + _HELD_OVERHEAD
        if self._held_bytes + cost > self._limits.held_bytes:
            return (MessageIgnored(message.type_id, "the publish is not yet accepted, and enough is held for it"),)
        self._held.append(event)
        self._held_bytes += cost
        return ()

    def _release_held(self) -> Events:
        """Give out what was held, once what it belongs to is accepted."""
        while self._held and self.state is self.receiving:
            yield self._held.popleft()

    def _drop_held(self) -> None:
        """Forget what was held: what it belonged to is over."""
        self._held.clear()
        self._held_bytes = 0

    def _accept_media(self) -> None:
        """From now on messages may be as long as media needs."""
        self._reader.limits = self._limits.while_publishing()
        self._unpublished = 0

    # ── protocol control ─────────────────────────────────────────────────────────────────────────────────────────────

    def _read_nothing(self, _message: Message) -> Events:
        """Applied by the chunk reader (types 1 and 2), or of no use: peers acknowledge (3) as they please."""
        return ()

    def _read_window(self, message: Message) -> Events:
        """The peer wants an acknowledgement every so many bytes; zero would mean always, and is not meant."""
        self._window = read_number(message.payload) or WINDOW_SIZE
        return ()

    def _read_peer_bandwidth(self, message: Message) -> Events:
        """The peer bounds what we may send unacknowledged: said back to it when it is news (5.4.5)."""
        window = read_number(message.payload)
        if window != self._told_window:
            self._told_window = window
            self._outbox.send_control(MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE, write_number(window))
        return ()

    def _read_user_control(self, message: Message) -> Events:
        """A ping is answered."""
        self._count_unpublished()
        event, number = read_user_control(message.payload)
        if event == UserControlType.PING_REQUEST:
            self._outbox.send_user_control(UserControlType.PING_RESPONSE, number)
            return ()
        return self._user_control(event, number)

    def _user_control(self, _event: int, _number: int) -> Events:
        """React to a user control event that is no ping: most mean nothing to us."""
        return ()


_REACTIONS: dict[int, Callable[[Session, Message], Events]] = {
    NO_MESSAGE.type_id: Session._read_nothing,
    MessageType.SET_CHUNK_SIZE: Session._read_nothing,
    MessageType.ABORT: Session._read_nothing,
    MessageType.ACKNOWLEDGEMENT: Session._read_nothing,
    MessageType.USER_CONTROL: Session._read_user_control,
    MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE: Session._read_window,
    MessageType.SET_PEER_BANDWIDTH: Session._read_peer_bandwidth,
    MessageType.AUDIO: Session._read_media,
    MessageType.VIDEO: Session._read_media,
    MessageType.DATA_AMF3: Session._read_data,
    MessageType.COMMAND_AMF3: lambda session, message: session._read_command(message),
    MessageType.DATA_AMF0: Session._read_data,
    MessageType.COMMAND_AMF0: lambda session, message: session._read_command(message),
    MessageType.AGGREGATE: Session._read_aggregate,
}
