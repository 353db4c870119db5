"""A stream with many sinks that decode, none of which keeps up: counted, on a clock that stands still meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.reader import read_fragments, read_init_segment
from rapidrtmp.decoding import DecodingSink
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.live.fan_out import FanOut
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.names import StreamName
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.sinks import RecordingMetrics, RecordingWriter, make_sink_context
from tests.decoding.test_sink import FakeProcesses, factory_of
from tests.slow import slow

SINKS, SECONDS = 10, 20


class Everything(DecodingSink):
    def picture(self, image: Any, utc_ms: int) -> None:
        """See pictures."""

    def audio(self, samples: Any, utc_ms: int) -> None:
        """Hear sound."""


class StuckProcesses(FakeProcesses):
    """Processes that read nothing from the first frame on."""

    def spawn(self, *arguments: Any, **options: Any) -> Any:
        super().spawn(*arguments, **options)
        self.all[-1].producer.pauseProducing()


class Stream:
    """A stream of some seconds to HLS, and to so many sinks that decode, on a clock of its own."""

    def __init__(self, sinks: int) -> None:
        self.clock, self.shelf = Clock(), Shelf()
        self.metrics, self.processes = RecordingMetrics(), StuckProcesses()
        context = make_sink_context(
            clock=self.clock, metrics=self.metrics, shelf=self.shelf, storage=RecordingWriter(persistent=False)
        )
        fan_out = FanOut(StreamName("live", "test"))
        fan_out.attach("hls", HlsSinkFactory(window="30").create(context), (), (), live=True)
        for number in range(sinks):
            sink = factory_of(Everything, fps="all").create(replace(context, spawn_process=self.processes.spawn))
            fan_out.attach(f"decoding-{number}", sink, (), (), live=True)
        source = FrameSource(make_video_track(), make_audio_track())
        fan_out.tracks_changed(source.tracks)
        self.frames = source.take(SECONDS // 2)
        for frame in self.frames:
            now_s = (frame.dts + frame.duration) / frame.track.timescale
            self.clock.advance(max(0.0, now_s - self.clock.seconds()))
            fan_out.frame_received(replace(frame, arrived_ms=int(self.clock.seconds() * 1000)))
        fan_out.finish()

    @property
    def delays(self) -> list[float]:
        """From the last frame of each part to its publication."""
        return self.metrics.observed("part_publish_delay_seconds")

    @property
    def published(self) -> int:
        """How many frames there are in all segments."""
        version = self.shelf.find_playlist("index.m3u8")
        assert version is not None
        count = 0
        for segment in parse_media_playlist(version.facts.body).segments:
            assert segment.init is not None
            init, media = self.shelf.find(segment.init.uri), self.shelf.find(segment.uri)
            assert init is not None and media is not None
            fragments = read_fragments(media.body, read_init_segment(init.body))
            count += sum(len(track.samples) for fragment in fragments for track in fragment.tracks)
        return count


class ManySinksTests(SynchronousTestCase):
    @slow
    def test_stream_notices_nothing_of_ten(self) -> None:
        """No frame is lost and no part is later than without them where ten sinks decode and none takes any more."""
        alone, among = Stream(0), Stream(SINKS)
        self.assertEqual(len(among.frames), among.published)
        self.assertGreater(len(among.delays), 2 * SECONDS)
        self.assertEqual(alone.delays, among.delays)
        self.assertEqual(SINKS, len(among.processes.all))
        self.assertGreater(among.metrics.total("decoding_left_out_frames_total"), SINKS * 100, "they were left behind")
        for process in among.processes.all:
            self.assertLess(len(process.fed), 1_000_000, "what waits for one is bounded")
