"""
The picture that stored media begins with, as a fragment of one sample: what I-frame playlists list.

Nothing is kept for it. What serves a segment has the fragment that begins with the keyframe; the sample is found in
that by its header, and written anew behind a header of its own. An init segment without the other tracks belongs in
front of it. Clauses are those of ISO/IEC 14496-12.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from rapidrtmp.cmaf.boxes import box
from rapidrtmp.cmaf.reader import TrackInfo, read_boxes, read_init_segment
from rapidrtmp.errors import MediaError

__all__ = ["FirstSample", "PictureTrack", "find_first_sample", "picture_track", "track_duration", "write_picture"]

_HEADER = struct.Struct(">I4s")
_U32, _U64 = struct.Struct(">I"), struct.Struct(">Q")
#: ``moof``, ``mfhd``, ``traf``, ``tfhd``, ``tfdt``, a ``trun`` of one sample with all that can be said of it, ``mdat``.
_PICTURE = struct.Struct(">I4s I4sII I4s I4sII I4sIQ I4sIIi IIIi I4s")
_MFHD_SIZE, _TFHD_SIZE, _TFDT_SIZE, _TRUN_SIZE = 16, 16, 20, 36
_TRAF_SIZE = 8 + _TFHD_SIZE + _TFDT_SIZE + _TRUN_SIZE
_MOOF_SIZE = 8 + _MFHD_SIZE + _TRAF_SIZE
_VERSION_1 = 0x01000000
# Which fields there are: of tfhd, and of trun.
_BASE, _DESCRIPTION, _DEFAULT_DURATION, _DEFAULT_SIZE, _DEFAULT_FLAGS = 0x1, 0x2, 0x8, 0x10, 0x20
_BASE_IS_MOOF = 0x020000
_DATA_OFFSET, _FIRST_FLAGS, _DURATION, _SIZE, _FLAGS, _COMPOSITION = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800
_SYNC, _NON_SYNC_FLAG = 0x02000000, 0x00010000


class FirstSample(NamedTuple):
    """
    The first sample of a track in some media.

    :ivar decode_time: in ticks; likewise ``composition_offset``, and ``duration``, which is its own.
    :ivar start: where its bytes begin in the media, and ``size``, how many they are; they may lie beyond what was read.
    :ivar keyframe: whether it can be decoded alone.
    """

    decode_time: int
    composition_offset: int
    duration: int
    start: int
    size: int
    keyframe: bool

    @property
    def end(self) -> int:
        """Where its bytes end."""
        return self.start + self.size


class PictureTrack(NamedTuple):
    """
    The video track of an init segment.

    :ivar info: what that says of it.
    :ivar init: an init segment of it alone.
    """

    info: TrackInfo
    init: bytes


@lru_cache(maxsize=64)
def picture_track(init: bytes) -> PictureTrack | None:
    """
    The first video track of an init segment; ``None`` if there is none.

    :raises MediaError: it cannot be read.
    """
    tracks = read_init_segment(init)
    index = next((index for index, track in enumerate(tracks) if track.handler == "vide"), None)
    if index is None:
        return None
    info = tracks[index]
    pieces = []
    for each in read_boxes(init):
        if each.kind == "moov":
            pieces.append(box(b"moov", *_movie(init, each.body_offset, each.end, index, info.track_id)))
        else:
            pieces.append(init[each.offset : each.end])
    return PictureTrack(info, b"".join(pieces))


def _movie(init: bytes, start: int, end: int, index: int, track_id: int) -> Iterator[bytes]:
    """What is in ``moov``, without the other tracks."""
    traks = 0
    for each in read_boxes(init, start, end):
        if each.kind == "trak":
            traks += 1
            if traks - 1 != index:
                continue
        if each.kind == "mvex":
            children = read_boxes(init, each.body_offset, each.end)
            mine = [child for child in children if child.kind != "trex" or _id_of_trex(child.body) == track_id]
            yield box(b"mvex", *(init[child.offset : child.end] for child in mine))
        else:
            yield init[each.offset : each.end]


def _id_of_trex(body: bytes) -> int:
    return int.from_bytes(body[4:8], "big")


def find_first_sample(data: bytes, track: TrackInfo) -> FirstSample | None:
    """
    The first sample of a track in fragments; ``None`` if what is there of them has none.

    :param data: whole fragments, or how they begin: its own ``moof`` must be whole, its bytes need not be.
    :raises MediaError: they cannot be read.
    """
    return next(_samples(data, track), None)


def track_duration(data: bytes, track: TrackInfo) -> int:
    """
    How long all samples of a track last together, in ticks.

    :param data: whole fragments.
    :raises MediaError: they cannot be read.
    """
    return sum(sample.duration for sample in _samples(data, track))


def _samples(data: bytes, track: TrackInfo) -> Iterator[FirstSample]:
    """The samples of a track, fragment by fragment."""
    try:
        moof = 0
        for kind, start, end in _boxes(data, 0, len(data)):
            if kind == b"moof" and end <= len(data):
                for inner, body, stop in _boxes(data, start, end):
                    if inner == b"traf":
                        yield from _run(data, moof, body, stop, track)
            moof = end
    except (struct.error, IndexError) as error:
        raise MediaError(f"a fragment is cut short: {error}") from error


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, beginning of the payload and end of each box; the last one may end beyond the data."""
    while start + 8 <= end:
        size, kind = _HEADER.unpack_from(data, start)
        header = 8
        if size == 1:
            if start + 16 > end:
                return
            (size,), header = _U64.unpack_from(data, start + 8), 16
        if size < header:
            raise MediaError(f"box at {start}: size {size} is less than its header")
        yield kind, start + header, start + size
        start += size


