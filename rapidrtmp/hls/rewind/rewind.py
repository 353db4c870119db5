"""
Rewinding: a long window over the segments of the stored copy, and the journal that brings it back after a kill.

No media is written for it. What that lists is listed here too, and deleted much later; who asks for a segment
that has left the shelf gets it from the storage. In memory there is one line of text for each segment. All else that
clips and a new process need (sizes, ticks, keyframes) goes into pages of a journal beside the segments, in the lines
that recordings are described with (:mod:`rapidrtmp.archive.journal`); the last page is written again with each segment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from twisted.python.failure import Failure

from rapidrtmp.archive.journal import Header, RecordedPart, RecordedSegment, render_header, render_segment
from rapidrtmp.errors import StorageError
from rapidrtmp.hls.names import REWIND_PLAYLIST, PageName, init_name, init_number, segment_name
from rapidrtmp.hls.rewind.journal import as_listed, read_rewind_page
from rapidrtmp.hls.rewind.window import RewindWindow
from rapidrtmp.hls.segment import ListedSegment
from rapidrtmp.interfaces import Constants, IShelf, IStorageWriter

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


@dataclass(slots=True, eq=False)
class _Expecting:
    """
    What is known and done before an earlier process's window is given back.

    :ivar listed: the short window, as it was left.
    :ivar first_discontinuities: the discontinuity sequence number behind it; ``discontinuities`` that behind what was
        added since.
    :ivar pages: of the journal, that were begun meanwhile; ``added`` is what they describe.
    """

    listed: Sequence[ListedSegment]
    first_discontinuities: int
    discontinuities: int
    pages: deque[_Page] = field(default_factory=deque)
    added: list[ListedSegment] = field(default_factory=list)


class Rewind:
    """
    The rewind window of one stream, in three places: the playlist on the shelf, the journal and the segments in the
    storage. A segment stays there as long again as the window is, once it is not listed any more: a player that
    has the playlist, or a clip, can play all of it (RFC 8216, 6.2.2).

    :param prefix: of the keys in the storage, without a slash at the end.
    :param first_sequence: the media sequence number of the first segment; ``first_discontinuity`` is its discontinuity
        sequence number.
    """

    def __init__(
        self,
        shelf: IShelf,
        storage: IStorageWriter,
        prefix: str,
        constants: Constants,
        length_ms: int,
        first_sequence: int,
        first_discontinuity: int = 0,
    ) -> None:
        self._shelf = shelf
        self._storage = storage
        self._prefix = prefix
        self._window = RewindWindow(constants, length_ms, first_discontinuity)
        self._first = first_sequence
        self._expecting: _Expecting | None = None
        self._headers: dict[str, Header] = {}
        self._pages: deque[_Page] = deque()
        self._retired: deque[tuple[int, int]] = deque()  # sequence numbers, and until when of the media's time
        self._deleted = first_sequence  # all below are deleted, or on their way
        self._media_ms = 0
        self._discontinuities = first_discontinuity  # the discontinuity sequence number behind the last segment

    @property
    def names(self) -> set[str]:
        """The names of all that lies in the storage for it."""
        known = [*self._pages, *(self._expecting.pages if self._expecting else ())]
        pages = {str(page.name) for page in known}
        inits = {init_name(page.name.init) for page in known}
        numbers = range(self._deleted, known[-1].last + 1) if known else range(0)
        return pages | inits | set(map(segment_name, numbers))

    def keeps(self, sequence: int) -> bool:
        """Whether it sees to the deletion of this segment, and of its init segment."""
        return self._expecting is not None or sequence >= self._first

    def begin_run(self, init: str, header: Header) -> None:
        """Segments with the init segment ``init`` follow; ``header`` describes them."""
        self._headers[init] = header

    def add(self, segment: ListedSegment) -> None:
        """List a segment that is stored."""
        if self._expecting is not None:
            self._put_by(self._expecting, segment)
            return
        self._take(segment)
        self._publish()

    def end(self) -> None:
        """Nothing follows."""
        self._window.ended = True
        if self._expecting is not None:
            return
        self._publish()
        if not self._window:
            self._shelf.withdraw(REWIND_PLAYLIST)

    def _publish(self) -> None:
        if self._window:
            self._shelf.put_playlist(REWIND_PLAYLIST, self._window.render())

    # ── what an earlier process left ─────────────────────────────────────────────────────────────────────────────────

    def expect(self, listed: Sequence[ListedSegment], discontinuities: int) -> None:
        """
        Continue what an earlier process left, once it was given back, page by page, and :meth:`join_pages` is called.

        Until then nothing is listed, because no playlist may grow at its beginning; what is added meanwhile is written
        down at once.

        :param listed: the window of the short playlist, with gaps for what was lost.
        :param discontinuities: the discontinuity sequence number behind it.
        """
        self._expecting = _Expecting(tuple(listed), discontinuities, discontinuities)

    def give_back(self, name: PageName, header: Header, segments: Sequence[RecordedSegment]) -> None:
        """The next page of its journal; the short window is taken for what that lists as well."""
        assert self._expecting is not None
        listed = self._expecting.listed
        if self._pages:
            self._fill_hole(name, listed)
        else:
            self._first = self._deleted = name.first
            self._discontinuities = self._window.discontinuity_sequence = name.discontinuities
        init = init_name(name.init)
        self._headers[init] = header
        page = _Page(name, segments[-1].number, [render_header(header), *map(render_segment, segments)])
        if self._pages:
            self._pages[-1].lines = []
        self._pages.append(page)
        for segment in segments:
            if segment.number < listed[0].sequence:
                self._list(as_listed(segment, header.timescale, init))

    def forget(self) -> None:
        """Nothing that was given back so far can be listed: what follows it cannot be read."""
        self._pages.clear()
        self._retired.clear()
        self._window = self._window.emptied()

    def join_pages(self) -> None:
        """Join what came meanwhile to the pages, which are all given back, and publish it."""
        expecting, self._expecting = self._expecting, None
        assert expecting is not None
        listed = expecting.listed
        if not self._pages:
            self._first = self._deleted = listed[-1].sequence + 1
            self._discontinuities = self._window.discontinuity_sequence = expecting.first_discontinuities
        last = self._pages[-1].last if self._pages else self._first - 1
        for segment in self._bridged(listed):
            if self._first <= segment.sequence <= last:
                self._list(segment)
            elif segment.sequence > last:
                self._take(segment)
        self._pages.extend(expecting.pages)
        for segment in expecting.added:
            self._list(segment)
        self._publish()
        if self._window.ended and not self._window:
            self._shelf.withdraw(REWIND_PLAYLIST)

    def _bridged(self, listed: Sequence[ListedSegment]) -> Sequence[ListedSegment]:
        """
        The short window, joined on to the pages.

        If it is too short for all the numbers that were lost, it lists nothing but gaps and begins behind a hole. Here
        nothing has to be forgotten: the gaps begin with the hole, and share the time up to the end of the window.
        What the hole took may have begun with a discontinuity, so the first gap does: see ``resume.bridge``.
        """
        if not self._pages or listed[0].sequence <= self._pages[-1].last + 1:
            return listed
        broken = {self._pages[-1].last + 1, *_broken(listed)}
        return self._gaps(listed[-1].sequence + 1, listed[-1].utc_ms + listed[-1].duration_ms, broken)

    def _fill_hole(self, name: PageName, listed: Sequence[ListedSegment]) -> None:
        """
        Where a server was killed before it could continue, the numbers up to the page it wrote are gaps. So many of
        them begin with a discontinuity that those on the page keep their numbers.
        """
        page = self._pages[-1]
        hole = range(page.last + 1, name.first)
        if not hole:
            return
        segments = read_rewind_page(b"".join(page.lines))[1]
        known = page.name.discontinuities + sum(segment.discontinuity for segment in segments)
        broken = {number for number in _broken(listed) if number in hole}
        broken |= set(hole[: max(0, name.discontinuities - known - len(broken))])
        for segment in self._gaps(name.first, name.utc_ms, broken):
            self._write(self._pages, segment, self._headers[segment.map_uri], known)
            known += segment.discontinuity
            if segment.sequence < listed[0].sequence:
                self._list(segment)

    def _gaps(self, before: int, until_ms: int, broken: Container[int]) -> list[ListedSegment]:
        """
        Gaps from the last page on up to the number ``before``, which share the time until then.

        :param broken: the numbers of those that begin with a discontinuity.
        """
        page = self._pages[-1]
        header, segments = read_rewind_page(b"".join(page.lines))
        last = segments[-1]
        numbers = range(last.number + 1, before)
        utc_ms = last.utc_ms + last.duration * 1000 // header.timescale
        each_ms = min(max(SHORTEST_GAP_MS, (until_ms - utc_ms) // len(numbers)), 1000 * header.target_s)
        ticks, start = each_ms * header.timescale // 1000, last.start + last.duration
        gap = (RecordedPart(0, ticks, last.keyframe, lost=True),)
        gaps = [
            RecordedSegment(number, utc_ms + at * each_ms, start + at * ticks, number in broken, gap)
            for at, number in enumerate(numbers)
        ]
        return [as_listed(each, header.timescale, init_name(page.name.init)) for each in gaps]

    def _take(self, segment: ListedSegment) -> None:
        header = self._headers.get(segment.map_uri)
        if header is not None:  # else of what an earlier process left and did not describe
            self._write(self._pages, segment, header, self._discontinuities)
            self._list(segment)

    def _put_by(self, expecting: _Expecting, segment: ListedSegment) -> None:
        """Write a segment down that is listed later."""
        header = self._headers.get(segment.map_uri)
        if header is not None:
            self._write(expecting.pages, segment, header, expecting.discontinuities)
            expecting.added.append(segment)
            expecting.discontinuities += segment.discontinuity

    # ── the journal ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _write(self, pages: deque[_Page], segment: ListedSegment, header: Header, discontinuities: int) -> None:
        page = pages[-1] if pages else None
        is_full = page is not None and len(page.lines) > SEGMENTS_PER_PAGE
        if page is None or is_full or init_name(page.name.init) != segment.map_uri:
            if page is not None:
                page.lines = []
            name = PageName(segment.sequence, discontinuities, init_number(segment.map_uri), segment.utc_ms)
            page = _Page(name, segment.sequence, [render_header(header)])
            pages.append(page)
        page.last = segment.sequence
        page.lines.append(render_segment(_recorded(segment, header.timescale)))
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


def _recorded(segment: ListedSegment, timescale: int) -> RecordedSegment:
    """A segment as the journal says it, in ticks of the timescale of its page."""
    start, end = (ticks * timescale // segment.timescale for ticks in (segment.start, segment.end))
    is_open = segment.keyframe and not segment.closed
    part = RecordedPart(segment.size, end - start, segment.keyframe, lost=segment.gap, open=is_open)
    return RecordedSegment(segment.sequence, segment.utc_ms, start, segment.discontinuity, (part,))


def _broken(listed: Sequence[ListedSegment]) -> set[int]:
    """The numbers of the segments that begin with a discontinuity."""
    return {segment.sequence for segment in listed if segment.discontinuity}
