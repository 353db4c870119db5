"""Tests of `rapidrtmp.codec.av1`."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.av1 import Av1Reader, Av1Search, is_known_av1, read_av1_config, split_obus
from rapidrtmp.errors import MediaError
from rapidrtmp.media import Colour, ContentLight, MasteringDisplay
from tests.slow import slow

#: SVT-AV1 through FFmpeg 9.0, 320x180: the sequence header that it announces, and the one that it sends.
ANNOUNCED = bytes.fromhex("0a0b0200000521e7f66017c002")
SENT = bytes.fromhex("0a0b0200000521e7f66257c802")
RECORD = bytes.fromhex("81000c00") + ANNOUNCED
CONFIG = read_av1_config(RECORD)
#: librav1e: a record without a sequence header that keeps to no level, and its header.
RAV1E_RECORD = bytes.fromhex("811f0c00")
RAV1E = bytes.fromhex("0a0e000000fa1e7f66210a88101010a0")
#: libaom, 64x48, whose record begins with no timing, 8 bits, BT.709.
OTHER = bytes.fromhex("0a0a00000002aff79b5f2008")

DELIMITER = b"\x12\0"


def obu(kind: int, payload: bytes, *, sized: bool = True) -> bytes:
    """An OBU of up to 127 bytes."""
    return bytes([kind << 3 | 2, len(payload)]) + payload if sized else bytes([kind << 3]) + payload


KEY, INTER, HIDDEN_KEY, SHOWN = obu(6, b"\x10\xaa\x94"), obu(6, b"\x30\x03\x80"), obu(6, b"\x00\x01"), obu(3, b"\xe8")
PADDING, TILES = obu(15, bytes(9)), obu(4, b"\x01\x02")
#: Brightness, in AV1's units: the values of the SEI in the tests of HEVC.
LIGHT = obu(5, bytes.fromhex("01 03e8 0190 80"))
MASTERING = obu(5, bytes.fromhex("02 ae14 51ec 43d7 b0a4 2666 0f5c 5007 5438 0003e800 00000002 80"))


class SequenceTests(SynchronousTestCase):
    def test_facts_of_the_sequence_header(self) -> None:
        """Size, depth and level come from the sequence header."""
        self.assertEqual((320, 180, None, None), (CONFIG.width, CONFIG.height, CONFIG.frame_rate, CONFIG.colour))
        self.assertEqual(("av01.0.00M.08", RECORD), (CONFIG.codec_string, CONFIG.record))
        other = read_av1_config(RECORD[:4] + OTHER)
        self.assertEqual((64, 48), (other.width, other.height))

    def test_no_level_in_the_stream(self) -> None:
        """Of a stream that keeps to no level the codec string has the one it would keep to."""
        config = read_av1_config(RAV1E_RECORD + RAV1E)
        self.assertEqual(("av01.0.00M.08", 320, 180), (config.codec_string, config.width, config.height))
        self.assertEqual(RAV1E_RECORD + RAV1E, config.record)

    def test_many_kinds_of_sequence_headers(self) -> None:
        """Profiles, depths, subsampling, tiers, rates and colours: by sequence headers put together by hand."""
        hdr, video = Colour(9, 16, 9, False), Colour(1, 1, 1, False)
        full = replace(video, full_range=True)
        for bits, string, facts in (
            (_sequence("1", "1" + _points(9, 16, 9) + "000"), "av01.0.08M.10.0.110.09.16.09.0", hdr),
            (_sequence("0", "1" + _points(1, 1, 1) + "000"), "av01.0.08M.08", video),
            (_sequence("0", "1" + _points(1, 1, 1) + "101"), "av01.0.08M.08.0.111.01.01.01.1", full),
            (_sequence("0", "00", profile=1, mono=""), "av01.1.08M.08.0.000.02.02.02.0", None),
            (_sequence("11", "001100", profile=2), "av01.2.08M.12", None),
            (_sequence("10", "00", profile=2), "av01.2.08M.10.0.100.02.02.02.0", None),
            (_sequence("0", "00", mono="1"), "av01.0.08M.08.1.110.02.02.02.0", None),
            (_sequence("0", "0000", level="011001"), "av01.0.12H.08", None),
            (_sequence("0", "0000", timing=True), "av01.0.08M.08", None),
        ):
            config = read_av1_config(RECORD[:4] + obu(1, bits))
            self.assertEqual(
                (string, facts, 1920, 1080), (config.codec_string, config.colour, config.width, config.height)
            )
            self.assertEqual(config, read_av1_config(config.record))
            self.assertEqual(30 if bits[0] & 4 else None, config.frame_rate)

    def test_malformed_records_are_refused(self) -> None:
        """A record that no decoder can use is refused, and the message says why."""
        for record, reason in (
            (b"", "begins with nothing"),
            (b"\x80\x04\x81\x00\x0c\x00", "begins with 80"),
            (RECORD[:9], "reaches to"),
            (RECORD[:4] + obu(1, b"\xff\xff"), "profile 7"),
            (RECORD[:4] + obu(1, b"\0\0"), "bits"),
            (RECORD[:4] + b"\x8a\0", "forbidden bit"),
            (RECORD[:4] + b"\x0a" + b"\xff" * 9, "a size that does not end"),
        ):
            error = self.assertRaises(MediaError, read_av1_config, record)
            self.assertIn(reason, str(error))

    def test_known_headers_are_no_news(self) -> None:
        """Another header is no other configuration as long as coding tools alone differ, or brightness is left out."""
        sent = read_av1_config(RECORD[:4] + SENT)
        bright = replace(sent, light=ContentLight(1, 1))
        self.assertTrue(is_known_av1(CONFIG, sent) and is_known_av1(sent, CONFIG) and is_known_av1(bright, sent))
        self.assertFalse(is_known_av1(sent, bright) or is_known_av1(CONFIG, read_av1_config(RECORD[:4] + OTHER)))
        self.assertTrue(is_known_av1(read_av1_config(RAV1E_RECORD + RAV1E), read_av1_config(RAV1E_RECORD)))


def _points(*values: int) -> str:
    return "".join(f"{value:08b}" for value in values)


def _sequence(
    depth: str, colour: str, *, profile: int = 0, level: str = "010000", mono: str = "0", timing: bool = False
) -> bytes:
    """A sequence header of 1920x1080 (5.5.1): no reduced one, all tools off, screen content and motion to be chosen."""
    rate = "1" + f"{1:032b}{30:032b}" + "1" + "1" + "0" if timing else "0"  # each frame a tick; no decoder model
    bits = f"{profile:03b}" + "00" + rate + "0" + "00000" + "0" * 12 + level
    bits += "1010" + "1010" + f"{1919:011b}{1079:011b}" + "0" + "000" + "0000" + "0" + "1" + "1" + "000"
    bits += depth + mono + colour + "0" + "0" + "1"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


class TemporalUnitTests(SynchronousTestCase):
    def read(self, body: bytes, record: bytes = RECORD) -> tuple[bytes | None, bool]:
        reader = Av1Reader(read_av1_config(record))
        return reader.read(body), reader.keyframe

    def test_existing_frame_is_shown(self) -> None:
        """A unit that only shows a frame decoded before is a whole one, and no keyframe."""
        unit = bytes.fromhex("1a01e8")
        self.assertEqual((unit, False), self.read(DELIMITER + unit))

    def test_delimiter_is_not_stored(self) -> None:
        """The temporal delimiter is not in the sample; without one the very object stays."""
        for unit in (INTER, SHOWN, LIGHT + INTER, HIDDEN_KEY + INTER, obu(3, b"\x30\0") + TILES, obu(6, b"\x30" * 127)):
            self.assertEqual((unit, False), self.read(DELIMITER + unit))
            self.assertIs(unit, self.read(unit)[0])
        long = b"\x32\xac\x02" + b"\x30" * 300
        self.assertEqual((long, False), self.read(DELIMITER + long))
        self.assertEqual((INTER, False), self.read(DELIMITER + PADDING + INTER + obu(8, b"\0") + DELIMITER))

    def test_keyframes_hold_their_header(self) -> None:
        """A key frame that is shown is a keyframe, and has the sequence header in it, sent or not."""
        self.assertEqual((SENT + KEY, True), self.read(DELIMITER + SENT + KEY))
        self.assertEqual((SENT + LIGHT + KEY, True), self.read(DELIMITER + SENT + LIGHT + KEY + PADDING))
        self.assertEqual((ANNOUNCED + KEY, True), self.read(DELIMITER + KEY))
        self.assertEqual((SENT + HIDDEN_KEY, False), self.read(DELIMITER + SENT + HIDDEN_KEY))
        self.assertEqual((SENT + INTER, False), self.read(DELIMITER + SENT + INTER))
        self.assertRaises(MediaError, self.read, DELIMITER + KEY, RAV1E_RECORD)

    def test_sizes_are_always_written(self) -> None:
        """Every OBU says how long it is, also the last one, whatever it said before; extensions stay."""
        self.assertEqual((INTER, False), self.read(DELIMITER + obu(6, b"\x30\x03\x80", sized=False)))
        self.assertEqual((SENT + KEY, True), self.read(DELIMITER + SENT + obu(6, b"\x10\xaa\x94", sized=False)))
        layered = b"\x36\x08\x02\x30\x03"
        self.assertEqual((layered, False), self.read(DELIMITER + layered))
        self.assertEqual((layered, False), self.read(DELIMITER + b"\x34\x08\x30\x03"))

    def test_no_picture_no_sample(self) -> None:
        """Without a frame there is no sample."""
        for body in (b"", DELIMITER, DELIMITER + SENT, PADDING, LIGHT):
            self.assertEqual((None, False), self.read(body))

    def test_overrun_obu_is_refused(self) -> None:
        """An OBU that reaches past the end is refused."""
        for body in (
            DELIMITER + INTER[:-1],
            DELIMITER + KEY + b"\x32\x09",
            b"\x32\x85",
            INTER + b"\x36",
            b"\xb2\x01\x30\0",
        ):
            self.assertRaises(MediaError, self.read, body)

    def test_config_of_the_first_header(self) -> None:
        """The first sequence header that is sent takes the announced one's place; then coding tools may differ."""
        reader = Av1Reader(CONFIG)
        reader.read(DELIMITER + SENT + KEY)
        first = reader.config
        self.assertEqual(CONFIG.record[:4] + SENT, first.record)
        for unit in (SENT, ANNOUNCED):
            reader.read(DELIMITER + unit + KEY)
            self.assertIs(first, reader.config)
        reader.read(DELIMITER + OTHER + KEY)
        self.assertEqual(read_av1_config(CONFIG.record[:4] + OTHER), reader.config)

    def test_brightness_is_in_the_config(self) -> None:
        """What metadata of a keyframe says of brightness is part of the config, once."""
        reader = Av1Reader(CONFIG)
        reader.read(DELIMITER + SENT + LIGHT + MASTERING + KEY)
        after = reader.config
        self.assertEqual(ContentLight(1000, 400), after.light)
        self.assertEqual(
            MasteringDisplay((13250, 34500), (7500, 3000), (34000, 16000), (15630, 16449), 10_000_000, 1),
            after.mastering,
        )
        for unit in (SENT + LIGHT + MASTERING, SENT, SENT + LIGHT):
            reader.read(DELIMITER + unit + KEY)
            self.assertIs(after, reader.config)

    def test_search_for_a_configuration(self) -> None:
        """Without a sequence start, or with one of another kind, the first sequence header is the configuration."""
        search = Av1Search()
        self.assertIsNone(search.look_at_config(b"\x80\x04\x81\x00\x0c\x00"))
        self.assertTrue(search.is_warm)
        self.assertIsNone(search.look_at_frame(DELIMITER + INTER))
        self.assertFalse(search.is_warm)
        self.assertEqual(read_av1_config(RECORD[:4] + SENT), search.look_at_frame(DELIMITER + SENT + KEY))

    @given(
        st.one_of(
            st.binary(max_size=40),
            st.lists(st.sampled_from([DELIMITER, SENT, OTHER, KEY, INTER, SHOWN, TILES, PADDING, LIGHT])).map(b"".join),
            st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=9))).map(
                lambda obus: b"".join(bytes([head, len(body)]) + body for head, body in obus)
            ),
        )
    )
    @slow
    def test_any_bytes_read_the_same(self, body: bytes) -> None:
        """Any bytes are a temporal unit that reads the same again, or nothing, or refused as media."""
        reader = Av1Reader(CONFIG)
        try:
            data = reader.read(body)
        except MediaError:
            return
        if data is not None:
            keyframe, config = reader.keyframe, reader.config
            self.assertIs(data, reader.read(data))
            self.assertEqual((keyframe, config), (reader.keyframe, reader.config))
            kinds = [each.type for each in split_obus(data)]
            self.assertFalse({2, 8, 15} & set(kinds))
            self.assertTrue(not keyframe or 1 in kinds)
