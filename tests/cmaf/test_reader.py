"""Reading boxes back: ours, FFmpeg's, broken ones."""

from __future__ import annotations

import mmap
import tempfile

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf import boxes
from rapidrtmp.cmaf.describe import describe
from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.cmaf.reader import (
    SampleInfo,
    TrackInfo,
    complete_prefix,
    read_boxes,
    read_fragments,
    read_init_segment,
)
from rapidrtmp.codec.esds import write_esds
from rapidrtmp.errors import MediaError
from rapidrtmp.interfaces import TrackRun
from tests.cmaf.test_fragment import audio_sample, fragment_of, video_sample
from tests.cmaf.test_init_segment import AUDIO, VIDEO
from tests.slow import slow

INIT = write_init_segment([VIDEO, AUDIO])
TRACKS = read_init_segment(INIT)
FIRST = fragment_of(
    TrackRun(VIDEO, [video_sample(0, b"key", offset=3_600, keyframe=True), video_sample(3_600, b"b", offset=-1)]),
    TrackRun(AUDIO, [audio_sample(0, b"sound")]),
)
SECOND = fragment_of(TrackRun(VIDEO, [video_sample(7_200, b"more")]), number=2)
RECORDING = INIT + FIRST + SECOND


def _fragment(*trafs: tuple[str, str], shift: int = 0) -> bytes:
    """
    A fragment as others might write it: decode times from 1000, payload ``abcdefgh``.

    :param trafs: per traf the payload of its tfhd and, separated by a bar, those of its truns; in hexadecimal digits.
        ``DATA`` stands for the offset of the payload from the moof, and ``shift`` more.
    """
    moof = b""
    for _ in range(2):  # the second time the size of the moof is known
        place = f"{len(moof) + 8 + shift & 0xFFFFFFFF:08x}"
        moof = boxes.box(b"moof", boxes.full_box(b"mfhd", 0, 0, b"\0\0\0\x09"), *(_traf(*it, place) for it in trafs))
    return moof + boxes.box(b"mdat", b"abcdefgh")


def _traf(tfhd: str, truns: str, place: str) -> bytes:
    """One traf of such a fragment."""
    written = [boxes.box(b"trun", bytes.fromhex(trun.replace("DATA", place))) for trun in truns.split("|")]
    tfdt = boxes.full_box(b"tfdt", 0, 0, b"\0\0\x03\xe8")
    return boxes.box(b"traf", boxes.box(b"tfhd", bytes.fromhex(tfhd)), tfdt, *written)


class BoxTests(SynchronousTestCase):
    def test_whole_boxes_are_read(self) -> None:
        """Boxes are read by kind, place and size; what is behind a box is not touched."""
        first, second = read_boxes(b"\0\0\0\x0afreeab" + b"\0\0\0\x08skip")
        self.assertEqual(
            ("free", 0, 10, 8, b"ab"), (first.kind, first.offset, first.size, first.body_offset, first.body)
        )
        self.assertEqual(("skip", 10, 18), (second.kind, second.offset, second.end))

    def test_byte_by_byte(self) -> None:
        """However much of two boxes is there, those that are whole are yielded before the error."""
        data = b"\0\0\0\x0afreeab" + b"\0\0\0\x09skipx"
        for length in range(len(data) + 1):
            seen = []
            try:
                for box in read_boxes(data[:length]):
                    seen.append(box.kind)
            except MediaError:
                self.assertNotIn(length, (0, 10, 19))
            else:
                self.assertIn(length, (0, 10, 19))
            self.assertEqual(["free", "skip"][: (length >= 10) + (length >= 19)], seen)

    def test_large_size_is_read(self) -> None:
        """A size of 64 bits is read, and its longer header is not part of the body."""
        (box,) = read_boxes(b"\0\0\0\x01mdat" + b"\0\0\0\0\0\0\0\x12" + b"ab")
        self.assertEqual((18, 16, b"ab"), (box.size, box.body_offset, box.body))

    def test_impossible_sizes_are_errors(self) -> None:
        """A size below that of the header, or of 0, or beyond the data, is an error with its numbers."""
        for data, message in (
            (b"\0\0\0\x07free", "'free' at 0: size 7 is less"),
            (b"\0\0\0\x00free", "'free' at 0: size 0 is less"),
            (b"\0\0\0\x09free", "'free' at 0: 8 bytes of 9"),
            (b"\0\0\0\x01free", "header at 0: 8 bytes of 16"),
            (b"\0\0\0\x01free\0\0\0\0\0\0\0\x0f", "'free' at 0: size 15 is less"),
            (b"\0\0\0", "header at 0: 3 bytes of 8"),
        ):
            with self.assertRaisesRegex(MediaError, message):
                list(read_boxes(data))

    def test_child_too_large(self) -> None:
        """A box that reaches beyond the one it is in is an error, even if the data continues."""
        data = boxes.box(b"moof", b"\0\0\0\x10mfhd") + bytes(100)
        with self.assertRaisesRegex(MediaError, "'mfhd' at 8: 8 bytes of 16"):
            next(read_boxes(data)).child("mfhd")

    def test_missing_child_is_named(self) -> None:
        """Asking for a box that is not there tells which, and where it should be."""
        with self.assertRaisesRegex(MediaError, "mdia at 8 has no minf"):
            next(read_boxes(boxes.box(b"trak", boxes.box(b"mdia")))).child("mdia", "minf")


