"""Tests of the storage in RAM."""

from __future__ import annotations

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from rapidrtmp.errors import MisuseError
from rapidrtmp.interfaces import IStorageFactory, StorageContext
from rapidrtmp.storage.memory import MemoryStorage, MemoryStorageFactory
from rapidrtmp.support.clock import utc_ms
from rapidrtmp.testing.storage import StorageContract, read_all


class MemoryStorageContractTests(StorageContract, TestCase):
    """The contract every storage keeps."""

    def make_storage(self) -> MemoryStorage:
        return MemoryStorage()


class MemoryStorageTests(SynchronousTestCase):
    """What is said of this storage alone."""

    def test_factory_makes_forgetful_storages(self) -> None:
        """The factory makes a storage that forgets with the process and dates objects by the time of day."""
        factory = MemoryStorageFactory()
        verifyObject(IStorageFactory, factory)
        self.assertFalse(factory.persistent)
        storage = factory.create(StorageContext(maybeDeferred, Clock(), Logger()))
        self.successResultOf(storage.put("a.m4s", b"x", "", ""))
        self.assertApproximates(utc_ms(), self.successResultOf(storage.stat("a.m4s")).modified_ms, 60_000)

    def test_content_type_as_it_was_put(self) -> None:
        """The content type is as it was put, or follows from the key if none was given."""
        storage = MemoryStorage()
        self.successResultOf(storage.put("a.m4s", b"x", "", ""))
        self.successResultOf(storage.put("b.m4s", b"x", "video/mp4", ""))
        types = [info.content_type for info in self.successResultOf(storage.list(""))]
        self.assertEqual(["video/iso.segment", "video/mp4"], types)

    def test_caller_changes_its_buffer(self) -> None:
        """What is kept is what the bytes were when they were put."""
        storage, buffer = MemoryStorage(), bytearray(b"before")
        self.successResultOf(storage.put("a", buffer, "", ""))
        buffer[:] = b"after!"
        stored = self.successResultOf(storage.get("a"))
        self.assertEqual(b"before", self.successResultOf(Deferred.fromCoroutine(read_all(stored))))

    def test_negative_range_is_a_mistake(self) -> None:
        """Asking for bytes before the first is the caller's mistake."""
        storage = MemoryStorage()
        self.successResultOf(storage.put("a", b"x", "", ""))
        self.failureResultOf(storage.get("a", -1), MisuseError)
        self.failureResultOf(storage.get("a", 0, -1), MisuseError)

    def test_closed_storage_lets_go(self) -> None:
        """Closing lets go of all the bytes."""
        storage = MemoryStorage()
        self.successResultOf(storage.put("a", b"x", "", ""))
        self.successResultOf(storage.close())
        self.assertEqual([], self.successResultOf(storage.list("")))
