"""A client for tests: says what encoders say, byte for byte, and takes apart what a session answers."""

from __future__ import annotations

from typing import Any, NamedTuple

from rapidrtmp.rtmp.amf import Value
from rapidrtmp.rtmp.amf0 import read_values
from rapidrtmp.rtmp.chunk import ChunkLimits, ChunkReader, Message
from rapidrtmp.rtmp.events import ConnectRequested, Event, MessageApplied
from rapidrtmp.rtmp.limits import DEFAULT_LIMITS, SessionLimits
from rapidrtmp.rtmp.replies import enhanced_properties
from rapidrtmp.rtmp.session import ServerSession

from .amf_bytes import END, NULL, OBJECT, key, number, text
from .chunks import fmt0, fmt3

__all__ = ["HANDSHAKE", "Client", "Status", "command", "connect", "message", "publish"]

#: C0, C1 and C2, the plain ones.
HANDSHAKE = b"\x03" + bytes(1536) + bytes(1536)
_ANSWER_SIZE = 1 + 1536 + 1536


def message(type_id: int, payload: bytes, *, timestamp: int = 0, msid: int = 1, csid: int = 4) -> bytes:
    """One message, in chunks of 128 bytes."""
    chunk = fmt0(csid, timestamp, len(payload), type_id, msid, payload[:128])
    return chunk + b"".join(fmt3(csid, payload[at : at + 128]) for at in range(128, len(payload), 128))


def command(name: str, transaction: float, *arguments: bytes, msid: int = 0, properties: bytes = NULL) -> bytes:
    """One command message with arguments already in AMF0."""
    payload = text(name) + number(transaction) + properties + b"".join(arguments)
    return message(20, payload, msid=msid, csid=3)


def connect(app: str = "live", tc_url: str = "rtmp://media.example.org/live", client: str = "FMLE/3.0") -> bytes:
    """The connect command."""
    said = (("app", app), ("type", "nonprivate"), ("flashVer", client), ("tcUrl", tc_url))
    properties = OBJECT + b"".join(key(name) + text(value) for name, value in said) + END
    return command("connect", 1, properties=properties)


def publish(name: str = "k?token=secret", kind: bytes = b"\x02\x00\x04live", msid: int = 1) -> bytes:
    """The publish command."""
    return command("publish", 5, text(name), kind, msid=msid)


class Status(NamedTuple):
    """An ``onStatus`` from the server."""

    msid: int
    level: Value
    code: Value


class Client:
    """
    Both ends of one connection in one place.

    :ivar session: the server's end.
    """

    def __init__(self, limits: SessionLimits = DEFAULT_LIMITS, default_app: str = "live") -> None:
        self.session = ServerSession(bytes, limits, default_app=default_app)
        self._answers = ChunkReader(ChunkLimits())
        self._handshake_left = _ANSWER_SIZE

    def say(self, *sent: bytes) -> list[Event]:
        """Send bytes and return their events, but for those that only mark a message; connects are accepted."""
        self.session.receive_data(b"".join(sent))
        seen = []
        for event in self.session.events():
            if isinstance(event, ConnectRequested):
                self.session.accept_connect(enhanced_properties(["avc1"], ["mp4a"]))
            if not isinstance(event, MessageApplied):
                seen.append(event)
        return seen

    def connected(self) -> Client:
        """Shake hands and connect; the answers are dropped."""
        self.say(HANDSHAKE + connect())
        self.heard()
        return self

    def publishing(self) -> Client:
        """Connect, create message stream 1 and publish on it, accepted; the answers are dropped."""
        self.connected().say(command("createStream", 4), publish())
        self.session.accept_publish(1)
        self.heard()
        return self

    def heard(self) -> list[Message]:
        """The messages the server has sent since last time; its handshake is skipped."""
        data = self.session.data_to_send()
        skipped = min(self._handshake_left, len(data))
        self._handshake_left -= skipped
        self._answers.receive_data(data[skipped:])
        return list(self._answers.messages())

    def heard_commands(self) -> list[list[Any]]:
        """The values of the commands among them."""
        return [list(read_values(heard.payload)) for heard in self.heard() if heard.type_id == 20]

    def heard_statuses(self) -> list[Status]:
        """The ``onStatus`` among them, with the message streams they came on."""
        statuses = []
        for heard in self.heard():
            if heard.type_id == 20:
                name, *_, information = read_values(heard.payload)
                if name == "onStatus" and isinstance(information, dict):
                    statuses.append(Status(heard.msid, information.get("level"), information.get("code")))
        return statuses
