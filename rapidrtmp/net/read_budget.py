"""
The read budget: the share of each reactor turn that reading costly connections may take, so that publishers are served
on time.

Some input costs more to read than to send: a megabyte in chunks of one byte, a hundred thousand messages that mean
nothing, or a thousand HTTP requests in one packet. Each connection alone is bounded, but hundreds of them within one
turn of the reactor would keep every publisher waiting. So RTMP connections that are not admitted yet, and publishers
whose messages are tiny, share a few milliseconds of each turn, and so do HTTP connections: when these are used up a
connection waits, unread, and the one that has used least so far is read first. A publisher on its way in costs well
under a millisecond, and so is next.
"""

from __future__ import annotations

import heapq
import itertools

from twisted.internet.interfaces import IReactorTime

__all__ = ["BudgetedReader", "ReadBudget"]

#: The time that all budgeted connections together may use of one turn of the reactor, in seconds.
TURN_S = 0.004


class BudgetedReader:
    """
    The base of connections that are read within the budget.

    :ivar used_s: how much time has been spent on it so far, in seconds.
    """

    used_s: float

    def read_until(self, until_s: float) -> bool:
        """
        Process what has arrived, one thing at least, until the clock says ``until_s``.

        :returns: whether all is processed; if not, it is called again in a later turn.
        """
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Leave in the socket what arrives from now on; called as often as ``resume_reading``."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Read from the socket again: everything that was there has been processed."""
        raise NotImplementedError


class ReadBudget:
    """
    Decides which connection is read next.

    :param clock: gives the time, and calls between two turns of the reactor.
    """

    def __init__(self, clock: IReactorTime, turn_s: float = TURN_S) -> None:
        self._clock = clock
        self._turn_s = self._left_s = turn_s
        self._is_scheduled = False
        self._numbers = itertools.count()
        self._waiting: list[tuple[float, int, BudgetedReader]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def serve(self, reader: BudgetedReader) -> None:
        """Read a connection: now, if there is time and no other waits; else it is paused until its turn."""
        if not self._waiting and self._left_s > 0 and self._spend_on(reader):
            return
        self.queue(reader)

    def queue(self, reader: BudgetedReader) -> None:
        """Pause a connection until its turn, which is not the present one."""
        reader.pause_reading()
        self._wait(reader)

    def _spend_on(self, reader: BudgetedReader) -> bool:
        """Read until the time is up; tell whether all is read."""
        begin_s = self._clock.seconds()
        try:
            return reader.read_until(begin_s + self._left_s)
        finally:
            spent_s = self._clock.seconds() - begin_s
            reader.used_s += spent_s
            self._left_s -= spent_s
            if spent_s:
                self._schedule()

    def _wait(self, reader: BudgetedReader) -> None:
        heapq.heappush(self._waiting, (reader.used_s, next(self._numbers), reader))
        self._schedule()

    def _schedule(self) -> None:
        """Make sure that there is a next turn."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._clock.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        self._is_scheduled = False
        self._left_s = self._turn_s
        unfinished = []
        try:
            while self._waiting and self._left_s > 0:
                _, _, reader = heapq.heappop(self._waiting)
                if self._spend_on(reader):
                    reader.resume_reading()
                else:
                    unfinished.append(reader)
        finally:
            for reader in unfinished:  # not before: a connection is read once in a turn, even if no other waits
                self._wait(reader)
