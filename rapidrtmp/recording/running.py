"""The recordings that this process writes: each knows how far it has come, well before its journal does."""

from __future__ import annotations

from typing import Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.interfaces import IStorage
from rapidrtmp.recording.catalogue import Entry

__all__ = ["RUNNING", "RunningRecording", "RunningRecordings"]


class RunningRecording(Protocol):
    """One that is being written."""

    id: RecordingId

    @property
    def progress(self) -> Entry:
        """What there is of it at this moment, stored or on its way there."""


class RunningRecordings:
    """Those that are being written, by the storage that they are for and by name; none is kept alive by this."""

    def __init__(self) -> None:
        self._by_storage: WeakKeyDictionary[IStorage, WeakValueDictionary[RecordingId, RunningRecording]] = (
            WeakKeyDictionary()
        )

    def began(self, storage: IStorage | None, recording: RunningRecording) -> None:
        """One has begun. :param storage: ``None`` if it is written to none that can be read."""
        if storage is not None:
            self._by_storage.setdefault(storage, WeakValueDictionary())[recording.id] = recording

    def ended(self, storage: IStorage | None, recording: RunningRecording) -> None:
        """One is over: the catalogue says all from now on."""
        running = self._by_storage.get(storage) if storage is not None else None
        if running is not None:
            running.pop(recording.id, None)

    def progress(self, storage: IStorage, id: RecordingId) -> Entry | None:
        """How far one has come; ``None`` if this process does not write it."""
        running = self._by_storage.get(storage)
        found = running.get(id) if running is not None else None
        return found.progress if found is not None else None


#: Those of this process.
RUNNING = RunningRecordings()
