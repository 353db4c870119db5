"""
What a stream with a rewind window serves besides its shelf: segments that have left it, and clips.

All of it lies in the storage, as the packager wrote it (:mod:`rapidrtmp.hls.rewind.rewind`); a stream has it if
``dvr.m3u8`` is on its shelf, or announced there. Segments keep their URLs and never change. A clip is found by the
pages of the journal that its time touches, and put together while it is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby

from twisted.internet.defer import Deferred, gatherResults
from zope.interface import implementer

from rapidrtmp.archive.clip import ClipRange, clip_steps
from rapidrtmp.archive.clip_run import ClipRun, Naming
from rapidrtmp.archive.journal import Header, Journal, RecordedSegment
from rapidrtmp.archive.movie import Movie, Piece, movie_steps
from rapidrtmp.archive.objects import read_object
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
from rapidrtmp.errors import ConfigurationError, NotFoundError
from rapidrtmp.hls.names import REWIND_PLAYLIST, PageName, init_name, is_init, is_media, part_name, segment_name
from rapidrtmp.hls.rewind.journal import read_rewind_page
from rapidrtmp.http.long_work import LongWork
from rapidrtmp.http.params import read_date, read_query
from rapidrtmp.interfaces import (
    IMMUTABLE,
    BadRequestError,
    Contribution,
    ContributionContext,
    IContributes,
    IStorage,
    IStreams,
    Playlist,
    Purpose,
    Request,
    Response,
)
from rapidrtmp.names import StreamName
from rapidrtmp.support.steps import Steps
from rapidrtmp.support.units import parse_duration_ms

__all__ = ["CLIP_MOVIE", "RewindResponder", "Rewinding"]

MEDIA_TYPE, SEGMENT_TYPE = "video/mp4", "video/iso.segment"
CLIP_PLAYLIST, CLIP_MOVIE = "clip.m3u8", "clip.mp4"
#: So many pages are read side by side.
CONCURRENCY = 8
#: No segment is longer: the keyframe before a moment lies no further back.
LONGEST_SEGMENT_MS = 60_000

Page = tuple[PageName, Header, list[RecordedSegment]]


@implementer(IContributes)
class Rewinding:
    """Brings what streams with a rewind window serve."""

    def contribute(self, context: ContributionContext) -> Contribution:
        """See :meth:`IContributes.contribute <rapidrtmp.interfaces.IContributes.contribute>`."""

        def storage_of(app: str) -> IStorage:
            storage: IStorage = context.apps[app].storage(Purpose.LIVE)
            return storage

        return Contribution(
            find_media=RewindResponder(context.streams, storage_of, LongWork(context.clock)).find,
            player_data={"rewind": REWIND_PLAYLIST, "clip": CLIP_MOVIE},
        )


class RewindResponder:
    """
    Answers for what lies in the storage of a live stream.

    :param storage_of: where the packager of an application writes.
    :param work: where what takes long is done.
    """

    def __init__(self, streams: IStreams, storage_of: Callable[[str], IStorage], work: LongWork) -> None:
        self._work = work
        self._streams = streams
        self._storage_of = storage_of

    def find(self, request: Request, stream: StreamName, name: str) -> Deferred[Response] | None:
        """
        Answer a ``GET`` or ``HEAD`` for ``/APP/KEY/NAME``; ``None`` where that is nothing of a rewind window.

        The Deferred fails with ``BadRequestError``: a limit of a clip makes no sense; ``NotFoundError``,
        ``RangeNotSatisfiableError``, ``StorageError``.
        """
        live = self._streams.find(stream)
        if live is None or not (is_media(name) or name in (CLIP_PLAYLIST, CLIP_MOVIE)):
            return None
        playlist = live.playlist(REWIND_PLAYLIST)
        if name in (CLIP_PLAYLIST, CLIP_MOVIE):
            if playlist is None:
                raise NotFoundError(f"{stream} has no rewind window to cut a clip from")
            return Deferred.fromCoroutine(self._clip(request, stream, name, playlist))
        if playlist is None and not live.is_promised(REWIND_PLAYLIST):
            return None  # after a kill what is stored is there before its window is read again
        return Deferred.fromCoroutine(self._object(request, stream, name))

    async def _object(self, request: Request, stream: StreamName, name: str) -> Response:
        storage, key = self._storage_of(stream.app), f"{stream}/{name}"
        info = await storage.stat(key)
        headers = {"Content-Type": MEDIA_TYPE if is_init(name) else SEGMENT_TYPE, "Cache-Control": IMMUTABLE}
        return movie_response(request, storage, Movie(b"", [Piece(key, info.size)]), headers)

    # ── clips ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _clip(self, request: Request, name: StreamName, what: str, playlist: Playlist) -> Response:
        query = read_query(request)
        names = await self._page_names(name)
        edge_ms = await self._edge_ms(name, names)
        from_ms, to_ms = (_moment(query, each, edge_ms) for each in ("from", "to"))
        if from_ms is not None and to_ms is not None and from_ms >= to_ms:
            raise NotFoundError(f"nothing of {name} lies in that time: from is not before to")
        pages = await self._pages(name, _touched(names, from_ms, to_ms))
        runs = await self._work.do(_select(pages, playlist.first_sequence, from_ms, to_ms))
        if not runs:
            raise NotFoundError(f"nothing of {name} is stored of that time")
        if what == CLIP_PLAYLIST:
            return playlist_response(request, await self._work.do(playlist_steps(clip_text(runs))), GROWING)
        run = sole_run(runs)
        movie = await self._work.do(
            movie_steps(run.header, run.ranges, lambda clip_range: [_piece(name, clip_range)], indexed=True)
        )
        relative = any(query.get(each, "").startswith("-") for each in ("from", "to"))
        is_final = not relative and from_ms is not None and to_ms is not None and to_ms <= edge_ms
        headers = {
            "Content-Type": MEDIA_TYPE,
            "Cache-Control": OVER if is_final else GROWING,
            "Content-Disposition": disposition(name.app, name.key, run.ranges[0].segment.utc_ms),
        }
        return movie_response(request, self._storage_of(name.app), movie, headers)

    async def _page_names(self, name: StreamName) -> list[PageName]:
        listed = await self._storage_of(name.app).list(f"{name}/dvr_")
        found = sorted(page for info in listed if (page := PageName.parse(info.key.rpartition("/")[2])))
        if not found:
            raise NotFoundError(f"nothing of {name} is stored yet")
        return found

    async def _edge_ms(self, name: StreamName, names: list[PageName]) -> int:
        """The wall-clock time at which what is stored ends."""
        ((_, header, segments),) = await self._pages(name, names[-1:])
        return segments[-1].utc_ms + segments[-1].duration * 1000 // header.timescale

    async def _pages(self, name: StreamName, names: list[PageName]) -> list[Page]:
        storage = self._storage_of(name.app)

        async def read(page: PageName) -> Page:
            return page, *read_rewind_page(await read_object(storage, f"{name}/{page}"))

        pages: list[Page] = []
        for at in range(0, len(names), CONCURRENCY):
            reading = [Deferred.fromCoroutine(read(page)) for page in names[at : at + CONCURRENCY]]
            pages += await gatherResults(reading, consumeErrors=True)
        return pages


def _touched(names: list[PageName], from_ms: int | None, to_ms: int | None) -> list[PageName]:
    """The pages that may tell of some of that time."""
    ends_ms = [page.utc_ms for page in names[1:]] + [None]
    return [
        page
        for page, end_ms in zip(names, ends_ms, strict=True)
        if (to_ms is None or page.utc_ms < to_ms)
        and (from_ms is None or end_ms is None or end_ms + LONGEST_SEGMENT_MS > from_ms)
    ]


def _select(pages: list[Page], first: int, from_ms: int | None, to_ms: int | None) -> Steps[list[ClipRun]]:
    """The clip: a run for each init segment that it needs."""
    runs = []
    for init, group in groupby(pages, key=lambda page: page[0].init):
        same = list(group)
        header = same[0][1]
        segments = [segment for _, _, some in same for segment in some if segment.number >= first]
        ranges = yield from clip_steps(Journal(header, segments), from_ms, to_ms)
        if ranges:
            runs.append(ClipRun(header, ranges, Naming(init_name(init), segment_name, part_name)))
    return runs


def _piece(name: StreamName, clip_range: ClipRange) -> Piece:
    return Piece(f"{name}/{segment_name(clip_range.segment.number)}", clip_range.size)


def _moment(query: Mapping[str, str], name: str, edge_ms: int) -> int | None:
    """A limit of a clip: a date, or how long before the live edge."""
    text = query.get(name)
    if text is None:
        return None
    try:
        return edge_ms - parse_duration_ms(text[1:]) if text.startswith("-") else read_date(text, name)
    except (ConfigurationError, BadRequestError) as error:
        raise BadRequestError(
            f"{name} is neither a date such as 2026-11-22T13:45:00Z nor a time before the live edge such as -90s"
        ) from error
