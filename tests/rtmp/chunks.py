"""Chunks written by hand, for tests of those who read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from rapidrtmp.rtmp.chunk_rules import NO_MESSAGE, Message, PlainChunkReader

__all__ = ["basic", "fmt0", "fmt1", "fmt2", "fmt3", "messages_of", "new_feed", "set_chunk_size"]


def basic(fmt: int, csid: int) -> bytes:
    """A basic header, in its shortest form."""
    if csid < 64:
        return bytes([fmt << 6 | csid])
    if csid < 320:
        return bytes([fmt << 6, csid - 64])
    return bytes([fmt << 6 | 1, (csid - 64) & 0xFF, (csid - 64) >> 8])


def _timed(fmt: int, csid: int, time: int, fields: bytes, payload: bytes) -> bytes:
    field = min(time, 0xFFFFFF).to_bytes(3, "big")
    extended = time.to_bytes(4, "big") if time >= 0xFFFFFF else b""
    return basic(fmt, csid) + field + fields + extended + payload


def fmt0(csid: int, timestamp: int, length: int, type_id: int, msid: int, payload: bytes = b"") -> bytes:
    """A chunk with a full header; ``payload`` is what it carries of the message's ``length`` bytes."""
    fields = length.to_bytes(3, "big") + bytes([type_id]) + msid.to_bytes(4, "little")
    return _timed(0, csid, timestamp, fields, payload)


def fmt1(csid: int, delta: int, length: int, type_id: int, payload: bytes = b"") -> bytes:
    """A chunk whose header leaves out the message stream id."""
    return _timed(1, csid, delta, length.to_bytes(3, "big") + bytes([type_id]), payload)


def fmt2(csid: int, delta: int, payload: bytes = b"") -> bytes:
    """A chunk whose header has nothing but a delta."""
    return _timed(2, csid, delta, b"", payload)


def fmt3(csid: int, payload: bytes = b"", extended: int | None = None) -> bytes:
    """A chunk with nothing but a basic header, and an extended timestamp if there is one to repeat."""
    return basic(3, csid) + (b"" if extended is None else extended.to_bytes(4, "big")) + payload


def set_chunk_size(size: int) -> bytes:
    """The message that changes the chunk size."""
    return fmt0(2, 0, 4, 1, 0, size.to_bytes(4, "big"))


def messages_of(reader: PlainChunkReader) -> Iterator[Message]:
    """The messages of a reader, without the places where reading could stop."""
    return (message for message in reader.messages() if message is not NO_MESSAGE)


def new_feed(reader: PlainChunkReader) -> Callable[[bytes], Iterable[Message]]:
    """How to feed a reader."""

    def feed(data: bytes) -> Iterable[Message]:
        reader.receive_data(data)
        return messages_of(reader)

    return feed
