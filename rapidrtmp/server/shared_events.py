"""
The events of all nodes, as one stream of server-sent events.

A client of one node hears of what happens at each: this node asks the others for theirs as the client would, and hands
them on as they come. The id of an event says how far each node's log has been read, so a client that comes back, to
whichever node, gets what it missed of all.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.cluster.node import ClusterNode
from rapidrtmp.cluster.peers import ROOT, PeerError
from rapidrtmp.interfaces import Node, Request, Response, StreamedResponse

__all__ = ["EVENTS", "gather_events"]

EVENTS = "/api/v1/events"
#: How often it is looked for nodes that have come, or whose events are not read any more.
LOOK_S = 2.0
#: A client that does not read so many bytes is let go of; it comes back and is given what it missed.
MOST_WAITING = 4 << 20
_POSITION = re.compile(r"([\w.-]{1,120})=(\d{1,19})", re.ASCII)
_ID = re.compile(rb"^id: (\d+)$", re.MULTILINE)


def gather_events(
    node: ClusterNode, clock: IReactorTime, respond: Callable[[Request], Any], request: Request
) -> Response:
    """
    Answer a request for events with those of all nodes.

    :param respond: answers with those of this one, and raises what is wrong with the request.
    """
    said = request.header("last-event-id") or dict(parse_qsl(request.query)).get("lastEventId", "")
    positions = {name: int(id) for name, id in _POSITION.findall(said)}
    if positions:
        own = str(positions.get(node.place.node, 0))
        request = replace(request, headers={**request.headers, "last-event-id": own})
    response = respond(request)
    if not isinstance(response, StreamedResponse):
        assert isinstance(response, Response)
        return response
    query = "&".join(each for each in request.query.split("&") if each and not each.startswith("lastEventId="))
    gathering = _Gathering(node, clock, positions, query, said if said.isdecimal() else "")
    return replace(response, open=lambda: gathering.run(response.open()))


class _Gathering:
    """
    One client's.

    :ivar positions: the id of the newest event of each node that it has.
    """

    _log = Logger()

    def __init__(
        self, node: ClusterNode, clock: IReactorTime, positions: dict[str, int], query: str, after: str
    ) -> None:
        self.positions = positions
        self._node = node
        self._query = query
        self._reading: dict[str, Deferred[None]] = {}
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._woken: Deferred[None] | None = None
        self._is_over = False
        #: What is asked of nodes that the client does not name: an id of one node says when, and is as good for others.
        self._after = f"lastEventId={after}" if after else "" if not positions else "lastEventId=0"
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    async def run(self, own: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """All events, those of this node among them."""
        reading = Deferred.fromCoroutine(self._read_own(own))
        reading.addErrback(self._failed)
        self._looking.start(LOOK_S)
        try:
            while not self._is_over or self._waiting:
                if not self._waiting:
                    self._woken = Deferred()
                    await self._woken
                    continue
                data = b"".join(self._waiting)
                self._waiting.clear()
                self._size = 0
                yield data
        finally:
            self._is_over = True
            self._looking.stop()
            for each in [reading, *self._reading.values()]:
                each.cancel()

    async def _read_own(self, own: AsyncIterator[bytes]) -> None:
        reader = _Reader(self, self._node.place.node, is_own=True)
        try:
            async with aclosing(own) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    reader.receive(chunk)
        finally:
            self._end()

    async def _look(self) -> None:
        others = await self._node.conversation.others()
        if self._is_over:
            return
        for each in others:
            if each.name not in self._reading:
                reading = self._reading[each.name] = Deferred.fromCoroutine(self._read(each))
                reading.addErrback(self._failed)
                reading.addBoth(partial(self._has_ended, each.name))
        living = {self._node.place.node, *(each.name for each in others)}
        self.positions = {name: id for name, id in self.positions.items() if name in living}
        self._after = "lastEventId=0"  # of nodes that come later everything is news

    def _has_ended(self, node: str, _result: object) -> None:
        del self._reading[node]

    async def _read(self, node: Node) -> None:
        reader = _Reader(self, node.name, is_own=False)
        known = self.positions.get(node.name)
        after = self._after if known is None else f"lastEventId={known}"
        query = "&".join(filter(None, (self._query, after)))
        try:
            await self._node.peers.stream(node.address, f"{ROOT}{EVENTS}?{query}", reader.receive)
        except PeerError as error:
            self._log.debug("events of {node}: {error}", node=node.name, error=error)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("internal error in gathering events", failure)

    def put(self, data: bytes) -> None:
        """Send the client something."""
        self._waiting.append(data)
        self._size += len(data)
        if self._size > MOST_WAITING:
            self._end()
        self._wake()

    def _end(self) -> None:
        self._is_over = True
        self._wake()

    def _wake(self) -> None:
        woken, self._woken = self._woken, None
        if woken is not None:
            woken.callback(None)


class _Reader:
    """Takes the events of one node apart, and gives each an id for all nodes."""

    def __init__(self, gathering: _Gathering, node: str, *, is_own: bool) -> None:
        self._gathering = gathering
        self._node = node
        self._is_own = is_own
        self._rest = b""

    def receive(self, data: bytes) -> None:
        """Take what has come, in any pieces."""
        *whole, self._rest = (self._rest + data).split(b"\n\n")
        for each in whole:
            self._event(each)

    def _event(self, text: bytes) -> None:
        found = _ID.search(text)
        if found is None:
            if self._is_own or text.startswith(b"event:"):
                self._gathering.put(text + b"\n\n")
            return
        positions = self._gathering.positions
        positions[self._node] = int(found[1])
        id = ",".join(f"{name}={newest}" for name, newest in positions.items())
        self._gathering.put(text[: found.start()] + b"id: " + id.encode() + text[found.end() :] + b"\n\n")
