"""
AMF0 and AMF3, and the messages made of them: the first byte chooses what an input is read as.

Nothing but ``UnreadableError`` may escape; and values that AMF0 can write are read back as they were.
"""

from __future__ import annotations

from rapidrtmp.rtmp.aggregate import read_aggregate
from rapidrtmp.rtmp.amf import Value
from rapidrtmp.rtmp.amf0 import read_values, write_values
from rapidrtmp.rtmp.chunk import Message
from rapidrtmp.rtmp.command import read_command, read_data
from rapidrtmp.rtmp.limits import AmfLimits
from rapidrtmp.rtmp.message import MessageType, UnreadableError, read_user_control

__all__ = ["run"]

LIMITS = AmfLimits(depth=5, values=40)


def run(data: bytes) -> None:
    """One message. :raises AssertionError: an invariant does not hold."""
    kind, body = data[:1], data[1:]
    try:
        match kind:
            case b"\x01":
                read_command(body, LIMITS)
            case b"\x02":
                read_data(body, LIMITS)
            case b"\x03":
                list(read_aggregate(Message(MessageType.AGGREGATE, 1, 0xFFFFFFFE, body, 4), len(body)))
            case b"\x04":
                read_user_control(body)
            case _:
                write_and_read(body)
    except UnreadableError:
        pass


def write_and_read(body: bytes) -> None:
    """Read values; write what was read; read that."""
    values: list[Value] = []
    try:
        for value in read_values(body, LIMITS):
            values.append(value)
    finally:
        if all(map(is_writable, values)):
            # As text, for there are numbers that do not equal themselves.
            assert repr(list(read_values(write_values(*values)))) == repr(values)


def is_writable(value: Value) -> bool:
    """Whether AMF0 has such a value."""
    match value:
        case bytes():
            return False
        case list():
            return all(map(is_writable, value))
        case dict():
            return all(map(is_writable, value.values())) and all(len(key.encode()) <= 0xFFFF for key in value)
    return True