class InitSegmentTests(SynchronousTestCase):
    def test_byte_by_byte(self) -> None:
        """An init segment is read when its last byte is there, and not before."""
        for length in range(len(INIT)):
            with self.assertRaises(MediaError):
                read_init_segment(INIT[:length])
        self.assertEqual([1, 2], [track.track_id for track in read_init_segment(INIT)])

    def test_with_more_behind(self) -> None:
        """What is behind the init segment, even cut short, makes no difference."""
        self.assertEqual(TRACKS, read_init_segment(RECORDING))
        self.assertEqual(TRACKS, read_init_segment(INIT + FIRST[:50]))

    def test_foreign_esds_are_read(self) -> None:
        """The AudioSpecificConfig is found behind sizes of four bytes, as FFmpeg writes them, and other boxes."""
        esds = boxes.full_box(
            b"esds",
            *(0, 0),
            bytes.fromhex(
                "03 80808025 0002 00 04 80808017 40 15 000000 0001f400 0001f400 05 80808005 121056e500 06 80808001 02"
            ),
        )
        self.assertEqual(bytes.fromhex("121056e500"), self._with_audio_children(boxes.box(b"btrt", bytes(12)), esds))

    def test_damaged_esds_are_errors(self) -> None:
        """An esds that is cut short, too long for its box or of another make is an error."""
        whole = write_esds(b"\x12\x10")[4:]
        for descriptor in (
            *(whole[:length] for length in range(24)),
            b"\x04" + whole[1:],
            b"\x03\xff\xff\xff\xff" + whole,
        ):
            with self.assertRaisesRegex(MediaError, "no whole descriptor"):
                self._with_audio_children(boxes.full_box(b"esds", 0, 0, descriptor))

    def _with_audio_children(self, *children: bytes) -> bytes:
        """The record found in an init segment whose ``mp4a`` holds these boxes."""
        entry = boxes.audio_sample_entry(b"mp4a", 2, 44_100, *children)
        return _read_track(boxes.hdlr(b"soun", b""), entry).record

    def test_other_codec_is_shown_partly(self) -> None:
        """Of a codec that is unknown here, as much is shown as its track says without it."""
        info = _read_track(boxes.hdlr(b"subt", b""), boxes.box(b"wxyz", bytes(20)))
        self.assertEqual(TrackInfo(5, "subt", 1_000, "wxyz", b""), info)

    def test_hevc_record_from_its_box(self) -> None:
        """The record of another video codec is taken from its own box."""
        record = bytes.fromhex("01016000000090000000000078f000fcfdf8f800000f00")
        entry = boxes.visual_sample_entry(b"hvc1", 1_920, 1_080, boxes.box(b"hvcC", record), boxes.pasp(1, 1))
        info = _read_track(boxes.hdlr(b"vide", b""), entry)
        self.assertEqual(("hvc1", record, 1_920, 1_080), (info.codec, info.record, info.width, info.height))

    def test_bytes_after_fields(self) -> None:
        """A box that is longer than its fields is an error: its reader and its writer disagree."""
        with self.assertRaisesRegex(MediaError, "mdhd at .*: 4 bytes after"):
            _read_track(boxes.hdlr(b"soun", b""), boxes.box(b"wxyz"), mdhd=boxes.full_box(b"mdhd", 0, 0, bytes(24)))


def _read_track(hdlr: bytes, entry: bytes, mdhd: bytes | None = None) -> TrackInfo:
    """What is read of the one track of an init segment around a sample entry."""
    information = boxes.box(b"minf", boxes.dinf(), boxes.stbl(entry))
    media = boxes.box(b"mdia", boxes.mdhd(1_000) if mdhd is None else mdhd, hdlr, information)
    trak = boxes.box(b"trak", boxes.tkhd(5), media)
    (info,) = read_init_segment(boxes.box(b"moov", boxes.mvhd(6), trak, boxes.mvex(boxes.trex(5))))
    return info


