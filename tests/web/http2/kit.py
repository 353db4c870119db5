"""A client that speaks HTTP/2 to a server in memory, frame by frame, and as rudely as a test wants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
from hyperframe.frame import Frame, GoAwayFrame
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.web.kit import Server

HOST = "localhost:8080"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Transport(StringTransport):
    """A transport of TLS, on which HTTP/2 was agreed."""

    negotiatedProtocol = b"h2"
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    @property
    def is_paused(self) -> bool:
        return self.producerState == "paused"


@dataclass
class Answer:
    """What came on one stream."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_whole: bool = False
    reset: int | None = None


class Http2Wire:
    """
    One connection. The client is as ``h2`` has it; ``raw`` sends what ``h2`` would not.

    :ivar answers: what came, by stream.
    :ivar goaway: why the server closed the connection, if it has.
    """

    def __init__(self, server: Server, peer: str = "127.0.0.1", settings: dict[int, int] | None = None) -> None:
        self.open(server, peer)
        for setting, value in (settings or {}).items():
            self.client.local_settings[setting] = value
        if settings:
            self.client.local_settings.acknowledge()
            self.client.decoder.max_allowed_table_size = self.client.local_settings.header_table_size
        self.client.initiate_connection()
        self.flush()

    def open(self, server: Server, peer: str) -> None:
        """Connect, and say nothing yet."""
        address = IPv4Address("TCP", peer, 50_000)
        self.clock = server.clock
        self.transport = Transport(peerAddress=address)
        self.protocol: Any = server.site.buildProtocol(address)
        self.protocol.makeConnection(self.transport)
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.answers: dict[int, Answer] = {}
        self.goaway: int | None = None
        self.events: list[h2.events.Event] = []
        self._last = -1

    @property
    def connection(self) -> Any:
        """What serves it."""
        return self.protocol._channel

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed the connection, or says that it will."""
        said = _goaway_in(self.transport.value())
        return self.transport.disconnecting or self.goaway is not None or said is not None

    def request(self, path: str, method: str = "GET", *, end: bool = True, flush: bool = True, **headers: str) -> int:
        """Send the header section of a request, and tell its stream."""
        self._last += 2
        fields = [(":method", method), (":path", path), (":scheme", "https"), (":authority", HOST)]
        fields += [(name.replace("_", "-"), value) for name, value in headers.items()]
        self.client.send_headers(self._last, fields, end_stream=end)
        self.answers[self._last] = Answer()
        if flush:
            self.flush()
        return self._last

    def get(self, path: str, method: str = "GET") -> Answer:
        """One request, and its answer."""
        return self.answers[self.request(path, method)]

    def flush(self) -> None:
        """Send what the client has to say, and read what the server says to it."""
        data = self.client.data_to_send()
        if data:
            self.raw(data)

    def raw(self, data: bytes) -> None:
        """Send bytes."""
        self.protocol.dataReceived(data)
        self.turn()

    def turn(self) -> None:
        """Let a turn of the reactor go by, and read what the server says."""
        self.clock.advance(0)
        self.read()

    def read_goaway(self) -> None:
        """Read no more of what the server has said than why it leaves."""
        if (found := _goaway_in(self.transport.value())) is not None:
            self.goaway = found
        self.transport.clear()

    def read(self) -> None:
        """Read what the server has said, and let out no more of its answers for that."""
        data = self.transport.value()
        if _goaway_in(data) is not None:
            self.read_goaway()
            return
        self.transport.clear()
        for event in self.client.receive_data(data):
            self.events.append(event)
            self._note(event)

    def _note(self, event: Any) -> None:
        answer = self.answers.get(getattr(event, "stream_id", None) or 0)
        if answer is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            answer.headers = dict(event.headers)
            answer.status = int(answer.headers[":status"])
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data
        elif isinstance(event, h2.events.StreamEnded):
            answer.is_whole = True
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code)

    def leave(self) -> None:
        """Close the connection from the client's side."""
        self.protocol.connectionLost(Failure(ConnectionError("the client left")))


def _goaway_in(data: bytes) -> int | None:
    """The reason in a GOAWAY frame among others; a client's ``h2`` would rather not say."""
    view = memoryview(data)
    while len(view) >= 9:
        frame, size = Frame.parse_frame_header(view[:9])
        if isinstance(frame, GoAwayFrame):
            frame.parse_body(view[9 : 9 + size])
            return int(frame.error_code)
        view = view[9 + size :]
    return None


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    """A frame, byte by byte (RFC 9113, 4.1)."""
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body
