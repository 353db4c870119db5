"""
A fragment: the samples of a part, as one ``moof`` that describes them and one ``mdat`` that holds them.

This runs several times a second for every stream, so it is written as a few wide ``struct`` templates instead of one
call per box, and never copies a payload: the caller joins the pieces once, when the bytes are wanted. Clauses are
those of ISO/IEC 14496-12.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from rapidrtmp.errors import MediaError, MisuseError
from rapidrtmp.interfaces import TrackRun
from rapidrtmp.media import MediaKind

__all__ = ["DescribedRun", "join_runs", "write_fragment"]

#: ``moof`` and ``mfhd`` (8.8.4, 8.8.5): size, kind | size, kind, version and flags, sequence number.
_MOOF = struct.Struct(">I4s I4sII")
#: ``traf`` and the part of ``tfhd`` that is always there (8.8.6, 8.8.7): size, kind | size, kind, flags, track id.
_TRAF = struct.Struct(">I4s I4sII")
#: ``tfdt`` version 1, and ``trun`` up to its table (8.8.12, 8.8.8):
#: size, kind, version and flags, base decode time | size, kind, version and flags, sample count, data offset.
_TFDT_TRUN = struct.Struct(">I4sIQ I4sIIi")
_MDAT = struct.Struct(">I4s")
_TFHD_SIZE, _TFDT_SIZE, _TRUN_SIZE = 16, 20, 20

# Flags of tfhd and trun: which fields there are.
_DEFAULT_BASE_IS_MOOF, _DEFAULT_DURATION, _DEFAULT_FLAGS = 0x020000, 0x000008, 0x000020
_DATA_OFFSET, _DURATION, _SIZE, _FLAGS, _COMPOSITION_OFFSET = 0x001, 0x100, 0x200, 0x400, 0x800
_VIDEO_FIELDS = _DATA_OFFSET | _DURATION | _SIZE | _FLAGS | _COMPOSITION_OFFSET
#: Beside those flags in one u32. In tfdt: a decode time of 64 bits; in trun: composition offsets are signed.
_VERSION_1 = 0x01000000

#: Sample flags (8.8.3.1): it depends on no other sample; it depends on others and is no place to start.
_SYNC, _NON_SYNC = 0x02000000, 0x01010000


class _Fields(NamedTuple):
    """
    What describes the samples of a run: which fields, and the fields themselves as bytes.

    :ivar payloads: what is described; ``size`` bytes in all.
    """

    tfhd_flags: int
    defaults: bytes
    trun_flags: int
    table: bytes
    payloads: Sequence[bytes]
    size: int

    @property
    def traf_size(self) -> int:
        return _TRAF.size + len(self.defaults) + _TFDT_TRUN.size + len(self.table)


class DescribedRun(TrackRun):
    """
    A run that is described once, however many fragments it is written into: a part's, a recording's.

    :ivar known: what describes its samples, if that was asked for already.
    """

    known: _Fields | None = None

    @property
    def described(self) -> _Fields:
        """What describes its samples."""
        if self.known is None:
            self.known = _describe(self)
        return self.known


def join_runs(run: TrackRun, after: TrackRun) -> TrackRun:
    """A run and the one that continues it, as one; what is known of both is known of it."""
    joined = DescribedRun(run.track, [*run.samples, *after.samples])
    first = run.known if isinstance(run, DescribedRun) else None
    second = after.known if isinstance(after, DescribedRun) else None
    if first is not None and second is not None and first[:3] == second[:3]:
        joined.known = first._replace(
            table=first.table + second.table,
            payloads=[*first.payloads, *second.payloads],
            size=first.size + second.size,
        )
    return joined


def write_fragment(sequence_number: int, runs: Sequence[TrackRun], shift_s: int = 0) -> list[bytes]:
    """
    Write one ``moof`` + ``mdat``: the pieces, in order, of a part.

    :param sequence_number: one more than in the fragment before (8.8.5), from 1.
    :param runs: one per track, none of them empty; each begins at the decode time of its first frame.
    :param shift_s: whole seconds, which every timescale can say exactly, that decode times are moved back by; none
        becomes negative.
    :returns: the ``moof`` and the header of the ``mdat`` as one piece, then the payload of every frame, run after run,
        the very objects that came in.
    :raises MediaError: a time, size or offset that its field cannot hold; above all, payloads that reach 2 GiB before
        the last run begins, or 4 GiB together.
    :raises MisuseError: no runs, or an empty one.
    """
    if not runs or not all(run.samples for run in runs):
        raise MisuseError(f"fragment {sequence_number} has an empty run, or no run at all")
    try:
        return _write_fragment(sequence_number, runs, shift_s)
    except struct.error as error:
        raise MediaError(f"fragment {sequence_number}: a value does not fit its field: {error}") from error


def _write_fragment(sequence_number: int, runs: Sequence[TrackRun], shift_s: int) -> list[bytes]:
    """The same, with ``struct.error`` for what does not fit."""
    described = [run.described if isinstance(run, DescribedRun) else _describe(run) for run in runs]
    moof_size = _MOOF.size + sum([fields.traf_size for fields in described])
    data_offset = moof_size + _MDAT.size  # from the first byte of the moof, as default-base-is-moof says
    head = [_MOOF.pack(moof_size, b"moof", 16, b"mfhd", 0, sequence_number)]
    payloads: list[bytes] = []
    for run, fields in zip(runs, described, strict=True):
        head += _traf(run, fields, data_offset, shift_s)
        payloads += fields.payloads
        data_offset += fields.size
    head.append(_MDAT.pack(data_offset - moof_size, b"mdat"))
    return [b"".join(head), *payloads]


def _traf(run: TrackRun, fields: _Fields, data_offset: int, shift_s: int) -> tuple[bytes, bytes, bytes, bytes]:
    """One track's fragment: ``traf`` with ``tfhd``, ``tfdt`` and one ``trun`` (8.8.6), as pieces."""
    tfhd_size, trun_size = _TFHD_SIZE + len(fields.defaults), _TRUN_SIZE + len(fields.table)
    tfhd_flags, track_id = _DEFAULT_BASE_IS_MOOF | fields.tfhd_flags, run.track.id
    trun_flags, base_decode_time = _VERSION_1 | fields.trun_flags, run.samples[0].frame.dts
    if shift_s:
        base_decode_time = max(0, base_decode_time - shift_s * run.track.timescale)
    return (
        _TRAF.pack(fields.traf_size, b"traf", tfhd_size, b"tfhd", tfhd_flags, track_id),
        fields.defaults,
        _TFDT_TRUN.pack(
            *(_TFDT_SIZE, b"tfdt", _VERSION_1, base_decode_time),
            *(trun_size, b"trun", trun_flags, len(run.samples), data_offset),
        ),
        fields.table,
    )


