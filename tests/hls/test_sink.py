"""The HLS packager over a real shelf: what a player that looks at everything finds there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from rapidrtmp.cmaf.packager import Packager
from rapidrtmp.cmaf.reader import FragmentInfo, read_fragments, read_init_segment
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.hls.resume.state import StoredState
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.interfaces import IPartSink, IShelf, ISinkFactory, Playlist, SinkContext
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.media import Frame, Track
from rapidrtmp.testing.frames import (
    FrameSource,
    audio_frames,
    interleaved,
    make_video_track,
    video_frames,
    video_frames_at,
)
from rapidrtmp.testing.sink_factories import SinkFactoryContract
from rapidrtmp.testing.sinks import RecordingMetrics, RecordingWriter, SinkContract, feed, make_sink_context
from tests.cmaf.streams import AUDIO, VIDEO, audios, changing_videos
from tests.m3u8.checker import Follower, ReadPlaylist, ReadSegment
from tests.slow import slow

OTHER = make_video_track(640, 360)


class WatchedShelf(Shelf):
    """
    A shelf with a player in front of it, who looks at every version and fetches everything new at once.

    :ivar player: the player.
    :ivar bodies: everything that was ever put, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.player = Follower()
        self.bodies: dict[str, bytes] = {}
        self.withdrawn: list[str] = []

    def put(self, name: str, pieces: Sequence[bytes], *rest: str) -> None:
        super().put(name, pieces, *rest)
        assert name.endswith(".m3u8") or name not in self.bodies, f"{name} was used before"
        self.bodies[name] = b"".join(pieces)

    def put_playlist(self, name: str, playlist: Playlist) -> None:
        if name != "index.m3u8":  # of a rendition that this player does not play
            super().put_playlist(name, playlist)
            return
        seen = self.player.see(playlist.body, playlist.delta)
        for uri in seen.uris():
            found = self.find(uri)
            assert found is not None, f"{uri} is listed and not there"
            assert found.body == self.bodies[uri]
        if seen.hint is not None:
            assert self.is_announced(seen.hint), f"{seen.hint} is hinted at and not announced"
        for segment in seen.segments:
            self.check_parts(segment)
        super().put_playlist(name, playlist)

    def check_parts(self, segment: ReadSegment) -> None:
        """A segment is its parts, byte for byte."""
        if segment.parts and segment.uri and not segment.gap:
            parts = b"".join(self.bodies[part.uri] for part in segment.parts if not part.gap)
            assert parts == self.bodies[segment.uri], f"{segment.uri} is not its parts"

    def withdraw(self, name: str) -> None:
        self.withdrawn.append(name)
        super().withdraw(name)

    @property
    def latest(self) -> ReadPlaylist:
        """The newest version of the media playlist."""
        return self.player.latest


class Packaged:
    """A packager at work, with all that is around it."""

    def __init__(self, spec: dict[str, str] | None = None, **context: Any) -> None:
        self.shelf = WatchedShelf()
        self.context = make_sink_context(shelf=self.shelf, **context)
        self.sink = Packager(HlsSinkFactory(**(spec or {})).create(self.context))
        self.storage: Any = self.context.storage
        self.clock: Any = self.context.clock
        self.metrics: Any = self.context.metrics
        self._has_begun = False

    def range(self, *tracks: Track, frames: Sequence[Frame]) -> None:
        """A range of frames; a discontinuity comes before all but the first."""
        if self._has_begun:
            self.sink.discontinuity()
        self._has_begun = True
        self.sink.tracks_changed(tracks)
        feed(self.sink, frames)

    def fragments(self) -> list[tuple[ReadSegment, list[FragmentInfo]]]:
        """Every segment that was ever listed, and what it holds."""
        listed = {segment.sequence: segment for version in self.shelf.player.versions for segment in version.segments}
        return [
            (
                segment,
                read_fragments(self.shelf.bodies[segment.uri], read_init_segment(self.shelf.bodies[segment.map_uri])),
            )
            for _, segment in sorted(listed.items())
            if segment.uri and not segment.gap
        ]

    def payloads(self, track: Track) -> list[bytes]:
        """The payloads of all samples of a track, in order."""
        return [
            sample.payload
            for _, fragments in self.fragments()
            for fragment in fragments
            for run in fragment.tracks
            if run.track_id == track.id
            for sample in run.samples
        ]


