"""
Going through what a server that is no more left of its streams, before anyone publishes again.

A stream whose playlist is final keeps it. One that was still running is made ready to be gone on with: its window and
its bytes are read, its playlist is written with gaps for what was published and never stored, and numbers for what
comes next are reserved. Where that is not possible its playlist becomes final. Media that no playlist names are
deleted. Nothing else is touched: other names, and whatever lies deeper, belong to others.

Each step leaves something from which all of them can be done again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Container, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

from rapidrtmp.errors import MediaError, NotFoundError, StorageError
from rapidrtmp.hls.leftovers import Leftovers
from rapidrtmp.hls.mirror import PLAYLIST_TYPE
from rapidrtmp.hls.names import MEDIA_PLAYLIST, MULTIVARIANT_PLAYLIST, STATE, is_media, is_page
from rapidrtmp.hls.parsed import MediaPlaylist
from rapidrtmp.hls.parser import parse_media_playlist
from rapidrtmp.hls.playlist import PlaylistWindow
from rapidrtmp.hls.resume import bridge, named_media, reopen
from rapidrtmp.hls.rewind_journal import check_pages, listed_from, named_by_pages, page_order
from rapidrtmp.hls.state import RENEW_BELOW, STATE_TYPE, MirrorState
from rapidrtmp.interfaces import ObjectInfo, RecoveryContext
from rapidrtmp.names import BadNameError, StreamName

__all__ = ["HlsRecovery"]

#: So many streams are looked at side by side.
CONCURRENCY = 8
#: How often an object is asked for before its stream is given up.
ATTEMPTS = 3

T = TypeVar("T")
#: What the storage holds directly under the name of a stream.
Folder = dict[str, ObjectInfo]


class HlsRecovery:
    """
    Goes through the streams of one application, once.

    :param window_size: how many segments a playlist lists.
    :param leftovers: told of what final playlists still name.
    :param max_bytes: of media to be read into memory, for all streams together.
    :param rewinds: whether there are rewind windows to go on with.
    """

    def __init__(
        self,
        context: RecoveryContext,
        window_size: int,
        leftovers: Leftovers,
        max_bytes: int,
        *,
        rewinds: bool = False,
    ) -> None:
        self._context = context
        self._window_size = window_size
        self._leftovers = leftovers
        self._bytes_left = max_bytes
        self._rewinds = rewinds
        self._todo: deque[tuple[StreamName, Folder]] = deque()

    async def run(self) -> None:
        """
        Do it. A stream that fails is logged and left as it is.

        :raises StorageError: the storage can not even say what it holds.
        """
        app = self._context.app
        self._todo.extend(folders_of(app, await self._context.storage.list(f"{app}/")).items())
        await _together(self._work() for _ in range(CONCURRENCY))

    async def _work(self) -> None:
        while self._todo:
            stream, folder = self._todo.popleft()
            try:
                await self._recover(stream, folder)
            except (StorageError, MediaError) as error:
                self._context.log.error(
                    "{stream} is left as a server that ended has left it: {error}", stream=stream, error=error
                )

    async def _recover(self, stream: StreamName, folder: Folder) -> None:
        state = await self._read_state(stream, folder)
        if MEDIA_PLAYLIST not in folder:
            self._discard_unnamed(stream, folder, ())
            return
        playlist = parse_media_playlist(await self._read(f"{stream}/{MEDIA_PLAYLIST}"))
        if playlist.problems:
            problem = playlist.problems[0]
            raise MediaError(f"line {problem.line} of its playlist: {problem.detail}")
        self._context.reached(playlist.next_sequence + RENEW_BELOW)
        kept = None if playlist.ended else await self._resume(stream, folder, playlist, state)
        if kept is not None:
            self._discard_unnamed(stream, folder, kept)
            return
        if not playlist.ended:
            await self._end(stream)
        named = {segment.uri for segment in playlist.segments}
        named |= {segment.init.uri for segment in playlist.segments if segment.init}
        self._leftovers.leave(stream, sorted(name for name in named if name in folder and is_media(name)))
        self._discard_unnamed(stream, folder, named)

    async def _read_state(self, stream: StreamName, folder: Folder) -> MirrorState | None:
        if STATE not in folder:
            return None
        try:
            state = MirrorState.parse(await self._read(f"{stream}/{STATE}"))
        except MediaError as error:
            self._context.log.error("{stream}: {error}", stream=stream, error=error)
            return None
        self._context.reached(state.next_sequence)
        return state

    # ── a stream that was running ────────────────────────────────────────────────────────────────────────────────────

    async def _resume(
        self, stream: StreamName, folder: Folder, playlist: MediaPlaylist, state: MirrorState | None
    ) -> set[str] | None:
        """Make a stream ready to be gone on with; what it needs then, or ``None`` if that can not be done."""
        if state is None:
            return None
        pages = await self._read_pages(stream, folder) if self._rewinds else {}
        try:
            window = reopen(playlist, state.constants, self._window_size)
            for segment in listed_from(pages, window.next_sequence):  # which the playlist did not list any more
                window.append(segment)
                window.next_sequence += 1
            objects = await self._read_media(stream, folder, window)
            bridge(window, state.next_sequence, self._context.utc_ms())
        except MediaError as error:
            self._context.log.error("{stream} can not be gone on with: {error}", stream=stream, error=error)
            return None
        reserved = window.next_sequence + RENEW_BELOW
        objects[MEDIA_PLAYLIST] = window.render_plain()
        objects[STATE] = MirrorState(state.constants, reserved).render()
        await self._put(f"{stream}/{MEDIA_PLAYLIST}", objects[MEDIA_PLAYLIST], PLAYLIST_TYPE)
        await self._put(f"{stream}/{STATE}", objects[STATE], STATE_TYPE)
        self._context.reached(reserved)
        self._context.resume(stream, {**objects, **pages})
        return named_media(window) | named_by_pages(pages)

    async def _read_pages(self, stream: StreamName, folder: Folder) -> dict[str, bytes]:
        """The journal of its rewind window, as far as it can be read."""
        names = sorted(filter(is_page, folder), key=page_order)
        pages: dict[str, bytes] = {}
        for at in range(0, len(names), CONCURRENCY):
            some = names[at : at + CONCURRENCY]
            read = await _together(self._read(f"{stream}/{name}") for name in some)
            pages |= dict(zip(some, read, strict=True))
        return check_pages(pages, folder)

    async def _read_media(self, stream: StreamName, folder: Folder, window: PlaylistWindow) -> dict[str, bytes]:
        """What a window names, and the multivariant playlist; a segment that is not there becomes a gap."""
        for index, segment in enumerate(window.segments):
            if not segment.gap and not {segment.uri, segment.map_uri} <= folder.keys():
                window.segments[index] = segment.as_gap()
        names = [name for name in (MULTIVARIANT_PLAYLIST, *sorted(named_media(window))) if name in folder]
        size = sum(folder[name].size for name in names)
        if size > self._bytes_left:
            raise MediaError(f"its {size} bytes are too many to be read now")
        self._bytes_left -= size
        return {name: await self._read(f"{stream}/{name}") for name in names}

    # ── a stream that is over ────────────────────────────────────────────────────────────────────────────────────────

    async def _end(self, stream: StreamName) -> None:
        """Make a stored playlist final as it is."""
        body = await self._read(f"{stream}/{MEDIA_PLAYLIST}")
        await self._put(f"{stream}/{MEDIA_PLAYLIST}", body + b"#EXT-X-ENDLIST\n", PLAYLIST_TYPE)
        self._context.log.info("{stream}: its playlist is final now", stream=stream)

    def _discard_unnamed(self, stream: StreamName, folder: Folder, named: Container[str]) -> None:
        orphans = [name for name in folder if (is_media(name) or is_page(name)) and name not in named]
        for name in orphans:
            self._context.discard(f"{stream}/{name}")
        if orphans:
            self._context.log.info(
                "{stream}: {count} objects that no playlist names are removed", stream=stream, count=len(orphans)
            )

    # ── the storage ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _read(self, key: str) -> bytes:
        async def read() -> bytes:
            try:
                stored = await self._context.storage.get(key)
                return b"".join([chunk async for chunk in stored.chunks])
            except NotFoundError as error:
                raise MediaError(f"{key} was there and is not") from error

        return await _persistently(read)

    async def _put(self, key: str, data: bytes, content_type: str) -> None:
        async def put() -> None:
            await self._context.storage.put(key, data, content_type, "no-cache")

        await _persistently(put)


async def _together(jobs: Iterable[Coroutine[Deferred[Any], Any, T]]) -> list[T]:
    """Do them side by side; what the first to fail raises, this raises."""
    try:
        return await gatherResults([Deferred.fromCoroutine(job) for job in jobs], consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()


async def _persistently(call: Callable[[], Awaitable[T]]) -> T:
    """Call it, and again at once if it fails in a way that may pass."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await call()
        except StorageError as error:
            if not error.retryable:
                raise
    return await call()


def folders_of(app: str, objects: Sequence[ObjectInfo]) -> Mapping[StreamName, Folder]:
    """The objects that lie directly under the name of a stream of ``app``, by stream and by name."""
    folders: dict[StreamName, Folder] = {}
    for info in objects:
        path = info.key.split("/")
        if len(path) != 3:
            continue
        try:
            stream = StreamName.checked(app, path[1])
        except BadNameError:
            continue
        folders.setdefault(stream, {})[path[2]] = info
    return folders
