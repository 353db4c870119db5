"""
How one track's times keep pace with the server's clock.

A frame can arrive late but never early, so of all the frames in a while the one that is furthest ahead tells where the
publisher's clock is, and the others tell how much the network, or the encoder, makes them wait.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

__all__ = ["Pace"]

#: Over how long the furthest frame is looked for; so many such spells are remembered, and the last few believed.
SPELL_MS = 10_000
_SPELLS = 7
_RECENT = 3

_NEVER = -(1 << 62)


class Pace:
    """
    The pace of one track.

    The *lead* is by how much a time is ahead of the server's clock, both counted from the same moment: constant for
    who sends in real time, growing for who sends faster.

    :ivar time_ms: the latest frame's time on the publisher's clock; far in the past before the first.
    :ivar arrived_ms: when that arrived, on the server's monotonic clock.
    """

    __slots__ = ("_ahead", "_jitter", "_origin", "_spells", "_top", "_until", "arrived_ms", "time_ms")

    def __init__(self) -> None:
        self.time_ms = _NEVER
        self.arrived_ms = 0
        self._jitter = 0  # in sixteenths of a millisecond
        self.restart(0, 0)

    @property
    def has_begun(self) -> bool:
        """Whether there was a frame on the clock of now."""
        return self.time_ms != _NEVER

    def restart(self, origin_ms: int, now_ms: int) -> None:
        """
        Begin anew on another clock.

        :param origin_ms: what the lead of its times is to be less: the first frame's time minus its arrival, minus the
            lead that there was before.
        """
        self.time_ms = self._top = _NEVER
        self._origin = origin_ms
        self._ahead = 0
        self._spells: deque[tuple[int, int]] = deque(maxlen=_SPELLS)  # ends, and by how much a time was ahead at most
        self._until = now_ms + SPELL_MS

    def note(self, time_ms: int, now_ms: int) -> None:
        """Take note of the next frame."""
        ahead = time_ms - now_ms
        if self.time_ms != _NEVER:
            change = ahead - self._ahead
            # The estimate of RFC 3550, 6.4.1, in integers.
            self._jitter += (change if change > 0 else -change) - (self._jitter >> 4)
        self._ahead = ahead
        if now_ms < self._until:  # nearly always
            if ahead > self._top:
                self._top = ahead
        else:
            self._spells.append((self._until, self._top if self._top != _NEVER else ahead))
            self._until, self._top = now_ms + SPELL_MS, ahead
        self.time_ms = time_ms
        self.arrived_ms = now_ms

    @property
    def lead_ms(self) -> int:
        """The lead of the frame that was furthest ahead, of those in the last half a minute; 0 before the first."""
        recent = [top for _, top in list(self._spells)[-_RECENT:]]
        if self._top != _NEVER:
            recent.append(self._top)
        return max(recent) - self._origin if recent else 0

    @property
    def tells_drift(self) -> bool:
        """Whether it has been watched for long enough to tell drift: half a minute."""
        return len(self._spells) >= _RECENT

    @property
    def drift_ms(self) -> int:
        """By how much the lead grows in a minute; 0 until that is known."""
        if not self.tells_drift:
            return 0
        (since, before), (until, after) = self._spells[0], self._spells[-1]
        return (after - before) * 60_000 // (until - since)

    @property
    def clock_drift_ms(self) -> int:
        """
        The drift, if it is one of clocks: in every spell of a minute the lead has grown, or shrunk, by a third of the
        mean at least. A busy machine or network moves it now and then; 0 for that.
        """
        tops = [top for _, top in self._spells]
        if len(tops) < _SPELLS:
            return 0
        whole = tops[-1] - tops[0]
        least = min((after - before) * (1 if whole > 0 else -1) for before, after in pairwise(tops))
        return self.drift_ms if least * 3 * (_SPELLS - 1) >= abs(whole) else 0

    @property
    def jitter_ms(self) -> int:
        """How much the time between two arrivals differs from that between the two frames, on average."""
        return self._jitter >> 4

    def lead_at(self, now_ms: int) -> int:
        """The lead if no frame has come by now; far below any other before the first."""
        return self.time_ms - self._origin - now_ms

    def due_ms(self, time_ms: int) -> int:
        """When a frame of that time is to arrive if nothing makes it wait."""
        return time_ms - self._origin - self.lead_ms
