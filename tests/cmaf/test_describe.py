"""The box tree that people see."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf import boxes
from rapidrtmp.cmaf.describe import describe
from tests.cmaf.test_init_segment import AVCC
from tests.cmaf.test_reader import FIRST, INIT


class DescribeTests(SynchronousTestCase):
    maxDiff = None

    def test_init_segment_as_a_tree(self) -> None:
        """The tree of an init segment shows its tracks at a glance."""
        video, audio = (line for line in describe(INIT).splitlines() if line.strip().startswith(("avc1", "mp4a")))
        self.assertEqual("            avc1 140 at 416: 160x120", video)
        self.assertEqual("            mp4a 75 at 896: 2 channels, 44100 Hz", audio)
        self.assertIn(f"avcC 54 at 502: {AVCC.hex(' ')}\n", describe(INIT))
        self.assertIn(": AudioSpecificConfig 12 10\n", describe(INIT))
        self.assertIn(": track_ID 2, default_sample_duration 0, default_sample_size 0", describe(INIT))
        self.assertTrue(describe(INIT).startswith("ftyp 24 at 0: major_brand iso6, minor_version 0, compatible_brands"))

    def test_fragment_sums_up_samples(self) -> None:
        """The tree of a fragment sums up its samples."""
        expected = """\
moof 196 at 0
  mfhd 16 at 8: sequence_number 1
  traf 96 at 24
    tfhd 16 at 32: track_ID 1
    tfdt 20 at 48: baseMediaDecodeTime 0
    trun 52 at 68: 2 samples, duration 7200, 4 bytes, 1 sync, composition offsets -1 to 3600, data offset 204
  traf 76 at 120
    tfhd 24 at 128: track_ID 2, default_sample_duration 1024
    tfdt 20 at 152: baseMediaDecodeTime 0
    trun 24 at 172: 1 samples, 5 bytes, data offset 208
mdat 17 at 196"""
        self.assertEqual(expected, describe(FIRST))

    def test_cut_short_file_says_where(self) -> None:
        """What is whole is described, and then where and how it broke off."""
        self.assertEqual(
            [*describe(FIRST).splitlines()[:-1], "! box 'mdat' at 196: 16 bytes of 17"],
            describe(FIRST[:-1]).splitlines(),
        )

    def test_unreadable_box_is_marked(self) -> None:
        """A box that cannot be read is marked, and the tree continues behind it."""
        lines = describe(FIRST.replace(b"mfhd\0\0\0\0", b"mfhd\1\0\0\0")).splitlines()
        self.assertRegex(lines[1], "^  mfhd 16 at 8: ! mfhd at 8 cannot be read: ")
        self.assertEqual(describe(FIRST).splitlines()[2:], lines[2:])

    def test_deep_nesting_is_not_followed(self) -> None:
        """Boxes in boxes without end are not followed for ever."""
        data = b""
        for _ in range(2_000):
            data = boxes.box(b"moof", data)
        self.assertLess(len(describe(data).splitlines()), 30)

    def test_terminal_gets_no_controls(self) -> None:
        """Nothing that could move a terminal's cursor comes out, whatever a box is called."""
        self.assertEqual("?[2J 8 at 0", describe(b"\0\0\0\x08\x1b[2J"))

    def test_nothing_is_described_as_nothing(self) -> None:
        """Nothing is described as nothing."""
        self.assertEqual("", describe(b""))
