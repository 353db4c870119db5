"""
Where the numbers that viewers see begin, so that they only ever rise.

They begin at the half-seconds since 2020: no stream makes two segments a second, so whatever a presentation reached,
the next one begins above it, in this process or another, with nothing remembered. Only a clock that was set back could
undo that. Against it one number is remembered for all streams together: the highest that any of them is known to have
reached, in this process or according to the storage.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Numbering"]

EPOCH_MS = 1_577_836_800_000


class Numbering:
    """
    Gives out first numbers.

    :param utc_ms: the time of day in milliseconds since 1970.
    """

    def __init__(self, utc_ms: Callable[[], int]) -> None:
        self._utc_ms = utc_ms
        self._reached = 0

    def first(self) -> int:
        """Where a new presentation begins."""
        return max((self._utc_ms() - EPOCH_MS) // 500, self._reached + 1)

    def reached(self, number: int) -> None:
        """Some presentation may have used this number, or announced it."""
        self._reached = max(self._reached, number)
