"""
Chunks to messages by the rules, one header at a time (RTMP 1.0, 5.3.1 and 5.4).

How it thinks: what arrived lies in one ``bytes`` object with an index of how far it is read. A header is looked at
whole before it is taken, so "ask for more" leaves nothing to undo. Payload is taken as it comes, into the chunk
stream's own buffer, so at most one incomplete header (18 bytes) is ever looked at twice, however a message is cut.

Between two chunks every chunk stream is either *between messages* (``left == 0``: the next chunk starts one) or
*mid-message* (``left`` bytes to come: the next chunk continues it). A fmt 3 header means something else in each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.rtmp.chunk_limits import ChunkLimits

__all__ = ["NO_MESSAGE", "ChunkStream", "Message", "PlainChunkReader", "read_basic_header"]

DEFAULT_CHUNK_SIZE = 128
#: No message is longer, so a greater chunk size means the same (5.4.1).
MAX_CHUNK_SIZE = 0xFFFFFF
#: In a timestamp field of 24 bits: the true value stands in 32 bits behind the header (5.3.1.3).
EXTENDED = 0xFFFFFF
CLOCK = 0xFFFFFFFF

SET_CHUNK_SIZE = 1
ABORT = 2
DEFAULT_LIMITS = ChunkLimits()

_HEADER_SIZE = (11, 7, 3, 0)


class Message(NamedTuple):
    """
    One reassembled message.

    :ivar type_id: message type, 0..255.
    :ivar msid: message stream id.
    :ivar timestamp: milliseconds, unsigned 32-bit, wrapping: header deltas are already added up.
    :ivar payload: the message's bytes.
    :ivar csid: the chunk stream it came on; says nothing about what it is.
    """

    type_id: int
    msid: int
    timestamp: int
    payload: bytes
    csid: int


#: Stands among the messages where a great many chunks were read and completed none: reading can stop there.
NO_MESSAGE = Message(-1, 0, 0, b"", 0)
#: So many chunks: a third of a millisecond or so.
MOST_CHUNKS = 128


class ChunkStream:
    """
    What one chunk stream's headers are understood by, and its message in the making.

    :ivar timestamp: of the latest message, in milliseconds modulo 2**32.
    :ivar step: the latest timestamp or delta on the wire; a fmt 3 header that starts a message adds it again.
    :ivar extended: whether that came as an extended timestamp, which fmt 3 headers then repeat.
    :ivar length: of the latest message; likewise ``type_id`` and ``msid``.
    :ivar left: bytes its message still lacks; 0 between messages.
    :ivar partial: bytes its message already has.
    """

    __slots__ = ("csid", "extended", "left", "length", "msid", "partial", "step", "timestamp", "type_id")

    def __init__(self, csid: int) -> None:
        self.csid = csid
        self.timestamp = 0
        self.step = 0
        self.extended = False
        self.length = 0
        self.type_id = 0
        self.msid = 0
        self.left = 0
        self.partial = bytearray()


def read_basic_header(data: bytes, at: int) -> tuple[int, int, int] | None:
    """
    Look at the chunk basic header at ``data[at:]`` (5.3.1.1).

    :returns: ``(fmt, csid, end)``: fmt 0..3, csid 2..65599, and the index behind the header; ``None`` to ask for more
        bytes. Any bytes make some header, so nothing is raised.
    """
    available = len(data) - at
    if available < 1:
        return None
    fmt, csid = data[at] >> 6, data[at] & 0x3F
    if csid > 1:
        return fmt, csid, at + 1
    if available < csid + 2:
        return None
    if csid == 0:
        return fmt, 64 + data[at + 1], at + 2
    return fmt, 64 + data[at + 1] + 256 * data[at + 2], at + 3  # the one little-endian field besides msid


class PlainChunkReader:
    """
    Turns bytes into messages; Set Chunk Size and Abort act here, in their order, and are reported like the rest.

    """

    def __init__(self, limits: ChunkLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._chunk_size = DEFAULT_CHUNK_SIZE
        self._bounds_changed()
        self._arrived: list[bytes] = []
        self._data = b""
        self._at = 0
        self._streams: dict[int, ChunkStream] = {}
        #: The chunk stream whose chunk is being read, and how much of that chunk's payload is to come.
        self._open: ChunkStream | None = None
        self._open_left = 0
        self._held = 0
        self._failure: PeerProtocolError | None = None

    @property
    def chunk_size(self) -> int:
        """The peer's: the most payload its next chunk can carry, in bytes."""
        return self._chunk_size

    @chunk_size.setter
    def chunk_size(self, size: int) -> None:
        self._chunk_size = size
        self._bounds_changed()

    @property
    def limits(self) -> ChunkLimits:
        """What the peer may make us hold; may be replaced at any time, and counts from the next header on."""
        return self._limits

    @limits.setter
    def limits(self, limits: ChunkLimits) -> None:
        self._limits = limits
        self._bounds_changed()

    def _bounds_changed(self) -> None:
        """Learn that the chunk size or the limits are others now; for a reader that keeps what follows from them."""

    @property
    def unread_bytes(self) -> int:
        """How many bytes will be looked at when messages are asked for next; once they ran out, 18 at most."""
        return len(self._data) - self._at + sum(map(len, self._arrived))

    @property
    def held_bytes(self) -> int:
        """How many bytes are kept: those of incomplete messages and the unread."""
        return self._held + self.unread_bytes

    @property
    def is_within_message(self) -> bool:
        """Whether more of a message, or of a header, is to come, or unread."""
        return self._open is not None or self._held > 0 or self._at < len(self._data)

    def receive_data(self, data: bytes) -> None:
        """Store bytes from the peer."""
        self._arrived.append(data)

    def messages(self) -> Iterator[Message]:
        """
        Read on, and yield each message as it becomes complete; ``NO_MESSAGE`` where none does for long.

        :raises PeerProtocolError: where a rule or a limit is broken, after everything before it was yielded; and
            again whenever asked, because nothing behind such a place can be understood.
        """
        if self._failure is not None:
            raise self._failure
        self.gather()
        try:
            while (message := self.next_message()) is not None:
                yield message
        except PeerProtocolError as error:
            self._failure = error
            raise

    def gather(self) -> None:
        """Put what arrived behind what is unread; a copy is made only of what does not stand alone."""
        arrived = self._arrived
        if arrived:
            if self._at < len(self._data):
                arrived.insert(0, self._data[self._at :])
            self._data = arrived[0] if len(arrived) == 1 else b"".join(arrived)
            self._at = 0
            arrived.clear()

    def next_message(self) -> Message | None:
        """
        Read up to the end of the next message, in what was gathered: ``messages`` by hand, a step for each less.

        :returns: ``None`` asks for more bytes, ``NO_MESSAGE`` to be asked again.
        :raises PeerProtocolError: a rule or a limit is broken; not to be asked again.
        """
        for _ in range(MOST_CHUNKS):
            stream = self._open
            if stream is None:
                stream = self._open = self._read_header()
                if stream is None:
                    return None
            self._read_payload(stream)
            if self._open_left:
                return None
            self._open = None
            if not stream.left:
                return self._complete(stream)
        return NO_MESSAGE

    # ── headers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_header(self) -> ChunkStream | None:
        """Take one whole chunk header and open its chunk; ``None`` leaves everything as it is and asks for more."""
        basic = read_basic_header(self._data, self._at)
        if basic is None:
            return None
        fmt, csid, at = basic
        stream = self._stream_for(csid)
        take = self._end_of_continuation if stream.left else self._start_message
        end = take(stream, fmt, at)
        if end is None:
            return None
        self._check_chunk_size(stream)
        self._streams[csid] = stream
        self._at = end
        self._open_left = min(self._chunk_size, stream.left)
        return stream

    def _stream_for(self, csid: int) -> ChunkStream:
        """
        The chunk stream of a header; a new one is not yet in the books.

        A fresh chunk stream should begin with fmt 0. librtmp's control replies begin with fmt 1, meaning msid 0; what
        the other formats leave out is read as zeros, too.
        """
        stream = self._streams.get(csid)
        if stream is not None:
            return stream
        if len(self._streams) >= self._limits.max_chunk_streams:
            raise PeerProtocolError(
                f"csid {csid}: one chunk stream more than the limit, {self._limits.max_chunk_streams}"
            )
        return ChunkStream(csid)

    def _start_message(self, stream: ChunkStream, fmt: int, at: int) -> int | None:
        """Take the header, behind its basic header, of a message's first chunk; returns where it ends."""
        data, end = self._data, at + _HEADER_SIZE[fmt]
        if len(data) < end:
            return None
        step = int.from_bytes(data[at : at + 3], "big") if fmt < 3 else stream.step
        extended = step == EXTENDED if fmt < 3 else stream.extended
        if extended:
            end += 4
            if len(data) < end:
                return None
            step = int.from_bytes(data[end - 4 : end], "big")
        length, type_id = stream.length, stream.type_id
        if fmt < 2:
            length, type_id = int.from_bytes(data[at + 3 : at + 6], "big"), data[at + 6]
        self._check_length(stream.csid, type_id, length)
        if fmt == 0:
            stream.msid = int.from_bytes(data[at + 7 : at + 11], "little")
        # After fmt 0, fmt 3 adds the absolute timestamp (5.3.1.2.4): FMLE, FFmpeg and OBS write it so.
        stream.timestamp = step if fmt == 0 else (stream.timestamp + step) & CLOCK
        stream.step, stream.extended = step, extended
        stream.length, stream.type_id, stream.left = length, type_id, length
        return end

    def _end_of_continuation(self, stream: ChunkStream, fmt: int, at: int) -> int | None:
        """Where the header of a chunk that continues a message ends, behind its basic header."""
        if fmt == 3:
            return self._end_of_repeated_timestamp(stream, at) if stream.extended else at
        # Not by the book, but FFmpeg reads it: a header that changes nothing; its delta then means nothing either.
        data, end = self._data, at + _HEADER_SIZE[fmt]
        if fmt == 0:
            raise PeerProtocolError(f"csid {stream.csid}: fmt 0 with {stream.left} bytes of a message still to come")
        if len(data) < end:
            return None
        if fmt == 1 and (int.from_bytes(data[at + 3 : at + 6], "big"), data[at + 6]) != (stream.length, stream.type_id):
            raise PeerProtocolError(
                f"csid {stream.csid}: another message with {stream.left} bytes of one still to come"
            )
        if data[at : at + 3] == b"\xff\xff\xff":
            end += 4
        return end if len(data) >= end else None

    def _end_of_repeated_timestamp(self, stream: ChunkStream, at: int) -> int | None:
        """
        Whether a continuation repeats the extended timestamp: the specification says yes (5.3.1.3), its predecessor
        said no, and librtmp (OBS before 30.1) leaves it out. Four bytes that equal it are it, any others are payload.
        """
        seen = self._data[at : at + 4]
        repeated = (stream.step.to_bytes(4, "big"), stream.timestamp.to_bytes(4, "big"))
        if seen in repeated:
            return at + 4
        if len(seen) < 4 and any(value.startswith(seen) for value in repeated):
            return None
        return at

    # ── payload ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_payload(self, stream: ChunkStream) -> None:
        """Take what is there of the open chunk's payload."""
        at = self._at
        end = min(at + self._open_left, len(self._data))
        self._keep(stream, self._data[at:end])
        self._at = end
        self._open_left -= end - at

    def _keep(self, stream: ChunkStream, payload: bytes | bytearray) -> None:
        """Add to a chunk stream's incomplete message."""
        size, limit = len(payload), self._limits.max_partial_bytes
        self._held += size
        if self._held > limit:
            raise PeerProtocolError(f"csid {stream.csid}: more than {limit} bytes of incomplete messages")
        stream.partial += payload
        stream.left -= size

    def _complete(self, stream: ChunkStream) -> Message:
        """The message that is now whole; if it is about the chunk layer itself, it acts before it is reported."""
        payload = bytes(stream.partial)
        self._held -= len(payload)
        stream.partial.clear()
        message = Message(stream.type_id, stream.msid, stream.timestamp, payload, stream.csid)
        if message.type_id == SET_CHUNK_SIZE:
            self._set_chunk_size(payload)
        elif message.type_id == ABORT:
            self._abort(payload)
        return message

    def _set_chunk_size(self, payload: bytes) -> None:
        """Use another chunk size from the next chunk on, whatever message that continues (5.4.1)."""
        size = _control_value("Set Chunk Size", payload)
        if not 0 < size < 2**31:
            raise PeerProtocolError(f"Set Chunk Size to {size}, not 1..{2**31 - 1}")
        self.chunk_size = min(size, MAX_CHUNK_SIZE)

    def _abort(self, payload: bytes) -> None:
        """Forget a chunk stream's incomplete message; its next chunk starts another (5.4.2)."""
        stream = self._streams.get(_control_value("Abort", payload))
        if stream is not None:
            self._held -= len(stream.partial)
            stream.partial.clear()
            stream.left = 0

    # ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _check_length(self, csid: int, type_id: int, length: int) -> None:
        """:raises PeerProtocolError: a message of this type may not be so long."""
        limit = self._limits.max_bytes(type_id)
        if length > limit:
            raise PeerProtocolError(f"csid {csid}: message of {length} bytes (type {type_id}), limit {limit}")

    def _check_chunk_size(self, stream: ChunkStream) -> None:
        """:raises PeerProtocolError: a message so long may not come in chunks so small."""
        if self._chunk_size < self._limits.min_chunk_size and stream.length > self._limits.max_small_bytes:
            raise PeerProtocolError(
                f"csid {stream.csid}: message of {stream.length} bytes in chunks of {self._chunk_size}, "
                f"at least {self._limits.min_chunk_size}"
            )


def _control_value(name: str, payload: bytes) -> int:
    """The number that a protocol control message begins with."""
    if len(payload) < 4:
        raise PeerProtocolError(f"{name} of {len(payload)} bytes, 4 needed")
    return int.from_bytes(payload[:4], "big")
