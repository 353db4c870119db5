"""
The rewind window as text: tens of thousands of segments, each rendered once.

The lines of all stand behind each other in one buffer that grows at its end and shrinks at its front, so that a version
of 48 hours, 8 MB, is one copy: a tenth of what it takes to join as many texts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from rapidrtmp.hls.playlist import SKIP_TARGETS, make_control, make_head
from rapidrtmp.hls.segment import ListedSegment
from rapidrtmp.interfaces import Constants, Playlist
from rapidrtmp.m3u8.write import ENDLIST, render_head, render_init, render_segment, render_skip

__all__ = ["RewindWindow", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One segment of the window: what is needed to take it off again. Its lines are ``size`` bytes of the text."""

    sequence: int
    duration_ms: int
    discontinuity: bool
    map_line: bytes
    size: int


class RewindWindow:
    """
    The segments of the last ``length_ms`` as a playlist without parts (RFC 8216 bis).

    :ivar ended: whether nothing follows.
    :ivar discontinuity_sequence: of the first segment listed.
    """

    def __init__(self, constants: Constants, length_ms: int, discontinuity_sequence: int) -> None:
        self.constants = Constants(constants.target_s, 0)
        self.ended = False
        self._length_ms = max(length_ms, 3000 * constants.target_s)
        self._rows: deque[Row] = deque()
        self._text = bytearray()  # of all rows
        self._listed_ms = 0
        self.discontinuity_sequence = discontinuity_sequence
        self._independent = True
        self._control = make_control(self.constants)

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
        self._independent &= segment.closed
        map_line = render_init(segment.init).encode()
        if self._rows and self._rows[-1].map_line == map_line:
            map_line = self._rows[-1].map_line  # one text for all
        text = render_segment(replace(segment, parts=(), date_ranges=())).encode()
        self._rows.append(Row(segment.sequence, segment.duration_ms, segment.discontinuity, map_line, len(text)))
        self._text += text
        self._listed_ms += segment.duration_ms
        while self._listed_ms - self._rows[0].duration_ms >= self._length_ms:
            removed.append(self._pop())
        return removed

    def _pop(self) -> Row:
        row = self._rows.popleft()
        del self._text[: row.size]
        self._listed_ms -= row.duration_ms
        self.discontinuity_sequence += row.discontinuity
        return row

    def render(self) -> Playlist:
        """The playlist as it is now; something must be listed."""
        first = self._rows[0]
        playlist = make_head(
            self.constants,
            self._control,
            first.sequence,
            self.discontinuity_sequence,
            independent=self._independent,
            ended=self.ended,
        )
        head = render_head(playlist).encode()
        kept = () if self.ended else self._unskippable()
        delta = None
        if 0 < len(kept) < len(self._rows):
            skip = render_skip(len(self._rows) - len(kept))
            lines = self._text[-sum(row.size for row in kept) :]
            delta = b"".join((head, skip.encode(), _init_line(kept[0]), lines))
        return Playlist(
            body=b"".join((head, _init_line(first), self._text, ENDLIST.encode() if self.ended else b"")),
            delta=delta,
            last_sequence=self._rows[-1].sequence,
            open_parts=0,
            last_segment_parts=0,
            target_ms=1000 * self.constants.target_s,
            part_target_ms=0,
            ended=self.ended,
            first_sequence=first.sequence,
            blocks=playlist.blocks,
        )

    def _unskippable(self) -> list[Row]:
        """The segments that are not wholly before the skip boundary (4.4.3.8)."""
        left_ms = SKIP_TARGETS * 1000 * self.constants.target_s
        kept: list[Row] = []
        for row in reversed(self._rows):
            if left_ms <= 0:
                break
            left_ms -= row.duration_ms
            kept.append(row)
        return kept[::-1]


def _init_line(first: Row) -> bytes:
    """The line that names the init segment where a playlist begins with this row, unless its own text does."""
    return b"" if first.discontinuity else first.map_line
