"""Tests of `rapidrtmp.codec.avc_sps`."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.avc_sps import Sps, Usability, read_sps
from rapidrtmp.errors import MediaError
from rapidrtmp.media import Colour
from tests.slow import slow

FULL_RANGE = Colour(2, 2, 2, True)

#: Sequence parameter sets of x264 through FFmpeg 9.0. Sizes, pixel aspects, formats and colours are also what ffprobe
#: 5.1 says of them; frame rates are what the encoder was given.
ENCODED = {
    # Baseline
    "6742c01ed900a02ff970110000030001000003003c0f162e48": Sps(66, 1, 8, 8, 640, 360, Usability((1, 1), Fraction(30))),
    # Main, 29.97
    "674d401feca02802dd808800001f480007530078c18cb0": Sps(
        77, 1, 8, 8, 1280, 720, Usability((1, 1), Fraction(30_000, 1001))
    ),
    # High, 1080 lines cropped from 1088, matrix BT.709
    "67640028acd940780227e5c05a810100a0000003002000000641e30632c0": Sps(
        100, 1, 8, 8, 1920, 1080, Usability((1, 1), Fraction(25), Colour(2, 2, 1, False))
    ),
    # High, 23.976, full range without a colour description
    "67640028acd940780227e5c05b2000007d2000177001e30632c0": Sps(
        100, 1, 8, 8, 1920, 1080, Usability((1, 1), Fraction(24_000, 1001), FULL_RANGE)
    ),
    # High, interlaced
    "67640028acd94078044fde0220000003002000000643e2c5b2c0": Sps(
        100, 1, 8, 8, 1920, 1080, Usability((1, 1), Fraction(25))
    ),
    # High, cropped on both sides, pixels of 37:29 in the extended form
    "6764001eacd941b0879223ff0025001d10000003001000000640f162d960": Sps(
        100, 1, 8, 8, 426, 242, Usability((37, 29), Fraction(50))
    ),
    # High, PAL wide screen: pixels of 16:11 by their index
    "6764001eacd940b4126c1040000003004000000c83c58b6580": Sps(
        100, 1, 8, 8, 720, 576, Usability((16, 11), Fraction(25))
    ),
    # High, with buffering parameters behind the timing
    "6764001facd9405005beab01100000030010000003030604000f424001e84a4c30078c18cb": Sps(
        100, 1, 8, 8, 1278, 718, Usability((1, 1), Fraction(24))
    ),
    # High, 59.94, BT.709
    "67640020acd9405005bb056a020202800001f48000ea60078c18cb": Sps(
        100, 1, 8, 8, 1280, 720, Usability((40, 33), Fraction(60_000, 1001), Colour(1, 1, 1, False))
    ),
    # High, HDR10
    "6764002aacd940780227e5c15a848804a0000003002000000f01e30632c0": Sps(
        100, 1, 8, 8, 1920, 1080, Usability((40, 33), Fraction(60), Colour(9, 16, 9, False))
    ),
    # High, NTSC, full range and BT.601
    "6764001eacd940b43db056e0c0c0c800001f480007530078b16cb0": Sps(
        100, 1, 8, 8, 720, 480, Usability((40, 33), Fraction(30_000, 1001), Colour(6, 6, 6, True))
    ),
    # High, monochrome
    "6764001ef3650507ec05b2000003000200000301e01e2c5b2c": Sps(
        100, 0, 8, 8, 320, 240, Usability((1, 1), Fraction(120), FULL_RANGE)
    ),
    # High 10, matrix BT.2020
    "676e0020a6cd9405005bb016a04041280000030008000003032078c18cb0": Sps(
        110, 1, 10, 10, 1280, 720, Usability((1, 1), Fraction(50), Colour(2, 2, 9, False))
    ),
    # High 4:2:2, 10 bits, an odd height
    "677a001fb6cd940d83fe68430110000003001000000780f1831960": Sps(
        122, 2, 10, 10, 854, 481, Usability((1, 1), Fraction(60))
    ),
    # High 4:4:4, odd both ways
    "67f40015919b282a3bc911808800001f48000ea60078b16cb0": Sps(
        244, 3, 8, 8, 333, 217, Usability((1, 1), Fraction(60_000, 1001))
    ),
    # High 4:4:4, lossless RGB
    "67f4000d91d6405421e3e2f016e0404008000003000800000301e078a15240": Sps(
        244, 3, 8, 8, 322, 246, Usability((1, 1), Fraction(30), Colour(2, 2, 0, True))
    ),
}


def ue(value: int) -> str:
    """A value as ``ue(v)``."""
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def se(value: int) -> str:
    """A value as ``se(v)``."""
    return ue(2 * value - 1 if value > 0 else -2 * value)


def sps_of(
    *,
    profile: int = 77,
    high: str = "",
    order: str = ue(2),
    size: tuple[int, int] = (40, 30),
    fields: bool = False,
    crop: tuple[int, ...] = (),
    vui: str = "",
) -> bytes:
    """A sequence parameter set, its fields in the order of the specification, as a NAL unit."""
    bits = f"{profile:08b}" + f"{30:016b}" + ue(0) + high
    bits += ue(0) + order + ue(4) + "0" + ue(size[0] - 1) + ue(size[1] - 1) + ("00" if fields else "1") + "1"
    bits += "1" + "".join(map(ue, crop)) if crop else "0"
    bits += ("1" + vui if vui else "0") + "1"
    bits += "0" * (-len(bits) % 8)
    data, zeros = bytearray(b"\x67"), 0
    for byte in int(bits, 2).to_bytes(len(bits) // 8, "big"):
        if zeros == 2 and byte <= 3:
            data.append(3)
            zeros = 0
        data.append(byte)
        zeros = 0 if byte else zeros + 1
    return bytes(data)


def high_of(chroma: int = 1, luma: int = 8, chroma_depth: int = 8, scaling: str = "0") -> str:
    """The fields that High profiles have."""
    separate = "0" if chroma == 3 else ""
    return ue(chroma) + separate + ue(luma - 8) + ue(chroma_depth - 8) + "0" + scaling


def size_of(sps: Sps) -> tuple[int, int]:
    return sps.width, sps.height


class EncodedTests(SynchronousTestCase):
    def test_x264_is_read_alike(self) -> None:
        """What a real encoder writes is read as another reader reads it."""
        for text, expected in ENCODED.items():
            self.assertEqual(expected, read_sps(bytes.fromhex(text)))

    def test_cut_short_sets_are_refused(self) -> None:
        """A set that ends before its usability information is refused; one that ends in it still has its size."""
        for text, expected in ENCODED.items():
            whole, sizes = bytes.fromhex(text), set[tuple[int, int]]()
            for end in range(len(whole)):
                try:
                    sps = read_sps(whole[:end])
                except MediaError:
                    self.assertEqual(set(), sizes)
                else:
                    sizes.add(size_of(sps))
            self.assertEqual({size_of(expected)}, sizes)


class PictureTests(SynchronousTestCase):
    def test_cropping_units_of_the_format(self) -> None:
        """Cropping counts in the chroma format's units, and in lines of both fields."""
        for chroma, fields, cropped in (
            (0, False, (640 - 3, 480 - 7)),
            (1, False, (640 - 6, 480 - 14)),
            (2, False, (640 - 6, 480 - 7)),
            (3, False, (640 - 3, 480 - 7)),
            (1, True, (640 - 6, 960 - 28)),
            (2, True, (640 - 6, 960 - 14)),
        ):
            nal = sps_of(profile=244, high=high_of(chroma), fields=fields, crop=(1, 2, 3, 4))
            self.assertEqual(cropped, size_of(read_sps(nal)))

    def test_separate_planes_are_monochrome(self) -> None:
        """Planes coded apart are each like monochrome."""
        nal = sps_of(profile=244, high=ue(3) + "1" + ue(0) + ue(0) + "0" + "0", crop=(0, 1, 0, 1))
        self.assertEqual((639, 479), size_of(read_sps(nal)))

    def test_impossible_pictures_are_refused(self) -> None:
        """Sizes, formats and numbers that no picture has are refused, with the numbers."""
        for nal, reason in (
            (sps_of(crop=(0, 320, 0, 0)), "cropped to 0x480 pixels"),
            (sps_of(crop=(200, 200, 0, 0)), "cropped to -160x480"),
            (sps_of(crop=(0, 0, 0, 240)), "cropped to 640x0"),
            (sps_of(size=(4096, 30)), "SPS of 4096x30 macroblocks"),
            (sps_of(size=(40, 2**32 - 1)), "macroblocks"),
            (sps_of(profile=100, high=high_of(chroma=4)), "chroma format 4"),
            (sps_of(profile=100, high=high_of(luma=15)), "15 and 8 bits a sample"),
            (sps_of(profile=100, high=high_of(chroma_depth=99)), "8 and 99 bits a sample"),
            (sps_of(order=ue(3)), "picture order count type 3"),
            (sps_of(order=ue(1) + "0" + se(0) + se(0) + ue(256)), "256 reference frames"),
        ):
            self.assertIn(reason, str(self.assertRaises(MediaError, read_sps, nal)))

    def test_picture_order_is_passed_over(self) -> None:
        """The three ways of numbering pictures are passed over."""
        cycle = ue(1) + "1" + se(-7) + se(9) + ue(3) + se(1) + se(-2) + se(2**30)
        for order in (ue(0) + ue(12), cycle, ue(1) + "0" + se(0) + se(0) + ue(0), ue(2)):
            self.assertEqual((640, 480), size_of(read_sps(sps_of(order=order))))

    def test_scaling_lists_are_passed_over(self) -> None:
        """Scaling lists are passed over, whole ones and those that end early."""
        flat4, flat8 = "1" + se(8) + se(0) * 15, "1" + se(8) + se(0) * 63
        default, rising = "1" + se(-8), "1" + se(1) * 16
        ends = "1" + se(127) + se(121)  # 8 + 127 + 121 is 256, which stands for 0
        for chroma, lists in (
            (1, ["0"] * 8),
            (1, [flat4] * 6 + [flat8] * 2),
            (1, [default] * 8),
            (1, [rising, "0", default, flat4, ends, "0", flat8, default]),
            (3, [flat4] * 6 + [flat8] * 6),
        ):
            nal = sps_of(profile=244, high=high_of(chroma, scaling="1" + "".join(lists)), size=(80, 45))
            self.assertEqual((1280, 720), size_of(read_sps(nal)))

    def test_every_high_profile(self) -> None:
        """All profiles with chroma format and depths have them read, no others."""
        for profile in (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135):
            sps = read_sps(sps_of(profile=profile, high=high_of(2, 10, 9)))
            self.assertEqual((2, 10, 9, 640), (sps.chroma_format, sps.luma_depth, sps.chroma_depth, sps.width))
        for profile in (66, 77, 88):
            sps = read_sps(sps_of(profile=profile))
            self.assertEqual((1, 8, 8, 640), (sps.chroma_format, sps.luma_depth, sps.chroma_depth, sps.width))

    @slow
    @given(
        st.sampled_from([66, 77, 100, 110, 122, 244]),
        st.tuples(st.integers(1, 500), st.integers(1, 250)),
        st.booleans(),
        st.tuples(*[st.integers(0, 1)] * 4),
        st.integers(0, 3),
    )
    def test_any_size_is_read_back(
        self, profile: int, size: tuple[int, int], fields: bool, crop: tuple[int, ...], chroma: int
    ) -> None:
        """Any size, in any form, is read as it was written."""
        high = high_of(chroma) if profile >= 100 else ""
        units = ((1, 1), (2, 2), (2, 1), (1, 1))[chroma if high else 1]
        lines = 2 if fields else 1
        expected = (
            size[0] * 16 - units[0] * (crop[0] + crop[1]),
            (size[1] * 16 - units[1] * (crop[2] + crop[3])) * lines,
        )
        nal = sps_of(profile=profile, high=high, size=size, fields=fields, crop=crop)
        self.assertEqual(expected, size_of(read_sps(nal)))


