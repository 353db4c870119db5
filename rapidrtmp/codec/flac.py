"""
FLAC: from STREAMINFO and frames (RFC 9639) to what an ``fLaC`` track stores.

Of STREAMINFO decoders need block sizes, rate, channels and depth. Encoders fill in the rest, the sizes of frames and a
digest of all samples, when a stream ends, and may then send it again: those fields are left blank here, for "unknown".
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from rapidrtmp.errors import MediaError
from rapidrtmp.media import AudioConfig

__all__ = ["FlacReader", "read_dfla", "read_stream_info", "silent_flac", "write_dfla"]

_MARK = b"fLaC"
_STREAM_INFO_SIZE = 34
#: What is before it in a metadata block (8.1): the type, 0, whether it is the last, and its size.
_BLOCK_HEADER_SIZE, _LAST_STREAM_INFO = 4, b"\x80\0\0\x22"
_LEAST_BLOCK = 16  # (8.2)
_VERSION_AND_FLAGS = bytes(4)

#: Samples in a block by its code (9.1.1); 0 is reserved, and 6 and 7 say that 8 or 16 bits tell.
_BLOCK_SAMPLES = (0, 192, 576, 1152, 2304, 4608, 0, 0, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_IN_8_BITS, _IN_16_BITS = 6, 7
_LEAST_FRAME = 6
_COUNTS_SAMPLES = 0x01  # in the second byte: blocks vary in size, so that headers count samples and not frames
#: Marks within a frame that may be the next one's and are not: in 64 KiB there is one by chance.
_MOST_MARKS = 32
#: How many bytes of a header the rate takes, by its code (9.1.2).
_RATE_SIZES = {12: 1, 13: 2, 14: 2}


def read_stream_info(data: bytes) -> AudioConfig:
    """
    Read STREAMINFO (RFC 9639, 8.2): bare, behind the header of its metadata block, or behind ``fLaC`` and that.

    ``record`` is the bare 34 bytes, with those fields blank that a stream's end alone can tell.

    :raises MediaError: it is cut short or another block, or tells no usable rate or block size.
    """
    info = data.removeprefix(_MARK)
    if len(info) > _STREAM_INFO_SIZE and info[0] & 0x7F == 0 and info[1:4] == _LAST_STREAM_INFO[1:]:
        info = info[_BLOCK_HEADER_SIZE:]
    info = info[:_STREAM_INFO_SIZE]
    if len(info) < _STREAM_INFO_SIZE:
        raise MediaError(f"FLAC STREAMINFO of {len(info)} bytes, {_STREAM_INFO_SIZE} wanted")
    longest_block = int.from_bytes(info[2:4], "big")
    sample_rate, packed = int.from_bytes(info[10:13], "big") >> 4, int.from_bytes(info[12:14], "big")
    if longest_block < _LEAST_BLOCK or not sample_rate:
        raise MediaError(f"FLAC of {sample_rate} Hz in blocks of {longest_block} samples")
    record = info[:4] + bytes(6) + info[10:13] + bytes([info[13] & 0xF0]) + bytes(20)
    return AudioConfig(record, "fLaC", sample_rate, (packed >> 9 & 0x07) + 1, longest_block)


class FlacReader:
    """
    Reads the frames of one FLAC track, which are stored as they come.

    :ivar config: the configuration in force: always that of STREAMINFO.
    :ivar keyframe: true: decoding may start anywhere.
    :ivar samples: how long the latest frame lasts.
    """

    __slots__ = ("config", "keyframe", "samples")

    def __init__(self, config: AudioConfig) -> None:
        self.config = config
        self.keyframe = True
        self.samples = config.samples_per_frame

    def read(self, body: bytes) -> bytes | None:
        """
        Read the body of a frames packet: one frame.

        :returns: the body; ``None`` if it is empty, as at the end of a stream, or has several frames.
        :raises MediaError: it begins with no frame header, or with one that does not tell its block size.
        """
        if not body:
            return None
        if len(body) < _LEAST_FRAME or body[0] != 0xFF or body[1] & 0xFE != 0xF8:
            raise MediaError(f"no FLAC frame header, but {body[:6].hex(' ')}")
        self.samples = _BLOCK_SAMPLES[body[2] >> 4] or _samples_of(body)
        if body.find(body[:2], _LEAST_FRAME) >= 0 and _next_frame(body, 0) < len(body):  # the first is rare within one
            return None
        return body

    def split(self, body: bytes) -> Iterator[bytes]:
        """See :class:`~rapidrtmp.codec.several.SplittingReader`."""
        at = 0
        while at < len(body):
            end = _next_frame(body, at)
            self.samples = _samples_of(body[at : at + 16])
            yield body[at:end]
            at = end


def _next_frame(body: bytes, at: int) -> int:
    """
    Where the frame behind one begins, or the body ends. A frame does not say how long it is: it ends where a header of
    the same kind follows, undamaged (9.1.8), that has the next number.
    """
    begins, found = body[at : at + 16], at + _LEAST_FRAME
    for _ in range(_MOST_MARKS):
        found = body.find(begins[:2], found)
        if found < 0:
            break
        if _follows(body[found : found + 16], begins):
            return found
        found += 1
    return len(body)


def _follows(head: bytes, before: bytes) -> bool:
    """Whether a frame header begins here that is next to the one before."""
    if len(head) < _LEAST_FRAME or (head[2] ^ before[2]) & 0x0F or (head[3] ^ before[3]) & 0x0F:
        return False
    code, rate = head[2] >> 4, head[2] & 0x0F
    size = 4 + _number_size(head) + {_IN_8_BITS: 1, _IN_16_BITS: 2}.get(code, 0) + _RATE_SIZES.get(rate, 0)
    step = _samples_of(before) if before[1] & _COUNTS_SAMPLES else 1
    return (
        (code in (_IN_8_BITS, _IN_16_BITS) or _BLOCK_SAMPLES[code] > 0)
        and len(head) > size
        and _number(head) == _number(before) + step
        and _crc(head[:size], 0x07, 8) == head[size]
    )


def _number(frame: bytes) -> int:
    """The number of a frame, or of its first sample (9.1.5), which is written as UTF-8 writes characters."""
    size = _number_size(frame)
    value = frame[4] & (0x7F if size == 1 else 0x7F >> size)
    for byte in frame[5 : 4 + size]:
        value = value << 6 | byte & 0x3F
    return value


def _number_size(frame: bytes) -> int:
    """How many bytes that takes: 1 to 7."""
    leading_ones = 8 - (~frame[4] & 0xFF).bit_length()
    return max(1, leading_ones)


def _samples_of(frame: bytes) -> int:
    """The block size of a frame (9.1.1)."""
    code = frame[2] >> 4
    return _BLOCK_SAMPLES[code] or _written_samples(frame, code)


def _written_samples(frame: bytes, code: int) -> int:
    """The block size that stands behind the number of the frame, which takes 1 to 7 bytes (9.1.5 and 9.1.6)."""
    at = 4 + _number_size(frame)
    told = frame[at : at + {_IN_8_BITS: 1, _IN_16_BITS: 2}.get(code, 0)]
    if not told:
        raise MediaError(f"FLAC frame with block size code {code}, and {len(frame)} bytes in all")
    return int.from_bytes(told, "big") + 1


def write_dfla(record: bytes) -> bytes:
    """Write the payload of a ``dfLa`` box (Encapsulation of FLAC in ISOBMFF, 3.3.2) from a bare STREAMINFO."""
    return _VERSION_AND_FLAGS + _LAST_STREAM_INFO + record


def read_dfla(payload: bytes) -> bytes:
    """The STREAMINFO in the payload of a ``dfLa`` box. Raises ``MediaError`` if there is none at its beginning."""
    return read_stream_info(payload[len(_VERSION_AND_FLAGS) :]).record


@lru_cache(maxsize=64)
def silent_flac(config: AudioConfig) -> bytes:
    """A frame of zeros as long as the longest: each channel is a constant (RFC 9639, 9.2.2)."""
    depth = (int.from_bytes(config.record[12:14], "big") >> 4 & 0x1F) + 1
    head = bytes([0xFF, 0xF8, _IN_16_BITS << 4, config.channels - 1 << 4, 0])  # rate and depth as in STREAMINFO
    head += (config.samples_per_frame - 1).to_bytes(2, "big")
    head += bytes([_crc(head, 0x07, 8)])
    frame = head + bytes(-(-config.channels * (8 + depth) // 8))
    return frame + _crc(frame, 0x8005, 16).to_bytes(2, "big")


def _crc(data: bytes, polynomial: int, width: int) -> int:
    """The check of a frame's header, and of a whole frame (9.1.8 and 9.3)."""
    value, top = 0, 1 << width
    for byte in data:
        value ^= byte << width - 8
        for _ in range(8):
            value <<= 1
            if value & top:
                value ^= top | polynomial
    return value
