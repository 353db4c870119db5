"""
What is there of a recording, compared with what its journal says: for recovery, and for clients that ask.

A part that the journal knows is there if an object of its size is. A part that the journal does not know is read: the
fragment in it tells its own times. What is cut off counts as not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from rapidrtmp.archive.journal import Header, Journal, RecordedPart, RecordedSegment, read_lines
from rapidrtmp.archive.layout import INIT_NAME, RecordingId, read_page_name, read_part_name
from rapidrtmp.archive.objects import read_object
from rapidrtmp.cmaf.reader import TrackInfo, complete_prefix, read_fragments, read_init_segment
from rapidrtmp.codec.table import CODECS
from rapidrtmp.errors import MediaError, NotFoundError
from rapidrtmp.interfaces import IStorage, ObjectInfo
from rapidrtmp.media import VideoConfig

__all__ = ["Examination", "examine"]

#: The target duration that is promised for a recording whose head of the journal is lost, in seconds.
LOST_TARGET_S = 12


@dataclass(slots=True)
class Examination:
    """
    What was found.

    :ivar header: from the journal or, where that is lost, from the init segment; ``None`` if neither is there.
    :ivar header_stored: whether the journal has it.
    :ivar init_stored: whether the init segment is there as the journal has it.
    :ivar segments: as they are stored, by number.
    :ivar unwritten: those of them for which the journal has no line, or a line that is no longer true.
    :ivar pages: the numbers of the pages that there are.
    :ivar objects: everything in the recording's folder.
    :ivar broken: keys of parts that are cut off or hold no fragment.
    :ivar renditions: what was found of its other renditions.
    :ivar damaged: keys of pages that hold a line which no recorder writes, and what is wrong with it. What stands
        before that line counts; such a page is not among ``pages``, and its lines are among the ``unwritten``.
    """

    id: RecordingId
    objects: Sequence[ObjectInfo]
    header: Header | None = None
    header_stored: bool = False
    init_stored: bool = False
    segments: list[RecordedSegment] = field(default_factory=list)
    unwritten: list[RecordedSegment] = field(default_factory=list)
    pages: set[int] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    renditions: list[Examination] = field(default_factory=list)

    @property
    def has_media(self) -> bool:
        """Whether any part is stored, whole or not."""
        return any(read_part_name(_name(info)) for info in self.objects)

    @property
    def journal(self) -> Journal | None:
        """What the journal should say."""
        return Journal(self.header, self.segments) if self.header else None

    @property
    def problems(self) -> list[str]:
        """What is not as it should be, in words."""
        found = []
        if not self.header_stored:
            found.append("the head of the journal is missing")
        if not self.init_stored:
            found.append("the init segment is missing or not the journal's")
        found += [f"{key} is cut off, or no fragment" for key in self.broken]
        found += [f"{key} is damaged: {problem}" for key, problem in self.damaged.items()]
        found += [
            f"segment {segment.number}: the journal does not say what is stored"
            for segment in self.unwritten
            if not segment.is_gap
        ]
        gaps = self.unwritten if self.id.rendition else self.segments  # a rung has gaps whenever it was late
        found += [f"segment {segment.number} cannot be played" for segment in gaps if segment.is_gap]
        return found + [f"{each.id.rendition}: {problem}" for each in self.renditions for problem in each.problems]

    @property
    def newest_ms(self) -> int:
        """When anything of it was written last."""
        own = max((info.modified_ms for info in self.objects), default=0)
        return max([own, *(each.newest_ms for each in self.renditions)])


async def examine(storage: IStorage, id: RecordingId, *, deep: bool = False) -> Examination:
    """
    Look at everything that is stored of a recording, or of one of its other renditions.

    :param deep: whether to read every part, and not only those that the journal does not know.
    :raises MediaError: a page of the journal was written by a newer program.
    :raises StorageError: the storage failed.
    """
    by_folder: dict[str, list[ObjectInfo]] = {"": []}
    for info in await storage.list(f"{id.folder}/"):
        folder, _, _ = info.key.removeprefix(f"{id.folder}/").rpartition("/")
        by_folder.setdefault(folder, []).append(info)
    found = await _examine(storage, id, by_folder.pop(""), deep=deep)
    for name, objects in by_folder.items():
        try:
            rendition = id.of(name)
        except NotFoundError:  # no recorder of ours puts anything there
            continue
        found.renditions.append(await _examine(storage, rendition, objects, deep=deep))
    return found


async def _examine(
    storage: IStorage, id: RecordingId, objects: Sequence[ObjectInfo], *, deep: bool = False
) -> Examination:
    """Look at one rendition."""
    found = Examination(id, objects)
    sizes = {_name(info): info for info in found.objects}
    written: dict[int, RecordedSegment] = {}
    unsure: set[int] = set()  # whose lines stand on damaged pages alone
    for name in sizes:
        number = read_page_name(name)
        if number is not None:
            key = f"{id.folder}/{name}"
            lines, problem = read_lines(await read_object(storage, key))
            if problem:
                found.damaged[key] = problem
            else:
                found.pages.add(number)
            for line in lines:
                if isinstance(line, RecordedSegment):
                    written[line.number] = line
                    (unsure.add if problem else unsure.discard)(line.number)
                else:
                    found.header, found.header_stored = line, not problem
    init = await read_object(storage, f"{id.folder}/{INIT_NAME}") if INIT_NAME in sizes else b""
    if found.header is None:
        found.header = _header_of(id, init)
    tracks = _tracks_of(found.header)
    if found.header is not None and not tracks:  # a header that describes nothing
        found.header, found.header_stored = _header_of(id, init), False
        tracks = _tracks_of(found.header)
    if found.header is not None:
        found.init_stored = init == found.header.init
        parts = _Parts(storage, found, tracks)
        await parts.compare(written, deep=deep)
        known = {segment.number for segment in found.unwritten}
        found.unwritten += [each for each in found.segments if each.number in unsure - known]
    return found


def _tracks_of(header: Header | None) -> Sequence[TrackInfo]:
    """The tracks that a header's init segment describes; none if that is damaged."""
    try:
        return read_init_segment(header.init) if header is not None else ()
    except MediaError:
        return ()


