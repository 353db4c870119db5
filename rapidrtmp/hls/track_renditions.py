"""
Renditions beside the muxed one: what a stream with several audio tracks, or sizes of its picture, is chosen from.

Each has a folder of its own on the shelf (``audio-1/index.m3u8``) and a playlist in step with the muxed one: the same
segments, parts, dates, discontinuities and promises, for its parts are those of the stream with the samples of some
tracks alone. With one audio track, another size of the picture is muxed with it, as the leading one is; with several,
video and audio are apart, and without video there is audio alone. Where a track has nothing a part is a gap, and so is
one that has ended: its playlist continues for those who still play it.

They live on the shelf alone; what is stored of a live stream is its muxed rendition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from rapidrtmp.cmaf.event_messages import write_event_messages
from rapidrtmp.cmaf.fragment import write_fragment
from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.hls.expiry import Expiry
from rapidrtmp.hls.multivariant import Variant
from rapidrtmp.hls.names import MEDIA_PLAYLIST, init_name
from rapidrtmp.hls.picture_rate import PictureRate
from rapidrtmp.hls.playlist import PlaylistWindow
from rapidrtmp.hls.publication import Publication
from rapidrtmp.hls.segment import ListedSegment, OpenSegment
from rapidrtmp.hls.stored_copy import MEDIA_TYPE, SEGMENT_TYPE
from rapidrtmp.interfaces import IMMUTABLE, Constants, IShelf, Part, SinkContext
from rapidrtmp.m3u8.model import InitSegment
from rapidrtmp.m3u8.rate import Rate
from rapidrtmp.media import MediaKind, Track
from rapidrtmp.names import I_FRAMES_PLAYLIST

__all__ = ["TrackRendition", "TrackRenditions"]

AUDIO_TYPE = "audio/mp4"
#: Another size of the picture is offered when so many segments in a row began with its keyframe, and no more after so
#: many that did not.
JOINS_AFTER, LEAVES_AFTER = 2, 3


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

    :param name: of its folder.
    :param size: how many segments its playlist lists.
    :param first: the media sequence number of the segment that it begins with, and the discontinuity sequence number.
    :ivar tracks: as they were configured last; the first one is what it is called by.
    :ivar rate: its bit rate, as measured; likewise ``frame_rate``.
    :ivar picture_rate: that of the pictures that its segments begin with.
    :ivar is_offered: whether it is fit to be chosen.
    """

    def __init__(
        self,
        context: SinkContext,
        name: str,
        tracks: tuple[Track, ...],
        size: int,
        constants: Constants,
        first: tuple[int, int],
    ) -> None:
        self.name = name
        self.tracks = tracks
        self.rate = Rate()
        self.picture_rate = PictureRate()
        self.frame_rate: Fraction | None = None
        self.is_offered = self._is_audio = tracks[0].kind is MediaKind.AUDIO
        self.window = PlaylistWindow(constants, size, *first)
        self._context = context
        self._folder = _Folder(context.shelf, self.name)
        self._publication = Publication(context, f"{self.name}/{MEDIA_PLAYLIST}")
        self._expiry = Expiry(self._folder.withdraw, self.window)
        self._described: tuple[Track, ...] = ()  # the tracks that the last init segment is for
        self._init = b""
        self._init_segment = InitSegment("")
        self._fragments = 0
        self._pieces: list[bytes] = []  # of the open segment
        self._hinted = ""  # see ``hinted``
        self._in_a_row = 0  # segments with media, or below zero those without

    @property
    def is_undecided(self) -> bool:
        """Whether it is not clear yet if it is fit."""
        return not self.is_offered and abs(self._in_a_row) < JOINS_AFTER

    @property
    def hinted(self) -> str:
        """The name of the part that was promised and is not up yet; empty if there is none."""
        return self._hinted

    @property
    def variant(self) -> Variant:
        """What the multivariant playlist says of it."""
        return Variant(f"{self.name}/{MEDIA_PLAYLIST}", self.tracks, self.rate, self.frame_rate)

    @property
    def pictures(self) -> Variant:
        """Likewise of those."""
        return Variant(f"{self.name}/{I_FRAMES_PLAYLIST}", self.tracks[:1], self.picture_rate)

    def put_part(self, part: Part, muxed: OpenSegment | ListedSegment) -> None:
        """Put up and list what a part has of these tracks; ``muxed`` is the segment that it was listed in."""
        is_tail = not part.runs or part.runs[0].track.kind is MediaKind.AUDIO  # sound alone, behind the last picture
        part = part.of([track.id for track in self.tracks])
        has_media = bool(part.runs) and (is_tail or part.runs[0].track.id == self.tracks[0].id)
        segment = self.window.open or self._begin_segment(part, muxed)
        is_independent = has_media and part.runs[0].samples[0].frame.keyframe and (self._is_audio or not is_tail)
        name = segment.add(part.start, part.end, independent=is_independent, gap=not has_media)
        for each in muxed.date_ranges:
            segment.mark(each)
        if has_media:
            self._put_media(name, part)
        self._take_back_hint(name)

    def _put_media(self, name: str, part: Part) -> None:
        if part.runs[0].track.id == self.tracks[0].id:
            self.frame_rate = part.runs[0].samples[-1].frame.rhythm.frame_rate
        self._fragments += 1
        data = b"".join((*write_event_messages(part.metadata), *write_fragment(self._fragments, part.runs)))
        self._pieces.append(data)
        if self.window.has_parts:
            self._folder.put(name, [data], SEGMENT_TYPE)
            if name == self._hinted:
                self._hinted = ""

    def _begin_segment(self, part: Part, muxed: OpenSegment | ListedSegment) -> OpenSegment:
        if self.tracks is not self._described:
            self._put_init()
        self.picture_rate.begin(part, 1000 * self.window.constants.target_s)
        return self.window.begin_segment(
            init=self._init_segment,
            utc_ms=muxed.utc_ms,
            discontinuity=muxed.discontinuity,
            start=muxed.start,
            timescale=muxed.timescale,
            keyframe=self._is_audio or not part.runs or _is_closed(part),
        )

    def _put_init(self) -> None:
        self._described = self.tracks
        init = write_init_segment(self.tracks)
        if init != self._init:
            name = init_name(self.window.next_sequence)
            self._init, self._init_segment = init, InitSegment(name)
            self._folder.put(name, [init], AUDIO_TYPE if self._is_audio else MEDIA_TYPE)

    def complete_segment(self, end: int) -> None:
        """Nothing follows in the open segment: put it up as a whole and list it."""
        window = self.window
        pieces, self._pieces = self._take_media(), []
        segment = window.complete_segment(end, size=sum(map(len, pieces)))
        if pieces:
            self.rate.measure(segment.size, segment.duration_ms, 1000 * window.constants.target_s)
            self.picture_rate.complete(segment.duration_ms, 1000 * window.constants.target_s)
            self._folder.put(segment.uri, pieces, SEGMENT_TYPE)
        self._judge(has_media=bool(pieces))
        if self._context.shelf.is_crowded:
            window.shorten()
        self._expiry.moved_on()
        window.list.drop_before(self._expiry.next)

    def _take_media(self) -> list[bytes]:
        """What the open segment is made of when it is complete; nothing makes it a gap."""
        return self._pieces

    def _judge(self, *, has_media: bool) -> None:
        """Another size of the picture is offered only while its keyframes are where segments begin."""
        if self._is_audio:
            return
        self._in_a_row = max(self._in_a_row, 0) + 1 if has_media else min(self._in_a_row, 0) - 1
        if self._in_a_row >= JOINS_AFTER and not self.is_offered:
            self.is_offered = True
            self._joined()
        elif self._in_a_row == -LEAVES_AFTER:
            self.is_offered = False
            self._left_out()

    def _joined(self) -> None:
        """It can be chosen from now on."""
        self._context.advise(self.name, "")

    def _left_out(self) -> None:
        """It cannot be chosen any more, or never could."""
        self._context.log.warn(
            "{stream}: {rendition} is left out: its keyframes are not those of the leading video track",
            stream=self._context.stream,
            rendition=self.name,
        )
        self._context.advise(
            self.name,
            f"Viewers do not get {self.name.replace('-', ' track ')}: its keyframes are not at the same times as "
            "those of the first video track; give all of them one keyframe interval, without scene detection.",
        )

    def publish(self, hint: str, others: Sequence[tuple[str, PlaylistWindow]]) -> None:
        """
        Publish the playlist as it is now.

        :param hint: the name of the part that comes next; empty if there is none.
        :param others: the URIs, from the stream's own folder, and windows of the others.
        """
        if hint != self._hinted:
            self._take_back_hint(self._hinted)
        if hint:
            self._folder.announce(hint)
        self._hinted = hint
        self._publication.put(self.window.version(hint, [(f"../{uri}", window) for uri, window in others]))

    def _take_back_hint(self, name: str) -> None:
        if name and name == self._hinted:
            self._folder.withdraw(name)
            self._hinted = ""

    def end(self) -> None:
        """Nothing follows; the open segment is complete."""
        self.window.ended = True


