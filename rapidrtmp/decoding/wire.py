"""
What the server and the process that decodes say to each other, over a pipe each way: kind, length, body.

The server sends tracks and frames, the process notes and uploads. Times are in milliseconds since 1970: whatever a
track counts in, its frames are ordered and named by when they were live.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import NamedTuple

from rapidrtmp.decoding.base import Answer, Cue, Mark, Note, Upload
from rapidrtmp.errors import RapidRTMPError

__all__ = [
    "FrameHeader",
    "Kind",
    "MessageReader",
    "TrackDescription",
    "WireError",
    "pack",
    "pack_frame",
    "pack_result",
    "read_result",
    "unpack_frame",
]

_HEADER = struct.Struct(">BI")
_FRAME = struct.Struct(">IqqB")
_NAME_SIZE = struct.Struct(">H")
_KEYFRAME, _ALONE = 1, 2
#: No message is longer; likewise no note.
MOST_BYTES = (16 << 20) + 4096
MOST_NOTE_BYTES = 64 << 10
MOST_MARK_BYTES = 16 << 10


class WireError(RapidRTMPError):
    """What came is no message, or too large a one."""


class Kind(IntEnum):
    """What a message is."""

    TRACK = 1
    FRAME = 2
    NOTE = 3
    UPLOAD = 4
    MARK = 5
    CUE = 6


_MOST = {Kind.NOTE: MOST_NOTE_BYTES, Kind.MARK: MOST_MARK_BYTES, Kind.CUE: MOST_MARK_BYTES, Kind.UPLOAD: MOST_BYTES}


@dataclass(frozen=True, slots=True)
class TrackDescription:
    """
    What is needed to decode a track.

    :ivar codec: its FourCC.
    :ivar extradata: the configuration, as decoders take it, in hexadecimal.
    """

    id: int
    kind: str
    codec: str
    extradata: str

    def pack(self) -> bytes:
        """As a message."""
        return pack(Kind.TRACK, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, body: bytes) -> TrackDescription:
        """From the body of a message."""
        return cls(**json.loads(body))


class FrameHeader(NamedTuple):
    """
    What a frame is, its data apart.

    :ivar pts_ms: when it is shown, in milliseconds since 1970; likewise when it is decoded, ``dts_ms``.
    :ivar alone: whether the next one that comes of its track needs none before it.
    """

    track_id: int
    pts_ms: int
    dts_ms: int
    keyframe: bool
    alone: bool = False


def pack(kind: Kind, body: bytes) -> bytes:
    """One message."""
    return _HEADER.pack(kind, len(body)) + body


def pack_frame(header: FrameHeader, data: bytes) -> bytes:
    """One frame, as a message."""
    flags = _KEYFRAME * header.keyframe | _ALONE * header.alone
    return pack(Kind.FRAME, _FRAME.pack(header.track_id, header.pts_ms, header.dts_ms, flags) + data)


def unpack_frame(body: bytes) -> tuple[FrameHeader, bytes]:
    """The frame of such a message's body."""
    track_id, pts_ms, dts_ms, flags = _FRAME.unpack_from(body)
    return FrameHeader(track_id, pts_ms, dts_ms, bool(flags & _KEYFRAME), bool(flags & _ALONE)), body[_FRAME.size :]


def pack_result(result: Answer) -> bytes:
    """
    One answer of a sink, as a message.

    :raises WireError: it is too large, or not what JSON can say.
    """
    try:
        if isinstance(result, Note):
            kind, body = Kind.NOTE, json.dumps(dict(result.data), allow_nan=False).encode()
        elif isinstance(result, Mark):
            texts = {str(name): str(text) for name, text in result.texts.items()}
            kind, body = Kind.MARK, json.dumps([texts, int(result.utc_ms)]).encode()
        elif isinstance(result, Cue):
            said = [str(result.text), int(result.utc_ms), int(result.duration_ms), str(result.language)]
            kind, body = Kind.CUE, json.dumps(said).encode()
        else:
            names = json.dumps([result.name, result.content_type]).encode()
            kind, body = Kind.UPLOAD, _NAME_SIZE.pack(len(names)) + names + result.data
    except (TypeError, ValueError, struct.error) as error:
        raise WireError(f"a sink answered what cannot be passed on: {error}") from error
    if len(body) > _MOST[kind]:
        raise WireError(f"a sink answered {len(body)} bytes, which is too much")
    return pack(kind, body)


def read_result(kind: int, body: bytes) -> Answer:
    """
    The answer in a message's body.

    :raises WireError: it is none.
    """
    try:
        if kind == Kind.NOTE:
            data = json.loads(body)
            if not isinstance(data, Mapping):
                raise TypeError("no object")
            return Note(data)
        if kind == Kind.MARK:
            texts, utc_ms = json.loads(body)
            return Mark({_text(name): _text(text) for name, text in texts.items()}, int(utc_ms))
        if kind == Kind.CUE:
            text, utc_ms, duration_ms, language = json.loads(body)
            return Cue(_text(text), int(utc_ms), int(duration_ms), _text(language))
        if kind == Kind.UPLOAD:
            end = _NAME_SIZE.size + _NAME_SIZE.unpack_from(body)[0]
            name, content_type = json.loads(body[_NAME_SIZE.size : end])
            return Upload(_text(name), body[end:], _text(content_type))
    except (AttributeError, TypeError, ValueError, RecursionError, struct.error) as error:
        raise WireError(f"damaged message of kind {kind}: {error}") from error
    raise WireError(f"unknown message of kind {kind}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


class MessageReader:
    """Takes bytes as they come, and gives messages."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """
        The messages that are whole now: kind and body.

        :raises WireError: one is longer than any may be.
        """
        self._pending += data
        while len(self._pending) >= _HEADER.size:
            kind, size = _HEADER.unpack_from(self._pending)
            if size > MOST_BYTES:
                raise WireError(f"a message of {size} bytes")
            end = _HEADER.size + size
            if len(self._pending) < end:
                return
            body = bytes(self._pending[_HEADER.size : end])
            del self._pending[:end]
            yield kind, body