def _header_of(id: RecordingId, init: bytes) -> Header | None:
    """What an init segment and its place tell of a recording whose journal is lost."""
    try:
        tracks = read_init_segment(init)
    except MediaError:
        return None
    video = next((track for track in tracks if track.handler == "vide"), None)
    return Header(
        app=id.app,
        key=id.key,
        started_ms=id.start_ms,
        timescale=tracks[0].timescale,
        target_s=LOST_TARGET_S,
        codecs=tuple(_codec_string(track) for track in tracks),
        width=video.width if video else 0,
        height=video.height if video else 0,
        init=init,
    )


def _codec_string(track: TrackInfo) -> str:
    """As in RFC 6381; no more than the codec's name if its record cannot be read."""
    codec = CODECS.get(track.fourcc)
    if codec is None or codec.read_config is None:
        return track.codec
    try:
        return codec.read_config(track.record).codec_string
    except MediaError:
        return codec.strings[0] if codec.strings else track.codec


@dataclass(frozen=True, slots=True)
class _Fragment:
    """One part as it tells of itself, in ticks of the first track; ``None`` where that has no sample in it."""

    size: int
    start: int | None
    end: int | None
    keyframe: bool
    open: bool = False


class _Parts:
    """Compares the parts that are stored with the journal."""

    def __init__(self, storage: IStorage, found: Examination, tracks: Sequence[TrackInfo]) -> None:
        self._storage = storage
        self._found = found
        self._tracks = tracks
        self._stored: dict[int, dict[int, ObjectInfo]] = {}
        for info in found.objects:
            if place := read_part_name(_name(info)):
                self._stored.setdefault(place[0], {})[place[1]] = info

    async def compare(self, written: dict[int, RecordedSegment], *, deep: bool) -> None:
        """Fill in the segments, those that have no line or a wrong one, and the broken parts."""
        found = self._found
        for number in sorted({*written, *self._stored}):
            stored = self._stored.get(number, {})
            if number in written:
                whole = [index for index, info in stored.items() if not deep or await self._read(info)]
                segment: RecordedSegment | None = _corrected(written[number], {at: stored[at].size for at in whole})
            else:
                segment = await self._rebuild(number, stored)
            if segment is not None:
                found.segments.append(segment)
                if written.get(number) != segment:
                    found.unwritten.append(segment)

    async def _rebuild(self, number: int, stored: dict[int, ObjectInfo]) -> RecordedSegment | None:
        """A segment of which only its parts are known; ``None`` if none of them is whole."""
        read = {index: await self._read(stored[index]) for index in sorted(stored)}
        fragments = {index: fragment for index, fragment in read.items() if fragment is not None}
        if not fragments:
            return None
        last = self._found.segments[-1] if self._found.segments else None
        first = next((each.start for each in fragments.values() if each.start is not None), None)
        joined_at = last.start + last.duration if last else None
        timescale = self._tracks[0].timescale
        if first is None:
            first = joined_at or 0
        continues = joined_at is not None and abs(first - joined_at) < timescale // 2
        start = joined_at if continues and joined_at is not None else first
        parts = _rebuilt_parts(fragments, start)
        if last is None:
            assert self._found.header is not None
            utc_ms = self._found.header.started_ms
        elif continues:
            utc_ms = last.utc_ms + last.duration * 1000 // timescale
        else:  # a part is stored when its last frame has come
            utc_ms = stored[min(fragments)].modified_ms - parts[0].duration * 1000 // timescale
        return RecordedSegment(number, utc_ms, start, last is not None and not continues, tuple(parts))

    async def _read(self, info: ObjectInfo) -> _Fragment | None:
        """What a part says of itself; ``None``, and noted as broken, if it is not whole."""
        try:
            data = await read_object(self._storage, info.key)
            if not data or complete_prefix(data) != len(data):
                raise MediaError("cut off")
            samples = [
                sample
                for fragment in read_fragments(data, self._tracks)
                for track in fragment.tracks
                if track.track_id == self._tracks[0].track_id
                for sample in track.samples
            ]
        except (MediaError, NotFoundError):
            self._found.broken.append(info.key)
            return None
        if not samples:
            return _Fragment(len(data), None, None, keyframe=False)
        end = samples[-1].dts + samples[-1].duration
        is_closed = all(sample.pts >= samples[0].pts for sample in samples)
        keyframe = samples[0].keyframe and (is_closed or _skips_leading(self._tracks[0]))
        return _Fragment(len(data), samples[0].dts, end, keyframe=keyframe, open=keyframe and not is_closed)


