"""
H.264: from AVC configuration records and access units, as FLV carries them, to what an ``avc1`` track stores.

A record (ISO/IEC 14496-15, 5.3.3.1) holds the parameter sets, an access unit the slices, each as NAL units. In an
``avc1`` track the record is the only place of parameter sets, so those found in access units are taken out, and make a
new record when they say something new. Facts about the pictures are read from the sequence parameter set, SPS.

Every frame passes through :meth:`AvcReader.read`. Of most it looks at NAL unit headers only and hands back the very
object it was given; only frames that have to change are taken apart.
"""

from __future__ import annotations

from collections.abc import Iterable

from rapidrtmp.codec.avc_sps import read_sps
from rapidrtmp.codec.bits import BitReader, remove_emulation_prevention
from rapidrtmp.errors import MediaError
from rapidrtmp.media import VideoConfig

__all__ = ["AvcReader", "nal_length_size", "read_avc_config"]

# nal_unit_type (H.264, table 7-1)
_SLICE, _IDR_SLICE, _SPS, _PPS, _SPS_EXTENSION = 1, 5, 7, 8, 13
# The same as sets of bits, one for each type: what the hot loop gathers.
_SLICE_BITS = 1 << _SLICE | 1 << _IDR_SLICE
_IDR_BIT = 1 << _IDR_SLICE
_PARAMETER_SET_BITS = 1 << _SPS | 1 << _PPS | 1 << _SPS_EXTENSION

_START_CODE = b"\0\0\1"
_STREAM_STARTS = (b"\0" + _START_CODE, _START_CODE)

#: Parameter sets (whole NAL units) by type and id: a set replaces the one of its kind with its id.
_Sets = dict[tuple[int, int], bytes]


class AvcReader:
    """
    Reads the access units of one AVC track: NAL units behind lengths or, as broken encoders send them, behind start
    codes.

    :ivar config: the configuration in force; another one behind an access unit whose parameter sets are new.
    :ivar keyframe: whether the access unit read last is an IDR picture, the one kind where any decoder may start. A
        picture with a recovery point (open GOP) is none: pictures that follow may need some that came before.
    :ivar samples: 0: access units do not say how long they last.
    """

    __slots__ = ("_length_size", "config", "keyframe", "samples")

    def __init__(self, config: VideoConfig) -> None:
        self.config = config
        self.keyframe = False
        self.samples = 0
        self._length_size = nal_length_size(config)

    def read(self, body: bytes) -> bytes | None:
        """
        Read the body of a frames packet.

        Empty NAL units and parameter sets are removed, all else (SEI and delimiters too) stays byte by byte.

        :returns: the sample, NAL units behind their lengths; ``body`` itself whenever nothing had to be removed.
            ``None`` if there is no slice in it.
        :raises MediaError: a NAL unit reaches past the end, or a new parameter set cannot be used.
        """
        length_size = self._length_size
        size = len(body)
        offset = types = 0
        while offset < size:
            start = offset + length_size
            length = int.from_bytes(body[offset:start], "big")
            offset = start + length
            if offset > size or not length:
                return self._rewrite(body)
            types |= 1 << (body[start] & 0x1F)
        if types & _PARAMETER_SET_BITS:
            return self._rewrite(body)
        self.keyframe = types & _IDR_BIT != 0
        return body if types & _SLICE_BITS else None

    def _rewrite(self, body: bytes) -> bytes | None:
        """Do what :meth:`read` promises for an access unit that cannot stay as it is."""
        types = 0
        pictures, in_band = [], []
        for nal in _split_nals(body, self._length_size):
            nal_type = nal[0] & 0x1F
            if 1 << nal_type & _PARAMETER_SET_BITS:
                in_band.append(nal)
            else:
                types |= 1 << nal_type
                pictures.append(nal)
        if not types & _SLICE_BITS:
            return None
        data = _join_lengths(pictures, self._length_size)
        if in_band:
            self.config = _update_config(self.config, in_band, self._length_size) or self.config
        self.keyframe = types & _IDR_BIT != 0
        return data


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
    if record.startswith(_STREAM_STARTS):
        return _make_config(_index_sets(_split_start_codes(record)), length_size=4)
    if len(record) < 7 or record[0] != 1:
        raise MediaError(f"AVC record of {len(record)} bytes begins with {record[:1].hex() or 'nothing'}, wanted 01")
    config = _make_config(_index_sets(_split_record(record)), length_size=(record[4] & 0x03) + 1)
    nal_length_size(config)
    return config


# ── NAL units ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _split_nals(body: bytes, length_size: int) -> list[bytes]:
    """
    The NAL units of an access unit, without the empty ones.

    00 00 01 may also begin a length, so start codes are only looked for where lengths lead nowhere.
    """
    try:
        return _split_lengths(body, length_size)
    except MediaError:
        if body.startswith(_STREAM_STARTS):
            return _split_start_codes(body)
        raise


