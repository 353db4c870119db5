"""Tests of `rapidrtmp.codec.vp9`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.vp9 import Vp9Reader, Vp9Search, is_known_vp9, read_vp9_config, read_vpcc, write_vpcc
from rapidrtmp.errors import MediaError
from rapidrtmp.media import Colour

#: libvpx through FFmpeg 9.0, 320x180: what it announces, and the beginnings of a keyframe and of another frame.
SENT = bytes.fromhex("01000000 000b820202020000")
RECORD = SENT[4:]
KEY = bytes.fromhex("824983420013f00b3638241c184a")
INTER = bytes.fromhex("860040929c4850")


def keyframe(
    space: int, *, profile: int = 0, depth: str = "", chroma: str = "", size: tuple[int, int] = (320, 180)
) -> bytes:
    """The beginning of a key frame that is shown (6.2): colour space, then range 0."""
    bits = "10" + f"{profile & 1}{profile >> 1}" + ("0" if profile == 3 else "") + "0010" + f"{0x498342:024b}"
    bits += depth + f"{space:03b}" + ("" if space == 7 else "0") + chroma + f"{size[0] - 1:016b}{size[1] - 1:016b}"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big") + b"\x55"


class ConfigTests(SynchronousTestCase):
    def config_of(self, frame: bytes, record: bytes = RECORD) -> tuple[str, bytes]:
        reader = Vp9Reader(read_vp9_config(record))
        reader.read(frame)
        self.assertEqual(reader.config.codec_string, read_vp9_config(reader.config.record).codec_string)
        return reader.config.codec_string, reader.config.record

    def test_record_with_and_without_box(self) -> None:
        """A record is read with and without what the box has in front of it; size comes with the first keyframe."""
        config = read_vp9_config(SENT)
        self.assertEqual(
            ("vp09.00.11.08", RECORD, 0, 0), (config.codec_string, config.record, config.width, config.height)
        )
        self.assertEqual(config, read_vp9_config(RECORD))
        self.assertEqual(config, read_vp9_config(RECORD + b"more"))
        reader = Vp9Reader(config)
        reader.read(KEY)
        self.assertEqual((320, 180, RECORD), (reader.config.width, reader.config.height, reader.config.record))
        for record in (b"", RECORD[:7], SENT[:11]):
            self.assertRaises(MediaError, read_vp9_config, record)

    def test_false_matrix_is_not_believed(self) -> None:
        """Subsampled pictures are not RGB, though FFmpeg says so where it copies a stream from FLV to RTMP."""
        self.assertEqual(RECORD, read_vp9_config(bytes.fromhex("000b820202000000")).record)
        announced = bytes.fromhex("010b860202000000")
        self.assertEqual("vp09.01.11.08.03.02.02.00.00", read_vp9_config(announced).codec_string)
        found = self.config_of(keyframe(0, profile=1, chroma="000"), announced)
        self.assertEqual("vp09.01.11.08.03.02.02.02.00", found[0])

    def test_box_has_version_one(self) -> None:
        """The record is in a full box of version 1."""
        self.assertEqual(SENT, write_vpcc(RECORD))
        self.assertEqual(RECORD, read_vpcc(SENT))
        self.assertRaises(MediaError, read_vpcc, SENT[:11])

    def test_level_comes_from_the_size(self) -> None:
        """A level that is missing, or too low for the size, comes from the size."""
        unknown = RECORD[:1] + b"\0" + RECORD[2:]
        for size, level in (
            ((64, 48), 10),
            ((320, 180), 11),
            ((1280, 720), 31),
            ((1920, 1080), 40),
            ((3840, 2160), 50),
        ):
            self.assertEqual(f"vp09.00.{level}.08", self.config_of(keyframe(2, size=size), unknown)[0][:13])
        self.assertEqual("vp09.00.40.08", self.config_of(keyframe(0, size=(1920, 1080)))[0])
        self.assertEqual("vp09.00.62.08", self.config_of(keyframe(0, size=(16384, 8704)), unknown)[0])

    def test_header_facts_of_keyframes(self) -> None:
        """Profile, depth, subsampling, range and matrix are those of keyframes."""
        for frame, string, record in (
            (keyframe(2), "vp09.00.11.08.01.02.02.01.00", "000b820202010000"),
            (keyframe(5, profile=2, depth="0"), "vp09.02.11.10.01.02.02.09.00", "020ba20202090000"),
            (keyframe(0, profile=1, chroma="000"), "vp09.01.11.08.03.02.02.02.00", "010b860202020000"),
            (keyframe(0, profile=1, chroma="100"), "vp09.01.11.08.02.02.02.02.00", "010b840202020000"),
            (keyframe(7, profile=3, depth="1", chroma="0"), "vp09.03.11.12.03.02.02.00.01", "030bc70202000000"),
        ):
            self.assertEqual((string, bytes.fromhex(record)), self.config_of(frame))

    def test_high_dynamic_range(self) -> None:
        """Primaries and transfer are those that were announced."""
        config = read_vp9_config(bytes.fromhex("020ba00910090000"))
        self.assertEqual(Colour(9, 16, 9, False), config.colour)
        reader = Vp9Reader(config)
        reader.read(keyframe(5, profile=2, depth="0"))
        self.assertEqual(
            ("vp09.02.11.10.00.09.16.09.00", Colour(9, 16, 9, False)),
            (reader.config.codec_string, reader.config.colour),
        )

    def test_known_record_is_no_news(self) -> None:
        """A record that comes again is known, and so is one that says less; another transfer is not."""
        reader = Vp9Reader(read_vp9_config(RECORD))
        reader.read(keyframe(2, size=(1920, 1080)))
        for record, known in (
            (RECORD, True),
            (bytes.fromhex("0000820202020000"), True),
            (bytes.fromhex("003e820202020000"), False),
            (bytes.fromhex("000b820910090000"), False),
        ):
            self.assertEqual(known, is_known_vp9(reader.config, read_vp9_config(record)))


class FrameTests(SynchronousTestCase):
    def test_untouched_frames_stay_so(self) -> None:
        """Frames stay as they are; keyframes are what their first byte says, in every profile."""
        reader = Vp9Reader(read_vp9_config(RECORD))
        for frame, is_keyframe in (
            (KEY, True),
            (INTER, False),
            (b"\x88", False),
            (keyframe(0, profile=1, chroma="000"), True),
            (keyframe(0, profile=3, depth="0", chroma="000"), True),
            (b"\xb2\x00", False),
        ):
            self.assertIs(frame, reader.read(frame))
            self.assertEqual(is_keyframe, reader.keyframe)

    def test_changes_of_the_size(self) -> None:
        """Another size is another configuration, once."""
        reader = Vp9Reader(read_vp9_config(RECORD))
        reader.read(KEY)
        first = reader.config
        reader.read(INTER)
        reader.read(KEY)
        self.assertIs(first, reader.config)
        reader.read(keyframe(0, size=(640, 360)))
        self.assertEqual(
            (640, 360, "vp09.00.21.08"), (reader.config.width, reader.config.height, reader.config.codec_string)
        )
        reader.read(KEY)
        self.assertEqual(first, reader.config)

    def test_malformed_frames_are_refused(self) -> None:
        """Bytes that are no frame are refused; none are nothing."""
        reader = Vp9Reader(read_vp9_config(RECORD))
        self.assertIsNone(reader.read(b""))
        for body in (b"\x02", b"\xc2\x49\x83\x42", KEY[:8], b"\x82\x49\x83\x43" + KEY[4:]):
            self.assertRaises(MediaError, reader.read, body)

    def test_search_for_a_keyframe(self) -> None:
        """Without a sequence start the first keyframe is the configuration."""
        search = Vp9Search()
        self.assertIsNone(search.look_at_config(b"\0"))
        self.assertTrue(search.is_warm)
        self.assertIsNone(search.look_at_frame(INTER))
        self.assertFalse(search.is_warm)
        config = search.look_at_frame(KEY)
        assert config is not None
        self.assertEqual(("vp09.00.11.08", 320, 180), (config.codec_string, config.width, config.height))

    @given(st.binary(max_size=30), st.sampled_from([b"", KEY[:4], KEY[:6], b"\xb0\x49\x83\x42", b"\xa2\x49\x83\x42"]))
    def test_any_bytes_read_the_same(self, data: bytes, start: bytes) -> None:
        """Any bytes are a frame, whose configuration reads the same from its record, or refused as media."""
        reader = Vp9Reader(read_vp9_config(RECORD))
        body = start + data
        try:
            self.assertIs(body if body else None, reader.read(body))
        except MediaError:
            return
        again = read_vp9_config(reader.config.record)
        self.assertEqual((again.codec_string, again.colour), (reader.config.codec_string, reader.config.colour))
