"""
Renditions of single tracks, beside the muxed one: what a stream with several audio tracks is chosen from.

Each has a folder of its own on the shelf (``audio-1/index.m3u8``) and a playlist in step with the muxed one: the same
segments, parts, dates, discontinuities and promises, for its parts are those of the stream with the samples of one
track alone. Where a track has none a part is a gap, and so is one that has ended: its playlist continues for those
who still play it.

They live on the shelf alone; what is stored of a stream is its muxed rendition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rapidrtmp.cmaf.fragment import write_fragment
from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.hls.expiry import Expiry
from rapidrtmp.hls.multivariant import Rate
from rapidrtmp.hls.names import MEDIA_PLAYLIST, init_name, rendition_name
from rapidrtmp.hls.playlist import PlaylistWindow
from rapidrtmp.hls.publication import Publication
from rapidrtmp.hls.segment import OpenSegment
from rapidrtmp.hls.stored_copy import MEDIA_TYPE, SEGMENT_TYPE
from rapidrtmp.interfaces import IMMUTABLE, IShelf, Part, SinkContext
from rapidrtmp.m3u8.model import InitSegment
from rapidrtmp.media import MediaKind, Track

__all__ = ["TrackRendition", "TrackRenditions"]

AUDIO_TYPE = "audio/mp4"


class _Folder:
    """A folder on a shelf."""

    def __init__(self, shelf: IShelf, name: str) -> None:
        self._shelf = shelf
        self._name = name

    def put(self, name: str, pieces: Sequence[bytes], content_type: str, cache_control: str = IMMUTABLE) -> None:
        """See :meth:`IShelf.put <rapidrtmp.interfaces.IShelf.put>`; likewise the others."""
        self._shelf.put(f"{self._name}/{name}", pieces, content_type, cache_control)

    def announce(self, name: str) -> None:
        self._shelf.announce(f"{self._name}/{name}")

    def withdraw(self, name: str) -> None:
        self._shelf.withdraw(f"{self._name}/{name}")


class TrackRendition:
    """
    One of them.

    :param muxed: the window of the muxed rendition, before the segment that this one begins with.
    :ivar name: of its folder.
    :ivar track: as it was configured last.
    :ivar rate: its bit rate, as measured.
    """

    def __init__(self, context: SinkContext, track: Track, size: int, muxed: PlaylistWindow) -> None:
        self.name = rendition_name(track)
        self.track = track
        self.rate = Rate()
        self.window = PlaylistWindow(muxed.constants, size, muxed.next_sequence, muxed.last_discontinuity)
        self._folder = _Folder(context.shelf, self.name)
        self._shelf = context.shelf
        self._publication = Publication(context, f"{self.name}/{MEDIA_PLAYLIST}")
        self._expiry = Expiry(self._folder.withdraw, self.window)
        self._described: Track | None = None  # the track that the last init segment is for
        self._init = b""
        self._init_segment = InitSegment("")
        self._fragments = 0
        self._pieces: list[bytes] = []  # of the open segment
        self._hinted = ""  # the part that was promised and is not up yet

    @property
    def uri(self) -> str:
        """Its playlist, as the multivariant one names it."""
        return f"{self.name}/{MEDIA_PLAYLIST}"

    def put_part(self, part: Part, muxed: OpenSegment) -> None:
        """Put up and list what a part has of this track; ``muxed`` is the segment that it was listed in."""
        part = part.of((self.track.id,))
        segment = self.window.open or self._begin_segment(part, muxed)
        is_independent = self.track.kind is MediaKind.AUDIO or part.independent
        name = segment.add(part.start, part.end, independent=bool(part.runs) and is_independent, gap=not part.runs)
        if part.runs:
            self._fragments += 1
            data = b"".join(write_fragment(self._fragments, part.runs))
            self._pieces.append(data)
            if self.window.has_parts:
                self._folder.put(name, [data], SEGMENT_TYPE)
                self._hinted = "" if name == self._hinted else self._hinted
        self._take_back_hint(name)

    def _begin_segment(self, part: Part, muxed: OpenSegment) -> OpenSegment:
        if self.track is not self._described:
            self._put_init()
        return self.window.begin_segment(
            init=self._init_segment,
            utc_ms=muxed.utc_ms,
            discontinuity=muxed.discontinuity,
            start=muxed.start,
            timescale=muxed.timescale,
            keyframe=self.track.kind is MediaKind.AUDIO or part.is_closed,
        )

    def _put_init(self) -> None:
        self._described = self.track
        init = write_init_segment([self.track])
        if init != self._init:
            name = init_name(self.window.next_sequence)
            self._init, self._init_segment = init, InitSegment(name)
            self._folder.put(name, [init], AUDIO_TYPE if self.track.kind is MediaKind.AUDIO else MEDIA_TYPE)

    def complete_segment(self, end: int) -> None:
        """Nothing follows in the open segment: put it up as a whole and list it."""
        window = self.window
        pieces, self._pieces = self._pieces, []
        segment = window.complete_segment(end, size=sum(map(len, pieces)))
        self.rate.measure(segment.size, segment.duration_ms)
        if self._shelf.is_crowded:
            window.shorten()
        if pieces:
            self._folder.put(segment.uri, pieces, SEGMENT_TYPE)
        self._expiry.moved_on()
        window.list.drop_before(self._expiry.next)

    def publish(self, hint: str, others: Sequence[str]) -> None:
        """
        Publish the playlist as it is now.

        :param hint: the name of the part that comes next; empty if there is none.
        :param others: the names of the other folders.
        """
        if hint != self._hinted:
            self._take_back_hint(self._hinted)
        if hint:
            self._folder.announce(hint)
        self._hinted = hint
        reports = [f"../{name}/{MEDIA_PLAYLIST}" for name in others if name != self.name]
        self._publication.put(self.window.version(hint, reports))

    def _take_back_hint(self, name: str) -> None:
        if name and name == self._hinted:
            self._folder.withdraw(name)
            self._hinted = ""

    def end(self) -> None:
        """Nothing follows; the open segment is complete."""
        self.window.ended = True


class TrackRenditions:
    """
    All of one stream: none as long as it has one audio track; else one of its video, and one of each audio track.

    :param size: how many segments their playlists list.
    :ivar current: those whose tracks are there, video first.
    """

    def __init__(self, context: SinkContext, size: int) -> None:
        self._context = context
        self._size = size
        self._tracks: tuple[Track, ...] = ()
        self._all: dict[str, TrackRendition] = {}
        self.current: tuple[TrackRendition, ...] = ()

    def __iter__(self) -> Iterator[TrackRendition]:
        return iter(self._all.values())

    def __bool__(self) -> bool:
        """Whether there are any, or will be with the next segment."""
        return bool(self._tracks or self._all)

    def tracks_changed(self, tracks: Sequence[Track]) -> None:
        """Learn of which tracks the parts that follow are: the leading one and all of audio."""
        audio = [track for track in tracks if track.kind is MediaKind.AUDIO]
        self._tracks = tuple(tracks) if len(audio) > 1 and len(audio) < len(tracks) else ()

    def put_part(self, part: Part, muxed: PlaylistWindow) -> None:
        """Put up a part in each of them, which the muxed rendition has listed as the newest of its open segment."""
        assert muxed.open is not None
        for rendition in self._all.values():
            rendition.put_part(part, muxed.open)

    def begin(self, muxed: PlaylistWindow) -> None:
        """Open those that are needed now; the next part that comes is the first of a segment."""
        for track in self._tracks:
            name = rendition_name(track)
            if name in self._all:
                self._all[name].track = track
            else:
                self._all[name] = TrackRendition(self._context, track, self._size, muxed)
        self.current = tuple(self._all[rendition_name(track)] for track in self._tracks)

    def complete_segment(self, end: int) -> None:
        """Complete the open segment of each."""
        for rendition in self._all.values():
            rendition.complete_segment(end)

    def publish(self, hint: str) -> None:
        """Publish all playlists; ``hint`` as the muxed one has it."""
        others = [rendition.name for rendition in self.current]
        for rendition in self._all.values():
            rendition.publish(hint, others)

    def end(self) -> None:
        """Nothing follows."""
        for rendition in self._all.values():
            rendition.end()
