"""
Media playlists: the last segments of a stream, version by version (RFC 8216 bis).

A version is a value. What it lists is frozen; only the open segment grows, and what is too old leaves at the front. Its
text is written elsewhere (``rapidrtmp.m3u8.write``), when it has been found to keep its word
(``rapidrtmp.hls.invariants``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rapidrtmp.hls.segment import ListedSegment, OpenSegment
from rapidrtmp.interfaces import Constants, Playlist
from rapidrtmp.m3u8.model import Hint, InitSegment, MediaPlaylist
from rapidrtmp.m3u8.write import PlaylistWriter

__all__ = ["PlaylistWindow", "Version", "kept_segments", "make_control", "make_head", "write_version"]

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
    :param independent: whether EXT-X-INDEPENDENT-SEGMENTS is true of all that was ever listed; once it is not, it can
        not be claimed again (6.2.1).
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


class PlaylistWindow:
    """
    The last segments of a stream and the one that is open, as a playlist.

    :ivar constants: what it promises.
    :ivar size: how many complete segments it lists, at least; never less than three target durations of them.
    :ivar segments: those, as they are listed; replaced when one is added, never changed.
    :ivar next_sequence: the media sequence number of the next segment that begins.
    :ivar discontinuity_sequence: of the first segment listed.
    :ivar ended: whether nothing follows.
    """

    def __init__(self, constants: Constants, size: int, first_sequence: int, discontinuity_sequence: int = 0) -> None:
        self.constants = constants
        self.size = max(size, 1)
        self.segments: tuple[ListedSegment, ...] = ()
        self.open: OpenSegment | None = None
        self.next_sequence = first_sequence
        self.discontinuity_sequence = discontinuity_sequence
        self.ended = False
        self._independent = True
        self._skipped = 0  # by a delta update, as long as nothing has ended
        self._control = make_control(constants)

    @property
    def has_parts(self) -> bool:
        """Whether this is a low-latency playlist."""
        return self.constants.part_target_ms > 0

    @property
    def last_discontinuity(self) -> int:
        """The discontinuity sequence number of the last segment listed, open or complete."""
        opened = self.open is not None and self.open.discontinuity
        return self.discontinuity_sequence + sum(segment.discontinuity for segment in self.segments) + opened

    # ── what the packager does ───────────────────────────────────────────────────────────────────────────────────────

    def begin_segment(
        self, *, init: InitSegment, utc_ms: int, discontinuity: bool, start: int, timescale: int, keyframe: bool
    ) -> OpenSegment:
        """Open the next segment."""
        self._independent &= keyframe
        self.open = OpenSegment(
            self.next_sequence, init, utc_ms, start, timescale, keyframe=keyframe, discontinuity=discontinuity
        )
        self.next_sequence += 1
        return self.open

    def complete_segment(self, end: int, *, gap: bool = False) -> list[ListedSegment]:
        """
        Complete the open segment; return those that left the window, oldest first.

        :param end: where it ends, in ticks.
        :param gap: whether there is nothing behind its name.
        """
        assert self.open is not None
        segment = self.open.complete(end, gap=gap)
        self.open = None
        return self.append(segment if self.has_parts else segment.bare())

    def append(self, segment: ListedSegment) -> list[ListedSegment]:
        """List a complete segment; return those that left the window, oldest first."""
        self._independent &= segment.keyframe
        listed = [*self.segments, segment]
        removed = self._slide(listed)
        target_ms = 1000 * self.constants.target_s
        for index in reversed(range(kept_segments(listed, KEPT_TARGETS * target_ms))):
            if not listed[index].parts:
                break
            listed[index] = listed[index].bare()
        self._skipped = kept_segments(listed, SKIP_TARGETS * target_ms)
        self.segments = tuple(listed)
        return removed

    def forget_before(self, sequence: int) -> None:
        """List no segment before this one any more, however much is left."""
        gone = [segment for segment in self.segments if segment.sequence < sequence]
        self.discontinuity_sequence += sum(segment.discontinuity for segment in gone)
        self.segments = self.segments[len(gone) :]

    def _slide(self, listed: list[ListedSegment]) -> list[ListedSegment]:
        """Take those off the front that have to leave, and return them."""
        count = 0
        listed_ms = sum(segment.duration_ms for segment in listed)
        while len(listed) - count > self.size:
            listed_ms -= listed[count].duration_ms
            if listed_ms < KEPT_TARGETS * 1000 * self.constants.target_s:
                break
            self.discontinuity_sequence += listed[count].discontinuity
            count += 1
        removed = listed[:count]
        del listed[:count]
        return removed

    # ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def version(self, hint: str = "") -> Version:
        """
        The playlist as it is now.

        :param hint: the name of the part that comes next; empty where there are no parts, or nothing comes.
        """
        with_parts = self.has_parts and not self.ended
        playlist = MediaPlaylist(
            version=VERSION,
            target_s=self.constants.target_s,
            sequence=self._first_sequence,
            discontinuity_sequence=self.discontinuity_sequence,
            control=self._control,
            part_target_us=1000 * self.constants.part_target_ms,
            independent_segments=self._independent,
            segments=self.segments,
            open=self.open.listed() if self.open and with_parts else None,
            hints=(Hint("PART", hint),) if hint and with_parts else (),
            ended=self.ended,
        )
        return Version(playlist, 0 if self.ended else self._skipped)

    def plain(self) -> MediaPlaylist:
        """The complete segments alone, for a web server that can not hold requests."""
        first = self.segments[0].sequence if self.segments else self.next_sequence
        head = make_head(
            self.constants, {}, first, self.discontinuity_sequence, independent=self._independent, ended=self.ended
        )
        return replace(head, segments=tuple(segment.bare() for segment in self.segments))

    @property
    def _first_sequence(self) -> int:
        return self.segments[0].sequence if self.segments else self.next_sequence - bool(self.open)
