"""
Which recordings go, and when: by age, by how large those of an application are together, and by the room that is left.

The oldest go first. One that grows or is protected never goes, but counts. What was recorded before the limits were
set is held to them as well; an application without limits keeps everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter
from twisted.logger import Logger

from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.errors import NotFoundError, StorageError
from rapidrtmp.interfaces import IStorageSpace, RetentionRules
from rapidrtmp.recording.catalogue import Entry
from rapidrtmp.recording.library import Library, RecordingKeptError

__all__ = ["Deletions", "Retention"]


class Deletions:
    """
    Counts what limits delete, by limit, whatever storage it lies in.

    :param metrics: where the counts are shown.
    """

    def __init__(self, metrics: CollectorRegistry) -> None:
        self._deleted = Counter(
            "rapidrtmp_recordings_deleted_total",
            "Recordings deleted by a limit of age, size or free space",
            ["limit"],
            registry=metrics,
        )
        self._bytes = Counter(
            "rapidrtmp_recordings_deleted_bytes_total",
            "Size of the recordings deleted by a limit",
            ["limit"],
            registry=metrics,
        )

    def count(self, limit: str, size: int) -> None:
        """Count one recording, of ``size`` bytes."""
        self._deleted.labels(limit).inc()
        self._bytes.labels(limit).inc(size)


@dataclass(frozen=True)
class _Kept:
    """A recording at one sweep."""

    entry: Entry
    protected: bool

    @property
    def may_go(self) -> bool:
        return self.entry.state.is_over and not self.protected

    @property
    def ended_ms(self) -> int:
        return self.entry.ended_ms or self.entry.started_ms


class Retention:
    """
    Deletes what the limits do not allow.

    :param rules: by application, as they are at each sweep.
    :param utc_ms: the time of day in milliseconds since 1970.
    :param deletions: counts what is deleted.
    """

    _log = Logger()

    def __init__(
        self,
        library: Library,
        rules: Mapping[str, RetentionRules],
        utc_ms: Callable[[], int],
        deletions: Deletions,
    ) -> None:
        self._library = library
        self._rules = rules
        self._utc_ms = utc_ms
        self._deletions = deletions
        self._entries: dict[RecordingId, Entry] = {}  # of recordings that are over
        self._helpless: set[str] = set()  # limits that cannot be kept, as has been said
        self._space = IStorageSpace(library.storage, None)
        if self._min_free and self._space is None:
            self._log.warn("min-free has no effect: this storage does not say how much room is left")

    @property
    def _min_free(self) -> int:
        return max((each.min_free_bytes for each in self._rules.values()), default=0)

    @property
    def has_limits(self) -> bool:
        """Whether there is anything to do at all."""
        return any(each != RetentionRules() for each in self._rules.values())

    async def sweep(self) -> None:
        """
        Delete what is over a limit now.

        :raises StorageError: the storage failed; the next sweep continues.
        """
        if not self.has_limits:
            return
        kept = await self._find()
        for app, rules in self._rules.items():
            if rules.age_ms:
                await self._delete_old(app, rules.age_ms, kept)
            if rules.max_bytes:
                await self._delete_to_fit(app, rules.max_bytes, kept)
        if self._min_free and self._space is not None:
            await self._delete_for_room(self._space, kept)

    async def _find(self) -> list[_Kept]:
        """All recordings of applications with limits, the oldest first."""
        found = await self._library.find()
        self._entries = {id: entry for id, entry in self._entries.items() if id in found}
        kept = []
        for id, protected in found.items():
            if self._rules.get(id.app, RetentionRules()) == RetentionRules():
                continue
            try:
                entry = self._entries.get(id) or await self._library.entry(id)
            except NotFoundError:  # deleted meanwhile, or not readable: nothing is known of it
                continue
            if entry.state.is_over:
                self._entries[id] = entry
            kept.append(_Kept(entry, protected))
        return sorted(kept, key=lambda each: each.ended_ms)

    async def _delete_old(self, app: str, age_ms: int, kept: list[_Kept]) -> None:
        limit_ms = self._utc_ms() - age_ms
        for each in [each for each in kept if each.entry.id.app == app and each.may_go and each.ended_ms <= limit_ms]:
            await self._delete(each, "retain", kept)

    async def _delete_to_fit(self, app: str, max_bytes: int, kept: list[_Kept]) -> None:
        mine = [each for each in kept if each.entry.id.app == app]
        size = sum(each.entry.size for each in mine)
        for each in mine:
            if size <= max_bytes:
                break
            if each.may_go and await self._delete(each, "max-bytes", kept):
                size -= each.entry.size
        self._say_if_helpless(f"max-bytes of {app}", size > max_bytes)

    async def _delete_for_room(self, space: IStorageSpace, kept: list[_Kept]) -> None:
        free = await space.free_bytes()
        for each in list(kept):
            if free >= self._min_free:
                break
            if self._rules[each.entry.id.app].min_free_bytes and each.may_go:
                await self._delete(each, "min-free", kept)
                free = await space.free_bytes()
        self._say_if_helpless("min-free", free < self._min_free)

    async def _delete(self, each: _Kept, limit: str, kept: list[_Kept]) -> bool:
        id = each.entry.id
        try:
            size = await self._library.delete(id)
        except NotFoundError:
            size = 0
        except RecordingKeptError:  # protected since it was looked at
            return False
        except StorageError as error:
            self._log.error("{recording} cannot be deleted now: {error}", recording=id, error=error)
            return False
        kept.remove(each)
        self._entries.pop(id, None)
        self._deletions.count(limit, size)
        self._log.info("{recording} is deleted by {limit}: {size} bytes", recording=id, limit=limit, size=size)
        return True

    def _say_if_helpless(self, limit: str, is_over: bool) -> None:
        """Say once that a limit cannot be kept, because what is left grows or is protected."""
        if is_over and limit not in self._helpless:
            self._log.warn("{limit} cannot be kept: the recordings that are left grow or are protected", limit=limit)
        (self._helpless.add if is_over else self._helpless.discard)(limit)
