"""
Where to cut: frames in, parts out.

One track is *primary* (video, or audio where there is no video): its frames decide where parts and segments begin. A
frame's duration is the distance to its successor, so every decision falls when the successor arrives:

- a keyframe ends the segment once the wanted length is there, or if waiting for the next one would take it past what
  the target duration allows; past that, a segment is cut without a keyframe;
- a part ends before the frame that would take it past the part target. Where frames are so far apart that the part
  would then be too short (RFC 8216 bis, 4.4.4.9), its boundary falls *inside* a frame: the part lasts exactly the part
  target, and its last sample reaches over into the next.

Cutting the primary track makes a :class:`_Cut`; it leaves as a :class:`Part` when the other track has caught up to it.
Parts therefore partition time without a hole, and decode times continue across them.

Until the first GOP is whole nothing leaves: the playlist's constants are chosen from it (see ``grid.py``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from rapidrtmp.hls.grid import SHORTEST_PART_PERCENT, Constants, Cutting, choose_constants, measure_frame_rate
from rapidrtmp.media import Frame, MediaKind, Track, VideoConfig
from rapidrtmp.mp4.fragment import Sample, TrackRun

__all__ = ["Part", "Segmenter"]

#: The first GOP is not held beyond this many bytes.
LARGEST_OPENING = 64 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """
    A part, complete. Times are in ticks of the primary track.

    :ivar runs: its samples by track; none at all where no media exists (a gap).
    :ivar start: where it begins.
    :ivar start_pts: when its first moment is to be shown.
    :ivar duration: how long it lasts by the playlist.
    :ivar independent: whether it holds a keyframe.
    :ivar starts_segment: whether it is its segment's first; likewise ``ends_segment``.
    :ivar on_keyframe: whether decoding can begin at its very first sample.
    """

    runs: tuple[TrackRun, ...]
    start: int
    start_pts: int
    duration: int
    independent: bool
    on_keyframe: bool
    starts_segment: bool
    ends_segment: bool


@dataclass(slots=True)
class _Cut:
    """A part as the primary track alone shapes it."""

    start: int
    offset: int
    starts_segment: bool
    end: int = 0
    ends_segment: bool = False
    samples: list[Sample] = field(default_factory=list)

    @property
    def shown_until(self) -> int:
        """The presentation time that its end stands for."""
        return self.end + self.offset


class Segmenter:
    """
    Cuts one stream's frames into parts.

    :ivar constants: ``None`` until the first GOP is whole; never changes then.
    :ivar frame_rate: primary frames a second, as measured over the first GOP.
    """

    def __init__(self, cutting: Cutting) -> None:
        self.cutting = cutting
        self.constants: Constants | None = None
        self.frame_rate: Fraction | None = None
        self._tracks: tuple[Track, ...] = ()
        self._opening: list[Frame] = []
        self._opening_bytes = 0
        self._begin_range()

    def _begin_range(self) -> None:
        self._last: Frame | None = None  # the newest primary frame; its duration is not known yet
        self._open: _Cut | None = None
        self._segment_start = 0
        self._keyframe_dts: int | None = None
        self._longest_gop = 0
        self._offset = 0  # presentation minus decode time at the start of the segment
        self._cuts: deque[_Cut] = deque()
        self._others: deque[Frame] = deque()
        self._others_end = 0

    # ── frames in ────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, tracks: tuple[Track, ...]) -> None:
        """Learn the tracks of the frames that follow; what came before must have been flushed."""
        self._tracks = tracks
        timescale = self._primary.timescale
        self._wanted = self.cutting.segment_ms * timescale // 1000
        if self.constants is not None:
            self._apply(self.constants)

    @property
    def _primary(self) -> Track:
        return self._tracks[0]

    def add(self, frame: Frame) -> list[Part]:
        """Take one frame; return the parts that are complete with it, in order."""
        if self.constants is None:
            self._opening.append(frame)
            self._opening_bytes += len(frame.data)
            if not self._is_opening_whole(frame):
                return []
            return self._settle()
        return self._take(frame)

    def flush(self) -> list[Part]:
        """End the range: everything held leaves now, the last frame with its nominal duration."""
        parts = self._settle() if self.constants is None and self._opening else []
        last, cut = self._last, self._open
        if last is not None and cut is not None:
            cut.samples.append(Sample(last, last.duration))
            self._close(cut, last.dts + last.duration, ends_segment=True)
        parts += self._gather(everything=True)
        self._begin_range()
        return parts

    # ── the opening: measure, then begin ─────────────────────────────────────────────────────────────────────────────

    def _is_opening_whole(self, frame: Frame) -> bool:
        primary = self._primary
        if frame.track.kind is not primary.kind:
            return False
        if primary.kind is MediaKind.AUDIO:
            return len(self._opening) > 1
        first = next(held for held in self._opening if held.track.kind is primary.kind)
        if frame.keyframe and frame is not first:
            return True
        held = frame.dts - first.dts
        return held * 1000 > self.cutting.longest_gop_ms * primary.timescale or self._opening_bytes > LARGEST_OPENING

    def _settle(self) -> list[Part]:
        """Choose the constants, then cut what was held."""
        primary = self._primary
        starts = [frame.dts for frame in self._opening if frame.track.kind is primary.kind]
        gop = starts[-1] - starts[0] if primary.kind is MediaKind.VIDEO and len(starts) > 1 else None
        claimed = primary.config.frame_rate if isinstance(primary.config, VideoConfig) else None
        self.frame_rate = measure_frame_rate(primary.timescale, starts, claimed)
        self.constants = choose_constants(self.cutting, primary.timescale, starts, gop)
        self._apply(self.constants)
        held, self._opening = self._opening, []
        return [part for frame in held for part in self._take(frame)]

    def _apply(self, constants: Constants) -> None:
        timescale = self._primary.timescale
        self._longest_segment = constants.longest_segment_ms * timescale // 1000
        part_ms = constants.part_target_ms or constants.longest_segment_ms
        self._longest_part = part_ms * timescale // 1000
        self._shortest_part = -(-part_ms * timescale * SHORTEST_PART_PERCENT // 100_000)
        self._interleave = self.cutting.interleave_ms * timescale // 1000

    # ── cutting the primary track ────────────────────────────────────────────────────────────────────────────────────

    def _take(self, frame: Frame) -> list[Part]:
        if frame.track.kind is self._primary.kind:
            self._take_primary(frame)
        else:
            self._others.append(frame)
            self._others_end = frame.dts + frame.duration
        return self._gather() if self._cuts else []

    def _take_primary(self, frame: Frame) -> None:
        last, cut = self._last, self._open
        self._last = frame
        if last is None or cut is None:
            self._begin_segment(frame)
            self._keyframe_dts = frame.dts
            return
        cut = self._reach_over(cut, last, frame)
        if self._ends_segment(frame):
            self._close(cut, frame.dts, ends_segment=True)
            self._begin_segment(frame)
        elif self._ends_part(cut, frame):
            self._close(cut, frame.dts)
            self._open = _Cut(frame.dts, self._offset, starts_segment=False)
        if frame.keyframe:
            self._note_gop(frame)

    def _begin_segment(self, first: Frame) -> None:
        self._segment_start = first.dts
        self._offset = first.composition_offset
        self._open = _Cut(first.dts, self._offset, starts_segment=True)

    def _note_gop(self, keyframe: Frame) -> None:
        if self._keyframe_dts is not None:
            self._longest_gop = max(self._longest_gop, keyframe.dts - self._keyframe_dts)
        self._keyframe_dts = keyframe.dts

    def _ends_segment(self, frame: Frame) -> bool:
        elapsed = frame.dts - self._segment_start
        if frame.keyframe:
            enough = elapsed >= self._wanted - frame.duration // 2
            return enough or elapsed + self._longest_gop > self._longest_segment
        return elapsed + frame.duration > self._longest_segment

    def _ends_part(self, cut: _Cut, frame: Frame) -> bool:
        length = frame.dts - cut.start
        return length >= self._shortest_part and (frame.keyframe or length + frame.duration > self._longest_part)

    def _reach_over(self, cut: _Cut, last: Frame, frame: Frame) -> _Cut:
        """
        Put ``last`` into the open part now that its duration is known; where it reaches past the longest part, close
        parts before, inside and behind it. The part that ``frame`` may still join is returned.
        """
        sample = Sample(last, frame.dts - last.dts)
        before = last.dts - cut.start
        if frame.dts - cut.start > self._longest_part and before >= self._shortest_part:
            cut = self._next_part(cut, last.dts)
        cut.samples.append(sample)
        while frame.dts - cut.start > self._longest_part:
            cut = self._next_part(cut, cut.start + self._longest_part)
        return cut

    def _next_part(self, cut: _Cut, boundary: int) -> _Cut:
        """Close a part away from any arriving frame, and with it the segment if it can take no further part."""
        full = boundary + self._longest_part - self._segment_start > self._longest_segment
        self._close(cut, boundary, ends_segment=full)
        if full:
            self._segment_start = boundary
        self._open = _Cut(boundary, self._offset, starts_segment=full)
        return self._open

    def _close(self, cut: _Cut, end: int, *, ends_segment: bool = False) -> None:
        cut.end = end
        cut.ends_segment = ends_segment
        self._cuts.append(cut)

    # ── gathering the other track ────────────────────────────────────────────────────────────────────────────────────

    def _gather(self, *, everything: bool = False) -> list[Part]:
        parts = []
        while self._cuts and (everything or self._has_caught_up(self._cuts[0])):
            cut = self._cuts.popleft()
            take_all = everything and not self._cuts
            parts.append(self._complete(cut, self._take_others(cut, take_all=take_all)))
        return parts

    def _has_caught_up(self, cut: _Cut) -> bool:
        if len(self._tracks) == 1:
            return True
        if self._last is not None and self._last.dts - cut.end > self._interleave:
            return True
        return self._others_end * self._primary.timescale >= cut.shown_until * self._tracks[1].timescale

    def _take_others(self, cut: _Cut, *, take_all: bool) -> list[Sample]:
        if not self._others:
            return []
        limit = cut.shown_until * self._tracks[1].timescale
        scale = self._primary.timescale
        frames = []
        while self._others and (take_all or self._others[0].pts * scale < limit):
            frames.append(self._others.popleft())
        return _samples(frames)

    def _complete(self, cut: _Cut, others: list[Sample]) -> Part:
        runs = []
        if cut.samples:
            runs.append(TrackRun(self._tracks[0], cut.samples))
        if others:
            runs.append(TrackRun(self._tracks[1], others))
        first = cut.samples[0].frame if cut.samples else None
        return Part(
            runs=tuple(runs),
            start=cut.start,
            start_pts=cut.start + cut.offset,
            duration=cut.end - cut.start,
            independent=any(sample.frame.keyframe for sample in cut.samples),
            on_keyframe=first is not None and first.keyframe and first.dts == cut.start,
            starts_segment=cut.starts_segment,
            ends_segment=cut.ends_segment,
        )


def _samples(frames: list[Frame]) -> list[Sample]:
    """Frames of one track with the durations that keep decode times true within the run."""
    samples = [Sample(frame, after.dts - frame.dts) for frame, after in pairwise(frames)]
    if frames:
        samples.append(Sample(frames[-1], frames[-1].duration))
    return samples
