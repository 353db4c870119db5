"""
How long this node may act as the owner of what it owns.

Where a directory lends names for a time, a node that does not renew them must stop before another one may begin. There
are two reasons why it cannot: the directory is down, and then none can take anything, so all continue; or this node is
cut off, and then it must step down. The other nodes make the difference: each that answers looks whether it reaches the
directory itself.

- One that does: this node is cut off.
- A host that answers, but without a node: that one has died, and does not count.
- Of the others more than half, this one among them, do not reach it either: the directory is down.
- Else this node is cut off with the smaller part, or cannot know.

A node that knows no others is alone: none can take anything from it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Sight", "Tenure", "is_directory_down"]

#: So long before its leases end a node steps down, or a third of what leases last.
MARGIN_S = 2.0


class Sight(enum.Enum):
    """What another node says of the directory."""

    REACHED = "reached"
    DOWN = "down"
    GONE = "gone"  # there is no such node any more
    SILENT = "silent"


def is_directory_down(seen: Sequence[Sight]) -> bool:
    """Whether the directory, which this node does not reach, is down; ``seen`` of each other node that was known."""
    if Sight.REACHED in seen:
        return False
    others = [each for each in seen if each is not Sight.GONE]
    agreeing = 1 + others.count(Sight.DOWN)
    return 2 * agreeing > len(others) + 1


class Tenure:
    """
    See the module.

    :param awake_or_not_s: a clock that does not stand still while the machine is suspended.
    :param ended: called when this node has to step down: with whether it is too late to store anything.
    """

    def __init__(self, clock: IReactorTime, awake_or_not_s: Callable[[], float], ended: Callable[[bool], None]) -> None:
        self._clock = clock
        self._now_s = awake_or_not_s
        self._ended = ended
        self._lease_s = 0.0
        self._end_s = float("inf")
        self._timer: IDelayedCall | None = None

    @property
    def now_s(self) -> float:
        """The time, by the clock that leases are reckoned on."""
        return self._now_s()

    def begin(self, lease_s: float, begun_s: float) -> None:
        """
        Own names for a time.

        :param lease_s: how long after a renewal; 0 for as long as this process lives.
        :param begun_s: when the first renewal was asked for.
        """
        self._lease_s = lease_s
        self.renewed(begun_s)

    def renewed(self, begun_s: float) -> None:
        """All was renewed by a call that began then."""
        if self._lease_s:
            later = begun_s + self._lease_s
            self._expect(later if self._end_s == float("inf") else max(self._end_s, later))

    def confirmed(self, asked_s: float) -> None:
        """The directory was down then, for all."""
        if self._lease_s:
            self._expect(max(self._end_s, asked_s + self._lease_s))

    def is_valid(self) -> bool:
        """Whether this node may still serve and store; where it may not, it steps down in the next turn."""
        if self._now_s() < self._end_s:
            return True
        self._later(0)
        return False

    def close(self) -> None:
        """Expect nothing any more."""
        self._lease_s, self._end_s = 0.0, float("inf")
        self._stop_timer()

    def _expect(self, end_s: float) -> None:
        self._end_s = end_s
        self._later(end_s - self._margin_s - self._now_s())

    @property
    def _margin_s(self) -> float:
        return min(MARGIN_S, self._lease_s / 3)

    def _later(self, after_s: float) -> None:
        self._stop_timer()
        self._timer = self._clock.callLater(max(0.0, after_s), self._look)

    def _look(self) -> None:
        self._timer = None
        left_s = self._end_s - self._now_s()
        if left_s > self._margin_s:
            self._later(left_s - self._margin_s)
        else:
            self._ended(left_s <= 0)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
