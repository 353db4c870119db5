"""
Boxes back into values: for tests, for tools, and to recover recordings; never on the live path.

The fields of a box are read by pymp4, which did not learn them from our writers; this is the one module that imports
it. What pymp4 1.4 (with construct 2.8.8) does not do well is done here instead, so that it only ever sees one box, and
that box whole:

- **Where boxes begin and end.** Its containers swallow every error and drop, without a word, all boxes after one they
  stumble on; they stumble even on FFmpeg's files, at the bytes that end an ``avcC`` of High profile. It knows no
  64-bit sizes. So containers are walked here, and a leaf whose fields end before the box does is an error.
- **The children of sample entries.** It reads one child of a video entry and none of an audio entry, and no ``esds``.
  The entries' own fields are its work, the children are found by their place, and ``esds`` is read here.
- **Numbers it believes.** A ``trun`` without fields for each sample may claim any number of samples; that is bounded
  before it looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from mmap import mmap
from struct import Struct
from typing import Any, NamedTuple

from pymp4 import parser as pymp4

from rapidrtmp.codec.table import Codec, codec_of_entry, codecs_of_entry
from rapidrtmp.errors import MediaError
from rapidrtmp.media import MediaKind

__all__ = [
    "Box",
    "FragmentInfo",
    "SampleInfo",
    "TrackFragmentInfo",
    "TrackInfo",
    "as_text",
    "box_fields",
    "complete_prefix",
    "entry_fields",
    "read_boxes",
    "read_fragments",
    "read_init_segment",
]

_HEADER = Struct(">I4s")
_LARGE_SIZE = Struct(">Q")
_U32 = Struct(">I")

#: How many bytes are before the boxes in a sample entry.
_ENTRY_HEADER = {MediaKind.VIDEO: 78, MediaKind.AUDIO: 28}
#: The other boxes that hold boxes, and how far into their payload the first one begins.
_FIRST_CHILD = {
    **dict.fromkeys(("moov", "trak", "edts", "mdia", "minf", "dinf", "stbl", "mvex", "moof", "traf"), 0),
    **dict.fromkeys(("stsd", "dref"), 8),
}
_NON_SYNC = 0x00010000
#: How many samples a ``trun`` may claim that spends no byte on each.
_MAX_SAMPLES_UNSEEN = 65_536


# ── boxes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Box:
    """
    One box, and where it is.

    :ivar kind: its four-character code.
    :ivar offset: of its first byte, from the beginning of the data; likewise ``body_offset`` and ``end``.
    :ivar size: in bytes, header included.
    :ivar header_size: 8, or 16 with a 64-bit size.
    """

    kind: str
    offset: int
    size: int
    header_size: int
    _data: bytes | mmap = field(repr=False, compare=False)

    @property
    def body_offset(self) -> int:
        """Where its payload begins."""
        return self.offset + self.header_size

    @property
    def end(self) -> int:
        """Where the next box begins."""
        return self.offset + self.size

    @property
    def body(self) -> bytes:
        """Its payload: a copy."""
        return self._data[self.body_offset : self.end]

    def slice(self, offset: int, size: int) -> bytes:
        """``size`` bytes of the data from ``offset``, which counts like the box's own."""
        return self._data[offset : offset + size]

    def children(self) -> Iterator[Box]:
        """The boxes within, as ``read_boxes`` finds them; none in a box that is not known to be a container."""
        first = _first_child(self.kind)
        return iter(()) if first is None else read_boxes(self._data, self.body_offset + first, self.end)

    def child(self, *path: str) -> Box:
        """The first box of each kind within the one before. Raises ``MediaError`` if there is none."""
        box = self
        for kind in path:
            found = next((child for child in box.children() if child.kind == kind), None)
            if found is None:
                raise MediaError(f"{box.kind} at {box.offset} has no {kind}")
            box = found
        return box


def _first_child(kind: str) -> int | None:
    """How far into the payload of a box the first box within begins; ``None`` if it holds no boxes."""
    if kind in _FIRST_CHILD:
        return _FIRST_CHILD[kind]
    codec = codec_of_entry(kind)
    return None if codec is None else _ENTRY_HEADER[codec.kind]


