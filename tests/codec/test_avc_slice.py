"""Slices with other headers: every field by hand, and nothing else changes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.avc_nal import IDR_SLICE, nal_type
from rapidrtmp.codec.avc_slice import Numbers, SliceWriter
from rapidrtmp.errors import MediaError

#: Slice data, of CABAC and of CAVLC, the last bit of which ends it.
DATA = b"\xa7\x00\x00\x03\x01\x5b\x80"
_P, _B, _I = range(3)


def ue(value: int) -> str:
    bits = f"{value + 1:b}"
    return "0" * (len(bits) - 1) + bits


def se(value: int) -> str:
    return ue(2 * value - 1 if value > 0 else -2 * value)


def nal(head: int, *fields: str) -> bytes:
    """A NAL unit of these bits, filled up with zeros; none of them looks like a start code."""
    bits = "".join(fields)
    bits += "0" * (-len(bits) % 8)
    return bytes([head]) + int(bits, 2).to_bytes(len(bits) // 8, "big")


def sets(*, cabac: bool, order: bool = True, fields: bool = False, weighted: bool = False) -> list[bytes]:
    """Main profile, ``frame_num`` of 4 bits, an order count of 6 bits or none, deblocking of their own."""
    numbering = ue(0) + (ue(0) + ue(2) if order else ue(2))
    size = ue(3) + "0" + ue(3) + ue(2) + ("00" if fields else "1") + "1" + "0" + "0" + "1"
    sps = nal(0x67, f"{77:08b}{0:08b}{30:08b}", ue(0), numbering, size)
    rest = ue(0) + ue(2) + ue(0) + ("1" if weighted else "0") + "00" + se(0) + se(0) + se(0) + "100" + "1"
    return [sps, nal(0x68, ue(0), ue(0), "1" if cabac else "0", "0", rest)]


def slice_of(
    slice_type: int, frame: int, order: str, marking: str, *, cabac: bool, head: int = 0x41, middle: str = ""
) -> bytes:
    """A slice with a quantiser of -3 and deblocking of its own."""
    fields = ue(0) + ue(slice_type + 5) + ue(0) + f"{frame:04b}" + order + middle + marking
    fields += (ue(1) if cabac and slice_type != _I else "") + se(-3) + ue(0) + se(2) + se(-1)
    if not cabac:
        return nal(head, fields, "".join(f"{byte:08b}" for byte in DATA.replace(b"\0\0\3", b"\0\0")))
    fields += "1" * (-len(fields) % 8)
    return nal(head, fields) + DATA


class IdrTests(SynchronousTestCase):
    def test_intra_picture_becomes_idr(self) -> None:
        """An intra picture becomes an IDR picture: number 0, an id of its own, and the data stays, bit by bit."""
        for cabac in (True, False):
            writer = SliceWriter(sets(cabac=cabac))
            made = writer.as_idr(slice_of(_I, 9, "101101", "0", cabac=cabac), 1)
            expected = slice_of(_I, 0, ue(1) + "000000", "00", cabac=cabac, head=0x45)
            self.assertEqual(expected.rstrip(b"\0"), made)
            self.assertEqual(IDR_SLICE, nal_type(made))

    def test_marking_of_references_goes(self) -> None:
        """What it said of references goes: an IDR picture lets go of all of them."""
        for cabac in (True, False):
            marking = "1" + ue(1) + ue(0) + ue(3) + ue(2) + ue(1) + ue(0)
            made = SliceWriter(sets(cabac=cabac)).as_idr(slice_of(_I, 9, "101101", marking, cabac=cabac), 0)
            self.assertEqual(slice_of(_I, 0, ue(0) + "000000", "00", cabac=cabac, head=0x45).rstrip(b"\0"), made)

    def test_what_cannot_become_one(self) -> None:
        """Other pictures, those that no other refers to, and fields stay what they are."""
        writer = SliceWriter(sets(cabac=True))
        for slice_type, head in ((_P, 0x41), (_B, 0x41), (_I, 0x01)):
            with self.assertRaises(MediaError):
                writer.as_idr(slice_of(slice_type, 9, "101101", "0000", cabac=True, head=head), 0)
        with self.assertRaises(MediaError):
            SliceWriter(sets(cabac=True, fields=True)).as_idr(slice_of(_I, 9, "10" + "101101", "0", cabac=True), 0)

    def test_frames_that_might_be_fields(self) -> None:
        """A frame where pictures may be fields says so in front of its id."""
        writer = SliceWriter(sets(cabac=True, fields=True))
        made = writer.as_idr(slice_of(_I, 9, "0" + "101101", "0", cabac=True), 0)
        self.assertEqual(slice_of(_I, 0, "0" + ue(0) + "000000", "00", cabac=True, head=0x45), made)

    def test_cut_short_slices_are_refused(self) -> None:
        """A slice that ends within its header, or has a parameter set that is not there, is refused."""
        writer, whole = SliceWriter(sets(cabac=True)), slice_of(_I, 9, "101101", "0", cabac=True)
        for size in range(1, 6):
            with self.assertRaises(MediaError):
                writer.as_idr(whole[:size], 0)
        with self.assertRaises(MediaError):
            SliceWriter([]).as_idr(whole, 0)


class RenumberTests(SynchronousTestCase):
    def test_numbers_count_from_the_idr(self) -> None:
        """Numbers count from those of the IDR picture, and wrap as they did; nothing else changes."""
        base = Numbers(14, 60)
        for cabac in (True, False):
            writer = SliceWriter(sets(cabac=cabac))
            self.assertEqual(base, writer.numbers(slice_of(_I, 14, f"{60:06b}", "0", cabac=cabac)))
            for slice_type, middle in (
                (_P, "00"),
                (_B, "1" + "0" + "00"),
                (_P, "1" + ue(0) + "1" + ue(0) + ue(1) + ue(3)),
            ):
                before = slice_of(slice_type, 1, f"{4:06b}", "0", cabac=cabac, middle=middle)
                after = slice_of(slice_type, 3, f"{8:06b}", "0", cabac=cabac, middle=middle)
                self.assertEqual(after, writer.renumber(before, base, is_early=True))

    def test_without_order_one_number(self) -> None:
        """A stream that is shown as it is decoded has one number."""
        writer = SliceWriter(sets(cabac=True, order=False))
        before, after = (slice_of(_P, frame, "", "0", cabac=True, middle="00") for frame in (1, 3))
        self.assertEqual(after, writer.renumber(before, Numbers(14), is_early=True))

    def test_letting_go_of_references(self) -> None:
        """A picture lets go of those behind the IDR picture, not of others, which are gone; later of all it says."""
        gone, there, long_term = ue(1) + ue(3), ue(1) + ue(1), ue(4) + ue(2)
        for cabac in (True, False):
            writer = SliceWriter(sets(cabac=cabac))
            marking = "1" + gone + there + long_term + ue(0)
            before = slice_of(_P, 1, f"{4:06b}", marking, cabac=cabac, middle="00")
            early = slice_of(_P, 3, f"{8:06b}", "1" + there + long_term + ue(0), cabac=cabac, middle="00")
            late = slice_of(_P, 3, f"{8:06b}", marking, cabac=cabac, middle="00")
            made = writer.renumber(before, Numbers(14, 60), is_early=True)
            self.assertEqual(early.rstrip(b"\0"), made.rstrip(b"\0"))
            self.assertEqual(late, writer.renumber(before, Numbers(14, 60), is_early=False))

    def test_weights_are_passed_over(self) -> None:
        """Weights of predictions stand in the way and are passed over."""
        writer = SliceWriter(sets(cabac=True, weighted=True))
        weights = ue(5) + ue(5) + "1" + se(3) + se(-1) + "1" + 4 * se(2) + "0" + "0" + "0" + "1" + 4 * se(0)
        before, after = (
            slice_of(_P, frame, f"{order:06b}", "1" + gone + ue(0), cabac=True, middle="00" + weights)
            for frame, order, gone in ((1, 4, ue(1) + ue(3)), (3, 8, ""))
        )
        self.assertEqual(after, writer.renumber(before, Numbers(14, 60), is_early=True))
