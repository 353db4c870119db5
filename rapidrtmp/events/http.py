"""
Events over HTTP: ``GET /api/v1/events``, server-sent events (HTML standard, 9.2).

A client that comes back says by ``Last-Event-ID`` which one it has seen, as browsers and every library for it do by
themselves, and gets what it missed, as far as that is kept. One that reads too slowly waits for itself alone: it is
served from the log, when it takes more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from urllib.parse import parse_qsl

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from rapidrtmp.events.log import EventLog
from rapidrtmp.events.values import EventFilter, render_event
from rapidrtmp.http.params import read_query, read_whole
from rapidrtmp.interfaces import (
    NO_STORE,
    Event,
    Request,
    Response,
    StreamedResponse,
    UnavailableError,
)

__all__ = ["EventStreams"]

#: A line that means nothing, so often, shows both ends and all proxies that the connection is alive.
KEEP_ALIVE_S = 15.0
#: How soon clients try again when the connection is gone.
RETRY_MS = 2_000
MOST_CLIENTS = 100
#: So many events go to a client in one turn of the reactor.
TOLD_AT_A_TIME = 50
LARGEST_ID = (1 << 63) - 1


class EventStreams:
    """Answers for ``/api/v1/events``."""

    def __init__(self, log: EventLog, clock: IReactorTime) -> None:
        self._log = log
        self._clock = clock
        self._clients: set[_Client] = set()

    def respond(self, request: Request) -> Response:
        """
        Tell events as they happen: ``GET /api/v1/events?type=&stream=``.

        :raises BadRequestError: a filter or an id makes no sense.
        :raises UnavailableError: there are too many clients.
        """
        query = read_query(request)
        types = ",".join(value for name, value in parse_qsl(request.query) if name == "type")
        wanted = EventFilter.of_texts(types, query.get("stream", ""))
        after = self._log.last_id
        said = request.header("last-event-id") or query.get("lastEventId", "")
        if said:
            after = read_whole({"Last-Event-ID": said}, "Last-Event-ID", 0, minimum=0, maximum=LARGEST_ID)
            after = min(after, self._log.last_id)
        if len(self._clients) >= MOST_CLIENTS:
            raise UnavailableError(f"{MOST_CLIENTS} clients read events already", RETRY_MS // 1000)
        headers = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no", **NO_STORE}
        return StreamedResponse(200, headers, size=None, open=lambda: self._tell(after, wanted))

    @property
    def count(self) -> int:
        """How many clients read."""
        return len(self._clients)

    def stop(self) -> None:
        """Tell all clients what happened, and let them go."""
        for client in list(self._clients):
            client.leave()

    async def _tell(self, after: int, wanted: EventFilter) -> AsyncIterator[bytes]:
        client = _Client(self._clock)
        self._clients.add(client)
        stop_following = self._log.follow(client.wake)
        try:
            yield f"retry: {RETRY_MS}\n\n".encode()
            while True:
                if after < self._log.oldest_gone and after:
                    yield b"event: missed\ndata: {}\n\n"
                events, after = self._log.after(after), self._log.last_id
                told = [event for event in events if wanted.wants(event)]
                for at in range(0, len(told), TOLD_AT_A_TIME):
                    yield b"".join(map(_render, told[at : at + TOLD_AT_A_TIME]))
                    if len(told) > TOLD_AT_A_TIME:
                        await deferLater(self._clock, 0)
                if client.has_left:
                    return
                if after == self._log.last_id and not await client.woken():
                    yield b": \n\n"
        finally:
            stop_following()
            self._clients.discard(client)


def _render(event: Event) -> bytes:
    text = f"id: {event.id}\nevent: {event.type.value}\ndata: {render_event(event)}\n\n"
    return text.encode("utf-8", "replace")


class _Client:
    """
    One client that waits.

    :ivar has_left: whether it is to go.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.has_left = False
        self._clock = clock
        self._waiting: Deferred[bool] | None = None

    def wake(self, _events: Sequence[Event] = ()) -> None:
        """There is something to tell."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(True)

    def leave(self) -> None:
        """Go."""
        self.has_left = True
        self.wake()

    async def woken(self) -> bool:
        """Wait; tell whether there is something, or the time has come for a sign of life."""
        waiting: Deferred[bool] = Deferred()
        self._waiting = waiting
        timer = self._clock.callLater(KEEP_ALIVE_S, self._time_out, waiting)
        try:
            return await waiting
        finally:
            self._waiting = None
            if timer.active():
                timer.cancel()

    def _time_out(self, waiting: Deferred[bool]) -> None:
        if self._waiting is waiting:
            self._waiting = None
            waiting.callback(False)
