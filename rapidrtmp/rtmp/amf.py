"""
What AMF0 and AMF3 have in common: the Python values they become, the error, and a cursor that believes nothing.

AMF travels in commands and metadata only, a few messages a connection; media never passes here.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

from rapidrtmp.rtmp.limits import AmfLimits
from rapidrtmp.rtmp.message import UnreadableError

__all__ = ["AmfError", "Cursor", "Value"]

#: An AMF value in Python: ``None`` for null, undefined and whatever we do not follow (references); numbers and dates
#: (milliseconds since 1970) are ``float``; objects, typed objects and ECMA arrays are ``dict``, strict arrays ``list``.
#: Writers also take ``int``.
Value: TypeAlias = "bool | float | str | bytes | list[Value] | dict[str, Value] | None"

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_DOUBLE = struct.Struct(">d")


class AmfError(UnreadableError):
    """Bytes that are no AMF, or more of it than the limits allow. The message names positions, never content."""


class Cursor:
    """
    A place in one message's bytes, and what the peer may still make us build from them.

    Every ``take_`` checks that all its bytes are there first.

    :raises AmfError: from any method, when bytes run out or a limit is passed.
    """

    __slots__ = ("_data", "_depth", "_limits", "_offset", "_values")

    def __init__(self, data: bytes, limits: AmfLimits) -> None:
        self._data = data
        self._limits = limits
        self._offset = 0
        self._values = 0
        self._depth = 0

    @property
    def remaining(self) -> int:
        """Bytes not yet taken."""
        return len(self._data) - self._offset

    def error(self, problem: str) -> AmfError:
        """An error to raise, with the place where reading stopped."""
        return AmfError(f"{problem} at byte {self._offset} of {len(self._data)}")

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if size > self.remaining:
            raise self.error(f"{size} bytes wanted, {self.remaining} left,")
        start = self._offset
        self._offset += size
        return self._data[start : self._offset]

    def take_u8(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def take_u16(self) -> int:
        """An unsigned 16-bit number, big-endian."""
        number: int = _U16.unpack(self.take(2))[0]
        return number

    def take_u32(self) -> int:
        """An unsigned 32-bit number, big-endian."""
        number: int = _U32.unpack(self.take(4))[0]
        return number

    def take_double(self) -> float:
        """An IEEE 754 double, big-endian."""
        number: float = _DOUBLE.unpack(self.take(8))[0]
        return number

    def take_text(self, size: int) -> str:
        """``size`` bytes as UTF-8; what is not UTF-8 becomes U+FFFD, for encoders do send Latin-1."""
        return self.take(size).decode("utf-8", "replace")

    def skip_if(self, prefix: bytes) -> bool:
        """Take ``prefix`` if they come next."""
        if not self._data.startswith(prefix, self._offset):
            return False
        self._offset += len(prefix)
        return True

    def count_value(self) -> None:
        """Count one more value against the limit."""
        self._values += 1
        if self._values > self._limits.values:
            raise self.error(f"more than {self._limits.values} AMF values")

    def check_count(self, count: int) -> int:
        """Refuse a count of members that the bytes left could not hold, each being one byte at least."""
        if count > self.remaining:
            raise self.error(f"{count} AMF values announced, {self.remaining} bytes left,")
        return count

    def __enter__(self) -> Cursor:
        """Go into a container, one level deeper."""
        self._depth += 1
        if self._depth > self._limits.depth:
            raise self.error(f"AMF nested deeper than {self._limits.depth}")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._depth -= 1
