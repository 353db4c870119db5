"""
Going through what a server that is no more left of its streams, before anyone publishes again.

A stream whose playlist is final keeps it. One that was still running is made ready to be resumed: its window and
its bytes are read, its playlist is written with gaps for what was published and never stored, and numbers for what
comes next are reserved. Where that is not possible its playlist becomes final. Media that no playlist names are
deleted. Nothing else is touched: other names, and whatever lies deeper, belong to others. So do streams that another
process writes: a stream is claimed before it is read to be changed.

Each step leaves something from which all of them can be done again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Container, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

from rapidrtmp.errors import MediaError, NotFoundError, StorageError
from rapidrtmp.hls.discontinuities import DiscontinuityNumbers
from rapidrtmp.hls.names import (
    MEDIA_PLAYLIST,
    MULTIVARIANT_PLAYLIST,
    PAGES,
    STATE,
    PageName,
    first_number,
    is_media,
    is_page,
    running_key,
    running_prefix,
)
from rapidrtmp.hls.playlist import PlaylistWindow
from rapidrtmp.hls.resume.orphaned_media import OrphanedMedia
from rapidrtmp.hls.resume.reopen import bridge, named_media, reopen
from rapidrtmp.hls.resume.resume_state import ResumeState
from rapidrtmp.hls.resume.state import MOST_SEQUENCE, RENEW_BELOW, STATE_TYPE, StoredState
from rapidrtmp.hls.rewind.journal import as_stored, listed_from, read_rewind_page
from rapidrtmp.hls.rewind.rewind import Rewind
from rapidrtmp.hls.segment import ListedSegment
from rapidrtmp.hls.stored_copy import MEDIA_TYPE, SEGMENT_TYPE
from rapidrtmp.interfaces import PLAYLIST_TYPE, ObjectInfo, RecoveryContext
from rapidrtmp.m3u8.model import MediaPlaylist
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.write import render_media_playlist
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
    :param orphans: takes the names that final playlists still list.
    :param resume_state: knows the streams that begin meanwhile, which are left alone.
    :param discontinuities: takes the numbers that stored playlists use.
    :param max_bytes: of media to be read into memory, for all streams together.
    :param rewinds: whether there are rewind windows to resume.
    """

    def __init__(
        self,
        context: RecoveryContext,
        window_size: int,
        orphans: OrphanedMedia,
        resume_state: ResumeState,
        discontinuities: DiscontinuityNumbers,
        max_bytes: int,
        *,
        rewinds: bool = False,
    ) -> None:
        self._context = context
        self._window_size = window_size
        self._orphans = orphans
        self._resume_state = resume_state
        self._discontinuities = discontinuities
        self._bytes_left = max_bytes
        self._rewinds = rewinds
        self._running: set[StreamName] = set()
        self._done: set[StreamName] = set()

    async def run(self) -> None:
        """
        Make ready what was running, then put the rest in order. A stream that fails is logged and left as it is.

        :raises StorageError: the storage cannot even say what it holds.
        """
        app = self._context.app
        with self._resume_state.watched():
            self._running = set(streams_of(app, await self._context.storage.list(running_prefix(app))))
            await self._for_each(self._running, self._prepare)
            folders = folders_of(app, await self._context.storage.list(f"{app}/"))
            await self._for_each(folders, lambda stream: self._put_in_order(stream, folders[stream]))

    async def arrive(self, stream: StreamName, left: Mapping[str, bytes]) -> None:
        """
        Make one stream ready to be resumed: of what another process left, or of what is stored where that is nothing.

        :raises StorageError: the storage does not answer.
        """
        if not left:
            if self._context.is_stored:
                try:
                    await self._prepare(stream)
                except MediaError as error:
                    self._context.log.error("{stream} cannot be resumed: {error}", stream=stream, error=error)
            return
        state = StoredState.parse(left[STATE])
        window = reopen(parse_media_playlist(left[MEDIA_PLAYLIST]), state.constants, self._window_size)
        self._context.reached(window.next_sequence + RENEW_BELOW)
        self._discontinuities.reached(stream, window.last_discontinuity)
        if self._context.is_stored:
            self._context.afterwards(partial(self._complete, stream, left))
            self._context.afterwards(partial(self._give_back, stream, named_media(window), window.next_sequence))
        self._context.resume(stream, left)

    async def _complete(self, stream: StreamName, left: Mapping[str, bytes]) -> None:
        """Store the media that the process before did not live to store: the stored playlist names them."""
        infos = await self._context.storage.list(f"{stream}/")
        stored = {info.key.rpartition("/")[2] for info in infos}
        for name in left.keys() - stored - {MEDIA_PLAYLIST, MULTIVARIANT_PLAYLIST, STATE}:
            await self._put(f"{stream}/{name}", left[name], SEGMENT_TYPE if is_media(name) else MEDIA_TYPE)

    async def _for_each(self, streams: Iterable[StreamName], work: Callable[[StreamName], Awaitable[object]]) -> None:
        """Do something for each of them that is not done with, some side by side."""
        left = (stream for stream in streams if stream not in self._done)

        async def do() -> None:
            for stream in left:
                try:
                    await work(stream)
                except (StorageError, MediaError) as error:
                    self._done.add(stream)
                    self._context.log.error(
                        "{stream} cannot be recovered, its files stay as they are: {error}", stream=stream, error=error
                    )

        await _together(do() for _ in range(CONCURRENCY))

    async def _put_in_order(self, stream: StreamName, folder: Folder) -> None:
        """Resume a stream whose server did not note that it was running, or see to what is left of one that is over."""
        if self._resume_state.has_begun(stream) or await self._is_in_order(stream, folder):
            return
        if not await self._context.claim(stream) or self._resume_state.has_begun(stream):
            return
        if MEDIA_PLAYLIST not in folder:
            await self._read_state(stream)
            self._discard(stream, folder, ())
            return
        if stream in self._running or not await self._prepare(stream):
            await self._settle(stream, folder)

    async def _is_in_order(self, stream: StreamName, folder: Folder) -> bool:
        """Whether a stream is over and nothing of it has to be changed: most are, and need no lease."""
        if stream in self._running:
            return False
        named: set[str] = set()
        if MEDIA_PLAYLIST in folder:
            playlist = await self._read_playlist(stream)
            if playlist is None or not playlist.ended:
                return False
            named = names_in(playlist)
        if orphans_of(folder, named):
            return False
        await self._read_state(stream)
        if not self._resume_state.has_begun(stream):
            self._leave(stream, folder, named)
        return True

    async def _prepare(self, stream: StreamName) -> bool:
        """Make a stream ready to be resumed, if it was running; whether it is to be left alone from now on."""
        if not await self._context.claim(stream):
            self._done.add(stream)
            return True
        state = await self._read_state(stream, is_ours=True)
        playlist = await self._read_playlist(stream)
        if playlist is None or playlist.ended or state is None:
            return False
        if not await self._resume(stream, playlist, state):
            return False
        self._done.add(stream)
        return True

    async def _read_playlist(self, stream: StreamName) -> MediaPlaylist | None:
        body = await self._find(f"{stream}/{MEDIA_PLAYLIST}")
        if body is None:
            return None
        playlist = parse_media_playlist(body)
        if playlist.problems:
            problem = playlist.problems[0]
            raise MediaError(f"line {problem.line} of its playlist: {problem.detail}")
        highest = max(playlist.next_sequence, playlist.last_discontinuity)
        if highest > MOST_SEQUENCE:  # no other stream may have to count from there
            raise MediaError(f"its playlist reaches a number of {len(str(highest))} digits")
        self._context.reached(playlist.next_sequence + RENEW_BELOW)
        self._discontinuities.reached(stream, playlist.last_discontinuity)
        return playlist

    async def _read_state(self, stream: StreamName, *, is_ours: bool = False) -> StoredState | None:
        """The state, if there is one that can be read; one that cannot is kept aside if the stream ``is_ours``."""
        body = await self._find(f"{stream}/{STATE}")
        if body is None:
            return None
        try:
            state = StoredState.parse(body)
        except MediaError as error:
            self._context.log.error("{stream}: {name} is damaged: {error}", stream=stream, name=STATE, error=error)
            if is_ours and body:
                await self._put(f"{stream}/{STATE}.damaged", body, "application/byte-stream")
            return None
        self._context.reached(state.next_sequence)
        if state.discontinuity is not None:
            self._discontinuities.reached(stream, state.discontinuity)
        return state

    # ── a stream that was running ────────────────────────────────────────────────────────────────────────────────────

    async def _resume(self, stream: StreamName, playlist: MediaPlaylist, state: StoredState) -> bool:
        """Make a stream ready to be resumed; whether that can be done."""
        try:
            window = reopen(playlist, state.constants, self._window_size)
            for segment in await self._not_listed(stream, window.next_sequence):
                window.append(segment)
            objects = await self._read_media(stream, window)
            bridge(window, state, self._context.utc_ms())
        except MediaError as error:
            self._context.log.error("{stream} cannot be resumed: {error}", stream=stream, error=error)
            return False
        if self._context.is_over():
            return True  # it may have begun anew
        reserved = window.next_sequence + RENEW_BELOW
        objects[MEDIA_PLAYLIST] = render_media_playlist(window.plain()).encode()
        objects[STATE] = StoredState(state.constants, reserved, discontinuity=window.last_discontinuity).render()
        await self._put(f"{stream}/{MEDIA_PLAYLIST}", objects[MEDIA_PLAYLIST], PLAYLIST_TYPE)
        await self._put(f"{stream}/{STATE}", objects[STATE], STATE_TYPE)
        self._context.reached(reserved)
        self._context.afterwards(partial(self._give_back, stream, named_media(window), window.next_sequence))
        self._context.resume(stream, objects)
        return True

    async def _not_listed(self, stream: StreamName, sequence: int) -> list[ListedSegment]:
        """What the journal, if there is one, tells of the segment ``sequence`` and those behind it."""
        if not self._rewinds:
            return []
        names = pages_of(info.key.rpartition("/")[2] for info in await self._context.storage.list(f"{stream}/{PAGES}"))
        latest = names[max(bisect_right(names, sequence, key=lambda name: name.first) - 1, 0) :]
        read = await _together(self._find(f"{stream}/{name}") for name in latest)
        try:
            return listed_from([(name, data) for name, data in zip(latest, read, strict=True) if data], sequence)
        except MediaError:
            return []  # as if it were not there

    async def _read_media(self, stream: StreamName, window: PlaylistWindow) -> dict[str, bytes]:
        """What a window names, and the multivariant playlist; a segment that is not there becomes a gap."""
        names = [MULTIVARIANT_PLAYLIST, *sorted(named_media(window))]
        found: dict[str, bytes] = {}
        for at in range(0, len(names), CONCURRENCY):
            some = names[at : at + CONCURRENCY]
            read = await _together(self._find(f"{stream}/{name}") for name in some)
            for name, data in zip(some, read, strict=True):
                if data is not None:
                    found[name] = data
                    self._bytes_left -= len(data)
            if self._bytes_left < 0:
                self._bytes_left += sum(map(len, found.values()))
                raise MediaError(f"its segments are too many to be read now: {len(window.segments)}")
        for segment in window.segments:
            if not segment.gap and not {segment.uri, segment.map_uri} <= found.keys():
                window.lose(segment.sequence)
        needed = named_media(window)
        return {name: data for name, data in found.items() if name in needed or name == MULTIVARIANT_PLAYLIST}

    # ── its rewind window ────────────────────────────────────────────────────────────────────────────────────────────

    async def _give_back(self, stream: StreamName, kept: set[str], before: int) -> None:
        """
        Give a resumed stream its rewind window back, then remove what neither that nor its playlist names.

        :param kept: what the playlist names.
        :param before: the first number that this process used.
        """
        expecting = self._resume_state.rewinds.pop(stream, None)
        if self._rewinds and expecting is None:
            return  # no sink has resumed it
        try:
            folder = folders_of(self._context.app, await self._context.storage.list(f"{stream}/")).get(stream, {})
            if expecting is not None:
                await self._read_pages(stream, folder, expecting.rewind, before)
        except StorageError as error:
            self._context.log.error("{stream}: its rewind window cannot be read: {error}", stream=stream, error=error)
            if expecting is not None:
                expecting.rewind.forget()
                expecting.rewind.join_pages()
            return
        if expecting is not None:
            expecting.rewind.join_pages()
            expecting.returned()
            kept = kept | expecting.rewind.names
        self._discard(stream, {name: info for name, info in folder.items() if first_number(name) < before}, kept)

    async def _read_pages(self, stream: StreamName, folder: Folder, rewind: Rewind, before: int) -> None:
        """Read a journal page by page, some ahead."""
        names = deque(pages_of(folder))
        reading: deque[tuple[PageName, Deferred[bytes | None]]] = deque()
        try:
            while names or reading:
                while names and len(reading) < CONCURRENCY:
                    name = names.popleft()
                    if name.first < before:
                        reading.append((name, Deferred.fromCoroutine(self._find(f"{stream}/{name}"))))
                if reading:
                    name, data = reading.popleft()
                    give_back(rewind, name, await data, folder)
        finally:
            for _, data in reading:
                data.addErrback(lambda _: None)
                data.cancel()

    # ── a stream that is over ────────────────────────────────────────────────────────────────────────────────────────

    async def _settle(self, stream: StreamName, folder: Folder) -> None:
        """Make a stored playlist final as it is, and remember what it names."""
        body = await self._read(f"{stream}/{MEDIA_PLAYLIST}")
        playlist = parse_media_playlist(body)
        if self._resume_state.has_begun(stream):
            return
        if not playlist.ended:
            await self._put(f"{stream}/{MEDIA_PLAYLIST}", body + b"#EXT-X-ENDLIST\n", PLAYLIST_TYPE)
            self._context.log.info("{stream}: its playlist is final now", stream=stream)
        if not self._resume_state.has_begun(stream):
            self._context.discard(running_key(*stream))
        named = names_in(playlist)
        self._leave(stream, folder, named)
        self._discard(stream, folder, named)

    def _leave(self, stream: StreamName, folder: Folder, named: Iterable[str]) -> None:
        media = sorted(name for name in named if name in folder and is_media(name))
        if media:
            self._orphans.leave(stream, media)

    def _discard(self, stream: StreamName, folder: Folder, named: Container[str]) -> None:
        orphans = orphans_of(folder, named)
        for name in orphans:
            self._context.discard(f"{stream}/{name}")
        if orphans:
            self._context.log.info(
                "{stream}: {count} objects that no playlist names are removed", stream=stream, count=len(orphans)
            )

    # ── the storage ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _read(self, key: str) -> bytes:
        data = await self._find(key)
        if data is None:
            raise MediaError(f"{key} was there and is not")
        return data

    async def _find(self, key: str) -> bytes | None:
        """A whole object; ``None`` if there is none."""

        async def read() -> bytes | None:
            try:
                stored = await self._context.storage.get(key)
                return b"".join([chunk async for chunk in stored.chunks])
            except NotFoundError:
                return None

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


