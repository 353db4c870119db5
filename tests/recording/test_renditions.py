"""Recordings with all of their renditions: what is written of each, and what viewers, tools and recovery make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive.journal import Journal
from rapidrtmp.archive.layout import RecordingId, StartNames
from rapidrtmp.cmaf.packager import Packager
from rapidrtmp.errors import NotFoundError
from rapidrtmp.interfaces import Cutting, IPartSink, SinkContext
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.read_multivariant import parse_multivariant_playlist
from rapidrtmp.media import Frame, Track
from rapidrtmp.recording.catalogue import RecordingState
from rapidrtmp.recording.recovery import recover_all
from rapidrtmp.recording.sink import LONGEST_WAIT_S, AllRenditionsSink, Rotation
from rapidrtmp.recording.tools import export, repair, verify
from rapidrtmp.testing.frames import audio_frames, interleaved, make_audio_track, make_video_track, video_frames
from rapidrtmp.testing.sinks import RecordingWriter, SinkContract, make_sink_context
from rapidrtmp.testing.transcoders import FakeTranscoder, make_transcoder_context
from rapidrtmp.transcode.ladder import Ladder
from tests.recording.recordings import ID, store
from tests.recording.test_http import RecordingsCase
from tests.recording.test_sink import payloads, read_entry, read_journal, read_media
from tests.recording.test_tools import ToolsCase
from tests.slow import slow

VIDEO, AUDIO = make_video_track(), make_audio_track()
RUNGS = ("480p", "360p")


def make_sink(context: SinkContext, every_ms: int = 0) -> AllRenditionsSink:
    cutting = Cutting(segment_ms=6_000, part_ms=1_000)
    return AllRenditionsSink(context, cutting, Rotation(every_ms, by_utc=False), StartNames())


class RecordedLadder:
    """A stream whose ladder is recorded with it."""

    def __init__(self, *, lag: int = 5, every_ms: int = 0, **context: Any) -> None:
        self.clock, self.writer = Clock(), RecordingWriter()
        made = make_sink_context(storage=self.writer, clock=self.clock, **context)
        self.sink = make_sink(made, every_ms)
        self.ladder = Ladder(made.stream, self.clock, lambda: [self.sink])
        self.transcoder = FakeTranscoder(make_transcoder_context(self.ladder, clock=self.clock))
        self.transcoder.lag = lag
        self.ladder.transcoder = self.transcoder
        self.packager = Packager(self.sink, self.ladder)

    def begin(self, *tracks: Track) -> None:
        for sink in (self.packager, self.transcoder):
            sink.tracks_changed(tracks)

    def feed(self, frames: list[Frame]) -> None:
        for frame in frames:
            self.clock.advance(max(0.0, frame.arrived_ms / 1000 - self.clock.seconds()))
            self.packager.frame_received(frame)
            self.transcoder.frame_received(frame)

    def finish(self) -> Any:
        done = self.packager.finish()
        self.transcoder.finish()
        return done

    def record(self, seconds: float = 14) -> RecordingWriter:
        self.begin(VIDEO, AUDIO)
        self.feed(frames_of(seconds))
        self.finish()
        return self.writer

    def journals(self, id: RecordingId = ID) -> list[Journal]:
        """Of the recording and its rungs."""
        return [read_journal(self.writer.objects, id.of(name)) for name in ("", *RUNGS)]


def frames_of(seconds: float) -> list[Frame]:
    return interleaved(video_frames(VIDEO, seconds), audio_frames(AUDIO, seconds))


def shape(journal: Journal) -> list[object]:
    """Where segments begin and end."""
    return [(each.number, each.start, each.duration, each.utc_ms, each.discontinuity) for each in journal.segments]


def gaps(journal: Journal) -> list[int]:
    return [each.number for each in journal.segments if each.is_gap]


class ContractTests(SinkContract, SynchronousTestCase):
    def make_sink(self, context: SinkContext) -> IPartSink:
        sink: AllRenditionsSink = Packager(make_sink(context)).sinks[0]
        return sink


class RungTests(SynchronousTestCase):
    @slow
    def test_rungs_are_cut_as_their_source(self) -> None:
        """Each rung has the segments of its source, with all of its pictures and the audio, and one init segment."""
        stream = RecordedLadder()
        objects = stream.record().objects
        source, *rungs = stream.journals()
        self.assertEqual([0, 1, 2], [each.number for each in source.segments])
        for name, rung in zip(RUNGS, rungs, strict=True):
            self.assertEqual(shape(source), shape(rung))
            self.assertEqual([], gaps(rung))
            for track in (VIDEO, AUDIO):
                media, whole = (read_media(objects, ID.of(each)) for each in (name, ""))
                self.assertEqual(payloads(whole, track.id), payloads(media, track.id))
        self.assertEqual([1280, 854, 640], [each.header.width for each in (source, *rungs)])

    def test_catalogue_counts_all(self) -> None:
        """The entry of a recording names its renditions; its size is that of all; it is over when they are."""
        stream = RecordedLadder()
        stream.begin(VIDEO, AUDIO)
        stream.feed(frames_of(14))
        self.assertEqual(RUNGS, read_entry(stream.writer.objects, ID).renditions)
        done = stream.packager.finish()
        self.assertIs(RecordingState.RECORDING, read_entry(stream.writer.objects, ID).state)
        self.assertNoResult(done)
        stream.transcoder.finish()
        self.successResultOf(done)
        entry = read_entry(stream.writer.objects, ID)
        self.assertEqual((RecordingState.FINISHED, RUNGS), (entry.state, entry.renditions))
        self.assertEqual(sum(each.size for each in stream.journals()), entry.size)
        self.assertEqual([], stream.clock.getDelayedCalls())

    def test_rung_that_dies_has_gaps(self) -> None:
        """Of a rung that brings nothing more the segments that lack something cannot be played; the others can."""
        stream = RecordedLadder()
        stream.begin(VIDEO, AUDIO)
        frames = frames_of(26)
        for frame in frames:
            if frame.dts == 13 * 90_000 and frame.track is VIDEO:
                stream.transcoder.dead.add("480p")
            stream.feed([frame])
        stream.finish()
        source, large, small = stream.journals()
        self.assertEqual([shape(source)] * 2, [shape(large), shape(small)])
        self.assertEqual(([2, 3, 4], []), (gaps(large), gaps(small)))

    @slow
    def test_rung_that_begins_late(self) -> None:
        """A rung that begins later has gaps for what is before, so that its segments have the numbers of its source."""
        stream = RecordedLadder()
        stream.transcoder.dead.add("360p")
        stream.begin(VIDEO, AUDIO)
        for frame in frames_of(26):
            if frame.dts == 8 * 90_000 and frame.track is VIDEO:
                stream.transcoder.dead.clear()
            stream.feed([frame])
        stream.finish()
        source, large, small = stream.journals()
        self.assertEqual([shape(source)] * 2, [shape(large), shape(small)])
        self.assertEqual(([], [0, 1]), (gaps(large), gaps(small)))

    @slow
    def test_rungs_rotate_with_their_source(self) -> None:
        """Where a recording ends and another begins, those of its rungs do, however late they are."""
        stream = RecordedLadder(lag=20, every_ms=12_000)
        stream.record(26)
        starts = ("20260101T000000Z", "20260101T000012Z", "20260101T000024Z")
        for start in starts:
            source, *rungs = stream.journals(RecordingId("live", "test", start))
            for rung in rungs:
                self.assertEqual((shape(source), []), (shape(rung), gaps(rung)))
                self.assertEqual(source.header.started_ms, rung.header.started_ms)
        for start in starts:
            entry = read_entry(stream.writer.objects, RecordingId("live", "test", start))
            self.assertEqual((RecordingState.FINISHED, RUNGS), (entry.state, entry.renditions))

    @slow
    def test_recorder_stopped_by_hand(self) -> None:
        """A recorder that is stopped in mid-stream ends its rungs where the source ended; those that hang, later."""
        for seconds in (0.5, LONGEST_WAIT_S):
            stream = RecordedLadder()
            stream.begin(VIDEO, AUDIO)
            frames = frames_of(20)
            stream.feed(frames[:700])
            stream.packager.remove(stream.sink)
            done = stream.sink.finish()
            if seconds < 1:
                stream.feed(frames[700:760])
            else:
                stream.clock.advance(seconds)
            self.successResultOf(done)
            source, *rungs = stream.journals()
            for rung in rungs:
                self.assertEqual(shape(source)[:-1], shape(rung)[: len(source.segments) - 1])
            if seconds < 1:
                self.assertEqual([shape(source)] * 2, list(map(shape, rungs)))


@slow
class SizeTests(SynchronousTestCase):
    SMALL = make_video_track(640, 360, id=3)

    def test_sizes_of_the_publisher(self) -> None:
        """A further size of the picture that the publisher sends is recorded beside the leading one, with the audio."""
        writer = RecordingWriter()
        packager = Packager(make_sink(make_sink_context(storage=writer)))
        packager.tracks_changed((VIDEO, AUDIO, self.SMALL))
        small = video_frames(self.SMALL, 14, size=300)
        for frame in interleaved(video_frames(VIDEO, 14), small, audio_frames(AUDIO, 14)):
            packager.frame_received(frame)
        self.successResultOf(packager.finish())
        source, other = (read_journal(writer.objects, ID.of(name)) for name in ("", "video-1"))
        self.assertEqual((shape(source), []), (shape(other), gaps(other)))
        self.assertEqual(("video-1",), read_entry(writer.objects, ID).renditions)
        media = read_media(writer.objects, ID.of("video-1"))
        self.assertEqual([frame.data for frame in small], payloads(media, self.SMALL.id))
        self.assertEqual(payloads(read_media(writer.objects, ID), AUDIO.id), payloads(media, AUDIO.id))

    def test_rungs_beside_several_languages(self) -> None:
        """Where viewers choose the audio, rungs come without any; they are recorded with the first one."""
        stream = RecordedLadder()
        french = make_audio_track(id=4)
        stream.begin(VIDEO, AUDIO, french)
        stream.feed(interleaved(video_frames(VIDEO, 14), audio_frames(AUDIO, 14), audio_frames(french, 14)))
        stream.finish()
        whole, media = (read_media(stream.writer.objects, ID.of(each)) for each in ("", "480p"))
        self.assertEqual(payloads(whole, AUDIO.id), payloads(media, AUDIO.id))


class ServedTests(RecordingsCase):
    def setUp(self) -> None:
        super().setUp()
        self.use(store(RecordedLadder().record()))

    def text(self, name: str, rendition: str = "") -> str:
        return self.get(name, id=ID.of(rendition)).body.decode()

    def test_playlist_of_all_renditions(self) -> None:
        """The multivariant playlist names each rendition with its rates, codecs and size, the source first."""
        found = parse_multivariant_playlist(self.text("master.m3u8"))
        self.assertEqual((), found.problems)
        self.assertEqual(["index.m3u8", "480p/index.m3u8", "360p/index.m3u8"], [each.uri for each in found.variants])
        self.assertIn("RESOLUTION=854x480", self.text("master.m3u8"))
        self.fails(NotFoundError, "master.m3u8", id=ID.of("480p"))

    def test_renditions_are_played_in_step(self) -> None:
        """The playlists of renditions say the same of each segment, and all that they name is there."""
        source = parse_media_playlist(self.text("index.m3u8"))
        for name in RUNGS:
            rung = parse_media_playlist(self.text("index.m3u8", name))
            self.assertEqual(
                [(each.sequence, each.duration_us, each.date_us) for each in source.segments],
                [(each.sequence, each.duration_us, each.date_us) for each in rung.segments],
            )
            for uri in ("init.mp4", "recording.mp4", *(each.uri for each in rung.segments)):
                self.assertEqual(200, self.get(uri, id=ID.of(name)).status)
        self.fails(NotFoundError, "index.m3u8", id=ID.of("240p"))

    def test_deletion_takes_all_along(self) -> None:
        """A recording is deleted with its renditions, and what is kept of them."""
        self.text("index.m3u8", "480p")
        self.recordings.delete(None, *ID[:3])  # type: ignore[arg-type]
        self.assertEqual([], self.successResultOf(self.storage.list("recordings/")))
        self.fails(NotFoundError, "index.m3u8", id=ID.of("480p"))


@slow
class ToolTests(ToolsCase):
    def test_good_renditions_are_good(self) -> None:
        """A recording whose renditions are as their journals say is good; nothing of it is repaired."""
        storage = store(RecordedLadder().record())
        for deep in (False, True):
            self.assertEqual([f"{ID}: good"], self.run_with(verify(storage, deep=deep)).lines)
        self.assertEqual(["there was nothing to repair"], self.run_with(repair(storage)).lines)

    def test_rendition_of_which_nothing_is_left(self) -> None:
        """A rendition of which nothing can be played is removed by a repair, and named no more."""
        storage = store(RecordedLadder().record())
        for info in self.successResultOf(storage.list(f"{ID.folder}/480p/part_")):
            self.successResultOf(storage.delete(info.key))
        self.assertFalse(self.run_with(verify(storage)).is_well)
        self.run_with(repair(storage))
        self.assertEqual([f"{ID}: good"], self.run_with(verify(storage)).lines)
        self.assertEqual([], self.successResultOf(storage.list(f"{ID.folder}/480p/")))
        self.assertEqual(["there was nothing to repair"], self.run_with(repair(storage)).lines)

    def test_fault_of_a_rendition(self) -> None:
        """What is missing of a rendition is said and mended; the recording itself stays as it is."""
        storage = store(RecordedLadder().record())
        self.successResultOf(storage.delete(f"{ID.folder}/480p/journal_000000.jsonl"))
        outcome = self.run_with(verify(storage))
        self.assertIn("480p: the head of the journal is missing", outcome.lines[0])
        self.assertTrue(self.run_with(repair(storage)).is_well)
        self.assertEqual([f"{ID}: good"], self.run_with(verify(storage)).lines)

    def test_server_that_died(self) -> None:
        """What a server that died left of a recording is recovered with its renditions."""
        stream = RecordedLadder()
        stream.begin(VIDEO, AUDIO)
        stream.feed(frames_of(16))
        storage = store(stream.writer, by_another=True)
        self.assertEqual([ID], self.run_with(recover_all(storage)))
        self.assertEqual([f"{ID}: good"], self.run_with(verify(storage, deep=True)).lines)
        self.assertIs(RecordingState.RECOVERED, self.state(storage))

    def test_export_of_all_renditions(self) -> None:
        """A folder of a recording has its renditions, and a playlist that names them; a file has the one asked for."""
        storage, folder = store(RecordedLadder().record()), Path(self.mktemp())
        folder.mkdir(parents=True)
        target = folder / "out"
        outcome = self.run_with(export(storage, str(ID), target))
        self.assertIn("3 renditions", outcome.lines[0])
        master = parse_multivariant_playlist((target / "master.m3u8").read_text())
        for variant in master.variants:
            playlist = target / variant.uri
            for segment in parse_media_playlist(playlist.read_text()).segments:
                self.assertTrue((playlist.parent / segment.uri).stat().st_size)
        self.run_with(export(storage, f"{ID}/480p", folder / "small.mp4"))
        self.assertTrue((folder / "small.mp4").stat().st_size)
