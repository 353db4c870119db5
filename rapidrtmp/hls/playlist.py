"""
Media playlists: the last segments of a stream, version by version (RFC 8216 bis).

A version is a value. What it lists is frozen; only the open segment grows, and what is too old leaves at the front. Its
text is written elsewhere (``rapidrtmp.m3u8.write``), when it has been found to keep its word
(``rapidrtmp.hls.invariants``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rapidrtmp.hls.segment import ListedSegment, OpenSegment
from rapidrtmp.hls.segment_list import SegmentList
from rapidrtmp.interfaces import Constants, Playlist
from rapidrtmp.m3u8.model import Hint, InitSegment, MediaPlaylist, Report
from rapidrtmp.m3u8.write import PlaylistWriter

__all__ = ["ListedWindow", "PlaylistWindow", "Version", "kept_segments", "make_control", "make_head", "write_version"]

#: Delta updates (EXT-X-SKIP) need protocol version 9; all playlists of a stream say the same.
VERSION = 9
#: A delta update leaves out what is older than this many target durations (4.4.3.8 wants six at least).
SKIP_TARGETS = 6
#: Parts are listed, and segments stay, until this many target durations follow them (4.4.4.9, 6.2.2).
KEPT_TARGETS = 3


@dataclass(frozen=True, slots=True)
class Version:
    """
    One version of a live playlist.

    :ivar skipped: how many segments its delta update leaves out; 0 where there is none.
    """

    playlist: MediaPlaylist
    skipped: int = 0


def write_version(version: Version, writer: PlaylistWriter) -> Playlist:
    """A version as the shelf takes it: its text, and the facts that requests are held by."""
    playlist = version.playlist
    last = playlist.segments[-1] if playlist.segments else None
    return Playlist(
        body=writer.render(playlist).encode(),
        delta=writer.render_delta(playlist, version.skipped).encode() if version.skipped else None,
        last_sequence=playlist.next_sequence - 1,
        open_parts=len(playlist.open.parts) if playlist.open else 0,
        last_segment_parts=len(last.parts) if last else 0,
        target_ms=1000 * playlist.target_s,
        part_target_ms=playlist.part_target_us // 1000,
        ended=playlist.ended,
        first_sequence=playlist.sequence,
        blocks=playlist.blocks,
    )


def make_control(constants: Constants) -> dict[str, str]:
    """What a server that holds requests promises of a playlist (4.4.3.8)."""
    target_s, part_ms = constants.target_s, constants.part_target_ms
    control = {
        "CAN-BLOCK-RELOAD": "YES",
        "CAN-SKIP-UNTIL": f"{SKIP_TARGETS * target_s:.1f}",
        "HOLD-BACK": f"{3 * target_s:.1f}",
    }
    return control | {"PART-HOLD-BACK": f"{3 * part_ms / 1000:.3f}"} if part_ms else control


def make_head(
    constants: Constants,
    control: Mapping[str, str],
    sequence: int,
    discontinuity_sequence: int,
    *,
    independent: bool,
    ended: bool,
) -> MediaPlaylist:
    """
    A playlist without parts that lists nothing yet.

    :param control: from :func:`make_control`, or nothing where no server holds requests.
    :param sequence: the media sequence number of the first segment.
    :param independent: whether EXT-X-INDEPENDENT-SEGMENTS is true of all that was ever listed; once it is not, it is
        not claimed again (6.2.1).
    """
    return MediaPlaylist(
        version=VERSION,
        target_s=constants.target_s,
        sequence=sequence,
        discontinuity_sequence=discontinuity_sequence,
        control=control,
        independent_segments=independent,
        ended=ended,
    )


def kept_segments(segments: Sequence[ListedSegment], kept_ms: int) -> int:
    """The number of segments at the front that are followed by so much or more."""
    index = len(segments)
    while index and kept_ms > 0:
        index -= 1
        kept_ms -= segments[index].duration_ms
    return index


class ListedWindow:
    """
    The last segments up to one of them, as a playlist lists them: two cursors on the segments of a rendition.

    :ivar constants: what it promises.
    :ivar size: how many it lists, at least; never less than three target durations of them.
    :ivar first: the media sequence number of the first that is listed; ``end``: of the first that is not yet.
    :ivar discontinuity_sequence: of the first segment listed.
    :ivar ended: whether nothing follows.
    """

    def __init__(self, constants: Constants, size: int, segments: SegmentList, discontinuity_sequence: int) -> None:
        self.constants = constants
        self.size = max(size, 1)
        self.first = self.end = segments.first
        self.discontinuity_sequence = discontinuity_sequence
        self.ended = False
        self._list = segments
        self._independent = True

    @property
    def segments(self) -> Sequence[ListedSegment]:
        """Those that are listed, oldest first."""
        return self._list.span(self.first, self.end)

    @property
    def last_discontinuity(self) -> int:
        """The discontinuity sequence number of the last segment listed."""
        return self.discontinuity_sequence + sum(segment.discontinuity for segment in self.segments)

    def advance(self) -> None:
        """List one segment more, and at the front no more than has to be."""
        self._independent &= self._list[self.end].closed
        self.end += 1
        segments = self.segments
        listed_ms = sum(segment.duration_ms for segment in segments)
        for segment in segments[: -self.size]:
            listed_ms -= segment.duration_ms
            if listed_ms < KEPT_TARGETS * 1000 * self.constants.target_s:
                break
            self._leave(segment)

    def _leave(self, segment: ListedSegment) -> None:
        self.first = segment.sequence + 1
        self.discontinuity_sequence += segment.discontinuity

    def plain(self) -> MediaPlaylist:
        """What is listed, without parts, for a web server that cannot hold requests."""
        head = make_head(
            self.constants, {}, self.first, self.discontinuity_sequence, independent=self._independent, ended=self.ended
        )
        return replace(head, segments=tuple(segment.bare() for segment in self.segments))


class PlaylistWindow(ListedWindow):
    """
    The last segments of a stream and the one that is open, as a playlist.

    :param first_sequence: the media sequence number of the first segment.
    :ivar list: all segments that are left; what is listed here is at its end.
    """

    def __init__(self, constants: Constants, size: int, first_sequence: int, discontinuity_sequence: int = 0) -> None:
        self.list = SegmentList(first_sequence)
        super().__init__(constants, size, self.list, discontinuity_sequence)
        self.open: OpenSegment | None = None
        self._skipped = 0  # by a delta update, as long as nothing has ended
        self._control = make_control(constants)
        self._listed: tuple[ListedSegment, ...] = ()  # for every version until that changes

    @property
    def has_parts(self) -> bool:
        """Whether this is a low-latency playlist."""
        return self.constants.part_target_ms > 0

    @property
    def next_sequence(self) -> int:
        """The media sequence number of the next segment that begins."""
        return self.end + (self.open is not None)

    @property
    def last_discontinuity(self) -> int:
        """The discontinuity sequence number of the last segment listed, open or complete."""
        return super().last_discontinuity + (self.open is not None and self.open.discontinuity)

    # ── what the packager does ───────────────────────────────────────────────────────────────────────────────────────

    def begin_segment(
        self,
        *,
        init: InitSegment,
        utc_ms: int,
        discontinuity: bool,
        start: int,
        timescale: int,
        keyframe: bool,
        closed: bool = True,
    ) -> OpenSegment:
        """
        Open the next segment.

        :param keyframe: whether playing can begin with it.
        :param closed: whether all of it can be decoded then.
        """
        self._independent &= keyframe and closed
        self.open = OpenSegment(
            self.end, init, utc_ms, start, timescale, keyframe=keyframe, discontinuity=discontinuity, closed=closed
        )
        return self.open

    def complete_segment(self, end: int, *, size: int) -> ListedSegment:
        """
        Complete the open segment, and return it.

        :param end: where it ends, in ticks.
        :param size: of its media in bytes; 0 makes it a gap.
        """
        assert self.open is not None
        segment = self.open.complete(end, size=size)
        self.open = None
        return self.append(segment if self.has_parts else segment.bare())

    def append(self, segment: ListedSegment) -> ListedSegment:
        """List a complete segment, and return it."""
        self.list.append(segment)
        self.advance()
        segments, target_ms = self.segments, 1000 * self.constants.target_s
        for old in reversed(segments[: kept_segments(segments, KEPT_TARGETS * target_ms)]):
            if not old.parts:
                break
            self.list[old.sequence] = old.bare()
        self._skipped = kept_segments(segments, SKIP_TARGETS * target_ms)
        self._listed = tuple(self.segments)
        return segment

    def shorten(self) -> None:
        """List at the front no more than has to be, however many there should be."""
        target_ms = 1000 * self.constants.target_s
        segments = self.segments
        for old in segments[: kept_segments(segments, KEPT_TARGETS * target_ms)]:
            self._leave(old)
        self._skipped = kept_segments(self.segments, SKIP_TARGETS * target_ms)
        self._listed = tuple(self.segments)

    def lose(self, sequence: int) -> None:
        """List a segment as a gap, before any player has seen it."""
        self.list[sequence] = self.list[sequence].as_gap()
        self._listed = tuple(self.segments)

    def forget_before(self, sequence: int) -> None:
        """List no segment before this one any more, however much is left."""
        for segment in self.list.span(self.first, sequence):
            self._leave(segment)
        self.list.drop_before(sequence)
        self.first, self.end = max(self.first, sequence), max(self.end, sequence)
        self._listed = tuple(self.segments)

    # ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def version(self, hint: str = "", others: Sequence[tuple[str, PlaylistWindow]] = ()) -> Version:
        """
        The playlist as it is now.

        :param hint: the name of the part that comes next; empty where there are no parts, or nothing comes.
        :param others: the URIs and windows of the stream's other playlists.
        """
        with_parts = self.has_parts and not self.ended
        reports = () if self.ended else tuple(report for uri, other in others for report in other.reported_as(uri))
        playlist = MediaPlaylist(
            version=VERSION,
            target_s=self.constants.target_s,
            sequence=self.first,
            discontinuity_sequence=self.discontinuity_sequence,
            control=self._control,
            part_target_us=1000 * self.constants.part_target_ms,
            independent_segments=self._independent,
            segments=self._listed,
            open=self.open.listed() if self.open and with_parts else None,
            hints=(Hint("PART", hint),) if hint and with_parts else (),
            reports=reports,
            ended=self.ended,
        )
        return Version(playlist, 0 if self.ended else self._skipped)

    def reported_as(self, uri: str) -> Iterator[Report]:
        """How far this playlist is, as others report it; nothing while it lists nothing."""
        opened = self.open if self.has_parts and not self.ended else None
        if opened is not None and opened.parts:
            yield Report(uri, opened.sequence, len(opened.parts) - 1)
        elif self._listed:
            yield Report(uri, self.end - 1, len(self._listed[-1].parts) - 1)

    def find(self, start: int) -> OpenSegment | ListedSegment | None:
        """The newest segment that begins there, in ticks, open or complete, if it is still known."""
        if self.open is not None and self.open.start == start:
            return self.open
        known = reversed(self.list.span(self.list.first, self.list.end))
        return next((segment for segment in known if segment.start == start), None)

    def discontinuities_before(self, sequence: int) -> int:
        """The discontinuity sequence number of a playlist that would begin with a segment, one of those listed."""
        before = self.list.span(self.first, sequence)
        return self.discontinuity_sequence + sum(segment.discontinuity for segment in before)
