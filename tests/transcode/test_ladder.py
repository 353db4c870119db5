"""A ladder between a packager, a transcoder and a real shelf: what players of each rung find there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.packager import Packager
from rapidrtmp.cmaf.reader import read_fragments, read_init_segment
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.read_multivariant import parse_multivariant_playlist
from rapidrtmp.media import Frame, MediaKind, Track
from rapidrtmp.testing.frames import (
    audio_frames,
    delayed,
    interleaved,
    make_audio_track,
    make_video_track,
    video_frames,
    video_frames_at,
)
from rapidrtmp.testing.sinks import make_sink_context
from rapidrtmp.testing.transcoders import FakeTranscoder, make_transcoder_context
from rapidrtmp.transcode.ladder import Ladder
from tests.hls.test_track_renditions import WatchedShelf, shape
from tests.slow import slow

VIDEO, AUDIO = make_video_track(), make_audio_track()
RUNGS = ("480p/", "360p/")


class LadderedStream:
    """A stream with a ladder: every frame goes to the packager, then to the transcoder, as a fan-out hands them on."""

    def __init__(self, spec: dict[str, str] | None = None) -> None:
        self.clock = Clock()
        self.shelf = WatchedShelf()
        self.events: list[Any] = []
        context = make_sink_context(shelf=self.shelf, clock=self.clock)
        self.hls = HlsSinkFactory(**(spec or {})).create(context)
        self.ladder = Ladder(context.stream, self.clock, lambda: [self.hls])
        self.transcoder = FakeTranscoder(make_transcoder_context(self.ladder, clock=self.clock))
        self.ladder.transcoder = self.transcoder
        self.ladder.await_rungs()
        self.packager = Packager(self.hls, self.ladder)
        self._has_begun = False

    def range(self, *tracks: Track, frames: Sequence[Frame]) -> None:
        """A range of frames, each when it arrives; a discontinuity comes before all but the first."""
        for sink in (self.packager, self.transcoder):
            if self._has_begun:
                sink.discontinuity()
            sink.tracks_changed(tracks)
        self._has_begun = True
        self.feed(frames)

    def feed(self, frames: Sequence[Frame]) -> None:
        """More of the same range."""
        for frame in frames:
            self.clock.advance(max(0.0, frame.arrived_ms / 1000 - self.clock.seconds()))
            self.packager.frame_received(frame)
            self.transcoder.frame_received(frame)

    def finish(self) -> None:
        """The stream ends."""
        self.packager.finish()
        self.transcoder.finish()
        self.clock.advance(10)

    def samples(self, folder: str, kind: MediaKind) -> dict[int, list[Any]]:
        """What each segment that a playlist ever listed has of one kind: start, and each sample's offset and bytes."""
        track_id = (VIDEO if kind is MediaKind.VIDEO else AUDIO).id
        listed = {
            segment.sequence: segment
            for version in self.shelf.players[folder].versions
            for segment in version.segments
            if segment.uri and not segment.gap
        }
        found = {}
        for sequence, segment in listed.items():
            init = read_init_segment(self.shelf.bodies[folder + segment.map_uri])
            fragments = read_fragments(self.shelf.bodies[folder + segment.uri], init)
            found[sequence] = [
                (run.base_decode_time, [(each.duration, each.payload) for each in run.samples])
                for fragment in fragments
                for run in fragment.tracks
                if run.track_id == track_id
            ]
        return found

    def gaps(self, folder: str) -> list[int]:
        """The numbers of the segments of a playlist's newest version that are gaps, from its first one on."""
        segments = self.shelf.latest(folder).segments
        return [each.sequence - segments[0].sequence for each in segments if each.gap]

    def variants(self) -> list[str]:
        """The URIs of the multivariant playlist."""
        found = parse_multivariant_playlist(self.shelf.bodies["master.m3u8"].decode())
        assert not found.problems, found.problems
        return [variant.uri for variant in found.variants]