def vui_of(aspect: str = "0", overscan: str = "0", signal: str = "0", chroma: str = "0", timing: str = "0") -> str:
    """Video usability information up to the timing, with the zeros of what follows."""
    return aspect + overscan + signal + chroma + timing + "00000"


def timing_of(ticks: int, scale: int) -> str:
    return f"1{ticks:032b}{scale:032b}1"


class UsabilityTests(SynchronousTestCase):
    def _read(self, vui: str) -> Usability:
        return read_sps(sps_of(vui=vui)).usability

    def test_nothing_said_means_square(self) -> None:
        """Where nothing is said, pixels are square, rate and colour unknown."""
        self.assertEqual(Usability((1, 1), None, None), self._read(vui_of()))
        self.assertEqual(Usability((1, 1), None, None), read_sps(sps_of()).usability)

    def test_pixel_aspects_by_index(self) -> None:
        """All indexed aspects have their ratio; reserved and impossible ones are square."""
        ratios = "1:1 1:1 12:11 10:11 16:11 40:33 24:11 20:11 32:11 80:33 18:11 15:11 64:33 160:99 4:3 3:2 2:1 1:1 1:1"
        for index, ratio in enumerate(ratios.split()):
            width, height = ratio.split(":")
            self.assertEqual((int(width), int(height)), self._read(vui_of(f"1{index:08b}")).pixel_aspect)
        for across, down, expected in ((3, 7, (3, 7)), (65535, 1, (65535, 1)), (0, 7, (1, 1)), (3, 0, (1, 1))):
            vui = vui_of(f"1{255:08b}{across:016b}{down:016b}")
            self.assertEqual(expected, self._read(vui).pixel_aspect)

    def test_colour_as_the_description_says(self) -> None:
        """Colour is what the description says and the range; said to be unspecified, it is unknown."""
        for signal, expected in (
            ("1 101 0 0", None),
            ("1 101 1 0", FULL_RANGE),
            ("1 101 0 1 00000010 00000010 00000010", None),
            ("1 101 1 1 00000001 00001101 00000110", Colour(1, 13, 6, True)),
            ("1 000 0 1 00001001 00010010 00001001", Colour(9, 18, 9, False)),
        ):
            self.assertEqual(expected, self._read(vui_of(signal=signal.replace(" ", ""))).colour)

    def test_frame_rate_of_two_ticks(self) -> None:
        """Two ticks make a frame; rates that no camera has are unknown."""
        for ticks, scale, expected in (
            (1, 60, Fraction(30)),
            (1001, 48_000, Fraction(24_000, 1001)),
            (1, 600, Fraction(300)),
            (1, 2, Fraction(1)),
            (1, 2000, None),
            (0, 50, None),
            (50, 0, None),
            (2**32 - 1, 1, None),
            (1_000_000, 59_940_060, Fraction(59_940_060, 2_000_000)),
        ):
            vui = vui_of(overscan="11", chroma="1" + ue(2) + ue(5), timing=timing_of(ticks, scale))
            self.assertEqual(expected, self._read(vui).frame_rate)

    def test_breaks_off_after_what_it_said(self) -> None:
        """Usability information that breaks off tells what it said before."""
        nal = sps_of(vui="1" + f"{14:08b}" + "0" + "1" + "101" + "1" + "0" + "0" + "1" + "0" * 20)
        self.assertEqual(Usability((4, 3), None, FULL_RANGE), read_sps(nal).usability)

    @given(st.binary(max_size=50), st.sampled_from(["67", "674d401f", "67640028ac", "67f40015919b"]))
    def test_any_bytes_are_sets_or_refused(self, data: bytes, start: str) -> None:
        """Any bytes are a set of sound numbers, or refused as media."""
        try:
            sps = read_sps(bytes.fromhex(start) + data)
        except MediaError:
            return
        self.assertIn(sps.width, range(1, 65_536))
        self.assertIn(sps.height, range(1, 65_536))
        self.assertGreater(min(sps.usability.pixel_aspect), 0)
