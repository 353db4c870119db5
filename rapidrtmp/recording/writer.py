"""
One recording while it is written: its entry in the catalogue, its init segment, its parts, and its journal.

Everything goes through the stream's write-behind queue in the order in which a reader must find it: the entry first,
so that nothing can be stored that is not known; then the init segment and the head of the journal, so that every
part that is stored can be played. A segment gets its line in the journal once all of its parts are stored or lost.
What a crash takes is therefore what was not stored at that moment: the part that was growing, and lines of the journal
that recovery can write again from the parts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from rapidrtmp.archive.journal import Header, RecordedPart, RecordedSegment, render_header, render_segment
from rapidrtmp.archive.layout import (
    INIT_NAME,
    JOURNAL_TYPE,
    MEDIA_TYPE,
    SEGMENT_TYPE,
    RecordingId,
    page_name,
    part_name,
)
from rapidrtmp.errors import StorageError
from rapidrtmp.interfaces import IMMUTABLE, IStorageWriter
from rapidrtmp.recording.catalogue import Entry, RecordingState
from rapidrtmp.recording.running import RUNNING

__all__ = ["LINES_PER_PAGE", "JournalWriter", "RecordingWriter"]

#: A page of the journal is written anew with each of its lines, and then never again.
LINES_PER_PAGE = 64
JSON_TYPE = "application/json"
NO_CACHE = "no-cache"


@dataclass(slots=True, eq=False)
class _Page:
    """
    A page that the storage does not have as it should be.

    :ivar asked: how many of its lines are in a put that is stored or under way.
    """

    lines: list[bytes] = field(default_factory=list)
    asked: int = 0


class JournalWriter:
    """
    Writes a journal, page by page. A page that was lost is written again with the next line.

    :param folder: of the recording.
    :ivar stored_lines: how many lines, from the first on, can be read.
    """

    def __init__(self, storage: IStorageWriter, folder: str) -> None:
        self._storage = storage
        self._folder = folder
        self.stored_lines = 0
        self._number = 0
        self._pages: dict[int, _Page] = {}

    def append(self, line: bytes) -> None:
        """Add a line, and write its page, and those that were lost."""
        page = self._pages.setdefault(self._number, _Page())
        page.lines.append(line)
        if len(page.lines) == LINES_PER_PAGE:
            self._number += 1
        for number, each in list(self._pages.items()):
            if each.asked < len(each.lines):
                self._put(number, each)

    def close(self) -> Deferred[bool]:
        """Write what may be missing once more; tells whether all of it is stored now."""
        puts = [self._put(number, page) for number, page in list(self._pages.items())]
        return DeferredList(puts).addCallback(lambda results: all(stored for _, stored in results))

    def _put(self, number: int, page: _Page) -> Deferred[bool]:
        page.asked = lines = len(page.lines)

        def stored(_: None) -> bool:
            self.stored_lines = max(self.stored_lines, number * LINES_PER_PAGE + lines)
            if lines == LINES_PER_PAGE:
                self._pages.pop(number, None)
            return True

        def lost(failure: Failure) -> bool:
            failure.trap(StorageError)  # counted and said by the queue
            page.asked = 0
            return False

        data = [b"".join(page.lines)]
        written = self._storage.put(f"{self._folder}/{page_name(number)}", data, JOURNAL_TYPE, NO_CACHE)
        return written.addCallbacks(stored, lost)


@dataclass(slots=True, eq=False)
class _Segment:
    """A segment not all of whose parts are known to be stored or lost."""

    number: int
    utc_ms: int
    start: int
    discontinuity: bool
    parts: list[RecordedPart] = field(default_factory=list)
    unsettled: int = 0
    complete: bool = False
    lacks: bool = False


class RecordingWriter:
    """
    Writes one recording, or one of its other renditions: what those are is in the catalogue's entry of all of it.

    :ivar id: which.
    :ivar header: what it is.
    :ivar lost_parts: how many parts the storage did not take.
    :ivar unfinished: how many of its other renditions have not ended.
    """

    def __init__(self, storage: IStorageWriter, id: RecordingId, header: Header) -> None:
        self.id = id
        self.header = header
        self.lost_parts = 0
        self.unfinished = 0
        self._storage = storage
        self._journal = JournalWriter(storage, id.folder)
        self._open: deque[_Segment] = deque()
        self._entry = Entry.begun(id, header)
        self._ticks = 0
        self._next_number = 0
        self._lost: list[Callable[[], object]] = []  # what puts small objects that were lost once more
        self._ending: Deferred[None] | None = None
        self._is_stored = False  # whether nothing is missing, now that it has ended
        self._renditions: list[RecordingWriter] = []
        self._awaited: Deferred[None] | None = None  # fires when all renditions have ended
        if not id.rendition:
            RUNNING.began(storage.storage, self)
            self._put_begun()
        self._put_init()
        self._journal.append(render_header(header))

    @property
    def entry(self) -> Entry:
        """What the catalogue says of it, or is about to say."""
        return self._entry

    @property
    def progress(self) -> Entry:
        """What was handed over so far, stored or on its way there; of segments those that can be read."""
        parts = [part for segment in self._open for part in segment.parts]
        ticks = self._ticks + sum(part.duration for part in parts)
        return replace(
            self._entry,
            ended_ms=0,
            duration_ms=ticks * 1000 // self.header.timescale,
            size=(self._entry.size or len(self.header.init))
            + sum(part.size for part in parts)
            + sum(each.progress.size for each in self._renditions),
            segments=max(0, self._journal.stored_lines - 1),
        )

    # ── what the recorder does ───────────────────────────────────────────────────────────────────────────────────────

    def begin_segment(self, utc_ms: int, start: int, *, discontinuity: bool) -> None:
        """Open the next segment."""
        self._open.append(_Segment(self._next_number, utc_ms, start, discontinuity))
        self._next_number += 1

    def add(self, data: Sequence[bytes], duration: int, *, keyframe: bool, open: bool = False) -> None:
        """
        Write one more part of the open segment.

        :param data: its bytes, in pieces; none where the stream has no media.
        :param duration: in ticks.
        :param keyframe: as :class:`~rapidrtmp.archive.journal.RecordedPart` has it; likewise ``open``.
        """
        segment = self._open[-1]
        index = len(segment.parts)
        part = RecordedPart(sum(map(len, data)), duration, keyframe, open=open)
        segment.parts.append(part)
        if not data:
            return
        segment.unsettled += 1

        def lost(failure: Failure) -> None:
            failure.trap(StorageError)  # counted and said by the queue
            self.lost_parts += 1
            segment.parts[index] = replace(part, size=0, lost=True)

        written = self._storage.put(f"{self.id.folder}/{part_name(segment.number, index)}", data, SEGMENT_TYPE)
        written.addErrback(lost).addCallback(lambda _: self._settle(segment))

    def complete_segment(self, *, lacks: bool = False) -> None:
        """
        Nothing follows in the open segment.

        :param lacks: whether it lacks something, and so cannot be played.
        """
        segment = self._open[-1]
        segment.lacks, segment.complete = lacks, True
        self._note()

    def begin_rendition(self, name: str, header: Header) -> RecordingWriter:
        """
        Begin another rendition; this recording is not over before it is.

        :param name: its folder.
        """
        self._renditions.append(RecordingWriter(self._storage, self.id.of(name), header))
        self.unfinished += 1
        self._entry = replace(self._entry, renditions=(*self._entry.renditions, name))
        self._put_begun()
        return self._renditions[-1]

    def rendition_ended(self) -> None:
        """One of the renditions has ended."""
        self.unfinished -= 1
        if not self.unfinished and self._awaited is not None:
            awaited, self._awaited = self._awaited, None
            awaited.callback(None)

    def end(self) -> Deferred[None]:
        """
        Nothing follows. The open segment must be complete.

        :returns: fires when all is stored that will be, the entry of the catalogue last. Where the journal could not
            be stored, the entry is left as it is, and the next start of a server recovers the recording.
        """
        ending = self._ending = Deferred()
        self._note()
        return ending

    # ── what the storage answers ─────────────────────────────────────────────────────────────────────────────────────

    def _settle(self, segment: _Segment) -> None:
        segment.unsettled -= 1
        self._note()

    def _note(self) -> None:
        """Write down the segments that are complete and settled, in order; then end, if that is wanted."""
        while self._open and self._open[0].complete and not self._open[0].unsettled:
            done = self._open.popleft()
            parts = [replace(part, size=0, lost=True) for part in done.parts] if done.lacks else done.parts
            segment = RecordedSegment(done.number, done.utc_ms, done.start, done.discontinuity, tuple(parts))
            self._journal.append(render_segment(segment))
            self._add_up(segment)
        lost, self._lost = self._lost, []
        for put_again in lost:
            put_again()
        if self._ending is not None and not self._open:
            ending, self._ending = self._ending, None
            self._close(ending)

    def _add_up(self, segment: RecordedSegment) -> None:
        entry, timescale = self._entry, self.header.timescale
        self._ticks += segment.duration
        self._entry = replace(
            entry,
            ended_ms=segment.utc_ms + segment.duration * 1000 // timescale,
            duration_ms=self._ticks * 1000 // timescale,
            size=(entry.size or len(self.header.init)) + segment.size,
            segments=entry.segments + 1,
            gaps=entry.gaps + segment.is_gap,
        )

    def _close(self, ending: Deferred[None]) -> None:
        def close(stored: bool) -> Deferred[None] | None:
            self._is_stored = stored
            if self.id.rendition:
                return None
            waiting: Deferred[None] = Deferred()
            if self.unfinished:
                self._awaited = waiting
            else:
                waiting.callback(None)
            return waiting.addCallback(lambda _: self._put_finished())

        def closed(_: object) -> None:
            RUNNING.ended(self._storage.storage, self)
            ending.callback(None)

        self._journal.close().addCallback(close).addCallback(closed)

    # ── small objects ────────────────────────────────────────────────────────────────────────────────────────────────

    def _put_begun(self) -> None:
        entry = replace(Entry.begun(self.id, self.header), renditions=self._entry.renditions)
        self._put_small(self.id.catalogue_key, entry.render(), JSON_TYPE, self._put_begun)

    def _put_init(self) -> None:
        self._put_small(f"{self.id.folder}/{INIT_NAME}", self.header.init, MEDIA_TYPE, self._put_init)

    def _put_small(self, key: str, data: bytes, content_type: str, again: Callable[[], object]) -> None:
        """Write an object that everything else depends on; one that was lost is written again with the next part."""

        def lost(failure: Failure) -> None:
            failure.trap(StorageError)  # counted and said by the queue
            self._lost.append(again)

        cache_control = IMMUTABLE if content_type == MEDIA_TYPE else NO_CACHE
        self._storage.put(key, [data], content_type, cache_control).addErrback(lost)

    def _put_finished(self) -> Deferred[None] | None:
        """Write the entry of what is over; a recording of which a journal is missing is left to recovery."""
        if not all(each._is_stored for each in (self, *self._renditions)):
            return None
        size = self._entry.size + sum(each.entry.size for each in self._renditions)
        entry = self._entry = replace(self._entry, size=size, state=RecordingState.FINISHED)
        self._renditions.clear()
        written = self._storage.put(self.id.catalogue_key, [entry.render()], JSON_TYPE, NO_CACHE)
        return written.addErrback(_ignore_loss)


def _ignore_loss(failure: Failure) -> None:
    """The queue has counted and said it; recovery will write it."""
    failure.trap(StorageError)