class ContractTests(SinkContract, SynchronousTestCase):
    """What every sink must do."""

    def make_sink(self, context: SinkContext) -> IPartSink:
        return HlsSinkFactory().create(context)


class FactoryContractTests(SinkFactoryContract, SynchronousTestCase):
    """What every sink factory must do."""

    def make_factory(self) -> ISinkFactory:
        return HlsSinkFactory()


class WatchedContractTests(SinkContract, SynchronousTestCase):
    """The same with a strict player looking on, at whatever the contract feeds."""

    def make_sink(self, context: SinkContext) -> IPartSink:
        return HlsSinkFactory("2s", "4").create(context)

    def new_sink(self, **context: Any) -> tuple[Any, SinkContext]:
        return super().new_sink(shelf=WatchedShelf(), **context)


class OrdinaryTests(SynchronousTestCase):
    @slow
    def test_stream_comes_out_once(self) -> None:
        """All frames come out once, as fragments that join on to each other and last as long as the playlist says."""
        for rate, b_frames in ((Fraction(30), 0), (Fraction(30_000, 1001), 2), (Fraction(25), 1), (Fraction(60), 0)):
            packaged = Packaged()
            source = FrameSource(VIDEO, AUDIO, frame_rate=rate, gop=round(rate * 2), b_frames=b_frames)
            frames = source.take(8)
            packaged.range(VIDEO, AUDIO, frames=frames)
            packaged.sink.finish()
            for track in (VIDEO, AUDIO):
                self.assertEqual([frame.data for frame in frames if frame.track is track], packaged.payloads(track))
            self.assertContinuous(packaged)
            self.assertTrue(packaged.shelf.latest.independent)
            self.assertTrue(packaged.shelf.latest.ended)

    def test_open_gops_are_not_independent(self) -> None:
        """A segment with pictures that are shown before its keyframe is no independent one; its first part says so."""
        packaged = Packaged()
        frames = video_frames(VIDEO, 8, frame_rate=Fraction(25), gop=50, b_frames=2)
        keyframe = next(frame for frame in frames[1:] if frame.keyframe)
        at = frames.index(keyframe) + 1
        frames[at] = replace(frames[at], composition_offset=keyframe.pts - 3_600 - frames[at].dts)
        packaged.range(VIDEO, frames=frames)
        packaged.sink.finish()
        self.assertFalse(packaged.shelf.latest.independent)
        parts = [segment.parts[0] for segment in packaged.shelf.latest.segments if segment.parts]
        self.assertTrue(parts and all(part.independent for part in parts))

    def assertContinuous(self, packaged: Packaged) -> None:
        """Decode times and fragment numbers continue without a hole, and each segment begins with a keyframe."""
        ends: dict[int, int] = {}
        number = 0
        for segment, fragments in packaged.fragments():
            first = fragments[0].tracks[0].samples[0]
            self.assertTrue(first.keyframe)
            for fragment in fragments:
                number += 1
                self.assertEqual(number, fragment.sequence_number)
                for run in fragment.tracks:
                    self.assertEqual(ends.get(run.track_id, run.base_decode_time), run.base_decode_time)
                    ends[run.track_id] = run.base_decode_time + sum(sample.duration for sample in run.samples)
            assert segment.duration is not None
            tail_s = 0.001 if fragments[-1].tracks[0].track_id != 1 else 0  # sound that was still under way at the end
            self.assertApproximates(float(segment.duration) - tail_s, (ends[1] - first.dts) / 90_000, 0.00002)

    def test_audio_alone_is_packaged(self) -> None:
        """A stream of audio alone is packaged like any other."""
        packaged = Packaged()
        frames = audio_frames(AUDIO, 12)
        packaged.range(AUDIO, frames=frames)
        packaged.sink.finish()
        self.assertEqual([frame.data for frame in frames], packaged.payloads(AUDIO))
        self.assertTrue(all(part.independent for segment in packaged.shelf.latest.segments for part in segment.parts))

    def test_without_parts_only_segments(self) -> None:
        """With ``part=0`` there are segments only."""
        packaged = Packaged({"part": "0"})
        packaged.range(VIDEO, AUDIO, frames=FrameSource(VIDEO, AUDIO).take(5))
        packaged.sink.finish()
        self.assertEqual([], [name for name in packaged.shelf.bodies if name.startswith("part")])
        self.assertIsNone(packaged.shelf.latest.part_target)
        self.assertEqual(5, len(packaged.shelf.latest.segments))

    def test_first_playlist_at_second_keyframe(self) -> None:
        """The first playlist comes with the second keyframe, and holds the first GOP; before it, a promise."""
        packaged = Packaged()
        self.assertTrue(packaged.shelf.is_announced("index.m3u8"))
        self.assertTrue(packaged.shelf.is_announced("master.m3u8"))
        frames = video_frames(VIDEO, 4, gop=60)
        packaged.range(VIDEO, frames=frames[:60])
        self.assertEqual([], packaged.shelf.player.versions)
        packaged.sink.frame_received(frames[60])
        self.assertEqual(1, len(packaged.shelf.latest.segments))
        self.assertEqual(1_000, packaged.shelf.latest.sequence)

    def test_counts_of_parts_and_segments(self) -> None:
        """Parts, segments and the delay of parts are counted."""
        clock = Clock()
        packaged = Packaged(clock=clock)
        packaged.sink.tracks_changed((VIDEO,))
        for frame in video_frames(VIDEO, 8.04, gop=60):
            clock.rightNow = frame.arrived_ms / 1000 + 0.01
            packaged.sink.frame_received(frame)
        self.assertEqual(4, packaged.metrics.total("segments_created_total"))
        self.assertEqual(24, packaged.metrics.total("parts_created_total"))
        delays = packaged.metrics.observed("part_publish_delay_seconds")
        self.assertEqual([0.043, *[0.01] * (len(delays) - 1)], [round(delay, 3) for delay in delays])


