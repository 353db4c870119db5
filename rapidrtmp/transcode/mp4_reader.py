"""
Fragmented MP4 as a program writes it to a pipe: bytes in, the configuration and the samples of its one track out.

What comes first, the ``moov``, is left to :mod:`rapidrtmp.cmaf.reader`. Fragments come with each picture, so their few
boxes are read here. Clauses are those of ISO/IEC 14496-12.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from rapidrtmp.cmaf.reader import TrackInfo, read_init_segment
from rapidrtmp.errors import MediaError

__all__ = ["Mp4Config", "Mp4Reader", "Mp4Sample"]

_HEADER = struct.Struct(">I4s")
_U32, _I32, _I64 = struct.Struct(">I"), struct.Struct(">i"), struct.Struct(">q")
#: What a program may write; and a box that is larger holds no picture of a rung.
_KINDS = frozenset({b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"mfra", b"free"})
MAX_BOX_BYTES = 8 << 20

# tfhd (8.8.7): fields that may be there, in order, with their sizes; and those of each sample of a trun (8.8.8).
_TFHD_FIELDS = ((0x01, 8), (0x02, 4), (0x08, 4), (0x10, 4), (0x20, 4))
_DEFAULT_SIZE = 0x10
_DATA_OFFSET, _FIRST_FLAGS = 0x001, 0x004
_DURATION, _SIZE, _FLAGS, _COMPOSITION_OFFSET = 0x100, 0x200, 0x400, 0x800


class Mp4Config(NamedTuple):
    """How the samples that follow are to be decoded: by which codec, its configuration record, in ticks of a clock."""

    fourcc: str
    record: bytes
    timescale: int


class Mp4Sample(NamedTuple):
    """A sample, and when it is presented, in ticks."""

    pts: int
    data: bytes


class _Extent(NamedTuple):
    """Where a sample is in its ``mdat``."""

    pts: int
    offset: int
    size: int


class Mp4Reader:
    """Reads one stream of fragments."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._track: TrackInfo | None = None
        self._extents: list[_Extent] | None = None  # of the mdat that must follow

    def receive_data(self, data: bytes) -> None:
        """Take what has come."""
        self._pending += data

    def events(self) -> Iterator[Mp4Config | Mp4Sample]:
        """
        What has come whole, in order.

        :raises MediaError: this is no fragmented MP4 of one track.
        """
        while (box := self._take_box()) is not None:
            kind = box[4:8]
            if kind == b"moov":
                yield self._describe(box)
            elif kind == b"moof":
                self._extents = self._read_fragment(box)
            elif kind == b"mdat" and self._extents is not None:
                extents, self._extents = self._extents, None
                for extent in extents:
                    end = extent.offset + extent.size
                    if extent.offset < _HEADER.size or end > len(box):
                        raise MediaError(f"a sample of {extent.size} bytes at {extent.offset} of {len(box)}")
                    yield Mp4Sample(extent.pts, box[extent.offset : end])

    def _take_box(self) -> bytes | None:
        """The next box of the file, if it is there as a whole."""
        buffer = self._pending
        if len(buffer) < _HEADER.size:
            return None
        size, kind = _HEADER.unpack_from(buffer)
        if kind not in _KINDS or not _HEADER.size <= size <= MAX_BOX_BYTES:
            raise MediaError(f"no MP4: a box {bytes(kind)!r} of {size} bytes")
        if len(buffer) < size:
            return None
        box = bytes(buffer[:size])
        del buffer[:size]
        return box

    def _describe(self, moov: bytes) -> Mp4Config:
        tracks = read_init_segment(moov)
        if len(tracks) != 1:
            raise MediaError(f"{len(tracks)} tracks instead of one")
        self._track = tracks[0]
        return Mp4Config(self._track.fourcc, self._track.record, self._track.timescale)

    def _read_fragment(self, moof: bytes) -> list[_Extent]:
        if self._track is None:
            raise MediaError("a fragment before what describes it")
        try:
            traf = next(body for kind, body in _children(moof[_HEADER.size :]) if kind == b"traf")
            return self._read_track(traf, len(moof))
        except (StopIteration, struct.error) as error:
            raise MediaError("a fragment that is cut short") from error

    def _read_track(self, traf: bytes, moof_size: int) -> list[_Extent]:
        """The samples of a ``traf``; they are in the ``mdat`` behind the ``moof``, in their order."""
        assert self._track is not None
        size, dts, duration = self._track.default_size, 0, self._track.default_duration
        extents: list[_Extent] = []
        offset = _HEADER.size
        for kind, body in _children(traf):
            if kind == b"tfhd":
                size, duration = _read_defaults(body, size, duration)
            elif kind == b"tfdt":  # negative where pictures wait for others at the beginning of time (8.8.12)
                dts = (_I64 if body[0] else _I32).unpack_from(body, 4)[0]
            elif kind == b"trun":
                run = _Run(body, size, duration)
                offset = offset if run.data_offset is None else run.data_offset - moof_size
                for each_size, each_duration, composition in run.rows():
                    extents.append(_Extent(dts + composition, offset, each_size))
                    dts += each_duration
                    offset += each_size
        return extents


def _children(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kinds and payloads of the boxes in a box."""
    at = 0
    while at + _HEADER.size <= len(body):
        size, kind = _HEADER.unpack_from(body, at)
        if size < _HEADER.size or at + size > len(body):
            raise MediaError(f"a box {bytes(kind)!r} of {size} bytes, {len(body) - at} are left")
        yield kind, body[at + _HEADER.size : at + size]
        at += size


def _read_defaults(tfhd: bytes, size: int, duration: int) -> tuple[int, int]:
    """Size and duration of samples that say nothing themselves."""
    flags, at = _U32.unpack_from(tfhd)[0] & 0xFFFFFF, 8
    for flag, width in _TFHD_FIELDS:
        if flags & flag:
            if flag == _DEFAULT_SIZE:
                size = _U32.unpack_from(tfhd, at)[0]
            elif flag == 0x08:
                duration = _U32.unpack_from(tfhd, at)[0]
            at += width
    return size, duration


class _Run:
    """
    A ``trun``.

    :ivar data_offset: where its first sample is, from the first byte of the ``moof``; ``None`` behind the run before.
    """

    def __init__(self, body: bytes, size: int, duration: int) -> None:
        self._flags = _U32.unpack_from(body)[0] & 0xFFFFFF
        self._count = _U32.unpack_from(body, 4)[0]
        self._body = body
        self._size, self._duration = size, duration
        self._at = 8
        self.data_offset: int | None = None
        if self._flags & _DATA_OFFSET:
            self.data_offset = _I32.unpack_from(body, self._at)[0]
            self._at += 4
        if self._flags & _FIRST_FLAGS:
            self._at += 4
        row = sum(4 for flag in (_DURATION, _SIZE, _FLAGS, _COMPOSITION_OFFSET) if self._flags & flag)
        if self._count * max(row, 1) > max(len(body) - self._at, 1):
            raise MediaError(f"a run of {self._count} samples in {len(body)} bytes")

    def rows(self) -> Iterator[tuple[int, int, int]]:
        """Of each sample its size, its duration and its composition offset."""
        for _ in range(self._count):
            duration = self._field(_DURATION, _U32, self._duration)
            size = self._field(_SIZE, _U32, self._size)
            self._field(_FLAGS, _U32, 0)
            yield size, duration, self._field(_COMPOSITION_OFFSET, _I32, 0)

    def _field(self, flag: int, layout: struct.Struct, default: int) -> int:
        if not self._flags & flag:
            return default
        value: int = layout.unpack_from(self._body, self._at)[0]
        self._at += layout.size
        return value
