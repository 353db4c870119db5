"""The rewind window as text: thousands of segments, each rendered once, and joined for every version."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from rapidrtmp.hls.grid import Constants
from rapidrtmp.hls.playlist import SKIP_TARGETS, ListedSegment, render_control, render_head
from rapidrtmp.interfaces import Playlist

__all__ = ["RewindWindow", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One segment of the window: its lines, and what is needed to take it off again."""

    sequence: int
    duration_ms: int
    discontinuity: bool
    map_line: str
    text: str


class RewindWindow:
    """
    The segments of the last ``length_ms`` as a playlist without parts (RFC 8216 bis).

    A segment's lines are rendered once; a version is these lines joined.

    :ivar ended: whether nothing follows.
    :ivar discontinuity_sequence: of the first segment listed.
    """

    def __init__(self, constants: Constants, length_ms: int, first_sequence: int) -> None:
        self.constants = Constants(constants.target_s, 0)
        self.ended = False
        self._length_ms = max(length_ms, 3000 * constants.target_s)
        self._rows: deque[Row] = deque()
        self._listed_ms = 0
        self.discontinuity_sequence = first_sequence
        self._independent = True
        self._control = render_control(self.constants)

    def __bool__(self) -> bool:
        return bool(self._rows)

    def emptied(self) -> RewindWindow:
        """One as this was when nothing was listed."""
        window = RewindWindow(self.constants, self._length_ms, self.discontinuity_sequence)
        window.ended = self.ended
        return window

    @property
    def listed_ms(self) -> int:
        """How much is listed."""
        return self._listed_ms

    def append(self, segment: ListedSegment) -> list[Row]:
        """
        List a complete segment; return what is not listed any more, oldest first.

        Sequence numbers have no holes in a playlist, so that nothing is left before one.
        """
        removed = []
        if self._rows and self._rows[-1].sequence + 1 != segment.sequence:
            removed = [self._pop() for _ in range(len(self._rows))]
        self._independent &= segment.keyframe
        map_line = segment.map_line
        if self._rows and self._rows[-1].map_line == map_line:
            map_line = self._rows[-1].map_line  # one text for all
        text = segment.render(first=False, with_parts=False)
        self._rows.append(Row(segment.sequence, segment.duration_ms, segment.discontinuity, map_line, text))
        self._listed_ms += segment.duration_ms
        while self._listed_ms - self._rows[0].duration_ms >= self._length_ms:
            removed.append(self._pop())
        return removed

    def _pop(self) -> Row:
        row = self._rows.popleft()
        self._listed_ms -= row.duration_ms
        self.discontinuity_sequence += row.discontinuity
        return row

    def render(self) -> Playlist:
        """The playlist as it is now; something must be listed."""
        head = render_head(
            self.constants,
            self._control,
            self._rows[0].sequence,
            self.discontinuity_sequence,
            independent=self._independent,
        )
        tail = "#EXT-X-ENDLIST\n" if self.ended else ""
        skipped = 0 if self.ended else self._skippable()
        delta = None
        if skipped:
            kept = (self._rows[index] for index in range(skipped, len(self._rows)))
            delta = "".join((head, f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n", *_lines(kept))).encode()
        return Playlist(
            body="".join((head, *_lines(iter(self._rows)), tail)).encode(),
            delta=delta,
            last_sequence=self._rows[-1].sequence,
            open_parts=0,
            last_segment_parts=0,
            target_ms=1000 * self.constants.target_s,
            part_target_ms=0,
            ended=self.ended,
        )

    def _skippable(self) -> int:
        """How many segments are wholly before the skip boundary (4.4.3.8)."""
        left_ms = SKIP_TARGETS * 1000 * self.constants.target_s
        index = len(self._rows)
        while index and left_ms > 0:
            index -= 1
            left_ms -= self._rows[index].duration_ms
        return index


def _lines(rows: Iterator[Row]) -> Iterator[str]:
    """Their lines; the first names its init segment in any case."""
    first = next(rows)
    if not first.discontinuity:
        yield first.map_line
    yield first.text
    for row in rows:
        yield row.text
