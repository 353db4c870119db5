"""
Slices of H.264 with other headers: as if an IDR picture stood where the encoder sent none.

Pictures are numbered from the last IDR picture on, in the order of decoding (``frame_num``) and in that of presentation
(``pic_order_cnt_lsb``), and what refers to other pictures does so by differences. So those behind an intra picture that
has become an IDR picture get smaller numbers. The fields have a fixed width, and what follows stays where it is. The
length of a header changes in two cases: of the IDR picture itself, and where a picture has decoders let go of others
from before it, which are gone. Behind a header CABAC data is aligned to bytes, and CAVLC data is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from rapidrtmp.codec.avc import AVC_SYNTAX
from rapidrtmp.codec.avc_nal import IDR_SLICE, PPS, SPS, nal_type, read_references
from rapidrtmp.codec.avc_sps import Numbering, read_numbering
from rapidrtmp.codec.bits import BitReader, remove_emulation_prevention
from rapidrtmp.codec.nal import split_nals
from rapidrtmp.errors import MediaError
from rapidrtmp.media import VideoConfig

__all__ = ["Numbers", "SliceWriter", "avc_follows"]

_NEEDS_PREVENTION = re.compile(rb"\0\0(?=[\0-\3])")
#: Of a slice so much is read for its first numbers: they fit in with room to spare.
_START_SIZE = 24
_P, _B, _I = range(3)
#: memory_management_control_operation (H.264, table 7-9): those that are about a picture by a difference; and how many
#: values stand behind each. 5, which begins all numbers anew, is left alone.
_BY_DIFFERENCE = (1, 3)
_OPERANDS = {1: 1, 2: 1, 3: 2, 4: 1, 6: 1}


class Numbers(NamedTuple):
    """The numbers of a picture: ``frame_num``, and ``pic_order_cnt_lsb`` where the stream has it, or 0."""

    frame: int = 0
    order: int = 0


class _Pps(NamedTuple):
    """What the headers of slices depend on, of a picture parameter set and of the SPS behind it."""

    numbering: Numbering
    is_cabac: bool
    has_bottom_order: bool
    references: tuple[int, int]
    is_weighted: bool
    bi_weighting: int
    has_deblocking: bool
    has_redundant: bool


class _Header(NamedTuple):
    """
    A slice header (H.264, 7.3.3). Places are counted in bits from the front of the NAL unit.

    :ivar is_field: whether it is of a field, not of a frame.
    :ivar bottom: ``delta_pic_order_cnt_bottom``, or 0.
    :ivar marking: the operations on references, each with its operands; ``None`` where there are none to choose.
    """

    pps: _Pps
    slice_type: int
    is_field: bool
    numbers: Numbers
    bottom: int
    frame_at: int
    order_at: int
    marking_at: int
    marking: list[tuple[int, ...]] | None
    rest_at: int
    data_at: int


class SliceWriter:
    """
    Writes the slices of one track anew.

    :param sets: its parameter sets, as NAL units.
    :raises MediaError: one ends early, or pictures are made in ways that are left alone: in slice groups, or with 4:4:4
        chroma.
    """

    def __init__(self, sets: Iterable[bytes]) -> None:
        sets = list(sets)
        numberings = {read_references(nal)[0]: read_numbering(nal) for nal in sets if nal_type(nal) == SPS}
        self._pps = dict(_read_pps(nal, numberings) for nal in sets if nal_type(nal) == PPS)

    def numbers(self, nal: bytes) -> Numbers:
        """
        From which the numbers of those behind it count if the picture of this slice becomes an IDR picture.

        :raises MediaError: it ends early, or uses a parameter set that is not there.
        """
        header = self.read(remove_emulation_prevention(nal))
        return header.numbers._replace(order=header.numbers.order + min(0, header.bottom))

    def as_idr(self, nal: bytes, idr_id: int) -> bytes:
        """
        A slice of an intra picture as one of an IDR picture.

        :param idr_id: 0 or 1; IDR pictures in a row have different ones.
        :raises MediaError: as :meth:`numbers`; or it is no intra picture of a whole frame that others refer to.
        """
        data = remove_emulation_prevention(nal)
        header = self.read(data)
        if header.slice_type != _I or header.is_field or not data[0] & 0x60:
            raise MediaError("only an intra picture that others refer to can become an IDR picture")
        numbering, bits = header.pps.numbering, _Bits()
        bits.put(data[0] & 0xE0 | IDR_SLICE, 8)
        bits.copy(data, 8, header.frame_at)
        bits.put(0, numbering.frame_bits)
        bits.put(0, int(numbering.has_fields))  # field_pic_flag
        bits.ue(idr_id)
        bits.put(max(0, -header.bottom), numbering.order_bits)
        bits.copy(data, header.order_at + numbering.order_bits, header.marking_at)
        bits.put(0, 2)  # no_output_of_prior_pics_flag, long_term_reference_flag
        return _with_data(bits, data, header)

    def renumber(self, nal: bytes, base: Numbers, *, is_early: bool) -> bytes:
        """
        A slice that is of no IDR picture, with its numbers counted from those of another picture.

        :param is_early: whether so few pictures are behind that one that ``frame_num`` has not wrapped: what a
            difference then leads to from before it is gone.
        :raises MediaError: as :meth:`numbers`.
        """
        data = remove_emulation_prevention(nal)
        header = self.read(data)
        numbering = header.pps.numbering
        frame = (header.numbers.frame - base.frame) % (1 << numbering.frame_bits)
        order = (header.numbers.order - base.order) % (1 << numbering.order_bits)
        bits = _Bits()
        bits.copy(data, 0, header.frame_at)
        bits.put(frame, numbering.frame_bits)
        bits.copy(data, header.frame_at + numbering.frame_bits, header.order_at)
        bits.put(order, numbering.order_bits)
        at = header.order_at + numbering.order_bits
        kept = header.marking
        if kept is not None and is_early:
            reach = 2 * frame + 1 if header.is_field else frame
            kept = [each for each in kept if each[0] not in _BY_DIFFERENCE or each[1] < reach]
        if kept == header.marking:
            bits.copy(data, at, 8 * len(data))
            return _escaped(bits.bytes())
        bits.copy(data, at, header.marking_at)
        bits.put(1, 1)  # adaptive_ref_pic_marking_mode_flag
        for value in (*(value for each in kept or () for value in each), 0):
            bits.ue(value)
        return _with_data(bits, data, header)

    def read(self, data: bytes, *, is_start: bool = False) -> _Header:
        """
        Read a slice header.

        :param is_start: no further than ``frame_num``; otherwise it is of no IDR picture.
        """
        bits = BitReader(data)
        size = bits.bits_left
        is_reference = bool(bits.u(8) & 0x60)
        bits.ue()  # first_mb_in_slice
        slice_type = bits.ue() % 5
        pps = self._pps.get(bits.ue())
        if pps is None or slice_type > _I:
            raise MediaError("a slice of a kind, or with a PPS, that is not known")
        numbering = pps.numbering
        frame_at = size - bits.bits_left
        frame = bits.u(numbering.frame_bits)
        if is_start:
            return _Header(pps, slice_type, False, Numbers(frame), 0, frame_at, 0, 0, None, 0, 0)
        is_field = numbering.has_fields and bits.flag()
        if is_field:
            bits.u(1)  # bottom_field_flag
        order_at = size - bits.bits_left
        order = bits.u(numbering.order_bits)
        has_bottom = pps.has_bottom_order and not is_field
        bottom = 0
        if numbering.order_bits:
            bottom = bits.se() if has_bottom else 0
        elif numbering.has_order_deltas:
            for _ in range(1 + has_bottom):
                bits.se()
        if pps.has_redundant and bits.ue():
            raise MediaError("a redundant picture")
        _skip_predictions(bits, pps, slice_type)
        marking_at = size - bits.bits_left
        marking = _read_marking(bits) if is_reference else None
        rest_at = size - bits.bits_left
        if pps.is_cabac and slice_type != _I:
            bits.ue()  # cabac_init_idc
        bits.se()  # slice_qp_delta
        if pps.has_deblocking and bits.ue() != 1:
            bits.se()
            bits.se()
        numbers = Numbers(frame, order)
        data_at = size - bits.bits_left
        return _Header(
            pps, slice_type, is_field, numbers, bottom, frame_at, order_at, marking_at, marking, rest_at, data_at
        )


def avc_follows(config: VideoConfig, before: bytes, after: bytes) -> bool:
    """
    Whether no picture that others refer to is missing between two samples of a track, as far as their numbers tell.

    :param after: of no IDR picture. ``frame_num`` rises by 1 behind each picture that others refer to (H.264, 7.4.3).
    """
    length_size, sets = AVC_SYNTAX.sets_of_record(config.record)
    try:
        writer = SliceWriter(sets)
        (last, earlier), (_, later) = (_first_slice(writer, data, length_size) for data in (before, after))
    except MediaError:
        return True
    if earlier.pps.numbering.has_gaps:
        return True
    is_reference = bool(last[0] & 0x60)
    first = 0 if nal_type(last) == IDR_SLICE else earlier.numbers.frame
    return later.numbers.frame == (first + is_reference) % (1 << later.pps.numbering.frame_bits)


def _first_slice(writer: SliceWriter, data: bytes, length_size: int) -> tuple[bytes, _Header]:
    for nal in split_nals(AVC_SYNTAX, data, length_size):
        if nal_type(nal) in AVC_SYNTAX.slices:
            return nal, writer.read(remove_emulation_prevention(nal[:_START_SIZE]), is_start=True)
    raise MediaError("a sample without slices")


def _skip_predictions(bits: BitReader, pps: _Pps, slice_type: int) -> None:
    """Pass over what a header says of the references of predictions."""
    if slice_type == _I:
        return
    if slice_type == _B:
        bits.u(1)  # direct_spatial_mv_pred_flag
    counts = list(pps.references)
    if bits.flag():  # num_ref_idx_active_override_flag
        counts = [bits.ue() + 1 for _ in range(1 + (slice_type == _B))]
    counts = counts[: 1 + (slice_type == _B)]
    for _ in counts:
        if bits.flag():  # ref_pic_list_modification_flag
            while bits.ue() != 3:
                bits.ue()
    if (slice_type == _P and pps.is_weighted) or (slice_type == _B and pps.bi_weighting == 1):
        _skip_weights(bits, counts, has_chroma=pps.numbering.has_chroma)


def _skip_weights(bits: BitReader, counts: list[int], *, has_chroma: bool) -> None:
    bits.ue()  # luma_log2_weight_denom
    if has_chroma:
        bits.ue()
    for count in counts:
        if count > 32:
            raise MediaError(f"{count} references, 32 are allowed")
        for _ in range(count):
            for values in (2, 4) if has_chroma else (2,):
                if bits.flag():
                    for _ in range(values):
                        bits.se()


def _read_marking(bits: BitReader) -> list[tuple[int, ...]] | None:
    """Which references a picture lets go of (H.264, 7.3.3.3), if it says so itself."""
    if not bits.flag():
        return None
    operations: list[tuple[int, ...]] = []
    while operation := bits.ue():
        if operation not in _OPERANDS:
            raise MediaError(f"memory management control operation {operation}")
        operations.append((operation, *(bits.ue() for _ in range(_OPERANDS[operation]))))
    return operations


def _read_pps(nal: bytes, numberings: dict[int, Numbering]) -> tuple[int, _Pps]:
    """The id of a picture parameter set (H.264, 7.3.2.2), and what is needed of it."""
    bits = BitReader(remove_emulation_prevention(nal[1:]))
    pps_id, sps_id = bits.ue(), bits.ue()
    if sps_id not in numberings:
        raise MediaError(f"PPS {pps_id} uses SPS {sps_id}, which is not there")
    is_cabac, has_bottom_order = bits.flag(), bits.flag()
    if bits.ue():
        raise MediaError("pictures in slice groups are left as they are")
    references = bits.ue() + 1, bits.ue() + 1
    is_weighted, bi_weighting = bits.flag(), bits.u(2)
    for _ in range(3):
        bits.se()  # quantisers
    has_deblocking = bits.flag()
    bits.u(1)  # constrained_intra_pred_flag
    has_redundant = bits.flag()
    return pps_id, _Pps(
        numberings[sps_id],
        is_cabac,
        has_bottom_order,
        references,
        is_weighted,
        bi_weighting,
        has_deblocking,
        has_redundant,
    )


# ── bits ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Bits:
    """Bits that are put together."""

    def __init__(self) -> None:
        self._value = self.size = 0

    def put(self, value: int, width: int) -> None:
        """Add a number of so many bits."""
        self._value, self.size = self._value << width | value, self.size + width

    def ue(self, value: int) -> None:
        """Add a number as an Exp-Golomb code."""
        self.put(value + 1, 2 * (value + 1).bit_length() - 1)

    def copy(self, data: bytes, start: int, end: int) -> None:
        """Add the bits of ``data`` from one to before another."""
        last = (end + 7) >> 3
        window = int.from_bytes(data[start >> 3 : last], "big")
        self.put(window >> (8 * last - end) & ((1 << (end - start)) - 1), end - start)

    def bytes(self) -> bytes:
        """The bytes they make, of which the last is filled up with zeros."""
        return (self._value << -self.size % 8).to_bytes(-(-self.size // 8), "big")


def _with_data(bits: _Bits, data: bytes, header: _Header) -> bytes:
    """A header that is written up to its end but for what says nothing of other pictures, with that and its data."""
    if not header.pps.is_cabac:
        bits.copy(data, header.rest_at, 8 * len(data))
        return _escaped(bits.bytes().rstrip(b"\0"))
    bits.copy(data, header.rest_at, header.data_at)
    missing = -bits.size % 8
    bits.put((1 << missing) - 1, missing)
    return _escaped(bits.bytes() + data[-(-header.data_at // 8) :])


def _escaped(data: bytes) -> bytes:
    """A NAL unit with emulation prevention (H.264, 7.4.1)."""
    return _NEEDS_PREVENTION.sub(b"\0\0\3", data)
