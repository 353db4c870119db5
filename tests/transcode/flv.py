"""FLV written by hand: what a transcoder's child writes."""

from __future__ import annotations

from rapidrtmp.media import Frame, Track

__all__ = ["HEADER", "config_tag", "picture_tag", "script_tag", "video_tag"]

HEADER = b"FLV\x01\x01\x00\x00\x00\x09\x00\x00\x00\x00"


def _tag(kind: int, time_ms: int, payload: bytes) -> bytes:
    head = bytes([kind]) + len(payload).to_bytes(3, "big") + (time_ms & 0xFFFFFF).to_bytes(3, "big")
    head += bytes([time_ms >> 24 & 0x7F]) + bytes(3)
    return head + payload + (len(head) + len(payload)).to_bytes(4, "big")


def video_tag(time_ms: int, payload: bytes) -> bytes:
    """A video tag."""
    return _tag(9, time_ms, payload)


def script_tag(payload: bytes) -> bytes:
    """A script tag, as metadata comes in."""
    return _tag(18, 0, payload)


def config_tag(track: Track) -> bytes:
    """The sequence start of H.264."""
    return video_tag(0, b"\x17\x00\x00\x00\x00" + track.config.record)


def picture_tag(frame: Frame) -> bytes:
    """A frame as an encoder without B-frames would bring it back: at the milliseconds that it is shown at."""
    head = b"\x17" if frame.keyframe else b"\x27"
    return video_tag((frame.pts + 45) // 90 & 0x7FFFFFFF, head + b"\x01\x00\x00\x00" + frame.data)
