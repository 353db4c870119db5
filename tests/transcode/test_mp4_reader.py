"""Reading the fragments that a program writes to a pipe."""

from __future__ import annotations

from dataclasses import replace
from struct import pack

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.boxes import box
from rapidrtmp.cmaf.fragment import write_fragment
from rapidrtmp.codec.table import AVC
from rapidrtmp.errors import MediaError
from rapidrtmp.interfaces import Sample, TrackRun
from rapidrtmp.media import VIDEO_TIMESCALE
from rapidrtmp.testing.frames import make_audio_track, make_video_track, video_frames
from rapidrtmp.transcode.mp4_reader import Mp4Config, Mp4Reader, Mp4Sample
from tests.cutting import assert_read_three_ways
from tests.transcode.mp4 import fragment_of, head_of

VIDEO = make_video_track()
HEAD = head_of(VIDEO)
CONFIG = Mp4Config(AVC.fourcc, VIDEO.config.record, VIDEO_TIMESCALE)
FRAMES = video_frames(VIDEO, 1, b_frames=2, start=90 << 32)


def new_feed() -> object:
    reader = Mp4Reader()

    def feed(data: bytes) -> list[Mp4Config | Mp4Sample]:
        reader.receive_data(data)
        return list(reader.events())

    return feed


def read(data: bytes) -> list[Mp4Config | Mp4Sample]:
    reader = Mp4Reader()
    reader.receive_data(data)
    return list(reader.events())


class Mp4ReaderTests(SynchronousTestCase):
    def test_samples_as_they_come(self) -> None:
        """However the bytes come, the configuration is read, then each sample with its exact time of presentation."""
        first, second = FRAMES[:2]
        data = box(b"ftyp", b"iso5") + HEAD[HEAD.index(b"moov") - 4 :] + fragment_of(first)
        expected = [CONFIG, Mp4Sample(first.pts, first.data)]
        behind = [Mp4Sample(second.pts, second.data)]
        assert_read_three_ways(self, new_feed, data, expected, fragment_of(second), behind)  # type: ignore[arg-type]

    def test_fragments_of_our_own(self) -> None:
        """Fragments of several samples, which each say all of themselves, are read as well."""
        run = TrackRun(VIDEO, [Sample(frame, frame.duration) for frame in FRAMES])
        found = read(HEAD + b"".join(write_fragment(1, [run])) + box(b"mfra"))
        self.assertEqual([CONFIG, *(Mp4Sample(frame.pts, frame.data) for frame in FRAMES)], found)

    def test_before_time_begins(self) -> None:
        """A picture may be decoded before the timeline begins, if it is shown later."""
        frame = replace(FRAMES[0], dts=-6_000, composition_offset=6_000)
        self.assertEqual([Mp4Sample(0, frame.data)], read(HEAD + fragment_of(frame))[1:])

    def test_garbage_is_refused(self) -> None:
        """What is no MP4, has another number of tracks, or is cut short within a box is refused with what was found."""
        whole = fragment_of(FRAMES[0])
        at = whole.index(b"trun") + 16
        for garbage in (
            b"FLV\x01\x05\x00\x00\x00\x09",
            pack(">I4s", 7, b"ftyp"),
            pack(">I4s", 9 << 20, b"mdat"),
            whole,
            box(b"moov", b"garbage"),
            head_of(make_audio_track())[:0] + box(b"moov"),
            HEAD + box(b"moof"),
            HEAD + box(b"moof", box(b"traf", box(b"trun", bytes(3)))),
            HEAD + box(b"moof", box(b"traf", pack(">I4s", 99, b"trun"))),
            HEAD + box(b"moof", box(b"traf", box(b"trun", pack(">II", 0x100, 1 << 31)))),
            HEAD + whole[: at - 4] + pack(">I", 5) + whole[at:],
            HEAD + whole.replace(pack(">I", len(FRAMES[0].data)), pack(">I", 1 << 30), 1),
        ):
            self.assertRaises(MediaError, read, garbage)
