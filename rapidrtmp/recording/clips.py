"""
Clips of a stream by the wall clock, whichever recordings they lie in: ``/recordings/APP/KEY/clip.m3u8``.

A stream is recorded in pieces, an hour each or what a publish was; viewers know the time and not the piece. A playlist
goes from one recording into the next behind a discontinuity. As one file only what lies in one recording can be had,
because decode times begin anew in each.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable
from functools import partial

from twisted.internet.defer import Deferred

from rapidrtmp.archive.clip import MAX_CLIP_SEGMENTS, clip_bytes, clip_steps
from rapidrtmp.archive.clip_run import RECORDING, ClipRun
from rapidrtmp.archive.layout import MEDIA_TYPE, RecordingId
from rapidrtmp.archive.movie import movie_steps, pieces_of
from rapidrtmp.archive.playlist import clip_text
from rapidrtmp.archive.responses import (
    GROWING,
    OVER,
    disposition,
    movie_response,
    playlist_response,
    playlist_steps,
    sole_run,
)
from rapidrtmp.errors import NotFoundError
from rapidrtmp.http.params import read_date, read_query
from rapidrtmp.interfaces import BadRequestError, ConflictError, Request, Response
from rapidrtmp.names import StreamName
from rapidrtmp.recording.libraries import Libraries
from rapidrtmp.recording.library import Library

__all__ = ["RecordedClips"]

CLIP_PLAYLIST, CLIP_MOVIE = "clip.m3u8", "clip.mp4"
#: Two days of hours: no clip is cut from more recordings.
MAX_RECORDINGS = 48


class RecordedClips:
    """Answers for clips that are named by the wall clock alone."""

    def __init__(self, libraries: Libraries) -> None:
        self._libraries = libraries

    def respond(self, request: Request, app: str, key: str, name: str) -> Deferred[Response]:
        """
        Answer a ``GET`` or ``HEAD`` for ``/recordings/APP/KEY/NAME``.

        The Deferred fails with ``NotFoundError``: nothing was recorded then, or ``NAME`` is something else;
        ``BadRequestError``: ``from`` or ``to`` makes no sense; ``ConflictError``: it cannot be had as asked for;
        ``RangeNotSatisfiableError``; ``StorageError``.
        """
        return Deferred.fromCoroutine(self._respond(request, StreamName.checked(app, key), name))

    async def _respond(self, request: Request, stream: StreamName, name: str) -> Response:
        if name not in (CLIP_PLAYLIST, CLIP_MOVIE):
            raise NotFoundError(
                f"{stream} has {CLIP_PLAYLIST} and {CLIP_MOVIE} here, and below the names of recordings"
            )
        from_ms, to_ms = _limits(request)
        library = self._libraries.of(stream.app)
        ids = await _touched(library, stream, from_ms, to_ms)
        runs, is_final, version = await _runs(library, ids, from_ms, to_ms)
        if not runs:
            raise NotFoundError(f"nothing of {stream} was recorded then")
        caching = OVER if is_final else GROWING
        if name == CLIP_PLAYLIST:
            text = partial(clip_text, list(runs.values()))
            body = await library.work.once(
                ("clips", version), lambda: playlist_steps(text()), lambda body: body.memory_bytes
            )
            return playlist_response(request, body, caching)
        run = sole_run(list(runs.values()))
        movie = await library.work.once(
            ("movie", version, is_final),
            partial(movie_steps, run.header, run.ranges, pieces_of(next(iter(runs))), indexed=is_final),
            lambda movie: movie.memory_bytes,
        )
        headers = {
            "Content-Type": MEDIA_TYPE,
            "Cache-Control": caching,
            "Content-Disposition": disposition(stream.app, stream.key, run.start_ms),
        }
        return movie_response(request, library.storage, movie, headers)


async def _touched(library: Library, stream: StreamName, from_ms: int, to_ms: int) -> list[RecordingId]:
    """The recordings that may hold some of that time: those that began in it, and the two before."""
    ids = (await library.listing()).under(f"{stream}/")[::-1]
    begins, ends = (bisect_right(ids, limit_ms, key=lambda id: id.start_ms) for limit_ms in (from_ms, to_ms))
    touched = list(ids[max(begins - 2, 0) : ends])
    if len(touched) > MAX_RECORDINGS:
        raise ConflictError(f"{stream} has {len(touched)} recordings of that time, a clip at most {MAX_RECORDINGS}")
    return touched


async def _runs(
    library: Library, ids: list[RecordingId], from_ms: int, to_ms: int
) -> tuple[dict[RecordingId, ClipRun], bool, Hashable]:
    """What each of them has of it, whether that is all there will ever be, and what tells it from every other clip."""
    runs: dict[RecordingId, ClipRun] = {}
    is_final = False
    count = 0
    version: list[Hashable] = []
    for id in ids:
        try:
            journal, _ = await library.journal(id)
        except NotFoundError:  # deleted meanwhile, or damaged
            continue
        is_final = to_ms <= journal.ended_ms
        key = (id, from_ms, to_ms, *(() if is_final else journal.version))
        ranges = await library.work.once(("clip", key), partial(clip_steps, journal, from_ms, to_ms), clip_bytes)
        count += len(ranges)
        if count > MAX_CLIP_SEGMENTS:
            raise ConflictError(f"a clip has {MAX_CLIP_SEGMENTS} segments at most, and that time has more")
        if ranges:
            version.append(key)
            runs[id] = ClipRun(journal.header, ranges, RECORDING.under(id.start))
    return runs, is_final, tuple(version)


def _limits(request: Request) -> tuple[int, int]:
    query = read_query(request)
    missing = [each for each in ("from", "to") if each not in query]
    if missing:
        raise BadRequestError(f"{missing[0]} is missing: a date such as 2026-11-22T13:45:00Z")
    from_ms, to_ms = (read_date(query[each], each) for each in ("from", "to"))
    if from_ms >= to_ms:
        raise NotFoundError("nothing lies in that time: from is not before to")
    return from_ms, to_ms
