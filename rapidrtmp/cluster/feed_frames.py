"""
The frames of a feed: what one node sends another that follows the shelf of a stream, and what a stream leaves behind
when it moves.

A frame is ``kind u8, fence u64, name u16, meta u32, body u32``, the last three lengths in bytes, then the name in
UTF-8, the meta data as a JSON object, and the body.
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rapidrtmp.errors import PeerProtocolError

__all__ = ["FeedFrame", "FeedReader", "Kind", "write_frame"]

_HEAD = struct.Struct(">BQHII")
_KINDS = frozenset(range(1, 11))
MAX_META_BYTES, MAX_BODY_BYTES = 1 << 20, 256 << 20


class Kind(enum.IntEnum):
    """What a frame says."""

    BEGIN = 1  # a snapshot follows; meta: `folder`, where pieces lie, or "" if they are sent
    PIECE = 2  # bytes that objects consist of; meta: `number`
    PUT = 3  # an object; meta: `type`, `cache`, `size`, `pieces`
    LIST = 4  # a version of a playlist; meta: its facts, and `delta`, the length of what is behind the text in the body
    PROMISE = 5
    WITHDRAW = 6
    STATE = 7  # meta: `state`
    READY = 8  # the snapshot is whole
    PING = 9
    LEFT = 10  # an object of a sink that has left: its name is `SINK/NAME`


@dataclass(frozen=True, slots=True)
class FeedFrame:
    """
    One frame.

    :ivar fence: of the owner that says it.
    :ivar name: of the object that it is about, if it is about one.
    """

    kind: Kind
    fence: int
    name: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    body: bytes = b""


def write_frame(frame: FeedFrame) -> bytes:
    """A frame as bytes."""
    name = frame.name.encode()
    meta = json.dumps(frame.meta).encode() if frame.meta else b""
    head = _HEAD.pack(frame.kind, frame.fence, len(name), len(meta), len(frame.body))
    return b"".join((head, name, meta, frame.body))


class FeedReader:
    """Reads frames from bytes that arrive in any pieces."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def receive_data(self, data: bytes) -> None:
        """Take what has arrived."""
        self._pending += data

    def frames(self) -> Iterator[FeedFrame]:
        """
        The frames that are whole.

        :raises PeerProtocolError: what has arrived is none; all before it have been yielded.
        """
        buffer, at = self._pending, 0
        try:
            while len(buffer) - at >= _HEAD.size:
                kind, fence, name_size, meta_size, body_size = _HEAD.unpack_from(buffer, at)
                if kind not in _KINDS or meta_size > MAX_META_BYTES or body_size > MAX_BODY_BYTES:
                    raise PeerProtocolError(
                        f"feed: kind {kind} with {meta_size} bytes of meta data and {body_size} more"
                    )
                name_at = at + _HEAD.size
                meta_at = name_at + name_size
                body_at = meta_at + meta_size
                end = body_at + body_size
                if len(buffer) < end:
                    return
                at = end
                yield FeedFrame(
                    Kind(kind),
                    fence,
                    _text(buffer[name_at:meta_at]),
                    _meta(buffer[meta_at:body_at]),
                    bytes(memoryview(buffer)[body_at:end]),
                )
        finally:
            del buffer[:at]


def _text(data: bytearray) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise PeerProtocolError("feed: a name is not UTF-8") from error


def _meta(data: bytearray) -> Mapping[str, Any]:
    if not data:
        return {}
    try:
        meta = json.loads(data)
    except ValueError as error:
        raise PeerProtocolError("feed: the meta data is not JSON") from error
    if not isinstance(meta, dict):
        raise PeerProtocolError("feed: the meta data is no object")
    return meta
