"""
AV1: from configuration records and temporal units, as Enhanced RTMP carries them, to what an ``av01`` track stores.

A temporal unit is a row of OBUs. In MP4 (AV1 codec ISO media file format binding, 2.4) it has no temporal delimiter, no
padding and no tile list, each OBU says how long it is, and a keyframe has the sequence header in it. The record tells
the same as that header; the one that encoders announce may differ from those they send in coding tools, and that is no
change: decoders go by the header that stands before the pictures.

Of most temporal units only the headers of OBUs are looked at, and the sample is what is behind the temporal delimiter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from rapidrtmp.codec.av1_sequence import ANY_LEVEL, SequenceHeader, read_sequence_header
from rapidrtmp.codec.hdr import read_light, read_obu_mastering
from rapidrtmp.codec.pieces import MOST_PIECES
from rapidrtmp.errors import MediaError, TooManyPiecesError
from rapidrtmp.media import ContentLight, MasteringDisplay, VideoConfig

__all__ = ["Av1Reader", "Av1Search", "is_known_av1", "read_av1_config"]

# obu_type (AV1 bitstream specification, 6.2.2)
SEQUENCE_HEADER, TEMPORAL_DELIMITER, FRAME_HEADER, TILE_GROUP, METADATA, FRAME, REDUNDANT, TILE_LIST, PADDING = (
    *(1, 2, 3, 4, 5, 6, 7, 8, 15),
)
_DROPPED = frozenset({TEMPORAL_DELIMITER, TILE_LIST, PADDING})
_FRAMES = frozenset({FRAME_HEADER, FRAME})
_DELIMITER = b"\x12\0"

# As sets of bits, one for each type: what holds a frame, and all that a temporal unit may hold that stays as it is.
_FRAME_BITS = 1 << FRAME_HEADER | 1 << FRAME
_CLOSE_BITS = 0xFFFF ^ (_FRAME_BITS | 1 << TILE_GROUP | 1 << METADATA | 1 << REDUNDANT)

# metadata_type (6.7.2)
_LIGHT, _MASTERING = 1, 2
#: The size of the record before its OBUs, and its first byte: marker and version (binding, 2.3.3).
_HEAD_SIZE, _MARKER = 4, 0x81
#: The largest picture and the most samples a second of a level, in luma samples (A.3).
_LEVELS = (
    *((0, 147_456, 4_423_680), (1, 278_784, 8_363_520), (4, 665_856, 19_975_680), (5, 1_065_024, 31_950_720)),
    *((8, 2_359_296, 70_778_880), (9, 2_359_296, 141_557_760), (12, 8_912_896, 267_386_880)),
    *((13, 8_912_896, 534_773_760), (14, 8_912_896, 1_069_547_520), (16, 35_651_584, 1_069_547_520)),
    *((17, 35_651_584, 2_139_095_040), (18, 35_651_584, 4_278_190_080)),
)
_LARGEST_LEVEL, _USUAL_RATE = 19, 60
_HIGH_TIER_FROM = 8


class Obu(NamedTuple):
    """
    One OBU.

    :ivar whole: all of it, with its size in it.
    :ivar payload: what is behind its header.
    """

    type: int
    whole: bytes
    payload: bytes


class Av1Reader:
    """
    Reads the temporal units of one AV1 track.

    :ivar config: the configuration in force; another one behind a keyframe whose sequence header says something new.
        Behind the first keyframe it has the sequence header of that.
    :ivar keyframe: whether decoding may start at the temporal unit read last: a key frame that is shown.
    :ivar samples: 0: temporal units do not say how long they last.
    """

    __slots__ = ("_has_begun", "config", "keyframe", "samples")

    def __init__(self, config: VideoConfig) -> None:
        self.config = config
        self.keyframe = False
        self.samples = 0
        self._has_begun = False

    def read(self, body: bytes) -> bytes | None:
        """
        Read the body of a frames packet.

        :returns: the sample: the temporal unit without what has no place in it. ``None`` if it holds no frame.
        :raises MediaError: an OBU reaches past the end, or a new sequence header cannot be used.
        """
        start = offset = 2 if body[:2] == _DELIMITER else 0
        size, types = len(body), 0
        try:
            for _ in range(MOST_PIECES):
                if offset >= size:
                    break
                header, length = body[offset], body[offset + 1]
                offset += 2
                if header & 0x86 != 0x02:  # a size and no extension is what all have
                    return self._read_closely(body)
                if length > 0x7F:  # seven bits a byte, the lowest ones first
                    more = body[offset]
                    offset += 1
                    length += (more - 1) << 7
                    if more > 0x7F:
                        most = body[offset]
                        offset += 1
                        length += (most - 1) << 14
                        if most > 0x7F:
                            return self._read_closely(body)
                kind = 1 << (header >> 3)
                types |= kind
                # A key frame that is shown begins with 0001: show_existing_frame, frame_type, show_frame.
                if kind & _FRAME_BITS and 0x10 <= body[offset] < 0x20:
                    return self._read_closely(body)
                offset += length
        except IndexError:
            return self._read_closely(body)
        if types & _CLOSE_BITS or not types & _FRAME_BITS or offset != size:
            return self._read_closely(body)
        self.keyframe = False
        return body[start:] if start else body

    def _read_closely(self, body: bytes) -> bytes | None:
        """Do what :meth:`read` promises for a temporal unit that is a keyframe, or not in order."""
        obus = [obu for obu in split_obus(body) if obu.type not in _DROPPED]
        first = next((obu for obu in obus if obu.type in _FRAMES), None)
        if first is None:
            return None
        sequence = next((obu for obu in obus if obu.type == SEQUENCE_HEADER), None)
        if sequence is not None:
            self._take_sequence(sequence, obus)
        self.keyframe = b"\x10" <= first.payload[:1] < b"\x20"
        if self.keyframe:
            self._take_brightness(obus)
        data = b"".join(obu.whole for obu in obus)
        if self.keyframe and sequence is None:
            if not self.config.width:
                raise MediaError("AV1 key frame, but no sequence header has come")
            return self.config.record[_HEAD_SIZE:] + data
        return body if data == body else data

    def _take_sequence(self, sequence: Obu, obus: Sequence[Obu]) -> None:
        """Let a sequence header be in force, if it says something new, or is the first of those that are sent."""
        config = self.config
        if config.record[_HEAD_SIZE:] != sequence.whole:
            fresh = _make_config(sequence, obus)
            if not (self._has_begun and is_known_av1(config, fresh)):
                self.config = _with_brightness(fresh, fresh.mastering or config.mastering, fresh.light or config.light)
        self._has_begun = True

    def _take_brightness(self, obus: Sequence[Obu]) -> None:
        mastering, light = _brightness(obus)
        config = _with_brightness(self.config, mastering or self.config.mastering, light or self.config.light)
        if config != self.config:
            self.config = config


class Av1Search:
    """
    Looks for the sequence header in what is sent.

    :ivar is_warm: whether what was looked at last was for the configuration, and no frame was lost with it.
    """

    def __init__(self) -> None:
        self.is_warm = True

    def look_at_config(self, body: bytes) -> VideoConfig | None:  # noqa: ARG002
        """Look at the body of a sequence start that is no configuration: the stream has one before each keyframe."""
        return None

    def look_at_frame(self, body: bytes) -> VideoConfig | None:
        """
        Look at the body of a frames packet.

        :raises MediaError: it cannot be read.
        """
        obus = list(split_obus(body))
        sequence = next((obu for obu in obus if obu.type == SEQUENCE_HEADER), None)
        self.is_warm = not any(obu.type in _FRAMES for obu in obus)
        return None if sequence is None else _make_config(sequence, obus)


def read_av1_config(record: bytes) -> VideoConfig:
    """
    Read an AV1 codec configuration record (AV1 codec ISO media file format binding, 2.3).

    The config's ``record`` has no other OBU than the sequence header. Where that is missing (librav1e through FFmpeg
    leaves it out), size and colour are those of the first keyframe, and width and height are 0.

    :raises MediaError: it is none, or what is in it cannot be read.
    """
    if len(record) < _HEAD_SIZE or record[0] != _MARKER:
        raise MediaError(f"AV1 record of {len(record)} bytes begins with {record[:1].hex() or 'nothing'}, wanted 81")
    obus = list(split_obus(record[_HEAD_SIZE:]))
    sequence = next((obu for obu in obus if obu.type == SEQUENCE_HEADER), None)
    if sequence is not None:
        return _make_config(sequence, obus)
    profile, level, flags = record[1] >> 5, record[1] & 0x1F, record[2]
    depth = (12 if flags & 0x20 else 10) if flags & 0x40 else 8
    string = f"av01.{profile}.{min(level, _LARGEST_LEVEL):02}{'MH'[flags >> 7]}.{depth:02}"
    return VideoConfig(record[:_HEAD_SIZE], string, 0, 0)


def is_known_av1(known: VideoConfig, fresh: VideoConfig) -> bool:
    """
    Whether a configuration says nothing that another one does not say already: of profile, level, size and colour, and
    of brightness what it says. Coding tools are for the headers between the pictures to say.
    """
    if not fresh.width and fresh.record == known.record[:_HEAD_SIZE]:
        return True
    told = (fresh.record[1:3], fresh.width, fresh.height, fresh.colour)
    is_bright = fresh.mastering in (None, known.mastering) and fresh.light in (None, known.light)
    return is_bright and told == (known.record[1:3], known.width, known.height, known.colour)


# ── OBUs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def split_obus(data: bytes) -> Iterable[Obu]:
    """
    The OBUs of a temporal unit, or of a record (AV1 bitstream specification, 5.3).

    :raises MediaError: one reaches past the end, or breaks the form of its header; or there are too many.
    """
    offset = count = 0
    while offset < len(data):
        count += 1
        if count > MOST_PIECES:
            raise TooManyPiecesError(MOST_PIECES, "OBUs in a temporal unit")
        start, header = offset, data[offset]
        if header & 0x80:
            raise MediaError(f"OBU at byte {start} with its forbidden bit set")
        offset += 2 if header & 0x04 else 1
        head = data[start:offset]
        if header & 0x02:
            size, offset = _read_leb128(data, offset)
        else:
            size = len(data) - offset
        end = offset + size
        if end > len(data) or len(head) < 1 + (header >> 2 & 1):
            raise MediaError(f"OBU at byte {start} reaches to {end}, the temporal unit has {len(data)} bytes")
        payload = data[offset:end]
        whole = data[start:end] if header & 0x02 else bytes([header | 0x02]) + head[1:] + _leb128(size) + payload
        yield Obu(header >> 3 & 0x0F, whole, payload)
        offset = end


def _read_leb128(data: bytes, offset: int) -> tuple[int, int]:
    """A number of seven bits a byte (4.10.5), and the offset of what follows."""
    value = 0
    for shift in range(0, 56, 7):
        if offset >= len(data):
            break
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, offset
    raise MediaError(f"a size that does not end at byte {offset} of a temporal unit of {len(data)} bytes")


def _leb128(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


# ── configurations ───────────────────────────────────────────────────────────────────────────────────────────────────


def _make_config(sequence: Obu, obus: Iterable[Obu]) -> VideoConfig:
    """The configuration that a sequence header makes, with what metadata beside it says of brightness."""
    header = read_sequence_header(sequence.payload)
    mastering, light = _brightness(obus)
    return VideoConfig(
        record=_record_head(header) + sequence.whole,
        codec_string=_codec_string(header),
        width=header.width,
        height=header.height,
        frame_rate=header.frame_rate,
        colour=header.colour,
        mastering=mastering,
        light=light,
    )


def _record_head(header: SequenceHeader) -> bytes:
    horizontal, vertical = header.subsampling
    flags = header.tier << 7 | (header.depth > 8) << 6 | (header.depth > 10) << 5 | header.is_monochrome << 4
    flags |= horizontal << 3 | vertical << 2 | header.chroma_position
    return bytes([_MARKER, header.profile << 5 | header.level, flags, 0])


def _codec_string(header: SequenceHeader) -> str:
    """As in the binding, section 5: the part about colour is there if it says other than players assume."""
    level = _level_of(header) if header.level == ANY_LEVEL else header.level
    string = f"av01.{header.profile}.{level:02}{'MH'[header.tier]}.{header.depth:02}"
    is_usual = header.colour is None or header.code_points == (1, 1, 1)
    if is_usual and header.subsampling == (1, 1) and not (header.is_monochrome or _is_full_range(header)):
        return string
    horizontal, vertical = header.subsampling
    position = header.chroma_position if horizontal and vertical else 0
    points = ".".join(f"{point:02}" for point in header.code_points)
    chroma = f"{int(header.is_monochrome)}.{horizontal}{vertical}{position}"
    return f"{string}.{chroma}.{points}.{int(_is_full_range(header))}"


def _is_full_range(header: SequenceHeader) -> bool:
    return header.colour is not None and header.colour.full_range


def _level_of(header: SequenceHeader) -> int:
    """The level that a stream keeps to which says that it keeps to none."""
    size = header.width * header.height
    rate = size * (header.frame_rate or _USUAL_RATE)
    return next((level for level, most, fastest in _LEVELS if size <= most and rate <= fastest), _LARGEST_LEVEL)


def _with_brightness(
    config: VideoConfig, mastering: MasteringDisplay | None, light: ContentLight | None
) -> VideoConfig:
    return replace(config, mastering=mastering, light=light)


def _brightness(obus: Iterable[Obu]) -> tuple[MasteringDisplay | None, ContentLight | None]:
    """What metadata among OBUs says of how bright pictures are meant to be (5.8.3 and 5.8.4)."""
    metadata = {obu.payload[0]: obu.payload[1:] for obu in obus if obu.type == METADATA and obu.payload}
    return read_obu_mastering(metadata.get(_MASTERING, b"")), read_light(metadata.get(_LIGHT, b""))
