"""Open GOPs become closed ones: where keyframes come again, and when, and what is left as it is."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.avc import AVC_SYNTAX
from rapidrtmp.codec.avc_closing import AvcCloser
from rapidrtmp.codec.avc_nal import IDR_SLICE, SLICE, nal_type
from rapidrtmp.codec.avc_slice import Numbers, SliceWriter
from rapidrtmp.codec.nal import join_lengths, split_nals
from rapidrtmp.codec.table import AVC
from rapidrtmp.media import Frame, Rhythm
from tests.codec.test_avc_slice import nal, sets, slice_of, ue

SETS = sets(cabac=True)
TRACK = AVC.make_track(1, AVC_SYNTAX.config_of_sets(SETS))
WRITER = SliceWriter(SETS)
STEP = 3_600
_P, _B, _I = range(3)


def frame(kind: int, at: int, shown: int, number: int, *, idr: bool = False) -> Frame:
    """A picture decoded in one place of a grid and shown in another, the first picture shown at 2."""
    if idr:
        unit = b"\x65\x88\x84\x21\xff"
    else:
        middle = {_P: "00", _B: "1" + "0" + "00", _I: ""}[kind]
        head, marking = (0x01, "") if kind == _B else (0x41, "0")
        order = f"{2 * shown % 64:06b}"
        unit = slice_of(kind, number % 16, order, marking, cabac=True, middle=middle, head=head)
    is_key = kind == _I
    offset = (shown + 2 - at) * STEP
    return Frame(TRACK, at * STEP, offset, STEP, is_key, join_lengths([unit], 4), at, Rhythm(Fraction(25)))


def gop(at: int, number: int, *, leading: int = 2) -> list[Frame]:
    """An intra picture, pictures that are shown before it, and others."""
    shown = at + leading
    intra = frame(_I, at, shown, number)
    return [
        intra,
        *(frame(_B, at + 1 + each, at + each, number + 1) for each in range(leading)),
        *(frame(_P, at + leading + each, at + leading + each, number + each) for each in range(1, 6 - leading)),
    ]


def kinds(frames: list[Frame]) -> list[int]:
    return [nal_type(split_nals(AVC_SYNTAX, each.data, 4)[0]) for each in frames]


class ClosingTests(SynchronousTestCase):
    def close(self, frames: list[Frame], closer: AvcCloser | None = None) -> list[Frame]:
        """What comes of frames; decode times rise, and none is shown before it is decoded."""
        closer = closer or AvcCloser(TRACK.config)  # type: ignore[arg-type]
        out = [each for one in frames for each in closer.close(one)]
        for before, after in pairwise(out):
            self.assertLess(before.dts, after.dts)
        self.assertTrue(all(each.composition_offset >= 0 for each in out))
        self.assertEqual(0, closer.left_open)
        return out

    def test_leading_pictures_follow_a_keyframe(self) -> None:
        """A keyframe stays before what leads it, and comes again behind that as an IDR picture, shown behind itself."""
        frames = [frame(_I, 0, 0, 0, idr=True), *(frame(_P, at, at, at) for at in range(1, 6)), *gop(6, 6)]
        out = self.close(frames)
        self.assertEqual(frames[:6], out[:6])
        self.assertEqual([replace(each, keyframe=False) for each in frames[6:9]], out[6:9])
        again = out[9]
        self.assertEqual([IDR_SLICE] + [SLICE] * 3, kinds(out[9:]))
        self.assertEqual((True, frames[6].pts + 1, frames[9].dts), (again.keyframe, again.pts, again.dts))
        self.assertEqual([each.pts for each in frames[9:]], [each.pts for each in out[10:]])
        numbers = [WRITER.numbers(split_nals(AVC_SYNTAX, each.data, 4)[0]) for each in out[10:]]
        self.assertEqual([Numbers(at, 2 * at) for at in range(1, 4)], numbers)

    def test_next_gop_counts_anew(self) -> None:
        """The keyframe after that counts from the last IDR picture first, and is counted from then."""
        frames = [frame(_I, 0, 0, 0, idr=True), *gop(1, 1), *gop(7, 5), *gop(13, 9)]
        out = self.close(frames)
        self.assertEqual([0, 4, 11, 18], [at for at, each in enumerate(out) if each.keyframe])
        numbers = [WRITER.numbers(split_nals(AVC_SYNTAX, each.data, 4)[0]) for each in out[5:11]]
        self.assertEqual(
            [Numbers(at, 2 * shown) for at, shown in ((1, 1), (2, 2), (3, 3), (4, 6), (5, 4), (5, 5))], numbers
        )

    def test_numbers_that_wrap_to_zero(self) -> None:
        """A keyframe whose own numbers are 0 is one like others: what refers to pictures before it is taken out."""
        frames = [frame(_I, 0, 0, 0, idr=True), *gop(30, 16)]
        late = slice_of(_P, 1, f"{2 * 33 % 64:06b}", "1" + ue(1) + ue(3) + ue(0), cabac=True, middle="00")
        frames[4] = replace(frames[4], data=join_lengths([late], 4))
        out = self.close(frames)
        self.assertEqual(Numbers(0, 0), WRITER.numbers(split_nals(AVC_SYNTAX, frames[1].data, 4)[0]))
        made = slice_of(_P, 1, f"{2 * 33 % 64:06b}", "1" + ue(0), cabac=True, middle="00")
        self.assertEqual([made], split_nals(AVC_SYNTAX, out[5].data, 4))

    def test_nothing_leads_a_keyframe(self) -> None:
        """A keyframe that nothing is shown before becomes an IDR picture in its place."""
        frames = [frame(_I, 0, -2, 0, idr=True), *(frame(_P, at, at - 2, at) for at in range(1, 4))]
        frames += [frame(_I, 4, 2, 4), *(frame(_P, at, at - 2, at) for at in range(5, 8))]
        out = self.close(frames)
        self.assertEqual(len(frames), len(out))
        self.assertEqual([0, 4], [at for at, each in enumerate(out) if each.keyframe])
        self.assertEqual([IDR_SLICE, SLICE, SLICE, SLICE] * 2, kinds(out))

    def test_range_begins_with_idr(self) -> None:
        """The keyframe that a range begins with becomes an IDR picture: what leads it has been left out."""
        closer = AvcCloser(TRACK.config)  # type: ignore[arg-type]
        self.close([frame(_I, 0, 0, 0, idr=True), *gop(1, 1)], closer)
        closer.begin(None)
        intra, _, _, *others = gop(9, 5)
        out = self.close([intra, *others], closer)
        self.assertEqual((4, [IDR_SLICE, SLICE, SLICE, SLICE]), (len(out), kinds(out)))
        self.assertEqual((True, intra.dts, intra.pts), (out[0].keyframe, out[0].dts, out[0].pts))

    def test_idr_pictures_end_it(self) -> None:
        """Behind an IDR picture of the encoder all is again as it came."""
        out = self.close([frame(_I, 0, 0, 0, idr=True), *gop(1, 1), frame(_I, 7, 7, 0, idr=True), frame(_P, 8, 8, 1)])
        self.assertEqual([frame(_I, 7, 7, 0, idr=True), frame(_P, 8, 8, 1)], out[-2:])

    def test_left_open_pictures_are_counted(self) -> None:
        """Pictures that say too much stay as they are, keyframes too, and are counted."""
        in_groups = [SETS[0], nal(0x68, ue(0), ue(0), "10", ue(1), "1" * 30)]
        closer = AvcCloser(AVC.make_track(1, AVC_SYNTAX.config_of_sets(in_groups)).config)  # type: ignore[arg-type]
        frames = gop(1, 1)
        self.assertEqual(frames, [each for one in frames for each in closer.close(one)])
        self.assertEqual(1, closer.left_open)
