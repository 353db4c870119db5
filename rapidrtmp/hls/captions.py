"""
Captions as renditions: a playlist of WebVTT segments for each language, in step with the stream's own.

Each of its segments has the number, the time and the date of a segment of the stream, and all captions that are to be
shown in that time, so that a player may begin anywhere; one that lasts longer stands in several. Times are those of the
media, to which ``X-TIMESTAMP-MAP`` ties them (RFC 8216 bis, 3.1.4).

A caption of speech comes when the words have been spoken and recognised, often after the end of its segment. It is then
shown from the beginning of the segment that is open, by all who play that one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from rapidrtmp.hls.multivariant import CaptionTrack
from rapidrtmp.hls.names import MEDIA_PLAYLIST
from rapidrtmp.hls.playlist import VERSION, PlaylistWindow, Version, make_control, write_version
from rapidrtmp.hls.segment import ListedSegment
from rapidrtmp.interfaces import Caption, Constants, Part, SinkContext
from rapidrtmp.m3u8.model import MediaPlaylist, Segment
from rapidrtmp.m3u8.write import PlaylistWriter

__all__ = ["CaptionRenditions", "write_vtt"]

VTT_TYPE = "text/vtt"
#: Timestamps of MPEG-2 are what players reckon with: 33 bits of a clock of 90 kHz.
MPEG_BITS = 33


@dataclass(frozen=True, slots=True)
class _Cue:
    """One caption; times in milliseconds of the stream's timeline."""

    start_ms: int
    end_ms: int
    text: str


def write_vtt(cues: Sequence[tuple[int, int, str]], start_ms: int) -> bytes:
    """
    One WebVTT segment.

    :param cues: when each begins and ends, in milliseconds of the media's timeline, and its text.
    :param start_ms: when the segment begins, likewise.
    """
    mpeg = start_ms * 90 % (1 << MPEG_BITS)
    blocks = [f"WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:{mpeg},LOCAL:{_clock(start_ms)}\n"]
    blocks += [f"{_clock(begin)} --> {_clock(end)}\n{_plain(text)}\n" for begin, end, text in cues]
    return "\n".join(blocks).encode()


def _clock(ms: int) -> str:
    seconds, rest = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"


def _plain(text: str) -> str:
    """A text that ends no cue and is no markup."""
    lines = (line.strip() for line in text.replace("\0", "").splitlines())
    return "\n".join(filter(None, lines)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class CaptionRenditions:
    """
    The captions of one stream, one rendition for each language that was announced.

    :param size: how many segments are listed.
    """

    def __init__(self, context: SinkContext, size: int) -> None:
        self._context = context
        self._size = size
        self._all: dict[str, _CaptionRendition] = {}
        self._seen = 0  # captions
        self._start_ms = 0  # of the open segment

    @property
    def tracks(self) -> list[CaptionTrack]:
        """What can be chosen."""
        return [
            CaptionTrack(language, name, f"{_folder(language)}/{MEDIA_PLAYLIST}")
            for language, name in self._context.captions.tracks.items()
        ]

    def begin(self, part: Part, timescale: int) -> None:
        """Learn of the first part of a segment."""
        self._start_ms = part.start_pts * 1000 // timescale

    def complete(self, segment: ListedSegment, window: PlaylistWindow) -> None:
        """The segment of the stream is complete, as the newest of its window: complete one in each language."""
        if not self._context.captions.tracks:
            return
        self._take_new()
        end_ms = self._start_ms + segment.duration_ms
        for language in self._context.captions.tracks:
            self._rendition(language).complete(segment, window, self._start_ms, end_ms)

    def end(self, window: PlaylistWindow) -> None:
        """Nothing follows."""
        for rendition in self._all.values():
            rendition.publish(window)

    def _rendition(self, language: str) -> _CaptionRendition:
        if language not in self._all:
            self._all[language] = _CaptionRendition(self._context, _folder(language), self._size)
        return self._all[language]

    def _take_new(self) -> None:
        self._seen, new = self._context.captions.since(self._seen)
        for caption in new:
            self._rendition(caption.language).add(caption, self._start_ms)


def _folder(language: str) -> str:
    return f"captions-{language.lower()}"


class _CaptionRendition:
    """One language."""

    def __init__(self, context: SinkContext, folder: str, size: int) -> None:
        self._shelf = context.shelf
        self._folder = folder
        self._size = size
        self._cues: list[_Cue] = []
        self._segments: tuple[Segment, ...] = ()
        self._up: deque[int] = deque()
        self._writer = PlaylistWriter()

    def add(self, caption: Caption, start_ms: int) -> None:
        """
        Take a caption.

        :param start_ms: when the open segment begins.
        """
        late_ms = max(0, start_ms - caption.start_ms) if caption.end_ms <= start_ms else 0
        self._cues.append(_Cue(caption.start_ms + late_ms, caption.end_ms + late_ms, caption.text))

    def complete(self, segment: ListedSegment, window: PlaylistWindow, start_ms: int, end_ms: int) -> None:
        """Put up and list what is shown from ``start_ms`` to ``end_ms``."""
        shown = sorted((cue for cue in self._cues if cue.start_ms < end_ms), key=lambda cue: cue.start_ms)
        self._cues = [cue for cue in self._cues if cue.end_ms > end_ms]
        name = f"segment_{segment.sequence}.vtt"
        data = write_vtt([(cue.start_ms, cue.end_ms, cue.text) for cue in shown], start_ms)
        self._shelf.put(f"{self._folder}/{name}", [data], VTT_TYPE)
        listed = Segment(segment.sequence, name, segment.duration_us, segment.discontinuity, segment.date_us)
        if self._segments and self._segments[-1].sequence + 1 != segment.sequence:
            self._segments = ()
        self._segments = (*self._segments, listed)
        self._up.append(segment.sequence)
        while self._up[0] < window.first - self._size:
            self._shelf.withdraw(f"{self._folder}/segment_{self._up.popleft()}.vtt")
        self.publish(window)

    def publish(self, window: PlaylistWindow) -> None:
        """Publish the playlist as it is now: what the stream's own lists, as far as there were captions then."""
        self._segments = tuple(each for each in self._segments if each.sequence >= window.first)
        if not self._segments:
            return
        constants = Constants(window.constants.target_s, 0)
        playlist = MediaPlaylist(
            version=VERSION,
            target_s=constants.target_s,
            sequence=self._segments[0].sequence,
            discontinuity_sequence=window.discontinuities_before(self._segments[0].sequence),
            control=make_control(constants),
            segments=self._segments,
            ended=window.ended,
        )
        self._shelf.put_playlist(f"{self._folder}/{MEDIA_PLAYLIST}", write_version(Version(playlist), self._writer))