def frames_of(seconds: float, **video: Any) -> list[Frame]:
    """An ordinary stream."""
    return interleaved(video_frames(VIDEO, seconds, **video), audio_frames(AUDIO, seconds))


class InStepTests(SynchronousTestCase):
    """Rungs that come back."""

    def assert_in_step(self, stream: LadderedStream) -> None:
        """All playlists say the same of every segment and part, and have the same audio in each."""
        source = shape(stream.shelf.latest(""))
        for folder in RUNGS:
            self.assertEqual(source, shape(stream.shelf.latest(folder)), folder)
            for kind in MediaKind:
                self.assertEqual(stream.samples("", kind), stream.samples(folder, kind), folder)

    @slow
    def test_every_kind_of_stream(self) -> None:
        """With and without B-frames, at odd rates, late, and without parts: numbers, times and audio are equal."""
        for lag, spec, video in (
            (0, None, {}),
            (5, None, {"gop": 30}),
            (9, None, {"frame_rate": Fraction(30000, 1001), "gop": 45}),
            (1, {"part": "0"}, {}),
            (3, None, {"gop": 24, "frame_rate": Fraction(24)}),
        ):
            stream = LadderedStream(spec)
            stream.transcoder.lag = lag
            stream.range(VIDEO, AUDIO, frames=frames_of(16, **video))
            stream.finish()
            self.assert_in_step(stream)
            self.assertEqual([], stream.transcoder.missed)

    @slow
    def test_rungs_with_b_frames(self) -> None:
        """Rungs with B-frames have the source's boundaries, and in each segment its pictures, decoded in turn."""
        for seconds, video in (
            (12, {}),
            (12, {"frame_rate": Fraction(30000, 1001), "gop": 45}),
            (343 / 30, {"b_frames": 2, "gop": 49}),
        ):
            stream = LadderedStream()
            stream.transcoder.b_frames = 2
            stream.range(VIDEO, AUDIO, frames=frames_of(seconds, **video))
            stream.finish()
            for folder in RUNGS:
                self.assertEqual(shape(stream.shelf.latest("")), shape(stream.shelf.latest(folder)))
                self.assertEqual([], stream.gaps(folder))
                audio, pictures = (stream.samples(folder, kind) for kind in (MediaKind.AUDIO, MediaKind.VIDEO))
                self.assertEqual(stream.samples("", MediaKind.AUDIO), audio)
                for number, runs in stream.samples("", MediaKind.VIDEO).items():
                    self.assertEqual([start for start, _ in runs], [start for start, _ in pictures[number]])
                    sent, got = ([each for _, some in every for each in some] for every in (runs, pictures[number]))
                    self.assertEqual({data for _, data in sent}, {data for _, data in got})
                    self.assertEqual(sum(ticks for ticks, _ in sent), sum(ticks for ticks, _ in got))
                    if not video:
                        self.assertNotEqual(sent, got)

    @slow
    def test_source_with_b_frames(self) -> None:
        """A rung without B-frames beside a source with some is cut at the same ticks, with as many pictures."""
        stream = LadderedStream()
        stream.range(VIDEO, AUDIO, frames=frames_of(12, b_frames=2))
        stream.finish()
        self.assertEqual(shape(stream.shelf.latest("")), shape(stream.shelf.latest("480p/")))
        source, rung = (stream.samples(folder, MediaKind.VIDEO) for folder in ("", "480p/"))
        self.assertEqual(
            {sequence: [(start, len(samples)) for start, samples in runs] for sequence, runs in source.items()},
            {sequence: [(start, len(samples)) for start, samples in runs] for sequence, runs in rung.items()},
        )
        self.assertEqual(stream.samples("", MediaKind.AUDIO), stream.samples("480p/", MediaKind.AUDIO))

    @slow
    def test_irregular_keyframes_and_frames(self) -> None:
        """Where keyframes and frames come as they like, every segment of a rung begins as the source's does."""
        times = [t for t in range(0, 90_000 * 20, 1_500) if t % 21_000 and t % 33_000]
        stream = LadderedStream()
        keyframes = [index for index, time in enumerate(times) if not index or index % 71 == 0]
        video = video_frames_at(VIDEO, times, keyframes, duration=1_500)
        stream.range(VIDEO, AUDIO, frames=interleaved(video, audio_frames(AUDIO, 20)))
        stream.finish()
        self.assert_in_step(stream)

    @slow
    def test_late_audio_in_step(self) -> None:
        """Audio that comes late lies in the same segments of all renditions."""
        for late_ms in (60, 300):
            stream = LadderedStream()
            sound = delayed(audio_frames(AUDIO, 12), late_ms)
            stream.range(VIDEO, AUDIO, frames=interleaved(video_frames(VIDEO, 12), sound))
            stream.finish()
            self.assert_in_step(stream)

    @slow
    def test_discontinuity_in_all(self) -> None:
        """A publisher that returns costs every rung one discontinuity, at the same segment."""
        stream = LadderedStream()
        stream.range(VIDEO, AUDIO, frames=frames_of(7))
        later = interleaved(video_frames(VIDEO, 7, start=900_000), audio_frames(AUDIO, 7, start=480_000))
        stream.range(VIDEO, AUDIO, frames=later)
        stream.finish()
        self.assert_in_step(stream)
        self.assertEqual(1, sum(each.discontinuity for each in stream.shelf.latest("360p/").segments))

    def test_multivariant_offers_all(self) -> None:
        """The multivariant playlist waits for the rungs and offers them with size, rate, codec and frame rate."""
        stream = LadderedStream()
        stream.transcoder.lag = 57
        everything = frames_of(12)
        stream.range(VIDEO, AUDIO, frames=[frame for frame in everything if frame.arrived_ms < 2_200])
        self.assertNotIn("master.m3u8", stream.shelf.bodies)
        stream.feed([frame for frame in everything if frame.arrived_ms >= 2_200])
        found = parse_multivariant_playlist(stream.shelf.bodies["master.m3u8"].decode())
        self.assertEqual([], list(found.problems))
        by_uri = {variant.uri: variant for variant in found.variants}
        self.assertEqual({"index.m3u8", "480p/index.m3u8", "360p/index.m3u8"}, by_uri.keys())
        text = stream.shelf.bodies["master.m3u8"].decode()
        self.assertIn("RESOLUTION=640x360,FRAME-RATE=30.000", text)
        self.assertIn("BANDWIDTH=", text)

    def test_held_for_some_seconds_only(self) -> None:
        """Rungs that should come hold the multivariant playlist for six seconds, however short segments are."""
        stream = LadderedStream({"segment": "1s"})
        stream.transcoder.dead = {"480p", "360p"}
        everything = frames_of(9, gop=30)
        stream.range(VIDEO, AUDIO, frames=[frame for frame in everything if frame.arrived_ms < 5_500])
        self.assertNotIn("master.m3u8", stream.shelf.bodies)
        stream.feed([frame for frame in everything if frame.arrived_ms >= 5_500])
        self.assertEqual(["index.m3u8"], stream.variants())

    def test_off_before_it_has_begun(self) -> None:
        """When it turns out that there will be no rungs, the multivariant playlist is held no longer."""
        stream = LadderedStream({"segment": "1s"})
        stream.transcoder.dead = {"480p", "360p"}
        everything = frames_of(3, gop=30)
        stream.range(VIDEO, AUDIO, frames=everything)
        self.assertNotIn("master.m3u8", stream.shelf.bodies)
        stream.ladder.begin(())
        self.assertEqual(["index.m3u8"], stream.variants())

    def test_asked_for_when_watched(self) -> None:
        """While it is paused the multivariant playlist waits to be asked for; then it offers the rungs, each time."""
        stream = LadderedStream()
        stream.transcoder.dead = {"480p", "360p"}
        everything = frames_of(60)
        for begins, comes, pauses in ((0, 12_000, 20_000), (20_000, 40_000, 60_000)):
            stream.ladder.pause()
            self.assertTrue(stream.shelf.is_announced("master.m3u8"))
            stream.transcoder.dead = {"480p", "360p"}
            early = [frame for frame in everything if begins <= frame.arrived_ms < comes]
            if begins:
                stream.feed(early)
            else:
                stream.range(VIDEO, AUDIO, frames=early)
                stream.ladder.pause()
                self.assertIsNone(stream.shelf.find("master.m3u8"))
            waiter = stream.shelf.wait_for("master.m3u8")
            stream.transcoder.dead = set()
            stream.ladder.begin(stream.transcoder.named_rungs)
            stream.feed([frame for frame in everything if comes <= frame.arrived_ms < pauses])
            self.assertIsNotNone(self.successResultOf(waiter))
            self.assertEqual({"index.m3u8", "480p/index.m3u8", "360p/index.m3u8"}, set(stream.variants()))
        stream.ladder.pause()
        stream.finish()
        self.assertIsNotNone(stream.shelf.find("master.m3u8"))
        self.assertEqual(shape(stream.shelf.latest("")), shape(stream.shelf.latest("480p/")))

    def test_reports_of_each_other(self) -> None:
        """A playlist reports how far each other one is, also while that is behind."""
        stream = LadderedStream()
        stream.transcoder.lag = 20
        stream.range(VIDEO, AUDIO, frames=frames_of(9))
        playlist = stream.shelf.find_playlist("index.m3u8")
        assert playlist is not None
        reports = {each.uri: each for each in parse_media_playlist(playlist.facts.body).reports}
        self.assertEqual({"480p/index.m3u8", "360p/index.m3u8"}, reports.keys())
        rung = stream.shelf.find_playlist("480p/index.m3u8")
        assert rung is not None
        read = parse_media_playlist(rung.facts.body)
        sequence, part = read.edge
        report = reports["480p/index.m3u8"]
        self.assertIn((report.last_sequence, report.last_part), [(sequence, part - 1), (sequence - 1, 5)])
        self.assertEqual({"../index.m3u8", "../360p/index.m3u8"}, {each.uri for each in read.reports})

    def test_no_rungs_at_all(self) -> None:
        """Where there is no picture, players do not wait for rungs."""
        stream = LadderedStream()
        stream.range(AUDIO, frames=audio_frames(AUDIO, 8))
        stream.finish()
        self.assertEqual(["index.m3u8"], stream.variants())


