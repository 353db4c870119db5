"""
Twisted's epoll reactor with a short way for what this server does most: reading a socket that is ready.

The stock reactor spends more on each ready socket (a logging context, a check of flags, a check of the descriptor) than
the RTMP parser spends on what was read. Here a plain "ready to read" of a server's TCP connection goes straight to
``doRead``, with the same isolation: an exception is logged and closes that connection alone. All else (writes, errors,
hang-ups, other descriptors) goes the stock way.

And when it is busy it waits two milliseconds before it asks the system what is ready: then one turn of the loop, with
its timers and its system call, serves several sockets instead of one. A reactor that is not busy never waits.

And its clock is monotonic, where the stock one's is the time of day: when that is set, no timer fires early or late.

And it accepts no more than a few connections in one turn: a flood of them may fill the system's queue, but those who
are here already are read between one handful and the next. After a long turn the handful is larger, so that the share
of its time stays the same: the queue must not overflow because the server is busy.

And it knows for how long it had nothing to do: the rest of the time it was busy.

What each buys stands in ``benchmarks/RESULTS.md``. ``twistd rapidrtmp`` installs it unless a reactor was chosen
(``twistd -r``) or is in use already.
"""

from __future__ import annotations

import errno
import sys
from select import EPOLLIN
from time import monotonic, sleep
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Port, Server
from twisted.logger import Logger
from twisted.python import log

from rapidrtmp.support.bug_log import BugLog

__all__ = ["LeanReactor", "install", "install_if_free"]


#: How long a busy reactor lets descriptors gather; what it adds to a message's latency at most.
GATHER_S = 0.002
#: Busy is who served so many descriptors within so many seconds.
BUSY_EVENTS, BUSY_WITHIN_S = 100, 0.1
#: After a turn that served more than this, enough gathers by itself.
GATHERED = 8
#: How many connections one port accepts in one turn; and where the last one was long, for each of its milliseconds, of
#: which that takes about a quarter; and at most.
ACCEPTS, ACCEPTS_PER_MS, MOST_ACCEPTS = 16, 1, 256


class GentlePort(Port):
    """A port that accepts a handful at a time; the stock one accepts a hundred and more where so many wait."""

    reactor: LeanReactor
    _accepts = ACCEPTS

    @property
    def numberAccepts(self) -> int:
        """How many to accept in the next turn."""
        turn_ms = 1000 * self.reactor.last_turn_s
        return max(self._accepts, min(int(ACCEPTS_PER_MS * turn_ms), MOST_ACCEPTS))

    @numberAccepts.setter
    def numberAccepts(self, accepts: int) -> None:
        self._accepts = min(accepts, ACCEPTS)


class LeanReactor(EPollReactor):
    """
    See the module.

    :ivar waited_s: for how long, in seconds, it had nothing to do.
    :ivar last_turn_s: how long the last turn took, without the waiting.
    """

    waited_s = 0.0
    last_turn_s = 0.0
    _log = Logger()
    _is_busy = False
    _turn = 0
    _served = 0
    _counted_since_s = 0.0
    seconds = staticmethod(monotonic)

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._bugs = BugLog(self._log)
        self._turn_began_s = monotonic()

    def doPoll(self, timeout: float | None) -> None:
        """
        Wait for descriptors to become ready, and serve them.

        :param timeout: how long to wait at most, in seconds; ``None`` for ever.
        """
        selectables: dict[int, Any] = self._selectables
        began_s = monotonic()
        self.last_turn_s = began_s - self._turn_began_s
        if self._is_busy and self._turn <= GATHERED and timeout != 0:
            sleep(GATHER_S)
        try:
            ready = self._poller.poll(-1 if timeout is None else timeout, len(selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                self._turn_began_s = began_s
                return
            raise
        now_s = self._turn_began_s = monotonic()
        self.waited_s += now_s - began_s
        self._count(len(ready), now_s)
        for descriptor, event in ready:
            selectable = selectables.get(descriptor)
            if selectable is None:  # closed by one that was served before it
                continue
            if event == EPOLLIN and type(selectable) is Server:
                why: BaseException | None
                try:
                    why = selectable.doRead()
                except BaseException:
                    why = sys.exc_info()[1]
                    self._bugs.failure("internal error while data was read, closing the connection")
                if why:
                    self._disconnectSelectable(selectable, why, True)  # type: ignore[no-untyped-call]
            else:
                self._serve_the_stock_way(selectable, descriptor, event)

    doIteration = doPoll

    def listenTCP(self, port: int, factory: Factory[Any], backlog: int = 50, interface: str = "") -> GentlePort:
        """Listen as ever, but with a port that accepts a handful at a time."""
        listening = GentlePort(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def _count(self, served: int, now_s: float) -> None:
        self._turn = served
        self._served += served
        if now_s - self._counted_since_s > BUSY_WITHIN_S:
            self._is_busy = self._served > BUSY_EVENTS * (now_s - self._counted_since_s) / BUSY_WITHIN_S
            self._served, self._counted_since_s = 0, now_s

    def _serve_the_stock_way(self, selectable: Any, descriptor: int, event: int) -> None:
        log.callWithLogger(selectable, self._doReadOrWrite, selectable, descriptor, event)


def install() -> None:
    """Make it the reactor of this process."""
    installReactor(LeanReactor())


def install_if_free() -> None:
    """Make it the reactor of this process, if there is none yet."""
    if "twisted.internet.reactor" not in sys.modules:
        install()
