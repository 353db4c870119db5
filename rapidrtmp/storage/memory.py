"""Objects by key in RAM: for a server that keeps nothing, and for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred, execute, succeed
from zope.interface import implementer

from rapidrtmp.errors import NotFoundError
from rapidrtmp.interfaces import IStorage, IStorageFactory, ObjectInfo, StorageContext, StoredObject
from rapidrtmp.storage.keys import byte_range, check_key, guess_content_type
from rapidrtmp.support.clock import utc_ms

__all__ = ["MemoryStorage", "MemoryStorageFactory"]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One object: its bytes and what is known of it."""

    info: ObjectInfo
    data: bytes


@implementer(IStorage)
class MemoryStorage:
    """
    Objects in a dict. Every answer is there at once: the Deferreds have fired when they are returned.

    :param utc_ms: the time of day in milliseconds since 1970.
    """

    def __init__(self, utc_ms: Callable[[], int] = utc_ms) -> None:
        self._utc_ms = utc_ms
        self._entries: dict[str, _Entry] = {}

    def put(self, key: str, data: bytes, content_type: str, cache_control: str) -> Deferred[None]:  # noqa: ARG002
        """Keep ``data``; who serves it says how long it may be cached, so ``cache_control`` is not kept."""
        return execute(self._put, key, data, content_type)

    def get(self, key: str, start: int = 0, length: int | None = None) -> Deferred[StoredObject]:
        """Open an object; its bytes come in one piece."""
        return execute(self._get, key, start, length)

    def stat(self, key: str) -> Deferred[ObjectInfo]:
        """What is known of an object."""
        return execute(lambda: self._entry(key).info)

    def list(self, prefix: str) -> Deferred[list[ObjectInfo]]:
        """Look at every key: as long as there are objects."""
        found = [entry.info for key, entry in self._entries.items() if key.startswith(prefix)]
        return succeed(sorted(found, key=lambda info: info.key))

    def delete(self, key: str) -> Deferred[None]:
        """Forget an object, if it is there."""
        return execute(self._delete, key)

    def close(self) -> Deferred[None]:
        """Forget everything."""
        self._entries.clear()
        return succeed(None)

    def _entry(self, key: str) -> _Entry:
        try:
            return self._entries[check_key(key)]
        except KeyError as error:
            raise NotFoundError(f"no object {key!r}") from error

    def _put(self, key: str, data: bytes, content_type: str) -> None:
        kept = bytes(data)  # the same object if it is bytes; a copy if the caller could still change it
        info = ObjectInfo(check_key(key), len(kept), self._utc_ms(), content_type or guess_content_type(key))
        self._entries[key] = _Entry(info, kept)

    def _get(self, key: str, start: int, length: int | None) -> StoredObject:
        entry = self._entry(key)
        first, stop = byte_range(entry.info.size, start, length)
        return StoredObject(entry.info, _one_piece(entry.data[first:stop]))

    def _delete(self, key: str) -> None:
        self._entries.pop(check_key(key), None)


@implementer(IStorageFactory)
class MemoryStorageFactory:
    """Behind the spec ``memory:``."""

    persistent = False

    def create(self, context: StorageContext) -> MemoryStorage:  # noqa: ARG002
        """Make an empty storage."""
        return MemoryStorage()


async def _one_piece(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data
