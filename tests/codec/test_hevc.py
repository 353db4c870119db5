"""Tests of `rapidrtmp.codec.hevc`."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.bits import remove_emulation_prevention
from rapidrtmp.codec.hevc import HevcReader, read_hevc_config
from rapidrtmp.codec.hevc_nal import nal_type
from rapidrtmp.codec.hevc_sps import read_sps
from rapidrtmp.codec.nal_pieces import NalPieces
from rapidrtmp.codec.pieces import Moment
from rapidrtmp.codec.table import HEVC
from rapidrtmp.errors import MediaError
from rapidrtmp.media import Colour, ContentLight, MasteringDisplay
from tests.codec.test_avc import lengths, start_codes
from tests.slow import slow

#: x265 through FFmpeg 9.0: Main, 320x180, 25 frames a second.
VPS = bytes.fromhex("40010c01ffff01600000030090000003000003003c959409")
SPS = bytes.fromhex(
    "42010101600000030090000003000003003ca00a080c1f3e595952930bc05a02000003000200000300321 0".replace(" ", "")
)
PPS = bytes.fromhex("4401c073c089")
#: The same encoder: Main 10, 320x180, BT.2020 with PQ; what it says of brightness.
HDR_VPS = bytes.fromhex("40010c01ffff02200000030090000003000003003c959409")
HDR_SPS = bytes.fromhex(
    "42010102200000030090000003000003003ca00a080c1f3b6595952930bc05a848804820000003002000000303 21".replace(" ", "")
)
MASTERING = bytes.fromhex("4e01891833c286c41d4c0bb884d03e803d1340420098968000000300 0180".replace(" ", ""))
LIGHT = bytes.fromhex("4e01900403e8019080")
#: Likewise 4:2:2 of 10 bits in two temporal layers with scaling lists, and 4:4:4 of 12 bits.
SPS_422 = bytes.fromhex(
    "42010204080000030 09d08000003 00003c0000b00a080c1f1ad965652b2a5270bc05a020000003002000000303 21".replace(" ", "")
)
SPS_444 = bytes.fromhex(
    "42010104080000030098080000030000 3c9001410183e34a52caca94985e02d0100000030010000003019080".replace(" ", "")
)
USER_DATA = bytes.fromhex("4e0105022ca280")

HEAD = bytes.fromhex("01 01 60000000 900000000000 3c f000 fc fd f8 f8 0000 0f")


def array(kind: int, *nals: bytes) -> bytes:
    """An array of a record; its first byte as it is given."""
    return bytes([kind]) + len(nals).to_bytes(2, "big") + lengths(*nals, size=2)


#: As FFmpeg sends it: arrays that are not complete, and user data among them.
SENT = HEAD + b"\4" + array(0x20, VPS) + array(0x21, SPS) + array(0x22, PPS) + array(0x27, USER_DATA)
RECORD = HEAD + b"\3" + array(0xA0, VPS) + array(0xA1, SPS) + array(0xA2, PPS)
CONFIG = read_hevc_config(RECORD)

IDR, CRA, BLA = b"\x28\x01\xaf\x09", b"\x2a\x01\xaf\x09", b"\x20\x01\xaf\x09"
TRAIL, RASL, RADL = b"\x02\x01\xd0\x09", b"\x10\x01\xe0\x24", b"\x0c\x01\xe0\x24"
SECOND = b"\x02\x01\x50\x09"  # of a picture's slices
AUD, SEI, SUFFIX = b"\x46\x01\x50", b"\x4e\x01\x01\x01\x80\x80", b"\x50\x01\x84\x01\x80\x80"


def reader_of(record: bytes = RECORD) -> HevcReader:
    return HevcReader(read_hevc_config(record))


class ReadConfigTests(SynchronousTestCase):
    def test_main_record_becomes_complete(self) -> None:
        """A record tells size and rate from its SPS; it becomes complete, and user data leaves it."""
        config = read_hevc_config(SENT)
        self.assertEqual((RECORD, "hvc1.1.6.L60.90"), (config.record, config.codec_string))
        self.assertEqual((320, 180, (1, 1), 25), (config.width, config.height, config.pixel_aspect, config.frame_rate))
        self.assertEqual((None, None, None), (config.colour, config.mastering, config.light))
        self.assertEqual(config, read_hevc_config(config.record))

    def test_high_dynamic_range(self) -> None:
        """Colour comes from the SPS, brightness from SEI, which stays in the record."""
        arrays = array(0x20, HDR_VPS) + array(0x21, HDR_SPS) + array(0x22, PPS)
        config = read_hevc_config(HEAD + b"\5" + arrays + array(0x27, LIGHT) + array(0x27, USER_DATA, MASTERING))
        self.assertEqual("hvc1.2.4.L60.90", config.codec_string)
        self.assertEqual(Colour(9, 16, 9, False), config.colour)
        self.assertEqual(
            MasteringDisplay((13250, 34500), (7500, 3000), (34000, 16000), (15635, 16450), 10_000_000, 1),
            config.mastering,
        )
        self.assertEqual(ContentLight(1000, 400), config.light)
        complete = array(0xA0, HDR_VPS) + array(0xA1, HDR_SPS) + array(0xA2, PPS) + array(0xA7, MASTERING, LIGHT)
        head = bytes.fromhex("01 02 20000000 900000000000 3c f000 fc fd fa fa 0000 0f 04")
        self.assertEqual(head + complete, config.record)
        self.assertEqual(config, read_hevc_config(config.record))

    def test_many_colours_are_read(self) -> None:
        """Range extensions: more bits, less subsampling, scaling lists and temporal layers are read past."""
        for sps, string, facts in (
            (SPS_422, "hvc1.4.10.L60.9D.8", (2, 10, 10, 2)),
            (SPS_444, "hvc1.4.10.L60.98.8", (3, 12, 12, 1)),
        ):
            config = read_hevc_config(start_codes(VPS, sps, PPS))
            self.assertEqual(
                (string, 320, 180, 25), (config.codec_string, config.width, config.height, config.frame_rate)
            )
            read = read_sps(sps)
            self.assertEqual(facts, (read.chroma_format, read.luma_depth, read.chroma_depth, read.sublayers))
            self.assertEqual(
                (0xFC | facts[0], 0xF8 | facts[1] - 8, facts[3]), (*config.record[16:18], config.record[21] >> 3 & 7)
            )

    def test_codec_strings_without_zeros(self) -> None:
        """Profile space, tier and constraints are in it, without constraint bytes of zero at the end."""
        for profile, string in (
            ("01 60000000 000000000000 5d", "hvc1.1.6.L93"),
            ("02 20000000 b00000000000 78", "hvc1.2.4.L120.B0"),
            ("21 60000000 900000000000 99", "hvc1.1.6.H153.90"),
            ("41 60000000 900000000001 3c", "hvc1.A1.6.L60.90.0.0.0.0.1"),
        ):
            raw = bytes.fromhex(profile)
            sps = SPS[:3] + _prevented(raw) + SPS[18:]
            self.assertEqual(string, read_hevc_config(start_codes(VPS, sps, PPS)).codec_string)

    def test_rewritten_records_compare_equal(self) -> None:
        """Records that say the same in a slovenly way become the proper one, and so compare equal."""
        for record in (
            SENT,
            HEAD + b"\3" + array(0x22, PPS) + array(0x21, SPS) + array(0x20, VPS),
            HEAD + b"\1" + array(0x20, VPS, SPS, PPS),
            HEAD + b"\3" + array(0x20, VPS, VPS) + array(0x21, b"", SPS + b"\0\0") + array(0x22, PPS, PPS),
            b"\0" + RECORD[1:],
            RECORD[:2] + bytes(10) + RECORD[12:],
            RECORD + b"junk",
            start_codes(VPS, SPS, PPS),
            b"\0\0\1" + AUD + start_codes(VPS, SPS, PPS) + b"\0\0",
        ):
            self.assertEqual(CONFIG, read_hevc_config(record))

    def test_malformed_records_are_refused(self) -> None:
        """A record that no decoder can use is refused, and the message says why."""
        for record, reason in (
            (b"", "begins with nothing"),
            (b"\2" + RECORD[1:], "begins with 02"),
            (RECORD[:22], "HEVC record of 22 bytes"),
            (RECORD[:25], "ends within its arrays"),
            (RECORD[:40], "reaches to"),
            (HEAD + b"\1" + array(0xA0, VPS, PPS), "1, 0, 1 VPS, SPS, PPS"),
            (HEAD + b"\0", "0, 0, 0 VPS, SPS, PPS"),
            (HEAD[:21] + b"\x0e" + RECORD[22:], "lengths of 3 bytes"),
            (start_codes(VPS, SPS[:12], PPS), "bits"),
        ):
            error = self.assertRaises(MediaError, read_hevc_config, record)
            self.assertIn(reason, str(error))

    @given(st.integers(0, len(SENT) - 1), st.integers(0, 255), st.integers(0, len(SENT)))
    def test_damaged_records_are_decided(self, at: int, byte: int, end: int) -> None:
        """A damaged record is a config that reads the same from its own record, or refused as media."""
        try:
            config = read_hevc_config((SENT[:at] + bytes([byte]) + SENT[at + 1 :])[:end])
        except MediaError:
            return
        self.assertIn(config.width, range(1, 65_536))
        self.assertEqual(config, read_hevc_config(config.record))


def _prevented(raw: bytes) -> bytes:
    out = bytearray()
    for byte in raw:
        if out[-2:] == b"\0\0" and byte <= 3:
            out.append(3)
        out.append(byte)
    return bytes(out)


def _renumbered(sps: bytes, at: int) -> bytes:
    """
    An SPS with the id 1 in place of 0.

    :param at: how many bytes, without those that prevent emulation, are before the id.
    """
    raw = remove_emulation_prevention(sps)
    bits = f"{int.from_bytes(raw[at:], 'big'):0{8 * len(raw[at:])}b}"
    bits = "010" + bits[1:].rstrip("0")
    bits += "0" * (-len(bits) % 8)
    return _prevented(raw[:at] + int(bits, 2).to_bytes(len(bits) // 8, "big"))


class AccessUnitTests(SynchronousTestCase):
    def test_glance_at_headers_alone(self) -> None:
        """Of pictures that are no keyframes headers alone are looked at, in however many slices, behind whatever."""
        with patch.object(HevcReader, "_read_closely", side_effect=AssertionError):
            for nals in ([TRAIL], [TRAIL, SECOND, SECOND], [AUD, SEI, TRAIL, SECOND, SUFFIX]):
                body, reader = lengths(*nals), reader_of()
                self.assertIs(body, reader.read(body))
                self.assertFalse(reader.keyframe)

    def test_untouched_unit_is_the_same(self) -> None:
        """An access unit in order is handed back as the very object that came."""
        for nals, is_keyframe in (
            ([TRAIL], False),
            ([SEI, TRAIL], False),
            ([AUD, SEI, TRAIL, SECOND, SUFFIX], False),
            ([IDR], True),
            ([AUD, SEI, CRA], True),
            ([BLA], True),
            ([b"\x26\x01\x80" + bytes(300)], True),
            ([RASL], False),
            ([RADL], False),
            ([b"\x00\x01\xd0" + bytes(255)], False),
        ):
            body, reader = lengths(*nals), reader_of()
            self.assertIs(body, reader.read(body))
            self.assertEqual((is_keyframe, True), (reader.keyframe, reader.config == CONFIG))

    def test_known_parameter_sets(self) -> None:
        """Parameter sets that the config has leave the sample; delimiters and SEI stay."""
        for nals in (
            [AUD, VPS, SPS, PPS, SEI, IDR],
            [AUD, PPS, SEI, IDR],
            [AUD, SEI, IDR, SPS],
            [AUD, b"", SEI, b"", IDR],
            [AUD, SPS + b"\0", PPS + b"\0\0", SEI, IDR],
        ):
            reader = reader_of()
            before = reader.config
            self.assertEqual(lengths(AUD, SEI, IDR), reader.read(lengths(*nals)))
            self.assertIs(before, reader.config)

    def test_new_parameter_sets(self) -> None:
        """Parameter sets that differ make a new config, in which they take the place of the old ones."""
        reader = reader_of()
        self.assertEqual(lengths(IDR), reader.read(lengths(HDR_VPS, HDR_SPS, PPS, IDR)))
        self.assertEqual("hvc1.2.4.L60.90", reader.config.codec_string)
        self.assertEqual(read_hevc_config(start_codes(HDR_VPS, HDR_SPS, PPS)), reader.config)
        after = reader.config
        reader.read(lengths(HDR_VPS, HDR_SPS, PPS, IDR))
        self.assertIs(after, reader.config)

    def test_brightness_in_band(self) -> None:
        """What a keyframe's SEI says of brightness is part of the config, once; without it the config stays."""
        reader = reader_of()
        body = lengths(MASTERING, LIGHT, IDR)
        self.assertIs(body, reader.read(body))
        after = reader.config
        self.assertEqual(
            (1000, (15635, 16450)), (after.light and after.light.max_content, after.mastering and after.mastering.white)
        )
        self.assertEqual(after, read_hevc_config(after.record))
        for again in (body, lengths(SEI, IDR), lengths(VPS, SPS, PPS, LIGHT, CRA)):
            reader.read(again)
            self.assertIs(after, reader.config)

    def test_set_in_use(self) -> None:
        """Of several SPS the one that keyframes use is the first."""
        second = _renumbered(SPS_422, at=17)  # of id 1
        its_pps, its_idr = b"\x44\x01\x48\x39", b"\x28\x01\x92\x09"  # PPS 1 of SPS 1
        config = read_hevc_config(start_codes(VPS, SPS, second, PPS, its_pps))
        self.assertEqual("hvc1.1.6.L60.90", config.codec_string)
        reader = HevcReader(config)
        reader.read(lengths(its_idr))
        self.assertEqual("hvc1.4.10.L60.9D.8", reader.config.codec_string)
        reader.read(lengths(IDR))
        self.assertEqual("hvc1.1.6.L60.90", reader.config.codec_string)

    def test_open_gops_are_recognised(self) -> None:
        """Keyframes count as open where pictures that need others from before follow; a CRA picture alone does not."""
        for pictures, count in (
            ([IDR, TRAIL, CRA, RASL, RASL, TRAIL, CRA, RASL], 2),
            ([CRA, TRAIL, CRA, TRAIL, CRA], 0),
            ([CRA, RASL, CRA, RASL, CRA, TRAIL, CRA], 0),
            ([CRA, RASL, IDR, TRAIL], 0),
            ([IDR, RADL, IDR, RADL], 0),
        ):
            reader = reader_of()
            for picture in pictures:
                reader.read(lengths(picture))
            self.assertEqual(count, reader.open_gops)

    def test_start_codes_become_lengths(self) -> None:
        """Start codes in place of lengths, or behind them, are replaced by lengths."""
        for body in (
            start_codes(AUD, SEI, IDR),
            start_codes(VPS, SPS, PPS, AUD, SEI, IDR)[1:] + b"\0\0",
            lengths(b"\0\0\0\1".join([AUD, SEI, IDR])),
            lengths(b"\0\0\0\1" + b"\0\0\1".join([AUD, SEI]), IDR),
            lengths(AUD) + start_codes(SEI, IDR),
            lengths(AUD, SEI, IDR, size=2),
        ):
            reader = reader_of()
            self.assertEqual(lengths(AUD, SEI, IDR), reader.read(body))
            self.assertTrue(reader.keyframe)
        self.assertEqual(lengths(TRAIL), reader_of().read(lengths(b"\0\0\0\1" + TRAIL)))
        self.assertEqual(lengths(b"\x00\x01\xd0"), reader_of().read(lengths(b"\0\0\1\x00\x01\xd0")))

    def test_no_picture_no_access_unit(self) -> None:
        """Without a slice there is no access unit."""
        for nals in ([], [b""], [SEI], [AUD, SEI], [VPS, SPS, PPS], [b"\x6e\x01\x00"]):
            self.assertIsNone(reader_of().read(lengths(*nals)))

    def test_overrun_unit_is_refused(self) -> None:
        """A NAL unit that reaches past the end is refused, and the message says where."""
        error = self.assertRaises(MediaError, reader_of().read, lengths(TRAIL) + b"\0\0\0\5\x02\x01")
        self.assertEqual("NAL unit at byte 8 reaches to 17, the access unit has 14 bytes", str(error))

    @slow
    @given(st.lists(st.sampled_from([b"", TRAIL, IDR, CRA, SEI, AUD, VPS, SPS, PPS, HDR_SPS, MASTERING]), max_size=7))
    def test_any_order_of_units(self, nals: list[bytes]) -> None:
        """Of any NAL units in any order, those stay that are neither empty nor parameter sets."""
        reader = reader_of()
        data = reader.read(lengths(*nals))
        kept = [nal for nal in nals if nal and nal_type(nal) not in (32, 33, 34)]
        self.assertEqual(lengths(*kept) if {TRAIL, IDR, CRA} & set(nals) else None, data)

    @slow
    @given(
        st.one_of(
            st.binary(max_size=40),
            st.lists(st.binary(max_size=9)).map(lambda nals: lengths(*nals)),
            st.lists(st.binary(max_size=9)).map(lambda nals: start_codes(*nals)),
        )
    )
    def test_any_bytes_read_the_same(self, body: bytes) -> None:
        """Any bytes are an access unit that reads the same again, or nothing, or refused as media."""
        reader = reader_of()
        try:
            data = reader.read(body)
        except MediaError:
            return
        if data is not None:
            keyframe = reader.keyframe
            self.assertIs(data, HevcReader(reader.config).read(data))
            self.assertEqual(keyframe, reader.keyframe)


