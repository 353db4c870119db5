"""The supervision of FFmpeg, with children that do as a test wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.reader import read_fragments, read_init_segment
from rapidrtmp.codec.opus import read_opus_head
from rapidrtmp.codec.table import CODECS
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import ITranscoderFactory
from rapidrtmp.media import Colour, Frame, Track, VideoConfig
from rapidrtmp.testing.frames import interleaved, make_audio_track, make_video_track, video_frames
from rapidrtmp.testing.sinks import RecordingMetrics, feed
from rapidrtmp.testing.transcoders import RecordingLadder, Said, TranscoderContract, make_transcoder_context
from rapidrtmp.transcode import encoders, ffmpeg, program, watching
from rapidrtmp.transcode.child import MOST_QUEUED_BYTES
from rapidrtmp.transcode.encoders import ENCODERS, LIBX264, find_encoder
from rapidrtmp.transcode.room import Room, available_cores, estimated_cores
from rapidrtmp.transcode.rungs import parse_rungs, suitable_rungs
from tests.transcode.flv import HEADER, config_tag, picture_tag
from tests.transcode.mp4 import fragment_of, head_of

VIDEO, SMALL = make_video_track(), make_video_track(854, 480)


class FakeChild:
    """
    A child process: what it was given, and what it does.

    :ivar takes: whether it takes what is written to it.
    """

    def __init__(self, protocol: Any, command: Sequence[str], descriptors: dict[int, Any]) -> None:
        self.protocol, self.command, self.descriptors = protocol, command, descriptors
        self.given = bytearray()
        self.is_closed = self.is_gone = False
        self.signals: list[str] = []
        self._producer: Any = None
        protocol.makeConnection(self)

    # what the transcoder does with it
    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        assert descriptor == 0 and not self.is_closed
        self.given += data

    def closeChildFD(self, descriptor: int) -> None:
        self.is_closed = True

    def signalProcess(self, signal: str) -> None:
        self.signals.append(signal)
        self.end(ProcessTerminated(signal=9))

    # what it does
    def write(self, descriptor: int, data: bytes) -> None:
        self.protocol.childDataReceived(descriptor, data)

    def stop_taking(self) -> None:
        self._producer.pauseProducing()

    def take_again(self) -> None:
        self._producer.resumeProducing()

    def close_input(self) -> None:
        self.is_closed = True
        self.protocol.childConnectionLost(0)

    def end(self, reason: Exception | None = None) -> None:
        if not self.is_gone:
            self.is_gone = True
            self.protocol.processEnded(Failure(reason or ProcessDone(0)))

    def frames(self) -> list[int]:
        """The decode times of the frames that it was given."""
        data = bytes(self.given)
        init = read_init_segment(data[: data.index(b"moof") - 4])
        return [run.base_decode_time for each in read_fragments(data, init) for run in each.tracks]


class Supervised:
    """A transcoder with children of a test's."""

    def __init__(self, rungs: dict[str, str] | None = None, is_watched: Callable[[], bool] = lambda: True) -> None:
        self.clock, self.ladder, self.said = Clock(), RecordingLadder(), Said()
        self.children: list[FakeChild] = []
        context = make_transcoder_context(
            self.ladder, clock=self.clock, spawn_process=self._spawn, said=self.said, is_watched=is_watched
        )
        self.metrics: RecordingMetrics = context.metrics  # type: ignore[assignment]
        factory = ffmpeg.FfmpegTranscoderFactory(**(rungs or {"480p": "100k", "360p": "50k"}))
        self.transcoder = factory.create(context)

    def _spawn(self, protocol: Any, executable: str, args: Sequence[str], env: Any, childFDs: Any) -> Any:
        self.children.append(FakeChild(protocol, args, childFDs))
        return self.children[-1]

    @property
    def child(self) -> FakeChild:
        return self.children[-1]

    def begin(self, seconds: float = 2.1) -> list[Frame]:
        """A range of frames, up to behind its second keyframe."""
        frames = video_frames(VIDEO, 60)
        self.transcoder.tracks_changed((VIDEO, make_audio_track()))
        self.feed(frames, 0, seconds)
        return frames

    def feed(self, frames: Sequence[Frame], since_s: float, until_s: float) -> None:
        feed(self.transcoder, [frame for frame in frames if since_s * 90_000 <= frame.dts < until_s * 90_000])

    def bring(
        self, frames: Sequence[Frame], since_s: float, until_s: float, descriptors: Sequence[int] = (3, 4)
    ) -> None:
        """The child brings the pictures of some frames."""
        chosen = [frame for frame in frames if since_s * 90_000 <= frame.dts < until_s * 90_000]
        for descriptor in descriptors:
            self.child.write(descriptor, b"".join(map(picture_tag, chosen)))

    def say_hello(self) -> None:
        """The child begins its outputs."""
        for descriptor in (3, 4):
            self.child.write(descriptor, HEADER + config_tag(SMALL))

    @property
    def states(self) -> list[object]:
        """What was recorded."""
        return [data["state"] for _, data in self.said.events]


