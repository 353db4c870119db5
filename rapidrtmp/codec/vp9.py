"""
VP9: from configuration records and frames, as Enhanced RTMP carries them, to what a ``vp09`` track stores.

A record (VP codec ISO media file format binding, 2.2) tells profile, level, depth and colour, but no size: that is in
the header of keyframes alone (VP9 bitstream specification, 6.2 and 7.2), with all of the rest but level, primaries and
transfer. So a configuration is complete behind the first keyframe, and what that says comes first. Frames, and
superframes of several of which one is shown, stay as they are.
"""

from __future__ import annotations

from typing import NamedTuple

from rapidrtmp.codec.bits import BitReader
from rapidrtmp.codec.vui import UNSPECIFIED, known_colour
from rapidrtmp.errors import MediaError
from rapidrtmp.media import Colour, VideoConfig

__all__ = ["Vp9Reader", "Vp9Search", "is_known_vp9", "read_vp9_config", "read_vpcc", "write_vpcc"]

#: Version and flags of the box ``vpcC``: FFmpeg sends them too, in front of the record.
_BOX_HEAD = b"\1\0\0\0"
_RECORD_SIZE = 8
_SYNC_CODE = 0x498342
_RGB = 7
#: Matrix coefficients (ITU-T H.273) by color_space: BT.601, BT.709, SMPTE 170M and 240M, BT.2020, sRGB.
_MATRICES = {1: 6, 2: 1, 3: 6, 4: 7, 5: 9, _RGB: 0}
#: Chroma subsampling in a record: 4:2:0 with two places of its samples, 4:2:2, 4:4:4.
_420 = (0, 1)
_COLOCATED, _422, _444 = 1, 2, 3
#: The largest picture and the most samples a second of a level, ten times its number, in luma samples (binding, 2.1).
_LEVELS = (
    *((10, 36_864, 829_440), (11, 73_728, 2_764_800), (20, 122_880, 4_608_000), (21, 245_760, 9_216_000)),
    *((30, 552_960, 20_736_000), (31, 983_040, 36_864_000), (40, 2_228_224, 83_558_400)),
    *((41, 2_228_224, 160_432_128), (50, 8_912_896, 311_951_360), (51, 8_912_896, 588_251_136)),
    *((52, 8_912_896, 1_176_502_272), (60, 35_651_584, 1_176_502_272), (61, 35_651_584, 2_353_004_544)),
)
_LARGEST_LEVEL, _USUAL_RATE = 62, 30


def _begins_keyframe(first: int) -> bool:
    """Whether a frame is a key frame by its first byte: show_existing_frame and frame_type are 0."""
    return not first & (0x06 if first & 0x30 == 0x30 else 0x0C)  # profile 3 has a reserved bit before them


_KEYFRAMES = frozenset(bytes([first]) for first in range(0x80, 0xC0) if _begins_keyframe(first))
_OTHERS = frozenset(bytes([first]) for first in range(0x80, 0xC0) if not _begins_keyframe(first))


class _Header(NamedTuple):
    """
    What the header of a key frame says.

    :ivar chroma: as a record has it; the one of the two of 4:2:0 that the header cannot tell is 1.
    :ivar matrix: 2 if it does not say.
    """

    profile: int
    depth: int
    chroma: int
    matrix: int
    full_range: bool
    width: int
    height: int


class Vp9Reader:
    """
    Reads the frames of one VP9 track.

    :ivar config: the configuration in force; another one behind a keyframe that says something new.
    :ivar keyframe: whether decoding may start at the frame read last.
    :ivar samples: 0: frames do not say how long they last.
    """

    __slots__ = ("_announced", "config", "keyframe", "samples")

    def __init__(self, config: VideoConfig) -> None:
        self.config = config
        self._announced = config.record
        self.keyframe = False
        self.samples = 0

    def read(self, body: bytes) -> bytes | None:
        """
        Read the body of a frames packet.

        :returns: ``body`` itself; ``None`` if there is nothing in it.
        :raises MediaError: it is no frame, or a keyframe whose header cannot be read.
        """
        first = body[:1]
        if first in _OTHERS:
            self.keyframe = False
            return body
        if first not in _KEYFRAMES:
            if not body:
                return None
            raise MediaError(f"a VP9 frame of {len(body)} bytes begins with {first.hex()}, wanted 80..bf")
        config = _make_config(_read_header(body), self._announced)
        if config != self.config:
            self.config = config
        self.keyframe = True
        return body


class Vp9Search:
    """
    Looks for a keyframe, which tells all but the level.

    :ivar is_warm: whether what was looked at last was for the configuration, and no frame was lost with it.
    """

    def __init__(self) -> None:
        self.is_warm = True

    def look_at_config(self, body: bytes) -> VideoConfig | None:  # noqa: ARG002
        """Look at the body of a sequence start that is no configuration: keyframes say what is needed."""
        return None

    def look_at_frame(self, body: bytes) -> VideoConfig | None:
        """
        Look at the body of a frames packet.

        :raises MediaError: it is a keyframe whose header cannot be read.
        """
        self.is_warm = False
        return _make_config(_read_header(body), bytes(3) + b"\2\2\2\0\0") if body[:1] in _KEYFRAMES else None


