"""
Where the numbers that viewers see begin, so that they only ever rise.

They begin at the half-seconds since 2020: no stream makes two segments a second, so whatever a presentation reached,
the next one begins above it, in this process or another, with nothing remembered. Only a clock that was set back could
undo that. Against it one number is remembered for all streams together: the highest that any of them is known to have
reached, in this process, according to the storage, or by the mark that an earlier process left
(``server/number_mark.py``).
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Numbering"]

EPOCH_MS = 1_577_836_800_000


class Numbering:
    """
    Gives out first numbers.

    :param utc_ms: the time of day in milliseconds since 1970.
    :ivar has_begun: whether there was a presentation.
    :ivar began: called when there is another.
    """

    def __init__(self, utc_ms: Callable[[], int]) -> None:
        self._utc_ms = utc_ms
        self._reached = 0
        self.has_begun = False
        self.began: Callable[[], None] = lambda: None

    def first(self) -> int:
        """Where a new presentation begins."""
        number = self.after(0)
        self.has_begun = True
        self.began()
        return number

    def after(self, ms: int) -> int:
        """The number that a presentation would begin with so much later: above all that are used by then."""
        return max((self._utc_ms() - EPOCH_MS + ms) // 500, self._reached + 1 + ms // 500)

    def reached(self, number: int) -> None:
        """Some presentation may have used this number, or announced it."""
        self._reached = max(self._reached, number)
