from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.rtmp.amf import AmfError, Cursor, Value
from rapidrtmp.rtmp.amf3 import Amf3Reader
from rapidrtmp.rtmp.limits import AmfLimits


def read(data: bytes, count: int = 1) -> list[Value]:
    reader = Amf3Reader(Cursor(data, AmfLimits()))
    return [reader.read_value() for _ in range(count)]


class ScalarTests(SynchronousTestCase):
    """Values that hold no others, byte by byte from AMF3, section 3."""

    def test_constants_are_their_markers(self) -> None:
        """Undefined, null, false and true are their markers."""
        self.assertEqual([None, None, False, True], read(b"\x00\x01\x02\x03", 4))

    def test_u29_in_one_to_four_bytes(self) -> None:
        """Integers take one to four bytes, with eight bits in the fourth."""
        for data, expected in (
            (b"\x00", 0),
            (b"\x7f", 127),
            (b"\x81\x00", 128),
            (b"\xff\x7f", 16383),
            (b"\x81\x80\x00", 16384),
            (b"\xff\xff\x7f", 2097151),
            (b"\x80\xc0\x80\x00", 2097152),
            (b"\xbf\xff\xff\xff", 268435455),
            (b"\xc0\x80\x80\x00", -268435456),
            (b"\xff\xff\xff\xff", -1),
        ):
            self.assertEqual([float(expected)], read(b"\x04" + data), data.hex())

    def test_double_is_a_double(self) -> None:
        """A double is one."""
        self.assertEqual([1.0], read(b"\x05\x3f\xf0\0\0\0\0\0\0"))

    def test_string_references_by_index(self) -> None:
        """Text seen before is referred to by index; the empty string has none."""
        data = b"\x06\x01\x06\x07abc\x06\x05de\x06\x02\x06\x00"
        self.assertEqual(["", "abc", "de", "de", "abc"], read(data, 5))

    def test_date_xml_and_bytes(self) -> None:
        """Dates are milliseconds, XML is text, byte arrays are bytes; by reference each is None."""
        self.assertEqual([1.0, None], read(b"\x08\x01\x3f\xf0\0\0\0\0\0\0\x08\x00", 2))
        self.assertEqual(["<a/>", "<b/>", None], read(b"\x07\x09<a/>\x0b\x09<b/>\x0b\x00", 3))
        self.assertEqual([b"\x00\xff", None], read(b"\x0c\x05\x00\xff\x0c\x02", 2))


class ContainerTests(SynchronousTestCase):
    """Arrays and objects."""

    def test_dense_array_is_a_list(self) -> None:
        """An array without names is a list."""
        self.assertEqual([[1.0, True]], read(b"\x09\x05\x01\x04\x01\x03"))

    def test_named_array_is_a_dict(self) -> None:
        """An array with names is a dict, the rest by index."""
        self.assertEqual([{"a": None, "0": 7.0}], read(b"\x09\x03\x03a\x01\x01\x04\x07"))

    def test_dynamic_object_of_flash(self) -> None:
        """An anonymous object is what Flash encoders send: no fixed members, names and values up to an empty name."""
        self.assertEqual([{"app": "live"}], read(b"\x0a\x0b\x01\x07app\x06\x09live\x01"))

    def test_fixed_members_and_traits_reference(self) -> None:
        """A second object of a class names its traits by index, and has only values."""
        first = b"\x0a\x23\x03T\x03x\x03y\x04\x01\x04\x02"
        second = b"\x0a\x01\x04\x03\x04\x04"
        self.assertEqual([{"x": 1.0, "y": 2.0}, {"x": 3.0, "y": 4.0}], read(first + second, 2))

    def test_object_reference_is_none(self) -> None:
        """An object met again is None, so nothing can contain itself."""
        self.assertEqual([{"self": None}, None], read(b"\x0a\x0b\x01\x09self\x0a\x00\x01\x09\x00", 2))

    def test_unknown_types_are_errors(self) -> None:
        """Vectors, dictionaries, own serialisations and unknown markers are errors."""
        for data in (b"\x0d\x01\x00", b"\x11\x01\x00", b"\x0a\x07\x03T", b"\x12", b"\xff"):
            self.assertRaises(AmfError, read, data)


class LimitTests(SynchronousTestCase):
    """A message costs no more than its bytes."""

    def test_wild_references_are_errors(self) -> None:
        """An index of what was never seen is an error."""
        self.assertRaises(AmfError, read, b"\x06\x00")
        self.assertRaises(AmfError, read, b"\x0a\x01")

    def test_counts_beyond_the_message(self) -> None:
        """Counts and lengths beyond the message are refused."""
        for data in (b"\x09\xbf\xff\xff\xff\x01", b"\x0a\xbf\xff\xff\xfb\x01", b"\x06\xbf\xff\xff\xff", b"\x0c\x7f"):
            self.assertRaises(AmfError, read, data)

    def test_depth_of_sixteen_arrays(self) -> None:
        """Sixteen arrays within each other are read, seventeen are not."""
        read(b"\x09\x03\x01" * 16 + b"\x01")
        with self.assertRaisesRegex(AmfError, "deeper"):
            read(b"\x09\x03\x01" * 17 + b"\x01")

    def test_truncated_anywhere_is_an_error(self) -> None:
        """Cut anywhere, an object is an error."""
        whole = b"\x0a\x2b\x03T\x03x\x03y\x04\x01\x09\x03\x01\x05" + bytes(8) + b"\x03z\x06\x09live\x01"
        self.assertEqual([{"x": 1.0, "y": [0.0], "z": "live"}], read(whole))
        for size in range(len(whole)):
            self.assertRaises(AmfError, read, whole[:size])

    @given(st.binary(max_size=200))
    def test_arbitrary_bytes_are_values_or_errors(self, data: bytes) -> None:
        """Whatever comes, it is a value or an AmfError."""
        try:
            read(data)
        except AmfError:
            pass