def read_vp9_config(record: bytes) -> VideoConfig:
    """
    Read a VP codec configuration record, with or without what the box has in front of it. Size comes with the first
    keyframe: width and height are 0.

    :raises MediaError: it is too short.
    """
    if record.startswith(_BOX_HEAD) and len(record) != _RECORD_SIZE:
        record = record[len(_BOX_HEAD) :]
    if len(record) < _RECORD_SIZE:
        raise MediaError(f"VP9 record of {len(record)} bytes, {_RECORD_SIZE} wanted")
    record = record[:5] + bytes([_sane_matrix(record[5], record[2] >> 1 & 7), 0, 0])
    return VideoConfig(record, _codec_string(record), 0, 0, colour=_colour_of(record))


def is_known_vp9(known: VideoConfig, fresh: VideoConfig) -> bool:
    """Whether a record says no level, primaries and transfer that are not known; all else keyframes tell."""
    points = zip(fresh.record[3:5], known.record[3:5], strict=True)
    return fresh.record[1] <= known.record[1] and all(new in (UNSPECIFIED, old) for new, old in points)


def write_vpcc(record: bytes) -> bytes:
    """The payload of ``vpcC``, a full box."""
    return _BOX_HEAD + record


def read_vpcc(payload: bytes) -> bytes:
    """The record in ``vpcC``. :raises MediaError: it is too short."""
    if len(payload) < len(_BOX_HEAD) + _RECORD_SIZE:
        raise MediaError(f"vpcC of {len(payload)} bytes, {len(_BOX_HEAD) + _RECORD_SIZE} wanted")
    return payload[len(_BOX_HEAD) :]


def _read_header(frame: bytes) -> _Header:
    """Read the uncompressed header of a key frame as far as its size (VP9 bitstream specification, 6.2)."""
    bits = BitReader(frame[:20])
    bits.u(2)  # frame_marker
    profile = bits.u(1) | bits.u(1) << 1
    bits.u(
        5 if profile == 3 else 4
    )  # a reserved bit, show_existing_frame, frame_type, show_frame, error_resilient_mode
    if bits.u(24) != _SYNC_CODE:
        raise MediaError("VP9 key frame without its sync code")
    depth = (12 if bits.flag() else 10) if profile >= 2 else 8
    space = bits.u(3)
    is_odd = bool(profile & 1)
    if space == _RGB:
        full_range, chroma = True, _444
        bits.u(is_odd)
    else:
        full_range, chroma = bits.flag(), _COLOCATED
        if is_odd:
            horizontal, vertical = bits.flag(), bits.flag()
            chroma = (_COLOCATED if vertical else _422) if horizontal else _444
            bits.u(1)
    width, height = bits.u(16) + 1, bits.u(16) + 1
    return _Header(profile, depth, chroma, _MATRICES.get(space, UNSPECIFIED), full_range, width, height)


def _make_config(header: _Header, announced: bytes) -> VideoConfig:
    """The configuration that a key frame makes, with what a record announced beside it."""
    _, level, flags, primaries, transfer, matrix = announced[:6]
    chroma = flags >> 1 & 7
    if not (chroma in _420 and header.chroma in _420):
        chroma = header.chroma
    if header.matrix != UNSPECIFIED or not matrix:  # RGB would be said by keyframes
        matrix = header.matrix
    level = max(level, _level_of(header, 0)) if level else _level_of(header, _USUAL_RATE)
    flags = header.depth << 4 | chroma << 1 | header.full_range
    record = bytes([header.profile, level, flags, primaries, transfer, matrix, 0, 0])
    return VideoConfig(record, _codec_string(record), header.width, header.height, colour=_colour_of(record))


def _sane_matrix(matrix: int, chroma: int) -> int:
    """Matrix coefficients as far as they can be true: FFmpeg announces RGB of subsampled pictures at times."""
    return UNSPECIFIED if not matrix and chroma != _444 else matrix


def _level_of(header: _Header, rate: int) -> int:
    """The lowest level that pictures of a size are of, at a rate."""
    size = header.width * header.height
    fits = (level for level, most, fastest in _LEVELS if size <= most and size * rate <= fastest)
    return next(fits, _LARGEST_LEVEL)


def _codec_string(record: bytes) -> str:
    """As in the binding, 2.4: the part about colour is there if it says other than players assume."""
    profile, level, flags, *points = record[:6]
    chroma, full_range = flags >> 1 & 7, flags & 1
    string = f"vp09.{profile:02}.{level:02}.{flags >> 4:02}"
    if chroma in _420 and not full_range and points in ([1, 1, 1], [UNSPECIFIED] * 3):
        return string
    return f"{string}.{chroma:02}.{'.'.join(f'{point:02}' for point in points)}.{full_range:02}"


def _colour_of(record: bytes) -> Colour | None:
    primaries, transfer, matrix = record[3:6]
    return known_colour(Colour(primaries, transfer, matrix, bool(record[2] & 1)))
