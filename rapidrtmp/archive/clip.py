"""Which parts of a recording a range of wall-clock time is: cut where decoding can begin, nothing rewritten."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rapidrtmp.archive.journal import Journal, RecordedPart, RecordedSegment
from rapidrtmp.interfaces import ConflictError
from rapidrtmp.support.steps import Steps, finish

__all__ = [
    "MAX_CLIP_SEGMENTS",
    "ClipRange",
    "clip_bytes",
    "clip_steps",
    "select_clip",
    "whole_recording",
    "whole_steps",
]

#: No clip is longer: six hours of segments of two seconds.
MAX_CLIP_SEGMENTS = 10_800


@dataclass(frozen=True, slots=True)
class ClipRange:
    """
    Some parts of one segment that follow one another.

    :ivar first: place of the first part; ``stop``: behind the last.
    """

    segment: RecordedSegment
    first: int
    stop: int

    @property
    def parts(self) -> Sequence[RecordedPart]:
        """The parts."""
        return self.segment.parts[self.first : self.stop]

    @property
    def start(self) -> int:
        """Where it begins, in ticks."""
        return self.segment.start + sum(part.duration for part in self.segment.parts[: self.first])

    @property
    def end(self) -> int:
        """Where it ends, in ticks."""
        return self.start + sum(part.duration for part in self.parts)

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(part.size for part in self.parts)

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole segment."""
        return self.first == 0 and self.stop == len(self.segment.parts)


@dataclass(frozen=True, slots=True)
class _Place:
    """One part by the wall clock, in milliseconds since 1970."""

    segment: RecordedSegment
    index: int
    start_ms: int
    end_ms: int

    @property
    def part(self) -> RecordedPart:
        return self.segment.parts[self.index]

    @property
    def begins_anew(self) -> bool:
        """Whether decoding cannot continue from the part before."""
        return self.index == 0 and self.segment.discontinuity


def whole_recording(journal: Journal) -> list[ClipRange]:
    """All of it."""
    return finish(whole_steps(journal))


def whole_steps(journal: Journal) -> Steps[list[ClipRange]]:
    """All of it, in steps."""
    ranges = []
    for segment in journal.segments:
        ranges.append(ClipRange(segment, 0, len(segment.parts)))
        yield
    return ranges


def select_clip(journal: Journal, from_ms: int | None, to_ms: int | None) -> list[ClipRange]:
    """
    What was recorded from ``from_ms`` up to ``to_ms``, in milliseconds since 1970; ``None`` for the beginning or end.

    It begins with the part that holds that moment or, so that it can be decoded, with an earlier one that a keyframe
    begins; where none is in reach, with the next one that does. It ends with the part that ``to_ms`` lies in. Nothing
    at all may lie in between.

    :raises ConflictError: more segments than a clip may have.
    """
    return finish(clip_steps(journal, from_ms, to_ms))


def clip_bytes(ranges: Sequence[ClipRange]) -> int:
    """About how much it takes to keep the choice of a clip."""
    return 500 + 80 * len(ranges)


def clip_steps(journal: Journal, from_ms: int | None, to_ms: int | None) -> Steps[list[ClipRange]]:
    """As :func:`select_clip`, in steps; it takes as long as the clip is, however long the recording."""
    segments = yield from _in_reach(journal, from_ms, to_ms)
    if len(segments) > MAX_CLIP_SEGMENTS:
        raise ConflictError(
            f"there are {len(segments)} segments in that time, and a clip has {MAX_CLIP_SEGMENTS} at most"
        )
    places: list[_Place] = []
    for segment in segments:
        places += _places(segment, journal.header.timescale)
        yield
    first = _first(places, from_ms) if from_ms is not None else _next_keyframe(places, 0)
    chosen = []
    has_media = False
    for place in places[first:]:
        if to_ms is None or place.start_ms < to_ms:
            chosen.append(place)
            has_media = has_media or bool(place.part.size and not place.segment.is_gap)
        yield
    if not has_media:
        return []
    ranges = []
    for _, group in groupby(chosen, key=lambda place: place.segment.number):
        run = list(group)
        ranges.append(ClipRange(run[0].segment, run[0].index, run[-1].index + 1))
        yield
    return ranges


def _in_reach(journal: Journal, from_ms: int | None, to_ms: int | None) -> Steps[Sequence[RecordedSegment]]:
    """Segments of which a clip of that time may hold some, and those that its first one needs."""
    ends_ms, starts_ms = journal.reach or (yield from _measure(journal))
    segments = journal.segments
    first = 0 if from_ms is None else bisect_right(ends_ms, from_ms)
    while 0 < first < len(segments) and not _stands_alone(segments[first]):
        first -= 1
    return segments[first : len(segments) if to_ms is None else bisect_left(starts_ms, to_ms)]


def _stands_alone(segment: RecordedSegment) -> bool:
    """Whether a clip that begins in it needs nothing before it."""
    return segment.keyframe or segment.discontinuity or segment.is_gap


def _measure(journal: Journal) -> Steps[tuple[list[int], list[int]]]:
    """Find ``journal.reach``; the host's time of day may have been set back between two segments."""
    ends_ms: list[int] = []
    starts_ms: list[int] = []
    for segment in journal.segments:
        end_ms = segment.utc_ms + segment.duration * 1000 // journal.header.timescale
        ends_ms.append(max(end_ms, ends_ms[-1]) if ends_ms else end_ms)
        yield
    for segment in reversed(journal.segments):
        starts_ms.append(min(segment.utc_ms, starts_ms[-1]) if starts_ms else segment.utc_ms)
    starts_ms.reverse()
    journal.reach = ends_ms, starts_ms
    return journal.reach


def _places(segment: RecordedSegment, timescale: int) -> list[_Place]:
    places = []
    ticks = 0
    for index, part in enumerate(segment.parts):
        start_ms = segment.utc_ms + ticks * 1000 // timescale
        ticks += part.duration
        places.append(_Place(segment, index, start_ms, segment.utc_ms + ticks * 1000 // timescale))
    return places


def _first(places: Sequence[_Place], from_ms: int) -> int:
    """Where a clip begins that must hold the moment ``from_ms``, or else what comes after it."""
    wanted = next((at for at, place in enumerate(places) if place.end_ms > from_ms), len(places))
    at = wanted
    while 0 <= at < len(places) and not places[at].segment.is_gap:
        if places[at].part.keyframe:
            return at
        if places[at].begins_anew:
            break
        at -= 1
    return _next_keyframe(places, wanted)


def _next_keyframe(places: Sequence[_Place], at: int) -> int:
    found = (each for each in range(at, len(places)) if places[each].part.keyframe and not places[each].segment.is_gap)
    return next(found, len(places))
