"""A live stream: frames go to every sink, and a sink that fails takes no other with it."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.fan_out import FanOut
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.live.stream import GopCache, LiveStream, StreamState
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.media import Frame, Track
from rapidrtmp.names import StreamName
from rapidrtmp.testing.frames import (
    FrameSource,
    audio_frames,
    interleaved,
    make_audio_track,
    make_video_track,
    video_frames,
)
from rapidrtmp.testing.sinks import STARTED_AT_MS, FrameCollector

VIDEO, AUDIO = make_video_track(), make_audio_track()


class FailingSink(FrameCollector):
    """Raises in one method; ``error`` says what."""

    def __init__(self, fails_in: str, error: Exception | None = None) -> None:
        super().__init__()
        self._fails_in = fails_in
        self._error = error or ZeroDivisionError("on purpose")

    def _fail(self, what: str) -> None:
        if what == self._fails_in:
            raise self._error

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        super().tracks_changed(tracks)
        self._fail("tracks_changed")

    def frame_received(self, frame: Frame) -> None:
        super().frame_received(frame)
        self._fail("frame_received")

    def discontinuity(self) -> None:
        self._fail("discontinuity")

    def interrupted(self) -> None:
        self._fail("interrupted")

    def finish(self) -> None:
        super().finish()
        self._fail("finish")


class SlowSink(FrameCollector):
    """Takes its time to finish."""

    def __init__(self) -> None:
        super().__init__()
        self.done: Deferred[None] = Deferred()

    def finish(self) -> Deferred[None]:  # type: ignore[override]
        super().finish()
        return self.done


class StreamCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.failed: list[str] = []
        name = StreamName("live", "k")
        self.stream = LiveStream(
            name,
            Shelf(),
            Viewers(b"salt"),
            started_at_ms=STARTED_AT_MS,
            gop_cache_bytes=100_000,
            max_bytes=1_000_000,
            fan_out=FanOut(name, failed=self.failed.append),
        )

    def publish(self, frames: list[Frame], *tracks: Track) -> None:
        self.stream.tracks_changed(tracks)
        for frame in frames:
            self.stream.frame_received(frame)


class MemoryTests(StreamCase):
    def test_bound_on_kept_memory(self) -> None:
        """From half of what a stream may keep on its shelf is crowded, and above all of it the stream is too large."""
        for size, crowded, too_large in ((400_000, False, False), (200_000, True, False), (500_000, True, True)):
            self.stream.shelf.put(f"segment_{size}.m4s", [bytes(size)], "video/mp4")
            self.assertEqual(too_large, self.stream.is_too_large())
            self.assertEqual(crowded, self.stream.shelf.is_crowded)
        for name in ("segment_500000.m4s", "segment_200000.m4s"):
            self.stream.shelf.withdraw(name)
        self.assertFalse(self.stream.is_too_large())
        self.assertFalse(self.stream.shelf.is_crowded)


class FanOutTests(StreamCase):
    def test_order_of_all_calls(self) -> None:
        """Every sink gets every call in order, from the tracks to the end."""
        sinks = [FrameCollector(), FrameCollector()]
        for number, sink in enumerate(sinks):
            self.stream.attach(f"s{number}", sink)
        self.assertEqual(StreamState.STARTING, self.stream.state)
        frames = FrameSource(VIDEO, AUDIO, gop=10).take()
        self.publish(frames, VIDEO, AUDIO)
        self.assertEqual(StreamState.LIVE, self.stream.state)
        self.stream.interrupted()
        self.assertEqual(StreamState.INTERRUPTED, self.stream.state)
        self.stream.discontinuity("test")
        self.stream.tracks_changed((VIDEO,))
        self.successResultOf(self.stream.finish())
        self.assertEqual(StreamState.ENDED, self.stream.state)
        told = ["tracks_changed", "frame_received", "interrupted", "discontinuity", "tracks_changed", "finish"]
        for sink in sinks:
            self.assertEqual((told, frames), (sink.call_names, sink.frames))
        self.assertEqual(1, self.stream.discontinuities)

    def test_failing_sinks_are_taken_off(self) -> None:
        """A sink that raises is taken off, counted and logged once, in whatever method; the other gets everything."""
        for what in ("tracks_changed", "frame_received", "discontinuity", "interrupted", "finish"):
            self.setUp()
            good, bad = FrameCollector(), FailingSink(what)
            self.stream.attach("bad", bad)
            self.stream.attach("good", good)
            frames = video_frames(VIDEO, 0.5)
            self.publish(frames, VIDEO)
            self.stream.discontinuity("test")
            self.stream.interrupted()
            self.successResultOf(self.stream.finish())
            self.assertEqual(["bad"], self.failed)
            self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)), what)
            self.assertEqual(frames, good.frames)
            self.assertEqual("finish", good.call_names[-1])

    def test_sink_that_raises_a_cancellation(self) -> None:
        """Nothing of ours is cancelled in a sink: a ``CancelledError`` from one is a failure like any other."""
        for what in ("tracks_changed", "frame_received"):
            self.setUp()
            self.stream.attach("bad", FailingSink(what, CancelledError()))
            self.publish(video_frames(VIDEO, 0.1), VIDEO)
            self.assertEqual(((), ["bad"]), (self.stream.fan_out.names, self.failed))
            self.flushLoggedErrors(CancelledError)

    def test_late_sink_starts_at_keyframe(self) -> None:
        """A sink that comes late gets the tracks and the frames since the last keyframe, then the live ones."""
        frames = interleaved(video_frames(VIDEO, 1.5, gop=30), audio_frames(AUDIO, 1.5))
        self.publish(frames[:-5], VIDEO, AUDIO)
        late = FrameCollector()
        self.stream.attach("late", late)
        for frame in frames[-5:]:
            self.stream.frame_received(frame)
        key = max(index for index, frame in enumerate(frames) if frame.keyframe and frame.track is VIDEO)
        self.assertEqual(frames[key:], late.frames)
        self.assertEqual(["tracks_changed", "frame_received"], late.call_names)

    def test_late_to_an_interruption(self) -> None:
        """A sink that comes while the publisher is away learns that as well."""
        self.publish(video_frames(VIDEO, 0.5), VIDEO)
        self.stream.interrupted()
        late = FrameCollector()
        self.stream.attach("late", late)
        self.assertEqual(["tracks_changed", "frame_received", "interrupted"], late.call_names)

    def test_late_and_failing(self) -> None:
        """A sink that fails while it catches up fails once, and gets no more calls."""
        self.publish(video_frames(VIDEO, 0.5), VIDEO)
        bad = FailingSink("tracks_changed")
        self.stream.attach("bad", bad)
        self.assertEqual((["bad"], []), (self.failed, bad.frames))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_detached_sink_is_finished(self) -> None:
        """A sink can be detached: it is finished, and gets no more calls."""
        sink, slow = FrameCollector(), SlowSink()
        self.stream.attach("s", sink)
        self.stream.attach("slow", slow)
        self.assertEqual(("s", "slow"), self.stream.fan_out.names)
        self.assertIsNone(self.stream.detach("s"))
        self.assertIsNone(self.stream.detach("unknown"))
        self.publish(video_frames(VIDEO, 0.1), VIDEO)
        self.assertEqual(["finish"], sink.call_names)
        done = self.stream.detach("slow")
        assert done is not None
        slow.done.callback(None)
        self.successResultOf(done)

    def test_slow_end_waits_for_sinks(self) -> None:
        """The end is reached when every sink has finished, well or badly."""
        one, other = SlowSink(), SlowSink()
        self.stream.attach("one", one)
        self.stream.attach("other", other)
        done = self.stream.finish()
        one.done.callback(None)
        self.assertNoResult(done)
        other.done.errback(ZeroDivisionError("on purpose"))
        self.successResultOf(done)
        self.assertEqual(["other"], self.failed)
        self.flushLoggedErrors(ZeroDivisionError)


class CacheTests(SynchronousTestCase):
    def cache(self, max_bytes: int, *tracks: Track, past_ms: int = 0) -> GopCache:
        cache = GopCache(max_bytes, past_ms)
        cache.start(tracks)
        return cache

    def test_gop_since_the_keyframe(self) -> None:
        """It holds everything since the last keyframe; nothing before the first."""
        cache = self.cache(1_000_000, VIDEO)
        frames = video_frames(VIDEO, 1, gop=10)
        for frame in frames[3:17]:
            cache.add(frame)
        self.assertEqual(frames[10:17], cache.frames)

    def test_bound_of_the_cache(self) -> None:
        """A GOP that outgrows the bound is let go, until the next keyframe."""
        cache = self.cache(20_000, VIDEO)
        frames = video_frames(VIDEO, 2, gop=30, size=1_000)
        for frame in frames[:29]:
            cache.add(frame)
        self.assertEqual([], cache.frames)
        for frame in frames[30:33]:
            cache.add(frame)
        self.assertEqual(frames[30:33], cache.frames)

    def test_audio_alone_needs_one_frame(self) -> None:
        """Of audio alone the newest frame is enough; beside video it does not begin a GOP."""
        cache = self.cache(20_000, AUDIO)
        frames = audio_frames(AUDIO, 0.2)
        for frame in frames:
            cache.add(frame)
        self.assertEqual(frames[-1:], cache.frames)
        cache.start((VIDEO, AUDIO))
        cache.add(frames[0])
        self.assertEqual([], cache.frames)

    def test_other_video_has_its_keyframe(self) -> None:
        """Other video begins with a keyframe of its own, also where that came before the leading track's."""
        other = make_video_track(640, 360, id=3)
        cache = self.cache(1_000_000, VIDEO, AUDIO, other)
        leading, rung = video_frames(VIDEO, 1, gop=10), video_frames(other, 1, gop=10)
        for pair in zip(leading[:8], rung[2:10], strict=True):
            for frame in pair:
                cache.add(frame)
        later = [rung[10], *audio_frames(AUDIO, 0.02), leading[8], rung[11], leading[10], rung[12]]
        for frame in later:
            cache.add(frame)
        self.assertEqual([rung[10], rung[11], leading[10], rung[12]], cache.frames)

    def test_short_gop_has_a_past(self) -> None:
        """GOPs before are kept as long as those since are shorter than is wanted, within the same bound of bytes."""
        cache = self.cache(200_000, VIDEO, AUDIO, past_ms=1_000)
        frames = video_frames(VIDEO, 4, gop=12, size=1_000)  # GOPs of 0.4 s, 19 kB
        for number, frame in enumerate(frames, 1):
            cache.add(frame)
            begin = max((at for at in range(0, number, 12) if number - 1 - at >= 30), default=0)
            self.assertEqual(frames[begin:number], cache.frames_with_past)
            self.assertEqual(frames[(number - 1) // 12 * 12 : number], cache.frames)
            self.assertEqual(sum(len(each.data) for each in cache.frames_with_past), cache.size)
        cache.clear()
        self.assertEqual(([], 0), (cache.frames_with_past, cache.size))

    def test_past_is_within_the_bound(self) -> None:
        """The past goes before the newest GOP would be too large with it."""
        cache = self.cache(30_000, VIDEO, past_ms=10_000)
        for frame in video_frames(VIDEO, 4, gop=12, size=1_000):
            cache.add(frame)
            self.assertLessEqual(cache.size, 30_000)
        self.assertEqual(12, len(cache.frames))

    def test_past_of_other_video_is_there_once(self) -> None:
        """A frame that the newest GOP shares with the past is there once, and where it belongs."""
        other = make_video_track(640, 360, id=3)
        cache = self.cache(1_000_000, VIDEO, other, past_ms=5_000)
        added = []
        for pair in zip(video_frames(VIDEO, 2, gop=10), video_frames(other, 2, gop=15), strict=True):
            for frame in pair:
                cache.add(frame)
                added.append(frame)
        self.assertEqual(added, cache.frames_with_past)

    def test_audio_alone_has_no_past(self) -> None:
        """Audio can start anywhere, so nothing before is kept."""
        cache = self.cache(20_000, AUDIO, past_ms=1_000)
        for frame in audio_frames(AUDIO, 1):
            cache.add(frame)
        self.assertEqual(1, len(cache.frames_with_past))


class TimeTests(StreamCase):
    def test_end_of_the_newest_frames(self) -> None:
        """Its end is that of its newest frames, of whatever track, as shown."""
        self.assertEqual(0, self.stream.end_ms)
        self.publish(interleaved(video_frames(VIDEO, 2, b_frames=1), audio_frames(AUDIO, 1)), VIDEO, AUDIO)
        last = max(video_frames(VIDEO, 2, b_frames=1), key=lambda frame: frame.dts)
        end = last.dts + max(last.composition_offset, 0) + last.duration
        self.assertEqual(-(-end // 90), self.stream.end_ms)

    def test_wall_clock_dates_every_moment(self) -> None:
        """Once a frame has arrived, every moment has its date; until then, by when the stream began."""
        self.assertEqual(STARTED_AT_MS + 1_000, self.stream.utc_ms(90_000, 90_000))
        (frame,) = video_frames(VIDEO, 1 / 30)
        self.publish([replace(frame, arrived_ms=STARTED_AT_MS + 10_000)], VIDEO)
        self.assertEqual(STARTED_AT_MS + 11_000, self.stream.utc_ms(48_000, 48_000))

    def test_anchor_at_a_break(self) -> None:
        """What sinks write out at a discontinuity is still dated by the clock it came with."""
        dates: list[int] = []

        class Dating(FrameCollector):
            def discontinuity(sink) -> None:
                dates.append(self.stream.utc_ms(90_000, 90_000))

        self.stream.attach("dating", Dating())
        (frame,) = video_frames(VIDEO, 1 / 30)
        self.publish([replace(frame, arrived_ms=5_000)], VIDEO)
        self.stream.discontinuity("test")
        self.assertEqual([6_000], dates)
        self.assertIsNone(self.stream.wall_clock.utc_ms(0))
