"""
Audio on its sample clock: each frame lasts its samples, whatever the milliseconds say.

Timestamps in milliseconds make a 48 kHz AAC frame 21 or 22 ms long; players hear that. So the clock counts samples from
the first frame on, and timestamps only supervise it. Their error against the clock is let be while it is jitter; as
drift, when its median stays large, it is worked off by one tick a frame; beyond any jitter it is a gap, and the clock
moves on, or an overlap, and frames are dropped until the clock is caught up with. It moves on by whole frames: encoders
leave out no less, milliseconds tell no more, and silence can take exactly the place of what is missing.
"""

from __future__ import annotations

import enum

from rapidrtmp.timeline.policy import TimelinePolicy

__all__ = ["AudioClock", "AudioRepair"]


class AudioRepair(enum.Enum):
    """What had to be done to place a frame."""

    GAP = "audio_gap"
    OVERLAP = "audio_overlap"


class AudioClock:
    """
    Places the audio frames of one range of the timeline.

    :ivar dts: decode time of the frame placed last, in ticks of ``1/sample_rate`` s.
    :ivar has_begun: whether a frame has been placed.
    :ivar duration: its duration: its samples, one tick more or less while drift is worked off.
    :param samples_per_frame: what frames last, as a rule.
    """

    def __init__(self, sample_rate: int, samples_per_frame: int, policy: TimelinePolicy) -> None:
        self.dts = 0
        self.duration = samples_per_frame
        self._soft = max(policy.audio_soft_frames * samples_per_frame, policy.audio_soft_ms * sample_rate // 1000)
        self._hard = policy.audio_hard_frames * samples_per_frame + policy.audio_hard_ms * sample_rate // 1000
        self._block = max(1, policy.drift_ms * sample_rate // (1000 * samples_per_frame))
        self.has_begun = False
        self._next = 0
        self._errors: list[int] = []
        self._owed = 0
        self._overlaps = False

    def place(self, arrival: int, samples: int) -> AudioRepair | None:
        """
        Place the next frame: set ``dts`` and ``duration``, unless it has to be dropped.

        :param arrival: its time as it came, in ticks on the stream's timeline.
        :param samples: what it lasts, in the same ticks.
        :returns: ``None`` for almost every frame, ``GAP`` if the clock has moved on towards ``arrival``, ``OVERLAP`` if
            the frame is to be dropped.
        """
        if not self.has_begun:
            self.has_begun, self._next = True, arrival
        error = arrival - self._next
        repair = None
        if error < -self._hard or (self._overlaps and error < 0):
            self._overlaps = True
            return AudioRepair.OVERLAP
        self._overlaps = False
        if error > self._hard:
            missing = (2 * error + samples) // (2 * samples)  # to the nearest frame
            self._next += missing * samples
            repair, self._owed, error = AudioRepair.GAP, 0, error - missing * samples
            self._errors.clear()
        self.dts = self._next
        if self._owed:
            samples += self._work_off()
        else:
            self._errors.append(error)
            if len(self._errors) == self._block:
                self._judge_errors()
        self.duration = samples
        self._next += samples
        return repair

    def _work_off(self) -> int:
        """By how many ticks this frame's duration works off drift: -1 or 1."""
        tick = 1 if self._owed > 0 else -1
        self._owed -= tick
        return tick

    def _judge_errors(self) -> None:
        """See whether the errors of late are drift."""
        median = sorted(self._errors)[self._block // 2]
        self._errors.clear()
        if abs(median) > self._soft // 2:
            self._owed = median
