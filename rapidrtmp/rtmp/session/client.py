"""
The client's end of a connection: says the commands, and takes the answers. For relays that publish to another server,
and for pulls that play from one.

How it thinks: the caller asks for one thing at a time (``connect``, then ``publish`` or ``play``), and learns by an
event what became of it. A publish or a play is two questions to the server: first for a message stream
(``createStream``), then the thing itself on that. Servers differ in what else they say; whatever is not the answer to a
question of ours changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rapidrtmp.errors import MisuseError, PeerProtocolError
from rapidrtmp.rtmp import replies
from rapidrtmp.rtmp.amf import Value
from rapidrtmp.rtmp.amf0 import write_values
from rapidrtmp.rtmp.chunk import Message
from rapidrtmp.rtmp.command import CommandParts, Connect, DeleteStream, Play, Publish, printable, read_parts
from rapidrtmp.rtmp.events import (
    CommandIgnored,
    ConnectAccepted,
    ConnectRejected,
    EofReceived,
    Event,
    PlayAccepted,
    PlayRejected,
    PlayStopped,
    PublishAccepted,
    PublishRejected,
    PublishStopped,
    Status,
    StatusReceived,
)
from rapidrtmp.rtmp.handshake import NONCE_SIZE, ClientHandshake
from rapidrtmp.rtmp.limits import DEFAULT_LIMITS, SessionLimits
from rapidrtmp.rtmp.message import MessageType, UserControlType, write_buffer_length, write_number
from rapidrtmp.rtmp.session.base import CHUNK_SIZE, WINDOW_SIZE, Events, Session
from rapidrtmp.rtmp.session.states import Decision, Role, State

__all__ = ["FLASH_VERSION", "LIVE", "PLAYER_PROPERTIES", "ClientSession"]

#: How encoders call themselves; some servers look for its first word.
FLASH_VERSION = "FMLE/3.0 (compatible; RapidRTMP)"
#: What players say of themselves in connect, beside the URL: the codecs of Flash, and that they seek nothing.
PLAYER_PROPERTIES: Mapping[str, Value] = {
    "fpad": False,
    "capabilities": 15,
    "audioCodecs": 4071,
    "videoCodecs": 252,
    "videoFunction": 1,
}
#: The ``start`` of a play that wants the live stream, or else a recorded one (7.2.2.1); -1000 for live only.
LIVE = -2000
_BUFFER_MS = 3_000
#: Commands that a server may say before it is asked anything, and between answers.
_NOTICES = frozenset({"onstatus", "onfcpublish", "onfcunpublish", "onfcsubscribe"})
_PLAY_OVER = frozenset({replies.PLAY_STOP, replies.PLAY_UNPUBLISH_NOTIFY, "NetStream.Play.Complete"})


class ClientSession(Session):
    """
    Our connection to a server; see :class:`~rapidrtmp.rtmp.session.base.Session`.

    The first bytes to send are there from the beginning; ``connect`` may be called at once, too.
    """

    role = Role.CLIENT
    receiving = State.PLAYING
    receiving_pending = State.PLAY_PENDING
    sending = State.PUBLISHING

    def __init__(self, random_bytes: Callable[[int], bytes], limits: SessionLimits = DEFAULT_LIMITS) -> None:
        """
        Begin the handshake.

        :param random_bytes: gives so many random bytes; ``os.urandom`` does.
        :param limits: what the server may make us hold or do.
        """
        super().__init__(ClientHandshake(random_bytes(NONCE_SIZE)), limits)
        self._transaction = 0
        self._waiting: dict[float, Callable[[CommandParts], Events]] = {}
        self._connect_payload = b""
        self._name = ""
        self._outbox.send_bytes(self._handshake.data_to_send())

    # ── what the caller asks for ─────────────────────────────────────────────────────────────────────────────────────

    def connect(
        self,
        app: str,
        tc_url: str,
        *,
        flash_version: str = FLASH_VERSION,
        properties: Mapping[str, Value] = {},
    ) -> None:
        """
        Ask to be connected to an application; ``ConnectAccepted`` or ``ConnectRejected`` follows.

        :param tc_url: the URL up to the application, without the stream's name.
        :param properties: more of the command's object, or other values for it: ``swfUrl``, ``capsEx``, …
        :raises MisuseError: it was called before.
        """
        if self._connect_payload:
            raise MisuseError("cannot connect twice")
        described: dict[str, Value] = {
            "app": app,
            "type": "nonprivate",
            "flashVer": flash_version,
            "tcUrl": tc_url,
            **properties,
        }
        self._connect_payload = write_values("connect", self._ask(self._connect_answered), described)
        if self.state is State.UNCONNECTED:
            self._send_connect()

    def publish(self, name: str, kind: str = "live") -> None:
        """
        Ask to publish; ``PublishAccepted`` or ``PublishRejected`` follows.

        :param name: the stream's name, with its query.
        :param kind: ``live``, ``record`` or ``append``.
        :raises MisuseError: we are not connected, or publish or play already.
        """
        self._begin(Publish, name)
        for politeness in ("releaseStream", "FCPublish"):
            self._outbox.send_command(0, write_values(politeness, self._ask(_ignore_answer), None, name))

        def publish_on(msid: int) -> None:
            self._outbox.send_command(msid, write_values("publish", self._ask(_ignore_answer), None, name, kind))

        self._create_stream(publish_on, Decision.REJECT_PUBLISH, PublishRejected)

    def play(self, name: str, *, start: float = LIVE, buffer_ms: int = _BUFFER_MS) -> None:
        """
        Ask to play; ``PlayAccepted`` or ``PlayRejected`` follows, and then media.

        :param name: the stream's name, with its query.
        :param start: see ``LIVE``.
        :param buffer_ms: how much we say we buffer.
        :raises MisuseError: we are not connected, or publish or play already.
        """
        self._begin(Play, name)

        def play_on(msid: int) -> None:
            self._outbox.send_command(msid, write_values("play", self._ask(_ignore_answer), None, name, start))
            self._outbox.send_control(MessageType.USER_CONTROL, write_buffer_length(msid, buffer_ms))

        self._create_stream(play_on, Decision.REJECT_PLAY, PlayRejected)

    def send_metadata(self, values: Mapping[str, Value]) -> None:
        """Describe what we publish (``onMetaData``), and ask for that to be kept for those who join later."""
        self.send_data(0, "@setDataFrame", "onMetaData", dict(values))

    def end(self) -> None:
        """
        End the publish or play that runs, or take its request back; we stay connected. Without one, nothing is said.

        Servers keep the name of a publisher that does not say this until they miss it.
        """
        if not self.is_busy:
            return
        if self.state in (State.PUBLISHING, State.PUBLISH_PENDING):
            self._outbox.send_command(0, write_values("FCUnpublish", self._ask(_ignore_answer), None, self._name))
        if self.msid:
            self._outbox.send_command(0, write_values("deleteStream", self._ask(_ignore_answer), None, self.msid))
        self._advance(DeleteStream)
        self._forget()

    # ── questions and answers ────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, answered: Callable[[CommandParts], Events]) -> int:
        """The transaction id for a command; ``answered`` is called with its ``_result`` or ``_error``."""
        self._transaction += 1
        if answered is not _ignore_answer:  # many servers never answer politeness
            self._waiting[self._transaction] = answered
        return self._transaction

    def _begin(self, command: type[Publish] | type[Play], name: str) -> None:
        if self.is_busy:
            raise MisuseError(f"cannot {command.__name__.lower()} while {self.state.value}")
        self._advance(command)
        self._name, self.msid = name, 0

    def _create_stream(
        self,
        created: Callable[[int], None],
        rejection: Decision,
        rejected: Callable[[Status], PublishRejected | PlayRejected],
    ) -> None:
        def answered(parts: CommandParts) -> Events:
            msid = parts.arguments[0] if parts.arguments else None
            if parts.name == "_result" and isinstance(msid, float) and msid.is_integer() and 0 < msid < 2**32:
                self.msid = int(msid)
                created(self.msid)
                return ()
            self._advance(rejection)
            self._forget()
            return (rejected(_status_of(parts, "error")),)

        self._outbox.send_command(0, write_values("createStream", self._ask(answered), None))

    def _send_connect(self) -> None:
        self._advance(Connect)
        self._outbox.send_command(0, self._connect_payload)

    def _connect_answered(self, parts: CommandParts) -> Events:
        status = _status_of(parts, "status" if parts.name == "_result" else "error")
        if parts.name != "_result" or status.level == "error":
            self._advance(Decision.REJECT_CONNECT)
            return (ConnectRejected(status),)
        self._advance(Decision.ACCEPT_CONNECT)
        self._outbox.send_control(MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE, write_number(WINDOW_SIZE))
        self._outbox.send_chunk_size(CHUNK_SIZE)
        information = parts.arguments[0] if parts.arguments else None
        return (ConnectAccepted(parts.properties | (information if isinstance(information, dict) else {})),)

    def _forget(self) -> None:
        """The publish or play is over: what is still asked for it is of no interest, nor is media that was held."""
        self._waiting.clear()
        self._drop_held()
        self.msid = 0

    # ── what the server says ─────────────────────────────────────────────────────────────────────────────────────────

    def _shake_hands(self) -> Events:
        yield from super()._shake_hands()
        if self.state is State.UNCONNECTED and self._connect_payload:
            self._send_connect()

    def _read_command(self, message: Message) -> Events:
        self._count_unpublished()
        parts = read_parts(message.payload, self._limits.amf)
        self._unreadable = 0
        name = parts.name.lower()
        if name in ("_result", "_error"):
            answered = self._waiting.pop(parts.transaction, _ignore_answer)
            return answered(parts._replace(name=name))
        if name in _NOTICES:
            return self._read_status(_status_of(parts, "status"), is_notice=name != "onstatus")
        return (CommandIgnored(printable(parts.name)),)

    def _read_status(self, status: Status, *, is_notice: bool) -> Events:
        react = None if is_notice else _ON_STATUS.get(self.state)
        event = react(self, status) if react is not None else None
        return (event or StatusReceived(status),)

    def _status_of_connect(self, status: Status) -> Event | None:
        if status.level != "error":
            return None
        self._advance(Decision.REJECT_CONNECT)
        return ConnectRejected(status)

    def _status_of_publish_request(self, status: Status) -> Event | None:
        if status.code == replies.PUBLISH_START and self.msid:
            self._advance(Decision.ACCEPT_PUBLISH)
            self._unpublished = 0
            return PublishAccepted(self.msid)
        if status.level == "error":
            self._advance(Decision.REJECT_PUBLISH)
            self._forget()
            return PublishRejected(status)
        return None

    def _status_of_publish(self, status: Status) -> Event | None:
        if status.level != "error" and status.code != replies.UNPUBLISH_SUCCESS:
            return None
        self._advance(Decision.END_PUBLISH)
        self._forget()
        return PublishStopped(status)

    def _status_of_play_request(self, status: Status) -> Event | None:
        if status.code == replies.PLAY_START and self.msid:
            self._advance(Decision.ACCEPT_PLAY)
            self._accept_media()
            return PlayAccepted(self.msid)
        if status.level == "error" or status.code in _PLAY_OVER:
            self._advance(Decision.REJECT_PLAY)
            self._forget()
            return PlayRejected(status)
        return None

    def _status_of_play(self, status: Status) -> Event | None:
        if status.level != "error" and status.code not in _PLAY_OVER:
            return None
        self._advance(Decision.END_PLAY)
        self._forget()
        return PlayStopped(status)

    def _user_control(self, event: int, number: int) -> Events:
        return (EofReceived(number),) if event == UserControlType.STREAM_EOF and self.is_busy else ()

    def _break_off(self, description: str) -> None:
        """Close the session of a server that broke a rule; there is nothing to tell a server."""
        del description
        self._advance(PeerProtocolError)


_ON_STATUS: dict[State, Callable[[ClientSession, Status], Event | None]] = {
    State.CONNECT_PENDING: ClientSession._status_of_connect,
    State.PUBLISH_PENDING: ClientSession._status_of_publish_request,
    State.PUBLISHING: ClientSession._status_of_publish,
    State.PLAY_PENDING: ClientSession._status_of_play_request,
    State.PLAYING: ClientSession._status_of_play,
}


def _ignore_answer(_parts: CommandParts) -> Iterable[Event]:
    """An answer that changes nothing."""
    return ()


def _status_of(parts: CommandParts, level: str) -> Status:
    """
    The information object of an answer, which some servers put first and others second.

    :param level: that of an object which names none.
    """
    found: dict[str, Any] = {}
    for value in (parts.properties, *parts.arguments):
        if isinstance(value, dict) and ("code" in value or not found):
            found = value
    extra = found.get("ex")
    redirect = extra.get("redirect") if isinstance(extra, dict) else found.get("tcUrl")
    texts = (found.get(key) for key in ("code", "description"))
    code, description = (printable(text, 256) if isinstance(text, str) else "" for text in texts)
    said = found.get("level")
    return Status(
        said if isinstance(said, str) and said in ("status", "warning", "error") else level,
        code,
        description,
        redirect if isinstance(redirect, str) else "",
    )
