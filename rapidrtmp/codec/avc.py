"""
H.264: from AVC configuration records and access units, as FLV carries them, to what an ``avc1`` track stores.

A record (ISO/IEC 14496-15, 5.3.3.1) holds the parameter sets, an access unit the slices, each as NAL units. In an
``avc1`` track the record is the only place of parameter sets. Facts about the pictures are read from the sequence
parameter set, SPS.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from rapidrtmp.codec.avc_nal import (
    AUD,
    IDR_SLICE,
    LARGEST_TYPE,
    PPS,
    SEI,
    SLICE,
    SPS,
    SPS_EXTENSION,
    begins_picture,
    nal_type,
    read_references,
    recovery_frames,
    slice_header,
)
from rapidrtmp.codec.avc_sps import read_sps
from rapidrtmp.codec.nal import (
    MOST_SEI,
    STREAM_STARTS,
    NalSyntax,
    SliceStart,
    join_lengths,
    read_counted,
    split_nals,
    split_start_codes,
)
from rapidrtmp.codec.nal_reader import NalReader
from rapidrtmp.codec.nal_search import NalSearch
from rapidrtmp.codec.pieces import MOST_PIECES
from rapidrtmp.errors import MediaError
from rapidrtmp.media import VideoConfig

__all__ = ["AVC_SYNTAX", "AvcReader", "AvcSearch", "nal_length_size", "read_avc_config"]

# Types of NAL units as sets of bits, one for each type: what the hot loop gathers.
_SLICE_BITS = 1 << SLICE | 1 << IDR_SLICE
_SEI_BIT = 1 << SEI
#: What an access unit is looked at closely for: parameter sets and keyframes. Type 0 is none: a start code stands
#: behind the length.
_CLOSE_BITS = 1 << SPS | 1 << PPS | 1 << SPS_EXTENSION | 1 << IDR_SLICE | 1 << 0


class _AvcSyntax(NalSyntax):
    """The NAL units of H.264."""

    sets: tuple[int, ...] = (SPS, PPS)
    needed = frozenset({SPS, PPS})
    dropped = frozenset({SPS, PPS, SPS_EXTENSION})
    slices = frozenset({SLICE, IDR_SLICE})
    openers = frozenset({AUD, SPS, PPS, SEI, 14, 15, 16, 17, 18})  # H.264, 7.4.1.2.3

    def type_of(self, nal: bytes) -> int:
        return nal_type(nal)

    def is_plausible(self, header: bytes) -> bool:
        return header[0] < 0x80 and 1 <= nal_type(header) <= LARGEST_TYPE

    def begins_picture(self, nal: bytes) -> bool:
        return begins_picture(nal)

    def slice_start(self, nal: bytes) -> SliceStart:
        first_mb, _, pps_id = slice_header(nal)
        return SliceStart(first_mb, pps_id)

    def references(self, nal: bytes) -> tuple[int, int]:
        return read_references(nal)

    def sets_of_record(self, record: bytes) -> tuple[int, list[bytes]]:
        if len(record) < 7 or record[0] > 1 or not any(record[:2]):  # version 0 is sent too
            raise MediaError(
                f"AVC record of {len(record)} bytes begins with {record[:1].hex() or 'nothing'}, wanted 01"
            )
        return (record[4] & 0x03) + 1, _split_record(record)

    def config_of_sets(self, nals: Iterable[bytes], length_size: int = 4) -> VideoConfig:
        return _make_config(list(self.index_sets(nals).values()), length_size)


AVC_SYNTAX = _AvcSyntax()


class AvcReader(NalReader):
    """
    Reads the access units of one AVC track: see :class:`~rapidrtmp.codec.nal_reader.NalReader`.

    Decoding may start at an IDR picture, or at an intra picture with a recovery point at itself (open GOP). Pictures
    decoded after that one, but shown before it, may need others.
    """

    __slots__ = ()

    syntax = AVC_SYNTAX
    header_size = 1

    def __init__(self, config: VideoConfig) -> None:
        super().__init__(config, nal_length_size(config))

    def read(self, body: bytes) -> bytes | None:
        """See :meth:`NalReader.read <rapidrtmp.codec.nal_reader.NalReader.read>`."""
        length_size = self._glance_size
        size = len(body)
        offset = types = first = 0
        for _ in range(MOST_PIECES):
            if offset >= size:
                break
            start = offset + length_size
            length = int.from_bytes(body[offset:start], "big")
            offset = start + length
            if offset > size or not length:
                return self._read_closely(body)
            if not types & _SLICE_BITS:
                first = start
            types |= 1 << (body[start] & 0x1F)
        # Of the first slice the first macroblock is 0, which is one bit, set: the top one of what follows its header.
        if types & _CLOSE_BITS or not types & _SLICE_BITS or offset < size or body[first + 1 : first + 2] < b"\x80":
            return self._read_closely(body)
        if types & _SEI_BIT and self._promises_keyframe(body):
            return self._read_closely(body)
        self.keyframe = False
        return body

    def _promises_keyframe(self, body: bytes) -> bool:
        """Whether an SEI unit says that all is right from here on; units lie behind lengths."""
        units = split_nals(AVC_SYNTAX, body, self.length_size)
        return _is_recovery(units)

    def _judge(self, pictures: Sequence[bytes], slices: Sequence[bytes]) -> bool:
        if any(nal_type(nal) == IDR_SLICE for nal in slices):
            self.open_gops = 0
            return True
        if _is_recovery(pictures) and _is_intra(slices):
            self.open_gops += 1
            return True
        return False


class AvcSearch(NalSearch):
    """Looks for the parameter sets of one AVC track."""

    syntax = AVC_SYNTAX


def _is_recovery(nals: Iterable[bytes]) -> bool:
    """Whether one of the first SEI units says that all is right from here on."""
    sei = (nal for nal in nals if nal_type(nal) == SEI)
    return any(recovery_frames(nal) == 0 for nal in islice(sei, MOST_SEI))


def _is_intra(slices: Sequence[bytes]) -> bool:
    """Whether a picture's slices are intra coded; of two fields, the first one's."""
    try:
        for number, nal in enumerate(slices):
            if number and begins_picture(nal):
                break
            if not slice_header(nal)[1]:
                return False
    except MediaError:
        return False
    return True


def nal_length_size(config: VideoConfig) -> int:
    """
    How many bytes a NAL unit's length has in this track's samples: 1, 2 or 4.

    :raises MediaError: the record says 3, which its specification reserves.
    """
    size = (config.record[4] & 0x03) + 1
    if size == 3:
        raise MediaError("AVC record with NAL unit lengths of 3 bytes; 1, 2 and 4 exist")
    return size


def read_avc_config(record: bytes) -> VideoConfig:
    """
    Read an AVC decoder configuration record, or the parameter sets behind start codes that broken encoders send.

    The config's ``record`` is written anew from the parameter sets, so it is always whole and says the same the same
    way: many muxers leave out the fields that High profiles have at its end, and some encoders leave profile or
    reserved bits 0. A proper record comes out as it went in, but for SPS extensions (alpha planes), which are dropped.

    :raises MediaError: there is no SPS or no PPS, it ends early, or the first SPS makes no picture.
    """
    if record.startswith(STREAM_STARTS):
        return AVC_SYNTAX.config_of_sets(split_start_codes(record))
    length_size, sets = AVC_SYNTAX.sets_of_record(record)
    config = AVC_SYNTAX.config_of_sets(sets, length_size)
    nal_length_size(config)
    return config


# ── parameter sets and the record ────────────────────────────────────────────────────────────────────────────────────

#: Profiles whose record has no chroma format and bit depths: Baseline, Main, Extended.
_PROFILES_WITHOUT_FIELDS = (66, 77, 88)


def _split_record(record: bytes) -> list[bytes]:
    """The parameter sets of a record. What is behind the PPS tells nothing that the SPS does not."""
    sps, offset = read_counted(record, 6, record[5] & 0x1F)
    if offset >= len(record):
        raise MediaError(f"AVC record of {len(record)} bytes ends before the PPS")
    pps, _ = read_counted(record, offset + 1, record[offset])
    return sps + pps


def _make_config(sets: Sequence[bytes], length_size: int) -> VideoConfig:
    """The configuration that parameter sets make; the first SPS is the one in use, which says how pictures look."""
    sps = [nal for nal in sets if nal_type(nal) == SPS]
    pps = [nal for nal in sets if nal_type(nal) == PPS]
    if not (1 <= len(sps) <= 31 and 1 <= len(pps) <= 255):
        raise MediaError(f"{len(sps)} SPS and {len(pps)} PPS in an AVC configuration, 1..31 and 1..255 make one")
    first = read_sps(sps[0])
    record = bytes([1, *sps[0][1:4], 0xFC | length_size - 1, 0xE0 | len(sps)]) + join_lengths(sps, 2)
    record += bytes([len(pps)]) + join_lengths(pps, 2)
    if first.profile not in _PROFILES_WITHOUT_FIELDS:
        record += bytes([0xFC | first.chroma_format, 0xF8 | first.luma_depth - 8, 0xF8 | first.chroma_depth - 8, 0])
    return VideoConfig(
        record=record,
        codec_string=f"avc1.{record[1:4].hex()}",
        width=first.width,
        height=first.height,
        pixel_aspect=first.usability.pixel_aspect,
        frame_rate=first.usability.frame_rate,
        colour=first.usability.colour,
    )
