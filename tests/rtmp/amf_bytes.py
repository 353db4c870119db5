"""AMF0 written by hand from its specification, for tests: it shares nothing with the code it checks."""

from __future__ import annotations

import struct

__all__ = ["END", "NULL", "OBJECT", "key", "number", "text"]

NULL = b"\x05"
OBJECT = b"\x03"
END = b"\x00\x00\x09"


def key(name: str) -> bytes:
    """A property's name: 16-bit length and UTF-8."""
    data = name.encode()
    return len(data).to_bytes(2, "big") + data


def text(value: str) -> bytes:
    """A string."""
    return b"\x02" + key(value)


def number(value: float) -> bytes:
    """A number."""
    return b"\x00" + struct.pack(">d", value)
