"""
NAL units as encoders spell them: behind lengths, behind start codes, or behind both at once.

A NAL unit never holds 00 00 01 (H.264, 7.4.1; HEVC, 7.4.2.1), and 00 00 01 may also begin a length: so start codes
split where lengths lead nowhere, and inside of units. What the units of one codec are is its :class:`NalSyntax`'s to
say.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rapidrtmp.codec.bits import remove_emulation_prevention
from rapidrtmp.codec.pieces import MOST_PIECES
from rapidrtmp.errors import MediaError, TooManyPiecesError
from rapidrtmp.media import VideoConfig

__all__ = [
    "MOST_SEI",
    "STREAM_STARTS",
    "NalSyntax",
    "SliceStart",
    "has_start_codes",
    "join_lengths",
    "payloads_of_sei",
    "read_counted",
    "split_nals",
    "split_start_codes",
]

_START_CODE = b"\0\0\1"
STREAM_STARTS = (b"\0" + _START_CODE, _START_CODE)
_LENGTH_SIZES = (4, 2, 1)
_ZEROS = bytes(4096)
_UNITS = "NAL units in an access unit"
#: Of SEI so many units of an access unit, messages of a unit, and bytes of a unit are looked at: what matters stands in
#: front, and user data may be of any size.
MOST_SEI, _MOST_SEI_MESSAGES, _MOST_SEI_BYTES = 32, 32, 1 << 16


class SliceStart(NamedTuple):
    """
    What a slice begins with.

    :ivar first_block: where in the picture it begins, in blocks; ``None`` where it does not say.
    :ivar pps_id: the parameter set that it uses.
    """

    first_block: int | None
    pps_id: int


class NalSyntax(abc.ABC):
    """
    What there is to know of one codec's NAL units, none of which is empty.

    :ivar sets: the types of parameter sets, in the order of a record: a whole configuration has one of each of
        ``needed``.
    :ivar dropped: the types that have no place in a sample: parameter sets and their like.
    :ivar slices: the types of slices.
    :ivar openers: the types that stand before the slices of their picture.
    """

    sets: tuple[int, ...]
    needed: frozenset[int]
    dropped: frozenset[int]
    slices: frozenset[int]
    openers: frozenset[int]

    @abc.abstractmethod
    def type_of(self, nal: bytes) -> int:
        """The ``nal_unit_type``."""

    @abc.abstractmethod
    def is_plausible(self, header: bytes) -> bool:
        """Whether some unit begins with these bytes, maybe fewer than a header has."""

    @abc.abstractmethod
    def begins_picture(self, nal: bytes) -> bool:
        """Whether a slice is the first of its picture."""

    @abc.abstractmethod
    def slice_start(self, nal: bytes) -> SliceStart:
        """
        Read the beginning of a slice.

        :raises MediaError: it ends within.
        """

    @abc.abstractmethod
    def references(self, nal: bytes) -> tuple[int, int]:
        """
        The id of a parameter set, by which other units name it, and of a PPS also that of its SPS; else both the same.

        :raises MediaError: it ends within.
        """

    @abc.abstractmethod
    def sets_of_record(self, record: bytes) -> tuple[int, list[bytes]]:
        """
        The size of lengths and the units, maybe none, of a configuration record.

        :raises MediaError: it is none, or ends early.
        """

    @abc.abstractmethod
    def config_of_sets(self, nals: Iterable[bytes], length_size: int = 4) -> VideoConfig:
        """
        The configuration that parameter sets make, wherever they were found; other units among them are passed over.

        :param nals: of two sets with one id the last one counts; of several SPS the first one.
        :param length_size: of the samples' lengths.
        :raises MediaError: some are missing, or the first SPS makes no picture.
        """

    def slices_of(self, nals: Iterable[bytes]) -> list[bytes]:
        """The slices among units."""
        return [nal for nal in nals if self.type_of(nal) in self.slices]

    def index_sets(self, nals: Iterable[bytes]) -> dict[tuple[int, int], bytes]:
        """
        Parameter sets by type and id, among units in whatever list they came. Zeros at their ends mean nothing.

        :raises MediaError: one ends before its id.
        """
        found = {}
        for nal in (padded.rstrip(b"\0") for padded in nals):
            if nal and self.type_of(nal) in self.sets:
                found[self.type_of(nal), self.references(nal)[0]] = nal
        return found


# ── taking access units apart ────────────────────────────────────────────────────────────────────────────────────────


def split_nals(syntax: NalSyntax, body: bytes, length_size: int) -> list[bytes]:
    """
    The NAL units of an access unit, without the empty ones, however they are put together.

    :param length_size: how many bytes lengths have, by the configuration.
    :raises MediaError: a NAL unit reaches past the end.
    """
    try:
        nals = _split_lengths(body, length_size)
    except MediaError:
        if body.startswith(STREAM_STARTS):
            return split_start_codes(body)
        mixed = _split_other_lengths(syntax, body, length_size) or _split_mixed(body, length_size)
        if not mixed:
            raise
        nals = mixed
    if any(_START_CODE in nal for nal in nals):
        if sum(nal.count(_START_CODE) for nal in nals) > MOST_PIECES:
            raise TooManyPiecesError(MOST_PIECES, _UNITS)
        return [piece for nal in nals for piece in (split_start_codes(nal) if has_start_codes(syntax, nal) else (nal,))]
    return nals


def has_start_codes(syntax: NalSyntax, nal: bytes) -> bool:
    """Whether what stands behind one length is several units: a start code in it begins another one."""
    at = nal.find(_START_CODE)
    while at >= 0:
        if at + 3 < len(nal) and syntax.is_plausible(nal[at + 3 : at + 5]):
            return True
        at = nal.find(_START_CODE, at + 3)
    return False


def split_start_codes(stream: bytes) -> list[bytes]:
    """
    Split a byte stream (annex B of H.264 and of HEVC); a NAL unit never ends in 00, so those before a start code belong
    to it.

    :raises MediaError: there are too many.
    """
    pieces = stream.split(_START_CODE, MOST_PIECES)
    if len(pieces) > MOST_PIECES:
        raise TooManyPiecesError(MOST_PIECES, _UNITS)
    return [nal for nal in map(_strip_zeros, pieces) if nal]


def join_lengths(nals: Iterable[bytes], length_size: int) -> bytes:
    """
    Put units behind their lengths.

    :raises MediaError: a unit is longer than its length can say.
    """
    pieces: list[bytes] = []
    for nal in nals:
        if len(nal) >> 8 * length_size:
            raise MediaError(f"NAL unit of {len(nal)} bytes, but lengths have {length_size} bytes")
        pieces += len(nal).to_bytes(length_size, "big"), nal
    return b"".join(pieces)


def read_counted(record: bytes, offset: int, count: int) -> tuple[list[bytes], int]:
    """
    Read NAL units of a record, each behind a u16 length.

    :returns: them, without the empty ones, and the offset of what follows.
    :raises MediaError: the record ends before they do.
    """
    nals = []
    for _ in range(count):
        start = offset + 2
        end = start + int.from_bytes(record[offset:start], "big")
        if end > len(record):
            raise MediaError(f"parameter set at byte {offset} reaches to {end}, the record has {len(record)} bytes")
        if end > start:
            nals.append(record[start:end])
        offset = end
    return nals, offset


def _split_lengths(body: bytes, length_size: int) -> list[bytes]:
    nals: list[bytes] = []
    offset = 0
    for _ in range(MOST_PIECES):
        if offset >= len(body):
            return nals
        start = offset + length_size
        end = start + int.from_bytes(body[offset:start], "big")
        if end > len(body):
            raise MediaError(f"NAL unit at byte {offset} reaches to {end}, the access unit has {len(body)} bytes")
        if end > start:
            nals.append(body[start:end])
        offset = end
    if offset < len(body):
        raise TooManyPiecesError(MOST_PIECES, _UNITS)
    return nals


def _split_other_lengths(syntax: NalSyntax, body: bytes, length_size: int) -> list[bytes]:
    """Units behind lengths of another size than the configuration says; none if that is not what it is."""
    for size in _LENGTH_SIZES:
        if size == length_size:
            continue
        try:
            nals = _split_lengths(body, size)
        except MediaError:
            continue
        is_whole = len(body) == sum(map(len, nals)) + size * len(nals)  # none is empty
        if is_whole and syntax.slices_of(nals) and all(syntax.is_plausible(nal) for nal in nals):
            return nals
    return []


def _split_mixed(body: bytes, length_size: int) -> list[bytes]:
    """Units of which the first have lengths and the others start codes; none if that is not what it is."""
    nals: list[bytes] = []
    offset = 0
    while offset < len(body) and not body.startswith(STREAM_STARTS, offset):
        start = offset + length_size
        end = start + int.from_bytes(body[offset:start], "big")
        if end > len(body) or end == start or len(nals) == MOST_PIECES:
            return []
        nals.append(body[start:end])
        offset = end
    return nals + split_start_codes(body[offset:])


def _strip_zeros(piece: bytes) -> bytes:
    """A unit without the zeros behind it, were they millions."""
    end = len(piece)
    while piece.endswith(_ZEROS, 0, end):
        end -= len(_ZEROS)
    return piece[:end].rstrip(b"\0")


# ── supplemental enhancement information ─────────────────────────────────────────────────────────────────────────────


def payloads_of_sei(data: bytes) -> Iterator[tuple[int, bytes]]:
    """
    The first messages of an SEI unit: type and payload (H.264, 7.3.2.3.1; HEVC, 7.3.5); as far as they are whole, and
    none that begins far behind.

    :param data: what is behind the unit's header.
    """
    offset, data = 0, remove_emulation_prevention(data[:_MOST_SEI_BYTES])
    for _ in range(_MOST_SEI_MESSAGES):
        if offset + 1 >= len(data):
            return
        values = []
        for _ in ("payloadType", "payloadSize"):
            value = 0
            while offset < len(data) and data[offset] == 0xFF:
                value, offset = value + 255, offset + 1
            if offset >= len(data):
                return
            values.append(value + data[offset])
            offset += 1
        payload_type, size = values
        yield payload_type, data[offset : offset + size]
        offset += size
