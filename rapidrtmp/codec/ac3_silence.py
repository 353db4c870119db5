"""
Frames of AC-3 and E-AC-3 without any sound, for where a track pauses: exponents once, and not a bit for any mantissa.

All signal-to-noise offsets are 0, by which the bit allocation is 0 everywhere (ETSI TS 102 366, 6.2.2.1), and dither,
which would fill what is not coded, is off. So a frame is its headers, six blocks that say "as before", and padding.
"""

from __future__ import annotations

from functools import lru_cache

from rapidrtmp.codec.ac3 import CHANNELS, FRAME_SAMPLES, frame_size
from rapidrtmp.codec.bits import BitReader
from rapidrtmp.media import AudioConfig

__all__ = ["silent_ac3", "silent_eac3"]

_BLOCKS = 6
_SYNC = f"{0x0B77:016b}"
_LOUDNESS = "11111" + "0"  # dialnorm: as it is; no compression gain
_NO_CHANGE = f"{62:07b}"  # three exponents that differ by nothing
_EXPONENT, _GAIN_RANGE = "1111", "00"
#: With the least bandwidth there are 73 coefficients: six groups of twelve behind the first, or 24 of three.
_FEW_EXPONENTS = _EXPONENT + 6 * _NO_CHANGE + _GAIN_RANGE
_MANY_EXPONENTS = _EXPONENT + 24 * _NO_CHANGE + _GAIN_RANGE
_LOW_EXPONENTS = _EXPONENT + 2 * _NO_CHANGE
_LEAST_BANDWIDTH = "000000"
_CRC = 0x8005


@lru_cache(maxsize=64)
def silent_ac3(config: AudioConfig) -> bytes:
    """One sync frame (4.3), of the size that the track began with."""
    bits = BitReader(config.record)
    rate, version, service, mode, low_frequency, bit_rate = (bits.u(width) for width in (2, 5, 3, 3, 1, 5))
    size, channels = frame_size(rate, 2 * bit_rate), CHANNELS[mode]
    head = f"{_SYNC}{0:016b}{rate:02b}{2 * bit_rate:06b}{version:05b}{service:03b}{mode:03b}"
    head += "".join("00" for present in (mode & 1 and mode != 1, mode & 4, mode == 2) if present)
    head += f"{low_frequency}" + (2 if mode == 0 else 1) * (_LOUDNESS + "00") + "01" + "00" + "0"
    blocks = "".join(_ac3_block(channels, mode, low_frequency, is_first=not block) for block in range(_BLOCKS))
    padded = (head + blocks).ljust(8 * size - 16, "0")  # the end is free of auxiliary data
    frame = int(padded, 2).to_bytes(size - 2, "big") + bytes(2)
    checked = (size // 4 + size // 16) * 2  # five eighths, which have a check of their own
    first = _check_before(frame[4:checked])
    frame = frame[:2] + first.to_bytes(2, "big") + frame[4:]
    return frame[:-2] + _check(frame[2:-2]).to_bytes(2, "big")


def _ac3_block(channels: int, mode: int, low_frequency: int, *, is_first: bool) -> str:
    """One audio block (4.3.3)."""
    loudness = (2 if mode == 0 else 1) * "0"
    start = channels * "00" + loudness  # long windows, no dither
    if not is_first:
        return start + "0" + ("0" if mode == 2 else "") + channels * "00" + low_frequency * "0" + "0" + "0" + "00"
    uncoupled, unmixed = "10", "10000" if mode == 2 else ""
    exponents = channels * "11" + low_frequency * "1" + channels * _LEAST_BANDWIDTH
    exponents += channels * _FEW_EXPONENTS + low_frequency * _LOW_EXPONENTS
    allocation = "1" + "10010110100"
    offsets = "1" + "000000" + (channels + low_frequency) * ("0000" + "100")
    return start + uncoupled + unmixed + exponents + allocation + offsets + "00"


@lru_cache(maxsize=64)
def silent_eac3(config: AudioConfig) -> bytes:
    """
    One access unit (E.1), of about the size that the track began with.

    :returns: ``b""`` for a track of several substreams.
    """
    bits = BitReader(config.record)
    kilobits, others, _, version = bits.u(13), bits.u(3), bits.u(2), bits.u(5)
    bits.u(1 + 1 + 3)
    mode, low_frequency = bits.u(3), bits.u(1)
    bits.u(3)
    if others or bits.u(4):
        return b""
    size = max(kilobits * 1000 * FRAME_SAMPLES // (16 * config.sample_rate) * 2, 64)
    channels = CHANNELS[mode]
    body = f"{mode:03b}{low_frequency}{version:05b}" + (2 if mode == 0 else 1) * _LOUDNESS + "000"
    body += "00" + "00" + "0" + "0" + "1" + "0" + "0" + "0" + "0" + "0"  # of all tools, dither flags alone
    body += _BLOCKS * "0" if mode > 1 else ""  # no coupling
    body += channels * "00000" + low_frequency * "100000"  # exponents in the first block
    body += channels * "00000"  # for converters, likewise
    body += "0000000000" + "0"
    for block in range(_BLOCKS):
        body += _eac3_block(channels, mode, low_frequency, is_first=not block)
    rate = _rate_bits(config.sample_rate)
    size = max(size, -(-(48 + len(body)) // 16) * 2)
    head = f"{_SYNC}00000{size // 2 - 1:011b}{rate}"
    frame = int((head + body).ljust(8 * size - 16, "0"), 2).to_bytes(size - 2, "big")
    return frame + _check(frame[2:]).to_bytes(2, "big")


def _rate_bits(sample_rate: int) -> str:
    """The rate, and that there are six blocks; half rates always have those."""
    full = (48_000, 44_100, 32_000)
    return f"{full.index(sample_rate):02b}11" if sample_rate in full else f"11{full.index(2 * sample_rate):02b}"


def _eac3_block(channels: int, mode: int, low_frequency: int, *, is_first: bool) -> str:
    """One audio block (E.1.2.4)."""
    start = channels * "0" + (2 if mode == 0 else 1) * "0" + "0"  # no dither, no gain, no spectral extension
    if not is_first:
        return start + ("0" if mode == 2 else "") + "0"
    unmixed = "0000" if mode == 2 else ""
    exponents = channels * _LEAST_BANDWIDTH + channels * _MANY_EXPONENTS + low_frequency * _LOW_EXPONENTS
    return start + unmixed + exponents + "0"


# ── checks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _check(data: bytes) -> int:
    """The check that makes what follows ``data`` come to 0 (6.1.7)."""
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = value << 1 ^ (_CRC | 0x10000 if value & 0x8000 else 0)
    return value


def _check_before(data: bytes) -> int:
    """The check that stands before ``data``, and makes all of it come to 0: the same, run backwards."""
    value = 0
    for byte in reversed(data):
        for bit in range(8):
            value = _step_back(value, byte >> bit & 1)
    for _ in range(16):
        value = _step_back(value, 0)
    return value


def _step_back(value: int, bit: int) -> int:
    """What the register held before a bit went in."""
    feedback = value & 1
    return (value ^ (_CRC if feedback else 0)) >> 1 | (feedback ^ bit) << 15
