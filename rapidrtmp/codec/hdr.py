"""
How bright pictures are meant to be: messages of supplemental enhancement information, metadata of AV1, boxes in MP4.

SEI and boxes hold the very same bytes (H.265, D.2.28 and D.2.35; ISO/IEC 14496-12, 12.1.6 and 12.1.7): the display that
pictures were mastered on, and their content light level. AV1 has other units for the first, and another order.
"""

from __future__ import annotations

import struct

from rapidrtmp.media import ContentLight, MasteringDisplay

__all__ = [
    "LIGHT_PAYLOAD",
    "MASTERING_PAYLOAD",
    "read_light",
    "read_mastering",
    "read_obu_mastering",
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


def read_obu_mastering(data: bytes) -> MasteringDisplay | None:
    """The display as AV1's metadata has it (6.7.4), in fractions of 1/65536, 1/256 and 1/16384."""
    if len(data) < _MASTERING.size:
        return None
    *chroma, brightest, darkest = _MASTERING.unpack_from(data)
    rx, ry, gx, gy, bx, by, wx, wy = (_scaled(each, 50_000, 65_536) for each in chroma)
    bounds = _scaled(brightest, 10_000, 256), _scaled(darkest, 10_000, 16_384)
    return MasteringDisplay((gx, gy), (bx, by), (rx, ry), (wx, wy), *bounds)


def _scaled(value: int, to: int, of: int) -> int:
    """A fraction in other steps, rounded, as far as its field can hold it."""
    return min((2 * value * to + of) // (2 * of), 0xFFFFFFFF)


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
