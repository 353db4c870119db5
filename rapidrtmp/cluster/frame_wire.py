"""
Frames as one node sends them to another: for players of RTMP and FLV, whose node has the stream not.

Each message is a kind, a length and a body. Tracks are JSON, so that nodes of two versions understand each other as far
as they can; a frame is a few numbers and its bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import IntEnum
from fractions import Fraction
from typing import Any

from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.media import (
    AudioConfig,
    Colour,
    ContentLight,
    Frame,
    MasteringDisplay,
    MediaKind,
    Rhythm,
    Track,
    VideoConfig,
)

__all__ = ["FrameReader", "Said", "write_frame", "write_said", "write_tracks"]

_HEADER = struct.Struct(">BI")
_FRAME = struct.Struct(">IQiIBII")
_KEYFRAME = 1
_MOST_BYTES = 64 << 20
_CLASSES = {each.__name__: each for each in (AudioConfig, VideoConfig, Colour, ContentLight, MasteringDisplay, Track)}


class Said(IntEnum):
    """What a message is."""

    TRACKS = 1
    FRAME = 2
    DISCONTINUITY = 3
    INTERRUPTED = 4
    FINISHED = 5


def write_said(said: Said, body: bytes = b"") -> bytes:
    """One message."""
    return _HEADER.pack(said, len(body)) + body


def write_tracks(tracks: tuple[Track, ...], via: tuple[str, ...]) -> bytes:
    """
    Say what follows consists of.

    :param via: the ids of the servers that it came through.
    """
    return write_said(Said.TRACKS, json.dumps({"tracks": _plain(tracks), "via": list(via)}).encode())


def write_frame(frame: Frame) -> bytes:
    """One frame; of what has been measured of its track the frame rate is sent."""
    rate = frame.rhythm.frame_rate or Fraction(0)
    header = _FRAME.pack(
        frame.track.id,
        frame.dts,
        frame.composition_offset,
        frame.duration,
        _KEYFRAME if frame.keyframe else 0,
        rate.numerator,
        rate.denominator,
    )
    return _HEADER.pack(Said.FRAME, len(header) + len(frame.data)) + header + frame.data


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Fraction):
        return {"fraction": [value.numerator, value.denominator]}
    if isinstance(value, MediaKind):
        return {"kind": value.value}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if is_dataclass(value):
        return {type(value).__name__: {each.name: _plain(getattr(value, each.name)) for each in fields(value)}}
    return value


def _value(plain: Any) -> Any:
    """What that was."""
    if isinstance(plain, list):
        return tuple(map(_value, plain))
    if not isinstance(plain, dict):
        return plain
    ((name, said),) = plain.items()
    if name == "bytes":
        return bytes.fromhex(said)
    if name == "fraction":
        return Fraction(*said)
    if name == "kind":
        return MediaKind(said)
    made: Any = _CLASSES[name]
    known = {each.name for each in fields(made)}
    return made(**{field: _value(value) for field, value in said.items() if field in known})


class FrameReader:
    """Reads messages, cut anywhere."""

    def __init__(self) -> None:
        self._unread = bytearray()

    def receive_data(self, data: bytes) -> None:
        """Take more bytes."""
        self._unread += data

    def messages(self) -> Iterator[tuple[Said, bytes]]:
        """
        Each message that has come whole.

        :raises PeerProtocolError: that is none.
        """
        buffer = self._unread
        while len(buffer) >= _HEADER.size:
            kind, size = _HEADER.unpack_from(buffer)
            if size > _MOST_BYTES:
                raise PeerProtocolError(f"frames: a message of {size} bytes")
            if len(buffer) < _HEADER.size + size:
                return
            body = bytes(buffer[_HEADER.size : _HEADER.size + size])
            del buffer[: _HEADER.size + size]
            try:
                yield Said(kind), body
            except ValueError as error:
                raise PeerProtocolError(f"frames: a message of kind {kind}") from error

    @staticmethod
    def read_tracks(body: bytes) -> tuple[tuple[Track, ...], tuple[str, ...]]:
        """
        The tracks, and the servers that they came through.

        :raises PeerProtocolError: they make no sense.
        """
        try:
            said = json.loads(body)
            return _value(said["tracks"]), tuple(map(str, said["via"]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PeerProtocolError(f"frames: tracks that make no sense: {error!r}") from error

    @staticmethod
    def read_frame(body: bytes, tracks: Mapping[int, Track], arrived_ms: int) -> Frame:
        """
        A frame of one of these tracks.

        :raises PeerProtocolError: it is of none.
        """
        try:
            track_id, dts, offset, duration, flags, *rate = _FRAME.unpack_from(body)
            track, rhythm = tracks[track_id], Rhythm(Fraction(*rate) or None)
        except (struct.error, KeyError, ZeroDivisionError) as error:
            raise PeerProtocolError(f"frames: one of no track: {error!r}") from error
        is_keyframe = bool(flags & _KEYFRAME)
        return Frame(track, dts, offset, duration, is_keyframe, body[_FRAME.size :], arrived_ms, rhythm)
