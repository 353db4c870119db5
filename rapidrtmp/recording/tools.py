"""
``rapidrtmp recordings``: look at the recordings in a storage, repair them, take them out; without a server.

Each tool is given the storage and returns lines to print and whether all is well. What it works on it
shows to ``progress``.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.logger import Logger

from rapidrtmp.archive.clip import whole_recording
from rapidrtmp.archive.journal import Journal
from rapidrtmp.archive.layout import CATALOGUE, INIT_NAME, ROOT, RecordingId, segment_name
from rapidrtmp.archive.movie import Movie, make_movie, make_segment
from rapidrtmp.archive.objects import read_object
from rapidrtmp.archive.playlist import render_recording
from rapidrtmp.discovery import make_storage_factory
from rapidrtmp.errors import ConfigurationError, MediaError, NotFoundError
from rapidrtmp.interfaces import IStorage, StorageContext
from rapidrtmp.names import MULTIVARIANT_PLAYLIST
from rapidrtmp.recording.catalogue import Entry, RecordingState
from rapidrtmp.recording.multivariant import multivariant_text
from rapidrtmp.recording.recovery import is_being_recorded, mend, recover
from rapidrtmp.recording.verification import Examination, examine
from rapidrtmp.support.clock import utc_ms
from rapidrtmp.support.progress import ShowsProgress, no_progress

__all__ = ["Outcome", "export", "repair", "use_storage", "verify"]

#: What was written to within this time may still be growing: repairing it would close it.
QUIET_MS = 60_000


@dataclass(frozen=True)
class Outcome:
    """
    What a tool did.

    :ivar lines: to be printed.
    :ivar is_well: whether nothing is wrong, or no more.
    """

    lines: list[str]
    is_well: bool = True


def use_storage(spec: str, work: Callable[[IStorage], Coroutine[Any, Any, Outcome]]) -> Outcome:
    """
    Let ``work`` use the storage that ``spec`` means; a bare directory means ``local:``. Blocks until it is done.

    :raises ConfigurationError: there is no such storage, or it needs a running server.
    :raises RapidRTMPError: what ``work`` raises.
    """
    if ":" not in spec:
        if not Path(spec).is_dir():
            raise ConfigurationError(f"there is no directory {spec}")
        spec = f"local:{spec}"
    context = StorageContext(execute, Clock(), Logger("rapidrtmp.storage"))
    storage = make_storage_factory(spec).create(context)
    results: list[Outcome] = []
    failures: list[BaseException] = []
    Deferred.fromCoroutine(work(storage)).addCallbacks(results.append, lambda failure: failures.append(failure.value))
    if failures:
        raise failures[0]
    if not results:
        raise ConfigurationError(f"{spec}: this storage can be used by a server only")
    storage.close()
    return results[0]


async def verify(storage: IStorage, *, deep: bool = False, progress: ShowsProgress = no_progress) -> Outcome:
    """
    Compare every recording with its journal.

    :param deep: whether to read every part as well.
    """
    lines: list[str] = []
    is_well = True
    ids = await _all_recordings(storage)
    for done, id in enumerate(ids):
        progress(str(id), done, len(ids))
        problems = await _problems(storage, id, deep=deep)
        is_well = is_well and not problems
        lines.append(f"{id}: {'; '.join(problems) if problems else 'good'}")
    return Outcome(lines or ["there are no recordings"], is_well)


async def _problems(storage: IStorage, id: RecordingId, *, deep: bool) -> list[str]:
    entry = await _entry(storage, id)
    try:
        found = await examine(storage, id, deep=deep)
    except MediaError as error:
        return [str(error)]
    if entry is None:
        return ["it is not in the catalogue", *found.problems]
    if not entry.state.is_over:
        return ["it is being recorded, or its server died"]
    return found.problems


async def repair(
    storage: IStorage, utc_ms: Callable[[], int] = utc_ms, progress: ShowsProgress = no_progress
) -> Outcome:
    """
    Make every recording whole as far as it is stored, and the catalogue with them.

    What was written to within the last minute is left alone. A second run finds nothing to do.
    """
    lines: list[str] = []
    is_well = True
    ids = await _all_recordings(storage)
    for done, id in enumerate(ids):
        progress(str(id), done, len(ids))
        entry = await _entry(storage, id)
        try:
            found = await examine(storage, id)
        except MediaError as error:
            lines.append(f"{id}: left alone: {error}")
            is_well = False
            continue
        if entry is not None and entry.state.is_over and not _can_be_mended(found, entry):
            continue
        if (entry is None or not entry.state.is_over) and utc_ms() - found.newest_ms < QUIET_MS:
            lines.append(f"{id}: left alone: it may be being recorded; stop the server, or wait a minute")
            is_well = False
            continue
        if (entry is None or not entry.state.is_over) and await is_being_recorded(storage, id, entry):
            lines.append(f"{id}: left alone: a server is recording it")
            is_well = False
            continue
        lines.append(f"{id}: {await _repair_one(storage, found, entry)}")
    return Outcome(lines or ["there was nothing to repair"], is_well)


def _can_be_mended(found: Examination, entry: Entry) -> bool:
    if found.journal is None:
        return entry.state is not RecordingState.DAMAGED
    named = set(entry.renditions)
    return _has_faults(found) or any(_has_faults(each) or each.id.rendition not in named for each in found.renditions)


def _has_faults(found: Examination) -> bool:
    return bool(found.unwritten or found.damaged or found.broken or not found.init_stored or not found.header_stored)


async def _repair_one(storage: IStorage, found: Examination, entry: Entry | None) -> str:
    if entry is None or not entry.state.is_over:
        closed = await recover(storage, found.id)
    else:
        closed = await mend(storage, found, entry.state)
    return f"{closed.state.value}, {closed.duration_ms / 1000:g} s, {closed.gaps} gaps" if closed else "held nothing"


async def export(storage: IStorage, name: str, target: Path, progress: ShowsProgress = no_progress) -> Outcome:
    """
    Take one recording out.

    :param name: ``APP/KEY/START``, or ``APP/KEY/START/720p`` for another rendition of it.
    :param target: ends in ``.mp4`` for one file; else a new folder with a playlist that any web server can serve, and
        folders for other renditions in it.
    :raises NotFoundError: there is no such recording.
    :raises OSError: the target cannot be written.
    """
    names = name.strip("/").split("/")
    if len(names) not in (3, 4):
        raise NotFoundError(f"{name!r} is not APP/KEY/START")
    id = RecordingId.checked(*names)
    found = await examine(storage, id)
    journal = found.journal
    if journal is None or not journal.playable:
        raise NotFoundError(f"nothing of a recording {id} can be played")
    if target.suffix == ".mp4":
        movie = make_movie(id, journal.header, whole_recording(journal), indexed=True)
        await _write(storage, movie, target, partial(_show_bytes, progress, target))
        return Outcome([f"{target}: {journal.duration_ms / 1000:g} s"])
    await _export_folder(storage, id, journal, target, progress)
    others = [(each.id, each.journal) for each in found.renditions if each.journal is not None]
    for rendition, its_journal in others:
        await _export_folder(storage, rendition, its_journal, target / rendition.rendition, progress)
    if not others:
        return Outcome([f"{target}/index.m3u8: {journal.duration_ms / 1000:g} s"])
    listed = [("", journal), *((f"{each.rendition}/", its) for each, its in others)]
    (target / MULTIVARIANT_PLAYLIST).write_text("".join(multivariant_text(listed, has_pictures=False)))
    return Outcome([f"{target}/{MULTIVARIANT_PLAYLIST}: {journal.duration_ms / 1000:g} s, {len(listed)} renditions"])


async def _export_folder(
    storage: IStorage, id: RecordingId, journal: Journal, target: Path, progress: ShowsProgress
) -> None:
    """Write one rendition into a new folder."""
    ranges = whole_recording(journal)
    _begin_folder(target, journal)
    for done, clip_range in enumerate(ranges):
        progress(str(target), done, len(ranges))
        if not clip_range.segment.is_gap:
            await _write(storage, make_segment(id, clip_range), target / segment_name(clip_range.segment.number))


def _begin_folder(target: Path, journal: Journal) -> None:
    """Make the folder, and all in it but the segments."""
    target.mkdir(parents=True)
    (target / INIT_NAME).write_bytes(journal.header.init)
    (target / "index.m3u8").write_bytes(render_recording(journal, is_over=True))


def _show_bytes(progress: ShowsProgress, target: Path, done: int, whole: int) -> None:
    progress(f"{target}: {done / 1e6:.0f} of {whole / 1e6:.0f} MB", done, whole)


async def _write(
    storage: IStorage, movie: Movie, path: Path, written: Callable[[int, int], None] = lambda _done, _whole: None
) -> None:
    """
    Write a movie into a new file.

    :param written: called with the bytes that are written, and those of all.
    """
    done = 0
    with path.open("xb") as file:
        async for chunk in movie.read(storage, 0, movie.size):
            file.write(chunk)
            done += len(chunk)
            written(done, movie.size)


async def _entry(storage: IStorage, id: RecordingId) -> Entry | None:
    """The catalogue's entry; ``None`` if there is none that can be read."""
    try:
        return Entry.parse(id, await read_object(storage, id.catalogue_key))
    except (NotFoundError, MediaError):
        return None


async def _all_recordings(storage: IStorage) -> list[RecordingId]:
    """Every recording of which the catalogue knows, or of which anything is stored."""
    found = set()
    for info in await storage.list(f"{ROOT}/"):
        path = info.key.removeprefix(f"{CATALOGUE}/").removeprefix(f"{ROOT}/").split("/")
        if len(path) in (3, 4):
            try:
                found.add(RecordingId.checked(path[0], path[1], path[2].partition(".")[0]))
            except NotFoundError:
                continue
    return sorted(found)
