from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive.journal import Header, Journal, RecordedSegment, parse_page
from rapidrtmp.archive.layout import RecordingId, StartNames, read_page_name
from rapidrtmp.cmaf.packager import Packager
from rapidrtmp.cmaf.reader import read_fragments, read_init_segment
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.interfaces import Cutting, IPartSink, ISinkFactory, RetentionRules, SinkContext
from rapidrtmp.media import Frame, TimedMetadata
from rapidrtmp.recording.catalogue import Entry, RecordingState
from rapidrtmp.recording.sink import RecorderFactory, RecorderSink, Rotation
from rapidrtmp.recording.writer import LINES_PER_PAGE
from rapidrtmp.testing.frames import (
    FrameSource,
    audio_frames,
    interleaved,
    make_audio_track,
    make_video_track,
    video_frames,
)
from rapidrtmp.testing.sink_factories import SinkFactoryContract
from rapidrtmp.testing.sinks import STARTED_AT_MS, RecordingWriter, SinkContract, feed, make_sink_context
from tests.cmaf.test_event_messages import event_fields
from tests.slow import slow

VIDEO, AUDIO = make_video_track(), make_audio_track()
FIRST = RecordingId("live", "test", "20260101T000000Z")


def make_recorder(context: SinkContext, *, every_ms: int = 0, by_utc: bool = True) -> Packager:
    cutting = Cutting(segment_ms=6_000, part_ms=1_000)
    return Packager(RecorderSink(context, cutting, Rotation(every_ms, by_utc), StartNames()))


def read_journal(objects: dict[str, bytes], recording: RecordingId) -> Journal:
    pages = sorted(key for key in objects if key.startswith(f"{recording.folder}/journal_"))
    header, *segments = (line for page in pages for line in parse_page(objects[page]))
    assert isinstance(header, Header)
    return Journal(header, [each for each in segments if isinstance(each, RecordedSegment)])


def read_media(objects: dict[str, bytes], recording: RecordingId) -> bytes:
    """The recording as one file: the init segment, then its parts as they are listed."""
    parts = sorted(key for key in objects if key.startswith(f"{recording.folder}/part_"))
    return b"".join(objects[key] for key in (f"{recording.folder}/init.mp4", *parts))


def read_entry(objects: dict[str, bytes], recording: RecordingId) -> Entry:
    return Entry.parse(recording, objects[recording.catalogue_key])


def payloads(media: bytes, track_id: int) -> list[bytes]:
    fragments = read_fragments(media, read_init_segment(media))
    return [
        sample.payload
        for fragment in fragments
        for track in fragment.tracks
        if track.track_id == track_id
        for sample in track.samples
    ]


class RecorderContractTests(SinkContract, SynchronousTestCase):
    def make_sink(self, context: SinkContext) -> IPartSink:
        sink: RecorderSink = make_recorder(context).sinks[0]
        return sink


class RecorderFactoryContractTests(SinkFactoryContract, SynchronousTestCase):
    def make_factory(self) -> ISinkFactory:
        return RecorderFactory()


class RecorderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.writer = RecordingWriter()
        self.recorder, self.context = self.new_recorder()

    def new_recorder(self, **rotation: Any) -> tuple[Packager, SinkContext]:
        context = make_sink_context(storage=self.writer)
        return make_recorder(context, **rotation), context

    def record(self, frames: list[Frame]) -> None:
        feed(self.recorder, frames)

    def record_all(self, seconds: int = 14) -> list[Frame]:
        source = FrameSource(VIDEO, AUDIO, gop=60)
        self.recorder.tracks_changed(source.tracks)
        frames = source.take(seconds // 2)
        self.record(frames)
        self.successResultOf(self.recorder.finish())
        return frames

    def recordings(self) -> list[str]:
        keys = (key for key in self.writer.objects if key.startswith("recordings/.catalogue/"))
        return sorted(key.rpartition("/")[2].removesuffix(".json") for key in keys)

    # ── what is written

    def test_all_frames_are_recorded_once(self) -> None:
        """The init segment and the parts in the order of their names are a file that holds every frame, once."""
        frames = self.record_all()
        media = read_media(self.writer.objects, FIRST)
        for track in (VIDEO, AUDIO):
            self.assertEqual([each.data for each in frames if each.track is track], payloads(media, track.id))

    @slow
    def test_drops_leave_no_hole(self) -> None:
        """Frames that are missing right behind a part that is stored already leave no hole and take no others along."""
        for missing in (range(150, 151), range(150, 157), range(150, 230)):
            self.setUp()
            video = [frame for frame in video_frames(VIDEO, 14) if frame.dts // 3_000 not in missing]
            sound = audio_frames(AUDIO, 14)
            self.recorder.tracks_changed((VIDEO, AUDIO))
            self.record(interleaved(video, sound))
            self.successResultOf(self.recorder.finish())
            media = read_media(self.writer.objects, FIRST)
            for track, frames in ((VIDEO, video), (AUDIO, sound)):
                self.assertEqual([frame.data for frame in frames], payloads(media, track.id))
                ended = None
                for fragment in read_fragments(media, read_init_segment(media)):
                    for run in fragment.tracks:
                        if run.track_id == track.id:
                            self.assertIn(ended, (None, run.base_decode_time))
                            ended = run.base_decode_time + sum(sample.duration for sample in run.samples)
            journal = read_journal(self.writer.objects, FIRST)
            for one, other in pairwise(journal.segments):
                self.assertEqual(one.start + one.duration, other.start)
            self.assertTrue(all(segment.keyframe for segment in journal.segments))

    def test_journal_has_segments_and_times(self) -> None:
        """Segments begin with keyframes at the wanted distance, and say when, in ticks and by the wall clock."""
        self.record_all()
        journal = read_journal(self.writer.objects, FIRST)
        self.assertEqual([0, 1, 2], [segment.number for segment in journal.segments])
        self.assertEqual([0, 540_000, 1_080_000], [segment.start for segment in journal.segments])
        self.assertEqual([540_000, 540_000, 180_000], [segment.duration for segment in journal.segments])
        self.assertEqual(
            [STARTED_AT_MS + seconds * 1000 for seconds in (0, 6, 12)],
            [segment.utc_ms for segment in journal.segments],
        )
        self.assertTrue(all(segment.keyframe for segment in journal.segments))
        self.assertEqual([True, False, True, False, True, False], [part.keyframe for part in journal.segments[0].parts])

    def test_entry_has_duration_and_size(self) -> None:
        """The catalogue says that it is recorded, and in the end how long and large it is."""
        source = FrameSource(VIDEO, AUDIO, gop=60)
        self.recorder.tracks_changed(source.tracks)
        self.record(source.take(4))
        self.assertIs(RecordingState.RECORDING, read_entry(self.writer.objects, FIRST).state)
        self.successResultOf(self.recorder.finish())
        entry = read_entry(self.writer.objects, FIRST)
        self.assertEqual(
            Entry.of_journal(FIRST, RecordingState.FINISHED, read_journal(self.writer.objects, FIRST)), entry
        )
        media_size = len(read_media(self.writer.objects, FIRST))
        # and the sound of the last pictures, which came after their part had left
        self.assertEqual((8_001, media_size, 2, 0), (entry.duration_ms, entry.size, entry.segments, entry.gaps))

    def test_order_of_what_is_stored(self) -> None:
        """Nothing is stored of which the catalogue does not know, and no part that could not be decoded."""
        self.record_all()
        names = [key.rpartition("/")[2] for _, key in self.writer.operations]
        self.assertEqual(
            ["20260101T000000Z.json", "init.mp4", "journal_000000.jsonl", "part_00000000_000.m4s"], names[:4]
        )
        self.assertEqual("20260101T000000Z.json", names[-1])

    def test_nothing_is_held_for_long(self) -> None:
        """From the first second on, no more than a part is missing in the storage."""
        source = FrameSource(VIDEO, AUDIO, gop=300)
        self.recorder.tracks_changed(source.tracks)
        given = stored = objects = 0
        for frame in source.take(1):
            self.recorder.frame_received(frame)
            given += frame.track is VIDEO
            if len(self.writer.objects) > objects:
                objects = len(self.writer.objects)
                stored = len(payloads(read_media(self.writer.objects, FIRST), 1))
            self.assertLessEqual(given - stored, 32)
        self.assertIn(f"{FIRST.folder}/part_00000000_008.m4s", self.writer.objects)

    def test_nothing_recorded_leaves_nothing(self) -> None:
        """A stream without a frame leaves nothing."""
        self.recorder.tracks_changed((VIDEO,))
        self.successResultOf(self.recorder.finish())
        self.assertEqual([], self.writer.operations)

    def test_pages_of_the_journal_fill(self) -> None:
        """A page of the journal is full at some time; then a new one is begun, and the old one is left alone."""
        self.recorder = Packager(
            RecorderSink(self.context, Cutting(segment_ms=1_000, part_ms=1_000), Rotation(0, by_utc=True), StartNames())
        )
        self.recorder.tracks_changed((VIDEO,))
        self.record(video_frames(VIDEO, LINES_PER_PAGE + 6, gop=30))
        self.successResultOf(self.recorder.finish())
        pages = [key for _, key in self.writer.operations if "/journal_" in key]
        self.assertEqual(LINES_PER_PAGE, sum(key.endswith("_000000.jsonl") for key in pages))
        self.assertEqual(pages, sorted(pages, key=lambda key: read_page_name(key.rpartition("/")[2]) or 0))
        journal = read_journal(self.writer.objects, FIRST)
        self.assertEqual(list(range(LINES_PER_PAGE + 6)), [segment.number for segment in journal.segments])

    # ── time

    def test_decode_times_begin_near_zero(self) -> None:
        """A recording of a stream that runs for a day begins within two seconds of zero, its tracks still together."""
        day_s = 86_400
        self.recorder.tracks_changed((VIDEO, AUDIO))
        self.record(
            interleaved(
                video_frames(VIDEO, 3, start=day_s * 90_000 + 45_000),
                audio_frames(AUDIO, 3, start=day_s * 48_000 + 24_000),
            )
        )
        self.successResultOf(self.recorder.finish())
        (name,) = self.recordings()
        recording = replace_start(name)
        media = read_media(self.writer.objects, recording)
        tracks = read_fragments(media, read_init_segment(media))[0].tracks
        self.assertEqual([135_000, 72_000], [track.base_decode_time for track in tracks])
        self.assertEqual(135_000, read_journal(self.writer.objects, recording).segments[0].start)

    def test_timed_metadata_moves_with_the_media(self) -> None:
        """What is said about a moment is recorded in front of it, at its time in the recording."""
        day_s = 86_400
        self.recorder.tracks_changed((VIDEO,))
        frames = list(video_frames(VIDEO, 3, start=day_s * 90_000))
        self.record(frames[:45])
        self.recorder.metadata_received(TimedMetadata(day_s * 1000 + 1_500, b"ID3 here"))
        self.record(frames[45:])
        self.successResultOf(self.recorder.finish())
        (name,) = self.recordings()
        media = read_media(self.writer.objects, replace_start(name))
        at = media.index(b"emsg") - 4
        _, time, _, (_, _, said) = event_fields(media[at : at + int.from_bytes(media[at : at + 4], "big")])
        first = read_fragments(media, read_init_segment(media))[0].tracks[0].base_decode_time
        self.assertEqual((first // 90 + 1_500, b"ID3 here"), (time, said))
        self.assertEqual([frame.data for frame in frames], payloads(media, VIDEO.id))

    def test_interruption_is_a_discontinuity(self) -> None:
        """A publisher that returns continues in the same recording, with a discontinuity."""
        self.recorder.tracks_changed((VIDEO,))
        self.record(video_frames(VIDEO, 3, gop=30))
        self.recorder.interrupted()
        self.recorder.discontinuity()
        self.record(video_frames(VIDEO, 3, gop=30, start=900_000))
        self.successResultOf(self.recorder.finish())
        journal = read_journal(self.writer.objects, FIRST)
        self.assertEqual([(0, False), (900_000, True)], [(each.start, each.discontinuity) for each in journal.segments])

    # ── where a recording ends

    def test_other_tracks_begin_another_recording(self) -> None:
        """Tracks that need another init segment begin another recording; the same ones do not."""
        self.recorder.tracks_changed((VIDEO,))
        self.record(video_frames(VIDEO, 3, gop=30))
        for at_s, track in ((10, make_video_track()), (20, make_video_track(640, 360))):
            self.recorder.discontinuity()
            self.recorder.tracks_changed((track,))
            self.record(video_frames(track, 3, gop=30, start=at_s * 90_000))
        self.successResultOf(self.recorder.finish())
        self.assertEqual([FIRST.start, "20260101T000020Z"], self.recordings())
        widths = [read_entry(self.writer.objects, replace_start(name)).width for name in self.recordings()]
        self.assertEqual([1280, 640], widths)

    @slow
    def test_rotation_loses_no_frame(self) -> None:
        """A recording ends at the first keyframe that may begin a segment from its limit on; no frame is lost."""
        self.recorder, _ = self.new_recorder(every_ms=60_000)
        source = FrameSource(VIDEO, AUDIO, gop=60)
        self.recorder.tracks_changed(source.tracks)
        frames = source.take(65)
        self.record(frames)
        self.successResultOf(self.recorder.finish())
        self.assertEqual([FIRST.start, "20260101T000100Z", "20260101T000200Z"], self.recordings())
        for track in (VIDEO, AUDIO):
            stored = [
                data
                for name in self.recordings()
                for data in payloads(read_media(self.writer.objects, replace_start(name)), track.id)
            ]
            self.assertEqual([each.data for each in frames if each.track is track], stored)

    def test_limits_by_clock_or_start(self) -> None:
        """By UTC, limits are full hours; from the start, each recording has its whole time."""
        at_ms = 1_767_225_600_000 + 20 * 60_000
        self.assertEqual(at_ms + 40 * 60_000, Rotation(3_600_000, by_utc=True).limit_ms(at_ms))
        self.assertEqual(at_ms + 60 * 60_000, Rotation(3_600_000, by_utc=False).limit_ms(at_ms))
        self.assertIsNone(Rotation(0, by_utc=True).limit_ms(at_ms))

    # ── a storage that fails

    def test_lost_part_makes_a_gap(self) -> None:
        """A part that the storage did not take makes its segment a gap; the rest is as it was."""
        self.writer.holds = True
        source = FrameSource(VIDEO, AUDIO, gop=60)
        self.recorder.tracks_changed(source.tracks)
        self.record(source.take(9))
        ending = self.recorder.finish()
        self.writer.settle_all(loses=lambda key: key.endswith("part_00000001_002.m4s"))
        self.successResultOf(ending)
        journal = read_journal(self.writer.objects, FIRST)
        self.assertEqual([False, True, False], [segment.is_gap for segment in journal.segments])
        self.assertEqual([False, False, True], [part.lost for part in journal.segments[1].parts[:3]])
        self.assertEqual(540_000, journal.segments[1].duration)
        self.assertEqual(1, read_entry(self.writer.objects, FIRST).gaps)

    def test_lost_page_is_written_again(self) -> None:
        """What is lost of the entry, the init segment and the journal is written again with what follows."""
        self.writer.holds = True
        source = FrameSource(VIDEO, AUDIO, gop=60)
        self.recorder.tracks_changed(source.tracks)
        self.record(source.take(9))
        self.writer.settle_all(loses=lambda key: key.endswith((".json", ".jsonl", ".mp4")))
        self.assertFalse(any(key.endswith((".json", ".jsonl", ".mp4")) for key in self.writer.objects))
        self.record(source.take(2))
        self.writer.settle_all()
        self.assertIs(RecordingState.RECORDING, read_entry(self.writer.objects, FIRST).state)
        ending = self.recorder.finish()
        self.writer.settle_all()
        self.successResultOf(ending)
        self.assertEqual(4, len(read_journal(self.writer.objects, FIRST).segments))
        self.assertIn(f"{FIRST.folder}/init.mp4", self.writer.objects)

    def test_lost_journal_is_not_finished(self) -> None:
        """Without its journal a recording is not called finished, so that the next start recovers it."""
        self.writer.holds = True
        source = FrameSource(VIDEO, AUDIO, gop=60)
        self.recorder.tracks_changed(source.tracks)
        self.record(source.take(4))
        ending = self.recorder.finish()
        self.writer.settle_all(loses=lambda key: "journal" in key)
        self.successResultOf(ending)
        self.assertIs(RecordingState.RECORDING, read_entry(self.writer.objects, FIRST).state)


def replace_start(name: str) -> RecordingId:
    return FIRST._replace(start=name)


class RecorderFactoryTests(SynchronousTestCase):
    def test_arguments_are_read_with_units(self) -> None:
        """Durations and sizes are read the way operators write them."""
        factory = RecorderFactory("4s", "500ms", "30m", "start", "7d", "50G", "5G")
        self.assertEqual(replace(Cutting(), segment_ms=4_000, part_ms=500), factory.cutting)
        self.assertEqual(Rotation(1_800_000, by_utc=False), factory.rotation)
        self.assertEqual(RetentionRules(604_800_000, 50 << 30, 5 << 30), factory.retention)

    def test_bad_arguments_are_refused(self) -> None:
        """What cannot work is refused."""
        for bad in (
            {"segment": "500ms"},
            {"segment": "2m"},
            {"part": "7s"},
            {"part": "0"},
            {"rotate": "10s"},
            {"split": "noon"},
            {"retain": "long"},
            {"max_bytes": "-1"},
        ):
            self.assertRaises(ConfigurationError, RecorderFactory, **bad)

    def test_factory_creates_a_recorder(self) -> None:
        """It makes a recorder for each stream."""
        context = make_sink_context()
        sink = Packager(RecorderFactory().create(context))
        sink.tracks_changed((VIDEO,))
        feed(sink, video_frames(VIDEO, 3, gop=30))
        self.successResultOf(sink.finish())
        storage: Any = context.storage
        self.assertTrue(any(key.startswith("recordings/live/test/") for key in storage.objects))

    def test_memory_storage_is_warned_of(self) -> None:
        """Recording into a storage that keeps nothing is allowed, and said."""
        with capturedLogs() as logs:
            RecorderFactory().create(make_sink_context())
            self.assertEqual([], logs)
            RecorderFactory().create(make_sink_context(storage=RecordingWriter(persistent=False)))
        self.assertIn("into memory", logs[0]["log_format"])


class BesideHlsTests(SynchronousTestCase):
    """A recorder whose stream another sink has cut: its parts and segments are several of that one's."""

    def setUp(self) -> None:
        self.writer = RecordingWriter()
        self.recorder = make_recorder(make_sink_context(storage=self.writer)).sinks[0]
        self.packager = Packager(HlsSinkFactory().create(make_sink_context()), self.recorder)

    def parts(self) -> list[bytes]:
        return [data for key, data in self.writer.objects.items() if "/part_" in key]

    def test_parts_join_three_fragments(self) -> None:
        """Each part is one fragment of three of HLS, and each segment begins with a keyframe after six seconds."""
        source = FrameSource(VIDEO, AUDIO, gop=60)
        self.packager.tracks_changed(source.tracks)
        feed(self.packager, source.take(8))
        self.successResultOf(self.packager.finish())
        self.assertEqual({1}, {data.count(b"moof") for data in self.parts()})
        names = [key.rpartition("/")[2] for key in self.writer.objects if "/part_" in key]
        # audio that belongs to no picture any more is a part of its own at the end
        self.assertEqual([6, 6, 5], [sum(f"part_0000000{number}" in name for name in names) for number in range(3)])

    def test_frames_beside_hls_once(self) -> None:
        """Every frame is recorded once, in order."""
        source = FrameSource(VIDEO, AUDIO, gop=60)
        self.packager.tracks_changed(source.tracks)
        frames = source.take(7)
        feed(self.packager, frames)
        self.successResultOf(self.packager.finish())
        tracks = read_init_segment(next(data for key, data in self.writer.objects.items() if "init" in key))
        sizes: dict[int, list[int]] = {}
        for fragment in read_fragments(b"".join(self.parts()), tracks):
            for track in fragment.tracks:
                sizes.setdefault(track.track_id, []).extend(sample.size for sample in track.samples)
        for track in (VIDEO, AUDIO):
            self.assertEqual([len(frame.data) for frame in frames if frame.track is track], sizes[track.id])
