"""Tests of what is offered to authors of storages: the contract catches what it should, the double fails on demand."""

from __future__ import annotations

import unittest
from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from rapidrtmp.errors import MisuseError, NotFoundError, StorageError
from rapidrtmp.interfaces import StoredObject
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.testing.storage import StorageContract, UnreliableStorage, read_all


class Ranges(MemoryStorage):
    def get(self, key: str, start: int = 0, length: int | None = None) -> Deferred[StoredObject]:
        return super().get(key)


class EndInclusive(MemoryStorage):
    def get(self, key: str, start: int = 0, length: int | None = None) -> Deferred[StoredObject]:
        return super().get(key, start, None if length is None else length + 1)


class Unsorted(MemoryStorage):
    def list(self, prefix: str) -> Deferred[Any]:
        return super().list(prefix).addCallback(lambda found: found[::-1])


class FolderPrefix(MemoryStorage):
    def list(self, prefix: str) -> Deferred[Any]:
        return (
            super()
            .list(prefix)
            .addCallback(
                lambda found: [info for info in found if not prefix or info.key.startswith(prefix.rstrip("/") + "/")]
            )
        )


class AnyKey(MemoryStorage):
    def put(self, key: str, *args: Any) -> Deferred[None]:
        return super().put(key.replace("\\", "/"), *args)


class RetryBadKeys(MemoryStorage):
    def put(self, key: str, *args: Any) -> Deferred[None]:
        return super().put(key, *args).addErrback(lambda failure: fail(StorageError(str(failure.value))))


class Raising(MemoryStorage):
    def stat(self, key: str) -> Deferred[Any]:
        return self._fail(super().stat(key))

    def _fail(self, call: Deferred[Any]) -> Deferred[Any]:
        return call.addErrback(lambda failure: fail(KeyError(failure.value)))


class DeleteComplains(MemoryStorage):
    def delete(self, key: str) -> Deferred[None]:
        return self.stat(key).addCallback(lambda _: super(DeleteComplains, self).delete(key))


class DeletesFolders(MemoryStorage):
    def delete(self, key: str) -> Deferred[None]:
        for other in [other for other in self._entries if other.startswith(key + "/")]:
            del self._entries[other]
        return super().delete(key)


class Mixing(MemoryStorage):
    """Reads whatever is there now, half at a time."""

    def get(self, key: str, start: int = 0, length: int | None = None) -> Deferred[StoredObject]:
        async def chunks(stop: int) -> AsyncIterator[bytes]:
            for at in range(start, stop, 100_000):
                yield self._entries[key].data[at : min(at + 100_000, stop)]

        def opened(stored: StoredObject) -> StoredObject:
            size = stored.info.size
            return StoredObject(stored.info, chunks(size if length is None else min(size, start + length)))

        return super().get(key, start, length).addCallback(opened)


class Appending(MemoryStorage):
    def put(self, key: str, data: bytes, *args: Any) -> Deferred[None]:
        kept = self._entries[key].data if key in self._entries else b""
        return super().put(key, kept + data, *args)


class ForgetsType(MemoryStorage):
    def put(self, key: str, data: bytes, content_type: str, cache_control: str) -> Deferred[None]:
        return super().put(key, data, "text/html", cache_control)


class DropsEmpty(MemoryStorage):
    def put(self, key: str, data: bytes, *args: Any) -> Deferred[None]:
        return super().put(key, data, *args) if data else succeed(None)


class ContractTests(SynchronousTestCase):
    """A storage that breaks a promise does not pass."""

    def failures(self, broken: type[MemoryStorage], least: int = 1) -> int:
        """How many tests fail, which ends with the first; at ``least`` so many run."""

        class Suite(StorageContract, TestCase):
            def make_storage(self) -> MemoryStorage:
                return broken()

        result = unittest.TestResult()
        result.failfast = True
        unittest.defaultTestLoader.loadTestsFromTestCase(Suite).run(result)
        self.assertGreaterEqual(result.testsRun, least)
        return len(result.failures) + len(result.errors)

    def test_whole_storage_keeps_all_promises(self) -> None:
        """A storage that keeps all promises passes."""
        self.assertEqual(0, self.failures(MemoryStorage, least=20))

    def test_broken_promises_are_caught(self) -> None:
        """Each way to break a promise is caught."""
        for broken in (
            Ranges,
            EndInclusive,
            Unsorted,
            FolderPrefix,
            AnyKey,
            RetryBadKeys,
            Raising,
            DeleteComplains,
            DeletesFolders,
            Mixing,
            Appending,
            ForgetsType,
            DropsEmpty,
        ):
            self.assertGreater(self.failures(broken), 0, broken.__name__)