def names_in(playlist: MediaPlaylist) -> set[str]:
    """Every segment and init segment that a playlist names."""
    inits = {segment.init.uri for segment in playlist.segments if segment.init}
    return inits | {segment.uri for segment in playlist.segments}


def orphans_of(folder: Iterable[str], named: Container[str]) -> list[str]:
    """The media, and the pages of journals, that are in a folder and have no name in a playlist."""
    return [name for name in folder if (is_media(name) or is_page(name)) and name not in named]


def pages_of(names: Iterable[str]) -> list[PageName]:
    """The pages of a journal among these names, in order."""
    return sorted(filter(None, map(PageName.parse, names)))


def streams_of(app: str, objects: Sequence[ObjectInfo]) -> list[StreamName]:
    """The streams of ``app`` that said that they were running."""
    keys = (info.key.removeprefix(running_prefix(app)) for info in objects)
    return [StreamName(app, key) for key in keys if is_stream_key(app, key)]


def is_stream_key(app: str, key: str) -> bool:
    """Whether a stream can have this name."""
    try:
        StreamName.checked(app, key)
    except BadNameError:
        return False
    return True


def folders_of(app: str, objects: Sequence[ObjectInfo]) -> Mapping[StreamName, Folder]:
    """The objects that lie directly under the name of a stream of ``app``, by stream and by name."""
    folders: dict[StreamName, Folder] = {}
    others: set[str] = set()
    for info in objects:
        _, key, *rest = info.key.split("/")
        if len(rest) != 1 or key in others:
            continue
        stream = StreamName(app, key)
        if stream not in folders:
            if not is_stream_key(app, key):
                others.add(key)
                continue
            folders[stream] = {}
        folders[stream][rest[0]] = info
    return folders


def give_back(rewind: Rewind, name: PageName, data: bytes | None, stored: Container[str]) -> None:
    """Give a page back to a rewind window; one that cannot be read takes all before it along."""
    try:
        header, segments = read_rewind_page(data or b"")
    except MediaError:
        rewind.forget()
    else:
        rewind.give_back(name, header, as_stored(name, segments, stored))
