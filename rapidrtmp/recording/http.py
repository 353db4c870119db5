"""
Recordings over HTTP: playlists, segments and movies under ``/recordings/APP/KEY/START/``, and the library in the API.

What is served is put together from stored fragments while it is sent. Bytes under a name never change, but for what
grows at its end, so that ranges can be resumed and everything can be cached.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from rapidrtmp.archive.clip import ClipRange, clip_bytes, clip_steps, whole_steps
from rapidrtmp.archive.clip_run import ClipRun
from rapidrtmp.archive.journal import Header, Journal
from rapidrtmp.archive.layout import INIT_NAME, MEDIA_TYPE, SEGMENT_TYPE, RecordingId, read_part_name, read_segment_name
from rapidrtmp.archive.movie import Movie, make_segment, movie_steps, pieces_of
from rapidrtmp.archive.pictures import read_picture
from rapidrtmp.archive.playlist import clip_text, i_frame_text, recording_text
from rapidrtmp.archive.responses import (
    GROWING,
    OVER,
    bytes_response,
    disposition,
    movie_response,
    playlist_response,
    playlist_steps,
)
from rapidrtmp.cmaf.pictures import picture_track
from rapidrtmp.errors import ConfigurationError, NotFoundError
from rapidrtmp.http.errors import NotYetError
from rapidrtmp.http.headers import CORS
from rapidrtmp.http.params import MAX_ITEMS_PER_PAGE, read_date, read_json_object, read_query, read_whole
from rapidrtmp.interfaces import (
    IMMUTABLE,
    BadRequestError,
    ConflictError,
    IApplication,
    ILiveStream,
    IRecorderFactory,
    IStorage,
    IStorageRedirect,
    IStreams,
    Request,
    Response,
    json_response,
)
from rapidrtmp.names import DEFAULT_APP, I_FRAMES_PLAYLIST, MULTIVARIANT_PLAYLIST, POSTER, StreamName, pictured
from rapidrtmp.recording.description import describe_recording
from rapidrtmp.recording.growing import GrowingRecordings
from rapidrtmp.recording.libraries import Libraries
from rapidrtmp.recording.library import RecordingKeptError
from rapidrtmp.recording.multivariant import MEDIA_PLAYLIST, multivariant_text
from rapidrtmp.recording.sink import RecorderFactory
from rapidrtmp.recording.titles import check_title, fold, searched
from rapidrtmp.support.steps import Steps
from rapidrtmp.support.units import parse_duration_ms

__all__ = ["Recordings"]

#: The sink that records where an application has no recorder; ``record-2`` where a sink has that name, and so on.
RECORDER = "record"
#: For how long a redirect may be followed again: its URL is good for some minutes.
REDIRECTED = "private, max-age=300"
RETRY_S = 2
#: The picture of a recording is the beginning of this segment of it, or of one before the first quarter is over.
POSTER_SEGMENT = 5


class Recordings:
    """
    Answers all that concerns recordings.

    :param apps: the applications by name; one that has recorders has them record by hand as well.
    """

    def __init__(self, libraries: Libraries, streams: IStreams, apps: Mapping[str, IApplication]) -> None:
        self._libraries = libraries
        self._growing = GrowingRecordings(libraries.work)
        self._streams = streams
        self._apps = apps

    @property
    def libraries(self) -> Libraries:
        """Where the recordings are found."""
        return self._libraries

    # ── media ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def media(
        self, request: Request, app: str, key: str, start: str, name: str, rendition: str = ""
    ) -> Deferred[Response]:
        """
        Answer a ``GET`` or ``HEAD`` for ``/recordings/APP/KEY/START/NAME``, or of another rendition,
        ``/recordings/APP/KEY/START/RENDITION/NAME``.

        The Deferred fails with ``NotFoundError``: there is no such recording or object; ``BadRequestError``: a limit
        of a clip makes no sense; ``RangeNotSatisfiableError``; ``StorageError``.
        """
        return Deferred.fromCoroutine(self._media(request, RecordingId.checked(app, key, start, rendition), name))

    async def _media(self, request: Request, id: RecordingId, name: str) -> Response:
        journal, is_over = await self._libraries.of(id.app).journal(id)
        if not journal.segments and not is_over and name != INIT_NAME:
            raise NotYetError(f"{id} has no complete segment yet", RETRY_S)
        if name == MEDIA_PLAYLIST and is_over:
            return await self._playlist(request, (id, *journal.version), recording_text(journal, is_over=True))
        if name == MEDIA_PLAYLIST:
            return playlist_response(request, await self._growing.playlist(id, journal), GROWING)
        if name == "recording.mp4":
            begin_ms = journal.segments[0].utc_ms if journal.segments else journal.header.started_ms
            return self._movie(request, id, begin_ms, await self._whole(id, journal, is_over=is_over), is_over=is_over)
        if name == POSTER:
            return await self._poster(request, id, journal, is_over=is_over)
        if name == I_FRAMES_PLAYLIST:
            if picture_track(journal.header.init) is None:
                raise NotFoundError(f"{id} has no pictures")
            key, text = ("pictures", id, *journal.version), i_frame_text(journal, is_over=is_over)
            return await self._playlist(request, key, text, is_over=is_over)
        if name == MULTIVARIANT_PLAYLIST and not id.rendition:
            return await self._multivariant(request, id, journal, is_over=is_over)
        if (media := pictured(name)) is not None:
            return await self._picture(request, id, journal, media)
        if name in ("clip.m3u8", "clip.mp4"):
            return await self._clip(request, id, journal, name, is_over=is_over)
        return await self._object(request, id, journal, name)

    async def _multivariant(self, request: Request, id: RecordingId, journal: Journal, *, is_over: bool) -> Response:
        """The playlist of all renditions; one that has no segment yet is not named."""
        library, listed = self._libraries.of(id.app), [("", journal)]
        for name in (await library.entry(id)).renditions:
            try:
                listed.append((f"{name}/", (await library.journal(id.of(name)))[0]))
            except NotFoundError:
                continue
        key = ("multivariant", id, *(each.version for _, each in listed))
        return await self._playlist(request, key, multivariant_text(listed), is_over=is_over)

    async def _playlist(
        self, request: Request, key: Hashable, text: Iterator[str], *, is_over: bool = True
    ) -> Response:
        """A playlist, made once; ``key`` tells it from all others that there are or were."""
        body = await self._libraries.work.once(
            ("playlist", key), lambda: playlist_steps(text), lambda body: body.memory_bytes
        )
        return playlist_response(request, body, OVER if is_over else GROWING)

    async def _clip(self, request: Request, id: RecordingId, journal: Journal, name: str, *, is_over: bool) -> Response:
        query = read_query(request)
        from_ms, to_ms = (_moment(query, each, journal.header) for each in ("from", "to"))
        if from_ms is not None and to_ms is not None and from_ms >= to_ms:
            raise NotFoundError(f"nothing of {id} lies in that time: from is not before to")
        is_final = is_over or (to_ms is not None and to_ms <= journal.ended_ms)
        work, key = self._libraries.work, (id, from_ms, to_ms, *(() if is_final else journal.version))
        ranges = await work.once(("clip", key), lambda: clip_steps(journal, from_ms, to_ms), clip_bytes)
        if not ranges:
            raise NotFoundError(f"nothing of {id} was recorded then")
        if name == "clip.m3u8":
            text = clip_text([ClipRun(journal.header, ranges)])
            return await self._playlist(request, ("clip", key), text, is_over=is_final)
        movie = await work.once(
            ("movie", key, is_final),
            lambda: movie_steps(journal.header, ranges, pieces_of(id), indexed=is_final),
            lambda movie: movie.memory_bytes,
        )
        return self._movie(request, id, ranges[0].segment.utc_ms, movie, is_over=is_final)

    async def _whole(self, id: RecordingId, journal: Journal, *, is_over: bool) -> Movie:
        """All of a recording as one file. Players ask for that range by range, so it is put together only once."""
        if not is_over:
            return await self._growing.movie(id, journal)

        def steps() -> Steps[Movie]:
            ranges = yield from whole_steps(journal)
            return (yield from movie_steps(journal.header, ranges, pieces_of(id), indexed=True))

        key = ("recording", id, *journal.version)
        return await self._libraries.work.once(key, steps, lambda movie: movie.memory_bytes)

    async def _poster(self, request: Request, id: RecordingId, journal: Journal, *, is_over: bool) -> Response:
        """
        A film of one part, which begins with a keyframe: a picture of the recording, not of its very beginning.

        :raises NotFoundError: it has no media.
        """
        segments = [segment for segment in journal.playable if segment.parts[0].size]
        if not segments:
            raise NotFoundError(f"{id} has no picture")
        segment = segments[min(len(segments) // 4, POSTER_SEGMENT)]
        movie = await self._libraries.work.once(
            ("poster", id, segment.number),
            lambda: movie_steps(journal.header, [ClipRange(segment, 0, 1)], pieces_of(id), indexed=False),
            lambda movie: movie.memory_bytes,
        )
        caching = OVER if is_over or len(segments) > 4 * POSTER_SEGMENT else GROWING
        return movie_response(request, self._storage(id), movie, {"Content-Type": MEDIA_TYPE, "Cache-Control": caching})

    async def _picture(self, request: Request, id: RecordingId, journal: Journal, name: str) -> Response:
        """
        The picture that a segment begins with, or the init segment of pictures.

        :raises NotFoundError: there is none.
        """
        track = picture_track(journal.header.init)
        number = read_segment_name(name)
        segment = journal.find(number) if number is not None else None
        if track is not None and name == INIT_NAME:
            headers = {"Content-Type": MEDIA_TYPE, "Cache-Control": IMMUTABLE}
            return bytes_response(request, track.init, headers)
        if segment is None or segment.is_gap or not (segment.keyframe and segment.parts[0].size):
            raise NotFoundError(f"{id} has no picture of {name}")
        (piece,) = pieces_of(id)(ClipRange(segment, 0, 1))
        data = await read_picture(
            self._storage(id), piece.key, piece.size, journal.header.init, segment.number, segment.duration
        )
        return bytes_response(request, data, {"Content-Type": SEGMENT_TYPE, "Cache-Control": IMMUTABLE})

    def _movie(self, request: Request, id: RecordingId, begin_ms: int, movie: Movie, *, is_over: bool) -> Response:
        headers = {
            "Content-Type": MEDIA_TYPE,
            "Cache-Control": OVER if is_over else GROWING,
            "Content-Disposition": disposition(id.app, id.key, begin_ms),
        }
        return movie_response(request, self._storage(id), movie, headers)

    async def _object(self, request: Request, id: RecordingId, journal: Journal, name: str) -> Response:
        headers = {"Content-Type": SEGMENT_TYPE, "Cache-Control": IMMUTABLE}
        if name == INIT_NAME:
            headers["Content-Type"] = MEDIA_TYPE
            return movie_response(request, self._storage(id), Movie(journal.header.init, ()), headers)
        clip_range = _named_range(journal, name)
        if clip_range is None:
            raise NotFoundError(f"{id} has no {name}, or it was lost")
        movie = make_segment(id, clip_range)
        return await self._redirected(id, movie) or movie_response(request, self._storage(id), movie, headers)

    async def _redirected(self, id: RecordingId, movie: Movie) -> Response | None:
        """To the storage, if it is one object there and clients can fetch it themselves."""
        storage = IStorageRedirect(self._storage(id), None)
        if movie.sole_key is None or storage is None:
            return None
        url: str | None = await storage.redirect_url(movie.sole_key)
        return Response(307, {"Location": url, "Cache-Control": REDIRECTED, **CORS}) if url else None

    def _storage(self, id: RecordingId) -> IStorage:
        return self._libraries.of(id.app).storage

    # ── the library ──────────────────────────────────────────────────────────────────────────────────────────────────

    def index(self, request: Request) -> Deferred[Response]:
        """
        List recordings, the newest first: ``GET /api/v1/recordings``.

        :raises BadRequestError: the query makes no sense.
        :raises BadNameError: there can be no such stream.
        """
        query = read_query(request)
        number = read_whole(query, "page", 0, minimum=0)
        size = read_whole(query, "itemsPerPage", 100, minimum=1, maximum=MAX_ITEMS_PER_PAGE)
        prefix = ""
        if "app" in query or "streamKey" in query:
            name = StreamName.checked(query.get("app", DEFAULT_APP), query.get("streamKey", "any"))
            prefix = f"{name.app}/{name.key}/" if "streamKey" in query else f"{name.app}/"
        from_ms, to_ms = (read_date(query[each], each) if each in query else None for each in ("from", "to"))

        wanted = fold(query.get("q", ""))

        async def answer() -> Response:
            view = await self._libraries.view(prefix)

            def chosen(id: RecordingId) -> bool:
                is_in_time = (from_ms is None or id.start_ms >= from_ms) and (to_ms is None or id.start_ms < to_ms)
                return is_in_time and wanted in searched(id, view.title(id))

            filtered = None if from_ms is None and to_ms is None and not wanted else chosen
            listed, total = await view.page(filtered, number, size)
            return json_response({"recordings": [describe_recording(each) for each in listed], "total": total})

        return Deferred.fromCoroutine(answer())

    def show(self, _request: Request, app: str, key: str, start: str) -> Deferred[Response]:
        """Describe one: ``GET /api/v1/recordings/APP/KEY/START``. :raises NotFoundError: there is none."""
        id, library = RecordingId.checked(app, key, start), self._libraries.of(app)

        async def answer() -> Response:
            return json_response(describe_recording(await library.show(id)))

        return Deferred.fromCoroutine(answer())

    def delete(self, _request: Request, app: str, key: str, start: str) -> Deferred[Response]:
        """
        Delete one: ``DELETE /api/v1/recordings/APP/KEY/START``.

        :raises NotFoundError: there is none.
        :raises ConflictError: it grows, or it is protected.
        """
        id, library = RecordingId.checked(app, key, start), self._libraries.of(app)

        async def answer() -> Response:
            try:
                size = await library.delete(id)
            except RecordingKeptError as error:
                raise ConflictError(str(error)) from error
            return json_response({"message": "the recording has been deleted", "size": size})

        return Deferred.fromCoroutine(answer())

    def protect(self, request: Request, app: str, key: str, start: str) -> Deferred[Response]:
        """
        Protect one from deletion or release it: ``POST /api/v1/recordings/APP/KEY/START/protect``.

        :raises BadRequestError: the body is not as described.
        :raises NotFoundError: there is none.
        """
        id, library = RecordingId.checked(app, key, start), self._libraries.of(app)
        protected = read_json_object(request).get("protected")
        if not isinstance(protected, bool):
            raise BadRequestError("protected is missing or neither true nor false")

        async def answer() -> Response:
            await library.protect(id, protected)
            return json_response(describe_recording(await library.show(id)))

        return Deferred.fromCoroutine(answer())

    def rename(self, request: Request, app: str, key: str, start: str) -> Deferred[Response]:
        """
        Give one a title: ``POST /api/v1/recordings/APP/KEY/START/title``.

        :raises BadRequestError: the body is not as described.
        :raises NotFoundError: there is none.
        """
        id, library = RecordingId.checked(app, key, start), self._libraries.of(app)
        title = check_title(read_json_object(request).get("title"))

        async def answer() -> Response:
            await library.rename(id, title)
            return json_response(describe_recording(await library.show(id)))

        return Deferred.fromCoroutine(answer())

    # ── recording by hand ────────────────────────────────────────────────────────────────────────────────────────────

    def record(self, request: Request, key: str, app: str = DEFAULT_APP) -> Response:
        """
        Begin or end to record a live stream: ``POST /api/v1/streams/KEY/record``.

        :raises BadRequestError: the body is not as described.
        :raises NotFoundError: there is no stream of that name.
        :raises ConflictError: it has ended, is recorded already, or is not recorded.
        """
        action = read_json_object(request).get("action")
        if action not in ("start", "stop"):
            raise BadRequestError("action is neither start nor stop")
        stream = self._streams.find(StreamName.checked(app, key))
        if stream is None:
            raise NotFoundError(f"there is no stream {app}/{key}")
        if stream.has_ended:
            raise ConflictError(f"{stream.name} has ended")
        recorders = _recorders(stream.sinks)
        if (action == "start") == bool(recorders):
            raise ConflictError(f"{stream.name} is {'already' if recorders else 'not'} being recorded")
        for name in recorders:
            stream.detach(name)
        if action == "start":
            self._start_recorders(stream)
        return json_response({"recording": action == "start", "streamKey": key})

    def _start_recorders(self, stream: ILiveStream) -> None:
        """Those of the application under their names, whichever plugins they are, or else one of ours."""
        app = self._apps.get(stream.name.app)
        recorders = _recorders(app.sinks) if app is not None else {}
        if not recorders:
            names = (f"{RECORDER}{suffix}" for suffix in ("", *(f"-{number}" for number in range(2, 100))))
            recorders = {next(name for name in names if name not in stream.sinks): RecorderFactory()}
        for name, factory in recorders.items():
            stream.start_sink(name, factory)


def _recorders(sinks: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of some sink factories, by the name of the sink, whose sinks record."""
    return {name: factory for name, factory in sinks.items() if IRecorderFactory.providedBy(factory)}


def _named_range(journal: Journal, name: str) -> ClipRange | None:
    """The part or the whole segment of that name; ``None`` if it is not there, or was lost."""
    if place := read_part_name(name):
        segment = journal.find(place[0])
        if segment is None or place[1] >= len(segment.parts) or not segment.parts[place[1]].size:
            return None
        return ClipRange(segment, place[1], place[1] + 1)
    number = read_segment_name(name)
    segment = journal.find(number) if number is not None else None
    return None if segment is None or segment.is_gap else ClipRange(segment, 0, len(segment.parts))


def _moment(query: Mapping[str, str], name: str, header: Header) -> int | None:
    """A limit of a clip: a date, or how long after the beginning of the recording."""
    text = query.get(name)
    if text is None:
        return None
    try:
        return header.started_ms + parse_duration_ms(text)
    except ConfigurationError:
        pass
    try:
        return read_date(text, name)
    except BadRequestError as error:
        raise BadRequestError(
            f"{name} is neither a date such as 2026-11-22T13:45:00Z nor a time such as 90s"
        ) from error
