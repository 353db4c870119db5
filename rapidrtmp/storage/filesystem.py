"""
Objects by key in a directory of the local disk: a key is the path of a file below it.

The work is in two halves. :class:`~rapidrtmp.storage.directory.ObjectDirectory` does it, blocking, on file descriptors;
:class:`LocalStorage` hands it to threads.

A file holds nothing but its bytes: the content type is guessed from the name, and the cache rule given with ``put`` is
not kept, because the server knows it from the name as well. A file that was written outlives the
process, whatever ends it. What a power cut may take is the operator's choice; by default no write waits for the
platters, because the last seconds of a live stream are not worth every write of every stream being slower.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import (
    IGatheringStorage,
    ILeasingStorage,
    IStorage,
    IStorageFactory,
    IStorageSpace,
    ObjectInfo,
    StorageContext,
    StoredObject,
)
from rapidrtmp.storage.directory import FileWrite, Flush, ObjectDirectory, OpenObject
from rapidrtmp.storage.keys import byte_range, check_key
from rapidrtmp.storage.locked_names import LockedNames
from rapidrtmp.storage.threaded import ThreadedStorage

__all__ = ["LocalStorage", "LocalStorageFactory"]

CHUNK_BYTES = 256 * 1024
#: How often it is looked whether the files of leases are still there.
LOOK_INTERVAL_S = 5.0


@implementer(IStorage, IGatheringStorage, IStorageSpace, ILeasingStorage)
class LocalStorage(ThreadedStorage):
    """
    Objects as files below a directory.

    Beside what every storage refuses, a name longer than the file system allows (mostly 255 bytes) cannot be
    written, nor an object inside another (``a/b`` where ``a`` is one): a ``StorageError``, not retryable.

    :param directory: exists.
    :param context: where blocking calls run, and whose leases these are (:mod:`~rapidrtmp.storage.locked_names`).
    """

    lease_s = 0.0  # the kernel lets go when the process dies
    renew_interval_s = LOOK_INTERVAL_S

    def __init__(self, directory: ObjectDirectory, context: StorageContext) -> None:
        self._directory = directory
        self._names = LockedNames(directory.folder, context.process)
        super().__init__(self._names, context)

    def put(self, key: str, data: bytes, content_type: str, cache_control: str) -> Deferred[None]:
        """
        Write a file beside the old one and rename it over that. The types are implied by the name, not kept.

        Cancelled, it has no effect unless the rename was under way already.
        """
        return self.put_pieces(key, (bytes(data),), content_type, cache_control)

    def put_pieces(
        self,
        key: str,
        pieces: Sequence[bytes],
        content_type: str,  # noqa: ARG002
        cache_control: str,  # noqa: ARG002
    ) -> Deferred[None]:
        """Do the same, with an object in pieces: they are written as they are."""
        return Deferred.fromCoroutine(self._put(key, tuple(pieces)))

    def get(self, key: str, start: int = 0, length: int | None = None) -> Deferred[StoredObject]:
        """
        Open a file; it is read in chunks of at most 256 KiB, each in a thread, as they are asked for.

        The first is read at once: to go to a thread and back costs more than to read it.
        """
        return Deferred.fromCoroutine(self._get(key, start, length))

    def stat(self, key: str) -> Deferred[ObjectInfo]:
        """What is known of a file."""
        return self._of_key(self._directory.stat, key, self._in_read_thread)

    def list(self, prefix: str) -> Deferred[list[ObjectInfo]]:
        """Walk the folders that can hold keys with ``prefix``."""
        return self._in_read_thread(self._directory.find, prefix)

    def delete(self, key: str) -> Deferred[None]:
        """Remove a file and the folders that this leaves empty."""
        return self._of_key(self._directory.delete, key, self._in_thread)

    def free_bytes(self) -> Deferred[int]:
        """What the file system has left for this process."""
        return self._in_read_thread(self._directory.free_bytes)

    def close(self) -> Deferred[None]:
        """Give all leases back."""
        return self._in_lease_thread(self._names.close)

    async def _put(self, key: str, pieces: Sequence[bytes]) -> None:
        write = FileWrite(check_key(key), pieces)
        await self._in_thread(self._directory.write, write).addErrback(write.give_up)

    async def _get(self, key: str, start: int, length: int | None) -> StoredObject:
        opened, chunk, stop = await self._in_read_thread(self._begin, check_key(key), start, length)
        return StoredObject(opened.info, self._chunks(opened, chunk, start, stop))

    def _begin(self, key: str, start: int, length: int | None) -> tuple[OpenObject, bytes, int]:
        """In a thread: the file, the first chunk of what is wanted of it, and where that ends."""
        opened = self._directory.open(key)
        first, stop = byte_range(opened.info.size, start, length)
        return opened, opened.read(first, min(CHUNK_BYTES, stop - first)) if first < stop else b"", stop

    async def _chunks(self, opened: OpenObject, chunk: bytes, start: int, stop: int) -> AsyncIterator[bytes]:
        while chunk:
            start += len(chunk)
            yield chunk
            left = min(CHUNK_BYTES, stop - start)
            chunk = await self._in_read_thread(opened.read, start, left) if left > 0 else b""


@implementer(IStorageFactory)
class LocalStorageFactory:
    """
    Behind the spec ``local:DIR:fsync=file``.

    :param directory: where; made if it is not there yet. ``~`` is the home directory.
    :param fsync: what each write waits for: ``never`` nothing, ``file`` the file, ``folder`` the file and its name; see
        :class:`~rapidrtmp.storage.directory.Flush`.
    """

    persistent = True

    def __init__(self, directory: str, fsync: str = "never") -> None:
        if not directory:
            raise ConfigurationError("local: names no directory")
        if fsync.upper() not in Flush.__members__:
            raise ConfigurationError(f"local: fsync={fsync}: never, file or folder")
        self._flush = Flush[fsync.upper()]
        self._root = os.path.abspath(os.path.expanduser(directory))

    def create(self, context: StorageContext) -> LocalStorage:
        """
        Open the directory, and sweep what a killed process left unfinished in it while the server already works.

        :raises ConfigurationError: the directory cannot be made, or not be written.
        """
        try:
            os.makedirs(self._root, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"local:{self._root}: {error.strerror}") from error
        if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigurationError(f"local:{self._root}: this process may not write there")
        directory = ObjectDirectory(self._root, self._flush)

        def swept(count: int) -> None:
            if count:
                context.log.info("removed {count} files that a killed process left unfinished", count=count)

        context.in_thread(directory.sweep).addCallbacks(
            swept, lambda failure: context.log.warn("unfinished files cannot be removed: {error}", error=failure.value)
        )
        return LocalStorage(directory, context)
