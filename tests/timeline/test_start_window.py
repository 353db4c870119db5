from __future__ import annotations

from fractions import Fraction

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.media import MediaKind
from rapidrtmp.testing.frames import make_audio_track, make_video_track
from rapidrtmp.timeline.events import Coded
from rapidrtmp.timeline.frame_rate import FrameStep
from rapidrtmp.timeline.policy import TimelinePolicy
from rapidrtmp.timeline.start_window import StartWindow, video_ticks

VIDEO, AUDIO = MediaKind.VIDEO, MediaKind.AUDIO
BOTH = (VIDEO, AUDIO)
TRACKS = {VIDEO: make_video_track(), AUDIO: make_audio_track()}


def coded(
    kind: MediaKind, time_ms: int, *, keyframe: bool = True, composition_ms: int = 0, data: bytes = b"x"
) -> Coded:
    return Coded(TRACKS[kind], time_ms * 1_000_000, composition_ms, keyframe, 0, data, 0)


class StartWindowTests(SynchronousTestCase):
    def make(self, policy: TimelinePolicy = TimelinePolicy()) -> StartWindow:  # noqa: B008  it is frozen
        window = StartWindow(policy, kinds=BOTH)
        window.opened(0)
        return window

    def test_ticks_to_the_nearest(self) -> None:
        """Nanoseconds become ticks to the nearest one, before zero too."""
        self.assertEqual([0, 1, 90, -90, 1500], [video_ticks(ns) for ns in (0, 5_556, 10**6, -(10**6), 16_666_667)])

    def test_nothing_held_waits_for_ever(self) -> None:
        """A window with nothing in it waits for ever."""
        self.assertFalse(self.make().is_over(1_000_000, ()))

    def test_video_waits_for_a_keyframe(self) -> None:
        """Video before the first keyframe is not held, but its time passes."""
        window = self.make()
        self.assertFalse(window.hold(coded(VIDEO, 0, keyframe=False), None))
        self.assertTrue(window.hold(coded(AUDIO, 1_990), None))
        self.assertFalse(window.is_over(0, ()))
        self.assertFalse(window.hold(coded(VIDEO, 2_000, keyframe=False), None))
        self.assertTrue(window.is_over(0, ()))
        self.assertEqual({TRACKS[AUDIO].id}, window.ready)

    def test_limits_of_waiting_frames(self) -> None:
        """However long a track is waited for, memory is bounded, in bytes and in frames."""
        window = self.make(TimelinePolicy(start_bytes=100))
        window.hold(coded(VIDEO, 0, data=bytes(100)), None)
        self.assertFalse(window.is_over(0, BOTH))
        window.hold(coded(VIDEO, 0, data=b"!"), None)
        self.assertTrue(window.is_over(0, BOTH))
        window = self.make(TimelinePolicy(start_frames=2))
        window.hold(coded(AUDIO, 0), None)
        self.assertFalse(window.is_over(0, BOTH))
        window.hold(coded(AUDIO, 0), None)
        self.assertTrue(window.is_over(0, BOTH))

    def test_forget_one_track(self) -> None:
        """Forgetting one track keeps the other and the time that has passed."""
        window = self.make()
        for frame in (coded(VIDEO, 0), coded(AUDIO, 10), coded(VIDEO, 40, keyframe=False)):
            window.hold(frame, None)
        self.assertEqual(2, window.forget(TRACKS[VIDEO].id))
        self.assertEqual({TRACKS[AUDIO].id}, window.ready)
        self.assertFalse(window.hold(coded(VIDEO, 2_000, keyframe=False), None))
        self.assertTrue(window.is_over(0, ()))

    def test_forget_everything_begins_anew(self) -> None:
        """Forgetting everything begins the media's clock anew."""
        window = self.make()
        window.hold(coded(AUDIO, 0), None)
        self.assertEqual(1, window.forget())
        window.hold(coded(AUDIO, 1_000_000), None)
        self.assertFalse(window.is_over(0, ()))

    def test_order_by_time_and_track(self) -> None:
        """Frames come out by time, each track's in the order they came, but the keyframe first of all."""
        window = self.make()
        frames = [coded(VIDEO, 0), coded(VIDEO, 40), coded(VIDEO, 30), *(coded(AUDIO, time) for time in (-5, 15, 35))]
        for frame in frames:
            window.hold(frame, None)
        start = window.take(None)
        self.assertEqual([0, -5, 15, 35, 40, 30], [frame.time_ns // 1_000_000 for frame in start.frames])
        self.assertEqual(-5_000_000, start.origin_ns)

    def test_origin_of_negative_composition(self) -> None:
        """The origin is before the first presentation, rounding included."""
        window = self.make()
        window.hold(coded(VIDEO, 100, composition_ms=-33), None)
        self.assertEqual(66_000_000, window.take(None).origin_ns)

    def test_leading_pictures_are_dropped(self) -> None:
        """What is shown before the keyframe to start at needs pictures that are not there: it is dropped."""
        window = self.make()
        times = (
            (0, True, 80),
            (40, False, 0),
            (80, False, 0),
            (120, False, 80),
            (160, False, 0),
        )  # decoded, shown later
        for time_ms, keyframe, composition_ms in times:
            window.hold(coded(VIDEO, time_ms, keyframe=keyframe, composition_ms=composition_ms), None)
        start = window.take(None)
        self.assertEqual([40], [each.time_ns // 1_000_000 for each in start.dropped])
        self.assertEqual([0, 80, 120, 160], [each.time_ns // 1_000_000 for each in start.frames])

    def test_waits_for_what_follows(self) -> None:
        """A known frame rate does not end the window before a keyframe's leading pictures have passed."""
        window = StartWindow(TimelinePolicy(), tracks=[TRACKS[VIDEO]], steps={1: FrameStep.of_rate(Fraction(25))})
        over = []
        for time_ms, composition_ms in ((0, 80), (40, 0), (80, -10), (120, 80)):
            frame = coded(VIDEO, time_ms, keyframe=not time_ms, composition_ms=composition_ms)
            window.hold(frame, None)
            over.append(window.is_over(0, ()))
        self.assertEqual([False, False, False, True], over)
        window = StartWindow(TimelinePolicy(), tracks=[TRACKS[VIDEO]], steps={1: FrameStep.of_rate(Fraction(25))})
        window.hold(coded(VIDEO, 0), None)
        self.assertTrue(window.is_over(0, ()), "without a delay nothing can be shown before")