def _skips_leading(track: TrackInfo) -> bool:
    """Whether decoders that begin at a keyframe leave out what they cannot decode."""
    codec = CODECS.get(track.fourcc)
    if codec is None or codec.read_config is None:
        return False
    try:
        config = codec.read_config(track.record)
    except MediaError:
        return False
    return isinstance(config, VideoConfig) and config.skips_leading


def _corrected(segment: RecordedSegment, sizes: dict[int, int]) -> RecordedSegment:
    """The segment with every part marked as lost that is not stored as the journal has it."""
    parts = tuple(
        replace(part, size=0, lost=True) if part.size and sizes.get(index) != part.size else part
        for index, part in enumerate(segment.parts)
    )
    return replace(segment, parts=parts)


def _rebuilt_parts(fragments: dict[int, _Fragment], start: int) -> list[RecordedPart]:
    """
    The parts of a segment from ``start`` up to the last that is whole.

    One that is missing between others was lost, unless what comes behind it continues where what came before it ended:
    then it was a moment without media, which has no object.
    """
    parts: list[RecordedPart] = []
    at = start
    for index in range(max(fragments) + 1):
        fragment = fragments.get(index)
        if fragment is None:
            missing = _next_start(fragments, index, at) - at
            parts.append(RecordedPart(0, max(missing, 0), lost=missing > 0))
        else:
            end = at if fragment.end is None else max(fragment.end, at)
            parts.append(RecordedPart(fragment.size, end - at, keyframe=fragment.keyframe, open=fragment.open))
        at += parts[-1].duration
    return parts


def _next_start(fragments: dict[int, _Fragment], index: int, default: int) -> int:
    following: Iterable[_Fragment] = (fragments[each] for each in sorted(fragments) if each > index)
    return next((each.start for each in following if each.start is not None), default)


def _name(info: ObjectInfo) -> str:
    return info.key.rpartition("/")[2]
