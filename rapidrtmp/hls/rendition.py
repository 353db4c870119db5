"""
From parts to names: the fragments of one stream on its shelf and in its playlist, segment by segment.

Things are put where they belong in an order in which no playlist ever names what is not up yet. A segment is the
concatenation of its parts, byte for byte. What is complete goes to the storage as well. There is one list of segments
(``rapidrtmp.hls.segment_list``): what players see, what is stored and what still stands on the shelf are cursors on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rapidrtmp.archive.journal import Header
from rapidrtmp.cmaf.event_messages import write_event_messages
from rapidrtmp.cmaf.fragment import write_fragment
from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.hls.date_ranges import date_range
from rapidrtmp.hls.discontinuities import DiscontinuityNumbers
from rapidrtmp.hls.expiry import Expiry
from rapidrtmp.hls.names import MEDIA_PLAYLIST, STATE, init_name, is_init, part_name
from rapidrtmp.hls.playlist import PlaylistWindow
from rapidrtmp.hls.resume.orphaned_media import OrphanedMedia
from rapidrtmp.hls.resume.reopen import named_media, reopen
from rapidrtmp.hls.resume.resume_state import Expecting, ResumeState
from rapidrtmp.hls.resume.state import StoredState
from rapidrtmp.hls.rewind.rewind import Rewind
from rapidrtmp.hls.segment import ListedSegment, OpenSegment
from rapidrtmp.hls.stored_copy import MEDIA_TYPE, SEGMENT_TYPE, StoredCopy
from rapidrtmp.interfaces import Constants, Part, SinkContext
from rapidrtmp.m3u8.model import InitSegment
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.write import render_media_playlist
from rapidrtmp.media import Track

__all__ = ["Rendition", "RenditionOptions"]


@dataclass(frozen=True)
class RenditionOptions:
    """
    How much is kept, and where.

    :ivar window: how many segments the playlist lists.
    :ivar dvr_ms: how far back the long playlist reaches; 0 for none.
    :ivar orphans: of earlier presentations.
    :ivar resume_state: the streams of this process.
    :ivar discontinuities: where their discontinuity sequence numbers begin.
    """

    window: int
    dvr_ms: int
    orphans: OrphanedMedia
    resume_state: ResumeState
    discontinuities: DiscontinuityNumbers


class Rendition:
    """
    The window of one stream, and all that is named in it.

    :param window: what players see.
    :ivar broken: whether the next segment does not join on to the last.
    :ivar leads_in: whether a gap is listed before the next segment.
    """

    def __init__(self, context: SinkContext, options: RenditionOptions, window: PlaylistWindow) -> None:
        self.window = window
        self.broken = self.leads_in = False
        self._context = context
        self._options = options
        self._shelf = context.shelf
        self._expiry = Expiry(context.shelf.withdraw, window)
        self._tracks: tuple[Track, ...] = ()
        self._init_segment = InitSegment("")
        self._init = b""
        self._described: tuple[Track, ...] = ()  # the tracks that the last init segment is for
        self._fragments = 0
        self._pieces: list[bytes] = []  # of the open segment
        self._stored_copy: StoredCopy | None = None
        self._rewind: Rewind | None = None
        self._segments_created = context.metrics.counter("segments_created_total", "Segments published")
        self._parts_created = context.metrics.counter("parts_created_total", "Parts published")
        options.discontinuities.reached(context.stream, window.last_discontinuity)
        if context.storage.persistent:
            self._open_stored_copy()

    @classmethod
    def begin(cls, context: SinkContext, options: RenditionOptions, constants: Constants) -> Rendition:
        """Of a presentation that begins now."""
        first = options.discontinuities.first(context.stream)
        return cls(context, options, PlaylistWindow(constants, options.window, context.first_sequence, first))

    @classmethod
    def resume(cls, context: SinkContext, options: RenditionOptions, stored: Mapping[str, bytes]) -> Rendition:
        """
        Of one that an earlier process left: all that is stored is put up again, and what comes, comes behind a
        discontinuity.

        :param stored: see :class:`~rapidrtmp.hls.resume.recovery.HlsRecovery`.
        """
        constants = StoredState.parse(stored[STATE]).constants
        window = reopen(parse_media_playlist(stored[MEDIA_PLAYLIST]), constants, options.window)
        rendition = cls(context, options, window)
        rendition.broken = True
        for name in named_media(window) & stored.keys():
            context.shelf.put(name, [stored[name]], MEDIA_TYPE if is_init(name) else SEGMENT_TYPE)
        if rendition._rewind is not None:
            rendition._expect_rewind(rendition._rewind, stored)
        return rendition

    def _expect_rewind(self, rewind: Rewind, stored: Mapping[str, bytes]) -> None:
        listed = [replace(segment, size=len(stored.get(segment.uri, b""))) for segment in self.window.segments]
        rewind.expect(listed, self.window.last_discontinuity)
        self._options.resume_state.rewinds[self._context.stream] = Expecting(rewind, self._rewind_returned)

    def _rewind_returned(self) -> None:
        """The rewind window is whole again; if the stream has ended meanwhile, more is left of it than was known."""
        if self.window.ended:
            self._leave()

    def _open_stored_copy(self) -> None:
        context, options, window = self._context, self._options, self.window
        shelf, storage, prefix = context.shelf, context.storage, str(context.stream)
        if options.dvr_ms:
            first, discontinuity = window.next_sequence, window.last_discontinuity
            self._rewind = Rewind(shelf, storage, prefix, window.constants, options.dvr_ms, first, discontinuity)
        orphans = options.orphans.take(context.stream)
        self._stored_copy = StoredCopy(storage, prefix, window, options.window, orphans, self._rewind)

    # ── what the packager does ───────────────────────────────────────────────────────────────────────────────────────

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """Learn of which tracks the parts that follow are."""
        self._tracks = tracks

    @property
    def next_part(self) -> str:
        """The name of the part that comes next, if its segment continues."""
        opened = self.window.open
        return part_name(self.window.next_sequence, int(self.broken)) if opened is None else opened.next_part

    @property
    def first_of_next(self) -> str:
        """The name of the first part of the next segment, unless that begins with a discontinuity."""
        return part_name(self.window.next_sequence, 0)

    @property
    def open_bytes(self) -> int:
        """How large the open segment is so far."""
        return sum(map(len, self._pieces))

    def put_part(self, part: Part) -> None:
        """Put a part up and list it, in the open segment or a new one."""
        window = self.window
        segment = self._begin_segment(part) if window.open is None else window.open
        name = segment.add(part.start, part.end, independent=part.independent, gap=not part.runs)
        for each in part.metadata:
            segment.mark(date_range(each, self._context.utc_ms(each.time_ms, 1000)))
        if part.runs:
            self._fragments += 1
            data = b"".join((*write_event_messages(part.metadata), *write_fragment(self._fragments, part.runs)))
            self._pieces.append(data)
            if window.has_parts:
                self._shelf.put(name, [data], SEGMENT_TYPE)
        self._parts_created.inc()

    def complete_segment(self, end: int) -> ListedSegment:
        """Nothing follows in the open segment: put it up as a whole and list it."""
        window = self.window
        pieces, self._pieces = self._pieces, []
        segment = window.complete_segment(end, size=sum(map(len, pieces)))
        if self._shelf.is_crowded:
            window.shorten()
        if pieces:
            self._shelf.put(segment.uri, pieces, SEGMENT_TYPE)
        self._segments_created.inc()
        stored_copy = self._stored_copy
        if stored_copy is not None:
            stored_copy.put_segment(segment, pieces)
        self._expiry.moved_on()
        window.list.drop_before(
            self._expiry.next if stored_copy is None else min(self._expiry.next, stored_copy.deleted)
        )
        return segment

    def put_multivariant(self, name: str, data: bytes) -> None:
        """Have the multivariant playlist stored."""
        if self._stored_copy is not None:
            self._stored_copy.put_multivariant(name, data)

    def suspend(self) -> None:
        """Nothing follows from this process, and the next one continues."""
        if self._stored_copy is not None:
            self._stored_copy.suspend()

    def leave(self) -> Mapping[str, bytes | None]:
        """Nothing follows from this process, and another one continues at once: what it needs; see ``IMovingSink``."""
        self.suspend()
        window = self.window
        state = StoredState(window.constants, window.next_sequence, discontinuity=window.last_discontinuity)
        return {
            MEDIA_PLAYLIST: render_media_playlist(window.plain()).encode(),
            STATE: state.render(),
            **dict.fromkeys(named_media(window)),
        }

    def end(self) -> None:
        """Nothing follows; the open segment must be complete."""
        self.window.ended = True
        if self._stored_copy is not None:
            self._stored_copy.end()
        self._leave()

    def _leave(self) -> None:
        if self._stored_copy is not None:
            self._options.orphans.leave(self._context.stream, self._stored_copy.media)

    # ── segments and init segments ───────────────────────────────────────────────────────────────────────────────────

    def _begin_segment(self, part: Part) -> OpenSegment:
        timescale = self._tracks[0].timescale
        utc_ms = self._context.utc_ms(part.start_pts, timescale)
        if self._tracks is not self._described:  # nearly never
            self._put_init(utc_ms)
        if self.leads_in:
            self.leads_in = False
            self._lead_in(part.start, utc_ms, timescale)
        segment = self.window.begin_segment(
            init=self._init_segment,
            utc_ms=utc_ms,
            discontinuity=self.broken,
            start=part.start,
            timescale=timescale,
            keyframe=part.is_start,
            closed=part.is_closed,
        )
        if self.broken:
            self._begin_discontinuity()
        self.broken = False
        return segment

    def _lead_in(self, end: int, utc_ms: int, timescale: int) -> None:
        """List a gap: hls.js takes no playlist that has parts and no segment, and waits a second before the next."""
        target_s = self.window.constants.target_s
        self.window.begin_segment(
            init=self._init_segment,
            utc_ms=utc_ms - 1000 * target_s,
            discontinuity=False,
            start=end - target_s * timescale,
            timescale=timescale,
            keyframe=True,
        )
        self.complete_segment(end)

    def _begin_discontinuity(self) -> None:
        number = self.window.last_discontinuity
        self._options.discontinuities.reached(self._context.stream, number)
        if self._stored_copy is not None:
            self._stored_copy.begin_discontinuity(number)

    def _put_init(self, utc_ms: int) -> None:
        """Put up an init segment if the tracks need another than the last; its name is never used again."""
        self._described = self._tracks
        init = write_init_segment(self._tracks)
        if init == self._init:
            return
        name = init_name(self.window.next_sequence)
        self._init, self._init_segment = init, InitSegment(name)
        self._shelf.put(name, [init], MEDIA_TYPE)
        if self._stored_copy is not None:
            self._stored_copy.put_init(name, init)
        if self._rewind is not None:
            app, key = self._context.stream
            target_s = self.window.constants.target_s
            self._rewind.begin_run(name, Header.of_tracks(app, key, utc_ms, target_s, self._tracks, init))
