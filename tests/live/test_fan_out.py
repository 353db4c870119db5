"""How a stream's sinks are called, and what becomes of one that is slow."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rapidrtmp.cmaf import packager
from rapidrtmp.interfaces import ISink
from rapidrtmp.live import fan_out
from rapidrtmp.live.fan_out import FanOut, SinkState
from rapidrtmp.live.health import FindingKind, diagnose_sinks
from rapidrtmp.media import Frame
from rapidrtmp.names import StreamName
from rapidrtmp.testing.frames import make_video_track, video_frames
from rapidrtmp.testing.sinks import FrameCollector
from tests.cmaf.test_packager import PartCollector, follower, leader

VIDEO = make_video_track()


@implementer(ISink)
class WorkingSink(FrameCollector):
    """Takes so many milliseconds of a clock for each frame."""

    def __init__(self, clock: list[float], ms: float) -> None:
        super().__init__()
        self.clock, self.ms = clock, ms

    def frame_received(self, frame: Frame) -> None:
        super().frame_received(frame)
        self.clock[0] += self.ms / 1000


class WorkingPartSink(PartCollector):
    """Takes so many milliseconds of a clock for each part."""

    clock: list[float]
    ms = 0.0

    def part_cut(self, part: Any) -> None:
        super().part_cut(part)
        self.clock[0] += self.ms / 1000


class SlowSinkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = [0.0]
        self.patch(fan_out, "perf_counter", lambda: self.clock[0])
        self.failed: list[str] = []
        self.measured: dict[str, float] = {}
        self.fan_out = FanOut(
            StreamName("live", "k"), limit_ms=20, failed=self.failed.append, measured=self._note_seconds
        )

    def _note_seconds(self, name: str, seconds: float) -> None:
        self.measured[name] = self.measured.get(name, 0.0) + seconds

    def play(self, seconds: float) -> None:
        self.fan_out.tracks_changed((VIDEO,))
        for frame in video_frames(VIDEO, seconds, gop=30):
            self.fan_out.frame_received(frame)

    def attach(self, name: str, ms: float) -> WorkingSink:
        sink = WorkingSink(self.clock, ms)
        self.fan_out.attach(name, sink, (), (), live=True)
        return sink

    def states(self) -> dict[str, SinkState]:
        return {load.name: load.state for load in self.fan_out.loads}

    def test_quick_sink_is_measured(self) -> None:
        """What each sink takes is known to within the sampling, and nothing is wrong with a quick one."""
        self.attach("quick", 1)
        self.attach("quicker", 0.25)
        self.play(10)
        costs = {load.name: round(load.ms_per_frame, 3) for load in self.fan_out.loads}
        self.assertEqual({"quick": 1.0, "quicker": 0.25}, costs)
        self.assertEqual({SinkState.RUNNING}, set(self.states().values()))
        self.assertTrue(0.25 < self.measured["quick"] <= 0.3, self.measured)

    def test_slow_sink_is_named(self) -> None:
        """A sink beyond 5 ms a frame is named, in a finding as well, and not the one beside it; it stays attached."""
        slow = self.attach("slow", 8)
        self.attach("quick", 0.1)
        self.play(6)
        self.assertEqual({"slow": SinkState.SLOW, "quick": SinkState.RUNNING}, self.states())
        (finding,) = diagnose_sinks(self.fan_out.slow)
        self.assertEqual(FindingKind.SLOW_SINK, finding.kind)
        self.assertIn("slow (8 ms per frame)", finding.advice)
        self.assertEqual((180, []), (len(slow.frames), self.failed))
        slow.ms = 0.1
        self.play(3)
        self.assertEqual({SinkState.RUNNING}, set(self.states().values()))
        self.assertEqual((), diagnose_sinks(self.fan_out.slow))

    def test_too_slow_sink_is_detached(self) -> None:
        """A sink beyond the limit for three seconds is detached, counted and shown as such; the other continues."""
        slow, quick = self.attach("slow", 25), self.attach("quick", 0.1)
        self.play(8)
        self.assertEqual((["slow"], ("quick",)), (self.failed, self.fan_out.names))
        self.assertEqual({"slow": SinkState.DETACHED, "quick": SinkState.RUNNING}, self.states())
        self.assertTrue(90 <= len(slow.frames) <= 150, len(slow.frames))
        self.assertEqual(240, len(quick.frames))

    def test_one_slow_call_detaches_nothing(self) -> None:
        """One long call detaches nothing."""
        sink = self.attach("sink", 0.1)
        self.play(2)
        sink.ms = 10_000
        self.fan_out.frame_received(video_frames(VIDEO, 0.03, start=2 * 90_000)[0])
        sink.ms = 0.1
        self.play(6)
        self.assertEqual([], self.failed)

    def test_no_limit_detaches_nothing(self) -> None:
        """With a limit of 0 nothing is detached for being slow."""
        self.fan_out = FanOut(StreamName("live", "k"), failed=self.failed.append)
        self.attach("slow", 100)
        self.play(8)
        self.assertEqual(([], {"slow": SinkState.SLOW}), (self.failed, self.states()))

    def test_part_sinks_are_measured_apart(self) -> None:
        """Of sinks that take parts each is measured by itself."""
        self.patch(packager, "perf_counter", lambda: self.clock[0])
        slow = WorkingPartSink(leader().cutting, leads=True)
        slow.clock, slow.ms = self.clock, 70.0  # ten frames a part
        quick = follower()
        self.fan_out.attach("hls", slow, (), (), live=True)
        self.fan_out.attach("record", quick, (), (), live=True)
        self.play(12)
        self.assertEqual({"hls": SinkState.SLOW, "record": SinkState.RUNNING}, self.states())
        self.assertEqual(slow.parts, quick.parts)

    def test_failing_part_sink(self) -> None:
        """One that raises is detached by its name, and the other continues."""
        bad, good = leader(), follower()
        bad.fails_in = "part_cut"
        self.fan_out.attach("hls", bad, (), (), live=True)
        self.fan_out.attach("record", good, (), (), live=True)
        self.play(5)
        self.assertEqual((["hls"], ("record",)), (self.failed, self.fan_out.names))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertTrue(good.parts)
        self.assertIsNone(self.fan_out.detach("record"))
        self.assertEqual("finish", good.names[-1])
