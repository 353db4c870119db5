"""
What a playlist says, as values: any server's playlist, ours or a stranger's (RFC 8216 bis).

Durations and dates are integers in microseconds. What a playlist says wrongly is a value too, a :class:`Problem` with
the number of its line; so a broken playlist can still be looked at. ``rapidrtmp.m3u8.read`` makes these from text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

__all__ = [
    "ByteRange",
    "Hint",
    "InitSegment",
    "MediaPlaylist",
    "MergeError",
    "MultivariantPlaylist",
    "Part",
    "Problem",
    "Rendition",
    "Report",
    "Segment",
    "Variant",
    "merge_delta",
]

#: ``(bytes, offset)`` of a range within a URI.
ByteRange = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a playlist must not say; ``line`` counts from 1, and is 0 for what is missing altogether."""

    line: int
    detail: str


@dataclass(frozen=True, slots=True)
class InitSegment:
    """An EXT-X-MAP."""

    uri: str
    byte_range: ByteRange | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One EXT-X-PART."""

    uri: str
    duration_us: int
    independent: bool = False
    gap: bool = False
    byte_range: ByteRange | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """
    One media segment, complete or open.

    :ivar sequence: its media sequence number.
    :ivar uri: empty while it is open; ``duration_us`` is 0 then.
    :ivar discontinuity: whether EXT-X-DISCONTINUITY stands before it.
    :ivar date_us: its EXT-X-PROGRAM-DATE-TIME in microseconds since 1970, if it has one of its own.
    :ivar init: the EXT-X-MAP that holds for it, wherever that stands.
    :ivar key: the attributes of the EXT-X-KEY that holds for it, as written; empty for none.
    :ivar gap: whether there is nothing behind its name (EXT-X-GAP).
    :ivar date_ranges: the attributes of the EXT-X-DATERANGEs that are written with it; none are read.
    :ivar first_line: where its tags begin; ``last_line`` is where its URI stands. Not part of its value.
    """

    sequence: int
    uri: str = ""
    duration_us: int = 0
    discontinuity: bool = False
    date_us: int | None = None
    init: InitSegment | None = None
    key: str = ""
    gap: bool = False
    byte_range: ByteRange | None = None
    parts: tuple[Part, ...] = ()
    first_line: int = field(default=0, compare=False)
    last_line: int = field(default=0, compare=False)
    date_ranges: tuple[str, ...] = field(default=(), compare=False)

    @property
    def parts_us(self) -> int:
        """How long its listed parts last together."""
        return sum(part.duration_us for part in self.parts)


@dataclass(frozen=True, slots=True)
class Hint:
    """One EXT-X-PRELOAD-HINT; ``kind`` is ``PART`` or ``MAP``."""

    kind: str
    uri: str
    start: int = 0
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """
    One EXT-X-RENDITION-REPORT: how far another playlist of the stream has come.

    :ivar last_sequence: the media sequence number of its last segment, complete or open; -1 where that is not said.
    :ivar last_part: the index in it of its last part; -1 where that is not said.
    """

    uri: str
    last_sequence: int = -1
    last_part: int = -1


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    """
    One version of a media playlist.

    :ivar version: EXT-X-VERSION; 1 where it says none.
    :ivar target_s: EXT-X-TARGETDURATION; 0 where it is missing.
    :ivar sequence: EXT-X-MEDIA-SEQUENCE; likewise ``discontinuity_sequence``. 0 where they are missing.
    :ivar control: the attributes of EXT-X-SERVER-CONTROL, as written.
    :ivar part_target_us: PART-TARGET; 0 where there is none.
    :ivar independent_segments: whether it claims that every segment can be decoded alone.
    :ivar kind: EXT-X-PLAYLIST-TYPE, ``VOD`` or ``EVENT``; empty for a sliding playlist.
    :ivar i_frames_only: whether each segment is a single picture (EXT-X-I-FRAMES-ONLY).
    :ivar skipped: how many segments a delta update leaves out in front of ``segments``.
    :ivar segments: the complete ones, oldest first.
    :ivar open: the one of which there are only parts so far.
    :ivar reports: its EXT-X-RENDITION-REPORTs.
    :ivar problems: what it says wrongly, in order. Not part of its value.
    """

    version: int = 1
    target_s: int = 0
    sequence: int = 0
    discontinuity_sequence: int = 0
    control: Mapping[str, str] = field(default_factory=dict)
    part_target_us: int = 0
    independent_segments: bool = False
    kind: str = ""
    i_frames_only: bool = False
    skipped: int = 0
    segments: tuple[Segment, ...] = field(default=(), repr=False)
    open: Segment | None = None
    hints: tuple[Hint, ...] = ()
    reports: tuple[Report, ...] = ()
    ended: bool = False
    problems: tuple[Problem, ...] = field(default=(), compare=False)

    @property
    def next_sequence(self) -> int:
        """The number of the segment after the last complete one."""
        return self.sequence + self.skipped + len(self.segments)

    @property
    def last_discontinuity(self) -> int:
        """The discontinuity sequence number of the last complete segment of a full playlist."""
        return self.discontinuity_sequence + sum(segment.discontinuity for segment in self.segments)

    @property
    def edge(self) -> tuple[int, int]:
        """The sequence number of the segment, and the index in it of the part, that come next."""
        return self.next_sequence, len(self.open.parts) if self.open else 0

    @property
    def duration_us(self) -> int:
        """How long all that is listed lasts."""
        return sum(segment.duration_us for segment in self.segments) + (self.open.parts_us if self.open else 0)

    @property
    def part_hint(self) -> Hint | None:
        """The part that it says comes next."""
        return next((hint for hint in self.hints if hint.kind == "PART"), None)

    def control_us(self, name: str) -> int | None:
        """A duration among the attributes of EXT-X-SERVER-CONTROL, if it is there and is one."""
        try:
            return round(float(self.control[name]) * 1_000_000)
        except (KeyError, ValueError, OverflowError):
            return None

    @property
    def blocks(self) -> bool:
        """Whether the server holds requests until there is what they ask for."""
        return self.control.get("CAN-BLOCK-RELOAD") == "YES"


class MergeError(Exception):
    """A delta update that does not go together with the version it was merged with."""


def merge_delta(previous: MediaPlaylist, delta: MediaPlaylist) -> MediaPlaylist:
    """
    The full playlist that a delta update stands for (RFC 8216 bis, 6.2.5.1).

    What is skipped is taken from ``previous`` by its number, without its parts: those are older than any that may be
    listed. An init segment or key that was set in the skipped range applies behind it.

    :param previous: the full version that a player had.
    :raises MergeError: ``previous`` does not have what was skipped.
    """
    first = delta.sequence - previous.sequence
    skipped = previous.segments[first : first + delta.skipped] if first >= 0 else ()
    if len(skipped) != delta.skipped:
        raise MergeError(
            f"segments {delta.sequence} to {delta.sequence + delta.skipped - 1} are skipped, "
            f"but the version before listed {previous.sequence} to {previous.next_sequence - 1}"
        )
    last = skipped[-1] if skipped else None
    kept = [_carry(segment, last) for segment in delta.segments]
    opened = _carry(delta.open, last) if delta.open else None
    return replace(
        delta, skipped=0, segments=(*(replace(segment, parts=()) for segment in skipped), *kept), open=opened
    )


def _carry(segment: Segment, last: Segment | None) -> Segment:
    """What was set before the skip boundary, where nothing newer is."""
    if last is None or (segment.init is not None and segment.key):
        return segment
    return replace(segment, init=segment.init or last.init, key=segment.key or last.key)


@dataclass(frozen=True, slots=True)
class Variant:
    """
    One EXT-X-STREAM-INF.

    :ivar bandwidth: in bits a second; likewise ``average_bandwidth``, 0 where it is missing.
    :ivar codecs: as written; empty where it is missing. Likewise ``resolution``.
    :ivar groups: the rendition group for each type it names: ``AUDIO``, ``SUBTITLES``, ``VIDEO``.
    """

    uri: str
    bandwidth: int
    average_bandwidth: int = 0
    codecs: str = ""
    resolution: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rendition:
    """One EXT-X-MEDIA; ``uri`` is empty where its media is in the variants."""

    kind: str
    group: str
    name: str
    uri: str = ""


@dataclass(frozen=True, slots=True)
class MultivariantPlaylist:
    """
    A multivariant playlist.

    :ivar i_frames: its EXT-X-I-FRAME-STREAM-INFs, whose playlists list single pictures.
    :ivar problems: what it says wrongly.
    """

    version: int = 1
    variants: tuple[Variant, ...] = ()
    renditions: tuple[Rendition, ...] = ()
    i_frames: tuple[Variant, ...] = ()
    problems: tuple[Problem, ...] = field(default=(), compare=False)
