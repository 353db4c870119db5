"""A cut: a part as the primary track alone shapes it, before the other tracks have filled it up."""

from __future__ import annotations

from dataclasses import dataclass, field

from rapidrtmp.interfaces import Sample

__all__ = ["Cut"]


@dataclass(slots=True)
class Cut:
    """
    A part as the primary track alone shapes it. Times are in ticks of that track.

    :ivar offset: presentation minus decode time at the start of the range.
    """

    start: int
    offset: int
    starts_segment: bool
    end: int = 0
    expected_last: bool = False
    samples: list[Sample] = field(default_factory=list)

    @property
    def shown_from(self) -> int:
        """The presentation time that its start stands for."""
        return self.start + self.offset

    @property
    def shown_until(self) -> int:
        """The presentation time that its end stands for."""
        return self.end + self.offset

    @property
    def has_keyframe(self) -> bool:
        """Whether one of its samples is a keyframe."""
        return any([sample.frame.keyframe for sample in self.samples])  # noqa: C419  a list is cheaper than to stop early