class CodedAudioTests(SynchronousTestCase):
    """Rungs whose audio is coded anew."""

    def feed(self, stream: LadderedStream, frames: Sequence[Frame], coded: Track, until_s: float) -> None:
        """Frames of a stream, and of its audio, as far as it comes, what is made of it."""
        for frame in frames:
            stream.feed([frame])
            if frame.track is AUDIO and frame.dts < until_s * 48_000:
                stream.ladder.audio_frame(replace(frame, track=coded, data=b"coded"))

    def sounds(self, stream: LadderedStream, folder: str) -> list[bytes]:
        """All audio of a playlist, frame for frame; it has no hole."""
        segments = stream.samples(folder, MediaKind.AUDIO)
        runs = [run for number in sorted(segments) for run in segments[number]]
        end = runs[0][0]
        for start, samples in runs:
            self.assertEqual(end, start, folder)
            end += sum(duration for duration, _ in samples)
        return [payload for _, samples in runs for _, payload in samples]

    @slow
    def test_what_is_coded_is_in_the_rungs(self) -> None:
        """Rungs have what comes coded, at the source's times, and the source what it has."""
        stream, coded = LadderedStream(), replace(AUDIO, name="coded")
        stream.ladder.audio_coded([AUDIO.id])
        stream.range(VIDEO, AUDIO, frames=[])
        self.feed(stream, frames_of(12), coded, 99)
        stream.finish()
        self.assertEqual({b"coded"}, set(self.sounds(stream, "480p/")))
        self.assertNotIn(b"coded", self.sounds(stream, ""))
        self.assertEqual(shape(stream.shelf.latest("")), shape(stream.shelf.latest("480p/")))
        self.assertEqual([], stream.gaps("480p/"))
        self.assertEqual(coded, stream.ladder.tracks_of("480p")[1])

    @slow
    def test_silence_where_it_does_not_come(self) -> None:
        """Where what is coded does not come in time there is silence, and no gap."""
        stream, coded = LadderedStream(), replace(AUDIO, name="coded")
        stream.ladder.audio_coded([AUDIO.id])
        stream.range(VIDEO, AUDIO, frames=[])
        self.feed(stream, frames_of(16), coded, 5)
        stream.finish()
        sounds = self.sounds(stream, "480p/")
        self.assertEqual(b"coded", sounds[0])
        self.assertEqual([], stream.gaps("480p/"))
        self.assertEqual(1, len(set(sounds[-300:])))
        self.assertNotEqual(b"coded", sounds[-1])