class MultivariantTests(SynchronousTestCase):
    def test_bandwidth_of_the_first_segment(self) -> None:
        """While the first segment is open, the announced bandwidth goes by all of it, not by its newest part."""
        packaged = Packaged()
        frames = video_frames(VIDEO, 4, gop=30, size=10_000)
        packaged.range(VIDEO, frames=frames)
        bandwidth = int(packaged.shelf.bodies["master.m3u8"].decode().partition("BANDWIDTH=")[2].partition(",")[0])
        bits = sum(len(frame.data) for frame in frames[:30]) * 8
        self.assertTrue(bits < bandwidth < 1.3 * bits, f"{bandwidth} for {bits}")

    def test_tracks_are_said_again(self) -> None:
        """It says what there is, again when that changes."""
        packaged = Packaged()
        packaged.range(VIDEO, AUDIO, frames=FrameSource(VIDEO, AUDIO).take(3))
        self.assertIn(b'CODECS="avc1.42c01f,mp4a.40.2",RESOLUTION=1280x720', packaged.shelf.bodies["master.m3u8"])
        packaged.range(OTHER, frames=video_frames(OTHER, 6, start=900_000, frame_rate=Fraction(50)))
        self.assertIn(
            b'CODECS="avc1.42c01f",RESOLUTION=640x360,FRAME-RATE=50.000', packaged.shelf.bodies["master.m3u8"]
        )


