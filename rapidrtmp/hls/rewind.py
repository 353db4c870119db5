"""
Rewinding: a long window over the segments that the mirror stored, and the journal that brings it back after a kill.

No media is written for it. What the mirror lists is listed here too, and deleted much later; who asks for a segment
that has left the shelf gets it from the storage. In memory there is one line of text for each segment. All else that
clips and a new process need (sizes, ticks, keyframes) goes into pages of a journal beside the segments, in the lines
that recordings are described with (:mod:`rapidrtmp.dvr.journal`); the last page is written again with each segment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from twisted.python.failure import Failure

from rapidrtmp.dvr.journal import Header, RecordedPart, RecordedSegment, render_header, render_segment
from rapidrtmp.errors import StorageError
from rapidrtmp.hls.grid import Constants
from rapidrtmp.hls.names import REWIND_PLAYLIST, PageName, init_name, init_number, segment_name
from rapidrtmp.hls.playlist import SKIP_TARGETS, ListedSegment, render_control, render_head
from rapidrtmp.hls.rewind_journal import read_rewind_page
from rapidrtmp.interfaces import IShelf, IStorageWriter, Playlist

__all__ = ["DELETIONS_PER_SEGMENT", "Rewind", "RewindWindow"]

#: So many segments are described by one page, which is written as often.
SEGMENTS_PER_PAGE = 64
#: Where much is to be deleted, so many objects go with each segment: writes wait behind deletions.
DELETIONS_PER_SEGMENT = 8
PAGE_TYPE = "application/jsonl"
SHORTEST_GAP_MS = 100


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


@dataclass(slots=True, eq=False)
class _Page:
    """One page of the journal: what it is called, the last segment on it, and its lines while it grows."""

    name: PageName
    last: int
    lines: list[bytes] = field(default_factory=list)


class Rewind:
    """
    The rewind window of one stream, in three places: the playlist on the shelf, the journal and the segments in the
    storage. A segment stays there as long again as the window is, once it is not listed any more: whoever was given
    the playlist, or a clip, can play all of it (RFC 8216, 6.2.2).

    :param prefix: of the keys in the storage, without a slash at the end.
    :param first_sequence: where numbering begins.
    """

    def __init__(
        self,
        shelf: IShelf,
        storage: IStorageWriter,
        prefix: str,
        constants: Constants,
        length_ms: int,
        first_sequence: int,
    ) -> None:
        self._shelf = shelf
        self._storage = storage
        self._prefix = prefix
        self._window = RewindWindow(constants, length_ms, first_sequence)
        self._first = first_sequence
        self._headers: dict[str, Header] = {}
        self._pages: deque[_Page] = deque()
        self._retired: deque[tuple[int, int]] = deque()  # sequence numbers, and until when of the media's time
        self._deleted = first_sequence  # all below are deleted, or on their way
        self._media_ms = 0
        self._discontinuities = first_sequence  # the discontinuity sequence number behind the last segment

    @property
    def names(self) -> set[str]:
        """The names of all that lies in the storage for it."""
        pages = {str(page.name) for page in self._pages}
        inits = {init_name(page.name.init) for page in self._pages}
        last = self._pages[-1].last if self._pages else self._deleted - 1
        return pages | inits | {segment_name(number) for number in range(self._deleted, last + 1)}

    def keeps(self, sequence: int) -> bool:
        """Whether it sees to the deletion of this segment, and of its init segment."""
        return sequence >= self._first

    def begin_run(self, init: str, header: Header) -> None:
        """Segments with the init segment ``init`` follow; ``header`` describes them."""
        self._headers[init] = header

    def add(self, segment: ListedSegment, size: int) -> None:
        """
        List a segment that is stored.

        :param size: in bytes.
        """
        self._take(segment, size)
        self._publish()

    def end(self) -> None:
        """Nothing follows."""
        self._window.ended = True
        self._publish()
        if not self._window:
            self._shelf.withdraw(REWIND_PLAYLIST)

    def _publish(self) -> None:
        if self._window:
            self._shelf.put_playlist(REWIND_PLAYLIST, self._window.render())

    def restore(self, pages: Mapping[str, bytes], listed: Sequence[ListedSegment], sizes: Mapping[str, int]) -> None:
        """
        Go on from what an earlier process left.

        :param pages: of its journal, by name; what is in them can be read.
        :param listed: the window of the short playlist, with gaps for what was lost.
        :param sizes: of its segments, by name.
        """
        names = sorted(name for name in map(PageName.parse, pages) if name is not None)
        self._first = self._deleted = names[0].first if names else listed[-1].sequence + 1
        if names:
            self._discontinuities = self._window.discontinuity_sequence = names[0].discontinuities
        for name in names:
            self._restore_page(name, pages[str(name)], listed[0].sequence)
        last = self._pages[-1].last if self._pages else self._first - 1
        for segment in self._bridged(listed):
            if self._first <= segment.sequence <= last:
                self._list(segment)
            elif segment.sequence > last:
                self._take(segment, 0 if segment.gap else sizes.get(segment.uri, 0))
        self._publish()

    def _bridged(self, listed: Sequence[ListedSegment]) -> Sequence[ListedSegment]:
        """
        The short window, joined on to the pages.

        If it is too short for all the numbers that were lost, it lists nothing but gaps and begins behind a hole. Here
        nothing has to be forgotten: the gaps begin with the hole, and share the time up to the end of the window.
        """
        if not self._pages or listed[0].sequence <= self._pages[-1].last + 1:
            return listed
        page = self._pages[-1]
        header, segments = read_rewind_page(b"".join(page.lines))
        last = segments[-1]
        numbers = range(last.number + 1, listed[-1].sequence + 1)
        utc_ms = last.utc_ms + last.duration * 1000 // header.timescale
        span_ms = listed[-1].utc_ms + listed[-1].duration_ms - utc_ms
        each_ms = min(max(SHORTEST_GAP_MS, span_ms // len(numbers)), 1000 * header.target_s)
        ticks, start = each_ms * header.timescale // 1000, last.start + last.duration
        gap = (RecordedPart(0, ticks, last.keyframe, lost=True),)
        gaps = [
            RecordedSegment(number, utc_ms + at * each_ms, start + at * ticks, False, gap)
            for at, number in enumerate(numbers)
        ]
        return [_listed(each, header.timescale, init_name(page.name.init)) for each in gaps]

    def _restore_page(self, name: PageName, data: bytes, before: int) -> None:
        """Take a page over, and list what is on it up to the segment ``before``."""
        header, segments = read_rewind_page(data)
        init = init_name(name.init)
        self._headers[init] = header
        page = _Page(name, segments[-1].number, [render_header(header), *map(render_segment, segments)])
        if self._pages:
            self._pages[-1].lines = []
        self._pages.append(page)
        for segment in segments:
            if segment.number < before:
                self._list(_listed(segment, header.timescale, init))

    def _take(self, segment: ListedSegment, size: int) -> None:
        header = self._headers.get(segment.map_uri)
        if header is not None:  # else of what an earlier process left and did not describe
            self._write(segment, size, header)
            self._list(segment)

    # ── the journal ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _write(self, segment: ListedSegment, size: int, header: Header) -> None:
        page = self._pages[-1] if self._pages else None
        is_full = page is not None and len(page.lines) > SEGMENTS_PER_PAGE
        if page is None or is_full or init_name(page.name.init) != segment.map_uri:
            if page is not None:
                page.lines = []
            name = PageName(segment.sequence, self._discontinuities, init_number(segment.map_uri), segment.utc_ms)
            page = _Page(name, segment.sequence, [render_header(header)])
            self._pages.append(page)
        page.last = segment.sequence
        page.lines.append(render_segment(_recorded(segment, size, header.timescale)))
        written = self._storage.put(f"{self._prefix}/{page.name}", tuple(page.lines), PAGE_TYPE, "no-store")
        written.addErrback(Failure.trap, StorageError)  # the next one holds these lines too

    # ── what is no longer listed ─────────────────────────────────────────────────────────────────────────────────────

    def _list(self, segment: ListedSegment) -> None:
        longest_ms = self._window.listed_ms  # of the last version that held what leaves now
        self._media_ms += segment.duration_ms
        self._discontinuities += segment.discontinuity
        for row in self._window.append(segment):
            self._retired.append((row.sequence, self._media_ms + longest_ms + row.duration_ms))
        for _ in range(DELETIONS_PER_SEGMENT):
            if self._retired and self._retired[0][1] <= self._media_ms:
                self._delete(self._retired.popleft()[0])

    def _delete(self, sequence: int) -> None:
        """Queue the deletion of a segment, and of what only it and those before it needed."""
        self._deleted = sequence + 1
        self._storage.delete(f"{self._prefix}/{segment_name(sequence)}")
        while len(self._pages) > 1 and self._pages[0].last <= sequence:
            name = self._pages.popleft().name
            self._storage.delete(f"{self._prefix}/{name}")
            if name.init != self._pages[0].name.init:
                self._headers.pop(init_name(name.init), None)
                self._storage.delete(f"{self._prefix}/{init_name(name.init)}")


def _recorded(segment: ListedSegment, size: int, timescale: int) -> RecordedSegment:
    """A segment as the journal says it, in ticks of the timescale of its page."""
    start, end = (ticks * timescale // segment.timescale for ticks in (segment.start, segment.end))
    part = RecordedPart(0 if segment.gap else size, end - start, segment.keyframe, lost=segment.gap)
    return RecordedSegment(segment.sequence, segment.utc_ms, start, segment.discontinuity, (part,))


def _listed(segment: RecordedSegment, timescale: int, init: str) -> ListedSegment:
    """The other way round."""
    listed = ListedSegment(
        segment.number,
        init,
        segment.utc_ms,
        segment.discontinuity,
        segment.start,
        timescale,
        segment.keyframe,
        gap=segment.is_gap,
    )
    listed.complete(segment_name(segment.number), segment.start + segment.duration)
    return listed