class FfmpegCase(SynchronousTestCase):
    encoder = LIBX264

    def setUp(self) -> None:
        self.patch(ffmpeg, "usable_ffmpeg", lambda path, maps_tones: path or "/opt/ffmpeg")
        self.patch(ffmpeg, "find_encoder", lambda _path, _wanted, _b_frames: self.encoder)
        self.room = Room(lambda: 8.0)
        self.patch(ffmpeg, "ROOM", self.room)


class ContractTests(TranscoderContract, FfmpegCase):
    def make_factory(self) -> ITranscoderFactory:
        return ffmpeg.FfmpegTranscoderFactory(**{"480p": "100k"})  # type: ignore[return-value]


class FeedingTests(FfmpegCase):
    def test_begins_when_the_source_is_known(self) -> None:
        """The child begins with the second keyframe, and is given all from the first one on, at exact times."""
        supervised = Supervised()
        frames = supervised.begin(1.9)
        self.assertEqual([], supervised.children)
        supervised.feed(frames, 1.9, 3)
        self.assertEqual([frame.dts for frame in frames if frame.dts < 3 * 90_000], supervised.child.frames())
        self.assertEqual({0: "w", 1: "r", 2: "r", 3: "r", 4: "r"}, supervised.child.descriptors)
        self.assertEqual(["480p", "360p"], [rung.name for rung in supervised.ladder.begun[-1]])

    def test_pictures_find_their_frames(self) -> None:
        """What comes back has the exact presentation time of its frame, also behind a day and a wrap of FLV's times."""
        for start in (0, 90_000 * 90_000, ((1 << 31) - 1_000) * 90):
            supervised = Supervised()
            frames = video_frames(VIDEO, 4, start=start, b_frames=2)
            supervised.transcoder.tracks_changed((VIDEO,))
            feed(supervised.transcoder, frames)
            supervised.say_hello()
            shown = sorted(frames, key=lambda frame: frame.pts)
            supervised.child.write(3, b"".join(map(picture_tag, shown)))
            self.assertEqual(
                [(frame.pts, frame.keyframe, frame.data) for frame in shown],
                [(each.pts, each.keyframe, each.data) for each in supervised.ladder.pictures["480p"]],
            )

    def test_b_frames_come_in_fragments(self) -> None:
        """Rungs with B-frames come back as fragmented MP4: each picture at its exact time, decoded in its turn."""
        for start in (0, 90_000 * 90_000):
            supervised = Supervised({"480p": "100k", "360p": "50k", "bframes": "2"})
            frames = video_frames(VIDEO, 4, start=start)
            supervised.transcoder.tracks_changed((VIDEO,))
            feed(supervised.transcoder, frames)
            self.assertIn("frag_discont", " ".join(supervised.child.command))
            coded = video_frames(SMALL, 4, start=start, b_frames=2)
            at = coded[0].composition_offset
            supervised.child.write(3, head_of(SMALL))
            for frame in coded:
                supervised.child.write(3, fragment_of(replace(frame, composition_offset=frame.composition_offset - at)))
            back = supervised.ladder.pictures["480p"]
            self.assertEqual([frame.pts for frame in frames], [each.turn for each in back][: len(frames)])
            self.assertEqual([(f.pts - at, f.data) for f in coded], [(each.pts, each.data) for each in back])
            self.assertEqual(0, supervised.metrics.total("ladder_strays_total"))

    def test_fragments_of_another_codec(self) -> None:
        """A child that writes another codec than it was asked for is killed."""
        supervised = Supervised({"480p": "100k", "bframes": "1"})
        supervised.begin()
        supervised.clock.advance(3)
        supervised.child.write(3, head_of(make_audio_track()))
        self.assertEqual(["KILL"], supervised.child.signals)

    def test_no_rung_makes_sense(self) -> None:
        """Where every rung is about as large as the source there is no child, and the reason is said."""
        supervised = Supervised({"700p": "100k"})
        supervised.begin(5)
        self.assertEqual(([], ()), (supervised.children, supervised.ladder.begun[-1]))
        self.assertEqual(["off"], supervised.states)
        self.assertIn("no rung is clearly smaller than its 1280x720", supervised.said.advice["ladder"])

    def test_hdr_is_said(self) -> None:
        """Where there are no rungs because the picture is HDR, the advice says so, and what would help."""
        supervised = Supervised()
        hdr = replace(VIDEO, config=replace(VIDEO.config, colour=Colour(9, 16, 9, False)))
        supervised.transcoder.tracks_changed((hdr,))
        feed(supervised.transcoder, video_frames(hdr, 5))
        self.assertIn("hdr=tonemap", supervised.said.advice["ladder"])

    def test_rungs_of_the_publisher(self) -> None:
        """A publisher that brings several sizes itself needs no ladder."""
        supervised = Supervised()
        supervised.transcoder.tracks_changed((VIDEO, make_video_track(640, 360, id=3)))
        feed(supervised.transcoder, video_frames(VIDEO, 5))
        self.assertEqual(([], [()]), (supervised.children, supervised.ladder.begun))

    def test_what_is_not_taken_waits(self) -> None:
        """What the child does not take waits, and is written when it takes again; then its input is closed."""
        supervised = Supervised()
        frames = supervised.begin()
        before = len(supervised.child.given)
        supervised.child.stop_taking()
        supervised.feed(frames, 2.1, 4)
        self.assertEqual(before, len(supervised.child.given))
        supervised.transcoder.interrupted()
        self.assertFalse(supervised.child.is_closed)
        supervised.child.take_again()
        self.assertTrue(supervised.child.is_closed)
        self.assertEqual([frame.dts for frame in frames if frame.dts < 4 * 90_000], supervised.child.frames())