class FragmentTests(SynchronousTestCase):
    def test_byte_by_byte(self) -> None:
        """A fragment is read when its last byte is there, and not before."""
        for length in range(1, len(FIRST)):
            with self.assertRaises(MediaError):
                read_fragments(FIRST[:length], TRACKS)
        self.assertEqual([], read_fragments(b"", TRACKS))
        self.assertEqual(1, len(read_fragments(FIRST, TRACKS)))

    def test_recording_gives_every_fragment(self) -> None:
        """In a recording every fragment is found, with its place, its times and its payloads."""
        first, second = read_fragments(RECORDING, TRACKS)
        self.assertEqual((1, len(INIT), len(FIRST)), first[:3])
        self.assertEqual((2, len(INIT) + len(FIRST), len(SECOND)), second[:3])
        video, audio = first.tracks
        self.assertEqual((1, 0), video[:2])
        expected = [SampleInfo(0, 3_600, 3_600, 3, True, b"key"), SampleInfo(3_600, 3_599, 3_600, 1, False, b"b")]
        self.assertEqual(expected, video.samples)
        self.assertEqual([SampleInfo(0, 0, 1_024, 5, True, b"sound")], audio.samples)
        self.assertEqual([SampleInfo(7_200, 7_200, 3_600, 4, False, b"more")], second.tracks[0].samples)

    def test_mapped_file_reads_as_bytes(self) -> None:
        """A file mapped into memory is as good as bytes."""
        with tempfile.TemporaryFile() as file:
            file.write(RECORDING)
            file.flush()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                self.assertEqual(len(RECORDING), complete_prefix(mapped))
                self.assertEqual(TRACKS, read_init_segment(mapped))
                self.assertEqual(read_fragments(RECORDING, TRACKS), read_fragments(mapped, TRACKS))
                self.assertEqual(describe(RECORDING), describe(mapped))

    def test_defaults_of_the_fragment(self) -> None:
        """What tfhd says holds for every sample, and the first sample's flags for the first."""
        data = _fragment(("00020038 00000001 0000000a 00000004 01010000", "00000005 00000002 DATA 02000000"))
        self.assertEqual([(1_000, 10, True, b"abcd"), (1_010, 10, False, b"efgh")], self._brief(data))

    def test_defaults_of_the_track(self) -> None:
        """Where the fragment says nothing, what the init segment says holds."""
        track = TrackInfo(1, "vide", 90_000, "avc1", b"", default_duration=7, default_size=2, default_keyframe=False)
        data = _fragment(("00020000 00000001", "00000001 00000002 DATA"))
        self.assertEqual([(1_000, 7, False, b"ab"), (1_007, 7, False, b"cd")], self._brief(data, track))

    def test_several_runs_follow_one_another(self) -> None:
        """A run without a data offset continues where the one before ended, in time and in place."""
        sizes = "00000200 00000001 00000003"
        data = _fragment(("00020008 00000001 0000000a", f"00000201 00000001 DATA 00000002 | {sizes}"))
        self.assertEqual([(1_000, 10, True, b"ab"), (1_010, 10, True, b"cde")], self._brief(data))

    def test_data_after_that_of_the_track_before(self) -> None:
        """Without default-base-is-moof a track's data follows that of the track before, the first's from the moof."""
        data = _fragment(
            ("00000008 00000001 0000000a", "00000201 00000001 DATA 00000003"),
            ("00000008 00000002 00000014", "00000200 00000001 00000002"),
        )
        self.assertEqual([(1_000, 10, True, b"abc"), (1_000, 20, True, b"de")], self._brief(data))

    def test_base_data_offset(self) -> None:
        """An explicit base counts from the beginning of the data."""
        data = _fragment(("00000009 00000001 0000000000000010 0000000a", "00000201 00000001 DATA 00000003"), shift=-16)
        self.assertEqual([(1_000, 10, True, b"abc")], self._brief(data))

    def _brief(self, data: bytes, *tracks: TrackInfo) -> list[tuple[int, int, bool, bytes]]:
        """Decode time, duration, keyframe and payload of every sample of the one fragment."""
        (fragment,) = read_fragments(data, tracks or TRACKS)
        return [(s.dts, s.duration, s.keyframe, s.payload) for track in fragment.tracks for s in track.samples]


