"""
FLV and Enhanced RTMP tag headers: what the payload of an audio or video message is, before any codec looks at it.

A message is one packet in its classic form (a codec number of four bits) and in the plain Enhanced RTMP form (a
FourCC); in the multitrack form it is one packet for each of its tracks. The first byte alone tells the forms apart:
classic video never sets bit 7, and classic audio never has format 9. Nothing here depends on what came before.

Almost every message of almost every publisher is a frame in the classic form, or in the plain enhanced one, so their
first bytes are looked up at once; all else goes the long way round. A codec may be any FourCC: which of them can be
packaged is for others to say.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

from rapidrtmp.codec.table import AAC, CODECS
from rapidrtmp.errors import MediaError
from rapidrtmp.media import MediaKind

__all__ = ["Packet", "PacketKind", "read_audio", "read_video"]


class PacketKind(enum.Enum):
    """
    What a packet carries.

    ``CONFIG``: a codec configuration record. ``FRAMES``: coded media. ``END``: the track ends here; its timestamp means
    nothing. ``METADATA``: colour information (video, AMF0) or a channel layout (audio). ``IGNORED``: nothing of ours,
    but a command to the player. ``UNKNOWN``: a packet type that the specifications leave open.
    """

    CONFIG = "config"
    FRAMES = "frames"
    END = "end"
    METADATA = "metadata"
    IGNORED = "ignored"
    UNKNOWN = "unknown"


class Packet(NamedTuple):
    """
    The part of a message that belongs to one track.

    :ivar codec: a FourCC (``avc1``, ``hvc1``, ``Opus`` ...), ``flv:N`` for a classic codec number that has none, or
        ``""`` where the message does not say (``IGNORED`` and ``UNKNOWN`` only).
    :ivar track_id: 0 for the default track, else as the publisher numbers its video and, apart from that, its audio, up
        to 255.
    :ivar keyframe: what the header claims, which is not always so; true for all audio.
    :ivar composition_ms: presentation minus decode time in milliseconds; signed; 0 for all audio.
    :ivar nanoseconds: what to add to both times, 0..999999.
    :ivar body: what is behind the headers.
    """

    codec: str
    kind: PacketKind
    track_id: int
    keyframe: bool
    composition_ms: int
    nanoseconds: int
    body: bytes


# ── the classic form ─────────────────────────────────────────────────────────────────────────────────────────────────

_KEYFRAMES = (1, 4)  # 4 is "generated": a keyframe that a server made
_COMMAND = 5
#: FourCCs by codec number; for video, those of the one layout that has a packet type and a composition time.
_VIDEO_FOURCCS, _AUDIO_FOURCCS = (
    {number: codec.fourcc for codec in CODECS.values() if codec.kind is kind for number in codec.flv_numbers}
    for kind in (MediaKind.VIDEO, MediaKind.AUDIO)
)
_AAC = 10  # the one number whose layout has a packet type
_CLASSIC_KINDS = {0: PacketKind.CONFIG, 1: PacketKind.FRAMES, 2: PacketKind.END}

_VIDEO_HEADS = {
    bytes([frame_type << 4 | number, packet_type]): (codec, kind, frame_type in _KEYFRAMES)
    for number, codec in _VIDEO_FOURCCS.items()
    for packet_type, kind in _CLASSIC_KINDS.items()
    for frame_type in range(8)
    if frame_type != _COMMAND
}
_AAC_FRAMES = {bytes([_AAC << 4 | sound, 1]) for sound in range(16)}

#: Enhanced frames of the default track, by the first byte and the FourCC behind it (Enhanced RTMP v2): the codec; of
#: video also whether it is a keyframe and has a composition time.
_ENHANCED_VIDEO_FRAMES = {
    bytes([0x80 | frame_type << 4 | packet_type]) + codec.fourcc.encode("ascii"): (
        codec.fourcc,
        frame_type in _KEYFRAMES,
        packet_type == 1 and codec.reorders,
    )
    for codec in CODECS.values()
    if codec.kind is MediaKind.VIDEO
    for packet_type in (1, 3)
    for frame_type in range(8)
    if frame_type != _COMMAND
}
_ENHANCED_AUDIO_FRAMES = {
    b"\x91" + codec.fourcc.encode("ascii"): codec.fourcc for codec in CODECS.values() if codec.kind is MediaKind.AUDIO
}


def read_video(payload: bytes) -> Sequence[Packet]:
    """
    Read a video message (message type 9).

    :returns: its packets, one per track; an ``IGNORED`` or ``UNKNOWN`` one tells nothing of its codec and track. A
        track of an enhanced message that has coded frames of no bytes is left out.
    :raises MediaError: the message ends within its headers, or contradicts itself.
    """
    head = _VIDEO_HEADS.get(payload[:2])
    if head is None or len(payload) < 5:
        frames = _ENHANCED_VIDEO_FRAMES.get(payload[:5])
        if frames is None or len(payload) < 9:
            return _read_rare_video(payload)
        codec, keyframe, has_offset = frames
        if has_offset:
            offset = int.from_bytes(payload[5:8], "big", signed=True)
            return (Packet(codec, PacketKind.FRAMES, 0, keyframe, offset, 0, payload[8:]),)
        return (Packet(codec, PacketKind.FRAMES, 0, keyframe, 0, 0, payload[5:]),)
    codec, kind, keyframe = head
    # The composition time is SI24: with B-frames, and encoders that do not shift their clock, it may be negative.
    return (Packet(codec, kind, 0, keyframe, int.from_bytes(payload[2:5], "big", signed=True), 0, payload[5:]),)


def read_audio(payload: bytes) -> Sequence[Packet]:
    """
    Read an audio message (message type 8).

    :returns: its packets, one per track. None at all for an empty message, or an empty frame, which stand for silence,
        and for the empty AAC configuration that some encoders send before they know theirs.
    :raises MediaError: the message ends within its headers, or contradicts itself.
    """
    if payload[:2] in _AAC_FRAMES:
        body = payload[2:]
        return (Packet(AAC.fourcc, PacketKind.FRAMES, 0, True, 0, 0, body),) if body else ()
    codec = _ENHANCED_AUDIO_FRAMES.get(payload[:5])
    if codec is not None and len(payload) > 5:
        return (Packet(codec, PacketKind.FRAMES, 0, True, 0, 0, payload[5:]),)
    return _read_rare_audio(payload)


def _read_rare_video(payload: bytes) -> Sequence[Packet]:
    reader = _PayloadReader(payload)
    first = reader.u8()
    if first & 0x80:
        return _read_enhanced_video(reader, frame_type=first >> 4 & 7, packet_type=first & 0x0F)
    frame_type, number = first >> 4, first & 0x0F
    if frame_type == _COMMAND:
        return (_IGNORED,)
    if number in _VIDEO_FOURCCS:
        reader.take(4)  # raises if the header is cut short; else its packet type is not defined
        return (_UNKNOWN,)
    return (Packet(f"flv:{number}", PacketKind.FRAMES, 0, frame_type in _KEYFRAMES, 0, 0, reader.rest()),)


def _read_rare_audio(payload: bytes) -> Sequence[Packet]:
    if not payload:
        return ()
    reader = _PayloadReader(payload)
    first = reader.u8()
    number = first >> 4
    if number == _ENHANCED_AUDIO:
        return _read_enhanced_audio(reader, packet_type=first & 0x0F)
    if number != _AAC:
        codec = _AUDIO_FOURCCS.get(number, f"flv:{number}")
        return (Packet(codec, PacketKind.FRAMES, 0, True, 0, 0, reader.rest()),)
    if reader.u8():
        return (_UNKNOWN,)
    config = reader.rest()
    return (Packet(AAC.fourcc, PacketKind.CONFIG, 0, True, 0, 0, config),) if config else ()


_IGNORED = Packet("", PacketKind.IGNORED, 0, False, 0, 0, b"")
_UNKNOWN = Packet("", PacketKind.UNKNOWN, 0, False, 0, 0, b"")


# ── Enhanced RTMP ────────────────────────────────────────────────────────────────────────────────────────────────────

_ENHANCED_AUDIO = 9
_MOD_EX = 7
_TIMESTAMP_NANO = 0
_MAX_NANOSECONDS = 999_999
_MAX_MOD_EX = 8
_VIDEO_MULTITRACK, _AUDIO_MULTITRACK = 6, 5
_ONE_TRACK, _MANY_CODECS = 0, 2

_CODED_FRAMES, _VIDEO_METADATA = 1, 4
#: Type 5 starts a sequence too: its body is AV1's MPEG-2 TS descriptor, first byte 0x80, where an av1C has 0x81.
_VIDEO_KINDS = {
    0: PacketKind.CONFIG,
    _CODED_FRAMES: PacketKind.FRAMES,
    2: PacketKind.END,
    3: PacketKind.FRAMES,
    _VIDEO_METADATA: PacketKind.METADATA,
    5: PacketKind.CONFIG,
}
_AUDIO_KINDS = {0: PacketKind.CONFIG, 1: PacketKind.FRAMES, 2: PacketKind.END, 4: PacketKind.METADATA}


def _read_enhanced_video(reader: _PayloadReader, frame_type: int, packet_type: int) -> Sequence[Packet]:
    packet_type, nanoseconds = _read_mod_ex(reader, packet_type)
    if frame_type == _COMMAND and not _is_metadata(reader, packet_type):
        return (_IGNORED,)
    packet_type, grouping = _read_grouping(reader, packet_type, _VIDEO_MULTITRACK)
    kind = _VIDEO_KINDS.get(packet_type)
    if kind is None:
        return (_UNKNOWN,)
    keyframe = frame_type in _KEYFRAMES and kind is not PacketKind.METADATA
    packets = []
    for codec, track_id, body in _read_tracks(reader, grouping):
        composition_ms = 0
        if packet_type == _CODED_FRAMES and body and _reorders(codec):
            if len(body) < 3:
                raise MediaError(f"track {track_id}: {len(body)} bytes of {codec}, 3 are the composition time alone")
            composition_ms, body = int.from_bytes(body[:3], "big", signed=True), body[3:]
        if body or kind is not PacketKind.FRAMES:
            packets.append(Packet(codec, kind, track_id, keyframe, composition_ms, nanoseconds, body))
    return packets


def _read_enhanced_audio(reader: _PayloadReader, packet_type: int) -> Sequence[Packet]:
    packet_type, nanoseconds = _read_mod_ex(reader, packet_type)
    packet_type, grouping = _read_grouping(reader, packet_type, _AUDIO_MULTITRACK)
    kind = _AUDIO_KINDS.get(packet_type)
    if kind is None:
        return (_UNKNOWN,)
    return [
        Packet(codec, kind, track_id, True, 0, nanoseconds, body)
        for codec, track_id, body in _read_tracks(reader, grouping)
        # AC-3 and MP3 start with nothing, for their frames say it all; to AAC that happens, and tells nothing.
        if body or kind is PacketKind.END or (kind is PacketKind.CONFIG and _describes_itself(codec))
    ]


def _reorders(fourcc: str) -> bool:
    """Whether a codec's coded frames begin with a composition time."""
    codec = CODECS.get(fourcc)
    return codec is not None and codec.reorders


