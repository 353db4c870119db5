"""Each thing that can be wrong with a publish is told, with its numbers, when it is and only then."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.health import FindingKind, diagnose
from rapidrtmp.timeline.health import PublishHealth

WELL = PublishHealth(
    lead_ms=40,
    lead_drift_ms=2,
    skew_ms=-21,
    skew_drift_ms=0,
    jitter_ms=6,
    repaired_timestamps=3,
    dropped_frames=2,
    gaps=1,
    keyframe_interval_ms=2000,
    keyframe_interval_max_ms=9000,
    audio_missing=False,
    audio_silent_ms=20,
    video_silent_ms=30,
)


class DiagnoseTests(SynchronousTestCase):
    def found(self, **numbers: object) -> dict[FindingKind, str]:
        """What is found in a publish that was well at the last look, and now has these numbers."""
        return {each.kind: each.advice for each in diagnose(replace(WELL, **numbers), WELL)}

    def test_well(self) -> None:
        """A publish that goes well has no findings, whatever was wrong earlier."""
        self.assertEqual((), diagnose(WELL, WELL))

    def test_each(self) -> None:
        """Every kind of finding has its numbers, and comes alone."""
        cases = {
            FindingKind.LONG_KEYFRAME_INTERVAL: ({"keyframe_interval_ms": 8300}, "8.3 s apart"),
            FindingKind.SKEW: ({"skew_ms": -700}, "700 ms behind video"),
            FindingKind.SKEW_DRIFT: ({"skew_drift_ms": 150}, "150 ms a minute"),
            FindingKind.CLOCK_DRIFT: ({"lead_drift_ms": -60}, "slow by 60 ms"),
            FindingKind.TOO_FAST: ({"lead_ms": 6000, "lead_drift_ms": 20_000}, "6.0 s ahead"),
            FindingKind.UNDERRUN: ({"lead_ms": -3000, "lead_drift_ms": -9000}, "3.0 s behind"),
            FindingKind.JITTER: ({"jitter_ms": 180}, "180 ms"),
            FindingKind.REPAIRED_TIMESTAMPS: ({"repaired_timestamps": 8}, "5 timestamps"),
            FindingKind.DROPPED_FRAMES: ({"dropped_frames": 3}, "1 frames"),
            FindingKind.GAPS: ({"gaps": 2}, "1 gaps"),
            FindingKind.AUDIO_MISSING: ({"audio_missing": True}, "announced"),
            FindingKind.AUDIO_STOPPED: ({"audio_silent_ms": 5000}, "5 s"),
            FindingKind.VIDEO_STOPPED: ({"video_silent_ms": 4000}, "4 s"),
        }
        self.assertEqual(set(FindingKind) - {FindingKind.SLOW_SINK}, set(cases))  # that one is not the encoder's
        for kind, (numbers, words) in cases.items():
            found = self.found(**numbers)
            self.assertEqual([kind], list(found), numbers)
            self.assertIn(words, found[kind])

    def test_first_look(self) -> None:
        """At the first look all that was counted is new."""
        kinds = {each.kind for each in diagnose(WELL, None)}
        self.assertEqual({FindingKind.REPAIRED_TIMESTAMPS, FindingKind.DROPPED_FRAMES, FindingKind.GAPS}, kinds)
