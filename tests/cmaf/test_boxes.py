"""Every box, against bytes written by hand from ISO/IEC 14496-12, -14 and -15."""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf import boxes
from rapidrtmp.cmaf.reader import read_boxes
from rapidrtmp.media import Colour
from tests.slow import slow

UNITY_MATRIX = "00010000 00000000 00000000 00000000 00010000 00000000 00000000 00000000 40000000"


class BoxTestCase(SynchronousTestCase):
    def assertBytes(self, expected: str, written: bytes) -> None:
        """Compare with hexadecimal digits, spaced as pleases the eye."""
        self.assertEqual(bytes.fromhex(expected).hex(" ", 4), written.hex(" ", 4))


class FramingTests(BoxTestCase):
    def test_box_has_size_kind_payloads(self) -> None:
        """A box is its size, its kind and its payloads."""
        self.assertEqual(b"\0\0\0\x0bfreeabc", boxes.box(b"free", b"a", b"", b"bc"))

    def test_empty_box_is_its_header(self) -> None:
        """A box without payload is its header."""
        self.assertEqual(b"\0\0\0\x08free", boxes.box(b"free"))

    def test_full_box_has_version_and_flags(self) -> None:
        """A full box begins with a version and 24 bits of flags."""
        self.assertEqual(b"\0\0\0\x0dtest\x01\x02\x03\x04x", boxes.full_box(b"test", 1, 0x020304, b"x"))

    @slow
    @settings(max_examples=25)
    @given(st.lists(st.binary(max_size=20), max_size=5))
    def test_sequence_of_boxes_is_found(self, payloads: list[bytes]) -> None:
        """Boxes written one behind the other are found again, each with its payload."""
        data = b"".join(boxes.box(b"mdat", payload) for payload in payloads)
        self.assertEqual(payloads, [box.body for box in read_boxes(data)])


class MovieBoxTests(BoxTestCase):
    def test_ftyp_brands_in_order(self) -> None:
        """Major brand, minor version 0, compatible brands."""
        self.assertEqual(b"\0\0\0\x18ftypiso6\0\0\0\0iso6mp41", boxes.ftyp(b"iso6", b"iso6", b"mp41"))

    def test_mvhd_in_milliseconds(self) -> None:
        """108 bytes: milliseconds, no duration, rate and volume 1, no rotation."""
        head = "0000006c 6d766864 00000000 00000000 00000000 000003e8 00000000 00010000 0100 0000 00000000 00000000"
        tail = "00000000 00000000 00000000 00000000 00000000 00000000 00000003"
        self.assertBytes(f"{head} {UNITY_MATRIX} {tail}", boxes.mvhd(3))

    def test_mvex_has_trex_per_track(self) -> None:
        """It holds a trex per track; a trex defaults to the first sample entry and to nothing else."""
        trex = "00000020 74726578 00000000 00000002 00000001 00000000 00000000 00000000"
        self.assertBytes("00000028 6d766578" + trex, boxes.mvex(boxes.trex(2)))