class BreakTests(SynchronousTestCase):
    def test_config_change_is_a_discontinuity(self) -> None:
        """Another config is one discontinuity with an init segment of its own; the same one needs no new init."""
        packaged = Packaged()
        packaged.range(VIDEO, frames=video_frames(VIDEO, 4.5, gop=60))
        packaged.range(OTHER, frames=video_frames(OTHER, 4.5, gop=60, start=900_000))
        packaged.range(OTHER, frames=video_frames(OTHER, 4.5, gop=60, start=1_800_000))
        packaged.sink.finish()
        segments = [segment for segment, _ in packaged.fragments()]
        broken = [segment for segment in segments if segment.discontinuity]
        self.assertEqual([1_003, 1_006], [segment.sequence for segment in broken])
        self.assertEqual(["init_1000.mp4"] * 3 + ["init_1003.mp4"] * 6, [segment.map_uri for segment in segments])
        widths = [read_init_segment(packaged.shelf.bodies[f"init_{number}.mp4"])[0].width for number in (1_000, 1_003)]
        self.assertEqual([1280, 640], widths)

    def test_repeated_discontinuity_is_one(self) -> None:
        """Several discontinuities without a frame between them are one; one before the first frame is none."""
        packaged = Packaged()
        packaged.sink.discontinuity()
        packaged.range(VIDEO, frames=video_frames(VIDEO, 4.5, gop=60))
        packaged.sink.discontinuity()
        packaged.sink.discontinuity()
        packaged.range(VIDEO, frames=video_frames(VIDEO, 4.5, gop=60, start=900_000))
        packaged.sink.finish()
        self.assertEqual(1, sum(segment.discontinuity for segment, _ in packaged.fragments()))

    def test_return_of_the_publisher(self) -> None:
        """An interruption completes the segment; who returns continues in the next one."""
        packaged = Packaged()
        packaged.range(VIDEO, frames=video_frames(VIDEO, 4.5, gop=60))
        packaged.sink.interrupted()
        version = packaged.shelf.latest
        self.assertEqual((1_002, None, False), (version.last_sequence, version.open, version.ended))
        self.assertEqual("part_1003.0.m4s", version.hint)
        packaged.range(VIDEO, frames=video_frames(VIDEO, 4.5, gop=60, start=900_000))
        self.assertEqual("segment_1003.m4s", packaged.shelf.latest.segments[3].uri)

    def test_hint_before_a_discontinuity(self) -> None:
        """The part that was promised does not come, because it would need another init segment; another is promised."""
        packaged = Packaged()
        packaged.range(VIDEO, frames=video_frames(VIDEO, 4.5, gop=60))
        packaged.sink.interrupted()
        waiter = packaged.shelf.wait_for("part_1003.0.m4s")
        packaged.range(OTHER, frames=video_frames(OTHER, 4.5, gop=60, start=900_000))
        self.assertIsNone(self.successResultOf(waiter))
        self.assertNotIn("part_1003.0.m4s", packaged.shelf.bodies)
        parts = [part.uri for part in packaged.shelf.latest.segments[3].parts]
        self.assertEqual([f"part_1003.{at}.m4s" for at in range(1, len(parts) + 1)], parts)
        self.assertEqual("part_1004.0.m4s", packaged.shelf.latest.segments[4].parts[0].uri)

    def test_short_first_stay(self) -> None:
        """A publisher that leaves before its first GOP is whole has shown that much; who returns continues."""
        packaged = Packaged()
        packaged.range(VIDEO, frames=video_frames(VIDEO, 0.5))
        packaged.sink.interrupted()
        self.assertEqual(1, len(packaged.shelf.latest.segments))
        packaged.range(VIDEO, frames=video_frames(VIDEO, 4.5, gop=60, start=900_000))
        packaged.sink.finish()
        self.assertTrue(packaged.shelf.latest.ended)

    def test_finish_takes_hints_back(self) -> None:
        """The end makes the playlist final and takes the promise of another part back."""
        packaged = Packaged()
        packaged.range(VIDEO, frames=video_frames(VIDEO, 4.5, gop=60))
        hint = packaged.shelf.latest.hint
        assert hint is not None
        waiter = packaged.shelf.wait_for(hint)
        reload = packaged.shelf.wait_for_playlist("index.m3u8", 1_009, None)
        packaged.sink.finish()
        self.assertTrue(packaged.shelf.latest.ended)
        stored = self.successResultOf(waiter)  # the last part was what had been promised
        self.assertIsNotNone(stored)
        version = self.successResultOf(reload)
        assert version is not None
        self.assertTrue(version.facts.ended)
        self.assertFalse(packaged.shelf.is_announced("part_1003.0.m4s"))

    def test_suspend_leaves_playlists_open(self) -> None:
        """When the server stops in between, the playlist stays open, on the shelf and in the storage, and complete."""
        packaged = Packaged()
        packaged.range(VIDEO, frames=video_frames(VIDEO, 7.0))
        packaged.sink.interrupted()
        self.successResultOf(packaged.sink.suspend())
        latest = packaged.shelf.latest
        self.assertFalse(latest.ended)
        self.assertEqual(7.0, float(sum(segment.duration for segment in latest.segments)))
        packaged.storage.settle_all()
        objects = packaged.storage.objects
        self.assertNotIn(b"ENDLIST", objects["live/test/index.m3u8"])
        self.assertIn(latest.segments[-1].uri.encode(), objects["live/test/index.m3u8"])
        state = StoredState.parse(objects["live/test/state.json"])
        self.assertEqual((False, latest.segments[-1].sequence + 2), (state.ended, state.next_sequence))

    def test_suspend_before_anything(self) -> None:
        """Of a stream that never had a playlist none is awaited any more."""
        packaged = Packaged()
        waiting = packaged.shelf.wait_for_playlist("index.m3u8", -1, None)
        self.successResultOf(packaged.sink.suspend())
        self.assertIsNone(self.successResultOf(waiting))

    def test_nothing_came_answers_waiters(self) -> None:
        """A player that waits for a stream that ends before it began is answered."""
        packaged = Packaged()
        early = packaged.shelf.wait_for("master.m3u8")
        reload = packaged.shelf.wait_for_playlist("index.m3u8", -1, None)
        packaged.sink.tracks_changed((VIDEO,))
        packaged.sink.finish()
        self.assertIsNone(self.successResultOf(early))
        self.assertIsNone(self.successResultOf(reload))

    def test_promise_not_kept(self) -> None:
        """A part that was hinted at and is a gap after all is taken back, and a player that waits learns it."""
        packaged = Packaged()
        times = [*range(0, 182_000, 3_000), *range(720_000, 900_000, 3_000)]
        frames = video_frames_at(VIDEO, times, range(0, 200, 60))
        packaged.range(VIDEO, frames=frames[:61])
        hint = packaged.shelf.latest.hint
        assert hint is not None
        feed(packaged.sink, frames[61:62])
        waiter = None
        for frame in frames[62:]:
            hint = packaged.shelf.latest.hint
            assert hint is not None
            waiter = packaged.shelf.wait_for(hint)
            packaged.sink.frame_received(frame)
            self.assertTrue(waiter.called or packaged.shelf.is_announced(hint))
        gaps = [part.uri for segment in packaged.shelf.latest.segments for part in segment.parts if part.gap]
        self.assertTrue(gaps)
        self.assertTrue(all(packaged.shelf.find(name) is None for name in gaps))
        self.assertFalse(any(packaged.shelf.is_announced(name) for name in gaps))