def _describes_itself(fourcc: str) -> bool:
    """Whether a codec may start with nothing; so may an unknown one."""
    codec = CODECS.get(fourcc)
    return codec is None or codec.describes_itself


def _is_metadata(reader: _PayloadReader, packet_type: int) -> bool:
    """
    Whether a packet with frame type "command" holds metadata, whose frame type means nothing (FFmpeg sets "command").

    For that of a further track the type is behind the multitrack byte; a command there would be a 0 or 1.
    """
    if packet_type == _VIDEO_MULTITRACK:
        packet_type = reader.peek_u8() & 0x0F
    return packet_type == _VIDEO_METADATA


def _read_mod_ex(reader: _PayloadReader, packet_type: int) -> tuple[int, int]:
    """
    Read the chain of ModEx blocks that may stand before the packet type proper (Enhanced RTMP v2, "ModEx").

    :returns: that packet type, and the nanoseconds to add to the timestamp. Blocks of unknown types are passed over.
    """
    nanoseconds = blocks = 0
    while packet_type == _MOD_EX:
        blocks += 1
        if blocks > _MAX_MOD_EX:
            raise MediaError(f"more than {_MAX_MOD_EX} ModEx blocks in one message")
        size = reader.u8() + 1
        if size == 256:
            size = reader.u16() + 1
        data = reader.take(size)
        types = reader.u8()
        packet_type = types & 0x0F
        if types >> 4 == _TIMESTAMP_NANO:
            if size < 3:
                raise MediaError(f"ModEx block with a nanosecond offset of {size} bytes, 3 wanted")
            # The field could hold 17 ms, but whole milliseconds belong into the timestamp.
            nanoseconds = min(int.from_bytes(data[:3], "big"), _MAX_NANOSECONDS)
    return packet_type, nanoseconds


