"""What of a clip one init segment is enough for, and what it is made of is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rapidrtmp.archive.clip import ClipRange
from rapidrtmp.archive.journal import Header
from rapidrtmp.archive.layout import INIT_NAME, part_name, segment_name

__all__ = ["RECORDING", "ClipRun", "Naming", "spans_of"]


@dataclass(frozen=True, slots=True)
class Naming:
    """
    What playlists call things.

    :ivar init: the init segment.
    :ivar segment: a segment, by number; ``part``: a part, by the number of its segment and its place in that.
    """

    init: str
    segment: Callable[[int], str]
    part: Callable[[int, int], str]

    def under(self, folder: str) -> Naming:
        """The same, seen from above ``folder``."""
        return Naming(
            f"{folder}/{self.init}",
            lambda number: f"{folder}/{self.segment(number)}",
            lambda number, index: f"{folder}/{self.part(number, index)}",
        )


RECORDING = Naming(INIT_NAME, segment_name, part_name)


@dataclass(frozen=True, slots=True)
class ClipRun:
    """
    Ranges that follow one another and need the same init segment; at least one.

    :ivar header: describes them.
    """

    header: Header
    ranges: Sequence[ClipRange]
    naming: Naming = RECORDING

    @property
    def start_ms(self) -> int:
        """The moment at which what can be played of it begins, in milliseconds since 1970."""
        first = next(filter(_is_playable, self.ranges), self.ranges[0])
        return self._ms(first, first.start)

    @property
    def end_ms(self) -> int:
        """The moment at which that ends."""
        last = next(filter(_is_playable, reversed(self.ranges)), self.ranges[-1])
        return self._ms(last, last.end)

    def _ms(self, clip_range: ClipRange, ticks: int) -> int:
        return clip_range.segment.utc_ms + (ticks - clip_range.segment.start) * 1000 // self.header.timescale


def _is_playable(clip_range: ClipRange) -> bool:
    return clip_range.size > 0 and not clip_range.segment.is_gap


def spans_of(runs: Sequence[ClipRun]) -> list[tuple[int, int]]:
    """The times from which to which a clip holds just one of the runs each; what two of them hold is in none."""
    starts = [max(run.start_ms, before) for run, before in zip(runs, [0, *(run.end_ms for run in runs)], strict=False)]
    ends = [min(run.end_ms, after.start_ms) for run, after in pairwise([*runs, runs[-1]])]
    ends[-1] = runs[-1].end_ms
    return [(start_ms, end_ms) for start_ms, end_ms in zip(starts, ends, strict=True) if start_ms < end_ms]