def _is_closed(part: Part) -> bool:
    """Whether all of a part can be decoded from its first sample on."""
    samples = part.runs[0].samples
    return samples[0].frame.keyframe and all(sample.frame.pts >= samples[0].frame.pts for sample in samples)


class TrackRenditions:
    """
    All of one stream: none as long as it has no more than one video and one audio track.

    :param size: how many segments their playlists list.
    :ivar rungs: the renditions of a ladder, by name, which are offered with them; others put up what is in those.
    """

    def __init__(self, context: SinkContext, size: int) -> None:
        self._context = context
        self._size = size
        self.rungs: dict[str, TrackRendition] = {}
        self._wanted: tuple[tuple[Track, ...], ...] = ()  # the tracks of each that is needed from the next segment on
        self._all: dict[str, TrackRendition] = {}
        self._current: tuple[TrackRendition, ...] = ()

    def __bool__(self) -> bool:
        """Whether there are any, or will be with the next segment."""
        return bool(self._wanted or self._all or self.rungs)

    def __iter__(self) -> Iterator[TrackRendition]:
        return iter(self._all.values())

    def tracks_changed(self, tracks: Sequence[Track]) -> None:
        """Learn of which tracks the parts that follow are: the leading one, those of audio, and other sizes of it."""
        video = [track for track in tracks if track.kind is MediaKind.VIDEO]
        audio = [track for track in tracks if track.kind is MediaKind.AUDIO]
        if len(audio) > 1:
            self._wanted = tuple((track,) for track in (*video, *audio))
        else:
            self._wanted = tuple((track, *audio) for track in video[1:])

    @property
    def is_apart(self) -> bool:
        """Whether players choose video and audio apart, instead of one muxed rendition."""
        return any(each.tracks[0].kind is MediaKind.AUDIO for each in self._current)

    @property
    def is_undecided(self) -> bool:
        """Whether it is not clear of every size of the picture whether it can be offered."""
        return any(each.is_undecided for each in self._current[int(self.is_apart) :])

    @property
    def video(self) -> list[Variant]:
        """The sizes of the picture that can be chosen, but for a muxed one of the leading track."""
        return [each.variant for each in self._offered if each.tracks[0].kind is MediaKind.VIDEO]

    @property
    def pictures(self) -> list[Variant]:
        """The playlists of their I-frames, without that of the leading track."""
        return [each.pictures for each in self._offered[int(self.is_apart) :] if each.picture_rate.peak]

    @property
    def audio(self) -> list[Variant]:
        """The audio tracks that can be chosen."""
        return [each.variant for each in self._offered if each.tracks[0].kind is MediaKind.AUDIO]

    @property
    def _offered(self) -> list[TrackRendition]:
        current = [each for index, each in enumerate(self._current) if each.is_offered or (self.is_apart and not index)]
        return [*current, *(each for each in self.rungs.values() if each.is_offered)]

    def begin(self, muxed: PlaylistWindow) -> None:
        """Open those that are needed now; the next part that comes is the first of a segment."""
        first = muxed.next_sequence, muxed.last_discontinuity
        for tracks in self._wanted:
            name = tracks[0].rendition_name
            if name in self._all:
                if self._all[name].tracks != tracks:
                    self._all[name].tracks = tracks
            else:
                self._all[name] = TrackRendition(self._context, name, tracks, self._size, muxed.constants, first)
        self._current = tuple(self._all[tracks[0].rendition_name] for tracks in self._wanted)

    def put_part(self, part: Part, muxed: PlaylistWindow) -> None:
        """Put up a part in each of them, which the muxed rendition has listed as the newest of its open segment."""
        assert muxed.open is not None
        for rendition in self._all.values():
            rendition.put_part(part, muxed.open)

    def complete_segment(self, end: int) -> None:
        """Complete the open segment of each."""
        for rendition in self._all.values():
            rendition.complete_segment(end)

    @property
    def reports(self) -> list[tuple[str, PlaylistWindow]]:
        """The URIs and windows of those that players may change to from the muxed rendition."""
        return [] if self.is_apart else [(each.variant.uri, each.window) for each in self._offered]

    def publish(self, hint: str, muxed: PlaylistWindow) -> None:
        """Publish the playlists of all but rungs; ``hint`` as the muxed one has it."""
        for rendition in self._all.values():
            rendition.publish(hint, self.others(rendition, muxed))

    def others(self, rendition: TrackRendition, muxed: PlaylistWindow) -> list[tuple[str, PlaylistWindow]]:
        """The URIs and windows of those that players may change to from a rendition."""
        others = [(each.variant.uri, each.window) for each in self._offered if each is not rendition]
        return others if self.is_apart else [*others, (MEDIA_PLAYLIST, muxed)]

    def end(self) -> None:
        """Nothing follows."""
        for rendition in self._all.values():
            rendition.end()
