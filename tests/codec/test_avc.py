"""Tests of `rapidrtmp.codec.avc`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.avc import AvcReader, nal_length_size, read_avc_config
from rapidrtmp.errors import MediaError
from rapidrtmp.media import Colour, VideoConfig
from tests.slow import slow

#: x264 through FFmpeg 9.0: High, 1920x1080, 25 frames a second, matrix BT.709.
RECORD = bytes.fromhex(
    "01640028ffe1001e67640028acd940780227e5c05a810100a0000003002000000641e30632c001000668ebe3cb22c0fdf8f800"
)
SPS, PPS = RECORD[8:38], RECORD[41:47]
#: The same encoder: High, 1280x720, 60000/1001, BT.709 throughout, pixels of 40:33.
OTHER_SPS = bytes.fromhex("67640020acd9405005bb056a020202800001f48000ea60078c18cb")
OTHER_PPS = bytes.fromhex("68ebe3cb22c1")
BASELINE = bytes.fromhex("0142c01effe100196742c01ed900a02ff970110000030001000003003c0f162e4801000568cb83cb20")
CONFIG = read_avc_config(RECORD)

IDR, SLICE, SEI, AUD = b"\x65\x88\x84", b"\x41\x9a\x22\x6c", b"\x06\x05\x01\xaa\x80", b"\x09\xf0"
EXTENSION = b"\x6d\x80"


def lengths(*nals: bytes, size: int = 4) -> bytes:
    """NAL units, each behind its length."""
    return b"".join(len(nal).to_bytes(size, "big") + nal for nal in nals)


def start_codes(*nals: bytes) -> bytes:
    """NAL units, each behind a start code; long and short ones in turn."""
    return b"".join((b"\0\0\1" if at % 2 else b"\0\0\0\1") + nal for at, nal in enumerate(nals))


def record_of(
    sps: Iterable[bytes], pps: Iterable[bytes], tail: bytes = b"\xfd\xf8\xf8\0", length_size: int = 4
) -> bytes:
    """A record as the specification draws it."""
    sps, pps = list(sps), list(pps)
    head = bytes([1, *sps[0][1:4], 0xFC | length_size - 1, 0xE0 | len(sps)])
    return head + lengths(*sps, size=2) + bytes([len(pps)]) + lengths(*pps, size=2) + tail


class AccessUnit(NamedTuple):
    """What reading an access unit came to; ``config`` is the new one, if it has changed."""

    data: bytes
    is_idr: bool
    config: VideoConfig | None


def read_access_unit(body: bytes, config: VideoConfig) -> AccessUnit | None:
    """Read the first access unit of a track."""
    reader = AvcReader(config)
    data = reader.read(body)
    if data is None:
        return None
    return AccessUnit(data, reader.keyframe, None if reader.config is config else reader.config)


class ReadConfigTests(SynchronousTestCase):
    def test_high_record_stays_as_it_is(self) -> None:
        """A record tells size, rate and colour from its SPS, and stays byte by byte."""
        self.assertEqual(
            VideoConfig(
                record=RECORD,
                codec_string="avc1.640028",
                width=1920,
                height=1080,
                pixel_aspect=(1, 1),
                frame_rate=CONFIG.frame_rate,
                colour=Colour(2, 2, 1, False),
            ),
            CONFIG,
        )
        self.assertEqual(25, CONFIG.frame_rate)
        self.assertEqual(RECORD, record_of([SPS], [PPS]))

    def test_baseline_record_ends_early(self) -> None:
        """A record of a lower profile ends behind its PPS."""
        config = read_avc_config(BASELINE)
        self.assertEqual((BASELINE, "avc1.42c01e"), (config.record, config.codec_string))
        self.assertEqual((640, 360, 30, None), (config.width, config.height, config.frame_rate, config.colour))

    def test_rewritten_records_compare_equal(self) -> None:
        """Records that say the same in a slovenly way become the proper one, and so compare equal."""
        for record in (
            RECORD[:-4],
            RECORD[:-4] + b"\xfd",
            RECORD[:-4] + b"junk and more junk",
            RECORD[:-1] + b"\1\0\2" + EXTENSION,
            RECORD[:1] + bytes(3) + RECORD[4:],
            RECORD[:4] + b"\x03\x01" + RECORD[6:],
            record_of([SPS, SPS], [PPS, PPS]),
            record_of([SPS, b""], [b"", PPS]),
            record_of([SPS + b"\0\0"], [PPS + b"\0"]),
            record_of([SPS, PPS], []),
            start_codes(SPS, PPS),
            b"\0\0\1" + AUD + start_codes(SPS, PPS) + b"\0\0",
        ):
            self.assertEqual(CONFIG, read_avc_config(record))

    def test_many_sets_are_all_kept(self) -> None:
        """All parameter sets are kept; the first SPS says how pictures look."""
        second = b"\x67\x42\xc0\x1e\x57" + BASELINE[12:33]  # an SPS of id 1
        record = record_of([SPS, second], [PPS, b"\x68\x57\x80"])
        config = read_avc_config(record)
        self.assertEqual((record, 1920), (config.record, config.width))

    def test_zeros_behind_sets(self) -> None:
        """Zeros behind a parameter set mean nothing: not in the record, and not as the end of a set cut short."""
        self.assertEqual(CONFIG, read_avc_config(record_of([SPS + bytes(3)], [PPS + bytes(2)])))
        self.assertRaises(MediaError, read_avc_config, record_of([SPS], [bytes.fromhex("6800ce") + bytes(2)]))

    def test_nal_length_size(self) -> None:
        """Lengths of 1, 2 and 4 bytes are kept; those of 3 are refused."""
        for size in (1, 2, 4):
            record = record_of([SPS], [PPS], length_size=size)
            config = read_avc_config(record)
            self.assertEqual((record, size), (config.record, nal_length_size(config)))
        reserved = record_of([SPS], [PPS], length_size=3)
        self.assertRaises(MediaError, read_avc_config, reserved)
        self.assertRaises(MediaError, nal_length_size, VideoConfig(reserved, "avc1.640028", 16, 16))

    def test_malformed_records_are_refused(self) -> None:
        """A record that no decoder can use is refused, and the message says why."""
        for record, reason in (
            (b"", "begins with nothing"),
            (b"\2" + RECORD[1:], "begins with 02"),
            (RECORD[:6], "AVC record of 6 bytes"),
            (RECORD[:20], "parameter set at byte 6 reaches to 38, the record has 20 bytes"),
            (RECORD[:38], "AVC record of 38 bytes ends before the PPS"),
            (RECORD[:45], "parameter set at byte 39 reaches to 47"),
            (record_of([SPS], []), "1 SPS and 0 PPS"),
            (record_of([PPS], [PPS]), "0 SPS and 1 PPS"),
            (b"\1\x64\0\x28\xff\xe0\0", "0 SPS and 0 PPS"),
            (record_of([SPS[:8]], [PPS]), "bits"),
            (start_codes(SPS), "1 SPS and 0 PPS"),
        ):
            error = self.assertRaises(MediaError, read_avc_config, record)
            self.assertIn(reason, str(error))

    @given(st.integers(0, len(RECORD) - 1), st.integers(0, 255), st.integers(0, len(RECORD)))
    def test_damaged_records_are_decided(self, at: int, byte: int, end: int) -> None:
        """A damaged record is a config that reads the same from its own record, or refused as media."""
        self._check((RECORD[:at] + bytes([byte]) + RECORD[at + 1 :])[:end])

    @given(st.binary(max_size=60), st.sampled_from([b"", b"\1", RECORD[:6], RECORD[:12], b"\0\0\1\x67"]))
    def test_any_bytes_are_decided(self, data: bytes, start: bytes) -> None:
        """Any bytes are a config that reads the same from its own record, or refused as media."""
        self._check(start + data)

    def _check(self, record: bytes) -> None:
        try:
            config = read_avc_config(record)
        except MediaError:
            return
        self.assertIn(config.width, range(1, 65_536))
        self.assertIn(config.height, range(1, 65_536))
        self.assertEqual(config, read_avc_config(config.record))


class RecordTests(SynchronousTestCase):
    def test_bytes_as_the_specification_draws(self) -> None:
        """A record is written byte by byte as the specification draws it."""
        expected = "01 640028 ff e1 001e" + SPS.hex() + "01 0006" + PPS.hex() + "fd f8 f8 00"
        self.assertEqual(bytes.fromhex(expected), read_avc_config(start_codes(SPS, PPS)).record)

    def test_order_of_parameter_sets(self) -> None:
        """Parameter sets stay in the order in which they came."""
        second = b"\x68\x57\x80"
        self.assertEqual(record_of([SPS], [second, PPS]), read_avc_config(start_codes(SPS, second, PPS)).record)

    def test_too_large_sets_are_refused(self) -> None:
        """A parameter set that its length cannot count makes no record."""
        self.assertRaises(MediaError, read_avc_config, start_codes(SPS, PPS + b"\1" * 65_536))


class AccessUnitTests(SynchronousTestCase):
    def test_untouched_unit_is_the_same(self) -> None:
        """An access unit in order is handed back as the very object that came."""
        for nals, is_idr in (
            ([SLICE], False),
            ([IDR], True),
            ([AUD, SEI, IDR, IDR], True),
            ([AUD, SEI, SLICE, SLICE], False),
            ([b"\x01", b"\x0c" + bytes(300)], False),
        ):
            body = lengths(*nals)
            unit = read_access_unit(body, CONFIG)
            assert unit is not None
            self.assertIs(body, unit.data)
            self.assertEqual((is_idr, None), (unit.is_idr, unit.config))

    def test_glance_at_headers_alone(self) -> None:
        """Of pictures that are no keyframes headers alone are looked at, in however many slices, behind whatever."""
        further, later = b"\x41\x53\x44\x88", b"\x06\x06\x01\x64\x80"
        with patch.object(AvcReader, "_read_closely", side_effect=AssertionError):
            for nals in ([SLICE], [SLICE, further, further], [AUD, SEI, SLICE, further], [later, SLICE, SEI]):
                body, reader = lengths(*nals), AvcReader(CONFIG)
                self.assertIs(body, reader.read(body))
                self.assertFalse(reader.keyframe)

    def test_recovery_point_makes_a_keyframe(self) -> None:
        """An intra picture with a recovery point at itself is a keyframe; a refresh that takes its time is none."""
        now, later, intra = b"\x06\x06\x01\xc4\x80", b"\x06\x06\x01\x64\x80", b"\x41\x88\x84"
        behind = b"\x06\x05\x03abc\x06\x01\xc4\x80"  # another message before it
        intra_end, other_end = b"\x41\x42\x20", b"\x41\x46\x80"  # second slices: of type I, of type P
        for nals, is_keyframe in (
            ([now, intra], True),
            ([AUD, behind, intra], True),
            ([now, intra, intra_end], True),
            ([now, intra, other_end], False),
            ([now, SLICE], False),
            ([later, intra], False),
            ([SEI, intra], False),
            ([intra], False),
            ([b"\x06\x06\x00\x80", intra], False),
            ([b"\x06\x06", intra], False),
        ):
            body = lengths(*nals)
            unit = read_access_unit(body, CONFIG)
            assert unit is not None
            self.assertIs(body, unit.data)
            self.assertEqual(is_keyframe, unit.is_idr, nals)

    def test_empty_nal_units(self) -> None:
        """Empty NAL units are removed, wherever they are."""
        expected = AccessUnit(lengths(SEI, SLICE), False, None)
        for nals in ([b"", SEI, SLICE], [SEI, b"", b"", SLICE], [SEI, SLICE, b""]):
            self.assertEqual(expected, read_access_unit(lengths(*nals), CONFIG))

    def test_no_picture_no_access_unit(self) -> None:
        """Without a slice there is no access unit."""
        for nals in ([], [b""], [b"", b""], [SEI], [AUD, SEI], [SPS, PPS], [SEI, SPS], [b"\x42\x01"]):
            self.assertIsNone(read_access_unit(lengths(*nals), CONFIG))

    def test_known_parameter_sets(self) -> None:
        """Parameter sets that the config has are removed without a word, whatever importance they claim."""
        expected = AccessUnit(lengths(AUD, SEI, IDR), True, None)
        for nals in (
            [AUD, SPS, PPS, SEI, IDR],
            [AUD, PPS, SEI, IDR],
            [AUD, SEI, IDR, SPS],
            [AUD, b"\x27" + SPS[1:], b"\x28" + PPS[1:], SEI, IDR],
            [AUD, SPS + b"\0", PPS + b"\0\0", SEI, IDR],
            [AUD, EXTENSION, SEI, IDR],
        ):
            self.assertEqual(expected, read_access_unit(lengths(*nals), CONFIG))

    def test_new_parameter_sets(self) -> None:
        """Parameter sets that differ make a new config, in which they take the place of the old ones."""
        unit = read_access_unit(lengths(OTHER_SPS, OTHER_PPS, IDR), CONFIG)
        assert unit is not None and unit.config is not None
        self.assertEqual(AccessUnit(lengths(IDR), True, read_avc_config(unit.config.record)), unit)
        self.assertEqual(record_of([OTHER_SPS], [OTHER_PPS]), unit.config.record)
        self.assertEqual((1280, 720, (40, 33)), (unit.config.width, unit.config.height, unit.config.pixel_aspect))
        self.assertEqual(AccessUnit(lengths(IDR), True, None), read_access_unit(lengths(OTHER_SPS, IDR), unit.config))

    def test_new_picture_parameters(self) -> None:
        """A PPS that differs, or has an id of its own, is a new config with the old SPS."""
        unit = read_access_unit(lengths(OTHER_PPS, IDR), CONFIG)
        assert unit is not None and unit.config is not None
        self.assertEqual(record_of([SPS], [OTHER_PPS]), unit.config.record)
        another = b"\x68\x57\x80"  # of id 1
        unit = read_access_unit(lengths(another, IDR), CONFIG)
        assert unit is not None and unit.config is not None
        self.assertEqual(record_of([SPS], [another, PPS]), unit.config.record)

    def test_new_id_comes_first(self) -> None:
        """An SPS under a new id comes first when a picture uses it, for it says how pictures look from now on."""
        another, its_pps = b"\x67\x42\xc0\x1e\x57" + BASELINE[12:33], b"\x68\x4b\xcb\x20"  # of id 1, both
        its_idr = b"\x65\x88\x48"  # of PPS 1
        config = read_avc_config(record_of([SPS], [PPS]))
        unit = read_access_unit(lengths(another, its_pps, its_idr), config)
        assert unit is not None and unit.config is not None
        self.assertEqual(record_of([another, SPS], [its_pps, PPS], tail=b""), unit.config.record)
        self.assertEqual("avc1.42c01e", unit.config.codec_string)
        again = read_access_unit(lengths(another, its_idr), unit.config)
        self.assertEqual(AccessUnit(lengths(its_idr), True, None), again)
        back = read_access_unit(lengths(IDR), unit.config)
        assert back is not None and back.config is not None
        self.assertEqual(("avc1.640028", 1920), (back.config.codec_string, back.config.width))

    def test_set_in_use(self) -> None:
        """Of several SPS the one that pictures use is the first, whatever order the sequence header has them in."""
        second, its_pps = b"\x67\x42\xc0\x1e\x57" + BASELINE[12:33], b"\x68\x4b\xcb\x20"
        config = read_avc_config(record_of([SPS, second], [PPS, its_pps]))
        self.assertEqual(1920, config.width)
        unit = read_access_unit(lengths(b"\x65\x88\x48"), config)
        assert unit is not None and unit.config is not None
        self.assertEqual(
            (read_avc_config(start_codes(second, PPS)).width, "avc1.42c01e"),
            (unit.config.width, unit.config.codec_string),
        )
        self.assertEqual(unit.config, read_avc_config(unit.config.record))
        self.assertEqual(AccessUnit(lengths(IDR), True, None), read_access_unit(lengths(IDR), config))
        self.assertEqual(
            AccessUnit(lengths(b"\x65\x88\x10"), True, None), read_access_unit(lengths(b"\x65\x88\x10"), config)
        )

    def test_bad_parameter_set(self) -> None:
        """A parameter set that differs and makes no picture is refused."""
        self.assertRaises(MediaError, read_access_unit, lengths(SPS[:8], IDR), CONFIG)
        self.assertRaises(MediaError, read_access_unit, lengths(b"\x68", IDR), CONFIG)

    def test_start_codes_become_lengths(self) -> None:
        """Start codes in place of lengths are replaced by lengths."""
        for nals in ([SLICE], [IDR], [AUD, SEI, IDR], [SPS, PPS, IDR], [AUD, SLICE + bytes(range(1, 200)) * 3]):
            expected = read_access_unit(lengths(*nals), CONFIG)
            for body in (start_codes(*nals), start_codes(*nals)[1:], start_codes(*nals) + b"\0\0\0"):
                self.assertEqual(expected, read_access_unit(body, CONFIG))

    def test_start_codes_behind_a_length(self) -> None:
        """Units that share one length, with start codes between, are taken apart, then and in what follows."""
        glued = b"\0\0\0\1".join([AUD, SEI, IDR])
        for body in (
            lengths(glued),
            lengths(b"\0\0\0\1" + glued),
            lengths(b"\0\0\1".join([AUD, SEI]), IDR),
            lengths(AUD) + start_codes(SEI, IDR),
            lengths(AUD, SEI, IDR, size=2),
            lengths(b"\0\0\1".join([SPS, PPS, AUD, SEI]), IDR),
        ):
            reader = AvcReader(CONFIG)
            self.assertEqual(lengths(AUD, SEI, IDR), reader.read(body))
            self.assertTrue(reader.keyframe)
            slices = lengths(b"\0\0\1".join([SLICE, b"\x41\x53\x44\x88"]))
            self.assertEqual(lengths(SLICE, b"\x41\x53\x44\x88"), reader.read(slices))

    def test_looks_like_start_codes(self) -> None:
        """A length that looks like a start code is a length as long as lengths lead to the end."""
        body = lengths(SLICE[:2] + bytes(range(1, 256)) + b"\x80", SLICE)
        self.assertTrue(body.startswith(b"\0\0\1"))
        unit = read_access_unit(body, CONFIG)
        assert unit is not None
        self.assertIs(body, unit.data)

    def test_length_sizes_as_configured(self) -> None:
        """Lengths are as long as the config says, also those that are written."""
        for size in (1, 2, 4):
            config = read_avc_config(record_of([SPS], [PPS], length_size=size))
            body = lengths(SEI, SLICE, size=size)
            self.assertEqual(AccessUnit(body, False, None), read_access_unit(body, config))
            unit = read_access_unit(lengths(OTHER_SPS, SEI, SLICE, size=size), config)
            assert unit is not None and unit.config is not None
            self.assertEqual((body, size), (unit.data, nal_length_size(unit.config)))
        config = read_avc_config(record_of([SPS], [PPS], length_size=1))
        self.assertRaises(MediaError, read_access_unit, start_codes(SLICE + b"\xf0" * 253), config)

    def test_overrun_unit_is_refused(self) -> None:
        """A NAL unit that reaches past the end is refused, and the message says where."""
        body = lengths(SEI, SLICE)
        for end in range(len(body)):
            if end not in (0, len(SEI) + 4):
                error = self.assertRaises(MediaError, read_access_unit, body[:end], CONFIG)
                self.assertIn(f"the access unit has {end} bytes", str(error))
        error = self.assertRaises(MediaError, read_access_unit, lengths(SLICE) + b"\0\0\0\5\x41\x9a", CONFIG)
        self.assertEqual("NAL unit at byte 8 reaches to 17, the access unit has 14 bytes", str(error))

    @given(
        st.lists(st.sampled_from([b"", SLICE, IDR, SEI, AUD, SPS, PPS, OTHER_SPS, OTHER_PPS, EXTENSION]), max_size=7)
    )
    def test_any_order_of_units(self, nals: list[bytes]) -> None:
        """Of any NAL units in any order, those stay that are neither empty nor parameter sets."""
        unit = read_access_unit(lengths(*nals), CONFIG)
        kept = [nal for nal in nals if nal and nal[0] & 0x1F not in (7, 8, 13)]
        if SLICE in nals or IDR in nals:
            assert unit is not None
            self.assertEqual((lengths(*kept), IDR in nals), (unit.data, unit.is_idr))
            last = {nal[0]: nal for nal in nals if nal in (SPS, PPS, OTHER_SPS, OTHER_PPS)}
            self.assertEqual(last.get(0x67) == OTHER_SPS or last.get(0x68) == OTHER_PPS, unit.config is not None)
        else:
            self.assertIsNone(unit)

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
        try:
            unit = read_access_unit(body, CONFIG)
        except MediaError:
            return
        if unit is not None:
            again = read_access_unit(unit.data, unit.config or CONFIG)
            self.assertEqual(unit._replace(config=None), again)
            assert again is not None
            self.assertIs(unit.data, again.data)
