"""
The elementary stream descriptor: how an ``mp4a`` sample entry says what it is (ISO/IEC 14496-14, 5.6).

By the object type it is MPEG-4 audio, with an AudioSpecificConfig, or one of the older kinds, which have none.

Descriptors are a tag, a size in groups of seven bits, and a payload that may hold further ones (14496-1, 8.3.3).
"""

from __future__ import annotations

from struct import pack

from rapidrtmp.errors import MediaError

__all__ = ["OBJECT_TYPES", "read_esds", "read_object_type", "write_esds", "write_object_type"]

# Descriptor tags and constants of MPEG-4 Systems (ISO/IEC 14496-1, 7.2.2.1, 7.2.6.6 and 7.3.2.3).
_ES_DESCRIPTOR, _DECODER_CONFIG, _DECODER_SPECIFIC_INFO, _SL_CONFIG = 0x03, 0x04, 0x05, 0x06
_MPEG4_AUDIO = 0x40
#: Object types whose specific info is an AudioSpecificConfig: that, and the three profiles of AAC as MPEG-2 has them.
OBJECT_TYPES = (_MPEG4_AUDIO, 0x66, 0x67, 0x68)
_AUDIO_STREAM = 0x05 << 2 | 1  # streamType(6) upStream(1)=0 reserved(1)=1
_SL_PREDEFINED_MP4 = b"\x02"
_VERSION_AND_FLAGS = bytes(4)
#: What is before the descriptors in an ES descriptor, and in a decoder config.
_STREAM_SIZE, _CONFIG_SIZE = 3, 13


def write_esds(audio_specific_config: bytes) -> bytes:
    """Write the payload of an ``esds`` box of MPEG-4 audio, version and flags included."""
    return write_object_type(_MPEG4_AUDIO, _write_descriptor(_DECODER_SPECIFIC_INFO, audio_specific_config))


def write_object_type(object_type: int, specific_info: bytes = b"") -> bytes:
    """
    Write the payload of an ``esds`` box, version and flags included.

    ES_ID is 0, as in every file (14496-14, 3.1.2); buffer size and bit rates are 0, unknown: the stream is still to
    come.

    :param object_type: as in ISO/IEC 14496-1, table 5.
    :param specific_info: a descriptor, where the object type has one.
    """
    head = pack(">BB3xII", object_type, _AUDIO_STREAM, 0, 0)
    decoder_config = _write_descriptor(_DECODER_CONFIG, head, specific_info)
    sl_config = _write_descriptor(_SL_CONFIG, _SL_PREDEFINED_MP4)
    return _VERSION_AND_FLAGS + _write_descriptor(_ES_DESCRIPTOR, bytes(3), decoder_config, sl_config)


def read_esds(payload: bytes) -> bytes:
    """
    Read the AudioSpecificConfig in the payload of an ``esds`` box (ISO/IEC 14496-1, 7.2.6.5 to 7.2.6.7).

    :raises MediaError: a descriptor on the way to it is not there, or cut short; or it is of audio that has none.
    """
    decoder_config = _read_decoder_config(payload)
    if decoder_config[0] not in OBJECT_TYPES:
        raise MediaError(f"esds of object type {decoder_config[0]:#04x}, which is not AAC")
    return _read_descriptor(decoder_config[_CONFIG_SIZE:], _DECODER_SPECIFIC_INFO)


def read_object_type(payload: bytes) -> int:
    """The object type in the payload of an ``esds`` box. Raises ``MediaError`` as :func:`read_esds` does."""
    return _read_decoder_config(payload)[0]


def _read_decoder_config(payload: bytes) -> bytes:
    descriptor = _read_descriptor(payload[len(_VERSION_AND_FLAGS) :], _ES_DESCRIPTOR)
    decoder_config = _read_descriptor(descriptor[_STREAM_SIZE:], _DECODER_CONFIG)
    if len(decoder_config) < _CONFIG_SIZE:
        raise MediaError(f"decoder config of {len(decoder_config)} bytes in an esds, {_CONFIG_SIZE} wanted")
    return decoder_config


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
