from __future__ import annotations

import itertools
import random
from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.timeline.audio_clock import AudioClock, AudioRepair
from rapidrtmp.timeline.policy import TimelinePolicy

RATE = 48_000
FRAME = 1024


def place(arrivals: Iterable[int]) -> tuple[list[tuple[int, int]], list[AudioRepair | None]]:
    """``(dts, duration)`` of the frames that were placed, and what was done to each."""
    clock = AudioClock(RATE, FRAME, TimelinePolicy())
    placed, repairs = [], []
    for arrival in arrivals:
        repairs.append(clock.place(arrival, FRAME))
        if repairs[-1] is not AudioRepair.OVERLAP:
            placed.append((clock.dts, clock.duration))
    return placed, repairs


class AudioClockTests(SynchronousTestCase):
    def assertContinuous(self, placed: list[tuple[int, int]]) -> None:
        for (dts, duration), (following, _) in itertools.pairwise(placed):
            self.assertEqual(following, dts + duration)

    def test_counts_samples_not_milliseconds(self) -> None:
        """Frames that come every 21 or 22 ms last 1024 samples each."""
        placed, repairs = place(round(index * 64 / 3) * 48 for index in range(1000))
        self.assertEqual([(index * FRAME, FRAME) for index in range(1000)], placed)
        self.assertEqual({None}, set(repairs))

    def test_follows_drift_by_ticks(self) -> None:
        """A publisher whose samples are 0.05 % slow is followed by a tick a frame, without a gap."""
        placed, repairs = place(int(index * FRAME * 1.0005) for index in range(30_000))
        self.assertEqual({None}, set(repairs))
        self.assertContinuous(placed)
        self.assertLessEqual({duration for _, duration in placed}, {FRAME, FRAME + 1})
        self.assertLess(abs(placed[-1][0] - 29_999 * FRAME * 1.0005), 2 * FRAME)

    def test_follows_drift_the_other_way(self) -> None:
        """One whose samples are 0.05 % fast likewise."""
        placed, repairs = place(int(index * FRAME * 0.9995) for index in range(30_000))
        self.assertEqual({None}, set(repairs))
        self.assertContinuous(placed)
        self.assertLessEqual({duration for _, duration in placed}, {FRAME, FRAME - 1})
        self.assertLess(abs(placed[-1][0] - 29_999 * FRAME * 0.9995), 2 * FRAME)

    def test_bad_start_shifts_nothing(self) -> None:
        """A first frame that was late by 30 ms does not shift the sound for ever."""
        placed, _ = place([1440, *(index * FRAME for index in range(1, 3000))])
        self.assertContinuous(placed)
        self.assertLess(abs(placed[-1][0] - 2999 * FRAME), 100)

    def test_bursts_last_their_samples(self) -> None:
        """Frames stamped two at a time last 1024 samples each."""
        noise = random.Random(7)
        placed, repairs = place(index // 2 * 2 * FRAME + noise.randrange(-200, 200) for index in range(3000))
        self.assertEqual({None}, set(repairs))
        self.assertEqual({FRAME}, {duration for _, duration in placed})

    def test_gap_in_whole_frames(self) -> None:
        """After a pause the clock moves on to where the sound is, by whole frames, so that silence can be as long."""
        before = [index * FRAME for index in range(100)]
        for pause, frames in ((24 * FRAME, 24), (24 * FRAME - 30, 24), (24_000, 23), (24 * FRAME + 520, 25)):
            after = [pause + index * FRAME for index in range(100, 200)]
            placed, repairs = place(before + after)
            self.assertEqual(
                [*before, *((frames + index) * FRAME for index in range(100, 200))], [dts for dts, _ in placed]
            )
            self.assertEqual([None] * 100 + [AudioRepair.GAP] + [None] * 99, repairs)

    def test_overlap_is_dropped_exactly(self) -> None:
        """Sound for a time that is filled is dropped until the clock is caught up with, and not one frame longer."""
        arrivals = [*(index * FRAME for index in range(100)), *(index * FRAME for index in range(90, 200))]
        placed, repairs = place(arrivals)
        self.assertEqual([index * FRAME for index in range(200)], [dts for dts, _ in placed])
        self.assertEqual(10, repairs.count(AudioRepair.OVERLAP))
