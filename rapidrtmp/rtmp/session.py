"""
The server's side of one RTMP connection: octets in, events out, and the answers that clients wait for.

How it thinks: the handshake comes first; what it leaves over, and everything after, goes to the chunk reader, which
gives messages. A message goes to a method by its type (``_REACTIONS``), and a command from there to the conversation,
which knows what may be asked when.

A publish is asked for by an event and answered by a call, at once or later. Media that arrives in between is held
within bounds and comes out once the publish is accepted: by the next ``events()``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TypeAlias

from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.rtmp.aggregate import read_aggregate
from rapidrtmp.rtmp.chunk import ChunkReader, Message
from rapidrtmp.rtmp.command import read_command, read_data
from rapidrtmp.rtmp.conversation import WINDOW_SIZE, Conversation
from rapidrtmp.rtmp.events import (
    AudioReceived,
    DataReceived,
    Event,
    MessageApplied,
    MessageIgnored,
    MetadataReceived,
    VideoReceived,
)
from rapidrtmp.rtmp.handshake import NONCE_SIZE, HandshakeDone, ServerHandshake
from rapidrtmp.rtmp.limits import DEFAULT_LIMITS, SessionLimits
from rapidrtmp.rtmp.message import (
    MessageType,
    UnreadableError,
    UserControlType,
    read_number,
    read_user_control,
    write_number,
)
from rapidrtmp.rtmp.outbox import Outbox
from rapidrtmp.rtmp.state import State

__all__ = ["ServerSession", "State"]

#: What holding an event costs beyond its payload, about, in octets.
_HELD_OVERHEAD = 100

_APPLIED = (MessageApplied(),)

#: Where no message is read, and none sent.
_SILENT = (State.HANDSHAKING, State.CLOSED)

_Events: TypeAlias = Iterable[Event]

#: What a media message becomes, of the message stream, its timestamp and its payload.
_MEDIA: dict[int, Callable[[int, int, bytes], VideoReceived | AudioReceived]] = {
    MessageType.VIDEO: VideoReceived,
    MessageType.AUDIO: AudioReceived,
}


class ServerSession:
    """
    One client's connection: ``receive_data`` stores, ``events`` reads, ``data_to_send`` drains what we answer.

    A ``PeerProtocolError`` escapes from ``events`` alone, and closes the session: drain ``data_to_send`` once more,
    for it may tell the client why, then close the connection.

    :ivar bytes_received: octets from the client so far, handshake included; it does not wrap.
    """

    def __init__(
        self,
        random_bytes: Callable[[int], bytes],
        limits: SessionLimits = DEFAULT_LIMITS,
        *,
        default_app: str = "live",
    ) -> None:
        """
        Wait for a client's handshake.

        :param random_bytes: gives so many random octets; ``os.urandom`` does.
        :param limits: what the client may make us hold or do.
        :param default_app: the application of URLs that name none (``rtmp://host/key``).
        """
        self.bytes_received = 0
        self._limits = limits
        self._handshake = ServerHandshake(random_bytes(NONCE_SIZE))
        self._reader = ChunkReader(limits.before_publishing())
        self._outbox = Outbox()
        self._conversation = Conversation(self._outbox, limits, default_app)
        self._acknowledged = 0
        self._window = self._told_window = WINDOW_SIZE
        self._unreadable = 0
        self._unpublished = 0
        self._held: deque[Event] = deque()
        self._held_bytes = 0

    @property
    def state(self) -> State:
        """Where the session stands; see ``rapidrtmp.rtmp.state`` for what may happen there."""
        return self._conversation.state

    @property
    def chunk_size(self) -> int:
        """The client's: the most payload its next chunk can carry, in bytes."""
        return self._reader.chunk_size

    # ── the three verbs ──────────────────────────────────────────────────────────────────────────────────────────────

    def receive_data(self, data: bytes) -> None:
        """Store octets from the client; they are read by ``events``. A closed session stores nothing."""
        state = self._conversation.state
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

        Call it after ``receive_data``, and after an ``accept_publish`` made outside of its loop.

        :raises PeerProtocolError: the client broke a rule or passed a limit; the session is closed.
        """
        conversation = self._conversation
        try:
            if conversation.state is State.HANDSHAKING:
                self._shake_hands()
            if conversation.state in _SILENT:
                return
            if self._held:
                yield from self._release_held()
            for message in self._reader.messages():
                media = _MEDIA.get(message.type_id)
                if media is not None and conversation.state is State.PUBLISHING:  # nearly always
                    self._unreadable = 0
                    yield media(conversation.msid, message.timestamp, message.payload)
                else:
                    yield from self._react(message) or _APPLIED
                if self._held:
                    yield from self._release_held()
                if conversation.state is State.CLOSED:
                    return
        except PeerProtocolError as error:
            conversation.break_off(str(error))
            raise

    def data_to_send(self) -> bytes:
        """Drain what the client is to be told."""
        return self._outbox.drain()

    # ── decisions ────────────────────────────────────────────────────────────────────────────────────────────────────

    def accept_publish(self, msid: int) -> None:
        """
        Answer ``PublishRequested``: let it begin. From now on messages may be as long as media needs.

        :raises MisuseError: no publish waits for an answer on ``msid``.
        """
        self._conversation.accept_publish(msid)
        self._reader.limits = self._limits.while_publishing()
        self._unpublished = 0

    def reject_publish(self, msid: int, code: str, description: str) -> None:
        """
        Answer ``PublishRequested``: refuse. Send what there is to send, then close.

        :param code: ``NetStream.Publish.BadName``, ``NetStream.Publish.Denied`` or another that encoders know.
        :param description: one sentence for whoever looks at the encoder; never a secret.
        :raises MisuseError: no publish waits for an answer on ``msid``.
        """
        self._conversation.reject_publish(msid, code, description)
        self._drop_held()

    def end_publish(self, msid: int, code: str, description: str) -> None:
        """
        End a running publish: it was stopped, or its token expired. No ``PublishEnded`` follows.

        :param code: an onStatus code; the level is ``error``, so that encoders stop and show ``description``.
        :raises MisuseError: nothing is published on ``msid``.
        """
        self._conversation.end_publish(msid, code, description)
        self._drop_held()

    def advise(self, description: str) -> None:
        """
        Tell the client how its publish goes: an onStatus of level ``warning`` (RTMP 1.0, 7.2.2), which changes nothing.

        Nothing is sent while nothing is published.
        """
        self._conversation.advise(description)

    def refuse_connection(self, description: str) -> None:
        """Tell the client that the server must part with it, and close the session; any time, any number of times."""
        self._conversation.refuse_connection(description)

    def send_ping(self, timestamp: int) -> None:
        """
        Ask the client for a sign of life. Any octet from it is one: some never answer pings.

        Nothing is sent before the handshake is done, or after the session is closed.

        :param timestamp: milliseconds, which an answer repeats; taken modulo 2**32.
        """
        if self.state not in _SILENT:
            self._outbox.send_user_control(UserControlType.PING_REQUEST, timestamp)

    # ── from octets to messages ──────────────────────────────────────────────────────────────────────────────────────

    def _shake_hands(self) -> None:
        for _ in self._handshake.events():
            self._conversation.advance(HandshakeDone)
            self._reader.receive_data(self._handshake.take_rest())
        self._outbox.send_octets(self._handshake.data_to_send())

    def _react(self, message: Message) -> _Events:
        """Pass a message to the method for its type; skip it if that can not read it."""
        try:
            return _REACTIONS.get(message.type_id, ServerSession._skip_unknown)(self, message)
        except UnreadableError as error:
            return self._skip_unreadable(message, error)

    def _count_unpublished(self) -> None:
        """:raises PeerProtocolError: the client says more than it may without a publish."""
        if not self._conversation.has_publish:
            self._unpublished += 1
            if self._unpublished > self._limits.unpublished_messages:
                raise PeerProtocolError(f"{self._unpublished} messages without publishing")

    def _skip_unknown(self, message: Message) -> _Events:
        self._count_unpublished()
        return (MessageIgnored(message.type_id, "a type of message that this server does not read"),)

    def _skip_unreadable(self, message: Message, error: UnreadableError) -> _Events:
        self._unreadable += 1
        if self._unreadable > self._limits.unreadable_messages:
            raise PeerProtocolError(f"{self._unreadable} unreadable messages in a row, the last one: {error}")
        return (MessageIgnored(message.type_id, str(error)),)

    # ── media and data ───────────────────────────────────────────────────────────────────────────────────────────────

    def _read_media(self, message: Message) -> _Events:
        self._unreadable = 0
        event = _MEDIA[message.type_id](self._conversation.msid, message.timestamp, message.payload)
        return (event,) if self._conversation.state is State.PUBLISHING else self._hold(event, message)

    def _read_data(self, message: Message) -> _Events:
        name, values = read_data(message.payload, self._limits.amf)
        self._unreadable = 0
        event: Event
        if name == "onMetaData":
            described = values[0] if values else None
            event = MetadataReceived(self._conversation.msid, described if isinstance(described, dict) else {})
        else:
            event = DataReceived(self._conversation.msid, name, values, message.timestamp)
        return (event,) if self._conversation.state is State.PUBLISHING else self._hold(event, message)

    def _read_aggregate(self, message: Message) -> _Events:
        try:
            for part in read_aggregate(message):
                yield from self._react(part)
                if self.state is State.CLOSED:
                    return
        except UnreadableError as error:
            yield from self._skip_unreadable(message, error)
        yield from _APPLIED

    def _hold(self, event: Event, message: Message) -> _Events:
        """Keep an event for when the publish is accepted, if one is asked for and there is room."""
        if self.state is not State.PUBLISH_PENDING:
            self._count_unpublished()
            return (MessageIgnored(message.type_id, "nothing is published"),)
        cost = len(message.payload) + _HELD_OVERHEAD
        if self._held_bytes + cost > self._limits.held_bytes:
            return (MessageIgnored(message.type_id, "the publish is not yet accepted, and enough is held for it"),)
        self._held.append(event)
        self._held_bytes += cost
        return ()

    def _release_held(self) -> _Events:
        """Give out what was held, once the publish it belongs to is accepted."""
        while self._held and self.state is State.PUBLISHING:
            yield self._held.popleft()

    def _drop_held(self) -> None:
        """Forget what was held: its publish is over."""
        self._held.clear()
        self._held_bytes = 0

    # ── commands and protocol control ────────────────────────────────────────────────────────────────────────────────

    def _read_command(self, message: Message) -> _Events:
        command = read_command(message.payload, self._limits.amf)
        self._unreadable = 0
        events = self._conversation.answer(command, message.msid)
        if not self._conversation.has_publish:
            self._drop_held()
        return events

    def _read_nothing(self, _message: Message) -> _Events:
        """Applied by the chunk reader (types 1 and 2), or of no use: clients acknowledge (3) as they please."""
        return ()

    def _read_window(self, message: Message) -> _Events:
        """The client wants to be told every so many octets; zero would mean always, and is not meant."""
        self._window = read_number(message.payload) or WINDOW_SIZE
        return ()

    def _read_peer_bandwidth(self, message: Message) -> _Events:
        """The client bounds what we may send unacknowledged: said back to it when it is news (5.4.5)."""
        window = read_number(message.payload)
        if window != self._told_window:
            self._told_window = window
            self._outbox.send_control(MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE, write_number(window))
        return ()

    def _read_user_control(self, message: Message) -> _Events:
        """A ping is answered; the other events are for players, or for nobody."""
        self._count_unpublished()
        event, number = read_user_control(message.payload)
        if event == UserControlType.PING_REQUEST:
            self._outbox.send_user_control(UserControlType.PING_RESPONSE, number)
        return ()


_REACTIONS: dict[int, Callable[[ServerSession, Message], _Events]] = {
    MessageType.SET_CHUNK_SIZE: ServerSession._read_nothing,
    MessageType.ABORT: ServerSession._read_nothing,
    MessageType.ACKNOWLEDGEMENT: ServerSession._read_nothing,
    MessageType.USER_CONTROL: ServerSession._read_user_control,
    MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE: ServerSession._read_window,
    MessageType.SET_PEER_BANDWIDTH: ServerSession._read_peer_bandwidth,
    MessageType.AUDIO: ServerSession._read_media,
    MessageType.VIDEO: ServerSession._read_media,
    MessageType.DATA_AMF3: ServerSession._read_data,
    MessageType.COMMAND_AMF3: ServerSession._read_command,
    MessageType.DATA_AMF0: ServerSession._read_data,
    MessageType.COMMAND_AMF0: ServerSession._read_command,
    MessageType.AGGREGATE: ServerSession._read_aggregate,
}
