"""Which parts of a recording a range of wall-clock time is: cut where decoding can begin, nothing rewritten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rapidrtmp.archive.journal import Journal, RecordedPart, RecordedSegment

__all__ = ["ClipRange", "select_clip", "whole_recording"]


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
    return [ClipRange(segment, 0, len(segment.parts)) for segment in journal.segments]


def select_clip(journal: Journal, from_ms: int | None, to_ms: int | None) -> list[ClipRange]:
    """
    What was recorded from ``from_ms`` up to ``to_ms``, in milliseconds since 1970; ``None`` for the beginning or end.

    It begins with the part that holds that moment or, so that it can be decoded, with an earlier one that a keyframe
    begins; where none is in reach, with the next one that does. It ends with the part that ``to_ms`` lies in. Nothing
    at all may lie in between.
    """
    places = list(_places(journal))
    first = _first(places, from_ms) if from_ms is not None else _next_keyframe(places, 0)
    chosen = [place for place in places[first:] if to_ms is None or place.start_ms < to_ms]
    if not any(place.part.size and not place.segment.is_gap for place in chosen):
        return []
    ranges = []
    for _, group in groupby(chosen, key=lambda place: place.segment.number):
        run = list(group)
        ranges.append(ClipRange(run[0].segment, run[0].index, run[-1].index + 1))
    return ranges


def _places(journal: Journal) -> list[_Place]:
    places = []
    timescale = journal.header.timescale
    for segment in journal.segments:
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
