"""
Where to cut: frames in, parts out.

One track is *primary* (video, or audio where there is no video): its frames decide where parts and segments begin. A
frame's duration is the distance to its successor, so every decision falls when the successor arrives:

- a keyframe ends the segment once the wanted length is there, or if waiting for the next one would take it past what
  the target duration allows; past that, a segment is cut without a keyframe;
- a part ends before the frame that would take it past the part target. Where frames are so far apart that the part
  would then be too short (RFC 8216 bis, 4.4.4.9), its boundary falls *inside* a frame: the part lasts exactly the part
  target. The frame belongs to the part behind the boundary, or, if it is alone, to the one before. A frame that stays
  for longer than a part leaves parts without any picture behind it. The end of the longest segment is such a boundary.

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
#: No more than this of the other track is kept while the primary one has not begun.
LONGEST_LEAD_MS = 10_000
#: Players give up a playlist that has had no news for three and a half target durations.
PATIENCE_TARGETS = 3
#: The longest of so many GOPs is how far away the next keyframe may be.
REMEMBERED_GOPS = 8


@dataclass(frozen=True, slots=True)
class Part:
    """
    A part, complete. Times are in ticks of the primary track.

    :ivar runs: its samples by track; none at all where no media exists (a gap).
    :ivar start: where it begins.
    :ivar start_pts: when its first moment is to be shown, by the delay with which the range began.
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
    :ivar frame_rate: primary frames a second, as measured over the first GOP of the range.
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
        self._keyframe_dts = 0
        self._gops: deque[int] = deque(maxlen=REMEMBERED_GOPS)
        self._range_start = self._range_frames = 0
        self._offset = 0  # presentation minus decode time at the start of the range
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
            return self._settle(is_gop_whole=frame.keyframe and frame.track.kind is self._primary.kind)
        return self._take(frame)

    def flush(self) -> list[Part]:
        """
        End the range: everything held leaves now, the last frame with its nominal duration.

        If the other track went on for long without the primary one, its last picture stays as long. Frames of the
        other track without any of the primary one are nothing to show, and dropped.
        """
        parts = self._settle(is_gop_whole=True) if self.constants is None and self._opening else []
        if self._open is not None:
            end = self._range_end(self._open)
            self._close(self._reach_over(self._open, self._last, end), end, ends_segment=True)
        parts += self._gather(everything=True)
        self._begin_range()
        return parts

    def _range_end(self, cut: _Cut) -> int:
        last, others_end = self._last, self._others_end_dts()
        if last is None:
            return max(others_end, cut.start + self._primary.timescale // 30)
        end = last.dts + max(last.duration, 1)
        return others_end if others_end > end + self._interleave else end

    def _others_end_dts(self) -> int:
        """Where the other track ends, as a decode time of the primary one."""
        if len(self._tracks) == 1:
            return 0
        return self._others_end * self._primary.timescale // self._tracks[1].timescale - self._offset

    # ── the opening: measure, then begin ─────────────────────────────────────────────────────────────────────────────

    def _is_opening_whole(self, frame: Frame) -> bool:
        """Whether this frame is the last that needs to be seen; it may be of either track, for one may cease."""
        primary = self._primary
        first = next((held for held in self._opening if held.track.kind is primary.kind), self._opening[0])
        if frame.track.kind is primary.kind and frame is not first and frame.keyframe:
            return True
        held_ms = frame.dts * 1000 // frame.track.timescale - first.dts * 1000 // first.track.timescale
        return held_ms > self.cutting.longest_gop_ms or self._opening_bytes > LARGEST_OPENING

    def _settle(self, *, is_gop_whole: bool) -> list[Part]:
        """Choose the constants, then cut what was held; a GOP that has not ended may be as long as any."""
        primary = self._primary
        starts = [frame.dts for frame in self._opening if frame.track.kind is primary.kind]
        gop = starts[-1] - starts[0] if primary.kind is MediaKind.VIDEO and len(starts) > 1 else None
        if not is_gop_whole:
            gop = max(gop or 0, self.cutting.longest_gop_ms * primary.timescale // 1000)
        self.frame_rate = self._measure_frame_rate(len(starts) - 1, starts[-1] - starts[0] if starts else 0)
        self.constants = choose_constants(self.cutting, primary.timescale, starts, gop)
        self._apply(self.constants)
        held, self._opening = self._opening, []
        return [part for frame in held for part in self._take(frame)]

    def _measure_frame_rate(self, frames: int, ticks: int) -> Fraction | None:
        config = self._primary.config
        claimed = config.frame_rate if isinstance(config, VideoConfig) else None
        return measure_frame_rate(self._primary.timescale, frames, ticks, claimed)

    def _apply(self, constants: Constants) -> None:
        timescale = self._primary.timescale
        self._longest_segment = constants.longest_segment_ms * timescale // 1000
        part_ms = constants.part_target_ms or constants.longest_segment_ms
        self._longest_part = part_ms * timescale // 1000
        self._shortest_part = -(-part_ms * timescale * SHORTEST_PART_PERCENT // 100_000)
        self._interleave = self.cutting.interleave_ms * timescale // 1000
        self._patience = PATIENCE_TARGETS * constants.target_s * timescale

    # ── cutting the primary track ────────────────────────────────────────────────────────────────────────────────────

    def _take(self, frame: Frame) -> list[Part]:
        if frame.track.kind is self._primary.kind:
            self._take_primary(frame)
        else:
            self._others.append(frame)
            self._others_end = frame.dts + frame.duration
            self._bridge()
        return self._gather() if self._cuts else []

    def _take_primary(self, frame: Frame) -> None:
        last, cut = self._last, self._open
        self._last = frame
        self._measure(frame)
        if cut is None:
            self._offset = frame.composition_offset
            self._begin_segment(frame)
            return
        cut = self._reach_over(cut, last, frame.dts)
        if frame.dts <= cut.start:
            return  # it was bridged, and comes after all
        if self._ends_segment(frame):
            self._close(cut, frame.dts, ends_segment=True)
            self._begin_segment(frame)
        elif self._ends_part(cut, frame):
            self._close(cut, frame.dts)
            self._open = _Cut(frame.dts, self._offset, starts_segment=False)

    def _bridge(self) -> None:
        """
        Go on with the other track alone when no picture has come for so long that players would give up.

        The last picture stays as long as is known then; until the next, the primary track has a hole.
        """
        now, last = self._others_end_dts(), self._last
        if self._open is None:
            while (self._others_end - self._others[0].dts) * 1000 > LONGEST_LEAD_MS * self._tracks[1].timescale:
                self._others.popleft()
        elif last is None or now - last.dts > self._patience:
            self._last = None
            self._reach_over(self._open, last, now - self._interleave)

    def _begin_segment(self, first: Frame) -> None:
        self._segment_start = first.dts
        self._open = _Cut(first.dts, self._offset, starts_segment=True)

    def _measure(self, frame: Frame) -> None:
        """Keep account of GOPs, and measure the frame rate when the first one is whole."""
        if not self._range_frames:
            self._range_start = self._keyframe_dts = frame.dts
        elif frame.keyframe:
            self._gops.append(frame.dts - self._keyframe_dts)
            self._keyframe_dts = frame.dts
            if len(self._gops) == 1:
                self.frame_rate = self._measure_frame_rate(self._range_frames, frame.dts - self._range_start)
        self._range_frames += 1

    def _ends_segment(self, frame: Frame) -> bool:
        elapsed = frame.dts - self._segment_start
        if frame.keyframe:
            enough = elapsed >= self._wanted - frame.duration // 2
            return enough or elapsed + max(self._gops) > self._longest_segment
        return elapsed + frame.duration > self._longest_segment

    def _ends_part(self, cut: _Cut, frame: Frame) -> bool:
        length = frame.dts - cut.start
        return length >= self._shortest_part and (frame.keyframe or length + frame.duration > self._longest_part)

    def _latest_end(self, cut: _Cut) -> int:
        """Where an open part must end: with the longest part, or the longest segment."""
        return min(cut.start + self._longest_part, self._segment_start + self._longest_segment)

    def _reach_over(self, cut: _Cut, last: Frame | None, end: int) -> _Cut:
        """
        Put ``last``, if it is not yet in a part, into the open part now that it is known to last up to ``end``; where
        that is past what a part may hold, close parts before and inside it. Returns the part that is open at ``end``.
        """
        if last is not None:
            if end > self._latest_end(cut) and last.dts - cut.start >= self._shortest_part:
                cut = self._next_part(cut, last.dts)
            if end > self._latest_end(cut) and cut.samples:
                cut = self._next_part(cut, self._latest_end(cut))
            cut.samples.append(Sample(last, end - last.dts))
        while end > self._latest_end(cut):
            cut = self._next_part(cut, self._latest_end(cut))
        return cut

    def _next_part(self, cut: _Cut, boundary: int) -> _Cut:
        """Close a part away from any arriving frame, and with it the segment if it is as long as can be."""
        full = boundary - self._segment_start >= self._longest_segment
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