def _describe(run: TrackRun) -> _Fields:
    """Choose the fields: all of them for each video sample; for audio no more than sizes, if durations are equal."""
    samples = run.samples
    payloads = [frame.data for frame, _ in samples]
    sizes = list(map(len, payloads))
    durations = [duration for _, duration in samples]
    if run.track.kind is MediaKind.VIDEO:
        flags = [_SYNC if frame.keyframe else _NON_SYNC for frame, _ in samples]
        offsets = [frame.composition_offset for frame, _ in samples]
        described = 0, b"", _VIDEO_FIELDS, _table("IIIi", durations, sizes, flags, offsets)
    elif len(set(durations)) == 1:
        defaults = struct.pack(">II", durations[0], _SYNC)
        described = _DEFAULT_DURATION | _DEFAULT_FLAGS, defaults, _DATA_OFFSET | _SIZE, _table("I", sizes)
    else:
        defaults = struct.pack(">I", _SYNC)
        described = _DEFAULT_FLAGS, defaults, _DATA_OFFSET | _DURATION | _SIZE, _table("II", durations, sizes)
    return _Fields(*described, payloads, sum(sizes))


def _table(row_format: str, *columns: Sequence[int]) -> bytes:
    """The rows of a ``trun``, packed in one go."""
    return struct.pack(">" + row_format * len(columns[0]), *chain.from_iterable(zip(*columns, strict=True)))
