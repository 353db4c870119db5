"""
Rewinding: a long window over the segments that the mirror stored, and the journal that brings it back after a kill.

No media is written for it. What the mirror lists is listed here too, and deleted much later; who asks for a segment
that has left the shelf gets it from the storage. In memory there is one line of text for each segment. All else that
clips and a new process need (sizes, ticks, keyframes) goes into pages of a journal beside the segments, in the lines
that recordings are described with (:mod:`rapidrtmp.dvr.journal`); the last page is written again with each segment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from twisted.python.failure import Failure

from rapidrtmp.dvr.journal import Header, RecordedPart, RecordedSegment, render_header, render_segment
from rapidrtmp.errors import StorageError
from rapidrtmp.hls.grid import Constants
from rapidrtmp.hls.names import REWIND_PLAYLIST, PageName, init_name, init_number, segment_name
from rapidrtmp.hls.playlist import ListedSegment
from rapidrtmp.hls.rewind_journal import as_listed, read_rewind_page
from rapidrtmp.hls.rewind_window import RewindWindow
from rapidrtmp.interfaces import IShelf, IStorageWriter

__all__ = ["DELETIONS_PER_SEGMENT", "Rewind"]

#: So many segments are described by one page, which is written as often.
SEGMENTS_PER_PAGE = 64
#: Where much is to be deleted, so many objects go with each segment: writes wait behind deletions.
DELETIONS_PER_SEGMENT = 8
PAGE_TYPE = "application/jsonl"
SHORTEST_GAP_MS = 100


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
        What the hole took may have begun with a discontinuity, so the first gap does: see ``resume.bridge``.
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
        broken = {numbers[0], *(segment.sequence for segment in listed if segment.discontinuity)}
        gaps = [
            RecordedSegment(number, utc_ms + at * each_ms, start + at * ticks, number in broken, gap)
            for at, number in enumerate(numbers)
        ]
        return [as_listed(each, header.timescale, init_name(page.name.init)) for each in gaps]

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
                self._list(as_listed(segment, header.timescale, init))

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
