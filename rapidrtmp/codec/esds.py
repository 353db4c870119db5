"""
The elementary stream descriptor: how an ``mp4a`` sample entry holds an AudioSpecificConfig (ISO/IEC 14496-14, 5.6).

Descriptors are a tag, a size in groups of seven bits, and a payload that may hold further ones (14496-1, 8.3.3).
"""

from __future__ import annotations

from struct import pack

from rapidrtmp.errors import MediaError

__all__ = ["read_esds", "write_esds"]

# Descriptor tags and constants of MPEG-4 Systems (ISO/IEC 14496-1, 7.2.2.1, 7.2.6.6 and 7.3.2.3).
_ES_DESCRIPTOR, _DECODER_CONFIG, _DECODER_SPECIFIC_INFO, _SL_CONFIG = 0x03, 0x04, 0x05, 0x06
_MPEG4_AUDIO = 0x40
_AUDIO_STREAM = 0x05 << 2 | 1  # streamType(6) upStream(1)=0 reserved(1)=1
_SL_PREDEFINED_MP4 = b"\x02"
_VERSION_AND_FLAGS = bytes(4)


def write_esds(audio_specific_config: bytes) -> bytes:
    """
    Write the payload of an ``esds`` box, version and flags included.

    ES_ID is 0, as in every file (14496-14, 3.1.2); buffer size and bit rates are 0, unknown: the stream is still to
    come.
    """
    decoder_config = _write_descriptor(
        _DECODER_CONFIG,
        pack(">BB3xII", _MPEG4_AUDIO, _AUDIO_STREAM, 0, 0),
        _write_descriptor(_DECODER_SPECIFIC_INFO, audio_specific_config),
    )
    sl_config = _write_descriptor(_SL_CONFIG, _SL_PREDEFINED_MP4)
    return _VERSION_AND_FLAGS + _write_descriptor(_ES_DESCRIPTOR, bytes(3), decoder_config, sl_config)


def read_esds(payload: bytes) -> bytes:
    """
    Read the DecoderSpecificInfo in the payload of an ``esds`` box (ISO/IEC 14496-1, 7.2.6.5 to 7.2.6.7).

    :raises MediaError: a descriptor on the way to it is not there, or cut short.
    """
    body = payload[len(_VERSION_AND_FLAGS) :]
    for tag, fixed in ((_ES_DESCRIPTOR, 3), (_DECODER_CONFIG, 13), (_DECODER_SPECIFIC_INFO, 0)):
        body = _read_descriptor(body, tag)[fixed:]
    return body


def _write_descriptor(tag: int, *payload: bytes) -> bytes:
    """A descriptor, with as few size bytes as will do."""
    size = sum(map(len, payload))
    groups = [size & 0x7F]
    while size := size >> 7:
        groups.append(0x80 | size & 0x7F)
    return b"".join((bytes((tag, *reversed(groups))), *payload))


def _read_descriptor(body: bytes, tag: int) -> bytes:
    """The payload of the descriptor at the front of ``body``; its size has 1 to 4 groups."""
    size = 0
    for at, group in enumerate(body[1:5], start=2):
        size = size << 7 | group & 0x7F
        if group < 0x80:
            if body[0] == tag and at + size <= len(body):
                return body[at : at + size]
            break
    raise MediaError(f"no whole descriptor {tag:#04x} in an esds")
