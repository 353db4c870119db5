"""
The server's end of a connection: a client's commands and their answers, and what the server decides.

Every client kind has its own little ceremony (releaseStream and FCPublish, _checkbw, a second createStream,
deleteStream with a name instead of a number); here all of them get the answers they wait for. Whether a command has a
place at all is said by the table in ``states``.

A connection, a publish and a play are asked for by an event and answered by a call: a connection before the next event
is read, a publish or a play at once or later.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rapidrtmp.errors import MisuseError, PeerProtocolError
from rapidrtmp.names import BadNameError
from rapidrtmp.rtmp import replies
from rapidrtmp.rtmp.address import StreamAddress, app_path, has_query, parse_address, tc_url_host
from rapidrtmp.rtmp.amf import Value
from rapidrtmp.rtmp.chunk import Message
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
    printable,
    read_command,
)
from rapidrtmp.rtmp.events import (
    CommandIgnored,
    ConnectRequested,
    Event,
    PauseRequested,
    PlayEnded,
    PlayRequested,
    PublishEnded,
    PublishRequested,
    ReceiveRequested,
)
from rapidrtmp.rtmp.handshake import NONCE_SIZE, ServerHandshake
from rapidrtmp.rtmp.limits import DEFAULT_LIMITS, SessionLimits
from rapidrtmp.rtmp.message import MessageType, UserControlType, write_number, write_peer_bandwidth
from rapidrtmp.rtmp.session.base import CHUNK_SIZE, WINDOW_SIZE, Events, Session
from rapidrtmp.rtmp.session.states import BUSY_STATES, Decision, Role, State

__all__ = ["ServerSession"]

_DYNAMIC = 2
_PUBLISH_STATES = (State.PUBLISH_PENDING, State.PUBLISHING)
_STREAMING = (State.PUBLISHING, State.PLAYING)


class ServerSession(Session):
    """One client's connection; see :class:`~rapidrtmp.rtmp.session.base.Session`."""

    role = Role.SERVER
    receiving = State.PUBLISHING
    receiving_pending = State.PUBLISH_PENDING
    sending = State.PLAYING

    def __init__(
        self,
        random_bytes: Callable[[int], bytes],
        limits: SessionLimits = DEFAULT_LIMITS,
        *,
        default_app: str = "live",
    ) -> None:
        """
        Wait for a client's handshake.

        :param random_bytes: gives so many random bytes; ``os.urandom`` does.
        :param limits: what the client may make us hold or do.
        :param default_app: the application of URLs that name none (``rtmp://host/key``).
        """
        super().__init__(ServerHandshake(random_bytes(NONCE_SIZE)), limits)
        self._default_app = default_app
        self._app = self._tc_url = ""
        self._connect_transaction = 0.0
        self._msids: set[int] = set()
        self._wants_fc_notice = False
        self._capabilities = 0
        self._unpublished_commands = 0

    # ── decisions ────────────────────────────────────────────────────────────────────────────────────────────────────

    def accept_connect(self, properties: Mapping[str, Value] = {}) -> None:
        """
        Answer ``ConnectRequested``: the client is connected.

        :param properties: put into both objects of the answer: see ``replies.enhanced_properties``.
        :raises MisuseError: no client waits to be connected.
        """
        self._advance(Decision.ACCEPT_CONNECT)
        self._outbox.send_control(MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE, write_number(WINDOW_SIZE))
        self._outbox.send_control(MessageType.SET_PEER_BANDWIDTH, write_peer_bandwidth(WINDOW_SIZE, _DYNAMIC))
        self._outbox.send_chunk_size(CHUNK_SIZE)
        self._outbox.send_answer(replies.write_connect_success(self._connect_transaction, properties))

    def reject_connect(self, code: str, description: str) -> None:
        """
        Answer ``ConnectRequested``: refuse. Send what there is to send, then close.

        :param code: ``NetConnection.Connect.Rejected`` or ``NetConnection.Connect.InvalidApp``.
        :param description: one sentence for the person at the client; never a secret.
        :raises MisuseError: no client waits to be connected.
        """
        self._advance(Decision.REJECT_CONNECT)
        self._outbox.send_answer(replies.write_error(self._connect_transaction, code, description))

    def accept_publish(self, msid: int) -> None:
        """
        Answer ``PublishRequested``: let it begin. From now on messages may be as long as media needs.

        :raises MisuseError: no publish waits for an answer on ``msid``.
        """
        self._decide(Decision.ACCEPT_PUBLISH, msid)
        self._unpublished_commands = 0
        self._accept_media()
        self._outbox.send_user_control(UserControlType.STREAM_BEGIN, msid)
        if self._wants_fc_notice:
            self._outbox.send_status(msid, replies.write_fc_notice("onFCPublish", replies.PUBLISH_START, "Publishing."))
        self._outbox.send_status(msid, replies.write_status("status", replies.PUBLISH_START, "Publishing."))

    def reject_publish(self, msid: int, code: str, description: str) -> None:
        """
        Answer ``PublishRequested``: refuse. Send what there is to send, then close.

        :param code: ``NetStream.Publish.BadName``, ``NetStream.Publish.Denied`` or another that encoders know.
        :param description: one sentence for the person at the encoder; never a secret.
        :raises MisuseError: no publish waits for an answer on ``msid``.
        """
        self._decide(Decision.REJECT_PUBLISH, msid)
        self._outbox.send_status(msid, replies.write_status("error", code, description))
        self._drop_held()

    def end_publish(self, msid: int, code: str, description: str) -> None:
        """
        End a running publish: it was stopped, or its token expired. No ``PublishEnded`` follows.

        :param code: an onStatus code; the level is ``error``, so that encoders stop and show ``description``.
        :raises MisuseError: nothing is published on ``msid``.
        """
        self._decide(Decision.END_PUBLISH, msid)
        self._outbox.send_status(msid, replies.write_status("error", code, description))
        self._drop_held()

    def advise(self, description: str) -> None:
        """
        Tell the client how its publish goes: an onStatus of level ``warning`` (RTMP 1.0, 7.2.2), which changes nothing.

        Nothing is sent while nothing is published.
        """
        if self.state is State.PUBLISHING:
            self._outbox.send_status(self.msid, replies.write_status("warning", replies.ADVICE, description))

    def request_reconnect(self, description: str, tc_url: str = "") -> bool:
        """
        Ask the client to connect again, and to continue there (Enhanced RTMP v2, "Reconnect Request").

        It leaves when it likes, after a keyframe as a rule: until then take what it sends. Nothing is sent to a client
        that has not declared that it understands this (``capsEx``), nor before it is connected.

        :param description: one sentence for the person at the client; never a secret.
        :param tc_url: where to, an absolute URL or one relative to its own; empty for the same as before.
        :returns: whether it was asked.
        """
        can_reconnect = bool(self._capabilities & replies.CAN_RECONNECT)
        if not can_reconnect or not (self.state is State.CONNECTED or self.is_busy):
            return False
        self._outbox.send_status(0, replies.write_reconnect_request(description, tc_url))
        return True

    def accept_play(self, msid: int, chunk_size: int = CHUNK_SIZE) -> None:
        """
        Answer ``PlayRequested``: let it begin. Then send metadata, codec configs, and media from a keyframe on.

        :param chunk_size: what is sent in from now on.
        :raises MisuseError: no play waits for an answer on ``msid``.
        """
        self._decide(Decision.ACCEPT_PLAY, msid)
        self._unpublished_commands = 0
        if chunk_size != CHUNK_SIZE:
            self._outbox.send_chunk_size(chunk_size)
        self._outbox.send_user_control(UserControlType.STREAM_BEGIN, msid)
        self._outbox.send_status(msid, replies.write_status("status", replies.PLAY_RESET, "Playing."))
        self._outbox.send_status(msid, replies.write_status("status", replies.PLAY_START, "Playing."))
        self.send_data(0, "|RtmpSampleAccess", True, True)

    def reject_play(self, msid: int, code: str, description: str) -> None:
        """
        Answer ``PlayRequested``: refuse.

        :param code: ``NetStream.Play.StreamNotFound``, ``NetStream.Play.Failed`` or another that players know.
        :param description: one sentence for the person at the player; never a secret.
        :raises MisuseError: no play waits for an answer on ``msid``.
        """
        self._decide(Decision.REJECT_PLAY, msid)
        self._outbox.send_status(msid, replies.write_status("error", code, description))

    def note_pause(self, msid: int, *, is_paused: bool) -> None:
        """Answer ``PauseRequested``, once it is so."""
        code, words = (replies.PAUSE_NOTIFY, "Paused.") if is_paused else (replies.UNPAUSE_NOTIFY, "Playing.")
        self._outbox.send_status(msid, replies.write_status("status", code, words))

    def end_play(self, msid: int, description: str) -> None:
        """
        End a running play: its stream has ended. No ``PlayEnded`` follows.

        :raises MisuseError: nothing is played on ``msid``.
        """
        self._decide(Decision.END_PLAY, msid)
        self._outbox.send_user_control(UserControlType.STREAM_EOF, msid)
        self._outbox.send_status(msid, replies.write_status("status", replies.PLAY_STOP, description))

    def refuse_connection(self, description: str) -> None:
        """Tell the client that the server must part with it, and close the session; any time, any number of times."""
        if self.state is State.CONNECTED or self.is_busy:
            self._outbox.send_status(0, replies.write_status("error", replies.APP_SHUTDOWN, description))
        self._advance(Decision.REFUSE_CONNECTION)

    def _break_off(self, description: str) -> None:
        """Close the session of a client that broke a rule, telling it which one if it got as far as being connected."""
        if self.state is State.CONNECTED or self.is_busy:
            msid = self.msid if self.is_busy else 0
            self._outbox.send_status(msid, replies.write_status("error", replies.CONNECT_CLOSED, description))
        self._advance(PeerProtocolError)

    def _decide(self, decision: Decision, msid: int) -> None:
        if msid != self.msid:
            raise MisuseError(f"cannot {decision.value} on message stream {msid}: the one in question is {self.msid}")
        self._advance(decision)

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_command(self, message: Message) -> Events:
        """
        Answer one command.

        :raises PeerProtocolError: it has no place in this state, or passes a limit.
        """
        command = read_command(message.payload, self._limits.amf)
        self._unreadable = 0
        if self.state not in _STREAMING:
            self._unpublished_commands += 1
            if self._unpublished_commands > self._limits.unpublished_commands:
                raise PeerProtocolError(f"{self._unpublished_commands} commands without publishing")
        events = _ANSWERS[type(command)](self, command, message.msid)
        if self.state not in _PUBLISH_STATES:
            self._drop_held()
        return events

    def _connect(self, command: Connect, _msid: int) -> Iterable[Event]:
        self._check_length(command, "app", command.app, self._limits.app_length)
        self._check_length(command, "tcUrl", command.tc_url, self._limits.tc_url_length)
        self._advance(Connect)
        self._app, self._tc_url, self._connect_transaction = command.app, command.tc_url, command.transaction
        self._capabilities = replies.read_capabilities(command.properties)
        app, host = app_path(self._app, self._tc_url), tc_url_host(self._tc_url)
        may_be_key = "/" not in app and has_query(self._app, self._tc_url)
        event = ConnectRequested(printable(app), printable(host), command.client, may_be_key, command.properties)
        return (event,)

    def _check_length(self, command: Connect, what: str, text: str, limit: int) -> None:
        """Refuse a connect whose ``text`` is too long: sent to the client first, then an error to us."""
        if len(text) > limit:
            problem = f"{what} of {len(text)} characters, limit {limit}"
            self._outbox.send_answer(replies.write_error(command.transaction, replies.CONNECT_REJECTED, problem))
            raise PeerProtocolError(problem)

    def _create_stream(self, command: CreateStream, _msid: int) -> Iterable[Event]:
        """Always answered: some encoders ask with transaction id 0 or -1, and wait all the same."""
        self._advance(CreateStream)
        if len(self._msids) >= self._limits.message_streams:
            raise PeerProtocolError(f"more than {self._limits.message_streams} message streams")
        msid = next(number for number in itertools.count(1) if number not in self._msids)
        self._msids.add(msid)
        self._outbox.send_answer(replies.write_result(command.transaction, msid))
        return ()

    def _publish(self, command: Publish, msid: int) -> Iterable[Event]:
        is_second = self.is_busy
        self._advance(Publish)
        if is_second:
            return self._refuse_second(msid, "publish", replies.PUBLISH_BAD_NAME)
        self.msid = msid
        try:
            address = self._parse_address(command.name)
        except BadNameError as error:
            self.reject_publish(msid, replies.PUBLISH_BAD_NAME, str(error))
            return (CommandIgnored("publish"),)
        return (PublishRequested(msid, address.app, address.key, address.parameters, command.kind),)

    def _play(self, command: Play, msid: int) -> Iterable[Event]:
        is_second = self.is_busy
        self._advance(Play)
        if is_second:
            return self._refuse_second(msid, "play", replies.PLAY_FAILED)
        self.msid = msid
        try:
            address = self._parse_address(command.name)
        except BadNameError as error:
            self.reject_play(msid, replies.PLAY_STREAM_NOT_FOUND, str(error))
            return (CommandIgnored("play"),)
        return (PlayRequested(msid, address.app, address.key, address.parameters),)

    def _pause(self, command: Pause, msid: int) -> Iterable[Event]:
        self._advance(Pause)
        self._result(command, None)
        return (PauseRequested(self.msid, command.is_paused),) if self._is_played(msid) else ()

    def _receive(self, command: Receive, msid: int) -> Iterable[Event]:
        self._advance(Receive)
        self._result(command, None)
        if not self._is_played(msid):
            return ()
        return (ReceiveRequested(self.msid, command.is_video, command.is_wanted),)

    def _seek(self, command: Seek, _msid: int) -> Iterable[Event]:
        """There is one place in what is live; a status of level error would end some players."""
        self._advance(Seek)
        if command.wants_answer:
            problem = "The stream is live: it cannot be played from another place."
            self._outbox.send_answer(replies.write_error(command.transaction, replies.SEEK_FAILED, problem))
        return (CommandIgnored("seek"),)

    def _is_played(self, msid: int) -> bool:
        return self.state is State.PLAYING and msid in (0, self.msid)

    def _refuse_second(self, msid: int, command: str, code: str) -> Iterable[Event]:
        doing = "publishing" if self.state in _PUBLISH_STATES else "playing"
        problem = f"This connection is {doing} already."
        self._outbox.send_status(msid, replies.write_status("error", code, problem))
        return (CommandIgnored(command),)

    def _parse_address(self, name: str) -> StreamAddress:
        if len(name) > self._limits.name_length:
            raise BadNameError(f"the stream name has {len(name)} characters, limit {self._limits.name_length}")
        return parse_address(self._app, self._tc_url, name, self._default_app)

    def _unpublish(self, command: FCUnpublish, msid: int) -> Iterable[Event]:
        notice = replies.write_fc_notice("onFCUnpublish", replies.UNPUBLISH_SUCCESS, "Publish ended.")
        events = self._end(FCUnpublish, "FCUnpublish")
        self._outbox.send_status(msid, notice)
        self._result(command, None)
        return events

    def _delete_stream(self, command: DeleteStream, _msid: int) -> Iterable[Event]:
        """A number that is another stream's leaves the publish alone; a name, or a number of no stream, means it."""
        if command.msid in self._msids and command.msid != self.msid:
            self._msids.discard(command.msid)
            return ()
        self._msids.discard(self.msid)
        return self._end(DeleteStream, "deleteStream")

    def _close_stream(self, _command: CloseStream, _msid: int) -> Iterable[Event]:
        return self._end(CloseStream, "closeStream")

    def _end(self, trigger: type[Command], reason: str) -> Iterable[Event]:
        before = self.state
        self._advance(trigger)
        if before is self.state or before not in BUSY_STATES:
            return ()
        return (PublishEnded(self.msid, reason) if before in _PUBLISH_STATES else PlayEnded(self.msid, reason),)

    def _announce(self, command: FCPublish, _msid: int) -> Iterable[Event]:
        self._advance(FCPublish)
        self._wants_fc_notice = True
        self._result(command, None)
        return ()

    def _be_polite(self, command: ReleaseStream | CheckBandwidth, _msid: int) -> Iterable[Event]:
        self._advance(type(command))
        self._result(command, None)
        return ()

    def _tell_length(self, command: GetStreamLength, _msid: int) -> Iterable[Event]:
        """Zero: live. An ``_error`` would keep the client from playing, and its user from the reason it cannot."""
        self._advance(GetStreamLength)
        self._result(command, 0)
        return ()

    def _ignore(self, command: UnknownCommand, _msid: int) -> Iterable[Event]:
        self._advance(UnknownCommand)
        if command.wants_answer:
            problem = "No such command."
            self._outbox.send_answer(replies.write_error(command.transaction, replies.CALL_FAILED, problem))
        return (CommandIgnored(command.name),)

    def _result(self, command: Command, result: float | None) -> None:
        if command.wants_answer:
            self._outbox.send_answer(replies.write_result(command.transaction, result))


_ANSWERS: dict[type[Command], Callable[[ServerSession, Any, int], Iterable[Event]]] = {
    Connect: ServerSession._connect,
    CreateStream: ServerSession._create_stream,
    ReleaseStream: ServerSession._be_polite,
    FCPublish: ServerSession._announce,
    CheckBandwidth: ServerSession._be_polite,
    GetStreamLength: ServerSession._tell_length,
    Publish: ServerSession._publish,
    Play: ServerSession._play,
    Pause: ServerSession._pause,
    Receive: ServerSession._receive,
    Seek: ServerSession._seek,
    FCUnpublish: ServerSession._unpublish,
    DeleteStream: ServerSession._delete_stream,
    CloseStream: ServerSession._close_stream,
    UnknownCommand: ServerSession._ignore,
}
