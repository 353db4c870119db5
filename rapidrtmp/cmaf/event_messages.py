"""
What is said about moments of a stream, inside its media: event message boxes in front of a fragment, and ID3 tags.

``emsg`` is that of ISO/IEC 23009-1, 5.10.3.3, version 1; what ID3 is in it, AOM's "Carriage of ID3 Timed Metadata in
the Common Media Application Format" says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import pack
from zlib import crc32

from rapidrtmp.cmaf.boxes import full_box
from rapidrtmp.media import TimedMetadata

__all__ = ["write_event_messages", "write_text_tag"]

_TIMESCALE = 1000
#: How long it holds is not known.
_UNKNOWN_DURATION = 0xFFFFFFFF
_UTF_8 = b"\x03"


def write_event_messages(metadata: Sequence[TimedMetadata], shift_s: int = 0) -> list[bytes]:
    """
    One box for each: they belong in front of a fragment.

    :param shift_s: seconds that decode times of the fragment are moved back by.
    """
    return [_emsg(each, max(0, each.time_ms - shift_s * _TIMESCALE)) for each in metadata]


def _emsg(metadata: TimedMetadata, time_ms: int) -> bytes:
    number = crc32(metadata.data, crc32(pack(">Q", time_ms)))  # the same wherever it is repeated
    times = pack(">IQII", _TIMESCALE, time_ms, _UNKNOWN_DURATION, number)
    return full_box(b"emsg", 1, 0, times, metadata.scheme.encode() + b"\0", b"\0", metadata.data)


def write_text_tag(texts: Mapping[str, str]) -> bytes:
    """An ID3 tag (version 2.4) with one ``TXXX`` frame for each text, by its description."""
    frames = b"".join(
        _frame(_UTF_8 + description.encode("utf-8", "replace") + b"\0" + text.encode("utf-8", "replace"))
        for description, text in texts.items()
    )
    return b"ID3\x04\0\0" + _synchsafe(len(frames)) + frames


def _frame(body: bytes) -> bytes:
    return b"TXXX" + _synchsafe(len(body)) + b"\0\0" + body


def _synchsafe(size: int) -> bytes:
    """28 bits, seven to a byte (ID3v2.4, 6.2)."""
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
