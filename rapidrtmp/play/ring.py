"""
The newest part of a rendering, in batches as they are sent, for players at different places in it.

Every batch has a number, one more than that before it. Old ones are let go, but for what a player that is just not too
far behind still needs, and for what one that begins now needs: all since the newest keyframe, or since the one before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["NO_START", "Batch", "Ring"]

#: The number of no batch.
NO_START = -1

#: So many that are let go stay in the list, so that this is not moved each time.
_SLACK = 64


class Batch(NamedTuple):
    """
    What is sent at one time.

    :ivar timestamp: of its first message, in milliseconds of the stream's timeline.
    :ivar is_start: whether a player can begin with it.
    :ivar late_for: the number of the start that it came too late for: what it holds belongs before that, so a player
        that began there is not sent it. ``NO_START`` for none.
    """

    data: bytes
    timestamp: int
    is_start: bool
    late_for: int = NO_START


class Ring:
    """
    See the module.

    :param keep_ms: what players may be behind.
    :param max_bytes: of all batches; then even what is newer is let go.
    :param keep_starts: all is kept since this many batches that players can begin with, at least.
    :param past_ms: and so much, if there is a batch so old that players can begin with.
    :ivar next: the number of the next batch.
    """

    def __init__(self, keep_ms: int, max_bytes: int, keep_starts: int = 1, past_ms: int = 0) -> None:
        self._starts: deque[int] = deque()
        self._keep_starts = max(keep_starts, 1)
        self._past_ms = past_ms
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

    @property
    def newest_start(self) -> int | None:
        """The number of the newest batch that players can begin with; ``None`` while there is none."""
        return self._starts[-1] if self._starts else None

    @property
    def oldest_start(self) -> int | None:
        """Likewise of the oldest one since which all is kept."""
        return self._starts[0] if self._starts else None

    @property
    def bits_per_second(self) -> int:
        """Of what is there; 0 where that is too short to tell."""
        if self.next == self.first:
            return 0
        span_ms = self.timestamp_of(self.next - 1) - self.timestamp_of(self.first)
        return self.size * 8000 // span_ms if span_ms >= 500 else 0

    def add(self, batch: Batch) -> None:
        """Append one."""
        if batch.is_start:
            self._starts.append(self.next)
        self._batches.append(batch)
        self.next += 1
        self.size += len(batch.data)
        starts = self._starts
        while len(starts) > self._keep_starts and batch.timestamp - self.timestamp_of(starts[1]) >= self._past_ms:
            starts.popleft()
        self._let_go(batch.timestamp - self._keep_ms)

    def _let_go(self, before: int) -> None:
        while self._gone < len(self._batches):
            number, oldest = self.first, self._batches[self._gone]
            start = self.oldest_start
            is_needed = oldest.timestamp >= before or (start is not None and number >= start)
            if is_needed and self.size <= self._max_bytes:
                break
            if number == start:
                self._starts.popleft()
            self.size -= len(oldest.data)
            self._batches[self._gone] = _NOTHING
            self._gone += 1
        if self._gone > _SLACK:
            del self._batches[: self._gone]
            self._gone = 0

    def forget_start(self) -> None:
        """Let no player begin before the next keyframe."""
        self._starts.clear()

    def since(self, number: int, most: int) -> Sequence[Batch]:
        """Up to ``most`` batches from one on, which is there or the next."""
        at = number - self.first + self._gone
        return self._batches[at : at + most]

    def timestamp_of(self, number: int) -> int:
        """That of a batch that is there."""
        return self._batches[number - self.first + self._gone].timestamp


_NOTHING = Batch(b"", 0, is_start=False)