class FailingTests(SynchronousTestCase):
    """Rungs that do not come back."""

    @slow
    def test_source_as_without(self) -> None:
        """The source's playlist and media are what they are without a ladder, whatever becomes of that."""
        plain = LadderedStream()
        plain.transcoder.dead = {"480p", "360p"}
        laddered = LadderedStream()
        laddered.transcoder.lag = 40
        for stream in (plain, laddered):
            stream.range(VIDEO, AUDIO, frames=frames_of(20))
            stream.finish()
        same = {name: body for name, body in plain.shelf.bodies.items() if "/" not in name and name != "master.m3u8"}
        self.assertEqual(same, {name: laddered.shelf.bodies[name] for name in same})
        self.assertEqual(["index.m3u8"], plain.variants())

    @slow
    def test_dead_rung_has_gaps_and_returns(self) -> None:
        """A rung that brings nothing has gaps, is offered no more, keeps its numbers, and returns under its name."""
        stream = LadderedStream()
        everything = frames_of(40)
        stream.range(VIDEO, AUDIO, frames=[frame for frame in everything if frame.arrived_ms < 7_000])
        inits = {name for name in stream.shelf.bodies if name.startswith("360p/init")}
        stream.transcoder.dead = {"360p"}
        stream.feed([frame for frame in everything if 7_000 <= frame.arrived_ms < 19_000])
        self.assertEqual({"index.m3u8", "480p/index.m3u8"}, set(stream.variants()))
        self.assertEqual("behind", {each.name: each.state for each in stream.ladder.reports}["360p"])
        self.assertTrue(len(stream.transcoder.missed) >= 3)
        stream.transcoder.dead = set()
        stream.feed([frame for frame in everything if 19_000 <= frame.arrived_ms < 30_000])
        self.assertEqual({"index.m3u8", "480p/index.m3u8", "360p/index.m3u8"}, set(stream.variants()))
        self.assertEqual(inits, {name for name in stream.shelf.bodies if name.startswith("360p/init")})
        stream.finish()
        source, rung = stream.shelf.latest(""), stream.shelf.latest("360p/")
        self.assertEqual(shape(source), shape(rung))
        for folder, latest in (("", source), ("360p/", rung)):
            self.assertTrue(latest.ended, folder)

    @slow
    def test_late_by_a_target_duration(self) -> None:
        """What has not come one target duration after the source's segment is a gap; the playlist moves on."""
        stream = LadderedStream()
        stream.transcoder.lag = 200
        stream.range(VIDEO, AUDIO, frames=frames_of(20))
        source = stream.shelf.latest("")
        self.assertNotIn("480p/", stream.shelf.players)  # it never had anything to be played: it does not begin
        self.assertEqual(["index.m3u8"], stream.variants())
        self.assertTrue(len(source.segments) > 5)

    @slow
    def test_broken_off_in_a_segment(self) -> None:
        """Where pictures do not continue those before, the open segment is a gap and the next one is whole."""
        stream = LadderedStream()
        everything = frames_of(16)
        stream.range(VIDEO, AUDIO, frames=[frame for frame in everything if frame.arrived_ms < 5_000])
        stream.ladder.restarted()
        stream.feed([frame for frame in everything if frame.arrived_ms >= 5_000])
        stream.finish()
        for folder in RUNGS:
            self.assertEqual([2], stream.gaps(folder))
            self.assertEqual(shape(stream.shelf.latest("")), shape(stream.shelf.latest(folder)))
        self.assertEqual(1, stream.ladder.reports[0].gaps)

    def test_rung_that_is_left_out(self) -> None:
        """A rung that the transcoder leaves out has gaps at once, and its playlist is as far as the source's."""
        stream = LadderedStream()
        everything = frames_of(12)
        stream.range(VIDEO, AUDIO, frames=[frame for frame in everything if frame.arrived_ms < 5_000])
        (kept,) = [rung for rung in stream.transcoder.named_rungs if rung.name == "360p"]
        stream.ladder.begin([kept])
        stream.transcoder.dead = {"480p"}
        stream.feed([frame for frame in everything if frame.arrived_ms >= 5_000])
        self.assertEqual(shape(stream.shelf.latest("")), shape(stream.shelf.latest("480p/")))
        self.assertEqual("off", {each.name: each.state for each in stream.ladder.reports}["480p"])
        self.assertEqual([], [name for name in stream.transcoder.missed if name == "480p"])
        stream.finish()

    def test_sink_that_fails(self) -> None:
        """A sink that raises over a rung is logged, and the stream continues."""
        stream = LadderedStream()
        stream.hls.open_rendition = lambda _rung: 1 / 0  # type: ignore[method-assign]
        stream.range(VIDEO, AUDIO, frames=frames_of(8))
        stream.finish()
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertTrue(stream.shelf.latest("").ended)

    def test_end_waits_for_late_rungs(self) -> None:
        """At the end of a stream, rungs that are late still get their last segments, and then end."""
        stream = LadderedStream()
        stream.transcoder.lag = 15
        stream.range(VIDEO, AUDIO, frames=frames_of(9))
        done = stream.packager.finish()
        self.assertNoResult(done)
        stream.transcoder.finish()
        self.successResultOf(done)
        self.assertEqual(shape(stream.shelf.latest("")), shape(stream.shelf.latest("360p/")))
        self.assertEqual([], stream.clock.getDelayedCalls())

    def test_left_to_the_next_server(self) -> None:
        """When the server stops and the next one resumes the stream, the rungs do not end either."""
        stream = LadderedStream()
        stream.range(VIDEO, AUDIO, frames=frames_of(9))
        done = stream.packager.suspend()
        stream.transcoder.finish()
        self.successResultOf(done)
        self.assertFalse(stream.shelf.latest("360p/").ended)
        self.assertEqual(len(stream.shelf.latest("").segments), len(stream.shelf.latest("360p/").segments))
        self.assertEqual([], stream.clock.getDelayedCalls())

    def test_end_does_not_wait_for_ever(self) -> None:
        """Rungs that bring nothing at the end of a stream end with a gap some seconds later."""
        stream = LadderedStream()
        everything = frames_of(9)
        stream.range(VIDEO, AUDIO, frames=[frame for frame in everything if frame.arrived_ms < 5_000])
        stream.transcoder.dead = {"480p", "360p"}
        stream.feed([frame for frame in everything if frame.arrived_ms >= 5_000])
        done = stream.packager.finish()
        stream.clock.advance(6)
        self.successResultOf(done)
        self.assertTrue(stream.shelf.latest("360p/").ended)