class BrokenFragmentTests(SynchronousTestCase):
    def assertBroken(self, message: str, data: bytes) -> None:
        """Reading fails, and says why."""
        with self.assertRaisesRegex(MediaError, message):
            read_fragments(data, TRACKS)

    def test_unknown_track_is_an_error(self) -> None:
        """A track that the init segment does not know cannot be read."""
        self.assertBroken("no track 3", _fragment(("00020000 00000003", "00000001 00000000 DATA")))

    def test_data_elsewhere_is_an_error(self) -> None:
        """A sample before, behind or only partly within its mdat is an error."""
        for shift, size in ((-1, 1), (8, 1), (0, 9), (-1_000, 1), (4, 0xFFFFFFFF)):
            trun = f"00000201 00000001 DATA {size:08x}"
            self.assertBroken("is not in the mdat", _fragment(("00020008 00000001 0000000a", trun), shift=shift))

    def test_missing_mdat_is_an_error(self) -> None:
        """A moof must have its mdat before the next."""
        moof = FIRST[: next(read_boxes(FIRST)).end]
        self.assertBroken("moof at 0 has no mdat", moof)
        self.assertBroken("moof at 0 has no mdat", moof + SECOND)

    def test_missing_box_is_an_error(self) -> None:
        """A fragment without the boxes that CMAF demands is an error."""
        for kind in (b"mfhd", b"tfhd", b"tfdt"):
            self.assertBroken(f"has no {kind.decode()}", FIRST.replace(kind, b"free"))

    def test_too_many_samples(self) -> None:
        """A trun that claims samples it spends no byte on is refused before they are counted out."""
        self.assertBroken("4294967295 samples", _fragment(("00020000 00000001", "00000001 ffffffff DATA")))

    def test_fields_cut_short(self) -> None:
        """A box that ends within its fields is an error of ours, not of the library that reads it."""
        self.assertBroken("trun at .* cannot be read", _fragment(("00020000 00000001", "00000001 00000002")))
        self.assertBroken("trun at .* cannot be read", _fragment(("00020000 00000001", "")))

    def test_bytes_after_fields(self) -> None:
        """A box that continues behind its fields is an error: its writer meant something else."""
        trun = "00000001 00000000 DATA 00000000"
        self.assertBroken("trun at .*: 4 bytes after", _fragment(("00020000 00000001", trun)))

    @slow
    @given(st.integers(0, len(RECORDING) - 1), st.integers(1, 255))
    @settings(max_examples=300)
    def test_any_byte_wrong(self, place: int, change: int) -> None:
        """Whatever byte is wrong, reading ends with values or with a MediaError, and describing with a text."""
        data = bytearray(RECORDING)
        data[place] ^= change
        try:
            read_fragments(bytes(data), read_init_segment(bytes(data)))
        except MediaError:
            pass
        self.assertIn("ftyp" if place > 8 else "", describe(bytes(data)))

    @given(st.binary(max_size=64))
    @example(b"\0\0\0\x0emoof\0\0\0\0\0\0")
    def test_noise_is_a_media_error(self, data: bytes) -> None:
        """Bytes that are no boxes at all are a MediaError too."""
        with self.assertRaises(MediaError):
            read_init_segment(data)


class CompletePrefixTests(SynchronousTestCase):
    def test_byte_by_byte(self) -> None:
        """Wherever a recording breaks off, all fragments that are whole are kept, and nothing else."""
        first_end, second_end = len(INIT + FIRST), len(RECORDING)
        for length in range(second_end + 1):
            expected = second_end if length == second_end else first_end if length >= first_end else 0
            self.assertEqual(expected, complete_prefix(RECORDING[:length]), length)

    def test_what_remains_is_readable(self) -> None:
        """The prefix of a recording that broke off is a recording."""
        broken = RECORDING[:-1]
        (fragment,) = read_fragments(broken[: complete_prefix(broken)], TRACKS)
        self.assertEqual(1, fragment.sequence_number)

    def test_noise_behind_is_cut_off(self) -> None:
        """What is behind the last fragment, zeros of a file system or a moof without its mdat, is not kept."""
        moof = FIRST[: next(read_boxes(FIRST)).end]
        for tail in (bytes(4_096), b"\xff" * 100, moof, boxes.box(b"free", b"x")):
            self.assertEqual(len(RECORDING), complete_prefix(RECORDING + tail))

    def test_nothing_whole_is_kept(self) -> None:
        """Without a fragment there is nothing to keep."""
        self.assertEqual([0, 0, 0], [complete_prefix(data) for data in (b"", INIT, b"\0" * 64)])
