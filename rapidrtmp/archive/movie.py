"""
A recording, or a clip of it, as one file: the init segment, an index, and the parts, put together while it is sent.

The index (``sidx``) tells players how long it is and where to jump to without reading all of it. A recording that still
grows is sent without one: then what was sent once stays what it is, and only its end moves.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, islice, pairwise
from zlib import crc32

from rapidrtmp.archive.clip import ClipRange
from rapidrtmp.archive.journal import Header, Journal
from rapidrtmp.archive.layout import RecordingId, part_name
from rapidrtmp.cmaf.reader import read_init_segment
from rapidrtmp.errors import MediaError, StorageError
from rapidrtmp.interfaces import IStorage
from rapidrtmp.support.steps import Steps, finish

__all__ = [
    "Movie",
    "Piece",
    "assemble_movie",
    "make_movie",
    "make_segment",
    "movie_steps",
    "pieces_of",
    "playable_steps",
    "write_index",
]

_SIDX = struct.Struct(">I4sIIIQQHH")
_ENTRY = struct.Struct(">III")
_VERSION_1 = 0x01000000
#: An entry begins with a stream access point of type 1: all that follows it can be decoded from there on.
_SAP = 0x90000000
_MAX_ENTRIES, _MAX_SIZE, _MAX_DURATION = 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Piece:
    """One object: its key in the storage and its size in bytes."""

    key: str
    size: int


class Movie:
    """
    Bytes that are put together from objects of a storage.

    :param head: comes first.
    :param pieces: follow, in order.

    :ivar size: of all of it.
    """

    def __init__(self, head: bytes, pieces: Sequence[Piece]) -> None:
        self._head = head
        self._pieces = pieces
        self._ends = list(accumulate((piece.size for piece in pieces), initial=len(head)))
        self.size = self._ends[-1]

    def grown(self, pieces: Sequence[Piece]) -> Movie:
        """With these pieces behind all that there are."""
        movie = Movie(self._head, ())
        movie._pieces = [*self._pieces, *pieces]
        ends = accumulate((piece.size for piece in pieces), initial=self.size)
        movie._ends = [*self._ends, *islice(ends, 1, None)]
        movie.size = movie._ends[-1]
        return movie

    @property
    def memory_bytes(self) -> int:
        """About how much it takes to keep it."""
        return len(self._head) + 200 * len(self._pieces)

    @property
    def sole_key(self) -> str | None:
        """The key of the object that holds just these bytes, if there is one."""
        return self._pieces[0].key if not self._head and len(self._pieces) == 1 else None

    @property
    def fingerprint(self) -> int:
        """32 bits that differ, together with the size, between movies of different parts."""
        ends = (self._pieces[0].key, self._pieces[-1].key) if self._pieces else ()
        return crc32("".join(ends).encode(), crc32(self._head))

    async def read(self, storage: IStorage | None, start: int, stop: int) -> AsyncIterator[bytes]:
        """
        The bytes from ``start`` up to ``stop``, a piece at a time, none before it is asked for.

        :raises NotFoundError: an object is gone.
        :raises StorageError: the storage failed, or an object is not as long as the journal says.
        """
        if start < len(self._head):
            yield self._head[start:stop]
        at = max(start, len(self._head))
        while at < stop:
            index = bisect_right(self._ends, at) - 1
            assert storage is not None, "there is no piece without a storage"
            piece, offset = self._pieces[index], at - self._ends[index]
            length = min(piece.size - offset, stop - at)
            stored = await storage.get(piece.key, offset, length)
            got = 0
            async for chunk in stored.chunks:
                got += len(chunk)
                yield chunk
            if got != length:
                raise StorageError(f"{piece.key}: {got} bytes of {length}", retryable=False)
            at += length


def make_movie(id: RecordingId, header: Header, ranges: Sequence[ClipRange], *, indexed: bool) -> Movie:
    """
    The file of a recording or a clip of it; as :func:`assemble_movie`.

    :param indexed: whether nothing will follow, so that there can be an index.
    """
    return assemble_movie(header, ranges, pieces_of(id), indexed=indexed)


def pieces_of(id: RecordingId) -> Callable[[ClipRange], list[Piece]]:
    """Finds the objects of a recording that a clip_range consists of."""
    return partial(_pieces, id)


def assemble_movie(
    header: Header, ranges: Sequence[ClipRange], pieces: Callable[[ClipRange], list[Piece]], *, indexed: bool
) -> Movie:
    """
    A file of ranges that follow one another; segments that cannot be played are left out.

    :param pieces: finds the objects that a range consists of.
    :param indexed: whether there shall be an index.
    """
    return finish(movie_steps(header, ranges, pieces, indexed=indexed))


def movie_steps(
    header: Header, ranges: Sequence[ClipRange], pieces: Callable[[ClipRange], list[Piece]], *, indexed: bool
) -> Steps[Movie]:
    """As :func:`assemble_movie`, in steps."""
    playable = []
    found: list[Piece] = []
    for clip_range in ranges:
        if not clip_range.segment.is_gap and clip_range.size:
            playable.append(clip_range)
            found += pieces(clip_range)
        yield
    index = (yield from _index_steps(header, playable)) if indexed else b""
    return Movie(header.init + index, found)


def playable_steps(journal: Journal, since: int, pieces: Callable[[ClipRange], list[Piece]]) -> Steps[Sequence[Piece]]:
    """
    The objects of all segments of a recording that can be played.

    :param since: leave out so many segments.
    """
    found: list[Piece] = []
    for segment in journal.segments[since:]:
        if not segment.is_gap:
            found += pieces(ClipRange(segment, 0, len(segment.parts)))
        yield
    return found


def make_segment(id: RecordingId, clip_range: ClipRange) -> Movie:
    """A segment, or some parts of it."""
    return Movie(b"", _pieces(id, clip_range))


def _pieces(id: RecordingId, clip_range: ClipRange) -> list[Piece]:
    return [
        Piece(f"{id.folder}/{part_name(clip_range.segment.number, index)}", clip_range.segment.parts[index].size)
        for index in range(clip_range.first, clip_range.stop)
        if clip_range.segment.parts[index].size
    ]


def write_index(header: Header, ranges: Sequence[ClipRange]) -> bytes:
    """
    One ``sidx`` box over the parts that follow it (ISO/IEC 14496-12, 8.16.3); nothing if no box can hold it.

    Each part has an entry of its own: FFmpeg (to 9.0 at least) finds no picture behind a jump into an entry that spans
    several fragments. The time of what is missing between two parts counts for the first of them.

    :param ranges: what can be played, in order.
    """
    return finish(_index_steps(header, ranges))


def _index_steps(header: Header, ranges: Sequence[ClipRange]) -> Steps[bytes]:
    sizes, starts, keyframes = [], [], []
    for clip_range in ranges:
        at = clip_range.start
        for part in clip_range.parts:
            if part.size:
                sizes.append(part.size)
                starts.append(at)
                keyframes.append(part.keyframe)
            at += part.duration
        if len(sizes) > _MAX_ENTRIES:
            return b""
        yield
    if not 0 < len(sizes) <= _MAX_ENTRIES:
        return b""
    durations = [max(0, after - before) for before, after in pairwise([*starts, ranges[-1].end])]
    rows = []
    for size, duration, keyframe in zip(sizes, durations, keyframes, strict=True):
        rows.append(_ENTRY.pack(min(size, _MAX_SIZE), min(duration, _MAX_DURATION), _SAP if keyframe else 0))
        yield
    size = _SIDX.size + len(rows) * _ENTRY.size
    box = _SIDX.pack(size, b"sidx", _VERSION_1, _leading_id(header.init), header.timescale, starts[0], 0, 0, len(rows))
    return box + b"".join(rows)


def _leading_id(init: bytes) -> int:
    """The id of the track that an init segment describes first."""
    try:
        return read_init_segment(init)[0].track_id
    except (MediaError, IndexError):
        return 1