def _read_grouping(reader: _PayloadReader, packet_type: int, multitrack: int) -> tuple[int, int | None]:
    """
    Read the byte that says how several tracks share the message, if they do (Enhanced RTMP v2, "Multitrack").

    :param multitrack: the packet type by which this kind of message says so.
    :returns: the packet type of all tracks, and OneTrack 0, ManyTracks 1, ManyTracksManyCodecs 2, or ``None``.
    """
    if packet_type != multitrack:
        return packet_type, None
    types = reader.u8()
    grouping, packet_type = types >> 4, types & 0x0F
    if grouping > _MANY_CODECS:
        raise MediaError(f"multitrack type {grouping}, 0..{_MANY_CODECS} are known")
    if packet_type in (multitrack, _MOD_EX):
        raise MediaError(f"packet type {packet_type} inside a multitrack message")
    return packet_type, grouping


def _read_tracks(reader: _PayloadReader, grouping: int | None) -> Sequence[tuple[str, int, bytes]]:
    """Read ``(codec, track_id, body)`` of each track up to the end of the message."""
    if grouping is None:
        return ((reader.fourcc(), 0, reader.rest()),)
    if grouping == _ONE_TRACK:
        return ((reader.fourcc(), reader.u8(), reader.rest()),)
    shared = "" if grouping == _MANY_CODECS else reader.fourcc()
    tracks: dict[int, tuple[str, int, bytes]] = {}
    while reader.left or not tracks:
        codec = shared or reader.fourcc()
        track_id = reader.u8()
        if track_id in tracks:
            raise MediaError(f"track {track_id} twice in one message")
        tracks[track_id] = (codec, track_id, reader.take(reader.u24()))
    return tuple(tracks.values())


class _PayloadReader:
    """Takes fields off the front of a message; one that is not there whole is a :exc:`MediaError`."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._offset

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise MediaError(f"{size} bytes wanted at {self._offset} of a message of {len(self._data)} bytes")
        self._offset += size
        return self._data[self._offset - size : self._offset]

    def rest(self) -> bytes:
        return self.take(self.left)

    def peek_u8(self) -> int:
        value = self.u8()
        self._offset -= 1
        return value

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u24(self) -> int:
        return int.from_bytes(self.take(3), "big")

    def fourcc(self) -> str:
        return self.take(4).decode("latin-1")  # any four bytes are some name
