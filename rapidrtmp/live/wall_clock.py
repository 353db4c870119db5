"""
From a stream's own timeline to the time of day, for the dates in its playlists.

A moment of the timeline has the date at which its frame can at the earliest have arrived: networks and encoders only
ever delay frames, so the *least* delayed of many tells the truth. Until a date is asked for the mapping follows
the earliest arrival freely; once dates have been written down it is moved only when the publisher's clock has run
wrong for a while, or the host's time of day was set, and then in steps that a playlist may contain without a
discontinuity (RFC 8216 bis, 6.2.1).
"""

from __future__ import annotations

from collections import deque

__all__ = ["WallClockMap"]

#: Dates are let be while they are off by no more than this.
TOLERANCE_MS = 200
#: The least delay is looked for over this long, in so many pieces.
WINDOW_MS, PIECES = 30_000, 6
#: No step is larger than this, and there is this long between two: a segment of ten seconds sees one at the most.
LONGEST_STEP_MS, STEP_INTERVAL_MS = 900, 10_000


class WallClockMap:
    """
    The mapping of one unbroken range of a timeline.

    :ivar corrections_ms: by how much it has been moved in all since it was first asked: the drift of the publisher's
        clock against ours, and what the host's time of day was set by. Positive where the publisher's runs slow.
    """

    def __init__(self) -> None:
        self.corrections_ms = 0
        self._offset_ms: int | None = None  # the time of day at media time 0
        self._was_asked = False
        self._least: deque[int] = deque(maxlen=PIECES)  # least delay in each piece of the window
        self._piece_since_ms = 0
        self._moved_at_ms = 0

    def observe(self, media_ms: int, utc_ms: int, now_ms: int) -> None:
        """
        Take in when the frame that is to be shown at ``media_ms`` of the timeline arrived.

        :param utc_ms: in milliseconds since 1970, as the host has it.
        :param now_ms: on a clock that is never set.
        """
        if self._offset_ms is None:
            self._offset_ms = utc_ms - media_ms
            self._piece_since_ms = self._moved_at_ms = now_ms
        delay_ms = utc_ms - media_ms - self._offset_ms
        if not self._was_asked:
            self._offset_ms += min(delay_ms, 0)
            return
        self._collect(delay_ms, now_ms)

    def utc_ms(self, media_ms: int) -> int | None:
        """The date of a moment, in milliseconds since 1970; ``None`` before anything was observed."""
        if self._offset_ms is None:
            return None
        self._was_asked = True
        return self._offset_ms + media_ms

    def _collect(self, delay_ms: int, now_ms: int) -> None:
        if not self._least or now_ms - self._piece_since_ms >= WINDOW_MS // PIECES:
            self._least.append(delay_ms)
            self._piece_since_ms = now_ms
        else:
            self._least[-1] = min(self._least[-1], delay_ms)
        is_full = len(self._least) == PIECES
        if is_full and abs(min(self._least)) > TOLERANCE_MS and now_ms - self._moved_at_ms >= STEP_INTERVAL_MS:
            self._move(min(self._least), now_ms)

    def _move(self, delay_ms: int, now_ms: int) -> None:
        assert self._offset_ms is not None
        step_ms = max(-LONGEST_STEP_MS, min(delay_ms, LONGEST_STEP_MS))
        self._offset_ms += step_ms
        self.corrections_ms += step_ms
        self._moved_at_ms = now_ms
        self._least = deque((least - step_ms for least in self._least), maxlen=PIECES)
