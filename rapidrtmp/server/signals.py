"""
What the signals of the operating system do to the server: some stop it in order, none ends it by surprise.

========== ============================================================================================================
TERM, INT  Stop in order; the process then ends by that signal, as ``twistd`` has it.
QUIT       Stop in the same order; the process then ends with status 0, and leaves no core.
HUP        Read the configuration file again.
USR1, USR2 Open the log file anew, where the log goes to one.
========== ============================================================================================================

Asked to stop again, it says that it is stopping; the third time, or with QUIT the second, it ends at once. Signals
within a second of each other are one: a terminal and the program that wraps the server often send one each.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

__all__ = ["Signals", "prepare_signals"]

#: Requests to stop within this are one.
ONE_REQUEST_S = 1.0
#: The exit status of a server that was not left the time to stop.
CUT_SHORT = 1


def _known(*names: str) -> tuple[signal.Signals, ...]:
    """Those of the signals that this platform has."""
    return tuple(signal.Signals[name] for name in names if name in signal.Signals.__members__)


_STOP = _known("SIGTERM", "SIGINT", "SIGQUIT")
_HANG_UP = _known("SIGHUP")
_REOPEN = _known("SIGUSR1", "SIGUSR2")


def prepare_signals() -> None:
    """
    Be ready for signals while the server is still being imported and configured, until :class:`Signals` are installed.

    HUP does nothing; INT ends the process as TERM does, without a traceback.
    """
    if not _in_main_thread():
        return
    for number in _HANG_UP:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Signals:
    """
    The signal handlers of the server.

    They work from :meth:`install` on, before the reactor runs as well: what they are asked for is then done when it
    does. In a signal handler proper nothing is logged or stopped, for it may interrupt any line of the program.

    :param reactor: is stopped; its own handlers of TERM and INT are called, so that the exit status is as it has it.
    :param reopen_log: opens the log file anew; returns whether there is one.
    :param seconds: monotonic time.
    :param end_now: ends the process with a status, without any cleaning up.
    :ivar hang_up: called for HUP, once there is something that can follow it.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        reopen_log: Callable[[], bool],
        *,
        seconds: Callable[[], float] = time.monotonic,
        end_now: Callable[[int], object] = os._exit,
    ) -> None:
        self._reactor = reactor
        self._reopen_log = reopen_log
        self._seconds = seconds
        self._end_now = end_now
        self.hang_up: Callable[[], None] | None = None
        self._is_stopping = False
        self._requests: list[int] = []
        self._requested_s = float("-inf")

    def install(self) -> None:
        """Handle signals from now on. Only the main thread can; elsewhere the process keeps what it has."""
        if not _in_main_thread():
            return
        for number in _HANG_UP:
            signal.signal(number, self._later(self._hang_up))
        for number in _REOPEN:
            signal.signal(number, self._later(self._reopen))
        self._handle_stops(_STOP)
        self._reactor.addSystemEventTrigger("before", "shutdown", self._shutting_down)
        # A reactor that starts puts its own handler of TERM in the place of any other.
        self._reactor.addSystemEventTrigger("after", "startup", self._handle_stops, _known("SIGTERM"))

    def _handle_stops(self, numbers: tuple[signal.Signals, ...]) -> None:
        for number in numbers:
            signal.signal(number, self._stop_requested)

    def _later(self, react: Callable[[signal.Signals], None]) -> Callable[[int, object], None]:
        """A signal handler that has the reactor do something in one of its turns."""
        return lambda number, _frame: self._reactor.callFromThread(react, signal.Signals(number))

    # ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _stop_requested(self, number: int, _frame: object) -> None:
        now_s = self._seconds()
        if now_s - self._requested_s >= ONE_REQUEST_S:
            self._requested_s = now_s
            self._requests.append(number)
        if len(self._requests) > 2 or self._requests.count(getattr(signal, "SIGQUIT", 0)) > 1:
            os.write(2, b"rapidrtmp: asked to stop once more, ending at once\n")
            self._end_now(CUT_SHORT)
        self._reactor.callFromThread(self._stop, signal.Signals(number))

    def _shutting_down(self) -> None:
        self._is_stopping = True

    def _stop(self, number: signal.Signals) -> None:
        if self._is_stopping:
            self._log.info("received {signal}, already stopping", signal=number.name)
        elif number is signal.SIGINT:
            self._is_stopping = True
            self._reactor.sigInt(number)
        elif number is signal.SIGTERM:
            self._is_stopping = True
            self._reactor.sigTerm(number)
        else:
            self._log.info("received {signal}, shutting down", signal=number.name)
            self._reactor.stop()

    # ── the others ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _hang_up(self, number: signal.Signals) -> None:
        if self.hang_up is None:
            self._log.info("received {signal}, still starting", signal=number.name)
        else:
            self._log.info("received {signal}, reloading the configuration", signal=number.name)
            self.hang_up()

    def _reopen(self, number: signal.Signals) -> None:
        try:
            reopened = self._reopen_log()
        except OSError as error:
            self._log.error("received {signal}, the log cannot be reopened: {error}", signal=number.name, error=error)
        else:
            if reopened:
                self._log.info("received {signal}, reopened the log", signal=number.name)
            else:
                self._log.debug("received {signal}, there is no log file to reopen", signal=number.name)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
