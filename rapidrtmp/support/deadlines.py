"""
The end of patience of many who wait: one timer for all whose time is up within the same quarter of a second.

A timer of its own for each of a thousand requests that are held three times a second costs as much as the answers do,
and nearly all of these timers are taken back.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

__all__ = ["Deadlines"]

#: How much later than asked for they may end, in milliseconds.
STEP_MS = 250


class _Together:
    """Those that end at one moment, and the timer that does so; without any of them there is none."""

    __slots__ = ("timer", "waiting")

    def __init__(self) -> None:
        self.waiting: set[Deferred[Any]] = set()
        self.timer: IDelayedCall | None = None

    def forget(self, fired: Deferred[Any]) -> None:
        """One has fired."""
        self.waiting.discard(fired)
        if not self.waiting and self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Deadlines:
    """
    All of them on one clock.

    :ivar has_come: whether what is cancelled right now is cancelled because its time is up.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.has_come = False
        self._clock = clock
        self._all: dict[int, _Together] = {}

    def add(self, waiting: Deferred[Any], patience_ms: int) -> _Together:
        """
        Cancel a Deferred when its time is up, or a little later.

        :returns: what must ``forget`` it when it has fired.
        """
        now_s = self._clock.seconds()
        number = ceil((now_s * 1000 + patience_ms) / STEP_MS)
        together = self._all.get(number)
        if together is None or together.timer is None:
            self._all = {each: group for each, group in self._all.items() if group.timer is not None}
            together = self._all[number] = _Together()
            left_s = max(number * STEP_MS / 1000 - now_s, 0.0)
            together.timer = self._clock.callLater(left_s, self._come, together)
        together.waiting.add(waiting)
        return together

    def is_over(self, failure: Failure) -> bool:
        """Whether this is how a Deferred fails whose time is up."""
        return self.has_come and failure.check(CancelledError) is not None

    def _come(self, together: _Together) -> None:
        together.timer = None
        for waiting in tuple(together.waiting):
            self.has_come = True
            try:
                waiting.cancel()
            finally:
                self.has_come = False
