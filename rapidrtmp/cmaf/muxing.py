"""
Where the two tracks of a range meet: cuts of the primary one go in, filled up with the other one they leave as parts.

A part holds what the other track presents while the primary one is shown, as far as it has come. Encoders interleave by
decode time, so when a part's last frame is here, the sound of its last moments is still under way: that is not waited
for, and leaves with the next part. Only when more is missing than that (see :meth:`Interleaving._usual_lag`), the part
waits. So sound may lie in parts a little earlier than the pictures that it belongs to, by this much and no more; its
decode times continue from part to part, and nothing is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from rapidrtmp.cmaf.segmenter_events import CutEvent, SegmentContinued, SegmentEnd
from rapidrtmp.interfaces import Part, Sample, TrackRun
from rapidrtmp.media import AudioConfig, Frame, Track

__all__ = ["Cut", "Interleaving"]

#: No more than this of the other track is kept while the primary one has not begun.
LONGEST_LEAD_MS = 10_000


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
    def shown_until(self) -> int:
        """The presentation time that its end stands for."""
        return self.end + self.offset


class Interleaving:
    """
    The meeting of the tracks over one range.

    :param tracks: the primary one, and the other one if there is one.
    :param patience: for how many ticks of the primary track a part waits for the other track, at most.
    :ivar cuts: what has not left yet.
    """

    def __init__(self, tracks: Sequence[Track], patience: int) -> None:
        self.cuts: deque[Cut | SegmentEnd | SegmentContinued] = deque()
        self._tracks = tracks
        self._patience = patience
        self._others: deque[Frame] = deque()
        self._others_end = 0
        self._scale = tracks[0].timescale
        self._other_scale = tracks[1].timescale if len(tracks) > 1 else 1
        other = tracks[1].config if len(tracks) > 1 else None
        samples = other.samples_per_frame if isinstance(other, AudioConfig) else 0
        self._other_frame = -(-samples * self._scale // self._other_scale)

    def add_other(self, frame: Frame) -> None:
        """Take a frame of the other track."""
        self._others.append(frame)
        self._others_end = frame.dts + frame.duration

    def forget_old(self) -> None:
        """Let go of what is too long ago to matter, while the primary track has not begun."""
        while (self._others_end - self._others[0].dts) * 1000 > LONGEST_LEAD_MS * self._other_scale:
            self._others.popleft()

    @property
    def others_end(self) -> int:
        """Up to which presentation time of the primary track the other one has come; 0 if there is none."""
        return self._others_end * self._scale // self._other_scale

    def time_of_others(self, ticks: int) -> int:
        """A time of the primary track in ticks of the other one."""
        return ticks * self._other_scale // self._scale

    @property
    def has_remains(self) -> bool:
        """Whether frames of the other track are left for which no part is waiting."""
        return bool(self._others) and not any(isinstance(cut, Cut) for cut in self.cuts)

    # ── out of it ────────────────────────────────────────────────────────────────────────────────────────────────────

    def gather(self, newest: int | None) -> list[CutEvent]:
        """
        What can leave now.

        :param newest: decode time of the newest primary frame, if the primary track is there.
        """
        events: list[CutEvent] = []
        while self.cuts:
            cut = self.cuts[0]
            if not isinstance(cut, Cut):
                events.append(cut)
            elif self._has_caught_up(cut, newest):
                events.append(self._complete(cut, self._take_others(cut.shown_until)))
            else:
                break
            self.cuts.popleft()
        return events

    def gather_all(self) -> list[CutEvent]:
        """Everything that is left; the last part takes all of the other track."""
        events: list[CutEvent] = []
        parts = sum(isinstance(cut, Cut) for cut in self.cuts)
        for cut in self.cuts:
            if isinstance(cut, Cut):
                parts -= 1
                events.append(self._complete(cut, self._take_others(cut.shown_until if parts else None)))
            else:
                events.append(cut)
        self.cuts.clear()
        return events

    def _has_caught_up(self, cut: Cut, newest: int | None) -> bool:
        if len(self._tracks) == 1:
            return True
        if newest is not None and newest - cut.end > self._patience:
            return True
        needed = cut.shown_until - self._usual_lag(cut)
        return self._others_end * self._scale >= needed * self._other_scale

    def _usual_lag(self, cut: Cut) -> int:
        """
        How much of the other track may be missing at the end of a part for no other reason than that encoders
        interleave by decode time: one frame of each track, and the delay between decoding and presentation.
        """
        frame = cut.samples[-1].frame.duration if cut.samples else 0
        return min(frame + self._other_frame + max(cut.offset, 0), self._patience)

    def _take_others(self, until: int | None) -> list[Sample]:
        """Samples of the other track that are presented before a time of the primary one, or all of them."""
        others, scale = self._others, self._scale
        if until is None:
            frames = list(others)
            others.clear()
            return _samples(frames)
        limit = until * self._other_scale
        frames = []
        while others and others[0].pts * scale < limit:
            frames.append(others.popleft())
        return _samples(frames)

    def _complete(self, cut: Cut, others: list[Sample]) -> Part:
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
            on_keyframe=first is not None and first.keyframe and first.dts <= cut.start,
            starts_segment=cut.starts_segment,
            expected_last=cut.expected_last,
        )


def _samples(frames: list[Frame]) -> list[Sample]:
    """Frames of one track with the durations that keep decode times true within the run."""
    samples = [Sample(frame, after.dts - frame.dts) for frame, after in pairwise(frames)]
    if frames:
        samples.append(Sample(frames[-1], frames[-1].duration))
    return samples
