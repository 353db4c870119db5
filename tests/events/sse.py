"""A client of server-sent events, as the HTML standard has it (9.2.6)."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

__all__ = ["EventSource", "SentEvent", "read_events"]


class SentEvent(NamedTuple):
    """One event."""

    id: str
    event: str
    data: Any


def read_events(text: str) -> list[SentEvent]:
    """What a stream says, but for its comments and its time to retry."""
    found = []
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line[:1] != ":")
        if "data" in fields:
            found.append(SentEvent(fields.get("id", ""), fields["event"], json.loads(fields["data"])))
    return found


class EventSource(Protocol):
    """
    Follows events over HTTP/1.1.

    :ivar head: the status line and the header, when they have come.
    """

    def __init__(self, path: str, headers: str = "") -> None:
        self.head = ""
        self.gone: Deferred[None] = Deferred()
        self._request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
        self._received = b""
        self._waiting: list[tuple[str, int, Deferred[list[SentEvent]]]] = []

    @classmethod
    async def open(cls, port: int, path: str = "/api/v1/events", headers: str = "") -> EventSource:
        """Connect, and wait for the beginning of the answer."""
        source: EventSource = await connectProtocol(  # type: ignore[assignment]
            TCP4ClientEndpoint(reactor, "127.0.0.1", port), cls(path, headers)
        )
        await source.wait("", 0)
        return source

    def connectionMade(self) -> None:
        self.transport.write(self._request.encode())  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        self._answer()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)

    @property
    def text(self) -> str:
        """The body so far, without the lengths of its chunks."""
        head, _, rest = self._received.partition(b"\r\n\r\n")
        self.head = head.decode()
        body = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body, rest = body + rest[: int(size or b"0", 16)], rest[int(size or b"0", 16) + 2 :]
        return body.decode()

    @property
    def events(self) -> list[SentEvent]:
        return read_events(self.text)

    def wait(self, type: str, count: int = 1) -> Deferred[list[SentEvent]]:
        """Wait for so many events of a type; all that came fires it."""
        waiting: Deferred[list[SentEvent]] = Deferred()
        self._waiting.append((type, count, waiting))
        self._answer()
        return waiting

    def leave(self) -> Deferred[None]:
        """Close the connection; fires when it is gone."""
        self.transport.loseConnection()  # type: ignore[union-attr]
        return self.gone

    def _answer(self) -> None:
        if b"\r\n\r\n" not in self._received:
            return
        events = self.events
        waiting, self._waiting = self._waiting, []
        for type, count, each in waiting:
            if sum(sent.event == type for sent in events) >= count and "retry: " in self.text:
                each.callback(events)
            else:
                self._waiting.append((type, count, each))
