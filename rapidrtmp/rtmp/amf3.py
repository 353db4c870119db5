"""
AMF3 values, as they stand behind marker 0x11 in messages of types 15 and 17 (Action Message Format 3, of 2013).

Flash-era encoders send them; we only read. Scalars, strings, dates, byte arrays, arrays and plain objects are
understood. Objects met again by reference become ``None``; vectors, dictionaries and objects with a serialisation of
their own end the reading of the message, for without knowing them their end cannot be found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from rapidrtmp.rtmp.amf import Cursor, Value

__all__ = ["Amf3Reader"]

_T = TypeVar("_T")


class _Traits(NamedTuple):
    """What objects of one class have in common: the names of their fixed members, and whether others may follow."""

    members: tuple[str, ...]
    dynamic: bool


class Amf3Reader:
    """Reads values off ``cursor``; strings and traits seen are remembered, for later values refer to them (2.2)."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._strings: list[str] = []
        self._traits: list[_Traits] = []

    def read_value(self) -> Value:
        """
        Take one value: its marker and what that says (3.1).

        :raises AmfError: bytes that are no AMF3, a type not understood, or a limit passed.
        """
        marker = self._cursor.take_u8()
        read = _READERS.get(marker)
        if read is None:
            raise self._cursor.error(f"AMF3 marker 0x{marker:02x} is not understood")
        self._cursor.count_value()
        return read(self)

    def read_u29(self) -> int:
        """A number of 29 bits: seven to a byte, eight in the fourth (1.3.1)."""
        number = 0
        for _ in range(3):
            byte = self._cursor.take_u8()
            number = number << 7 | byte & 0x7F
            if byte < 0x80:
                return number
        return number << 8 | self._cursor.take_u8()

    def read_integer(self) -> float:
        """A signed number of 29 bits (3.6), as a float like all AMF numbers."""
        number = self.read_u29()
        return float(number - (1 << 29) if number >= 1 << 28 else number)

    def read_double(self) -> float:
        """An IEEE 754 double (3.7)."""
        return self._cursor.take_double()

    def read_string(self) -> str:
        """Text, or the index of text seen before; empty text is never remembered (1.3.2)."""
        inline, number = self._read_header()
        if not inline:
            return self._look_up(self._strings, number)
        text = self._cursor.take_text(number)
        if text:
            self._strings.append(text)
        return text

    def read_xml(self) -> str | None:
        """An XML document: text that is remembered as an object, not as a string (3.9, 3.13)."""
        inline, size = self._read_header()
        return self._cursor.take_text(size) if inline else None

    def read_byte_array(self) -> bytes | None:
        """Bytes (3.14)."""
        inline, size = self._read_header()
        return self._cursor.take(size) if inline else None

    def read_date(self) -> float | None:
        """Milliseconds since 1970 (3.10)."""
        inline, _ = self._read_header()
        return self._cursor.take_double() if inline else None

    def read_array(self) -> Value:
        """A list; with named members too it is a dict, in which the others go by their index (3.11)."""
        inline, number = self._read_header()
        if not inline:
            return None
        count = self._cursor.check_count(number)
        with self._cursor:
            named = self._read_dynamic_members()
            dense = [self.read_value() for _ in range(count)]
        if not named:
            return dense
        return named | {str(index): value for index, value in enumerate(dense)}

    def read_object(self) -> Value:
        """An object, its class name dropped (3.12)."""
        inline, number = self._read_header()
        if not inline:
            return None
        traits = self._read_traits(number)
        with self._cursor:
            members = {name: self.read_value() for name in traits.members}
            return members | self._read_dynamic_members() if traits.dynamic else members

    def _read_header(self) -> tuple[bool, int]:
        """A U29 whose lowest bit tells a value that follows (1) from an index of one seen before (0)."""
        number = self.read_u29()
        return bool(number & 1), number >> 1

    def _read_traits(self, number: int) -> _Traits:
        """Traits from the bits left of an object's header: an index, or the class name and member names themselves."""
        if not number & 1:
            return self._look_up(self._traits, number >> 1)
        if number & 2:
            raise self._cursor.error("AMF3 object with a serialisation of its own")
        count = self._cursor.check_count(number >> 3)
        self.read_string()
        traits = _Traits(tuple(self.read_string() for _ in range(count)), dynamic=bool(number & 4))
        self._traits.append(traits)
        return traits

    def _read_dynamic_members(self) -> dict[str, Value]:
        """Names and values up to an empty name."""
        members: dict[str, Value] = {}
        while name := self.read_string():
            members[name] = self.read_value()
        return members

    def _look_up(self, table: list[_T], index: int) -> _T:
        if index >= len(table):
            raise self._cursor.error(f"AMF3 reference {index} into a table of {len(table)}")
        return table[index]


def _constant(value: Value) -> Callable[[Amf3Reader], Value]:
    """A reader of a type that is all in its marker."""
    return lambda _reader: value


_READERS: dict[int, Callable[[Amf3Reader], Value]] = {
    0x00: _constant(None),  # undefined
    0x01: _constant(None),
    0x02: _constant(False),
    0x03: _constant(True),
    0x04: Amf3Reader.read_integer,
    0x05: Amf3Reader.read_double,
    0x06: Amf3Reader.read_string,
    0x07: Amf3Reader.read_xml,
    0x08: Amf3Reader.read_date,
    0x09: Amf3Reader.read_array,
    0x0A: Amf3Reader.read_object,
    0x0B: Amf3Reader.read_xml,
    0x0C: Amf3Reader.read_byte_array,
}
