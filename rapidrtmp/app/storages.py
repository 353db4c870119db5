"""
The storages of the server, by application and purpose.

Applications and purposes that name the same storage share it: it is opened once, has one queue, and is probed,
measured and looked after once. Each has threads of its own, so that one that hangs holds up no other; and of those of
a storage some write, some read and some see to leases, so that no amount of reading keeps a stream from being stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from rapidrtmp.app.plugins import ChosenStorage
from rapidrtmp.interfaces import StorageContext
from rapidrtmp.interfaces.storage import InThread
from rapidrtmp.storage.process import PROCESS
from rapidrtmp.storage.store import Store, make_store

__all__ = ["Stores"]

#: Of each storage: to write, to read, and for leases.
WRITE_THREADS, READ_THREADS, LEASE_THREADS = 8, 8, 8


class Stores:
    """
    Every storage, opened.

    :param reactor: time, timers, and where threads bring their results.
    :param chosen: what to open; each is opened once, however often it is here.
    :param queue_bytes: what may wait for each storage.
    :ivar all: each of them once.
    :raises ConfigurationError: one of them can never work.
    """

    def __init__(self, reactor: Any, chosen: Iterable[ChosenStorage], queue_bytes: int) -> None:
        self._reactor = reactor
        self._queue_bytes = queue_bytes
        self._threads: list[ThreadPool] = []
        self._stores = {storage: self._open(storage) for storage in dict.fromkeys(chosen)}
        self.all = tuple(self._stores.values())

    def _open(self, storage: ChosenStorage) -> Store:
        context = StorageContext(
            self._make_threads(storage.name, WRITE_THREADS),
            self._reactor,
            Logger(f"rapidrtmp.{storage.name}"),
            PROCESS,
            self._make_threads(f"{storage.name} reads", READ_THREADS),
            self._make_threads(f"{storage.name} leases", LEASE_THREADS),
        )
        return make_store(storage.name, storage.factory, context, self._queue_bytes)

    def _make_threads(self, name: str, most: int) -> InThread:
        threads = ThreadPool(0, most, name)
        self._threads.append(threads)
        return partial(deferToThreadPool, self._reactor, threads)

    def of(self, chosen: ChosenStorage) -> Store:
        """The store of a storage that was opened."""
        return self._stores[chosen]

    @property
    def persistent(self) -> bool:
        """Whether there is one that an earlier server can have left something in."""
        return any(store.writer.persistent for store in self.all)

    def start(self) -> None:
        """Let threads work, and renew leases."""
        for threads in self._threads:
            threads.start()
        for store in self.all:
            store.leases.start()

    def drain(self, timeout_s: float) -> Deferred[bool]:
        """Wait until all queues are empty, ``timeout_s`` seconds at most; a Deferred of whether they all are."""
        drained = [store.writer.drain(timeout_s) for store in self.all]
        return gatherResults(drained).addCallback(all)

    def close(self) -> Sequence[Deferred[None]]:
        """Close all storages, when nothing more is written; what other servers may write is theirs from now on."""
        for store in self.all:
            store.leases.stop()
        return [store.storage.close() for store in self.all]

    def stop(self) -> None:
        """End the threads, when the storages are closed."""
        for threads in self._threads:
            threads.stop()