def _run(data: bytes, moof: int, start: int, end: int, track: TrackInfo) -> Iterator[FirstSample]:
    """The samples of a ``traf``, if that is the track's and has any."""
    decode_time, defaults = 0, _Defaults(track.default_duration, track.default_size, track.default_keyframe)
    for kind, body, _ in _boxes(data, start, end):
        if kind == b"tfhd":
            flags, track_id = struct.unpack_from(">II", data, body)
            if track_id != track.track_id:
                return
            defaults = _read_defaults(data, body + 8, flags, defaults)
        elif kind == b"tfdt":
            is_long = data[body] == 1
            (decode_time,) = (_U64 if is_long else _U32).unpack_from(data, body + 4)
        elif kind == b"trun":
            flags, count = struct.unpack_from(">II", data, body)
            yield from _rows(data, body, flags, count, moof, decode_time, defaults)
            return  # one to a traf, as CMAF has it


class _Defaults(NamedTuple):
    duration: int
    size: int
    keyframe: bool


def _read_defaults(data: bytes, at: int, flags: int, known: _Defaults) -> _Defaults:
    """What ``tfhd`` says of all samples, where it does."""
    if flags & _BASE:
        raise MediaError("a fragment whose data lies at an offset of the file")
    at += 4 if flags & _DESCRIPTION else 0
    duration, size, keyframe = known
    if flags & _DEFAULT_DURATION:
        (duration,) = _U32.unpack_from(data, at)
        at += 4
    if flags & _DEFAULT_SIZE:
        (size,) = _U32.unpack_from(data, at)
        at += 4
    if flags & _DEFAULT_FLAGS:
        keyframe = not _U32.unpack_from(data, at)[0] & _NON_SYNC_FLAG
    return _Defaults(duration, size, keyframe)


def _rows(
    data: bytes, at: int, flags: int, count: int, moof: int, decode_time: int, defaults: _Defaults
) -> Iterator[FirstSample]:
    """The samples of a ``trun`` (8.8.8)."""
    is_signed = data[at] == 1
    at += 8
    offset, first_keyframe = 0, None
    if flags & _DATA_OFFSET:
        (offset,) = struct.unpack_from(">i", data, at)
        at += 4
    if flags & _FIRST_FLAGS:
        first_keyframe = not _U32.unpack_from(data, at)[0] & _NON_SYNC_FLAG
        at += 4
    start = moof + offset
    for index in range(count):
        duration, size, keyframe = defaults
        composition = 0
        if flags & _DURATION:
            (duration,) = _U32.unpack_from(data, at)
            at += 4
        if flags & _SIZE:
            (size,) = _U32.unpack_from(data, at)
            at += 4
        if flags & _FLAGS:
            keyframe = not _U32.unpack_from(data, at)[0] & _NON_SYNC_FLAG
            at += 4
        if flags & _COMPOSITION:
            (composition,) = struct.unpack_from(">i" if is_signed else ">I", data, at)
            at += 4
        if index == 0 and first_keyframe is not None:
            keyframe = first_keyframe
        yield FirstSample(decode_time, composition, duration, start, size, keyframe)
        decode_time += duration
        start += size


def write_picture(track: TrackInfo, sample: FirstSample, payload: bytes, number: int, duration: int) -> bytes:
    """
    A fragment of one sample.

    :param payload: the bytes of the sample.
    :param number: tells the fragments of a playlist apart, in order.
    :param duration: how long it is shown, in ticks: up to the next one.
    :raises MediaError: a value that its field cannot hold.
    """
    fields = _DATA_OFFSET | _DURATION | _SIZE | _FLAGS | _COMPOSITION
    try:
        return (
            _PICTURE.pack(
                *(_MOOF_SIZE, b"moof", _MFHD_SIZE, b"mfhd", 0, number % (1 << 32)),
                *(_TRAF_SIZE, b"traf", _TFHD_SIZE, b"tfhd", _BASE_IS_MOOF, track.track_id),
                *(_TFDT_SIZE, b"tfdt", _VERSION_1, sample.decode_time),
                *(_TRUN_SIZE, b"trun", _VERSION_1 | fields, 1, _MOOF_SIZE + 8),
                *(duration, len(payload), _SYNC, sample.composition_offset),
                *(8 + len(payload), b"mdat"),
            )
            + payload
        )
    except struct.error as error:
        raise MediaError(f"a picture at {sample.decode_time}: {error}") from error
