"""Tests of `rapidrtmp.cmaf.companion`: frames that come too late for where they belong."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.companion import Companion
from rapidrtmp.cmaf.cut import Cut
from rapidrtmp.interfaces import Sample
from rapidrtmp.media import Frame
from rapidrtmp.testing.frames import audio_frames, make_audio_track

AUDIO = make_audio_track(id=2)
SCALE = 90_000


def taken(companion: Companion, start: int, end: int) -> list[Sample]:
    """What leaves with a part that has no pictures, from one time to another in samples of the track."""
    cut = Cut(start * SCALE // 48_000, 0, starts_segment=False)
    cut.end = end * SCALE // 48_000
    return companion.take(cut, None)


class LateFramesTests(SynchronousTestCase):
    def test_moved_frame_does_not_overlap(self) -> None:
        """A frame that is moved a little, since its time has left in part, ends where the next one begins."""
        for missed in (1, 100, 511, 512):
            companion = Companion(AUDIO, SCALE, SCALE)
            first, second, third, fourth = audio_frames(AUDIO, 1)[:4]
            moved = [Frame(AUDIO, each.dts - missed, 0, 1024, True, each.data, 0) for each in (second, third, fourth)]
            companion.add(first, None)
            samples = taken(companion, 0, 1024)
            for frame in moved:
                companion.add(frame, None)
            samples += taken(companion, 1024, 1024 + 400) + taken(companion, 1424, 4096)
            ends = [sample.frame.dts + sample.duration for sample in samples]
            self.assertEqual([sample.frame.dts for sample in samples[1:]], ends[:-1], missed)
            self.assertEqual(4, len(samples))
