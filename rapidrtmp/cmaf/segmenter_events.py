"""What the segmenter tells, in order: parts, where segments end, and that one does not end where it should have."""

from __future__ import annotations

from dataclasses import dataclass

from rapidrtmp.cmaf.fragment import TrackRun

__all__ = ["CutEvent", "Part", "SegmentEnd", "SegmentGoesOn"]


@dataclass(frozen=True, slots=True)
class Part:
    """
    A part, complete. Times are in ticks of the primary track.

    :ivar runs: its samples by track; none at all where no media exists (a gap).
    :ivar start: where it begins.
    :ivar start_pts: when its first moment is to be shown, by the delay with which the range began.
    :ivar duration: how long it lasts by the playlist.
    :ivar independent: whether it holds a keyframe.
    :ivar on_keyframe: whether decoding can begin at its very first sample.
    :ivar starts_segment: whether it is its segment's first.
    :ivar expected_last: whether its segment should end with it. What became of that is told with the next frame at the
        latest: :class:`SegmentEnd`, or :class:`SegmentGoesOn`.
    """

    runs: tuple[TrackRun, ...]
    start: int
    start_pts: int
    duration: int
    independent: bool
    on_keyframe: bool
    starts_segment: bool
    expected_last: bool

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + self.duration


@dataclass(frozen=True, slots=True)
class SegmentEnd:
    """
    The segment of the parts before is complete.

    :ivar end: where it ends, which is where the last of them does.
    """

    end: int


@dataclass(frozen=True, slots=True)
class SegmentGoesOn:
    """The last part was expected to end its segment, and does not: more of the same segment follows."""


CutEvent = Part | SegmentEnd | SegmentGoesOn