def _split_lengths(body: bytes, length_size: int) -> list[bytes]:
    nals, offset = [], 0
    while offset < len(body):
        start = offset + length_size
        end = start + int.from_bytes(body[offset:start], "big")
        if end > len(body):
            raise MediaError(f"NAL unit at byte {offset} reaches to {end}, the access unit has {len(body)} bytes")
        if end > start:
            nals.append(body[start:end])
        offset = end
    return nals


def _split_start_codes(stream: bytes) -> list[bytes]:
    """Split a byte stream (H.264, annex B); a NAL unit never ends in 00, so those before a start code belong to it."""
    return [nal for nal in (piece.rstrip(b"\0") for piece in stream.split(_START_CODE)) if nal]


def _join_lengths(nals: Iterable[bytes], length_size: int) -> bytes:
    pieces: list[bytes] = []
    for nal in nals:
        if len(nal) >> 8 * length_size:
            raise MediaError(f"NAL unit of {len(nal)} bytes, but lengths have {length_size} bytes")
        pieces += len(nal).to_bytes(length_size, "big"), nal
    return b"".join(pieces)


# ── parameter sets and the record ────────────────────────────────────────────────────────────────────────────────────

#: Profiles whose record has no chroma format and bit depths: Baseline, Main, Extended.
_PROFILES_WITHOUT_FIELDS = (66, 77, 88)


def _index_sets(nals: Iterable[bytes]) -> _Sets:
    """Find the SPS and PPS among NAL units, whatever list they came in. Zeros at their ends mean nothing."""
    sets: _Sets = {}
    for nal in (padded.rstrip(b"\0") for padded in nals):
        if nal and (nal_type := nal[0] & 0x1F) in (_SPS, _PPS):
            sets[nal_type, _read_set_id(nal)] = nal
    return sets


def _read_set_id(nal: bytes) -> int:
    """The id by which other NAL units name a parameter set (H.264, 7.3.2.1.1 and 7.3.2.2)."""
    bits = BitReader(remove_emulation_prevention(nal[1:16]))
    if nal[0] & 0x1F == _SPS:
        bits.u(24)  # profile, constraints, level
    return bits.ue()


def _split_record(record: bytes) -> list[bytes]:
    """The parameter sets of a record. What is behind the PPS tells nothing that the SPS does not."""
    sps, offset = _read_counted(record, 5, mask=0x1F)
    pps, _ = _read_counted(record, offset, mask=0xFF)
    return sps + pps


def _read_counted(record: bytes, offset: int, mask: int) -> tuple[list[bytes], int]:
    """Read NAL units, each behind a u16 length, all behind their count; and the offset of what follows."""
    if offset >= len(record):
        raise MediaError(f"AVC record of {len(record)} bytes ends before the PPS")
    count = record[offset] & mask
    nals, offset = [], offset + 1
    for _ in range(count):
        start = offset + 2
        end = start + int.from_bytes(record[offset:start], "big")
        if end > len(record):
            raise MediaError(f"parameter set at byte {offset} reaches to {end}, the record has {len(record)} bytes")
        nals.append(record[start:end])
        offset = end
    return nals, offset


def _make_config(sets: _Sets, length_size: int) -> VideoConfig:
    """The configuration that parameter sets make; the first SPS is the one that says how pictures look."""
    sps = [nal for (nal_type, _), nal in sets.items() if nal_type == _SPS]
    pps = [nal for (nal_type, _), nal in sets.items() if nal_type == _PPS]
    if not (1 <= len(sps) <= 31 and 1 <= len(pps) <= 255):
        raise MediaError(f"{len(sps)} SPS and {len(pps)} PPS in an AVC configuration, 1..31 and 1..255 make one")
    first = read_sps(sps[0])
    record = bytes([1, *sps[0][1:4], 0xFC | length_size - 1, 0xE0 | len(sps)]) + _join_lengths(sps, 2)
    record += bytes([len(pps)]) + _join_lengths(pps, 2)
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


def _update_config(config: VideoConfig, in_band: Iterable[bytes], length_size: int) -> VideoConfig | None:
    """
    The configuration with an access unit's parameter sets in it, or ``None`` if they tell nothing new.

    The first byte does not count: some encoders give a set another importance (``nal_ref_idc``) in band.
    """
    known = _index_sets(_split_record(config.record))
    fresh = {key: nal for key, nal in _index_sets(in_band).items() if known.get(key, b"")[1:] != nal[1:]}
    # The fresh ones come first, for they are in use: an encoder may change its picture and its id at once.
    return _make_config(fresh | known | fresh, length_size) if fresh else None
