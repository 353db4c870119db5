"""
Closing what a server that died left open.

Recovery only ever adds: lines that the journal lacks go to pages of their own, the init segment is put back from the
journal, parts that are cut off are deleted. So it may itself die at any time and be run again. What another process
records is left alone: it holds the lease of the stream, and has signed the recording.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import count, islice

from twisted.logger import Logger

from rapidrtmp.archive.journal import Journal, render_header, render_segment
from rapidrtmp.archive.layout import CATALOGUE, INIT_NAME, JOURNAL_TYPE, MEDIA_TYPE, RecordingId, page_name
from rapidrtmp.archive.objects import read_object
from rapidrtmp.errors import LeaseHeldError, MediaError, NotFoundError, StorageError
from rapidrtmp.interfaces import IMMUTABLE, ILeasingStorage, IStorage
from rapidrtmp.recording.catalogue import WRITER, Entry, RecordingState
from rapidrtmp.recording.titles import title_prefix
from rapidrtmp.recording.verification import Examination, examine
from rapidrtmp.recording.writer import JSON_TYPE, LINES_PER_PAGE, NO_CACHE

__all__ = ["catalogued", "delete_recording", "is_being_recorded", "mend", "recover", "recover_all"]

#: Ends the key under which a damaged object is kept.
DAMAGED_SUFFIX = ".damaged"

_log = Logger()


async def recover_all(storage: IStorage, ids: Iterable[RecordingId] | None = None) -> list[RecordingId]:
    """
    Close every recording that another process began and did not finish; finish deletions that it began.

    :param ids: those in the catalogue, if that was asked for already.
    :returns: those that were recovered or found damaged. What fails is logged, and left for the next time.
    """
    recovered = []
    for id in await catalogued(storage) if ids is None else ids:
        try:
            if await _recover_if_abandoned(storage, id):
                recovered.append(id)
        except (StorageError, MediaError) as error:
            _log.error("{recording} cannot be recovered now: {error}", recording=id, error=error)
    return recovered


async def catalogued(storage: IStorage, prefix: str = "") -> dict[RecordingId, bool]:
    """
    The recordings in the catalogue whose ``APP/KEY/START`` begins with ``prefix``, by name, and whether each of them
    is protected.

    :raises StorageError: the storage failed.
    """
    found: dict[RecordingId, bool] = {}
    for info in await storage.list(f"{CATALOGUE}/{prefix}"):
        each = read_catalogue_key(info.key)
        if each is not None:
            id, protected = each
            if not protected or id in found:  # that sorts behind the entry
                found[id] = protected
    return found


def read_catalogue_key(object_key: str) -> tuple[RecordingId, bool] | None:
    """What an object of the catalogue is: an entry, or (``True``) the protection of one; ``None``: neither."""
    app, _, rest = object_key.removeprefix(f"{CATALOGUE}/").partition("/")
    key, _, name = rest.partition("/")
    start, _, kind = name.partition(".")
    if kind not in ("json", "protected"):
        return None
    try:
        return RecordingId.checked(app, key, start), kind == "protected"
    except NotFoundError:
        return None


async def _recover_if_abandoned(storage: IStorage, id: RecordingId) -> bool:
    try:
        entry = Entry.parse(id, await read_object(storage, id.catalogue_key))
    except NotFoundError:
        return False
    except MediaError as error:
        entry = None  # it must be written again in any case
        problem = str(error)
    if entry is not None and entry.state is RecordingState.DELETING:
        await delete_recording(storage, id)
        return False
    if entry is not None and (entry.state.is_over or entry.writer == WRITER):
        return False
    if await is_being_recorded(storage, id, entry):
        return False
    if entry is None:
        await set_aside(storage, id.catalogue_key, problem)
    leasing = ILeasingStorage(storage, None)
    if leasing is None:
        await recover(storage, id)
        return True
    try:
        lease = await leasing.claim(id.folder)  # another process that starts may be at it
    except LeaseHeldError:
        return False
    try:
        await recover(storage, id)
    finally:
        await leasing.release(lease)
    return True


async def is_being_recorded(storage: IStorage, id: RecordingId, entry: Entry | None) -> bool:
    """
    Whether another process, which is alive, writes a recording; of a storage without leases that cannot be known.

    :param entry: read before this is asked; ``None`` if it says nothing.
    :raises StorageError: the storage failed.
    """
    leasing = ILeasingStorage(storage, None)
    stream = f"{id.app}/{id.key}"
    leases = await leasing.find_leases(stream) if leasing is not None else ()
    others = {lease.holder for lease in leases if lease.name == stream} - {WRITER}
    return bool(others) if entry is None else entry.writer in others


async def recover(storage: IStorage, id: RecordingId) -> Entry | None:
    """
    Close one recording from what is stored of it.

    :returns: its entry now; ``None`` if nothing was recorded, and so nothing is left of it.
    :raises MediaError: a newer program wrote it.
    :raises StorageError: the storage failed.
    """
    found = await examine(storage, id)
    if not found.segments and not (found.has_media and found.header is None):
        await delete_recording(storage, id)
        _log.info("{recording} was empty and is removed", recording=id)
        return None
    entry = await mend(storage, found, RecordingState.RECOVERED)
    _log.info(
        "{recording} was not finished: {state}, {duration_s} s, {gaps} gaps",
        recording=id,
        state=entry.state.value,
        duration_s=entry.duration_ms / 1000,
        gaps=entry.gaps,
    )
    return entry


async def mend(storage: IStorage, found: Examination, state: RecordingState) -> Entry:
    """
    Make a recording whole as far as it is stored: its init segment, its journal, those of its other renditions, its
    entry in the catalogue.

    :param state: what it is afterwards, unless nothing of it can be played.
    :raises StorageError: the storage failed.
    """
    id, journal = found.id, found.journal
    if journal is None:
        entry = Entry(id, RecordingState.DAMAGED, WRITER, id.start_ms, size=sum(info.size for info in found.objects))
    else:
        await _mend_files(storage, found, journal)
        entry = Entry.of_journal(id, state, journal)
    for rendition in found.renditions:
        entry = await _mend_rendition(storage, rendition, entry)
    await storage.put(id.catalogue_key, entry.render(), JSON_TYPE, NO_CACHE)
    return entry


async def _mend_files(storage: IStorage, found: Examination, journal: Journal) -> None:
    for key in found.broken:
        await storage.delete(key)
    for key, problem in found.damaged.items():
        await set_aside(storage, key, problem)
        await storage.delete(key)
    if not found.init_stored:
        await storage.put(f"{found.id.folder}/{INIT_NAME}", journal.header.init, MEDIA_TYPE, IMMUTABLE)
    await _write_missing_lines(storage, found)


async def _mend_rendition(storage: IStorage, found: Examination, entry: Entry) -> Entry:
    """Make another rendition whole, or remove it where nothing of it can be played; the entry with it or without."""
    journal = found.journal
    if journal is None or not journal.playable:
        for info in found.objects:
            await storage.delete(info.key)
        return entry
    await _mend_files(storage, found, journal)
    names = (*entry.renditions, found.id.rendition)
    return replace(entry, renditions=names, size=entry.size + journal.size)


async def set_aside(storage: IStorage, key: str, problem: str) -> None:
    """Keep a damaged object beside its place, under a name that nothing reads, and say which it is."""
    data = await read_object(storage, key)
    if data:
        await storage.put(f"{key}{DAMAGED_SUFFIX}", data, "application/byte-stream", NO_CACHE)
    _log.error("{key} is damaged and set aside: {problem}", key=key, problem=problem)


async def _write_missing_lines(storage: IStorage, found: Examination) -> None:
    """Add pages; the numbers of pages that are missing between others are used first."""
    lines = [render_segment(segment) for segment in found.unwritten]
    if not found.header_stored and found.header is not None:
        lines.insert(0, render_header(found.header))
        found.pages.discard(0)  # whatever is left of it has no first line
        lines[1:] = [render_segment(segment) for segment in found.segments]
    free = (number for number in count() if number not in found.pages)
    needed = -(-len(lines) // LINES_PER_PAGE)
    holes = sum(number not in found.pages for number in range(max(found.pages, default=-1)))
    for place, number in enumerate(islice(free, max(needed, holes))):
        page = b"".join(lines[place * LINES_PER_PAGE : (place + 1) * LINES_PER_PAGE])
        await storage.put(f"{found.id.folder}/{page_name(number)}", page, JOURNAL_TYPE, NO_CACHE)


async def delete_recording(storage: IStorage, id: RecordingId) -> int:
    """
    Delete all of a recording, its entry in the catalogue last, so that an interrupted deletion can be resumed.

    :returns: how many bytes that were.
    :raises StorageError: the storage failed.
    """
    objects = await storage.list(f"{id.folder}/")
    for info in objects:
        await storage.delete(info.key)
    await storage.delete(id.protection_key)
    for info in await storage.list(title_prefix(id)):
        await storage.delete(info.key)
    await storage.delete(f"{id.catalogue_key}{DAMAGED_SUFFIX}")
    await storage.delete(id.catalogue_key)
    return sum(info.size for info in objects)
