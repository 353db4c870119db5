"""
Turns: the little of each turn of the reactor that guests may have, so that publishers are served on time.

What a stranger sends can cost more to read than to send: a megabyte in chunks of one octet, or a hundred thousand
messages that mean nothing. Each alone is bounded, but hundreds of them within one turn of the reactor would keep every
publisher waiting. So guests share a few milliseconds of each turn: who finds them used up waits, unread, with whoever
has used least so far served first. A publisher on its way in costs well under a millisecond, and so is next.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

__all__ = ["Turns", "Visitor"]

#: What all guests together may use of one turn of the reactor, in seconds.
TURN_S = 0.004


class Visitor(Protocol):
    """
    Somebody with something to be read.

    :ivar used_s: how long has been spent on it so far.
    """

    used_s: float

    def go_on(self, until_s: float) -> bool:
        """Read on, at least one thing, until the clock says ``until_s`` or all is read; tell whether all is."""

    def hold(self) -> None:
        """Take in no more for now."""

    def release(self) -> None:
        """Take in more again: all that was there has been read."""


class Turns:
    """
    Whose turn it is.

    :param clock: gives the time, and calls between two turns of the reactor.
    """

    def __init__(self, clock: IReactorTime, turn_s: float = TURN_S) -> None:
        self._clock = clock
        self._turn_s = self._left_s = turn_s
        self._is_running = False
        self._numbers = itertools.count()
        self._waiting: list[tuple[float, int, Visitor]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def serve(self, visitor: Visitor) -> None:
        """Let a visitor go on: now, if there is time and nobody waits, or held until its turn comes."""
        if not self._waiting and self._left_s > 0 and self._spend_on(visitor):
            return
        visitor.hold()
        self._wait(visitor)

    def _spend_on(self, visitor: Visitor) -> bool:
        """Let a visitor go on until the time is up; whether it is done."""
        begin_s = self._clock.seconds()
        try:
            return visitor.go_on(begin_s + self._left_s)
        finally:
            spent_s = self._clock.seconds() - begin_s
            visitor.used_s += spent_s
            self._left_s -= spent_s
            if spent_s:
                self._run()

    def _wait(self, visitor: Visitor) -> None:
        heapq.heappush(self._waiting, (visitor.used_s, next(self._numbers), visitor))
        self._run()

    def _run(self) -> None:
        """See to it that there is a next turn."""
        if not self._is_running:
            self._is_running = True
            self._clock.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        self._is_running = False
        self._left_s = self._turn_s
        while self._waiting and self._left_s > 0:
            _, _, visitor = heapq.heappop(self._waiting)
            if self._spend_on(visitor):
                visitor.release()
            else:
                self._wait(visitor)