class WaitingTests(SynchronousTestCase):
    def test_next_part_with_its_last_frame(self) -> None:
        """Who asks for the part that comes next gets it with its last frame."""
        packaged = Packaged()
        frames = video_frames(VIDEO, 6, gop=60)
        packaged.range(VIDEO, frames=frames[:61])
        hint = packaged.shelf.latest.hint
        assert hint is not None
        waiter = packaged.shelf.wait_for(hint)
        feed(packaged.sink, frames[61:69])
        self.assertNoResult(waiter)
        feed(packaged.sink, frames[69:70])
        stored = self.successResultOf(waiter)
        assert stored is not None
        self.assertEqual(packaged.shelf.bodies[hint], stored.body)

    def test_blocking_reload_gets_the_first(self) -> None:
        """Who asks for a playlist with a part or a segment to come gets the first that has it."""
        packaged = Packaged()
        frames = video_frames(VIDEO, 6, gop=60)
        packaged.range(VIDEO, frames=frames[:61])
        part = packaged.shelf.wait_for_playlist("index.m3u8", 1_001, 0)
        segment = packaged.shelf.wait_for_playlist("index.m3u8", 1_001, None)
        feed(packaged.sink, frames[61:70])
        version = self.successResultOf(part)
        assert version is not None
        self.assertEqual((1_000, 1), (version.facts.last_sequence, version.facts.open_parts))
        feed(packaged.sink, frames[70:120])
        self.assertNoResult(segment)
        feed(packaged.sink, frames[120:121])
        version = self.successResultOf(segment)
        assert version is not None
        self.assertEqual(1_001, version.facts.last_sequence)


