"""
MP3: MPEG-1 and MPEG-2 audio, layer III (ISO/IEC 11172-3 and 13818-3), from frames that describe themselves.

It comes in the classic form on track 0 and under the FourCC ``.mp3`` elsewhere, without a configuration. In MP4 it is
an ``mp4a`` track whose descriptor names the object type, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from rapidrtmp.codec.esds import read_object_type, write_object_type
from rapidrtmp.errors import MediaError
from rapidrtmp.media import AudioConfig

__all__ = ["Mp3Reader", "mp3_of_frame", "read_mp3_esds", "read_mp3_record", "silent_mp3", "write_mp3_esds"]

_HEADER_SIZE = 4
#: By the version in the header (2.4.2.3): MPEG-2.5, reserved, MPEG-2, MPEG-1.
_MPEG_25, _MPEG_1 = 0, 3
_RATES = ((11_025, 12_000, 8_000), (), (22_050, 24_000, 16_000), (44_100, 48_000, 32_000))
_LAYER_3 = 1
_MONO = 3
#: Kilobits a second by index, of MPEG-1 and of the others; 0 is "free": each frame is as long as its message.
_BITRATES = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_LOW_BITRATES = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
#: What of a header a decoder is configured by: version and layer, rate, and whether there are two channels.
_ESSENCE = bytes((0xFF, 0xFE, 0x0C, 0xC0))
#: Object types of MPEG-4 Systems: MPEG-1 audio, and MPEG-2 audio with its lower rates (ISO/IEC 14496-1, table 5).
_OBJECT_TYPES = {_MPEG_1: 0x6B, 2: 0x69, _MPEG_25: 0x69}


class _Header(NamedTuple):
    """
    A frame's header.

    :ivar essence: what of it configures a decoder.
    :ivar size: of the whole frame in bytes; 0 if it does not tell.
    """

    essence: bytes
    sample_rate: int
    channels: int
    samples: int
    size: int


def _read_header(frame: bytes, offset: int = 0) -> _Header:
    """:raises MediaError: there is no header of layer III."""
    head = frame[offset : offset + _HEADER_SIZE]
    if len(head) < _HEADER_SIZE or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        raise MediaError(f"no MPEG audio header at {offset}, but {head.hex(' ')}")
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    if layer != _LAYER_3:
        raise MediaError(f"MPEG audio of layer {4 - layer}, III is wanted")
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    if not _RATES[version] or rate == 3 or bitrate == 15:
        raise MediaError(f"MPEG audio header with reserved values: {head.hex(' ')}")
    sample_rate, samples = _RATES[version][rate], 1152 if version == _MPEG_1 else 576
    kilobits = (_BITRATES if version == _MPEG_1 else _LOW_BITRATES)[bitrate]
    size = samples // 8 * kilobits * 1000 // sample_rate + (head[2] >> 1 & 1) if kilobits else 0
    is_mono = head[3] >> 6 == _MONO
    # Two channels may be coded in three ways from frame to frame: that is no other configuration.
    essence = bytes((head[0], head[1] | 1, head[2] & 0x0C, _MONO << 6 if is_mono else 0))
    return _Header(essence, sample_rate, 1 if is_mono else 2, samples, size)


def read_mp3_record(record: bytes) -> AudioConfig:
    """
    The configuration that a record stands for: what of a frame's header all frames share.

    :raises MediaError: it is none.
    """
    header = _read_header(record)
    return AudioConfig(header.essence, "mp4a.40.34", header.sample_rate, header.channels, header.samples)


def mp3_of_frame(frame: bytes) -> AudioConfig:
    """The configuration of a track by one of its frames. Raises ``MediaError`` if that cannot be read."""
    return read_mp3_record(frame[:_HEADER_SIZE])


class Mp3Reader:
    """
    Reads the frames of one MP3 track, which are stored as they come.

    :ivar config: the configuration in force; another one after a frame of another rate or number of channels.
    :ivar keyframe: true: decoding may start anywhere.
    :ivar samples: how long a frame lasts.
    """

    __slots__ = ("config", "keyframe", "samples")

    def __init__(self, config: AudioConfig) -> None:
        self.config = config
        self.keyframe = True
        self.samples = config.samples_per_frame

    def read(self, body: bytes) -> bytes | None:
        """
        Read the body of a frames packet.

        :returns: the body if it is one frame; ``None`` if there are several, or none.
        :raises MediaError: it begins with no header of layer III, or ends before its frame.
        """
        if not body:
            return None
        size = self._take_header(body, 0)
        return body if size == len(body) else None

    def split(self, body: bytes) -> Iterator[bytes]:
        """See :class:`~rapidrtmp.codec.several.SplittingReader`."""
        offset = 0
        while offset < len(body):
            size = self._take_header(body, offset)
            yield body[offset : offset + size]
            offset += size

    def _take_header(self, body: bytes, offset: int) -> int:
        """Learn of the next frame; how many bytes it has."""
        header = _read_header(body, offset)
        left = len(body) - offset
        if header.size > left:
            raise MediaError(f"MP3 frame of {header.size} bytes, {left} are there")
        if header.essence != self.config.record:
            self.config = read_mp3_record(header.essence)
            self.samples = header.samples
        return header.size or left


def write_mp3_esds(record: bytes) -> bytes:
    """Write the payload of the ``esds`` box (ISO/IEC 14496-14, 5.6): the object type by itself."""
    return write_object_type(_OBJECT_TYPES[record[1] >> 3 & 3])


def read_mp3_esds(payload: bytes) -> bytes:
    """
    What an ``esds`` box tells of MP3: nothing, so the record is empty.

    :raises MediaError: it is of another codec.
    """
    object_type = read_object_type(payload)
    if object_type not in _OBJECT_TYPES.values():
        raise MediaError(f"esds of object type {object_type:#04x}, which is not MP3")
    return b""


@lru_cache(maxsize=64)
def silent_mp3(config: AudioConfig) -> bytes:
    """A frame in which nothing is coded: a header, side information of zeros (11172-3, 2.4.1.7), and no data."""
    head = bytearray(config.record)
    head[2] |= 0x20  # 40 or 16 kbit/s: the side information fits in
    size = _read_header(bytes(head)).size
    return bytes(head) + bytes(size - _HEADER_SIZE)