class PiecesTests(SynchronousTestCase):
    def units(self, *messages: tuple[int, Sequence[bytes]]) -> list[tuple[int, bytes]]:
        """What messages of NAL units at their times are put together to."""
        pieces, found = NalPieces(reader_of()), []
        for timestamp, nals in messages:
            found += pieces.add(lengths(*nals), Moment(timestamp, 0, 0, timestamp))
        found += pieces.settle()
        self.assertEqual([], pieces.problems)
        return [(unit.moment.timestamp, unit.data) for unit in found]

    def test_one_slice_to_a_message(self) -> None:
        """Slices that come one to a message are joined to their pictures, as are parameter sets and SEI."""
        self.assertEqual(
            [(0, lengths(SEI, IDR, SECOND)), (40, lengths(TRAIL, SECOND, SECOND)), (80, lengths(TRAIL))],
            self.units(
                *((0, [VPS]), (0, [SPS, PPS]), (0, [SEI]), (0, [IDR]), (0, [SECOND])),
                *((40, [TRAIL]), (40, [SECOND]), (41, [SECOND]), (80, [TRAIL])),
            ),
        )

    def test_search_before_a_keyframe(self) -> None:
        """Without a sequence header the configuration is found in front of a keyframe."""
        assert HEVC.search is not None
        search = HEVC.search()
        self.assertIsNone(search.look_at_frame(lengths(VPS, SPS)))
        self.assertTrue(search.is_warm)
        self.assertEqual(CONFIG, search.look_at_frame(lengths(PPS, IDR)))
