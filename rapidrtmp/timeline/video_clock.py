"""
Video on its frame grid: at a constant rate every frame lasts the same, whatever the milliseconds say.

While the rate is known, a frame that arrives near its place on the grid is put there, and places may stay free where
frames were dropped. A frame elsewhere keeps the time it came with and pulls the grid a little towards it, so that a
camera's own slow clock is followed; several of them in a short time end the belief in the grid. Without a grid all
frames keep their times, and at each keyframe the last ones are measured anew.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Sequence
from fractions import Fraction

from rapidrtmp.timeline.frame_rate import LOOK_BACK, FrameStep, Grid, anchor_grid, fit_grid
from rapidrtmp.timeline.policy import TimelinePolicy

__all__ = ["VideoClock", "VideoRepair", "sane_composition"]

_TICKS_PER_MS = 90
_MOST_REORDERED = 16  # frames that may be decoded before one that is shown first (H.264, A.3.1)
_USUAL_DURATION = 3_000  # 1/30 s, for the very first frame of an unknown rate


class VideoRepair(enum.Enum):
    """What had to be done to place a frame."""

    LATE = "timestamp_repaired"
    CLAMPED = "timestamp_clamped"
    COMPOSITION = "clamped_composition"


def sane_composition(composition_ms: int, policy: TimelinePolicy) -> int:
    """A composition offset as far as it can be true: clamped, or 0 if it says nothing."""
    if abs(composition_ms) > policy.composition_garbage_ms:
        return 0
    return max(-policy.composition_ms, min(policy.composition_ms, composition_ms))


class VideoClock:
    """
    Places the video frames of one range of the timeline. All times are in ticks of 1/90000 s.

    :param start: where the range begins: no decode time is before it.
    :param claims: frame rates that the bitstream or metadata claims, the most trusted first.
    :ivar has_begun: whether a frame has been placed.
    :ivar dts: decode time of the frame placed last; rises strictly.
    :ivar composition_offset: its presentation time less ``dts``.
    :ivar duration: how long it should last: a step of the grid, else as long as the one before did.
    """

    def __init__(self, start: int, claims: Sequence[Fraction], policy: TimelinePolicy) -> None:
        self.dts = start - 1
        self.composition_offset = 0
        self.duration = _USUAL_DURATION
        self._claims = claims
        self._policy = policy
        self._tolerance = policy.grid_tolerance_us * 9 // 100
        self._lean = policy.grid_lean_us * 9 // 100
        self._grid: Grid | None = None
        self._index = -1
        self._index_ticks = 0
        self.has_begun = False
        self._seen: deque[int] = deque(maxlen=LOOK_BACK)
        self._misses: deque[int] = deque(maxlen=policy.grid_misses)
        self._free_until: int | None = None
        self._unseen = 0  # how many frames to see before it is worth looking for a grid again
        self._sync_pts = 0
        self._first: int | None = None  # the time that the first frame came with
        self._clamps = 0

    @property
    def grid(self) -> Grid | None:
        """The grid that frames are put on, if there is one."""
        return self._grid

    def begin(self, arrival: int) -> None:
        """Learn when the first frame arrives, whose time others may have too."""
        self._first = arrival

    def expect(self, arrivals: Sequence[int], step: FrameStep) -> None:
        """
        Learn of the frames about to be placed that they are on a grid, and put them there from the first one on.

        :param arrivals: their decode times as they came, at least one.
        """
        self._grid = anchor_grid(arrivals[:LOOK_BACK], step, self._policy)
        # Places before the anchor have negative indices: none has been taken yet.
        self._take_index(step, step.nearest(arrivals[0] - self._grid.anchor) - 1)

    def place(self, arrival: int, composition_ms: int, keyframe: bool) -> VideoRepair | None:
        """
        Place the next frame in decode order: set ``dts``, ``composition_offset`` and ``duration``.

        :param arrival: its decode time as it came, on the stream's timeline.
        :param composition_ms: its composition offset, as it came but for :func:`sane_composition`.
        :returns: ``None`` for almost every frame.
        """
        repair = None
        if self._grid is None:
            self._seen.append(arrival)
            self._unseen -= 1
            if keyframe and self._unseen <= 0:
                self._look_for_grid(arrival)
        dts = arrival if self._grid is None else self._on_grid(self._grid, arrival)
        if dts <= self.dts:
            dts, repair = self.dts + 1, self._repair_of(arrival)
        self._set_duration(dts)
        self.dts, self.has_begun = dts, True
        self.composition_offset = 0
        if composition_ms:
            repair = self._compose(arrival, composition_ms, keyframe) or repair
        if keyframe:
            self._sync_pts = dts + self.composition_offset
        return repair

    def _repair_of(self, arrival: int) -> VideoRepair | None:
        """What it means that a frame has no time of its own; of the first ones, that a muxer writes none below zero."""
        if not self.has_begun:
            return None
        self._clamps += 1
        is_clamped = arrival == self._first and self._clamps <= _MOST_REORDERED
        return VideoRepair.CLAMPED if is_clamped else VideoRepair.LATE

    def _set_duration(self, dts: int) -> None:
        if self._grid is not None:
            step = self._grid.step
            self.duration = step.ticks(self._index + 1) - self._index_ticks
        elif self.has_begun and _TICKS_PER_MS <= dts - self.dts <= 1000 * _TICKS_PER_MS:
            self.duration = dts - self.dts  # neither the stub of a doubled timestamp nor a pause is what to expect

    # ── the grid ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_grid(self, grid: Grid, arrival: int) -> int:
        """The place of a frame: on the grid, or where it arrived."""
        index = grid.step.nearest(arrival - grid.anchor)
        ticks = grid.step.ticks(index)
        place = grid.anchor + ticks
        is_near = -self._tolerance <= arrival - place <= self._tolerance
        if index <= self._index:
            return place if is_near else arrival  # the place is taken, which is not the grid's fault
        self._index, self._index_ticks = index, ticks
        return place if is_near else self._miss(grid, arrival, place)

    def _take_index(self, step: FrameStep, index: int) -> None:
        """Count a place, and all before it, as taken."""
        self._index, self._index_ticks = index, step.ticks(index)

    def _miss(self, grid: Grid, arrival: int, place: int) -> int:
        policy = self._policy
        self._misses.append(arrival)
        recent = arrival - self._misses[0] <= policy.grid_misses_ms * _TICKS_PER_MS
        if len(self._misses) == policy.grid_misses and recent:
            self._misses.clear()
            self._grid, self._free_until = None, arrival + policy.free_ms * _TICKS_PER_MS
            self._seen.clear()
            return arrival
        lean = self._lean if arrival > place else -self._lean
        self._grid = Grid(grid.step, grid.anchor + lean)
        return place + lean if abs(arrival - place - lean) <= self._tolerance else arrival

    def _look_for_grid(self, arrival: int) -> None:
        """At a keyframe: join the grid that the frames of late are on, if the step onto it is within its tolerance."""
        if self._free_until is not None and arrival < self._free_until:
            return
        grid = fit_grid(tuple(self._seen), self._claims, self._policy)
        self._unseen = self._policy.measured_deltas
        if grid is None:
            return
        index = grid.step.nearest(arrival - grid.anchor)
        if abs(arrival - grid.anchor - grid.step.ticks(index)) <= self._tolerance:
            self._grid = grid
            self._take_index(grid.step, index - 1)
            self._seen.clear()

    # ── composition ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _compose(self, arrival: int, composition_ms: int, keyframe: bool) -> VideoRepair | None:
        pts = self._presentation(arrival + composition_ms * _TICKS_PER_MS)
        if not keyframe and pts < self._sync_pts - self._policy.stale_presentation_ms * _TICKS_PER_MS:
            return VideoRepair.COMPOSITION
        self.composition_offset = pts - self.dts
        return None

    def _presentation(self, pts: int) -> int:
        """On the grid if it is near: decode time and offset were rounded, each to a millisecond, one by one."""
        if self._grid is None:
            return pts
        anchor, step = self._grid.anchor, self._grid.step
        place = anchor + step.ticks(step.nearest(pts - anchor))
        return place if abs(pts - place) <= self._tolerance + self._lean else pts
