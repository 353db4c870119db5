"""Each thing that can be wrong with a publish is reported, with its numbers, when it is and only then."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.health import FindingKind, diagnose, diagnose_tracks
from rapidrtmp.testing.frames import make_audio_track, make_video_track
from rapidrtmp.timeline.health import PublishHealth

WELL = PublishHealth(
    lead_ms=40,
    lead_drift_ms=2,
    clock_drift_ms=2,
    skew_ms=-21,
    skew_drift_ms=0,
    jitter_ms=6,
    repaired_timestamps=3,
    dropped_frames=2,
    gaps=1,
    keyframe_interval_ms=2000,
    keyframe_interval_max_ms=9000,
    since_keyframe_ms=1500,
    keyframe_waits=0,
    audio_missing=False,
    video_missing=False,
    audio_silent_ms=20,
    video_silent_ms=30,
)


class DiagnoseTests(SynchronousTestCase):
    def found(self, **numbers: object) -> dict[FindingKind, str]:
        """What is found in a publish that was well at the last look, and now has these numbers."""
        return {each.kind: each.advice for each in diagnose(replace(WELL, **numbers), WELL)}

    def test_good_publish_has_no_findings(self) -> None:
        """A publish that goes well has no findings, whatever was wrong earlier."""
        self.assertEqual((), diagnose(WELL, WELL))

    def test_each_finding_comes_alone(self) -> None:
        """Every kind of finding has its numbers, and comes alone."""
        cases = {
            FindingKind.LONG_KEYFRAME_INTERVAL: ({"keyframe_interval_ms": 8300}, "8.3 s apart"),
            FindingKind.OPEN_GOPS: ({"open_gops": 4}, "closed GOPs"),
            FindingKind.SKEW: ({"skew_ms": -700}, "700 ms behind video"),
            FindingKind.SKEW_DRIFT: ({"skew_drift_ms": 150}, "150 ms a minute"),
            FindingKind.CLOCK_DRIFT: ({"clock_drift_ms": -60}, "slow by 60 ms"),
            FindingKind.TOO_FAST: ({"lead_ms": 6000, "lead_drift_ms": 20_000}, "6.0 s ahead"),
            FindingKind.UNDERRUN: ({"lead_ms": -3000, "lead_drift_ms": -9000}, "3.0 s behind"),
            FindingKind.JITTER: ({"jitter_ms": 180}, "180 ms"),
            FindingKind.REPAIRED_TIMESTAMPS: ({"repaired_timestamps": 8}, "5 timestamps"),
            FindingKind.DROPPED_FRAMES: ({"dropped_frames": 3}, "1 frames"),
            FindingKind.GAPS: ({"gaps": 2}, "1 gaps"),
            FindingKind.AUDIO_MISSING: ({"audio_missing": True}, "announced"),
            FindingKind.VIDEO_MISSING: ({"video_missing": True}, "announced"),
            FindingKind.AUDIO_STOPPED: ({"audio_silent_ms": 5000}, "5 s"),
            FindingKind.VIDEO_STOPPED: ({"video_silent_ms": 4000}, "4 s"),
        }
        # these are found by other things than numbers
        others = {FindingKind.RELAY, FindingKind.SLOW_SINK, FindingKind.UNPLAYABLE_CODEC, FindingKind.UNSUPPORTED_CODEC}
        others |= {FindingKind.TRACK_LEFT_OUT, FindingKind.OVERLOADED}
        self.assertEqual(set(FindingKind) - others, set(cases))
        for kind, (numbers, words) in cases.items():
            found = self.found(**numbers)
            self.assertEqual([kind], list(found), numbers)
            self.assertIn(words, found[kind])

    def test_missing_keyframes_are_found(self) -> None:
        """A keyframe interval without an end is the longest of all: viewers cannot join."""
        words = "Viewers cannot join: the encoder sends no keyframes"
        for numbers in (
            {"keyframe_interval_ms": 0, "since_keyframe_ms": 12_000},
            {"keyframe_interval_ms": 4000, "since_keyframe_ms": 16_000},
            {"video_missing": True, "keyframe_waits": 30, "dropped_frames": 32},
        ):
            found = self.found(**numbers)
            self.assertIn(words, found[FindingKind.LONG_KEYFRAME_INTERVAL])
            self.assertNotIn(FindingKind.VIDEO_MISSING, found)
        self.assertNotIn(words, self.found(since_keyframe_ms=6000)[FindingKind.LONG_KEYFRAME_INTERVAL])

    def test_unreadable_video_is_not_missing(self) -> None:
        """Video of which nothing can be read is distinguished from video that is not sent."""
        found = self.found(video_missing=True, dropped_frames=90)
        self.assertIn("no picture of it can be read", found[FindingKind.VIDEO_MISSING])

    def test_unplayable_codecs_are_reported(self) -> None:
        """What browsers refuse is reported, with what to set; what they play is not."""
        track, sound = make_video_track(), make_audio_track()
        self.assertEqual((), diagnose_tracks([track, sound]))
        for codec_string, name in (("mp4a.40.1", "AAC Main"), ("mp4a.40.4", "AAC LTP")):
            refused = replace(sound, config=replace(sound.config, codec_string=codec_string))
            (finding,) = diagnose_tracks([track, refused])
            self.assertEqual(FindingKind.UNPLAYABLE_CODEC, finding.kind)
            self.assertIn(f"refuse {name} ({codec_string}): set the encoder to AAC-LC", finding.advice)
        for codec_string in ("avc1.7a001f", "avc1.f4001f", "avc1.6e0028"):
            refused = replace(track, config=replace(track.config, codec_string=codec_string))
            self.assertIn("yuv420p", diagnose_tracks([refused])[0].advice)
        for codec_string in ("mp4a.40.2", "mp4a.40.5", "mp4a.40.29", "mp4a.40.42"):
            self.assertEqual(
                (), diagnose_tracks([replace(sound, config=replace(sound.config, codec_string=codec_string))])
            )

    def test_first_look_sees_all(self) -> None:
        """At the first look all that was counted is new."""
        kinds = {each.kind for each in diagnose(WELL, None)}
        self.assertEqual({FindingKind.REPAIRED_TIMESTAMPS, FindingKind.DROPPED_FRAMES, FindingKind.GAPS}, kinds)