class AheadTests(SynchronousTestCase):
    """Parts that leave before it is known whether their segment ends with them."""

    def withdrawn(self, packaged: Packaged) -> float:
        """How many hints were taken back."""
        total: float = packaged.metrics.total("hints_withdrawn_total")
        return total

    def test_end_of_a_segment(self) -> None:
        """The last part is listed with the next segment's first as hint; the keyframe completes the segment."""
        packaged = Packaged()
        frames = video_frames(VIDEO, 6, gop=60)
        packaged.range(VIDEO, frames=frames[:119])
        feed(packaged.sink, frames[119:120])
        version = packaged.shelf.latest
        assert version.open is not None
        self.assertEqual((1_001, 6), (version.open.sequence, len(version.open.parts)))
        self.assertEqual("part_1002.0.m4s", version.hint)
        self.assertIsNone(packaged.shelf.find("segment_1001.m4s"))
        waiter = packaged.shelf.wait_for("part_1002.0.m4s")
        feed(packaged.sink, frames[120:121])
        version = packaged.shelf.latest
        self.assertEqual((1_001, None, "part_1002.0.m4s"), (version.last_sequence, version.open, version.hint))
        self.assertIsNotNone(packaged.shelf.find("segment_1001.m4s"))
        feed(packaged.sink, frames[121:130])
        self.assertIsNotNone(self.successResultOf(waiter))
        self.assertEqual(0, self.withdrawn(packaged))

    def test_who_is_woken(self) -> None:
        """That a segment is complete is news for ordinary players; who waits for a part waits for the next one."""
        packaged = Packaged()
        frames = video_frames(VIDEO, 6, gop=60)
        packaged.range(VIDEO, frames=frames[:120])
        segment = packaged.shelf.wait_for_playlist("index.m3u8", 1_001, None)
        same = packaged.shelf.wait_for_playlist("index.m3u8", 1_001, 6)
        following = packaged.shelf.wait_for_playlist("index.m3u8", 1_002, 0)
        feed(packaged.sink, frames[120:121])
        version = self.successResultOf(segment)
        assert version is not None
        self.assertEqual(1_001, version.facts.last_sequence)
        self.assertNoResult(same)
        self.assertNoResult(following)
        feed(packaged.sink, frames[121:130])
        for waiter in (same, following):
            version = self.successResultOf(waiter)
            assert version is not None
            self.assertEqual((1_001, 1), (version.facts.last_sequence, version.facts.open_parts))

    def test_keyframe_that_does_not_come(self) -> None:
        """A hint that was wrong is taken back with the frame that shows it, and the right one is given."""
        packaged = Packaged()
        frames = video_frames_at(VIDEO, range(0, 540_000, 3_000), [0, 60])
        packaged.range(VIDEO, frames=frames[:120])
        self.assertEqual("part_1002.0.m4s", packaged.shelf.latest.hint)
        waiter = packaged.shelf.wait_for("part_1002.0.m4s")
        feed(packaged.sink, frames[120:121])
        self.assertIsNone(self.successResultOf(waiter))
        self.assertEqual("part_1001.6.m4s", packaged.shelf.latest.hint)
        self.assertEqual(1, self.withdrawn(packaged))
        feed(packaged.sink, frames[121:])
        packaged.sink.finish()
        self.assertEqual([frame.data for frame in frames], packaged.payloads(VIDEO))

    def test_keyframe_out_of_turn(self) -> None:
        """If the segment ends though more of it was expected, the part that was hinted at is taken back."""
        packaged = Packaged()
        frames = video_frames_at(VIDEO, range(0, 720_000, 3_000), [0, 75, 135, 195])
        packaged.range(VIDEO, frames=frames[:135])
        hint = packaged.shelf.latest.hint
        self.assertEqual("part_1001.6.m4s", hint)
        waiter = packaged.shelf.wait_for("part_1001.6.m4s")
        feed(packaged.sink, frames[135:136])
        self.assertIsNone(self.successResultOf(waiter))
        self.assertEqual("part_1002.0.m4s", packaged.shelf.latest.hint)
        self.assertEqual(1, self.withdrawn(packaged))

    @slow
    def test_constant_gops_need_no_correction(self) -> None:
        """With GOPs of one length no hint is ever wrong, whatever the rate, with sound and B-frames or without."""
        for rate, gop in ((Fraction(30), 60), (Fraction(24_000, 1001), 48), (Fraction(60), 64), (Fraction(25), 25)):
            packaged = Packaged()
            source = FrameSource(VIDEO, AUDIO, frame_rate=rate, gop=gop, b_frames=2)
            packaged.range(VIDEO, AUDIO, frames=source.take(12))
            self.assertEqual(0, self.withdrawn(packaged))

    @slow
    def test_drops_behind_a_part(self) -> None:
        """Frames that are missing behind a part that has left: the next ones are decoded from its end on."""
        for missing in (range(130, 131), range(130, 137), range(130, 170), range(120, 125)):
            packaged = Packaged()
            frames = [frame for frame in video_frames(VIDEO, 10, gop=60) if frame.dts // 3_000 not in missing]
            sound = audio_frames(AUDIO, 10)
            packaged.range(VIDEO, AUDIO, frames=interleaved(frames, sound))
            packaged.sink.finish()
            self.assertEqual([frame.data for frame in frames], packaged.payloads(VIDEO))
            self.assertEqual([frame.data for frame in sound], packaged.payloads(AUDIO))
            runs = [run for _, fragments in packaged.fragments() for each in fragments for run in each.tracks]
            for track in (VIDEO, AUDIO):
                own = [run for run in runs if run.track_id == track.id]
                for one, other in pairwise(own):
                    ended = one.base_decode_time + sum(sample.duration for sample in one.samples)
                    self.assertEqual(ended, other.base_decode_time)


class RetirementTests(SynchronousTestCase):
    @slow
    def test_how_long_segments_stay(self) -> None:
        """What left the playlist stays for as long as it and the longest playlist last; then its memory is free."""
        packaged = Packaged({"window": "4"})
        left: dict[str, float] = {}
        names: set[str] = set()
        packaged.sink.tracks_changed((VIDEO,))
        for frame in video_frames(VIDEO, 80, gop=60, size=100):
            now = frame.dts / 90_000
            packaged.sink.frame_received(frame)
            if not packaged.shelf.player.versions:
                continue
            listed = packaged.shelf.latest.uris()
            for name in names - listed:
                left.setdefault(name, now)
            names |= listed
            for name, since in left.items():
                kept = packaged.shelf.find(name) is not None
                if name.startswith("segment"):
                    self.assertTrue(kept or now - since >= 2 + 4 * 2, f"{name} was gone after {now - since} s")
                elif name.startswith("part"):
                    self.assertTrue(kept or now - since >= 3 * 2, f"{name} was gone after {now - since} s")
        self.assertLess(len(packaged.shelf._objects), 12 * 7)

    @slow
    def test_init_segments_stay_while_needed(self) -> None:
        """An init segment stays for as long as any segment that needs it, and goes then."""
        packaged = Packaged({"window": "4"})
        packaged.range(VIDEO, frames=video_frames(VIDEO, 6, gop=60, size=100))
        packaged.range(OTHER, frames=video_frames(OTHER, 60, gop=60, start=900_000, size=100))
        self.assertIsNone(packaged.shelf.find("init_1000.mp4"))
        self.assertIsNotNone(packaged.shelf.find("init_1003.mp4"))


class MirrorTests(SynchronousTestCase):
    def test_persistent_storage_gets_copies(self) -> None:
        """A storage that outlives the process is given the same segments, and a playlist of them."""
        packaged = Packaged()
        packaged.range(VIDEO, AUDIO, frames=FrameSource(VIDEO, AUDIO).take(6))
        packaged.sink.finish()
        objects = packaged.storage.objects
        player = Follower()
        version = player.see(objects["live/test/index.m3u8"])
        self.assertTrue(version.ended)
        self.assertEqual(packaged.shelf.latest.last_sequence, version.last_sequence)
        for uri in version.uris():
            self.assertEqual(packaged.shelf.bodies[uri], objects[f"live/test/{uri}"])
        listed, stored = packaged.shelf.bodies["master.m3u8"], objects["live/test/master.m3u8"]
        self.assertTrue(listed.startswith(stored), "but for pictures, which are not stored")
        self.assertTrue(listed.removeprefix(stored).startswith(b"#EXT-X-I-FRAME-STREAM-INF:"))

    def test_in_memory_storage_is_left(self) -> None:
        """A storage that does not is left alone: the shelf has it all."""
        packaged = Packaged(storage=RecordingWriter(persistent=False))
        packaged.range(VIDEO, AUDIO, frames=FrameSource(VIDEO, AUDIO).take(6))
        packaged.sink.finish()
        self.assertEqual([], packaged.storage.operations)


class FactoryTests(SynchronousTestCase):
    def test_factory_makes_the_sinks(self) -> None:
        """It makes sinks."""
        verifyObject(ISinkFactory, HlsSinkFactory())
        verifyClass(IShelf, Shelf)

    def test_arguments_out_of_range(self) -> None:
        """Arguments out of range are refused in words."""
        makers: list[Callable[[], object]] = [
            lambda: HlsSinkFactory(segment="500ms"),
            lambda: HlsSinkFactory(segment="2m"),
            lambda: HlsSinkFactory(part="50ms"),
            lambda: HlsSinkFactory(segment="1s", part="2s"),
            lambda: HlsSinkFactory(window="2"),
            lambda: HlsSinkFactory(segment="soon"),
        ]
        for make in makers:
            self.assertIn("", str(self.assertRaises(ConfigurationError, make)))
        self.assertRaises(ValueError, HlsSinkFactory, window="many")


@slow
class AnyStreamTests(SynchronousTestCase):
    @settings(max_examples=15)
    @given(st.data())
    def test_any_stream_keeps_the_rules(self, data: st.DataObject) -> None:
        """Whatever comes, the player finds every rule kept, and every frame."""
        packaged = Packaged({"window": str(data.draw(st.integers(3, 6)))}, metrics=RecordingMetrics())
        fed: list[Frame] = []
        start_s = 0
        for _ in range(data.draw(st.integers(1, 4))):
            video = data.draw(st.sampled_from([VIDEO, OTHER]))
            with_audio = data.draw(st.booleans())
            rate = data.draw(st.sampled_from([Fraction(30), Fraction(24_000, 1001), Fraction(60), Fraction(8)]))
            seconds = data.draw(st.sampled_from([0, 0.1, 2, 7, 15]))
            dropped = data.draw(st.lists(st.integers(1, 400), max_size=30))
            frames = video_frames(
                video,
                seconds,
                frame_rate=rate,
                gop=data.draw(st.integers(1, 150)),
                b_frames=data.draw(st.integers(0, 2)),
                start=start_s * 90_000,
                dropped=dropped,
                size=20,
            )
            sounds = audio_frames(AUDIO, seconds, start=start_s * 48_000, size=20) if with_audio else []
            packaged.range(video, *([AUDIO] if with_audio else []), frames=interleaved(frames, sounds))
            fed += frames
            if data.draw(st.booleans()):
                packaged.sink.interrupted()
            start_s += 20
        packaged.sink.finish()
        self.assertEqual(0, packaged.metrics.total("playlist_violations_total"))
        if packaged.shelf.player.versions:
            self.assertTrue(packaged.shelf.latest.ended)
            self.assertEqual([frame.data for frame in fed], packaged.payloads(VIDEO))
        for one, other in pairwise(packaged.shelf.player.versions):
            self.assertEqual(one.target, other.target)

    @settings(max_examples=20)
    @given(changing_videos(90_000), audios)
    def test_changing_rhythm_keeps_the_rules(self, video: list[Frame], audio: list[Frame]) -> None:
        """Whatever was expected and does not come, no rule is broken and every frame comes out; in pauses, again."""
        packaged = Packaged()
        packaged.range(VIDEO, AUDIO, frames=interleaved(video, audio))
        packaged.sink.finish()
        self.assertEqual(0, packaged.metrics.total("playlist_violations_total"))
        payloads = dict.fromkeys(packaged.payloads(VIDEO))
        self.assertEqual([frame.data for frame in video], list(payloads))
