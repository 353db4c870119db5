"""Tests of `rapidrtmp.codec.bits`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.bits import BitReader, remove_emulation_prevention
from rapidrtmp.errors import MediaError
from tests.slow import slow


def data(bits: str) -> bytes:
    """The bits, written as text, filled up with zeros to whole bytes."""
    bits = bits.replace(" ", "")
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))


def exp_golomb(value: int) -> str:
    """How a value is written as ``ue(v)``, by the rule of the specification."""
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


class FixedWidthTests(SynchronousTestCase):
    def test_fields_across_bytes(self) -> None:
        """Fields come most significant bit first, wherever bytes end."""
        reader = BitReader(b"\xa5\x0f\xf0")
        self.assertEqual([0b101, 0b00101_00, 0b0, 0b0, 0xFF, 0b000, 0], [reader.u(n) for n in (3, 7, 1, 1, 8, 3, 0)])
        self.assertEqual(1, reader.bits_left)

    def test_flag_is_one_bit(self) -> None:
        """A flag is one bit."""
        reader = BitReader(b"\x40")
        self.assertEqual([False, True, False], [reader.flag() for _ in range(3)])

    def test_empty_reader_gives_nothing(self) -> None:
        """Nothing can be taken from nothing, save for no bits."""
        reader = BitReader(b"")
        self.assertEqual(0, reader.u(0))
        self.assertRaises(MediaError, reader.u, 1)

    def test_ends_early_with_numbers(self) -> None:
        """A field cut short says how much was wanted, where, and how much there was."""
        reader = BitReader(b"\xff\xff")
        reader.u(9)
        error = self.assertRaises(MediaError, reader.u, 8)
        self.assertEqual("field of 8 bits at bit 9, but only 16 bits are there", str(error))

    @slow
    @given(st.lists(st.tuples(st.integers(0, 40), st.integers(0)).map(lambda f: (f[0], f[1] % (1 << f[0])))))
    def test_reads_what_was_written(self, fields: list[tuple[int, int]]) -> None:
        """Fields of any widths come back as they were written."""
        reader = BitReader(data("".join(f"{value:0{width}b}" for width, value in fields if width)))
        self.assertEqual([value for _, value in fields], [reader.u(width) for width, _ in fields])
        self.assertLess(reader.bits_left, 8)


class ExpGolombTests(SynchronousTestCase):
    def test_table_of_the_specification(self) -> None:
        """The codes of H.264 table 9-2 have their values."""
        reader = BitReader(data("1 010 011 00100 00101 00110 00111 0001000 0001001 0001010"))
        self.assertEqual(list(range(10)), [reader.ue() for _ in range(10)])

    def test_signed_table_of_the_specification(self) -> None:
        """The codes of H.264 table 9-3 have their values."""
        reader = BitReader(data("1 010 011 00100 00101 00110 00111"))
        self.assertEqual([0, 1, -1, 2, -2, 3, -3], [reader.se() for _ in range(7)])

    def test_widest_code_is_bounded(self) -> None:
        """The widest code allowed is read; one zero more is refused, however many bits follow."""
        self.assertEqual(2**32 - 2, BitReader(data("0" * 31 + "1" * 32)).ue())
        error = self.assertRaises(MediaError, BitReader(bytes(4) + b"\xff" * 5).ue)
        self.assertIn("more than 31 zeros", str(error))

    def test_ends_early_in_a_code(self) -> None:
        """A code that breaks off in its zeros or in its value is refused."""
        for cut in (b"", b"\0", data("0000 0001 0")[:1]):
            self.assertRaises(MediaError, BitReader(cut).ue)

    @given(st.lists(st.integers(0, 2**32 - 2)))
    def test_reads_what_was_written(self, values: list[int]) -> None:
        """Codes of any length, one behind the other, come back as they were written."""
        reader = BitReader(data("".join(map(exp_golomb, values))))
        self.assertEqual(values, [reader.ue() for _ in values])


class EmulationPreventionTests(SynchronousTestCase):
    def test_removed_byte_behind_zeros(self) -> None:
        """The byte 03 behind two zeros goes, all others stay."""
        for escaped, meant in (
            ("67 000003 00 80", "67 0000 00 80"),
            ("000003 000003 01", "0000 0000 01"),
            ("0003 00 03 0004", "0003 00 03 0004"),
            ("00000303", "000003"),
            ("67 01 000003", "67 01 0000"),
            ("", ""),
        ):
            self.assertEqual(bytes.fromhex(meant), remove_emulation_prevention(bytes.fromhex(escaped)))
