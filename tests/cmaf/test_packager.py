"""The packager: frames are cut once for all sinks that take parts."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from rapidrtmp.cmaf.packager import Packager
from rapidrtmp.interfaces import Constants, Cutting, IPartSink, IResumableSink, ISink, Part
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track, video_frames
from rapidrtmp.testing.sinks import feed

VIDEO, AUDIO = make_video_track(), make_audio_track()


@implementer(IPartSink)
class PartCollector:
    """Remembers every call: the name of the method, and its argument if it has one."""

    def __init__(self, cutting: Cutting, *, leads: bool = False, constants: Constants | None = None) -> None:
        self.cutting, self.leads, self.constants = cutting, leads, constants
        self.calls: list[tuple[Any, ...]] = []
        self.fails_in = ""
        self.finishing: Deferred[None] | None = None

    def _note(self, name: str, *arguments: object) -> None:
        self.calls.append((name, *arguments))
        if name == self.fails_in:
            raise ZeroDivisionError(name)

    def tracks_changed(self, tracks: Any) -> None:
        self._note("tracks_changed", tracks)

    def constants_chosen(self, constants: Constants) -> None:
        self._note("constants_chosen", constants)

    def frame_rate_measured(self, frame_rate: Any) -> None:
        self._note("frame_rate_measured", frame_rate)

    def part_cut(self, part: Part) -> None:
        self._note("part_cut", part)

    def segment_ended(self) -> None:
        self._note("segment_ended")

    def segment_continued(self) -> None:
        self._note("segment_continued")

    def flushed(self) -> None:
        self._note("flushed")

    def discontinuity(self) -> None:
        self._note("discontinuity")

    def interrupted(self) -> None:
        self._note("interrupted")

    def finish(self) -> Deferred[None] | None:
        self._note("finish")
        return self.finishing

    @property
    def parts(self) -> list[Part]:
        return [call[1] for call in self.calls if call[0] == "part_cut"]

    @property
    def names(self) -> list[str]:
        """The calls in order, each run of equal ones as one, without those that say that a moment is over."""
        names = [call[0] for call in self.calls if call[0] not in ("flushed", "frame_rate_measured")]
        return [name for index, name in enumerate(names) if not index or names[index - 1] != name]

    def chosen(self) -> Constants:
        return next(call[1] for call in self.calls if call[0] == "constants_chosen")


def leader(**cutting: int) -> PartCollector:
    return PartCollector(Cutting(**cutting), leads=True)


def follower(**cutting: int) -> PartCollector:
    wanted = Cutting(**{"segment_ms": 6_000, "part_ms": 1_000, **cutting})
    return PartCollector(wanted, constants=Constants(12, wanted.part_ms))


class PackagerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.source = FrameSource(VIDEO, AUDIO, gop=60)

    def play(self, packager: Packager, gops: int = 3) -> None:
        if self.source is not None:
            packager.tracks_changed(self.source.tracks)
        feed(packager, self.source.take(gops))

    def test_interfaces_of_the_packager(self) -> None:
        """It is an ISink, and what it feeds are part sinks."""
        verifyObject(ISink, Packager())
        verifyObject(IPartSink, leader())

    def test_shared_parts_are_the_same(self) -> None:
        """Two sinks get the very same parts, cut as the one that leads wants, whichever came first."""
        for order in (slice(None), slice(None, None, -1)):
            self.setUp()
            leads, follows = leader(segment_ms=2_000, part_ms=333), follower()
            self.play(Packager(*[leads, follows][order]))
            self.assertEqual(334, leads.chosen().part_target_ms)
            self.assertEqual(leads.parts, follows.parts)
            self.assertTrue(all(ours is theirs for ours, theirs in zip(leads.parts, follows.parts, strict=True)))

    def test_order_of_calls(self) -> None:
        """Tracks, constants, parts with the end of each segment behind them, and the end."""
        sink = leader(part_ms=0)
        packager = Packager(sink)
        self.play(packager)
        packager.discontinuity()
        packager.interrupted()
        self.successResultOf(packager.finish())
        expected = ["tracks_changed", "constants_chosen", *["part_cut", "segment_ended"] * 3]
        self.assertEqual([*expected, "discontinuity", "interrupted", "finish"], sink.names)

    def test_parts_for_a_follower(self) -> None:
        """Where the sink that leads wants no parts, there are those that another one wants."""
        leads, follows = leader(segment_ms=2_000, part_ms=0), follower(part_ms=500)
        self.play(Packager(leads, follows))
        self.assertEqual(500, leads.chosen().part_target_ms)
        self.assertEqual({45_000}, {part.duration for part in follows.parts})

    def test_lone_follower_cuts_itself(self) -> None:
        """A follower that is alone has its own cutting, and the bounds it promised need no first GOP."""
        follows = follower()
        packager = Packager(follows)
        packager.tracks_changed((VIDEO,))
        feed(packager, video_frames(VIDEO, 1.2, gop=60))
        self.assertEqual((Constants(12, 1_000), 1), (follows.chosen(), len(follows.parts)))

    def test_late_sink_gets_the_open_segment(self) -> None:
        """A sink that comes late gets the parts of the open segment, then what the others get."""
        first, late = leader(), follower()
        packager = Packager(first)
        packager.tracks_changed((VIDEO,))
        frames = video_frames(VIDEO, 7, gop=60)
        feed(packager, frames[:160])
        open_parts = [part for part in first.parts if part.start >= 360_000]
        self.assertTrue(open_parts)
        packager.attach(late)
        self.assertEqual(["tracks_changed", "constants_chosen", "part_cut"], late.names)
        self.assertEqual(open_parts, late.parts)
        feed(packager, frames[160:])
        self.assertEqual(first.parts[-len(late.parts) :], late.parts)

    def test_late_where_nothing_can_start(self) -> None:
        """Where the open segment does not begin with a keyframe, a late sink waits for one that does."""
        first, late = leader(), follower()
        packager = Packager(first)
        packager.tracks_changed((VIDEO,))
        frames = video_frames(VIDEO, 40, gop=1_000)
        feed(packager, frames[:330])
        packager.attach(late)
        feed(packager, frames[330:900])
        packager.discontinuity()
        self.assertEqual(["tracks_changed", "constants_chosen"], late.names)
        feed(packager, frames[1_000:])
        packager.finish()
        self.assertTrue(late.parts[0].on_keyframe and late.parts[0].starts_segment)

    def test_failing_sink_gets_no_more(self) -> None:
        """A sink that raises gets no more calls; the other one gets everything."""
        for call in ("tracks_changed", "constants_chosen", "part_cut", "segment_ended", "flushed", "interrupted"):
            self.setUp()
            failed: list[object] = []
            bad, good = leader(), follower()
            bad.fails_in = call
            packager = Packager(
                bad, good, failed=lambda sink, failure, failed=failed: failed.append((sink, failure.type))
            )
            self.play(packager)
            packager.interrupted()
            self.successResultOf(packager.finish())
            self.assertEqual([(bad, ZeroDivisionError)], failed, call)
            self.assertEqual(1, [name for name, *_ in bad.calls].count(call), call)
            self.assertEqual("finish", good.names[-1])
            self.assertEqual((good,), packager.sinks or (good,))

    def test_suspend_leaves_resumable_sinks(self) -> None:
        """When the server stops, a sink that the next one resumes is suspended, any other finished; both have all."""

        @implementer(IResumableSink)
        class Resumable(PartCollector):
            def suspend(self) -> None:
                self._note("suspend")

        sinks = [Resumable(Cutting(), leads=True), follower()]
        packager = Packager(*sinks)
        self.play(packager)
        packager.interrupted()
        self.successResultOf(packager.suspend())
        self.assertEqual([["interrupted", "suspend"], ["interrupted", "finish"]], [sink.names[-2:] for sink in sinks])
        self.assertEqual(sinks[0].parts, sinks[1].parts)
        self.assertEqual((), packager.sinks)

    def test_finish_waits_for_all_sinks(self) -> None:
        """It has finished when all its sinks have."""
        sink = leader()
        sink.finishing = Deferred()
        done = Packager(sink).finish()
        self.assertNoResult(done)
        sink.finishing.callback(None)
        self.successResultOf(done)

    def test_removed_sink_gets_no_more(self) -> None:
        """A sink that is removed gets no more calls."""
        stays, goes = leader(), follower()
        packager = Packager(stays, goes)
        self.play(packager)
        packager.remove(goes)
        seen = len(goes.calls)
        feed(packager, self.source.take(2))
        packager.finish()
        self.assertEqual(seen, len(goes.calls))
