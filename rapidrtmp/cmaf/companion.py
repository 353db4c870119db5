"""
A track that goes along with the primary one: its frames wait here for the parts that they belong to.

Where it pauses silence takes its place, so that players, which show no more than they have of every track, are not
stopped by it: whole silent frames of its codec, as long as its own. It has paused when none of its frames has come for
longer than parts wait; where it is merely behind, or ahead, it stays so. Frames that come after all, for times that
have been filled, are left out: decode times never fall. If its clock stays behind, it is moved on for good.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import pairwise

from rapidrtmp.cmaf.cut import Cut
from rapidrtmp.codec.table import CODECS
from rapidrtmp.interfaces import Sample
from rapidrtmp.media import AudioConfig, Frame, Track

__all__ = ["Companion"]

#: No more than this is kept while the primary track has not begun.
LONGEST_LEAD_MS = 10_000
#: A hole that is no longer is filled even where the primary track has one as well.
LONGEST_FILL_MS = 3_000
#: After so much that came too late in a row, the track is late for good.
LONGEST_LATE_MS = 1_000


class Companion:
    """
    One such track over one range. "Ticks" are those of the primary track, "own ticks" those of this one.

    :ivar track: the track.
    :ivar frame_ticks: how long one of its frames is, in ticks.
    :param scale: ticks a second.
    :param patience: how many ticks the primary track continues without a frame of this one before this one has paused.
    """

    def __init__(self, track: Track, scale: int, patience: int) -> None:
        self.track = track
        self._scale, self._own_scale = scale, track.timescale
        self._patience = patience
        self._frames: deque[Frame] = deque()
        self._end = 0  # of the newest frame, in own ticks
        self._left: int | None = None  # the end of what has left, in own ticks
        self._newest: int | None = None  # decode time of the newest primary frame when a frame came last
        self._heard: int | None = None  # the same, or of the still that stood in for it by then
        self._alone = 0  # what has come since that was the newest, in own ticks
        self._longest_alone = 0  # own ticks
        self._longest_fill = LONGEST_FILL_MS * track.timescale // 1000
        self._late = 0  # how much has come too late in a row, in own ticks
        self._shift = 0  # what the track is moved on by, in own ticks
        self._samples, self._silence = 0, b""
        config, silence = track.config, CODECS[track.codec].silence
        if isinstance(config, AudioConfig):
            self._samples = config.samples_per_frame
            self._silence = silence(config) if silence is not None else b""
        self.frame_ticks = -(-self._samples * scale // self._own_scale)

    def limit_alone(self, ms: int) -> None:
        """Without a frame of the primary track for so long, that has paused."""
        self._longest_alone = ms * self._own_scale // 1000

    def add(self, frame: Frame, newest: int | None) -> bool:
        """
        Take the next frame.

        :param newest: decode time of the newest primary frame, if that track is there.
        :returns: whether this track has been alone for so long that the primary one has paused.
        """
        if self._shift:
            frame = replace(frame, dts=frame.dts + self._shift)
        if self._left is not None and frame.dts < self._left:
            placed = self._place_late(frame, self._left)
            if placed is None:
                return False
            frame = placed
        self._frames.append(frame)
        self._end = frame.dts + frame.duration
        if newest != self._newest:
            self._newest = self._heard = newest
            self._alone = 0
            return False
        self._alone += frame.duration
        return self._alone > self._longest_alone

    def _place_late(self, frame: Frame, left: int) -> Frame | None:
        """A frame for a time that has left already: left out, unless it only just is, or all are that come."""
        missed = left - frame.dts
        if 2 * missed > frame.duration:
            self._late += frame.duration
            if self._late * 1000 <= LONGEST_LATE_MS * self._own_scale:
                return None
            self._shift += missed
        self._late = 0
        return replace(frame, dts=left)

    def forget_old(self) -> None:
        """Let go of what is too long ago to matter, while the primary track has not begun."""
        while (self._end - self._frames[0].dts) * 1000 > LONGEST_LEAD_MS * self._own_scale:
            self._frames.popleft()

    def passed_over(self, ticks: int) -> None:
        """Learn of a hole in the primary track, which is no pause of this one."""
        if self._heard is not None:
            self._heard += ticks

    def came_with(self, dts: int) -> None:
        """Learn of a still that stood in for the primary track when a frame came."""
        self._heard = dts

    # ── how far it is ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def end(self) -> int:
        """Up to which presentation time, in ticks, it has come; 0 before the first frame."""
        return self._end * self._scale // self._own_scale

    @property
    def has_frames(self) -> bool:
        """Whether frames wait here."""
        return bool(self._frames)

    def alone(self, newest: int | None) -> int:
        """How long it has continued since the newest primary frame, in ticks."""
        return self._alone * self._scale // self._own_scale if newest == self._newest else 0

    def has_reached(self, ticks: int, cut: Cut, newest: int | None) -> bool:
        """Whether it has come up to a presentation time, or has paused and will not."""
        if self._end * self._scale >= ticks * self._own_scale:
            return True
        if self._heard is None:  # its first frame is waited for a little longer
            self._heard = cut.start + LONGEST_FILL_MS * self._scale // 1000
        return self._has_paused(newest)

    def _has_paused(self, newest: int | None) -> bool:
        since = self._heard
        return newest is not None and since is not None and newest - since > self._patience and bool(self._silence)

    # ── out of it ────────────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, cut: Cut, newest: int | None, *, is_last: bool = False) -> list[Sample]:
        """
        Samples of what is presented until the end of a cut, or of all if it ``is_last``, and has not left yet.

        Where the cut has pictures, silence is wherever nothing else is.
        """
        frames, waiting, scale = [], self._frames, self._scale
        limit = cut.shown_until * self._own_scale
        while waiting and (is_last or waiting[0].pts * scale < limit):
            frames.append(waiting.popleft())
        if frames:
            self._late = 0
        if cut.samples and self._silence:
            self._fill(frames, cut, newest)
        return self._leave(frames)

    def _leave(self, frames: list[Frame]) -> list[Sample]:
        """Frames with the durations that keep decode times true within the run."""
        if not frames:
            return []
        samples = [Sample(frame, after.dts - frame.dts) for frame, after in pairwise(frames)]
        last = frames[-1]
        duration = last.duration
        if self._frames:  # one that was moved a little, because it came late, would reach into the next
            duration = min(duration, self._frames[0].dts - last.dts)
        samples.append(Sample(last, duration))
        self._left = last.dts + duration
        return samples

    # ── silence ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _fill(self, frames: list[Frame], cut: Cut, newest: int | None) -> None:
        """Put silence before, between and behind frames that are about to leave, where there is room for it."""
        at = self._fill_from(frames, cut)
        if frames and frames[-1].dts + frames[-1].duration - at > sum([frame.duration for frame in frames]):
            for index in range(len(frames) - 1, -1, -1):
                before = frames[index - 1] if index else None
                since = at if before is None else before.dts + before.duration
                if frames[index].dts - since <= self._longest_fill:
                    frames[index:index] = self._silent(since, frames[index].dts)
        if frames:
            at = frames[-1].dts + frames[-1].duration
        if self._frames:
            frames += self._silent(at, min(self._own(cut.shown_until), self._frames[0].dts))
        elif self._has_paused(newest):
            lag = max(0, (self._heard or 0) + cut.offset - self.end)
            frames += self._silent(at, self._own(cut.shown_until - lag))

    def _fill_from(self, frames: list[Frame], cut: Cut) -> int:
        """Where what is missing begins: where it has left off, unless that is long ago."""
        begins = self._own(cut.shown_from)
        if self._left is None:
            return frames[0].dts if frames else begins
        return self._left if begins - self._left <= self._longest_fill else begins

    def _own(self, ticks: int) -> int:
        return -(-ticks * self._own_scale // self._scale)

    def _silent(self, start: int, end: int) -> list[Frame]:
        """As many silent frames as there is room for whole ones."""
        return [
            Frame(self.track, at, 0, self._samples, True, self._silence, 0)
            for at in range(start, end - self._samples + 1, self._samples)
        ]
