"""
The recordings there are: found by the catalogue, described by their journals, deleted and protected.

Nothing here remembers what another process could have changed, but for journals of recordings that are over and full
pages of those that grow: they change no more. Entries of the catalogue are kept as long as its list says that they are
the same objects.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from twisted.internet.defer import DeferredLock, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime

from rapidrtmp.archive.journal import Journal
from rapidrtmp.archive.layout import CATALOGUE, NAMES, RecordingId, StartNames
from rapidrtmp.archive.objects import Page, journal_of, read_object, read_page
from rapidrtmp.errors import MediaError, NotFoundError, RapidRTMPError
from rapidrtmp.http.long_work import LongWork
from rapidrtmp.interfaces import IStorage, ObjectInfo
from rapidrtmp.recording.catalogue import Entry, RecordingState
from rapidrtmp.recording.growth import Growth, full_pages
from rapidrtmp.recording.listing import Listing, listing_steps
from rapidrtmp.recording.order import RecordingOrder
from rapidrtmp.recording.recovery import catalogued, delete_recording, read_catalogue_key
from rapidrtmp.recording.running import RUNNING
from rapidrtmp.recording.titles import read_title_key, title_key, title_prefix
from rapidrtmp.recording.writer import JSON_TYPE, LINES_PER_PAGE, NO_CACHE

__all__ = ["Library", "Listed", "RecordingKeptError"]

#: Journals of so many recordings that are over are kept.
KEPT_JOURNALS = 16
#: A growing journal is not read again within this time: many may watch it.
FRESH_S = 1.0
#: Journals are read for so many at a time.
MOST_READING = 4
#: A list of more recordings than this is kept, for so long for each: one of 50,000 for ten seconds.
FEW, SECONDS_EACH = 500, 0.0002
#: A list that took long to make is kept so many times as long, in bounds: an often-asked storage is to do else besides.
TIMES_MAKING, MOST_KEPT_S = 20, 1.0
#: Entries of so many recordings that are over are kept; and how far so many have come that grow.
KEPT_ENTRIES, KEPT_GROWTH = 5_000, 1_000

#: So many recordings that are not known are looked for, at once and each second.
MOST_GUESSES, GUESSES_PER_S = 20, 5.0


class RecordingKeptError(RapidRTMPError):
    """A recording that may not be deleted: it is still growing, or protected."""


@dataclass(frozen=True, slots=True)
class Listed:
    """
    One recording with what the catalogue says of it.

    :ivar title: what people call it; empty if it has none.
    """

    entry: Entry
    protected: bool
    title: str = ""


@dataclass(slots=True)
class _Growing:
    """A journal that was read while it grew: its full pages, and all of it as it was at ``read_s``."""

    pages: list[Page]
    journal: Journal
    read_s: float


@dataclass(slots=True)
class _Measured:
    """How far a recording had come at ``read_s``; what its full pages said."""

    growth: Growth
    entry: Entry
    read_s: float


class Library:
    """
    The recordings in one storage.

    :param clock: tells how fresh what was read is.
    :param names: the recordings that were there when the server started, and those begun since.
    :ivar work: where what takes long is done.
    """

    def __init__(
        self, storage: IStorage, clock: IReactorTime, names: StartNames = NAMES, work: LongWork | None = None
    ) -> None:
        self.storage = storage
        self.work = LongWork(clock) if work is None else work
        self._listing: Listing | None = None
        self._infos: list[ObjectInfo] = []
        self._listed_s = self._making_s = 0.0
        self._relisting = DeferredLock()
        self._reading = DeferredSemaphore(MOST_READING)
        self._locks: dict[RecordingId, DeferredLock] = {}
        self._clock = clock
        self._names = names
        self._guesses = float(MOST_GUESSES)
        self._guessed_s = clock.seconds()
        self._order = RecordingOrder(storage, clock)
        self._journals: OrderedDict[RecordingId, Journal] = OrderedDict()
        self._growing: OrderedDict[RecordingId, _Growing] = OrderedDict()
        self._entries: OrderedDict[RecordingId, tuple[ObjectInfo, Entry]] = OrderedDict()
        self._measured: OrderedDict[RecordingId, _Measured] = OrderedDict()

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def find(self, prefix: str = "") -> dict[RecordingId, bool]:
        """
        Every recording whose ``APP/KEY/START`` begins with ``prefix``, by name, and whether it is protected.

        :raises StorageError: the storage failed.
        """
        return await catalogued(self.storage, prefix)

    async def listing(self) -> Listing:
        """
        All recordings. A long list is not made again at once: what another server begins may be missing for seconds.

        :raises StorageError: the storage failed.
        :raises UnavailableError: too much is being done already.
        """
        known = self._listing
        if known is not None and (self._relisting.locked or self._is_good(known)):
            return known
        await self._relisting.acquire()
        try:
            known = self._listing  # another may have made it meanwhile
            return known if known is not None and self._is_good(known) else await self._list()
        finally:
            self._relisting.release()

    def _is_good(self, listing: Listing) -> bool:
        """Whether a list is not made anew yet: for a while, where it is long or took long to make."""
        count = len(listing.newest_first)
        long_s = count * SECONDS_EACH if count > FEW else 0
        kept_s = max(long_s, min(TIMES_MAKING * self._making_s, MOST_KEPT_S))
        return self._clock.seconds() - self._listed_s < kept_s

    async def _list(self) -> Listing:
        begun_s = self._clock.seconds()
        infos = await self.storage.list(f"{CATALOGUE}/")
        if self._listing is None or len(infos) > FEW or infos != self._infos:
            titles: dict[RecordingId, str] = {}
            self._listing = await self.work.do(listing_steps(_read_keys(infos, titles)))
            self._listing.titles = titles
            self._infos = infos if len(infos) <= FEW else []
        self._listed_s = self._clock.seconds()
        self._making_s = self._listed_s - begun_s
        return self._listing

    async def listed(self, listing: Listing, id: RecordingId) -> Listed:
        """
        One of a list; what has not changed since it was read is not read again.

        :raises NotFoundError: there is none of that name any more.
        :raises StorageError: the storage failed.
        """
        entry = await self._entry(id, listing.version(id))
        return Listed(entry, id in listing.protected, listing.titles.get(id, ""))

    async def show(self, id: RecordingId) -> Listed:
        """
        One recording.

        :raises NotFoundError: there is none of that name.
        :raises StorageError: the storage failed.
        """
        entry = await self.entry(id)
        titles = [read_title_key(info.key) for info in await self.storage.list(title_prefix(id))]
        title = next((each[1] for each in titles if each is not None), "")
        return Listed(entry, bool(await self.storage.list(id.protection_key)), title)

    async def entry(self, id: RecordingId) -> Entry:
        """
        What the catalogue says of a recording, and of one that grows what its writer knows; where another process
        writes it, what its journal says.

        :raises NotFoundError: there is none of that name.
        :raises StorageError: the storage failed.
        """
        return await self._entry(id, None)

    async def _entry(self, id: RecordingId, version: ObjectInfo | None) -> Entry:
        """The entry of a recording, and which version of it is wanted, if that is known."""
        running = RUNNING.progress(self.storage, id)
        if running is not None:
            return running
        kept = self._entries.get(id)
        if kept is not None and kept[0] == version:
            self._entries.move_to_end(id)
            return kept[1]
        measured = self._measured.get(id)
        if measured is not None and version is not None and self._clock.seconds() - measured.read_s < FRESH_S:
            return measured.entry
        entry = await self._stored_entry(id)
        if entry.state is RecordingState.RECORDING:
            return await self._measure(id, entry)
        self._measured.pop(id, None)
        if version is not None:
            self._entries[id] = version, entry
            _keep_newest(self._entries, KEPT_ENTRIES)
        return entry

    async def _measure(self, id: RecordingId, entry: Entry) -> Entry:
        """How far a recording has come, as far as that is known: its first line may still be on the way."""
        known = self._measured.get(id)
        now_s = self._clock.seconds()
        if known is not None and now_s - known.read_s < FRESH_S:
            return known.entry
        growth = known.growth if known is not None else Growth()
        pages = await self._read_pages(id, [[]] * growth.pages)
        new = pages[growth.pages :]
        found = growth.over(new).entry(id)
        if found is None:
            return entry
        found = replace(found, renditions=entry.renditions)
        self._measured[id] = _Measured(growth.over(full_pages(new)), found, now_s)
        self._measured.move_to_end(id)
        _keep_newest(self._measured, KEPT_GROWTH)
        return found

    async def journal(self, id: RecordingId) -> tuple[Journal, bool]:
        """
        All that is known of a recording, and whether it is over: what any client may ask for.

        :raises NotFoundError: there is none of that name, or nothing of it can be played.
        :raises StorageError: the storage failed.
        """
        if id in self._journals:
            self._journals.move_to_end(id)
            return self._journals[id], True
        if not self._may_be_there(id):
            raise NotFoundError(f"there is no recording {id}")
        lock = self._locks.setdefault(id, DeferredLock())
        await lock.acquire()  # those who want the same wait for the first
        try:
            await self._reading.acquire()
            try:
                return await self._read_journal(id)
            finally:
                self._reading.release()
        finally:
            lock.release()
            if not lock.locked:
                self._locks.pop(id, None)

    async def _read_journal(self, id: RecordingId) -> tuple[Journal, bool]:
        if id in self._journals:  # another has read it meanwhile
            return self._journals[id], True
        entry = await self._stored_entry(id)
        self._names.learn([id])
        if entry.state in (RecordingState.DELETING, RecordingState.DAMAGED):
            raise NotFoundError(f"the recording {id} is {entry.state.value}")
        if not entry.state.is_over:
            return await self._read_growing(id), False
        journal = journal_of(id, [line for page in await self._read_pages(id, []) for line in page])
        self._growing.pop(id, None)
        self._journals[id] = journal
        _keep_newest(self._journals, KEPT_JOURNALS)
        return journal, True

    def _may_be_there(self, id: RecordingId) -> bool:
        """
        Whether to ask the storage. Only another server on it can have a recording that is not known here; so strangers
        who ask for what never was are looked up a few times a second, and then no more.
        """
        if id in self._names:
            return True
        now_s = self._clock.seconds()
        self._guesses = min(float(MOST_GUESSES), self._guesses + (now_s - self._guessed_s) * GUESSES_PER_S)
        self._guessed_s = now_s
        if self._guesses < 1:
            return False
        self._guesses -= 1
        return True

    async def _stored_entry(self, id: RecordingId) -> Entry:
        try:
            return Entry.parse(id, await read_object(self.storage, id.catalogue_key))
        except NotFoundError as error:
            raise NotFoundError(f"there is no recording {id}") from error
        except MediaError as error:
            raise NotFoundError(f"the recording {id} has to be repaired: {error}") from error

    async def _read_growing(self, id: RecordingId) -> Journal:
        known = self._growing.get(id)
        now_s = self._clock.seconds()
        if known is not None and now_s - known.read_s < FRESH_S:
            return known.journal
        pages = await self._read_pages(id, known.pages if known else [])
        journal = journal_of(id, [line for page in pages for line in page])
        full = [page for page in pages if len(page) == LINES_PER_PAGE]
        self._growing[id] = _Growing(full if len(full) >= len(pages) - 1 else [], journal, now_s)
        self._growing.move_to_end(id)
        _keep_newest(self._growing, KEPT_JOURNALS)
        return journal

    async def _read_pages(self, id: RecordingId, known: list[Page]) -> list[Page]:
        """The pages of a journal, those after the ``known`` ones read now."""
        pages = [*known]
        try:
            while (page := await read_page(self.storage, id, len(pages))) is not None:
                pages.append(page)
        except MediaError as error:
            raise NotFoundError(f"the journal of {id} cannot be read: {error}") from error
        return pages

    # ── changing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def protect(self, id: RecordingId, protected: bool) -> None:
        """
        Protect a recording from deletion, or allow it again.

        :raises NotFoundError: there is none of that name, or it is being deleted.
        :raises StorageError: the storage failed.
        """
        await self._order.change(id, partial(self._protect, id, protected))

    async def _protect(self, id: RecordingId, protected: bool) -> None:
        entry = await self._stored_entry(id)
        if entry.state is RecordingState.DELETING:
            raise NotFoundError(f"the recording {id} is being deleted")
        if protected:
            await self.storage.put(id.protection_key, b"", "application/byte-stream", NO_CACHE)
        else:
            await self.storage.delete(id.protection_key)
        if self._listing is not None:
            self._listing.protect(id, protected)

    async def rename(self, id: RecordingId, title: str) -> None:
        """
        Give a recording a title, in place of the one it has.

        :param title: empty for none.
        :raises NotFoundError: there is none of that name, or it is being deleted.
        :raises StorageError: the storage failed.
        """
        await self._order.change(id, partial(self._rename, id, title))

    async def _rename(self, id: RecordingId, title: str) -> None:
        entry = await self._stored_entry(id)
        if entry.state is RecordingState.DELETING:
            raise NotFoundError(f"the recording {id} is being deleted")
        wanted = title_key(id, title) if title else ""
        if wanted:
            await self.storage.put(wanted, b"", "application/byte-stream", NO_CACHE)
        for info in await self.storage.list(title_prefix(id)):
            if info.key != wanted:
                await self.storage.delete(info.key)
        if self._listing is not None:
            self._listing.rename(id, title)

    async def delete(self, id: RecordingId) -> int:
        """
        Delete a recording. Should that break off, it is shown as being deleted, and resumed at the next start.

        :returns: how many bytes that were.
        :raises NotFoundError: there is none of that name.
        :raises RecordingKeptError: it grows, or it is protected.
        :raises StorageError: the storage failed.
        """
        return await self._order.change(id, partial(self._delete, id))

    async def _delete(self, id: RecordingId) -> int:
        entry = await self._stored_entry(id)
        if not entry.state.is_over:
            raise RecordingKeptError(f"{id} is being recorded")
        if await self.storage.list(id.protection_key):
            raise RecordingKeptError(f"{id} is protected")
        for kept in [each for each in self._journals if each.of("") == id]:
            del self._journals[kept]
        self._entries.pop(id, None)
        deleting = replace(entry, state=RecordingState.DELETING)
        await self.storage.put(id.catalogue_key, deleting.render(), JSON_TYPE, NO_CACHE)
        size = await delete_recording(self.storage, id)
        if self._listing is not None:
            self._listing.forget(id)
        return size


def _read_keys(
    infos: Iterable[ObjectInfo], titles: dict[RecordingId, str]
) -> Iterator[tuple[RecordingId, bool, ObjectInfo] | None]:
    """What each object of the catalogue says, as a list is made of it; titles are put where they are wanted."""
    for info in infos:
        found, named = read_catalogue_key(info.key), read_title_key(info.key)
        if named is not None:
            titles[named[0]] = named[1]
        yield (*found, info) if found is not None else None


def _keep_newest(kept: OrderedDict[RecordingId, Any], most: int) -> None:
    """Let go of what has been asked for the longest ago, where there is more than that."""
    while len(kept) > most:
        kept.popitem(last=False)