class TrackBoxTests(BoxTestCase):
    def test_tkhd_of_video(self) -> None:
        """92 bytes: enabled and in the movie, silent, with a size in 16.16."""
        head = "0000005c 746b6864 00000003 00000000 00000000 00000001 00000000 00000000 00000000 00000000"
        mixing = "0000 0000 0000 0000"
        written = boxes.tkhd(1, width=1920 << 16, height=1080 << 16)
        self.assertBytes(f"{head} {mixing} {UNITY_MATRIX} 07800000 04380000", written)

    def test_tkhd_of_audio(self) -> None:
        """92 bytes: enabled and in the movie, full volume, without a size."""
        head = "0000005c 746b6864 00000003 00000000 00000000 00000002 00000000 00000000 00000000 00000000"
        mixing = "0000 0000 0100 0000"
        self.assertBytes(f"{head} {mixing} {UNITY_MATRIX} 00000000 00000000", boxes.tkhd(2, audible=True))

    def test_mdhd_has_the_timescale(self) -> None:
        """Ticks a second, no duration, language und."""
        self.assertBytes("00000020 6d646864 00000000 00000000 00000000 00015f90 00000000 55c4 0000", boxes.mdhd(90_000))

    def test_hdlr_names_the_kind(self) -> None:
        """The kind of media and a name that ends in a zero."""
        self.assertBytes(
            "00000023 68646c72 00000000 00000000 76696465 00000000 00000000 00000000 4e6100",
            boxes.hdlr(b"vide", b"Na"),
        )

    def test_media_headers_of_both_kinds(self) -> None:
        """vmhd has flags 1 and 8 zeros, smhd has 4 zeros."""
        self.assertBytes("00000014 766d6864 00000001 00000000 00000000", boxes.vmhd())
        self.assertBytes("00000010 736d6864 00000000 00000000", boxes.smhd())

    def test_dinf_refers_to_the_file(self) -> None:
        """One reference, to the file itself."""
        url = "0000000c 75726c20 00000001"
        self.assertBytes(f"00000024 64696e66 0000001c 64726566 00000000 00000001 {url}", boxes.dinf())

    def test_stbl_has_empty_tables(self) -> None:
        """One sample entry and four empty tables."""
        self.assertBytes(
            "00000068 7374626c 0000001c 73747364 00000000 00000001 0000000c 74657374 01020304"
            "00000010 73747473 00000000 00000000"
            "00000010 73747363 00000000 00000000"
            "00000014 7374737a 00000000 00000000 00000000"
            "00000010 7374636f 00000000 00000000",
            boxes.stbl(boxes.box(b"test", b"\1\2\3\4")),
        )


class SampleEntryTests(BoxTestCase):
    def test_visual_entry_by_bytes(self) -> None:
        """86 bytes and the children: size in pixels, 72 dpi, no compressor name, 24 bits."""
        self.assertBytes(
            "0000005f 61766331 000000000000 0001 00000000 00000000 00000000 00000000 0500 02d0 00480000 00480000"
            "00000000 0001" + "00" * 32 + "0018 ffff 00000009 61766343 aa",
            boxes.visual_sample_entry(b"avc1", 1280, 720, boxes.box(b"avcC", b"\xaa")),
        )

    def test_audio_entry_by_bytes(self) -> None:
        """36 bytes and the children: channels, 16 bits, the rate in 16.16."""
        self.assertBytes(
            "0000002c 6d703461 000000000000 0001 00000000 00000000 0002 0010 0000 0000 bb800000 00000008 66726565",
            boxes.audio_sample_entry(b"mp4a", 2, 48_000, boxes.box(b"free")),
        )

    def test_audio_rates_at_the_limit(self) -> None:
        """65535 Hz is the last rate that fits; from 65536 on the field is 0."""
        self.assertEqual(b"\xff\xff\0\0", boxes.audio_sample_entry(b"mp4a", 2, 65_535)[-4:])
        self.assertEqual(bytes(4), boxes.audio_sample_entry(b"mp4a", 2, 65_536)[-4:])

    def test_colr_code_points_and_range(self) -> None:
        """Three code points of 16 bits, and the range in the top bit of one byte."""
        self.assertBytes("00000013 636f6c72 6e636c78 0001 000d 0006 00", boxes.colr(Colour(1, 13, 6, False)))
        self.assertBytes("00000013 636f6c72 6e636c78 0009 0010 0009 80", boxes.colr(Colour(9, 16, 9, True)))

    def test_pasp_horizontal_then_vertical(self) -> None:
        """Horizontal, then vertical."""
        self.assertBytes("00000010 70617370 00000040 0000002d", boxes.pasp(64, 45))

    def test_language_in_five_bits_each(self) -> None:
        """Three letters of five bits each; what is no language is undetermined."""
        self.assertEqual(bytes.fromhex("55c4 0000"), boxes.mdhd(90_000)[-4:])
        self.assertEqual(bytes.fromhex("15c7 0000"), boxes.mdhd(90_000, "eng")[-4:])
        for language in ("", "en", "ENG", "e\u00e9g", "engl"):
            self.assertEqual(boxes.mdhd(90_000), boxes.mdhd(90_000, language))

    def test_too_large_values_are_errors(self) -> None:
        """A value that its field cannot hold is a struct.error for the caller to explain."""
        self.assertRaises(struct.error, boxes.visual_sample_entry, b"avc1", 65_536, 720)
        self.assertRaises(struct.error, boxes.mdhd, 1 << 32)
