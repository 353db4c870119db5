"""
What a stream with a rewind window serves besides its shelf: segments that have left it, and clips.

All of it lies in the storage, as the packager wrote it (:mod:`rapidrtmp.hls.rewind.rewind`); a stream has it if
``dvr.m3u8`` is on its shelf, or announced there. Segments keep their URLs and never change. A clip is found by the
pages of the journal that its time touches, made once for all that ask for it, and put together while it is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from itertools import groupby

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from rapidrtmp.archive.clip import MAX_CLIP_SEGMENTS, ClipRange, clip_bytes, clip_steps
from rapidrtmp.archive.clip_run import ClipRun, Naming
from rapidrtmp.archive.journal import Journal
from rapidrtmp.archive.movie import Movie, Piece, movie_steps
from rapidrtmp.archive.pictures import read_picture
from rapidrtmp.archive.playlist import clip_text
from rapidrtmp.archive.responses import (
    GROWING,
    OVER,
    bytes_response,
    disposition,
    movie_response,
    playlist_response,
    playlist_steps,
    sole_run,
)
from rapidrtmp.cmaf.pictures import picture_track
from rapidrtmp.errors import ConfigurationError, NotFoundError
from rapidrtmp.hls.i_frames import INIT_TYPE, respond_with_playlist
from rapidrtmp.hls.names import (
    REWIND_I_FRAMES,
    REWIND_PLAYLIST,
    PageName,
    first_number,
    init_name,
    is_init,
    is_media,
    part_name,
    segment_name,
)
from rapidrtmp.hls.rewind.stored_pages import Page, PageList, StoredPages
from rapidrtmp.http.long_work import LongWork
from rapidrtmp.http.params import read_date, read_query
from rapidrtmp.interfaces import (
    IMMUTABLE,
    BadRequestError,
    ConflictError,
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
from rapidrtmp.names import StreamName, pictured
from rapidrtmp.support.steps import Steps
from rapidrtmp.support.units import parse_duration_ms

__all__ = ["CLIP_MOVIE", "RewindResponder", "Rewinding"]

MEDIA_TYPE, SEGMENT_TYPE = "video/mp4", "video/iso.segment"
CLIP_PLAYLIST, CLIP_MOVIE = "clip.m3u8", "clip.mp4"
#: A clip's limits, in milliseconds since 1970; ``None`` for the beginning or the end.
Limits = tuple[int | None, int | None]
#: No segment is longer: the keyframe before a moment lies no further back.
LONGEST_SEGMENT_MS = 60_000


@implementer(IContributes)
class Rewinding:
    """Brings what streams with a rewind window serve."""

    def contribute(self, context: ContributionContext) -> Contribution:
        """See :meth:`IContributes.contribute <rapidrtmp.interfaces.IContributes.contribute>`."""

        def storage_of(app: str) -> IStorage:
            storage: IStorage = context.apps[app].storage(Purpose.LIVE)
            return storage

        return Contribution(
            find_media=RewindResponder(context.streams, storage_of, LongWork(context.clock), context.clock).find,
            player_data={"rewind": REWIND_PLAYLIST, "clip": CLIP_MOVIE, "pictures": REWIND_I_FRAMES},
        )


class RewindResponder:
    """
    Answers for what lies in the storage of a live stream.

    :param storage_of: where the packager of an application writes.
    :param work: where what takes long is done, and what came of it is kept.
    """

    def __init__(
        self, streams: IStreams, storage_of: Callable[[str], IStorage], work: LongWork, clock: IReactorTime
    ) -> None:
        self._work = work
        self._pages = StoredPages(work, clock)
        self._streams = streams
        self._storage_of = storage_of

    def find(self, request: Request, stream: StreamName, name: str) -> Deferred[Response] | None:
        """
        Answer a ``GET`` or ``HEAD`` for ``/APP/KEY/NAME``; ``None`` where that is nothing of a rewind window.

        The Deferred fails with ``BadRequestError``: a limit of a clip makes no sense; ``NotFoundError``,
        ``RangeNotSatisfiableError``, ``StorageError``.
        """
        live = self._streams.find(stream)
        media = pictured(name) or name
        if live is None or not (is_media(media) or name in (CLIP_PLAYLIST, CLIP_MOVIE, REWIND_I_FRAMES)):
            return None
        playlist = live.playlist(REWIND_PLAYLIST)
        if name == REWIND_I_FRAMES or media != name:
            if playlist is None:
                raise NotFoundError(f"{stream} has no rewind window to show pictures of")
            if name == REWIND_I_FRAMES:
                return Deferred.fromCoroutine(self._i_frames(request, stream, playlist))
            return Deferred.fromCoroutine(self._picture(request, stream, media, playlist))
        if name in (CLIP_PLAYLIST, CLIP_MOVIE):
            if playlist is None:
                raise NotFoundError(f"{stream} has no rewind window to cut a clip from")
            return Deferred.fromCoroutine(self._clip(request, stream, name, playlist))
        if playlist is None and not live.is_promised(REWIND_PLAYLIST):
            return None  # after a kill what is stored is there before its window is read again
        return Deferred.fromCoroutine(self._object(request, stream, name, playlist))

    async def _object(self, request: Request, stream: StreamName, name: str, playlist: Playlist | None) -> Response:
        storage, key = self._storage_of(stream.app), f"{stream}/{name}"
        if playlist is not None and not await self._may_have(stream, name, playlist):
            raise NotFoundError(f"{stream} has no {name}")
        info = await storage.stat(key)
        headers = {"Content-Type": MEDIA_TYPE if is_init(name) else SEGMENT_TYPE, "Cache-Control": IMMUTABLE}
        return movie_response(request, storage, Movie(b"", [Piece(key, info.size)]), headers)

    # ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _i_frames(self, request: Request, stream: StreamName, playlist: Playlist) -> Response:
        find_missing = partial(self._without_keyframe, stream, playlist)
        return await respond_with_playlist(request, self._work, (stream, REWIND_I_FRAMES), playlist, find_missing)

    async def _without_keyframe(self, stream: StreamName, playlist: Playlist) -> set[int]:
        """The numbers of the segments that do not begin with a keyframe."""
        storage = self._storage_of(stream.app)
        pages = await self._pages.of(storage, stream, playlist)
        found = await self._pages.read(storage, stream, pages, list(pages.sizes))
        known = {segment.number for page in found for segment in page.segments if segment.keyframe}
        return set(range(playlist.first_sequence, playlist.last_sequence + 1)) - known

    async def _picture(self, request: Request, stream: StreamName, name: str, playlist: Playlist) -> Response:
        """The picture that a stored segment begins with, or the init segment of pictures."""
        storage, number = self._storage_of(stream.app), first_number(name)
        if not await self._may_have(stream, name, playlist):
            raise NotFoundError(f"{stream} has no {name}")
        page = await self._page_of(stream, name, playlist)
        content_type = INIT_TYPE if is_init(name) else SEGMENT_TYPE
        if is_init(name):
            track = picture_track(page.header.init)
            data = track.init if track is not None else b""
        else:
            segment = next((each for each in page.segments if each.number == number), None)
            if segment is None or segment.is_gap or not segment.keyframe:
                raise NotFoundError(f"{stream} has no picture of {name}")
            key, init = f"{stream}/{name}", page.header.init
            data = await read_picture(storage, key, segment.size, init, number, segment.duration)
        if not data:
            raise NotFoundError(f"{stream} has no pictures")
        return bytes_response(request, data, {"Content-Type": content_type, "Cache-Control": IMMUTABLE})

    async def _page_of(self, stream: StreamName, name: str, playlist: Playlist) -> Page:
        """
        The page that tells of some media.

        :raises NotFoundError: there is none.
        """
        storage, number = self._storage_of(stream.app), first_number(name)
        pages = await self._pages.of(storage, stream, playlist)
        if is_init(name):
            names = [each for each in pages.sizes if each.init == number][:1]
        else:
            names = [each for each in pages.sizes if each.first <= number][-1:]
        found = await self._pages.read(storage, stream, pages, names)
        if not found:
            raise NotFoundError(f"{stream} has no {name}")
        return found[0]

    async def _may_have(self, stream: StreamName, name: str, playlist: Playlist) -> bool:
        """
        Whether the storage is worth asking. What is listed is there; what was, for a while; and what comes is on the
        shelf first.
        """
        number = first_number(name)
        if not is_init(name):
            if number > playlist.last_sequence:
                return False
            if number >= playlist.first_sequence:
                return True
        return (await self._pages.of(self._storage_of(stream.app), stream, playlist)).may_have(name)

    # ── clips ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _clip(self, request: Request, name: StreamName, what: str, playlist: Playlist) -> Response:
        query = read_query(request)
        storage = self._storage_of(name.app)
        pages = await self._pages.of(storage, name, playlist)
        edge_ms = pages.last.end_ms
        from_ms, to_ms = (_moment(query, each, edge_ms) for each in ("from", "to"))
        if from_ms is not None and to_ms is not None and from_ms >= to_ms:
            raise NotFoundError(f"nothing of {name} lies in that time: from is not before to")
        names = _touched(list(pages.sizes), playlist.first_sequence, from_ms, to_ms)
        key, runs = await self._runs(name, pages, names, playlist.first_sequence, (from_ms, to_ms))
        if not runs:
            raise NotFoundError(f"nothing of {name} is stored of that time")
        if what == CLIP_PLAYLIST:
            body = await self._work.once(
                ("playlist", key), lambda: playlist_steps(clip_text(runs)), lambda body: body.memory_bytes
            )
            return playlist_response(request, body, GROWING)
        run = sole_run(runs)
        movie = await self._work.once(
            ("movie", key),
            partial(movie_steps, run.header, run.ranges, lambda clip_range: [_piece(name, clip_range)], indexed=True),
            lambda movie: movie.memory_bytes,
        )
        relative = any(query.get(each, "").startswith("-") for each in ("from", "to"))
        is_final = not relative and from_ms is not None and to_ms is not None and to_ms <= edge_ms
        headers = {
            "Content-Type": MEDIA_TYPE,
            "Cache-Control": OVER if is_final else GROWING,
            "Content-Disposition": disposition(name.app, name.key, run.ranges[0].segment.utc_ms),
        }
        return movie_response(request, storage, movie, headers)

    async def _runs(
        self, name: StreamName, pages: PageList, names: Sequence[PageName], first: int, limits: Limits
    ) -> tuple[Hashable, list[ClipRun]]:
        """
        What a clip consists of, and what tells it from all others.

        :param names: the pages that it touches.
        :param first: the media sequence number of the first segment that may be in it.
        """
        if not names:
            return None, []
        storage = self._storage_of(name.app)
        first = max(first, names[0].first)  # a clip stays the same until the window leaves it
        key = storage, name, limits, first, tuple((each, pages.sizes[each]) for each in names)
        runs: list[ClipRun] | None = self._work.kept(("runs", key))
        if runs is None:
            found = await self._pages.read(storage, name, pages, names)
            runs = await self._work.once(("runs", key), partial(_select, found, first, *limits), _weigh_runs)
        return key, runs


def _touched(names: list[PageName], first: int, from_ms: int | None, to_ms: int | None) -> list[PageName]:
    """
    The pages that may tell of some of that time, of the segment ``first`` and those that follow it.

    :raises ConflictError: more segments than a clip may have lie in it for certain.
    """
    touched, count = [], 0
    for page, following in zip(names, [*names[1:], None], strict=True):
        if following is not None and following.first <= first:
            continue
        if to_ms is not None and page.utc_ms >= to_ms:
            break
        if from_ms is not None and following is not None and following.utc_ms + LONGEST_SEGMENT_MS <= from_ms:
            continue
        touched.append(page)
        is_inside = (from_ms is None or page.utc_ms >= from_ms) and (
            following is not None and (to_ms is None or following.utc_ms <= to_ms)
        )
        if is_inside and following is not None:
            count += following.first - max(page.first, first)
    _check_length(count)
    return touched


def _check_length(segments: int) -> None:
    if segments > MAX_CLIP_SEGMENTS:
        raise ConflictError(f"there are {segments} segments in that time, and a clip has {MAX_CLIP_SEGMENTS} at most")


def _select(pages: list[Page], first: int, from_ms: int | None, to_ms: int | None) -> Steps[list[ClipRun]]:
    """
    The clip: a run for each init segment that it needs.

    :raises ConflictError: it has more segments than a clip may have.
    """
    runs = []
    for init, group in groupby(pages, key=lambda page: page.name.init):
        same = list(group)
        header = same[0].header
        segments = [segment for page in same for segment in page.segments if segment.number >= first]
        ranges = yield from clip_steps(Journal(header, segments), from_ms, to_ms)
        if ranges:
            runs.append(ClipRun(header, ranges, Naming(init_name(init), segment_name, part_name)))
        _check_length(sum(len(run.ranges) for run in runs))
    return runs


def _weigh_runs(runs: list[ClipRun]) -> int:
    return sum(clip_bytes(run.ranges) for run in runs)


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
