"""How much an application sends to its viewers, measured over the last seconds."""

from __future__ import annotations

from collections import deque

__all__ = ["Egress"]

#: Over so many whole seconds.
WINDOW_S = 5


class Egress:
    """The bodies of one application's answers, by the second in which they were sent."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque()

    def add(self, size: int, time_ms: int) -> None:
        """Count bytes that are sent now."""
        second = time_ms // 1000
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1] = second, self._seconds[-1][1] + size
            return
        self._seconds.append((second, size))
        while self._seconds[0][0] < second - WINDOW_S:
            self._seconds.popleft()

    def bits_per_second(self, time_ms: int) -> int:
        """The rate of the last seconds, this one left out, of which more may come."""
        second = time_ms // 1000
        sent = sum(size for at, size in self._seconds if second - WINDOW_S <= at < second)
        return 8 * sent // WINDOW_S
