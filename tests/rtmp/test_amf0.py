from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.rtmp.amf import AmfError, Value
from rapidrtmp.rtmp.amf0 import read_values, write_values
from rapidrtmp.rtmp.limits import AmfLimits
from tests.slow import slow

from .amf_bytes import END, NULL, OBJECT, key, number, text

_LEAVES = st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def read(data: bytes) -> list[Value]:
    return list(read_values(data))


class ScalarTests(SynchronousTestCase):
    """Values that hold no others, byte by byte from AMF0, section 2."""

    def test_number_is_a_double(self) -> None:
        """A number is a double."""
        self.assertEqual([1.0, -0.5], read(b"\x00\x3f\xf0\0\0\0\0\0\0\x00\xbf\xe0\0\0\0\0\0\0"))

    def test_boolean_zero_is_false(self) -> None:
        """Zero is false, everything else true."""
        values = read(b"\x01\x00\x01\x01\x01\xff")
        self.assertEqual([False, True, True], values)
        self.assertIsInstance(values[0], bool)

    def test_string_length_in_bytes(self) -> None:
        """A string has a length in bytes, not in characters."""
        self.assertEqual(["live", "é", ""], read(b"\x02\x00\x04live\x02\x00\x02\xc3\xa9\x02\x00\x00"))

    def test_not_utf8_is_kept(self) -> None:
        """Latin-1 is no reason to lose a message."""
        self.assertEqual(["caf\N{REPLACEMENT CHARACTER}"], read(b"\x02\x00\x04caf\xe9"))

    def test_long_string_has_32_bits(self) -> None:
        """A long string has 32 bits of length; XML documents are written the same way."""
        self.assertEqual(["ab", "<a/>"], read(b"\x0c\0\0\0\x02ab\x0f\0\0\0\x04<a/>"))

    def test_nothings_all_become_none(self) -> None:
        """Null, undefined, unsupported and a reference all become None."""
        self.assertEqual([None, None, None, None], read(b"\x05\x06\x0d\x07\x00\x01"))

    def test_date_without_time_zone(self) -> None:
        """A date is its milliseconds; the time zone is taken and dropped."""
        self.assertEqual([1.0, None], read(b"\x0b\x3f\xf0\0\0\0\0\0\0\xff\xc4" + NULL))

    def test_unknown_markers_are_errors(self) -> None:
        """Movie clips, record sets and unknown markers are errors, and what came before them is delivered."""
        for marker in (0x04, 0x0E, 0x12, 0xFF):
            values = read_values(NULL + bytes([marker]) + NULL)
            self.assertIsNone(next(values))
            with self.assertRaisesRegex(AmfError, f"0x{marker:02x}"):
                next(values)


class ContainerTests(SynchronousTestCase):
    """Objects and arrays, byte by byte from AMF0, section 2."""

    def test_object_up_to_its_end(self) -> None:
        """An object is keys and values up to the end marker."""
        data = OBJECT + b"\x00\x03app" + text("live") + b"\x00\x04fpad" + b"\x01\x00" + b"\x00\x00\x09"
        self.assertEqual([{"app": "live", "fpad": False}, None], read(data + NULL))

    def test_empty_key_is_a_key(self) -> None:
        """An empty key is a key, unless the end marker follows it."""
        self.assertEqual([{"": 1.0, "a": None}], read(OBJECT + b"\0\0" + number(1) + key("a") + NULL + END))

    def test_ecma_array_count_is_a_hint(self) -> None:
        """The count of an ECMA array is a hint: OBS writes 20, others 0, whatever they send."""
        for count in (b"\0\0\0\0", b"\0\0\0\x01", b"\0\0\0\x14", b"\xff\xff\xff\xff"):
            self.assertEqual([{"width": 1280.0}], read(b"\x08" + count + key("width") + number(1280) + END))

    def test_typed_object_loses_its_class(self) -> None:
        """The class name of a typed object is dropped."""
        self.assertEqual([{"a": True}], read(b"\x10" + key("flex.Thing") + key("a") + b"\x01\x01" + END))

    def test_strict_array_is_counted(self) -> None:
        """A strict array has as many values as it says."""
        data = b"\x0a\0\0\0\x02" + text("hvc1") + text("Opus") + NULL
        self.assertEqual([["hvc1", "Opus"], None], read(data))

    def test_missing_end_marker(self) -> None:
        """Objects, even nested ones, may end with the message instead of their marker."""
        self.assertEqual([{"a": {"b": 1.0}}], read(OBJECT + key("a") + OBJECT + key("b") + number(1)))
        self.assertEqual([{}], read(OBJECT))

    def test_marker_of_amf3(self) -> None:
        """One AMF3 value may stand anywhere, and AMF0 continues behind it."""
        data = text("x") + b"\x11\x06\x0dlegacy" + OBJECT + key("a") + b"\x11\x04\x7f" + END + NULL
        self.assertEqual(["x", "legacy", {"a": 127.0}, None], read(data))


