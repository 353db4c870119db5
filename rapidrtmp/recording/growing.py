"""
What is answered of a recording that grows: made once up to its end, and from there on as it grows.

Twelve hours are a playlist of a second's work, and there is another one with each segment; only its end is new. What is
made here is kept with all that takes long (:class:`~rapidrtmp.http.long_work.LongWork`), and forgotten with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from rapidrtmp.archive.journal import Journal
from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.archive.movie import Movie, pieces_of, playable_steps
from rapidrtmp.archive.playlist import growing_text
from rapidrtmp.archive.responses import PlaylistBody, PlaylistDraft
from rapidrtmp.http.long_work import LongWork
from rapidrtmp.support.steps import Steps

__all__ = ["GrowingRecordings"]


@dataclass(slots=True)
class _Extent:
    """
    How much of a journal something is made of.

    :ivar count: so many segments; ``last`` is the number of the last one.
    """

    count: int = 0
    last: int = 0
    started_ms: int | None = None

    def is_of(self, journal: Journal) -> bool:
        """Whether a journal continues where this ends."""
        segments = journal.segments
        if not self.count:
            return True
        is_same = self.started_ms == journal.header.started_ms and self.count <= len(segments)
        return is_same and segments[self.count - 1].number == self.last

    def become(self, journal: Journal) -> None:
        """All of it is in now."""
        self.count, self.started_ms = len(journal.segments), journal.header.started_ms
        self.last = journal.segments[-1].number if self.count else 0


@dataclass(slots=True)
class _Playlist:
    extent: _Extent = field(default_factory=_Extent)
    draft: PlaylistDraft = field(default_factory=PlaylistDraft)
    body: PlaylistBody | None = None


@dataclass(slots=True)
class _Movie:
    movie: Movie
    extent: _Extent = field(default_factory=_Extent)


class GrowingRecordings:
    """
    The playlists and movies of recordings that grow.

    :param work: does what takes long, and keeps what came of it.
    """

    def __init__(self, work: LongWork) -> None:
        self._work = work

    async def playlist(self, id: RecordingId, journal: Journal) -> PlaylistBody:
        """
        The playlist, as far as the journal goes.

        :raises UnavailableError: too much is being made already.
        """
        kept: _Playlist | None = self._work.kept(("growing playlist", id))
        if kept is not None and kept.body is not None and _is_all(kept.extent, journal):
            return kept.body
        return await self._work.do(self._extend_playlist(id, journal))

    def _extend_playlist(self, id: RecordingId, journal: Journal) -> Steps[PlaylistBody]:
        key = "growing playlist", id
        kept: _Playlist | None = self._work.take(key)  # where this is broken off, it is half of one
        if kept is None or not kept.extent.count or not kept.extent.is_of(journal):
            kept = _Playlist()  # also in place of one that has its head alone
        if kept.body is None or not _is_all(kept.extent, journal):
            yield from kept.draft.extend(growing_text(journal, kept.extent.count))
            kept.extent.become(journal)
            kept.body = kept.draft.body()
        self._work.keep(key, kept, 2 * kept.body.memory_bytes)
        return kept.body

    async def movie(self, id: RecordingId, journal: Journal) -> Movie:
        """
        The file, as far as the journal goes; it has no index.

        :raises UnavailableError: too much is being made already.
        """
        kept: _Movie | None = self._work.kept(("growing movie", id))
        if kept is not None and _is_all(kept.extent, journal):
            return kept.movie
        return await self._work.do(self._extend_movie(id, journal))

    def _extend_movie(self, id: RecordingId, journal: Journal) -> Steps[Movie]:
        key = "growing movie", id
        kept = cast("_Movie | None", self._work.kept(key))
        if kept is None or not kept.extent.is_of(journal):
            kept = _Movie(Movie(journal.header.init, ()))
        if not _is_all(kept.extent, journal):
            found = yield from playable_steps(journal, kept.extent.count, pieces_of(id))
            kept.movie = kept.movie.grown(found)
            kept.extent.become(journal)
        self._work.keep(key, kept, kept.movie.memory_bytes)
        return kept.movie


def _is_all(extent: _Extent, journal: Journal) -> bool:
    return extent.count == len(journal.segments) and extent.is_of(journal)
