"""The bit rate of a rendition, as a multivariant playlist announces it (RFC 8216 bis, 4.4.6.2)."""

from __future__ import annotations

from collections import deque

__all__ = ["STEP", "Rate", "announced"]

#: BANDWIDTH is announced in these steps of bits a second, so that it seldom changes.
STEP = 50_000


class Rate:
    """
    The bit rate of one rendition, by what has been measured of it so far.

    :ivar peak: the highest of any segments in a row that last about as long as one (RFC 8216 bis, 4.1), in bits a
        second; likewise ``average`` over all of them.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._latest: deque[tuple[int, int]] = deque()  # sizes and durations of the segments that may make such a run
        self._bytes = 0
        self._duration_ms = 0

    @property
    def average(self) -> int:
        """See the class."""
        return self._bytes * 8000 // self._duration_ms if self._duration_ms else 0

    def measure(self, size: int, duration_ms: int, target_ms: int) -> None:
        """
        Count one segment.

        :param target_ms: the target duration. Segments of less than half of it are no peak, but with their neighbours.
        """
        self._bytes += size
        self._duration_ms += duration_ms
        self._latest.append((size, duration_ms))
        run_bytes = run_ms = 0
        for index in range(len(self._latest) - 1, -1, -1):
            run_bytes += self._latest[index][0]
            run_ms += self._latest[index][1]
            if 2 * run_ms > 3 * target_ms:
                for _ in range(index + 1):
                    self._latest.popleft()
                break
            if 2 * run_ms >= target_ms:
                self.peak = max(self.peak, run_bytes * 8000 // run_ms)

    def measure_opening(self, size: int, duration_ms: int) -> None:
        """Go by the beginning of the first segment, as long as there is no other."""
        self.peak = size * 8000 // max(duration_ms, 1)


def announced(rate: int) -> int:
    """A tenth to spare, in whole steps."""
    return max(1, -(-rate * 11 // (10 * STEP))) * STEP