class UnreliableStorageContractTests(StorageContract, TestCase):
    """On a good day it keeps the contract of what is behind it."""

    def make_storage(self) -> UnreliableStorage:
        return UnreliableStorage(MemoryStorage(), Clock())


class UnreliableStorageTests(SynchronousTestCase):
    """On a bad day it does what was asked of it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.memory = MemoryStorage()

    def put(self, storage: UnreliableStorage, key: str = "a") -> Deferred[None]:
        return storage.put(key, b"x", "", "")

    def test_latency_delays_every_call(self) -> None:
        """Nothing happens before the latency is over; it may differ from call to call."""
        latencies = iter([2.0, 0.5])
        storage = UnreliableStorage(self.memory, self.clock, lambda: next(latencies))
        slow, quick = self.put(storage, "slow"), self.put(storage, "quick")
        self.assertEqual(2, storage.under_way)
        self.clock.advance(1)
        self.successResultOf(quick)
        self.assertNoResult(slow)
        self.failureResultOf(self.memory.stat("slow"), NotFoundError)
        self.clock.advance(1)
        self.successResultOf(slow)
        self.assertEqual([("put", "quick"), ("put", "slow")], storage.done)
        self.assertEqual(0, storage.under_way)

    def test_failures_replace_the_call(self) -> None:
        """A failure replaces the call: what is behind is not touched."""
        seen: list[tuple[str, str]] = []

        def failures(operation: str, key: str) -> Exception:
            seen.append((operation, key))
            return MisuseError(operation)

        storage = UnreliableStorage(self.memory, self.clock, failures=failures)
        for call in (self.put(storage), storage.get("a"), storage.stat("a"), storage.list("p"), storage.delete("a")):
            self.failureResultOf(call, MisuseError)
        self.assertEqual([("put", "a"), ("get", "a"), ("stat", "a"), ("list", "p"), ("delete", "a")], seen)
        self.assertEqual([], self.successResultOf(self.memory.list("")))
        self.assertEqual([], storage.done)

    def test_stall_holds_all_calls(self) -> None:
        """While it is stalled no call ends; then all of them do."""
        storage = UnreliableStorage(self.memory, self.clock)
        storage.stall()
        put = self.put(storage)
        self.clock.advance(1000)
        self.assertNoResult(put)
        storage.resume()
        self.successResultOf(put)
        stored = self.successResultOf(storage.get("a"))
        self.assertEqual(b"x", self.successResultOf(Deferred.fromCoroutine(read_all(stored))))

    def test_cancelled_call_never_happens(self) -> None:
        """A call that is cancelled while it waits or stalls never happens."""
        storage = UnreliableStorage(self.memory, self.clock, 1.0)
        late, stalled = self.put(storage, "late"), self.put(storage, "stalled")
        late.cancel()
        self.failureResultOf(late, CancelledError)
        storage.stall()
        self.clock.advance(1)
        stalled.cancel()
        self.failureResultOf(stalled, CancelledError)
        storage.resume()
        self.assertEqual([], self.successResultOf(self.memory.list("")))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_deaf_storage_continues_cancelled_calls(self) -> None:
        """A deaf one continues with a call that was cancelled, as a thread does, in its own time."""
        storage = UnreliableStorage(self.memory, self.clock, 1.0, deaf=True)
        put = self.put(storage)
        put.cancel()
        self.assertNoResult(put)
        storage.stall()
        self.clock.advance(1)
        put.cancel()
        self.assertNoResult(put)
        storage.resume()
        self.successResultOf(put)
        self.assertEqual(1, len(self.successResultOf(self.memory.list(""))))
