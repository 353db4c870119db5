"""
HEVC: from configuration records and access units, as FLV carries them, to what an ``hvc1`` track stores.

A record (ISO/IEC 14496-15, 8.3.3.1) holds the parameter sets, an access unit the slices, each as NAL units. In an
``hvc1`` track the record is the only place of parameter sets. It is written anew from them, so it always says the same
the same way: complete arrays in one order, and of the SEI in it only what holds for all pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from rapidrtmp.codec.bits import add_emulation_prevention
from rapidrtmp.codec.hdr import (
    LIGHT_PAYLOAD,
    MASTERING_PAYLOAD,
    read_light,
    read_mastering,
    write_light,
    write_mastering,
)
from rapidrtmp.codec.hevc_nal import (
    AUD,
    CRA,
    HEADER_SIZE,
    IRAPS,
    LARGEST_TYPE,
    LEADING_SKIPPED,
    PPS,
    PREFIX_SEI,
    SLICES,
    SPS,
    SUFFIX_SEI,
    VPS,
    begins_picture,
    nal_type,
    pps_of_slice,
    read_references,
    sei_payloads,
)
from rapidrtmp.codec.hevc_sps import Profile, Sps, read_sps
from rapidrtmp.codec.nal import (
    MOST_SEI,
    STREAM_STARTS,
    NalSyntax,
    SliceStart,
    join_lengths,
    read_counted,
    split_start_codes,
)
from rapidrtmp.codec.nal_reader import NalReader
from rapidrtmp.codec.nal_search import NalSearch
from rapidrtmp.codec.pieces import MOST_PIECES
from rapidrtmp.errors import MediaError
from rapidrtmp.media import ContentLight, MasteringDisplay, VideoConfig

__all__ = ["HEVC_SYNTAX", "HevcReader", "HevcSearch", "is_known_hevc", "read_hevc_config"]

_HEAD_SIZE = 23
#: What an access unit may hold without being looked at closely, as bits by type: slices of pictures that are no place
#: to start and need none but those, SEI and delimiters.
_PLAIN_BITS = sum(1 << kind for kind in (*range(8), AUD, PREFIX_SEI, SUFFIX_SEI))
_SLICE_BITS = sum(1 << kind for kind in range(8))
_CLOSE_BITS = ((1 << 128) - 1) ^ _PLAIN_BITS


class _HevcSyntax(NalSyntax):
    """The NAL units of HEVC."""

    sets: tuple[int, ...] = (VPS, SPS, PPS)
    needed = frozenset({SPS, PPS})
    dropped = frozenset({VPS, SPS, PPS})
    slices = SLICES
    openers = frozenset({VPS, SPS, PPS, AUD, PREFIX_SEI, *range(41, 45), *range(48, 56)})  # H.265, 7.4.2.4.4

    def type_of(self, nal: bytes) -> int:
        return nal_type(nal)

    def is_plausible(self, header: bytes) -> bool:
        # The forbidden bit is 0, so is the layer; the temporal id plus one is not.
        is_whole = len(header) >= HEADER_SIZE and not header[0] & 0x81 and 0 < header[1] < 8
        return is_whole and nal_type(header) <= LARGEST_TYPE

    def begins_picture(self, nal: bytes) -> bool:
        return begins_picture(nal)

    def slice_start(self, nal: bytes) -> SliceStart:
        return SliceStart(0 if begins_picture(nal) else None, pps_of_slice(nal))

    def references(self, nal: bytes) -> tuple[int, int]:
        return read_references(nal)

    def sets_of_record(self, record: bytes) -> tuple[int, list[bytes]]:
        if len(record) < _HEAD_SIZE or record[0] > 1 or not any(record[:2]):
            raise MediaError(
                f"HEVC record of {len(record)} bytes begins with {record[:1].hex() or 'nothing'}, wanted 01"
            )
        nals: list[bytes] = []
        offset = _HEAD_SIZE
        for _ in range(record[_HEAD_SIZE - 1]):
            if offset + 3 > len(record):
                raise MediaError(f"HEVC record of {len(record)} bytes ends within its arrays")
            found, offset = read_counted(record, offset + 3, int.from_bytes(record[offset + 1 : offset + 3], "big"))
            nals += found
        return (record[21] & 0x03) + 1, nals

    def config_of_sets(self, nals: Iterable[bytes], length_size: int = 4) -> VideoConfig:
        nals = list(nals)
        return _make_config(list(self.index_sets(nals).values()), *_brightness(nals), length_size)


HEVC_SYNTAX = _HevcSyntax()


class HevcReader(NalReader):
    """
    Reads the access units of one HEVC track: see :class:`~rapidrtmp.codec.nal_reader.NalReader`.

    Decoding may start at an IDR, BLA or CRA picture. Behind a CRA picture there may be some, decoded after it but shown
    before it, that need others from before (RASL): then its GOP is open.
    """

    __slots__ = ("_is_open",)

    syntax = HEVC_SYNTAX
    header_size = HEADER_SIZE

    def __init__(self, config: VideoConfig) -> None:
        super().__init__(config, _length_size(config))
        self._is_open = False  # the GOP that the last keyframe began

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
            # The second byte of a header is never 0: a start code stands behind the length.
            if offset > size or length < 3 or not body[start + 1]:
                return self._read_closely(body)
            if not types & _SLICE_BITS:
                first = start
            types |= 1 << (body[start] >> 1)
        # The first bit of a slice says whether it is its picture's first.
        if types & _CLOSE_BITS or not types & _SLICE_BITS or offset < size or body[first + 2] < 0x80:
            return self._read_closely(body)
        self.keyframe = False
        return body

    def _judge(self, pictures: Sequence[bytes], slices: Sequence[bytes]) -> bool:  # noqa: ARG002
        kind = nal_type(slices[0])
        if kind in IRAPS:
            if kind != CRA or not self._is_open:
                self.open_gops = 0
            self._is_open = False
            return True
        if kind in LEADING_SKIPPED and not self._is_open:
            self._is_open = True
            self.open_gops += 1
        return False

    def _activate(self, pictures: Sequence[bytes], first_slice: bytes) -> VideoConfig | None:
        config = super()._activate(pictures, first_slice) or self.config
        mastering, light = _brightness(pictures)
        brightness = mastering or config.mastering, light or config.light
        if brightness == (config.mastering, config.light):
            return config
        _, nals = HEVC_SYNTAX.sets_of_record(config.record)
        return _make_config(list(HEVC_SYNTAX.index_sets(nals).values()), *brightness, self.length_size)


class HevcSearch(NalSearch):
    """Looks for the parameter sets of one HEVC track."""

    syntax = HEVC_SYNTAX


def _length_size(config: VideoConfig) -> int:
    """
    How many bytes a NAL unit's length has in this track's samples: 1, 2 or 4.

    :raises MediaError: the record says 3, which its specification reserves.
    """
    size = (config.record[21] & 0x03) + 1
    if size == 3:
        raise MediaError("HEVC record with NAL unit lengths of 3 bytes; 1, 2 and 4 exist")
    return size


def read_hevc_config(record: bytes) -> VideoConfig:
    """
    Read an HEVC decoder configuration record, or the parameter sets behind start codes that broken encoders send.

    :raises MediaError: there is no SPS or no PPS, it ends early, or the first SPS makes no picture.
    """
    if record.startswith(STREAM_STARTS):
        return HEVC_SYNTAX.config_of_sets(split_start_codes(record))
    length_size, nals = HEVC_SYNTAX.sets_of_record(record)
    config = HEVC_SYNTAX.config_of_sets(nals, length_size)
    _length_size(config)
    return config


def is_known_hevc(known: VideoConfig, fresh: VideoConfig) -> bool:
    """Whether a configuration says nothing that another one does not say already; it may leave out brightness."""
    if fresh == known:
        return True
    _, nals = HEVC_SYNTAX.sets_of_record(fresh.record)
    brightness = fresh.mastering or known.mastering, fresh.light or known.light
    return _make_config(list(HEVC_SYNTAX.index_sets(nals).values()), *brightness, _length_size(fresh)) == known


# ── parameter sets and the record ────────────────────────────────────────────────────────────────────────────────────


def _make_config(
    sets: Sequence[bytes], mastering: MasteringDisplay | None, light: ContentLight | None, length_size: int
) -> VideoConfig:
    """The configuration that parameter sets make; the first SPS is the one in use, which says how pictures look."""
    arrays = {kind: [nal for nal in sets if nal_type(nal) == kind] for kind in HEVC_SYNTAX.sets}
    if not (len(arrays[VPS]) <= 16 and 1 <= len(arrays[SPS]) <= 16 and 1 <= len(arrays[PPS]) <= 64):
        counts = ", ".join(str(len(nals)) for nals in arrays.values())
        raise MediaError(f"{counts} VPS, SPS, PPS in an HEVC configuration; 0..16, 1..16 and 1..64 make one")
    arrays[PREFIX_SEI] = _brightness_units(mastering, light)
    first = read_sps(arrays[SPS][0])
    record = _record_head(first, length_size) + bytes([sum(map(bool, arrays.values()))])
    for kind, nals in arrays.items():
        if nals:  # complete: none of them is in the samples
            record += bytes([0x80 | kind]) + len(nals).to_bytes(2, "big") + join_lengths(nals, 2)
    return VideoConfig(
        record=record,
        codec_string=_codec_string(first.profile),
        width=first.width,
        height=first.height,
        pixel_aspect=first.usability.pixel_aspect,
        frame_rate=first.usability.frame_rate,
        colour=first.usability.colour,
        mastering=mastering,
        light=light,
        skips_leading=True,
    )


def _record_head(sps: Sps, length_size: int) -> bytes:
    """All of a record up to the number of its arrays, without hints for parallel decoding and frame rates."""
    profile = sps.profile
    layers = min(sps.sublayers, 7) << 3 | sps.is_nested << 2 | length_size - 1
    return b"".join(
        (
            bytes([1, profile.space << 6 | profile.tier << 5 | profile.profile]),
            profile.compatibility.to_bytes(4, "big"),
            profile.constraints.to_bytes(6, "big"),
            bytes([profile.level, 0xF0, 0, 0xFC, 0xFC | sps.chroma_format]),
            bytes([0xF8 | min(sps.luma_depth - 8, 7), 0xF8 | min(sps.chroma_depth - 8, 7), 0, 0, layers]),
        )
    )


def _codec_string(profile: Profile) -> str:
    """As in RFC 6381 (ISO/IEC 14496-15, E.3): flags backwards, constraints without zero bytes at their end."""
    space = ("", "A", "B", "C")[profile.space]
    compatibility = int(f"{profile.compatibility:032b}"[::-1], 2)
    constraints = profile.constraints.to_bytes(6, "big").rstrip(b"\0")
    words = [f"hvc1.{space}{profile.profile}", f"{compatibility:X}", f"{'LH'[profile.tier]}{profile.level}"]
    return ".".join([*words, *(f"{byte:X}" for byte in constraints)])


def _brightness(nals: Iterable[bytes]) -> tuple[MasteringDisplay | None, ContentLight | None]:
    """What SEI says of how bright pictures are meant to be, in the first units of it."""
    payloads: dict[int, bytes] = {}
    for nal in islice((nal for nal in nals if nal_type(nal) == PREFIX_SEI), MOST_SEI):
        payloads |= sei_payloads(nal)
    return read_mastering(payloads.get(MASTERING_PAYLOAD, b"")), read_light(payloads.get(LIGHT_PAYLOAD, b""))


def _brightness_units(mastering: MasteringDisplay | None, light: ContentLight | None) -> list[bytes]:
    """The same as SEI units, one for each."""
    payloads = []
    if mastering is not None:
        payloads.append((MASTERING_PAYLOAD, write_mastering(mastering)))
    if light is not None:
        payloads.append((LIGHT_PAYLOAD, write_light(light)))
    header = bytes([PREFIX_SEI << 1, 1])
    return [
        header + add_emulation_prevention(bytes([kind, len(payload)]) + payload + b"\x80") for kind, payload in payloads
    ]
