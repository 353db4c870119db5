"""
A segment of one of our playlists: it grows part by part, and is frozen when it is complete.

What playlists say of it are the values of ``rapidrtmp.m3u8.model``. Beside them stand ticks, keyframes and names on
the shelf, which the packager has to know and no playlist says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rapidrtmp.hls.names import part_name, segment_name
from rapidrtmp.m3u8.model import InitSegment, Part, Segment
from rapidrtmp.m3u8.write import duration_us

__all__ = ["ListedSegment", "OpenSegment"]


#: So many marks are listed with one segment.
MOST_DATE_RANGES = 20


@dataclass(frozen=True, slots=True)
class ListedSegment(Segment):
    """
    One complete segment.

    :ivar start: where it begins, in ticks of ``timescale``; ``end``: where it ends.
    :ivar keyframe: whether playing can begin with it; ``closed``: whether all of it can be decoded then.
    :ivar size: in bytes, if that is known.
    :ivar part_uris: the names of all its parts, also when those are not listed any more.
    """

    start: int = 0
    end: int = 0
    timescale: int = 1
    keyframe: bool = False
    closed: bool = False
    size: int = 0
    part_uris: tuple[str, ...] = ()

    @classmethod
    def make(
        cls,
        sequence: int,
        init: str | InitSegment,
        utc_ms: int,
        start: int,
        end: int,
        timescale: int,
        *,
        keyframe: bool,
        closed: bool = True,
        discontinuity: bool = False,
        gap: bool = False,
        size: int = 0,
        uri: str = "",
    ) -> ListedSegment:
        """
        One without parts.

        :param init: its init segment, or the name of that.
        :param utc_ms: the wall-clock time at which it begins, in milliseconds since 1970.
        :param gap: whether there is nothing behind its name.
        """
        return cls(
            sequence,
            uri or segment_name(sequence),
            duration_us(start, end, timescale),
            discontinuity,
            utc_ms * 1000,
            InitSegment(init) if isinstance(init, str) else init,
            gap=gap,
            start=start,
            end=end,
            timescale=timescale,
            keyframe=keyframe,
            closed=keyframe and closed,
            size=size,
        )

    @property
    def map_uri(self) -> str:
        """The name of its init segment."""
        assert self.init is not None
        return self.init.uri

    @property
    def utc_ms(self) -> int:
        """The wall-clock time at which it begins."""
        assert self.date_us is not None
        return self.date_us // 1000

    @property
    def duration_ms(self) -> int:
        """How long it lasts."""
        return (self.end - self.start) * 1000 // self.timescale

    def bare(self) -> ListedSegment:
        """The same without its parts."""
        return replace(self, parts=()) if self.parts else self

    def as_gap(self) -> ListedSegment:
        """The same stretch of time with nothing behind its name (EXT-X-GAP)."""
        return replace(self, gap=True, size=0, parts=())


class OpenSegment:
    """
    A segment whose end is not known yet.

    :param discontinuity: whether it does not join on to the one before.
    :ivar parts: those it has so far.
    :ivar date_ranges: the attributes of the EXT-X-DATERANGEs that came with it.
    """

    def __init__(
        self,
        sequence: int,
        init: InitSegment,
        utc_ms: int,
        start: int,
        timescale: int,
        *,
        keyframe: bool,
        discontinuity: bool,
        closed: bool = True,
    ) -> None:
        self.sequence = sequence
        self.init = init
        self.utc_ms = utc_ms
        self.start = start
        self.timescale = timescale
        self.keyframe = keyframe
        self.closed = closed
        self.discontinuity = discontinuity
        self.parts: tuple[Part, ...] = ()
        self.date_ranges: tuple[str, ...] = ()

    @property
    def next_part(self) -> str:
        """
        The name of the part that comes next.

        Behind a discontinuity they are counted from 1: the part 0 was promised before there was one, and a player that
        has asked for that would decode it with the init segment of before (Shaka 5.2 does, and ends with an error).
        """
        return part_name(self.sequence, len(self.parts) + self.discontinuity)

    def add(self, start: int, end: int, *, independent: bool, gap: bool = False) -> str:
        """
        List one more part; return its name.

        :param start: where it begins, in ticks; ``end``: where it ends.
        :param gap: whether there is nothing behind its name.
        """
        name = self.next_part
        self.parts = (*self.parts, Part(name, duration_us(start, end, self.timescale), independent, gap))
        return name

    def mark(self, date_range: str) -> None:
        """List an EXT-X-DATERANGE with it, once, by its attributes; nothing where these are empty."""
        if date_range and date_range not in self.date_ranges and len(self.date_ranges) < MOST_DATE_RANGES:
            self.date_ranges = (*self.date_ranges, date_range)

    def listed(self) -> Segment:
        """What a playlist says of it now."""
        date_us = self.utc_ms * 1000
        return Segment(
            *(self.sequence, "", 0, self.discontinuity, date_us, self.init, "", False, None),
            *(self.parts, 0, 0, self.date_ranges),
        )

    def complete(self, end: int, *, size: int) -> ListedSegment:
        """
        The segment when nothing follows in it.

        :param size: of its media in bytes; 0 makes it a gap.
        """
        whole = ListedSegment.make(
            self.sequence,
            self.init,
            self.utc_ms,
            self.start,
            end,
            self.timescale,
            keyframe=self.keyframe,
            closed=self.closed,
            discontinuity=self.discontinuity,
            gap=not size,
            size=size,
        )
        return replace(
            whole, parts=self.parts, part_uris=tuple(part.uri for part in self.parts), date_ranges=self.date_ranges
        )
