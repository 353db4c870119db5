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

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from rapidrtmp.app.plugins import ChosenStorage
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import RecordEvent, StorageContext, no_event
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
    :param record: records what becomes of them.
    :ivar all: each of them once. One that is opened stays open: a client may be in the middle of what lies there.
    :raises ConfigurationError: one of them can never work.
    """

    def __init__(
        self, reactor: Any, chosen: Iterable[ChosenStorage], queue_bytes: int, record: RecordEvent = no_event
    ) -> None:
        self._reactor = reactor
        self._record = record
        self._queue_bytes = queue_bytes
        self._threads: dict[ChosenStorage, list[ThreadPool]] = {}
        self._stores: dict[ChosenStorage, Store] = {}
        self._is_running = False
        self.open(chosen)

    @property
    def all(self) -> Sequence[Store]:
        """Each of them once."""
        return tuple(self._stores.values())

    @property
    def chosen(self) -> Sequence[ChosenStorage]:
        """What is open."""
        return tuple(self._stores)

    def open(self, chosen: Iterable[ChosenStorage]) -> Sequence[ChosenStorage]:
        """
        Open those that are not open.

        :returns: these.
        :raises ConfigurationError: one of them can never work; then none is opened.
        """
        opened = []
        for storage in dict.fromkeys(chosen):
            if storage not in self._stores:
                opened.append(storage)
                try:
                    self._stores[storage] = self._open(storage)
                except ConfigurationError:
                    self.discard(opened)
                    raise
        return opened

    def discard(self, chosen: Iterable[ChosenStorage]) -> None:
        """Give up storages that were opened for nothing: no use was made of them."""
        for storage in chosen:
            store = self._stores.pop(storage, None)
            closing = succeed(None) if store is None else self._close(store)
            closing.addErrback(lambda _: None).addCallback(self._stop_threads, self._threads.pop(storage))

    def _open(self, storage: ChosenStorage) -> Store:
        threads = self._threads[storage] = [
            ThreadPool(0, most, f"{storage.name}{what}")
            for what, most in (("", WRITE_THREADS), (" reads", READ_THREADS), (" leases", LEASE_THREADS))
        ]
        writing, reading, leasing = (partial(deferToThreadPool, self._reactor, each) for each in threads)
        log = Logger(f"rapidrtmp.{storage.name}")
        context = StorageContext(writing, self._reactor, log, PROCESS, reading, leasing)
        store = make_store(storage.name, storage.factory, context, self._queue_bytes, self._record)
        if self._is_running:
            self._start(storage, store)
        return store

    def of(self, chosen: ChosenStorage) -> Store:
        """The store of a storage that was opened."""
        return self._stores[chosen]

    @property
    def persistent(self) -> bool:
        """Whether there is one that an earlier server can have left something in."""
        return any(store.writer.persistent for store in self.all)

    def start(self) -> None:
        """Let threads work, and renew leases."""
        self._is_running = True
        for storage, store in self._stores.items():
            self._start(storage, store)

    def _start(self, storage: ChosenStorage, store: Store) -> None:
        for threads in self._threads[storage]:
            threads.start()
        store.leases.start()

    def drain(self, timeout_s: float) -> Deferred[bool]:
        """Wait until all queues are empty, ``timeout_s`` seconds at most; a Deferred of whether they all are."""
        drained = [store.writer.drain(timeout_s) for store in self.all]
        return gatherResults(drained).addCallback(all)

    def close(self) -> Sequence[Deferred[None]]:
        """Close all storages, when nothing more is written; what other servers may write is theirs from now on."""
        return [self._close(store) for store in self.all]

    def _close(self, store: Store) -> Deferred[None]:
        store.leases.stop()
        closing: Deferred[None] = store.storage.close()
        return closing

    def stop(self) -> None:
        """End the threads, when the storages are closed."""
        self._is_running = False
        for threads in self._threads.values():
            self._stop_threads(None, threads)

    def _stop_threads(self, _: None, threads: Iterable[ThreadPool]) -> None:
        for each in threads:
            each.stop()
