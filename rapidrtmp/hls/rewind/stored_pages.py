"""
The pages of rewind journals as they are stored: listed once for each segment that comes, read once for each that grows.

Any client may ask for clips and for segments that have left the shelf, as often as it likes; so the storage is asked
for what has changed alone. A page that is full never changes, and one that grows does so at its end: its name and its
size say which lines it has.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rapidrtmp.archive.journal import Header, RecordedSegment
from rapidrtmp.archive.objects import read_object
from rapidrtmp.errors import MediaError, NotFoundError
from rapidrtmp.hls.names import PAGES, PageName, first_number, is_init
from rapidrtmp.hls.rewind.journal import read_rewind_page
from rapidrtmp.http.long_work import LongWork
from rapidrtmp.interfaces import IStorage, Playlist
from rapidrtmp.names import StreamName

__all__ = ["Page", "PageList", "StoredPages"]

#: So many pages are read side by side, for all clients.
CONCURRENCY = 8
#: A list of pages that lacks the newest segment is not made again within this time: its page is on the way.
FRESH_S = 1.0
#: The lists of so many streams are kept, those that were asked for last.
MOST_LISTS = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """One page; it has a segment at least."""

    name: PageName
    header: Header
    segments: Sequence[RecordedSegment]

    @property
    def end_ms(self) -> int:
        """The wall-clock time at which it ends, in milliseconds since 1970."""
        last = self.segments[-1]
        return last.utc_ms + last.duration * 1000 // self.header.timescale

    @property
    def memory_bytes(self) -> int:
        """About how much it takes to keep it."""
        return 2000 + len(self.header.init) + 400 * len(self.segments)


@dataclass(frozen=True, slots=True)
class PageList:
    """
    Which pages there are of a stream.

    :ivar sizes: in bytes, by name, in order; at least one.
    :ivar last: the last one that can be read: as a rule the one that is still written.
    """

    sizes: dict[PageName, int]
    last: Page

    @property
    def first_sequence(self) -> int:
        """The media sequence number of the first segment that may be stored still."""
        return next(iter(self.sizes)).first

    def may_have(self, name: str) -> bool:
        """Whether a segment or an init segment of that name may be stored."""
        number = first_number(name)
        return any(page.init == number for page in self.sizes) if is_init(name) else number >= self.first_sequence


@dataclass(slots=True)
class _Listed:
    """A list, when it was made, and the version of the playlist that it was made for."""

    pages: PageList
    made_s: float
    sequence: int

    def is_good(self, playlist: Playlist, now_s: float) -> bool:
        """Whether it says all that the playlist does, or was made for it just now."""
        if self.pages.last.segments[-1].number >= playlist.last_sequence:
            return True
        return self.sequence == playlist.last_sequence and now_s - self.made_s < FRESH_S


class StoredPages:
    """
    The pages of the streams of one server.

    :param work: keeps what was read.
    :param clock: tells how fresh a list is.
    """

    _log = Logger()

    def __init__(self, work: LongWork, clock: IReactorTime) -> None:
        self._work = work
        self._clock = clock
        self._lists: OrderedDict[StreamName, _Listed] = OrderedDict()
        self._locks: dict[StreamName, DeferredLock] = {}
        self._reading = DeferredSemaphore(CONCURRENCY)

    async def of(self, storage: IStorage, stream: StreamName, playlist: Playlist) -> PageList:
        """
        The pages there are.

        :param playlist: the rewind playlist as it is now.
        :raises NotFoundError: there are none yet.
        :raises StorageError: the storage failed.
        """
        known = self._known(stream, playlist)
        if known is not None:
            return known
        lock = self._locks.setdefault(stream, DeferredLock())
        await lock.acquire()  # those who want the same wait for the first
        try:
            return self._known(stream, playlist) or await self._list(storage, stream, playlist)
        finally:
            lock.release()
            if not lock.locked:
                self._locks.pop(stream, None)

    def _known(self, stream: StreamName, playlist: Playlist) -> PageList | None:
        listed = self._lists.get(stream)
        if listed is None or not listed.is_good(playlist, self._clock.seconds()):
            return None
        self._lists.move_to_end(stream)
        return listed.pages

    async def _list(self, storage: IStorage, stream: StreamName, playlist: Playlist) -> PageList:
        found = {}
        for info in await storage.list(f"{stream}/{PAGES}"):
            name = PageName.parse(info.key.rpartition("/")[2])
            if name is not None:
                found[name] = info.size
        sizes = dict(sorted(found.items()))
        last = await self._last(storage, stream, sizes)
        if last is None:
            raise NotFoundError(f"nothing of {stream} is stored yet")
        pages = PageList(sizes, last)
        self._lists[stream] = _Listed(pages, self._clock.seconds(), playlist.last_sequence)
        self._lists.move_to_end(stream)
        if len(self._lists) > MOST_LISTS:
            self._lists.popitem(last=False)
        return pages

    async def _last(self, storage: IStorage, stream: StreamName, sizes: dict[PageName, int]) -> Page | None:
        for name, size in reversed(sizes.items()):
            page = await self._page(storage, stream, name, size)
            if page is not None:
                return page
        return None

    async def read(
        self, storage: IStorage, stream: StreamName, pages: PageList, names: Sequence[PageName]
    ) -> list[Page]:
        """
        Some of the pages, but for those that are damaged.

        :raises NotFoundError: one is deleted by now.
        :raises StorageError: the storage failed.
        """
        found: list[Page | None] = []
        for at in range(0, len(names), CONCURRENCY):
            some = [
                Deferred.fromCoroutine(self._page(storage, stream, name, pages.sizes[name]))
                for name in names[at : at + CONCURRENCY]
                if name != pages.last.name
            ]
            found += await gatherResults(some, consumeErrors=True)
        if pages.last.name in names:
            found.append(pages.last)
        return [page for page in found if page is not None]

    async def _page(self, storage: IStorage, stream: StreamName, name: PageName, size: int) -> Page | None:
        """One page; ``None`` if it is damaged."""
        key = storage, stream, name
        kept = self._work.kept((*key, size))
        if kept is not None:
            return cast(Page, kept)
        await self._reading.acquire()
        try:
            kept = self._work.kept((*key, size))  # another may have read it meanwhile
            if kept is not None:
                return cast(Page, kept)
            data = await read_object(storage, f"{stream}/{name}")
        finally:
            self._reading.release()
        try:
            page = Page(name, *read_rewind_page(data))
        except MediaError as error:
            self._log.error(
                "{stream}/{page}: no clips of what it describes: {error}", stream=stream, page=name, error=error
            )
            return None
        self._work.keep((*key, len(data)), page, page.memory_bytes)
        return page
