"""
AC-3: sync frames (ETSI TS 102 366, 4), which describe themselves, to what an ``ac-3`` track stores.

A sequence start says nothing, so the configuration is made of the first frame. It is the payload of ``dac3`` (F.4),
which holds a bit rate as well; that may change from frame to frame without being news.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rapidrtmp.errors import MediaError
from rapidrtmp.media import AudioConfig

__all__ = ["CHANNELS", "FRAME_SAMPLES", "SAMPLE_RATES", "Ac3Reader", "ac3_of_frame", "frame_size", "read_dac3"]

SYNC_WORD = b"\x0b\x77"
SAMPLE_RATES = (48_000, 44_100, 32_000)
#: Full channels by audio coding mode (table 4.3); the one for low frequencies comes on top.
CHANNELS = (2, 1, 2, 3, 3, 4, 4, 5)
FRAME_SAMPLES = 1536
_BITRATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_LAST_VERSION = 8  # bsid: higher ones are read otherwise
_HEADER_SIZE, _RECORD_SIZE = 7, 3
#: What of a record matters to a decoder: rate and version, coding mode and low frequencies.
_MATTERS = (0xFE, 0x3C, 0x00)


class _Frame(NamedTuple):
    """A sync frame's header: the record it makes, and the size of the frame in bytes."""

    record: bytes
    size: int


def _read_frame(body: bytes, offset: int = 0) -> _Frame:
    """
    Read the sync frame at ``offset`` (4.3.1 and 4.3.2).

    :raises MediaError: there is none, or it is not all there.
    """
    head = body[offset : offset + _HEADER_SIZE]
    if len(head) < _HEADER_SIZE or not head.startswith(SYNC_WORD):
        raise MediaError(f"no AC-3 sync frame at {offset}, but {head.hex(' ')}")
    rate, size_code, version, service = head[4] >> 6, head[4] & 0x3F, head[5] >> 3, head[5] & 7
    if rate >= len(SAMPLE_RATES) or size_code >= 2 * len(_BITRATES) or version > _LAST_VERSION:
        raise MediaError(f"AC-3 sync frame with rate {rate}, size code {size_code} and version {version}")
    mode = head[6] >> 5
    before = sum(2 for present in (mode & 1 and mode != 1, mode & 4, mode == 2) if present)  # levels of mixing
    low_frequency = head[6] >> (4 - before) & 1
    bits = rate << 22 | version << 17 | service << 14 | mode << 11 | low_frequency << 10 | size_code >> 1 << 5
    size = frame_size(rate, size_code)
    if size > len(body) - offset:
        raise MediaError(f"AC-3 sync frame of {size} bytes, {len(body) - offset} are there")
    return _Frame(bits.to_bytes(_RECORD_SIZE, "big"), size)


def frame_size(rate: int, size_code: int) -> int:
    """Bytes of a frame, in whole words (table 4.13): at 44.1 kHz every other frame may have a word more."""
    words = _BITRATES[size_code >> 1] * 1000 * FRAME_SAMPLES // (16 * SAMPLE_RATES[rate])
    return 2 * (words + (size_code & 1) if SAMPLE_RATES[rate] == 44_100 else words)


def read_dac3(record: bytes) -> AudioConfig:
    """
    Read the payload of a ``dac3`` box (F.4). Raises ``MediaError`` if it is cut short, or of no usable rate.

    ``record`` is as much of it as means something.
    """
    if len(record) < _RECORD_SIZE:
        raise MediaError(f"dac3 of {len(record)} bytes, {_RECORD_SIZE} wanted")
    record = record[:_RECORD_SIZE]
    bits = int.from_bytes(record, "big")
    rate, version = bits >> 22, bits >> 17 & 0x1F
    if rate >= len(SAMPLE_RATES) or version > _LAST_VERSION:
        raise MediaError(f"dac3 with rate {rate} and version {version}")
    channels = CHANNELS[bits >> 11 & 7] + (bits >> 10 & 1)
    return AudioConfig(record, "ac-3", SAMPLE_RATES[rate], channels, FRAME_SAMPLES)


def ac3_of_frame(body: bytes) -> AudioConfig:
    """The configuration of a track by its first frame. Raises ``MediaError`` if that cannot be read."""
    return read_dac3(_read_frame(body).record)


class Ac3Reader:
    """
    Reads the sync frames of one AC-3 track, which are stored as they come.

    :ivar config: the configuration in force; another one after a frame of another rate or other channels.
    :ivar keyframe: true: decoding may start anywhere.
    :ivar samples: how long a frame lasts.
    """

    __slots__ = ("config", "keyframe", "samples")

    def __init__(self, config: AudioConfig) -> None:
        self.config = config
        self.keyframe = True
        self.samples = FRAME_SAMPLES

    def read(self, body: bytes) -> bytes | None:
        """
        Read the body of a frames packet.

        :returns: the body if it is one sync frame; ``None`` if there are several, or none.
        :raises MediaError: it is cut short, or no AC-3.
        """
        return body if body and self._take_header(body, 0) == len(body) else None

    def split(self, body: bytes) -> Iterator[bytes]:
        """See :class:`~rapidrtmp.codec.several.SplittingReader`."""
        offset = 0
        while offset < len(body):
            size = self._take_header(body, offset)
            yield body[offset : offset + size]
            offset += size

    def _take_header(self, body: bytes, offset: int) -> int:
        """Learn of the next frame; how many bytes it has."""
        frame = _read_frame(body, offset)
        if _essence(frame.record) != _essence(self.config.record):
            self.config = read_dac3(frame.record)
        return frame.size


def _essence(record: bytes) -> bytes:
    return bytes(byte & mask for byte, mask in zip(record, _MATTERS, strict=True))
