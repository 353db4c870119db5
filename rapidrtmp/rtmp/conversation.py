"""
What a client asks for in commands, what it is answered, and what the server decides: the part of a session that knows
about connecting and publishing, and nothing about octets.

Every client kind has its own little ceremony (releaseStream and FCPublish, _checkbw, a second createStream,
deleteStream with a name instead of a number); here all of them get the answers they wait for. Whether a command has a
place at all is said by the table in ``state``, and only ``advance`` moves along it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from rapidrtmp.errors import MisuseError, PeerProtocolError
from rapidrtmp.names import BadNameError
from rapidrtmp.rtmp import replies
from rapidrtmp.rtmp.address import StreamAddress, app_path, parse_address, tc_url_host
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
    printable,
)
from rapidrtmp.rtmp.events import CommandIgnored, Connected, Event, PlayRefused, PublishEnded, PublishRequested
from rapidrtmp.rtmp.limits import SessionLimits
from rapidrtmp.rtmp.message import MessageType, UserControlType, write_number, write_peer_bandwidth
from rapidrtmp.rtmp.outbox import Outbox
from rapidrtmp.rtmp.state import Decision, State, Trigger, next_state

__all__ = ["Conversation"]

#: We ask to be told of so many octets received, and let the client do likewise.
WINDOW_SIZE = 2_500_000
#: What we send in, and what FFmpeg then sends in too: large enough that most messages are one chunk.
CHUNK_SIZE = 65536
_DYNAMIC = 2


class Conversation:
    """
    One connection's commands and decisions.

    :ivar state: where the connection stands.
    :ivar msid: the message stream of the publish that runs or waits; of the last one, when none does.
    """

    def __init__(self, outbox: Outbox, limits: SessionLimits, default_app: str) -> None:
        self.state = State.HANDSHAKING
        self.msid = 0
        self._outbox = outbox
        self._limits = limits
        self._default_app = default_app
        self._app = self._tc_url = ""
        self._msids: set[int] = set()
        self._wants_fc_notice = False
        self._unpublished_commands = 0

    def advance(self, trigger: Trigger) -> None:
        """Move along the table of ``state``; the only place where the state changes. Raises as ``next_state`` does."""
        self.state = next_state(self.state, trigger)

    @property
    def has_publish(self) -> bool:
        """Whether a publish runs, or waits to be accepted."""
        return self.state is State.PUBLISHING or self.state is State.PUBLISH_PENDING

    # ── decisions: see the methods of ServerSession of the same names ────────────────────────────────────────────────

    def accept_publish(self, msid: int) -> None:
        """Let the publish that waits on ``msid`` begin."""
        self._decide(Decision.ACCEPT_PUBLISH, msid)
        self._unpublished_commands = 0
        self._outbox.send_user_control(UserControlType.STREAM_BEGIN, msid)
        if self._wants_fc_notice:
            self._outbox.send_status(msid, replies.write_fc_notice("onFCPublish", replies.PUBLISH_START, "Publishing."))
        self._outbox.send_status(msid, replies.write_status("status", replies.PUBLISH_START, "Publishing."))

    def reject_publish(self, msid: int, code: str, description: str) -> None:
        """Refuse the publish that waits on ``msid``."""
        self._decide(Decision.REJECT_PUBLISH, msid)
        self._outbox.send_status(msid, replies.write_status("error", code, description))

    def end_publish(self, msid: int, code: str, description: str) -> None:
        """End the publish that runs on ``msid``."""
        self._decide(Decision.END_PUBLISH, msid)
        self._outbox.send_status(msid, replies.write_status("error", code, description))

    def advise(self, description: str) -> None:
        """Tell the client something about its running publish, which goes on; without one, nothing is said."""
        if self.state is State.PUBLISHING:
            self._outbox.send_status(self.msid, replies.write_status("warning", replies.ADVICE, description))

    def refuse_connection(self, description: str) -> None:
        """Part with the client, telling it why if it got as far as being connected."""
        if self.state is State.CONNECTED or self.has_publish:
            self._outbox.send_status(0, replies.write_status("error", replies.APP_SHUTDOWN, description))
        self.advance(Decision.REFUSE_CONNECTION)

    def break_off(self, description: str) -> None:
        """Close the session of a client that broke a rule, telling it which one if it got as far as being connected."""
        if self.state is State.CONNECTED or self.has_publish:
            msid = self.msid if self.has_publish else 0
            self._outbox.send_status(msid, replies.write_status("error", replies.CONNECT_CLOSED, description))
        self.advance(PeerProtocolError)

    def _decide(self, decision: Decision, msid: int) -> None:
        if msid != self.msid:
            raise MisuseError(f"can not {decision.value} on message stream {msid}: the one in question is {self.msid}")
        self.advance(decision)

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def answer(self, command: Command, msid: int) -> Iterable[Event]:
        """
        Answer one command that came on message stream ``msid``.

        :returns: the events it makes.
        :raises PeerProtocolError: it has no place in this state, or passes a limit.
        """
        if self.state is not State.PUBLISHING:
            self._unpublished_commands += 1
            if self._unpublished_commands > self._limits.unpublished_commands:
                raise PeerProtocolError(f"{self._unpublished_commands} commands without publishing")
        return _ANSWERS[type(command)](self, command, msid)

    def _connect(self, command: Connect, _msid: int) -> Iterable[Event]:
        self._check_length(command, "app", command.app, self._limits.app_length)
        self._check_length(command, "tcUrl", command.tc_url, self._limits.tc_url_length)
        self.advance(Connect)
        self._app, self._tc_url = command.app, command.tc_url
        self._outbox.send_control(MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE, write_number(WINDOW_SIZE))
        self._outbox.send_control(MessageType.SET_PEER_BANDWIDTH, write_peer_bandwidth(WINDOW_SIZE, _DYNAMIC))
        self._outbox.send_chunk_size(CHUNK_SIZE)
        self._outbox.send_answer(replies.write_connect_success(command.transaction))
        app, host = app_path(self._app, self._tc_url), tc_url_host(self._tc_url)
        return (Connected(printable(app), printable(host), command.client),)

    def _check_length(self, command: Connect, what: str, text: str, limit: int) -> None:
        """Refuse a connect whose ``text`` is too long: told to the client first, then an error to us."""
        if len(text) > limit:
            problem = f"{what} of {len(text)} characters, limit {limit}"
            self._outbox.send_answer(replies.write_error(command.transaction, replies.CONNECT_REJECTED, problem))
            raise PeerProtocolError(problem)

    def _create_stream(self, command: CreateStream, _msid: int) -> Iterable[Event]:
        self.advance(CreateStream)
        if len(self._msids) >= self._limits.message_streams:
            raise PeerProtocolError(f"more than {self._limits.message_streams} message streams")
        msid = next(number for number in itertools.count(1) if number not in self._msids)
        self._msids.add(msid)
        self._result(command, msid)
        return ()

    def _publish(self, command: Publish, msid: int) -> Iterable[Event]:
        is_second = self.has_publish
        self.advance(Publish)
        if is_second:
            problem = "This connection is publishing already."
            self._outbox.send_status(msid, replies.write_status("error", replies.PUBLISH_BAD_NAME, problem))
            return (CommandIgnored("publish"),)
        self.msid = msid
        try:
            address = self._parse_address(command.name)
        except BadNameError as error:
            self.reject_publish(msid, replies.PUBLISH_BAD_NAME, str(error))
            return (CommandIgnored("publish"),)
        return (PublishRequested(msid, address.app, address.key, address.parameters, command.kind),)

    def _play(self, command: Play, msid: int) -> Iterable[Event]:
        self.advance(Play)
        problem = "This server does not play over RTMP. Watch over HLS instead."
        self._outbox.send_status(msid, replies.write_status("error", replies.PLAY_STREAM_NOT_FOUND, problem))
        try:
            address = self._parse_address(command.name)
        except BadNameError:
            return (CommandIgnored("play"),)
        return (PlayRefused(address.app, address.key),)

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
        had_publish = self.has_publish
        self.advance(trigger)
        return (PublishEnded(self.msid, reason),) if had_publish else ()

    def _announce(self, command: FCPublish, _msid: int) -> Iterable[Event]:
        self.advance(FCPublish)
        self._wants_fc_notice = True
        self._result(command, None)
        return ()

    def _be_polite(self, command: ReleaseStream | CheckBandwidth, _msid: int) -> Iterable[Event]:
        self.advance(type(command))
        self._result(command, None)
        return ()

    def _tell_length(self, command: GetStreamLength, _msid: int) -> Iterable[Event]:
        """Zero: live. An ``_error`` would keep the client from playing, and its user from the reason it can not."""
        self.advance(GetStreamLength)
        self._result(command, 0)
        return ()

    def _ignore(self, command: UnknownCommand, _msid: int) -> Iterable[Event]:
        self.advance(UnknownCommand)
        if command.wants_answer:
            problem = "No such command."
            self._outbox.send_answer(replies.write_error(command.transaction, replies.CALL_FAILED, problem))
        return (CommandIgnored(command.name),)

    def _result(self, command: Command, result: float | None) -> None:
        if command.wants_answer:
            self._outbox.send_answer(replies.write_result(command.transaction, result))


_ANSWERS: dict[type[Command], Callable[[Conversation, Any, int], Iterable[Event]]] = {
    Connect: Conversation._connect,
    CreateStream: Conversation._create_stream,
    ReleaseStream: Conversation._be_polite,
    FCPublish: Conversation._announce,
    CheckBandwidth: Conversation._be_polite,
    GetStreamLength: Conversation._tell_length,
    Publish: Conversation._publish,
    Play: Conversation._play,
    FCUnpublish: Conversation._unpublish,
    DeleteStream: Conversation._delete_stream,
    CloseStream: Conversation._close_stream,
    UnknownCommand: Conversation._ignore,
}
