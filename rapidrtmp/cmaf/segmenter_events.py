"""What the segmenter makes, in order: parts, where segments end, and that one does not end where it should have."""

from __future__ import annotations

from dataclasses import dataclass

from rapidrtmp.interfaces import Part

__all__ = ["CutEvent", "SegmentContinued", "SegmentEnd"]


@dataclass(frozen=True, slots=True)
class SegmentEnd:
    """
    The segment of the parts before is complete.

    :ivar end: where it ends, which is where the last of them does.
    """

    end: int


@dataclass(frozen=True, slots=True)
class SegmentContinued:
    """The last part was expected to end its segment, and does not: more of the same segment follows."""


CutEvent = Part | SegmentEnd | SegmentContinued