def read_boxes(data: bytes | mmap, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """
    The boxes that follow one another in ``data`` from ``start`` (ISO/IEC 14496-12, 4.2), one by one.

    :param data: bytes, or a file mapped into memory.
    :param end: where they must end; by default where the data does.
    :raises MediaError: after all whole boxes: one that is cut short, that is smaller than its header, or of size 0,
        which means "up to the end of the file", so that it cannot be known to be whole.
    """
    end = len(data) if end is None else end
    while start < end:
        box = _box_at(data, start, end)
        yield box
        start = box.end


def _box_at(data: bytes | mmap, offset: int, end: int) -> Box:
    """The box whose header is at ``offset`` and that ends by ``end``; ``MediaError`` if there is no whole one."""
    available, header_size = end - offset, 8
    if available >= 8:
        size, kind = _HEADER.unpack_from(data, offset)
        header_size = 16 if size == 1 else 8
    if available < header_size:
        raise MediaError(f"box header at {offset}: {available} bytes of {header_size}")
    if header_size == 16:
        (size,) = _LARGE_SIZE.unpack_from(data, offset + 8)
    name = kind.decode("ascii", "backslashreplace")
    if size < header_size:
        raise MediaError(f"box {name!r} at {offset}: size {size} is less than its header")
    if size > available:
        raise MediaError(f"box {name!r} at {offset}: {available} bytes of {size}")
    return Box(name, offset, size, header_size, data)


def complete_prefix(data: bytes | mmap) -> int:
    """
    How much of a recording that broke off can be kept.

    Only headers are looked at: a gigabyte takes no longer than its fragments are many.

    :returns: the length of the longest prefix of ``data`` that is whole top-level boxes and ends after an ``mdat``;
        0 if there is none.
    """
    length = 0
    try:
        for box in read_boxes(data):
            if box.kind == "mdat":
                length = box.end
    except MediaError:
        pass  # that is where it broke off
    return length


# ── the init segment ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class TrackInfo:
    """
    What an init segment says of one track.

    :ivar track_id: its id.
    :ivar handler: ``vide``, ``soun`` or another.
    :ivar timescale: ticks a second.
    :ivar codec: four-character code of its sample entry.
    :ivar record: the codec's configuration record: the payload of ``avcC`` and its like; the AudioSpecificConfig for
        AAC; empty for an unknown codec, and for MP3.
    :ivar width: coded width in pixels; likewise ``height``; 0 if not video.
    :ivar channels: 0 if not audio.
    :ivar sample_rate: in Hz as the sample entry has it: 0 if not audio, or beyond 65535 Hz.
    :ivar fourcc: by which the codec table lists its codec; empty for an unknown one.
    :ivar default_duration: of a sample for which its fragment says nothing (``trex``); likewise ``default_size`` in
        bytes and ``default_keyframe``.
    """

    track_id: int
    handler: str
    timescale: int
    codec: str
    record: bytes
    width: int = 0
    height: int = 0
    channels: int = 0
    sample_rate: int = 0
    default_duration: int = 0
    default_size: int = 0
    default_keyframe: bool = True
    fourcc: str = ""


def read_init_segment(data: bytes | mmap) -> list[TrackInfo]:
    """
    The tracks that an init segment describes, in its order.

    :param data: may continue behind it: a recording, say.
    :raises MediaError: no ``moov``, or one that cannot be read.
    """
    moov = next((box for box in read_boxes(data) if box.kind == "moov"), None)
    if moov is None:
        raise MediaError("no moov: this is no init segment")
    defaults = {}
    for trex in moov.child("mvex").children():
        if trex.kind == "trex":
            fields = box_fields(trex)
            defaults[fields.track_ID] = fields
    return [_track_info(trak, defaults) for trak in moov.children() if trak.kind == "trak"]


def _track_info(trak: Box, defaults: dict[int, Any]) -> TrackInfo:
    """What one ``trak`` says, with what ``trex`` adds."""
    track_id = box_fields(trak.child("tkhd")).track_ID
    handler = as_text(box_fields(trak.child("mdia", "hdlr")).handler_type)
    entry = next(trak.child("mdia", "minf", "stbl", "stsd").children(), None)
    if entry is None or track_id not in defaults:
        raise MediaError(f"track {track_id} has no {'sample entry' if entry is None else 'trex'}")
    fields = entry_fields(entry)
    default = defaults[track_id]
    codec, record = _read_codec(entry)
    return TrackInfo(
        track_id=track_id,
        handler=handler,
        timescale=box_fields(trak.child("mdia", "mdhd")).timescale,
        codec=entry.kind,
        record=record,
        width=fields.get("width", 0),
        height=fields.get("height", 0),
        channels=fields.get("channels", 0),
        sample_rate=fields.get("sampling_rate", 0),
        default_duration=default.default_sample_duration,
        default_size=default.default_sample_size,
        default_keyframe=not default.default_sample_flags.sample_is_non_sync_sample,
        fourcc=codec.fourcc if codec is not None else "",
    )


def _read_codec(entry: Box) -> tuple[Codec | None, bytes]:
    """The codec of a sample entry, and the configuration record in it."""
    refused: MediaError | None = None
    for codec in codecs_of_entry(entry.kind):
        box = entry.child(codec.box)
        try:
            return codec, codec.read_box(box.body)
        except MediaError as error:
            refused = refused or MediaError(f"{box.kind} at {box.offset}: {error}")
    if refused is not None:
        raise refused
    return None, b""


# ── fragments ────────────────────────────────────────────────────────────────────────────────────────────────────────


class SampleInfo(NamedTuple):
    """One sample: its times in ticks of the track, its size in bytes, whether it is a keyframe, and its bytes."""

    dts: int
    pts: int
    duration: int
    size: int
    keyframe: bool
    payload: bytes


class TrackFragmentInfo(NamedTuple):
    """What one fragment holds of one track; ``base_decode_time`` in ticks of the track."""

    track_id: int
    base_decode_time: int
    samples: list[SampleInfo]


class FragmentInfo(NamedTuple):
    """One ``moof`` + ``mdat``: its number, where its ``moof`` begins, how many bytes up to the end of its ``mdat``."""

    sequence_number: int
    offset: int
    size: int
    tracks: list[TrackFragmentInfo]


class _Defaults(NamedTuple):
    """What holds for a sample of which its ``trun`` does not say more."""

    duration: int
    size: int
    keyframe: bool


def read_fragments(data: bytes | mmap, tracks: Sequence[TrackInfo]) -> list[FragmentInfo]:
    """
    All fragments in ``data``, in order; boxes of other kinds between them are passed over.

    :param data: fragments, segments, or a whole recording (``data[:complete_prefix(data)]``, if it may be cut short).
    :param tracks: as ``read_init_segment`` tells them.
    :raises MediaError: a box that is cut short or cannot be read, a ``moof`` without its ``mdat``, a track that the
        init segment does not know, a sample that is not in the ``mdat``.
    """
    known = {track.track_id: track for track in tracks}
    fragments, moof = [], None
    for box in read_boxes(data):
        if box.kind == "mdat" and moof is not None:
            fragments.append(_fragment_info(moof, box, known))
            moof = None
        elif box.kind == "moof":
            if moof is not None:
                break
            moof = box
    if moof is not None:
        raise MediaError(f"moof at {moof.offset} has no mdat")
    return fragments


def _fragment_info(moof: Box, mdat: Box, known: dict[int, TrackInfo]) -> FragmentInfo:
    """One fragment. Where its header names no base for its data, a track's follows that of the track before."""
    tracks = []
    data_end = moof.offset
    for traf in moof.children():
        if traf.kind == "traf":
            info, data_end = _track_fragment(traf, moof, mdat, known, data_end)
            tracks.append(info)
    sequence_number = box_fields(moof.child("mfhd")).sequence_number
    return FragmentInfo(sequence_number, moof.offset, mdat.end - moof.offset, tracks)


def _track_fragment(
    traf: Box, moof: Box, mdat: Box, known: dict[int, TrackInfo], data_end: int
) -> tuple[TrackFragmentInfo, int]:
    """One ``traf``, and where its data ends (ISO/IEC 14496-12, 8.8.7 and 8.8.8)."""
    header = box_fields(traf.child("tfhd"))
    track = known.get(header.track_ID)
    if track is None:
        raise MediaError(f"traf at {traf.offset}: the init segment has no track {header.track_ID}")
    base = moof.offset if header.flags.default_base_is_moof else _either(header.base_data_offset, data_end)
    flags = header.default_sample_flags
    defaults = _Defaults(
        _either(header.default_sample_duration, track.default_duration),
        _either(header.default_sample_size, track.default_size),
        track.default_keyframe if flags is None else not flags.sample_is_non_sync_sample,
    )
    base_decode_time = dts = box_fields(traf.child("tfdt")).baseMediaDecodeTime
    samples: list[SampleInfo] = []
    data_end = base
    for trun in traf.children():
        if trun.kind == "trun":
            run = box_fields(trun)
            data_end = data_end if run.data_offset is None else base + run.data_offset
            for sample in _samples(run, defaults, dts, mdat, data_end):
                samples.append(sample)
                dts += sample.duration
                data_end += sample.size
    return TrackFragmentInfo(header.track_ID, base_decode_time, samples), data_end


def _samples(run: Any, defaults: _Defaults, dts: int, mdat: Box, offset: int) -> Iterator[SampleInfo]:
    """The samples of a ``trun`` whose data begins at ``offset``."""
    for index, row in enumerate(run.sample_info):
        size = _either(row.sample_size, defaults.size)
        if offset < mdat.body_offset or offset + size > mdat.end:
            raise MediaError(f"sample of {size} bytes at {offset} is not in the mdat, {mdat.body_offset} to {mdat.end}")
        if row.sample_flags is not None:
            keyframe = not row.sample_flags.sample_is_non_sync_sample
        elif index == 0 and run.first_sample_flags is not None:
            keyframe = not run.first_sample_flags & _NON_SYNC
        else:
            keyframe = defaults.keyframe
        duration = _either(row.sample_duration, defaults.duration)
        pts = dts + _either(row.sample_composition_time_offsets, 0)
        yield SampleInfo(dts, pts, duration, size, keyframe, mdat.slice(offset, size))
        dts += duration
        offset += size


def _either(value: int | None, default: int) -> int:
    """A field that may be absent, or what holds then."""
    return default if value is None else value


# ── pymp4 ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def box_fields(box: Box) -> Any:
    """
    What pymp4 reads in a box without children, under the names pymp4 gives.

    Raises ``MediaError`` for whatever pymp4 cannot read, and for bytes it leaves over.
    """
    if box.kind == "trun":
        _check_sample_count(box)
    content = _HEADER.pack(8 + box.end - box.body_offset, box.kind.encode("ascii", "replace")) + box.body
    fields = _parse(pymp4.Box, content, box)
    if fields.end != len(content):
        raise MediaError(f"{box.kind} at {box.offset}: {len(content) - fields.end} bytes after its fields")
    return fields


def entry_fields(entry: Box) -> Any:
    """What pymp4 reads in a sample entry after the data reference index; nothing in one of an unknown codec."""
    codec = codec_of_entry(entry.kind)
    if codec is None:
        return {}
    is_video = codec.kind is MediaKind.VIDEO
    construct = pymp4.AVC1SampleEntryBox if is_video else pymp4.MP4ASampleEntryBox
    return _parse(construct, entry.body[8:], entry)


def _parse(construct: Any, content: bytes, box: Box) -> Any:
    """Let pymp4 parse; what it raises depends on the field it trips over (a ``UnicodeDecodeError``, an ``IOError``)."""
    try:
        return construct.parse(content)
    except Exception as error:
        raise MediaError(f"{box.kind} at {box.offset} cannot be read: {type(error).__name__}: {error}") from error


def _check_sample_count(trun: Box) -> None:
    """Raise ``MediaError`` for a ``trun`` that claims more samples than it can describe."""
    body = trun.body
    count = _U32.unpack_from(body, 4)[0] if len(body) >= 8 else 0
    if count > max(len(body), _MAX_SAMPLES_UNSEEN):
        raise MediaError(f"trun at {trun.offset}: {count} samples in {len(body)} bytes")


def as_text(value: Any) -> str:
    """A field's value as text: brands and handlers are bytes, brands come in lists."""
    if isinstance(value, bytes):
        return value.decode("ascii", "backslashreplace")
    return " ".join(map(as_text, value)) if isinstance(value, list) else str(value)
