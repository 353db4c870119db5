"""
The newest part of a rendering, in batches as they are sent, for players at different places in it.

Every batch has a number, one more than that before it. Old ones are let go, but for what a player that is just not too
far behind still needs, and for what one that begins now needs: all since the newest keyframe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Batch", "Ring"]

#: So many that are let go stay in the list, so that this is not moved each time.
_SLACK = 64


class Batch(NamedTuple):
    """
    What is sent at one time.

    :ivar timestamp: of its first message, in milliseconds of the stream's timeline.
    :ivar is_start: whether a player can begin with it.
    """

    data: bytes
    timestamp: int
    is_start: bool


class Ring:
    """
    See the module.

    :param keep_ms: what players may be behind.
    :param max_bytes: of all batches; then even what is newer is let go.
    :ivar newest_start: the number of the newest batch that players can begin with; ``None`` while there is none.
    :ivar next: the number of the next batch.
    """

    def __init__(self, keep_ms: int, max_bytes: int) -> None:
        self.newest_start: int | None = None
        self.next = 0
        self.size = 0
        self._keep_ms = keep_ms
        self._max_bytes = max_bytes
        self._batches: list[Batch] = []
        self._gone = 0  # at the front of the list

    @property
    def first(self) -> int:
        """The number of the oldest batch that is there."""
        return self.next - len(self._batches) + self._gone

    def add(self, batch: Batch) -> None:
        """Append one."""
        if batch.is_start:
            self.newest_start = self.next
        self._batches.append(batch)
        self.next += 1
        self.size += len(batch.data)
        self._let_go(batch.timestamp - self._keep_ms)

    def _let_go(self, before: int) -> None:
        while self._gone < len(self._batches):
            number, oldest = self.first, self._batches[self._gone]
            is_needed = oldest.timestamp >= before or (self.newest_start is not None and number >= self.newest_start)
            if is_needed and self.size <= self._max_bytes:
                break
            if number == self.newest_start:
                self.newest_start = None
            self.size -= len(oldest.data)
            self._batches[self._gone] = _NOTHING
            self._gone += 1
        if self._gone > _SLACK:
            del self._batches[: self._gone]
            self._gone = 0

    def forget_start(self) -> None:
        """Let no player begin before the next keyframe."""
        self.newest_start = None

    def since(self, number: int, most: int) -> Sequence[Batch]:
        """Up to ``most`` batches from one on, which is there or the next."""
        at = number - self.first + self._gone
        return self._batches[at : at + most]

    def timestamp_of(self, number: int) -> int:
        """That of a batch that is there."""
        return self._batches[number - self.first + self._gone].timestamp


_NOTHING = Batch(b"", 0, is_start=False)
