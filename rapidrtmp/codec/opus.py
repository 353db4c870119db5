"""
Opus: from the header and packets of RFC 7845 and RFC 6716, as Enhanced RTMP carries them, to what an ``Opus`` track
stores.

Opus always counts in 1/48000 s, whatever the rate of what was encoded. A packet tells in its first byte how long its
frames are, so packets of different lengths may follow one another. Where the header is missing, packets tell enough of
one or two channels; of more channels their number does, for encoders share them among streams in one usual way.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from rapidrtmp.errors import MediaError
from rapidrtmp.media import AudioConfig

__all__ = [
    "OpusReader",
    "opus_of_channels",
    "opus_of_packet",
    "read_dops",
    "read_opus_head",
    "silent_packet",
    "write_dops",
]

SAMPLE_RATE = 48_000
_MAGIC = b"OpusHead"
#: version, channels, pre-skip, input rate, gain, mapping family: little-endian in the header (RFC 7845, 5.1), and
#: big-endian in ``dOps``, where the version is another one.
_HEAD, _BOX = struct.Struct("<BBHIhB"), struct.Struct(">BBHIhB")
_HEAD_VERSION, _BOX_VERSION = 1, 0
#: Mapping families: one or two channels; up to eight in the order of Vorbis; ambisonics; in no known order.
_PLAIN, _SURROUND = 0, 1
_TABLED = (_SURROUND, 2, 255)
_MOST_CHANNELS = {_PLAIN: 2, _SURROUND: 8}
_SILENT_CHANNEL = 255
#: How encoders share three to eight channels among streams: streams, coupled ones, and the channel of each output.
_USUAL_TABLES = {
    len(table) - 2: bytes(table)
    for table in (
        (2, 1, 0, 2, 1),
        (2, 2, 0, 1, 2, 3),
        (3, 2, 0, 4, 1, 2, 3),
        (4, 2, 0, 4, 1, 2, 3, 5),
        (4, 3, 0, 4, 1, 2, 3, 5, 6),
        (5, 3, 0, 6, 1, 2, 3, 4, 5, 7),
    )
}

#: How long the frames of a packet are, by its configuration (RFC 6716, table 2).
_FRAME_SAMPLES = 3 * (480, 960, 1920, 2880) + 2 * (480, 960) + 4 * (120, 240, 480, 960)
#: How many frames a packet has, by the code in its first byte; 3 says that the next byte tells (3.2).
_FRAMES = (1, 2, 2, 0)
#: How long a packet lasts, by its first byte; 0 where the second one tells.
_PACKET_SAMPLES = tuple(_FRAME_SAMPLES[toc >> 3] * _FRAMES[toc & 3] for toc in range(256))
_LONGEST_PACKET = 5_760  # 120 ms (3.2.5)
_STEREO = 0x04
#: What encoders make as a rule: 20 ms.
_USUAL_SAMPLES = 960


def read_opus_head(data: bytes) -> AudioConfig:
    """
    Read an identification header (RFC 7845, 5.1).

    ``record`` is the header, without what is behind it.

    :raises MediaError: it is none, of a later version, cut short, or its channels contradict each other.
    """
    if not data.startswith(_MAGIC):
        raise MediaError(f"no OpusHead, but {data[:8]!r}")
    fields = _unpack(_HEAD, data[len(_MAGIC) :])
    version, channels, pre_skip, rate, gain, family = fields
    if version >> 4:
        raise MediaError(f"OpusHead of version {version}, 0..15 can be read")
    table = _read_table(channels, family, data[len(_MAGIC) + _HEAD.size :])
    record = _MAGIC + _HEAD.pack(_HEAD_VERSION, channels, pre_skip, rate, gain, family) + table
    return AudioConfig(record, "opus", SAMPLE_RATE, channels, _USUAL_SAMPLES)


def _read_table(channels: int, family: int, data: bytes) -> bytes:
    """The table that says which channel is in which of the streams (RFC 7845, 5.1.1); empty for family 0."""
    if not 1 <= channels <= _MOST_CHANNELS.get(family, 255):
        raise MediaError(f"Opus with {channels} channels in mapping family {family}")
    if family == _PLAIN:
        return b""
    if family not in _TABLED:
        raise MediaError(f"Opus with channel mapping family {family}, {_PLAIN} or one of {_TABLED} is wanted")
    table = data[: 2 + channels]
    if len(table) < 2 + channels:
        raise MediaError(f"channel mapping table of {len(table)} bytes for {channels} channels")
    streams, coupled, *mapping = table
    decoded = streams + coupled
    if not streams or coupled > streams or decoded > 255:
        raise MediaError(f"Opus with {streams} streams, {coupled} of them coupled")
    if any(decoded <= channel != _SILENT_CHANNEL for channel in mapping):
        raise MediaError(f"Opus with channels {mapping} of {decoded}")
    return table


def opus_of_packet(packet: bytes) -> AudioConfig:
    """
    The configuration of a track whose header says nothing, by a packet: one or two channels.

    :raises MediaError: the packet is empty.
    """
    if not packet:
        raise MediaError("an Opus packet of no bytes")
    channels = 2 if packet[0] & _STEREO else 1
    return read_opus_head(_MAGIC + _HEAD.pack(_HEAD_VERSION, channels, 0, SAMPLE_RATE, 0, _PLAIN))


def opus_of_channels(channels: int) -> AudioConfig | None:
    """
    The configuration of a track whose header says nothing, by how many channels it is said to have.

    :returns: surround as encoders make it, its channels in the order of Vorbis (RFC 7845, 5.1.1.2); ``None`` where a
        packet tells all, and where there is no usual order.
    """
    table = _USUAL_TABLES.get(channels)
    if table is None:
        return None
    return read_opus_head(_MAGIC + _HEAD.pack(_HEAD_VERSION, channels, 0, SAMPLE_RATE, 0, _SURROUND) + table)


class OpusReader:
    """
    Reads the packets of one Opus track, which are stored as they come.

    :ivar config: the configuration in force: always that of the header.
    :ivar keyframe: true: decoding may start anywhere.
    :ivar samples: how long the latest packet lasts.
    """

    __slots__ = ("config", "keyframe", "samples")

    def __init__(self, config: AudioConfig) -> None:
        self.config = config
        self.keyframe = True
        self.samples = config.samples_per_frame

    def read(self, body: bytes) -> bytes | None:
        """
        Read the body of a frames packet: one Opus packet, of all streams.

        :returns: the body; ``None`` if it is empty.
        :raises MediaError: it ends within its header, has no frames, or lasts longer than a packet can.
        """
        if not body:
            return None
        self.samples = _PACKET_SAMPLES[body[0]] or _count_samples(body)
        return body


def _count_samples(packet: bytes) -> int:
    """How long a packet with any number of frames lasts (RFC 6716, 3.2.5)."""
    if len(packet) < 2:
        raise MediaError("an Opus packet that ends before it tells how many frames it has")
    frames = packet[1] & 0x3F
    samples = frames * _FRAME_SAMPLES[packet[0] >> 3]
    if not 0 < samples <= _LONGEST_PACKET:
        raise MediaError(f"an Opus packet of {frames} frames, {samples} samples; {_LONGEST_PACKET} are the most")
    return samples


def write_dops(record: bytes) -> bytes:
    """Write the payload of a ``dOps`` box (Encapsulation of Opus in ISOBMFF, 4.3.2) from an identification header."""
    _, *fields = _unpack(_HEAD, record[len(_MAGIC) :])
    return _BOX.pack(_BOX_VERSION, *fields) + record[len(_MAGIC) + _HEAD.size :]


def read_dops(payload: bytes) -> bytes:
    """The identification header in the payload of a ``dOps`` box. Raises ``MediaError`` if it is cut short."""
    _, *fields = _unpack(_BOX, payload)
    return _MAGIC + _HEAD.pack(_HEAD_VERSION, *fields) + payload[_BOX.size :]


def _unpack(layout: struct.Struct, data: bytes) -> tuple[int, ...]:
    if len(data) < layout.size:
        raise MediaError(f"Opus header of {len(data)} bytes, {layout.size} wanted")
    fields: tuple[int, ...] = layout.unpack_from(data)
    return fields


@lru_cache(maxsize=64)
def silent_packet(config: AudioConfig) -> bytes:
    """
    A packet of 20 ms without sound for each stream of a track: CELT of the full band, whose first bit is "silence".

    All streams but the last say where they end (RFC 6716, appendix B).
    """
    family, table = config.record[len(_MAGIC) + _HEAD.size - 1], config.record[len(_MAGIC) + _HEAD.size :]
    streams, coupled = (1, config.channels - 1) if family == _PLAIN else table[:2]
    frame = b"\xff\xfe"
    heads = [0xF8 | (_STEREO if stream < coupled else 0) for stream in range(streams)]
    delimited = b"".join(bytes([head, len(frame)]) + frame for head in heads[:-1])
    return delimited + bytes(heads[-1:]) + frame
