"""
AMF0 values, read from and written to command and data messages (Action Message Format 0, version of 2007).

Readers are as lenient as encoders are careless: the count of an ECMA array is a hint, the end marker of an object may
be missing at the end of the message, an empty key is a key unless the end marker follows it, and references (which
could build cycles) become ``None``. An AMF3 value may stand behind marker 0x11.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from rapidrtmp.rtmp.amf import Cursor, Value
from rapidrtmp.rtmp.amf3 import Amf3Reader
from rapidrtmp.rtmp.limits import DEFAULT_AMF_LIMITS, AmfLimits

__all__ = ["read_values", "write_values"]

_NUMBER, _BOOLEAN, _STRING, _OBJECT, _NULL = 0x00, 0x01, 0x02, 0x03, 0x05
_ECMA_ARRAY, _STRICT_ARRAY, _LONG_STRING = 0x08, 0x0A, 0x0C
_OBJECT_END = b"\x00\x00\x09"


def read_values(data: bytes, limits: AmfLimits = DEFAULT_AMF_LIMITS) -> Iterator[Value]:
    """
    Read the values of one message, one by one: those before a bad byte are delivered before the error.

    :raises AmfError: while iterating, at the first byte that is no AMF0 or passes a limit; nothing follows it.
    """
    reader = _Amf0Reader(Cursor(data, limits))
    while reader.cursor.remaining:
        yield reader.read_value()


class _Amf0Reader:
    """Reads values off one cursor; the reference tables of AMF3 values last as long as the message."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self._amf3 = Amf3Reader(cursor)

    def read_value(self) -> Value:
        """Take one value: its marker and what that says (AMF0, 2.1)."""
        marker = self.cursor.take_u8()
        read = _READERS.get(marker)
        if read is None:
            raise self.cursor.error(f"unknown AMF0 marker 0x{marker:02x}")
        self.cursor.count_value()
        return read(self)

    def read_object(self) -> dict[str, Value]:
        """Properties up to the end marker, or up to the end of the message (2.5)."""
        properties: dict[str, Value] = {}
        with self.cursor:
            while self.cursor.remaining and not self.cursor.skip_if(_OBJECT_END):
                key = self.read_string()
                properties[key] = self.read_value()
        return properties

    def read_ecma_array(self) -> dict[str, Value]:
        """As an object, behind a count that OBS always writes as 20 and others as 0 (2.10)."""
        self.cursor.take(4)
        return self.read_object()

    def read_typed_object(self) -> dict[str, Value]:
        """As an object, behind a class name, which is dropped (2.18)."""
        self.read_string()
        return self.read_object()

    def read_strict_array(self) -> list[Value]:
        """As many values as the count says (2.12)."""
        count = self.cursor.check_count(self.cursor.take_u32())
        with self.cursor:
            return [self.read_value() for _ in range(count)]

    def read_string(self) -> str:
        """Text behind a 16-bit length in bytes (1.3.1)."""
        return self.cursor.take_text(self.cursor.take_u16())

    def read_long_string(self) -> str:
        """Text behind a 32-bit length in bytes (2.14)."""
        return self.cursor.take_text(self.cursor.take_u32())

    def read_date(self) -> float:
        """Milliseconds since 1970; the time zone is reserved and says nothing (2.13)."""
        milliseconds = self.cursor.take_double()
        self.cursor.take(2)
        return milliseconds

    def read_reference(self) -> None:
        """An index of an object read before: not followed (2.9)."""
        self.cursor.take(2)

    def read_amf3(self) -> Value:
        """One AMF3 value; after it AMF0 continues (3.1)."""
        return self._amf3.read_value()


def _nothing(_reader: _Amf0Reader) -> None:
    """Null, undefined, unsupported: the marker is all there is."""


_READERS: dict[int, Callable[[_Amf0Reader], Value]] = {
    _NUMBER: lambda reader: reader.cursor.take_double(),
    _BOOLEAN: lambda reader: reader.cursor.take_u8() != 0,
    _STRING: _Amf0Reader.read_string,
    _OBJECT: _Amf0Reader.read_object,
    _NULL: _nothing,
    0x06: _nothing,  # undefined
    0x07: _Amf0Reader.read_reference,
    _ECMA_ARRAY: _Amf0Reader.read_ecma_array,
    _STRICT_ARRAY: _Amf0Reader.read_strict_array,
    0x0B: _Amf0Reader.read_date,
    _LONG_STRING: _Amf0Reader.read_long_string,
    0x0D: _nothing,  # unsupported
    0x0F: _Amf0Reader.read_long_string,  # an XML document is text to us
    0x10: _Amf0Reader.read_typed_object,
    0x11: _Amf0Reader.read_amf3,
}


def write_values(*values: Value) -> bytes:
    """
    Write values one behind the other, as the body of a message of type 18 or 20.

    ``dict`` becomes an object, ``list`` a strict array, text of more than 65535 bytes a long string.

    :raises TypeError: for a value that AMF0 does not have, such as ``bytes``.
    """
    return b"".join(map(_write_value, values))


def _write_value(value: Value) -> bytes:
    match value:
        case None:
            return bytes([_NULL])
        case bool():
            return bytes([_BOOLEAN, value])
        case int() | float():
            return struct.pack(">Bd", _NUMBER, value)
        case str():
            return _write_text(value)
        case dict():
            return bytes([_OBJECT]) + b"".join(map(_write_property, value.items())) + _OBJECT_END
        case list():
            return struct.pack(">BI", _STRICT_ARRAY, len(value)) + write_values(*value)
    raise TypeError(f"AMF0 has no {type(value).__name__}")


def _write_property(item: tuple[str, Value]) -> bytes:
    key = item[0].encode("utf-8", "replace")
    return struct.pack(">H", len(key)) + key + _write_value(item[1])


def _write_text(text: str) -> bytes:
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= 0xFFFF:
        return struct.pack(">BH", _STRING, len(encoded)) + encoded
    return struct.pack(">BI", _LONG_STRING, len(encoded)) + encoded
