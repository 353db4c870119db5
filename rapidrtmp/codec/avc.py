"""
H.264: from AVC configuration records and access units, as FLV carries them, to what an ``avc1`` track stores.

A record (ISO/IEC 14496-15, 5.3.3.1) holds the parameter sets, an access unit the slices, each as NAL units. In an
``avc1`` track the record is the only place of parameter sets, so those found in access units are taken out, and make a
new record when they say something new. Facts about the pictures are read from the sequence parameter set, SPS.

Every frame passes through :meth:`AvcReader.read`. Of most it looks at NAL unit headers only and hands back the very
object it was given; only frames that have to change are taken apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rapidrtmp.codec.avc_nal import (
    IDR_SLICE,
    PPS,
    SEI,
    SLICE,
    SLICES,
    SPS,
    SPS_EXTENSION,
    STREAM_STARTS,
    begins_picture,
    join_lengths,
    nal_type,
    read_references,
    recovery_frames,
    slice_header,
    split_nals,
    split_start_codes,
)
from rapidrtmp.codec.avc_sps import read_sps
from rapidrtmp.errors import MediaError
from rapidrtmp.media import VideoConfig

__all__ = ["AvcReader", "config_of_sets", "nal_length_size", "read_avc_config", "sets_of_record"]

# Types of NAL units as sets of bits, one for each type: what the hot loop gathers.
_SLICE_BITS = 1 << SLICE | 1 << IDR_SLICE
_PARAMETER_SETS = frozenset({SPS, PPS, SPS_EXTENSION})
#: What an access unit is looked at closely for: parameter sets, keyframes, and SEI that may promise one. Type 0 is
#: none: a start code stands behind the length.
_CLOSE_BITS = 1 << SPS | 1 << PPS | 1 << SPS_EXTENSION | 1 << IDR_SLICE | 1 << SEI | 1 << 0

#: Parameter sets (whole NAL units) by type and id: a set replaces the one of its kind with its id.
_Sets = dict[tuple[int, int], bytes]


class AvcReader:
    """
    Reads the access units of one AVC track: NAL units behind lengths or, as broken encoders send them, behind start
    codes, which also stand inside of what one length covers.

    :ivar config: the configuration in force; another one behind an access unit whose parameter sets are new, or at
        which others of them come into use.
    :ivar keyframe: whether decoding may start at the access unit read last: an IDR picture, or an intra picture with a
        recovery point at itself (open GOP). Pictures decoded after that one, but shown before it, may need others.
    :ivar samples: 0: access units do not say how long they last.
    :ivar open_gops: how many keyframes in a row, up to the last one, were no IDR pictures.
    :ivar continues: whether the body read last, of which nothing was returned, continues a picture that an earlier
        one began.
    """

    __slots__ = ("_glance_size", "_length_size", "config", "continues", "keyframe", "open_gops", "samples")

    def __init__(self, config: VideoConfig) -> None:
        self.config = config
        self.keyframe = False
        self.samples = 0
        self.continues = False
        self.open_gops = 0
        self._length_size = nal_length_size(config)
        self._glance_size = self._length_size  # 0 where every access unit has to be looked at closely

    def read(self, body: bytes) -> bytes | None:
        """
        Read the body of a frames packet.

        Empty NAL units and parameter sets are removed, all else (SEI and delimiters too) stays byte by byte.

        :returns: the sample, NAL units behind their lengths; ``body`` itself whenever nothing had to be removed.
            ``None`` if no picture begins in it: it holds no slice, or only further ones.
        :raises MediaError: a NAL unit reaches past the end, or a new parameter set cannot be used.
        """
        length_size = self._glance_size
        size = len(body)
        offset = types = start = 0
        while offset < size:
            start = offset + length_size
            length = int.from_bytes(body[offset:start], "big")
            offset = start + length
            if offset > size or not length:
                return self._read_closely(body)
            types |= 1 << (body[start] & 0x1F)
        # Of one slice the first macroblock is 0, which is one bit, set: so is the top one of what follows its header.
        if types & _CLOSE_BITS or body[start + 1 : start + 2] < b"\x80":
            return self._read_closely(body)
        self.keyframe = False
        return body if types & _SLICE_BITS else self._read_closely(body)

    def _read_closely(self, body: bytes) -> bytes | None:
        """Do what :meth:`read` promises for an access unit that may not be able to stay as it is."""
        nals = split_nals(body, self._length_size)
        pictures = [nal for nal in nals if nal_type(nal) not in _PARAMETER_SETS]
        slices = [nal for nal in pictures if nal_type(nal) in SLICES]
        self.continues = bool(slices) and not begins_picture(slices[0])
        if not slices or self.continues:
            return None
        return self.read_unit(nals, body)

    def read_unit(self, nals: Sequence[bytes], body: bytes = b"") -> bytes | None:
        """
        Read the NAL units of one access unit.

        :param body: what they were found in, if it was one.
        :returns: as :meth:`read` does, ``body`` itself if it is the sample.
        :raises MediaError: a new parameter set cannot be used.
        """
        in_band = [nal for nal in nals if nal_type(nal) in _PARAMETER_SETS]
        pictures = [nal for nal in nals if nal_type(nal) not in _PARAMETER_SETS]
        slices = [nal for nal in pictures if nal_type(nal) in SLICES]
        if not slices:
            return None
        data = join_lengths(pictures, self._length_size)
        if in_band:
            self.config = _update_config(self.config, in_band, self._length_size) or self.config
        self.keyframe = _is_keyframe(pictures, slices)
        if self.keyframe:
            self.open_gops = 0 if any(nal_type(nal) == IDR_SLICE for nal in slices) else self.open_gops + 1
            self.config = _activate(self.config, slices[0], self._length_size) or self.config
        if data == body:
            return body
        if body and join_lengths(nals, self._length_size) != body:
            self._glance_size = 0  # this encoder's lengths are not to be trusted
        return data


def _is_keyframe(pictures: Sequence[bytes], slices: Sequence[bytes]) -> bool:
    """Whether decoding may start at an access unit."""
    if any(nal_type(nal) == IDR_SLICE for nal in slices):
        return True
    return any(nal_type(nal) == SEI and recovery_frames(nal) == 0 for nal in pictures) and _is_intra(slices)


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
        return config_of_sets(split_start_codes(record))
    length_size, sets = sets_of_record(record)
    config = config_of_sets(sets, length_size)
    nal_length_size(config)
    return config


def config_of_sets(nals: Iterable[bytes], length_size: int = 4) -> VideoConfig:
    """
    The configuration that parameter sets make, wherever they were found; other units among them are passed over.

    :param length_size: of the samples' lengths.
    :raises MediaError: there is no SPS or no PPS, or the first SPS makes no picture.
    """
    return _make_config(_index_sets(nals), length_size)


def sets_of_record(record: bytes) -> tuple[int, list[bytes]]:
    """
    The size of lengths and the parameter sets, maybe none, of an AVC decoder configuration record.

    :raises MediaError: it is none, or ends early.
    """
    if len(record) < 7 or record[0] > 1 or not any(record[:2]):  # version 0 is sent too
        raise MediaError(f"AVC record of {len(record)} bytes begins with {record[:1].hex() or 'nothing'}, wanted 01")
    return (record[4] & 0x03) + 1, _split_record(record)


# ── parameter sets and the record ────────────────────────────────────────────────────────────────────────────────────

#: Profiles whose record has no chroma format and bit depths: Baseline, Main, Extended.
_PROFILES_WITHOUT_FIELDS = (66, 77, 88)


def _index_sets(nals: Iterable[bytes]) -> _Sets:
    """Find the SPS and PPS among NAL units, whatever list they came in. Zeros at their ends mean nothing."""
    sets: _Sets = {}
    for nal in (padded.rstrip(b"\0") for padded in nals):
        if nal and nal_type(nal) in (SPS, PPS):
            sets[nal_type(nal), read_references(nal)[0]] = nal
    return sets


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
    """The configuration that parameter sets make; the first SPS is the one in use, which says how pictures look."""
    sps = [nal for (kind, _), nal in sets.items() if kind == SPS]
    pps = [nal for (kind, _), nal in sets.items() if kind == PPS]
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


def _update_config(config: VideoConfig, in_band: Iterable[bytes], length_size: int) -> VideoConfig | None:
    """
    The configuration with an access unit's parameter sets in it, or ``None`` if they tell nothing new.

    The first byte does not count: some encoders give a set another importance (``nal_ref_idc``) in band.
    """
    known = _index_sets(_split_record(config.record))
    fresh = {key: nal for key, nal in _index_sets(in_band).items() if known.get(key, b"")[1:] != nal[1:]}
    # The fresh ones come first, for they are most likely in use: an encoder may change its picture and its id at once.
    return _make_config(fresh | known | fresh, length_size) if fresh else None


def _activate(config: VideoConfig, first_slice: bytes, length_size: int) -> VideoConfig | None:
    """The configuration with the SPS that a picture uses as the first, or ``None`` if that is so, or unknown."""
    if config.record[5] & 0x1F == 1:
        return None
    sets = _index_sets(_split_record(config.record))
    try:
        _, _, pps_id = slice_header(first_slice)
        _, sps_id = read_references(sets[PPS, pps_id])
        used = sets[SPS, sps_id]
    except (MediaError, KeyError):
        return None
    if next(nal for (kind, _), nal in sets.items() if kind == SPS) == used:
        return None
    return _make_config({(SPS, sps_id): used} | sets, length_size)