class LimitTests(SynchronousTestCase):
    """A message costs no more than its bytes."""

    def test_depth_of_sixteen_containers(self) -> None:
        """Sixteen containers within each other are read, seventeen are not."""
        sixteen = b"\x0a\0\0\0\x01" * 16 + NULL
        self.assertEqual(1, len(read(sixteen)))
        with self.assertRaisesRegex(AmfError, "deeper than 16"):
            read(b"\x0a\0\0\0\x01" * 17 + NULL)

    def test_depth_is_given_back(self) -> None:
        """Containers one behind the other are not deep."""
        self.assertEqual([[None]] * 40, read((b"\x0a\0\0\0\x01" + NULL) * 40))

    def test_values_of_a_message_are_bounded(self) -> None:
        """A message holds so many values and no more, nested ones counted."""
        self.assertEqual(3, len(list(read_values(NULL * 3, AmfLimits(values=3)))))
        for data in (NULL * 4, b"\x0a\0\0\0\x03" + NULL * 3):
            with self.assertRaisesRegex(AmfError, "more than 3"):
                list(read_values(data, AmfLimits(values=3)))

    def test_count_without_bytes(self) -> None:
        """A count or length that the message cannot hold is refused at once."""
        for data in (b"\x0a\xff\xff\xff\xff" + NULL, b"\x0c\xff\xff\xff\xffab", b"\x02\xff\xffab"):
            with self.assertRaises(AmfError):
                read(data)

    def test_error_quotes_nothing(self) -> None:
        """An error tells the place, never the content, which may be a secret."""
        with self.assertRaises(AmfError) as caught:
            read(text("key?token=secret") + b"\x02\x00\xffsecret")
        self.assertNotIn("secret", str(caught.exception))
        self.assertIn("of 28", str(caught.exception))


class TruncationTests(SynchronousTestCase):
    """AMF that stops somewhere."""

    whole = (
        text("connect")
        + number(1)
        + (OBJECT + key("app") + text("live") + key("list") + b"\x0a\0\0\0\x01" + text("avc1") + END)
        + b"\x0c\0\0\0\x02ab"
        + (b"\x0b" + bytes(10))
        + (b"\x10" + key("T") + END)
        + b"\x07\0\0"
    )

    def test_every_byte_may_be_the_last(self) -> None:
        """Cut anywhere, the values before the cut are those of the whole, and then comes an error or the end."""
        everything = read(self.whole)
        for size in range(len(self.whole)):
            values = []
            try:
                for value in read_values(self.whole[:size]):
                    values.append(value)
            except AmfError:
                self.assertEqual(everything[: len(values)], values)
            else:
                self.assertEqual(everything[: len(values)][:-1], values[:-1])  # the last object may lack members

    @given(st.binary(max_size=200))
    def test_arbitrary_bytes_are_values_or_errors(self, data: bytes) -> None:
        """Whatever comes, it is values or an AmfError."""
        try:
            read(data)
        except AmfError:
            pass


class WriterTests(SynchronousTestCase):
    """Values to bytes."""

    def test_types_written_by_hand(self) -> None:
        """Each type is written as the specification says."""
        for value, data in (
            (None, b"\x05"),
            (True, b"\x01\x01"),
            (False, b"\x01\x00"),
            (1, b"\x00\x3f\xf0\0\0\0\0\0\0"),
            (0.5, b"\x00\x3f\xe0\0\0\0\0\0\0"),
            ("é", b"\x02\x00\x02\xc3\xa9"),
            ({"a": None}, b"\x03\x00\x01a\x05\x00\x00\x09"),
            ([None, "b"], b"\x0a\0\0\0\x02\x05\x02\x00\x01b"),
        ):
            self.assertEqual(data, write_values(value), value)

    def test_long_string_is_written_so(self) -> None:
        """Text of more than 65535 bytes is a long string."""
        self.assertEqual(b"\x02\xff\xff", write_values("a" * 65535)[:3])
        self.assertEqual(b"\x0c\0\x01\0\0", write_values("a" * 65536)[:5])

    def test_one_behind_the_other(self) -> None:
        """Values of a message just follow each other."""
        self.assertEqual(b"\x05\x01\x01", write_values(None, True))

    def test_impossible_values_are_refused(self) -> None:
        """AMF0 has no byte strings."""
        self.assertRaises(TypeError, write_values, b"bytes")

    @slow
    @settings(max_examples=50)
    @given(st.lists(_VALUES, max_size=3))
    def test_written_values_read_back(self, values: list[Value]) -> None:
        """What is written reads the same."""
        self.assertEqual(values, read(write_values(*values)))