class FailingTests(FfmpegCase):
    def test_killed_one_is_replaced(self) -> None:
        """A child that is killed is replaced a second later by one that is fed from the last keyframe on."""
        supervised = Supervised()
        frames = supervised.begin()
        supervised.clock.advance(5)
        supervised.child.end(ProcessTerminated(signal=9))
        self.assertEqual(["restarted"], supervised.ladder.calls[-1:])
        supervised.feed(frames, 2.1, 4.5)
        self.assertEqual(1, len(supervised.children))
        supervised.clock.advance(1)
        self.assertEqual(2, len(supervised.children))
        self.assertEqual([frame.dts for frame in frames if 4 <= frame.dts / 90_000 < 4.5], supervised.child.frames())
        self.assertEqual(["started", "failed", "started"], supervised.states)
        self.assertEqual(1, supervised.metrics.total("ladder_restarts_total"))

    def test_stuck_one_is_killed(self) -> None:
        """A child that brings nothing any more is killed when it is some seconds behind, and replaced."""
        supervised = Supervised()
        frames = supervised.begin()
        supervised.say_hello()
        supervised.bring(frames, 0, 2)
        for second in range(2, 9):
            supervised.feed(frames, second + 0.1, second + 1.1)
            supervised.clock.advance(1)
        self.assertEqual(["KILL"], supervised.children[0].signals)
        supervised.clock.advance(1)
        self.assertEqual(2, len(supervised.children))

    def test_behind_is_said_once(self) -> None:
        """A child that is behind for five seconds is an event, and so is that it has caught up."""
        supervised = Supervised()
        frames = supervised.begin()
        supervised.say_hello()
        for second in range(10):
            supervised.feed(frames, second + 2.1, second + 3.1)
            supervised.bring(frames, second, second + 1)
            supervised.clock.advance(1)
        self.assertEqual(["started", "behind"], supervised.states)
        supervised.bring(frames, 10, 12.1)
        supervised.clock.advance(1)
        self.assertEqual(["started", "behind", "in time"], supervised.states)
        self.assertEqual([], supervised.child.signals)

    def test_one_rung_is_stuck(self) -> None:
        """A child of which one output stands still is behind as well."""
        supervised = Supervised()
        frames = supervised.begin()
        supervised.say_hello()
        for second in range(9):
            supervised.bring(frames, second, second + 1, descriptors=(3,))
            supervised.feed(frames, second + 2.1, second + 3.1)
            supervised.clock.advance(1)
        self.assertEqual(["KILL"], supervised.children[0].signals)

    def test_memory_is_bounded(self) -> None:
        """A child that takes nothing any more is killed when too much waits for it."""
        supervised = Supervised()
        supervised.begin()
        supervised.child.stop_taking()
        large = video_frames(VIDEO, 9, size=MOST_QUEUED_BYTES // 30)
        supervised.feed(large, 2.1, 4)
        self.assertEqual(["KILL"], supervised.children[0].signals)

    def test_input_is_closed_before_it_ends(self) -> None:
        """Nothing is written to a child that has closed its input and is not gone yet, nor what waited for it."""
        supervised = Supervised()
        frames = supervised.begin()
        supervised.child.stop_taking()
        supervised.feed(frames, 2.1, 2.2)
        supervised.child.close_input()
        supervised.child.take_again()
        supervised.feed(frames, 2.2, 2.4)
        supervised.transcoder.interrupted()
        self.assertEqual(1, len(supervised.children))

    def test_garbage_kills_it(self) -> None:
        """A child that writes anything else is killed and replaced; nothing of it is brought."""
        begun = HEADER + config_tag(SMALL)[:30] * 9
        for garbage in (b"\x00\x00\x00\x20ftypisom" * 9, HEADER + b"\x09\xff\xff\xff" * 9, begun):
            supervised = Supervised()
            supervised.begin()
            supervised.clock.advance(3)
            supervised.child.write(3, garbage)
            self.assertEqual(["KILL"], supervised.child.signals)
            self.assertEqual({}, supervised.ladder.pictures)

    def test_pictures_of_no_frame(self) -> None:
        """A picture whose time is that of no frame is counted and left out."""
        supervised = Supervised()
        supervised.begin()
        supervised.say_hello()
        supervised.child.write(3, b"".join(map(picture_tag, video_frames(VIDEO, 1, start=45 * 90_001))))
        supervised.child.end()
        self.assertEqual({}, supervised.ladder.pictures)
        self.assertEqual(30, supervised.metrics.total("ladder_strays_total"))

    def test_bad_arguments_turn_it_off(self) -> None:
        """A child that ends at once, twice, is left alone until the next publish; its last lines are said once."""
        supervised = Supervised()
        frames = supervised.begin()
        for _ in range(2):
            supervised.child.write(2, b"Unrecognized option 'nonsense'.\nError splitting the argument list\n")
            supervised.child.end(ProcessTerminated(1))
            supervised.feed(frames, 2.1, 4.1)
            supervised.clock.advance(3)
        supervised.feed(frames, 4.1, 9)
        self.assertEqual(2, len(supervised.children))
        self.assertEqual("off", supervised.states[-1])
        self.assertEqual((), supervised.ladder.begun[-1])
        self.assertIn("Unrecognized option 'nonsense'.", supervised.said.advice["ladder"])

    def test_fails_again_and_again(self) -> None:
        """The pauses before another child grow; after the third restart in ten minutes there is none any more."""
        supervised = Supervised()
        frames = supervised.begin()
        pauses = []
        at = 2.1
        for _ in range(4):
            supervised.clock.advance(5)
            supervised.child.end(ProcessTerminated(signal=11))
            known, pause = len(supervised.children), 0
            supervised.feed(frames, at, at + 4)
            at += 4
            while len(supervised.children) == known and pause < 20:
                supervised.clock.advance(1)
                pause += 1
            pauses.append(pause)
        self.assertEqual([1, 2, 4, 20], pauses)
        self.assertEqual("off", supervised.states[-1])

    def test_too_slow_for_all(self) -> None:
        """Where segments are missed again and again, the largest rung is left out."""
        supervised = Supervised()
        frames = supervised.begin()
        supervised.clock.advance(5)
        for _ in range(4):
            for rung in ("480p", "360p"):
                supervised.transcoder.segment_missed(rung)
        supervised.feed(frames, 2.1, 5)
        supervised.clock.advance(1)
        self.assertEqual(["360p"], [rung.name for rung in supervised.ladder.begun[-1]])
        self.assertEqual(2, len(supervised.children))
        self.assertIn("480p", supervised.said.advice["ladder"])

    def test_cannot_be_started(self) -> None:
        """Where no process can be started the stream goes out as it came."""
        said = Said()
        context = make_transcoder_context(said=said)
        transcoder = ffmpeg.FfmpegTranscoderFactory(**{"480p": "100k"}).create(context)
        transcoder.tracks_changed((VIDEO,))
        feed(transcoder, video_frames(VIDEO, 5))
        self.assertIn("cannot be started", said.advice["ladder"])


class RoomTests(FfmpegCase):
    def test_larger_rungs_left_out(self) -> None:
        """Where the processors have no room for all, the larger rungs are left out, with advice; the others work."""
        self.patch(ffmpeg, "ROOM", Room(lambda: 0.3))
        supervised = Supervised()
        supervised.begin()
        self.assertEqual(["360p"], [rung.name for rung in supervised.ladder.begun[-1]])
        self.assertEqual({0: "w", 1: "r", 2: "r", 3: "r"}, supervised.child.descriptors)
        self.assertEqual(
            "Rungs are left out: there is no processor room for 480p.", supervised.said.advice["ladder-room"]
        )

    def test_no_room_at_all(self) -> None:
        """Where there is no room the stream goes out as it came; the ladder begins when another one has ended."""
        self.patch(ffmpeg, "ROOM", Room(lambda: 0.5))
        first, second = Supervised(), Supervised()
        first.begin()
        frames = second.begin()
        self.assertEqual(([], ()), (second.children, second.ladder.begun[-1]))
        self.assertIn("The ladder is off: there is no processor room", second.said.advice["ladder-room"])
        first.transcoder.finish()
        first.child.end()
        second.feed(frames, 2.1, 5)
        second.clock.advance(10)
        self.assertEqual(1, len(second.children))
        self.assertEqual(["480p", "360p"], [rung.name for rung in second.ladder.begun[-1]])
        self.assertEqual("", second.said.advice["ladder-room"])

    def test_what_is_there_is_known(self) -> None:
        """The processors are those that this process may use, and in a container no more than its quota."""
        folder = Path(self.mktemp())
        folder.mkdir()
        free = available_cores(folder)
        self.assertGreaterEqual(free, 1)
        (folder / "cpu.max").write_text("50000 100000\n")
        self.assertEqual(0.5, available_cores(folder))
        (folder / "cpu.max").write_text("max 100000\n")
        self.assertEqual(free, available_cores(folder))
        (folder / "cpu").mkdir()
        (folder / "cpu" / "cpu.cfs_quota_us").write_text("25000\n")
        (folder / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
        self.assertEqual(0.25, available_cores(folder))

    def test_estimates_by_measurement(self) -> None:
        """What a ladder should take is near to what was measured: 0.3 cores for 480p and 360p of 720p30."""
        config = VIDEO.config
        assert isinstance(config, VideoConfig)
        sizes = suitable_rungs(parse_rungs({"480p": "1200k", "360p": "700k"}), config, 3_000_000)
        veryfast, ultrafast = (
            estimated_cores(config, None, sizes, preset, on_hardware=False) for preset in ("veryfast", "ultrafast")
        )
        self.assertApproximates(0.301, veryfast, 0.03)
        self.assertApproximates(0.180, ultrafast, 0.02)
        reordered = estimated_cores(config, None, sizes, "veryfast", on_hardware=False, has_b_frames=True)
        self.assertApproximates(0.389, reordered, 0.04)

    def test_measured_ladders_count_as_such(self) -> None:
        """What a ladder was found to take counts instead of what it should."""
        room = Room(lambda: 1.0)
        self.assertTrue(room.take("one", 0.5))
        self.assertFalse(room.take("other", 0.5))
        room.measured("one", 0.1)
        self.assertTrue(room.take("other", 0.5))
        room.leave("other")
        self.assertTrue(room.take("third", 0.5))

    def test_nothing_comes_any_more(self) -> None:
        """A child that is given nothing for half a minute ends, and another begins when frames come again."""
        supervised = Supervised()
        frames = supervised.begin()
        supervised.clock.pump([1.0] * 7)
        self.assertFalse(supervised.child.is_closed)
        supervised.say_hello()
        supervised.bring(frames, 0, 2.1)
        supervised.clock.pump([1.0] * 25)
        self.assertTrue(supervised.children[0].is_closed)
        supervised.children[0].end()
        self.assertEqual([], supervised.clock.getDelayedCalls())
        supervised.feed(frames, 4, 5)
        self.assertEqual(2, len(supervised.children))


class WatchedTests(FfmpegCase):
    """``when=watched``."""

    def setUp(self) -> None:
        super().setUp()
        self.has_viewers = False

    def make(self) -> Supervised:
        return Supervised({"480p": "100k", "360p": "50k", "when": "watched"}, lambda: self.has_viewers)

    def test_begins_with_the_first_viewer(self) -> None:
        """Without viewers there is no child and players wait; one is fed from the last keyframe when one asks."""
        supervised = self.make()
        frames = supervised.begin(7.1)
        self.assertEqual(([], []), (supervised.children, supervised.ladder.begun))
        self.assertEqual({"pause"}, set(supervised.ladder.calls) - {"drained"})
        supervised.transcoder.asked_for()
        self.assertEqual(["480p", "360p"], [rung.name for rung in supervised.ladder.begun[-1]])
        self.assertEqual([frame.dts for frame in frames if 6 <= frame.dts / 90_000 < 7.1], supervised.child.frames())

    def test_ends_a_minute_after_the_last(self) -> None:
        """The child brings the rest some time after the last viewer has left, and another begins for the next one."""
        self.assertEqual(60.0, watching.LINGER_S)
        self.patch(watching, "LINGER_S", 20.0)
        supervised = self.make()
        frames = supervised.begin(3)
        supervised.transcoder.asked_for()
        supervised.say_hello()
        self.has_viewers = True
        for second in range(3, 50):
            self.has_viewers = second < 25
            supervised.clock.advance(1)
            supervised.feed(frames, second, second + 1)
            if not supervised.child.is_closed:
                supervised.bring(frames, second - 3 if second == 3 else second, second + 1)
        self.assertEqual([True], [child.is_closed for child in supervised.children])
        self.assertEqual("pause", supervised.ladder.calls[-1])
        self.assertEqual(["started", "unwatched"], supervised.states)
        supervised.child.end()
        supervised.feed(frames, 50, 51)
        self.assertEqual(1, len(supervised.children))
        supervised.transcoder.asked_for()
        self.assertEqual(2, len(supervised.children))
        supervised.transcoder.finish()
        supervised.child.end()
        self.assertEqual([], supervised.clock.getDelayedCalls())

    def test_asked_for_before_it_is_known(self) -> None:
        """One who asks before the rungs are chosen has them when they are."""
        supervised = self.make()
        supervised.transcoder.asked_for()
        supervised.begin()
        self.assertEqual(1, len(supervised.children))

    def test_asked_for_while_the_publisher_is_gone(self) -> None:
        """One who asks while the publisher is gone has the source to choose, and the rungs when it is back."""
        supervised = self.make()
        supervised.begin()
        supervised.transcoder.interrupted()
        supervised.transcoder.asked_for()
        self.assertEqual([()], supervised.ladder.begun)
        supervised.transcoder.discontinuity()
        supervised.begin()
        self.assertEqual(1, len(supervised.children))
        self.assertEqual(2, len(supervised.ladder.begun[-1]))


OPUS_HEAD = b"OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00"


class AudioTests(FfmpegCase):
    """``audio=aac``."""

    def make(self, audio: Track) -> tuple[Supervised, list[Frame]]:
        supervised = Supervised({"480p": "100k", "360p": "50k", "audio": "aac"})
        supervised.transcoder.tracks_changed((VIDEO, audio))
        sound = [Frame(audio, at, 0, 960, True, b"\xfc\xff\xfe", at // 48 + 20) for at in range(0, 40 * 48_000, 960)]
        frames = interleaved(video_frames(VIDEO, 40), sound)
        feed(supervised.transcoder, frames[: frames.index(sound[105])])
        return supervised, frames[frames.index(sound[105]) :]

    def opus(self) -> Track:
        return CODECS["Opus"].make_track(2, read_opus_head(OPUS_HEAD))

    def test_has_a_child_of_its_own(self) -> None:
        """Audio that is not AAC goes to a further child, from the first keyframe on; both bring the rest at the end."""
        supervised, rest = self.make(self.opus())
        pictures, sound = supervised.children
        self.assertIn("aac", sound.command)
        self.assertEqual({0: "w", 1: "r", 2: "r", 3: "r"}, sound.descriptors)
        self.assertEqual([0, 960], sound.frames()[:2])
        self.assertEqual([(2,)], supervised.ladder.coded)
        feed(supervised.transcoder, rest[:500])
        done = supervised.transcoder.finish()
        assert done is not None
        self.assertEqual([True, True], [child.is_closed for child in supervised.children])
        pictures.end()
        self.assertNoResult(done)
        self.assertNotIn("drained", supervised.ladder.calls[1:])
        sound.end()
        self.successResultOf(done)
        self.assertEqual("drained", supervised.ladder.calls[-1])
        self.assertEqual([], supervised.clock.getDelayedCalls())

    def test_dead_one_is_replaced(self) -> None:
        """A child for audio that dies is replaced a second later; after some of them the ladder is off."""
        supervised, rest = self.make(self.opus())
        for number in range(4):
            child = supervised.child
            self.assertIn("aac", child.command)
            child.end(ProcessTerminated(signal=9))
            feed(supervised.transcoder, rest[number * 60 : number * 60 + 60])
            supervised.clock.advance(1)
        self.assertEqual("off", supervised.states[-1])
        self.assertIn("over the audio", supervised.said.advice["ladder"])
        self.assertTrue(supervised.children[0].is_closed)
        self.assertEqual(5, len(supervised.children))

    def test_nonsense_ends_it(self) -> None:
        """One that brings anything but AAC is killed."""
        supervised, _ = self.make(self.opus())
        supervised.child.write(3, b"FLV\x01 and so on, which is no MP4")
        self.assertEqual(["KILL"], supervised.child.signals)
        self.assertEqual([], supervised.ladder.audio)

    def test_aac_is_taken_as_it_is(self) -> None:
        """AAC needs no child."""
        supervised = Supervised({"480p": "100k", "360p": "50k", "audio": "aac"})
        supervised.begin()
        self.assertEqual(1, len(supervised.children))
        self.assertEqual([()], supervised.ladder.coded)

    def test_next_range_has_the_next_one(self) -> None:
        """Behind a discontinuity another child begins when the one before has brought the rest."""
        supervised, _ = self.make(self.opus())
        supervised.transcoder.discontinuity()
        supervised.transcoder.tracks_changed((VIDEO, self.opus()))
        feed(supervised.transcoder, video_frames(VIDEO, 3, start=90_000 * 60))
        self.assertEqual(2, len(supervised.children))
        for child in list(supervised.children):
            child.end()
        self.assertEqual(4, len(supervised.children))


class HardwareTests(FfmpegCase):
    encoder = ENCODERS["h264_vaapi"]

    def test_encoder_that_works_is_used(self) -> None:
        """An encoder that was found to work is asked for what it needs."""
        supervised = Supervised()
        supervised.begin()
        command = " ".join(supervised.child.command)
        self.assertIn("-vaapi_device /dev/dri/renderD128", command)
        self.assertIn("setsar=1,format=nv12,hwupload[v0]", command)
        self.assertIn("-c:v h264_vaapi", command)
        self.assertNotIn("-preset", command)

    def test_falls_back_when_it_fails(self) -> None:
        """An encoder on hardware that fails is not tried again for this stream: libx264 takes its place."""
        supervised = Supervised()
        frames = supervised.begin()
        supervised.child.end(ProcessTerminated(1))
        supervised.feed(frames, 2.1, 4.1)
        supervised.clock.advance(1)
        self.assertIn("libx264", supervised.child.command)
        self.assertIn("fallback", supervised.states)

    def test_each_is_tried_before(self) -> None:
        """An encoder is used if it takes some pictures; where none on hardware does, libx264 is left."""
        tried = []

        def run(command: list[str], **_options: object) -> object:
            tried.append(command[command.index("-c:v") + 1])
            return SimpleNamespace(returncode=0 if tried[-1] == "h264_vaapi" else 171)

        self.patch(encoders.subprocess, "run", run)
        self.assertEqual("h264_vaapi", find_encoder("/opt/ffmpeg").name)
        self.assertEqual(["h264_nvenc", "h264_qsv", "h264_vaapi"], tried)
        self.assertIs(LIBX264, find_encoder("/opt/ffmpeg", "h264_amf"))
        tried.clear()
        self.assertIs(LIBX264, find_encoder("/opt/ffmpeg", b_frames=2))
        self.assertEqual(["h264_nvenc", "h264_qsv"], tried)

    def test_wanted_one_does_not_work(self) -> None:
        """Where the encoder that was asked for does not work that is said, and libx264 is used."""
        self.encoder = LIBX264
        supervised = Supervised({"480p": "100k", "encoder": "h264_nvenc"})
        supervised.begin()
        self.assertIn("libx264", supervised.child.command)
        self.assertEqual("fallback", supervised.states[0])


class EndingTests(FfmpegCase):
    def test_interrupted_brings_the_rest(self) -> None:
        """When the publisher is gone the child brings the rest and ends; nothing is running then."""
        supervised = Supervised()
        frames = supervised.begin()
        supervised.say_hello()
        supervised.transcoder.interrupted()
        self.assertTrue(supervised.child.is_closed)
        supervised.bring(frames, 0, 2.1)
        supervised.child.end()
        self.assertEqual("drained", supervised.ladder.calls[-1])
        self.assertEqual([], supervised.clock.getDelayedCalls())
        self.assertEqual(63, len(supervised.ladder.pictures["360p"]))
        self.assertEqual(0, supervised.metrics.total("ladder_restarts_total"))

    def test_next_publish_has_another_chance(self) -> None:
        """A ladder that was off because FFmpeg failed, or because no rung was suitable, is tried with what follows."""
        for rungs in (None, {"700p": "100k"}):
            supervised = Supervised(rungs)
            frames = supervised.begin(5)
            for _ in range(2 if rungs is None else 0):
                supervised.child.end(ProcessTerminated(1))
                supervised.feed(frames, 5, 7)
                supervised.clock.advance(3)
            self.assertEqual("off", supervised.states[-1])
            known = len(supervised.children)
            supervised.transcoder.interrupted()
            larger = make_video_track(1920, 1080)
            supervised.transcoder.discontinuity()
            supervised.transcoder.tracks_changed((larger,))
            feed(supervised.transcoder, video_frames(larger, 3, start=900_000))
            self.assertEqual(known + 1, len(supervised.children))

    def test_new_picture_size(self) -> None:
        """Behind a change of the picture another child begins, when the one before has brought the rest."""
        supervised = Supervised()
        supervised.begin()
        supervised.transcoder.discontinuity()
        other = make_video_track(1920, 1080)
        supervised.transcoder.tracks_changed((other,))
        feed(supervised.transcoder, video_frames(other, 1, start=900_000))
        self.assertEqual(1, len(supervised.children))
        supervised.child.end()
        self.assertEqual(2, len(supervised.children))
        self.assertEqual(30, len(supervised.child.frames()))

    def test_does_not_end(self) -> None:
        """A child that does not end is killed after two seconds."""
        supervised = Supervised()
        supervised.begin()
        done = supervised.transcoder.finish()
        assert done is not None
        self.assertNoResult(done)
        supervised.clock.advance(2)
        self.assertEqual(["KILL"], supervised.child.signals)
        self.successResultOf(done)
        self.assertEqual([], supervised.clock.getDelayedCalls())


class ProgramTests(SynchronousTestCase):
    def test_old_or_other_programs(self) -> None:
        """An FFmpeg that is too old, or without libx264, or none at all, stops the start with one line."""
        for version, listed, said in (
            ("ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright", " V..... libx264 ", "4.4; ladders need 5.1"),
            ("ffmpeg version n6.1 Copyright", " V..... libopenh264 ", "no libx264"),
            ("GNU bash", "", "is no FFmpeg"),
        ):
            self.patch(program, "_say", lambda _path, option: version if option == "-version" else listed)  # noqa: B023
            error = self.assertRaises(ConfigurationError, program.usable_ffmpeg, "/opt/ffmpeg")
            self.assertIn(said, str(error))
        for version in ("ffmpeg version 5.1.9-0+deb12u1", "ffmpeg version N-123-gabc", "ffmpeg version 9.0"):
            self.patch(program, "_say", lambda _path, option: version if option == "-version" else " libx264 ")  # noqa: B023
            self.assertEqual("/opt/ffmpeg", program.usable_ffmpeg("/opt/ffmpeg"))

    def test_none_is_found(self) -> None:
        """Where there is no FFmpeg the line says how to get one."""
        self.patch(program, "find_ffmpeg", lambda: None)
        error = self.assertRaises(ConfigurationError, program.usable_ffmpeg)
        self.assertIn("imageio-ffmpeg", str(error))

    def test_filters_for_tones(self) -> None:
        """An FFmpeg without the filters that map tones is refused where they are wanted."""
        answers = {"-version": "ffmpeg version 5.1", "-encoders": " libx264 ", "-filters": " .S tonemap V->V x"}
        self.patch(program, "_say", lambda _path, option: answers[option])
        error = self.assertRaises(ConfigurationError, program.usable_ffmpeg, "/opt/ffmpeg", maps_tones=True)
        self.assertIn("tonemap and zscale, which hdr=tonemap needs", str(error))
        answers["-filters"] += " .SC zscale V->V x"
        self.assertEqual("/opt/ffmpeg", program.usable_ffmpeg("/opt/ffmpeg", maps_tones=True))

    def test_cannot_be_run(self) -> None:
        """A path that leads to no program is refused with the reason."""
        error = self.assertRaises(ConfigurationError, program.usable_ffmpeg, "/nonexistent/ffmpeg")
        self.assertIn("cannot be run", str(error))

    def test_unknown_arguments_are_refused(self) -> None:
        """A preset or a rung that there is not is refused with what would be right."""
        for arguments, said in (
            ({"preset": "quick"}, "veryfast"),
            ({"presett": "veryfast"}, "720p=3000k"),
            ({"bframes": "4"}, "0 or 1 or 2 or 3"),
            ({"bframes": "2", "encoder": "h264_vaapi"}, "h264_vaapi has none"),
        ):
            error = self.assertRaises(ConfigurationError, ffmpeg.FfmpegTranscoderFactory, **arguments)
            self.assertIn(said, str(error))
