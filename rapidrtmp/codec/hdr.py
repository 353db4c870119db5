"""
How bright pictures are meant to be: messages of supplemental enhancement information, and boxes in MP4.

Both hold the very same bytes (H.265, D.2.28 and D.2.35; ISO/IEC 14496-12, 12.1.6 and 12.1.7): the display that pictures
were mastered on, and their content light level.
"""

from __future__ import annotations

import struct

from rapidrtmp.media import ContentLight, MasteringDisplay

__all__ = [
    "LIGHT_PAYLOAD",
    "MASTERING_PAYLOAD",
    "read_light",
    "read_mastering",
    "write_light",
    "write_mastering",
]

#: payloadType of the messages.
MASTERING_PAYLOAD, LIGHT_PAYLOAD = 137, 144

_MASTERING = struct.Struct(">8H2I")
_LIGHT = struct.Struct(">2H")


def read_mastering(data: bytes) -> MasteringDisplay | None:
    """The display; ``None`` if it is not all there."""
    if len(data) < _MASTERING.size:
        return None
    gx, gy, bx, by, rx, ry, wx, wy, brightest, darkest = _MASTERING.unpack_from(data)
    return MasteringDisplay((gx, gy), (bx, by), (rx, ry), (wx, wy), brightest, darkest)


def write_mastering(display: MasteringDisplay) -> bytes:
    """The same back again: ``mdcv``."""
    chroma = (*display.green, *display.blue, *display.red, *display.white)
    return _MASTERING.pack(*chroma, display.max_luminance, display.min_luminance)


def read_light(data: bytes) -> ContentLight | None:
    """The light level; ``None`` if it is not all there, or unknown, which is said by zeros."""
    if len(data) < _LIGHT.size or not any(data[: _LIGHT.size]):
        return None
    return ContentLight(*_LIGHT.unpack_from(data))


def write_light(light: ContentLight) -> bytes:
    """The same back again: ``clli``."""
    return _LIGHT.pack(light.max_content, light.max_average)
