"""Tests of the storage on the local disk; the tricks played on it are real files, links and folders."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock, patch

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThreadPool
from twisted.logger import LogEvent, Logger
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from rapidrtmp.errors import ConfigurationError, NotFoundError, StorageError
from rapidrtmp.interfaces import IStorageFactory, StorageContext
from rapidrtmp.storage.directory import ObjectDirectory
from rapidrtmp.storage.filesystem import CHUNK_BYTES, LocalStorage, LocalStorageFactory
from rapidrtmp.testing.storage import StorageContract, read_all
from tests.slow import slow


def context(in_thread: Callable[..., Deferred[Any]] = maybeDeferred) -> StorageContext:
    return StorageContext(in_thread, Clock(), Logger())


class LocalStorageContractTests(StorageContract, TestCase):
    """The contract every storage keeps."""

    def make_storage(self) -> LocalStorage:
        return LocalStorageFactory(self.mktemp()).create(context())


class LocalStorageInThreadsContractTests(StorageContract, TestCase):
    """The same contract with the threads the server uses."""

    def make_storage(self) -> LocalStorage:
        from twisted.internet import reactor

        pool = ThreadPool(0, 4)
        pool.start()
        self.addCleanup(pool.stop)

        def in_thread(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
            return deferToThreadPool(reactor, pool, work, *args, **kwargs)

        return LocalStorageFactory(self.mktemp()).create(context(in_thread))


class Case(SynchronousTestCase):
    """A storage in a folder of its own, beside a folder that is none of its business."""

    def setUp(self) -> None:
        self.base = os.path.abspath(self.mktemp())
        self.root, self.outside = os.path.join(self.base, "root"), os.path.join(self.base, "outside")
        os.makedirs(self.outside)
        self.storage = LocalStorageFactory(self.root).create(context())
        with open(os.path.join(self.outside, "secret"), "wb") as file:
            file.write(b"secret")

    def put(self, key: str, data: bytes = b"x") -> None:
        self.successResultOf(self.storage.put(key, data, "", ""))

    def read(self, key: str) -> bytes:
        stored = self.successResultOf(self.storage.get(key))
        return self.successResultOf(Deferred.fromCoroutine(read_all(stored)))

    def keys(self) -> list[str]:
        return [info.key for info in self.successResultOf(self.storage.list(""))]

    def path(self, *names: str) -> str:
        return os.path.join(self.root, *names)

    def files(self) -> list[str]:
        return sorted(os.path.join(path, name) for path, _, names in os.walk(self.root) for name in names)

    def open_descriptors(self) -> int:
        return len(os.listdir("/proc/self/fd"))


class LinkTests(Case):
    """Symbolic links and other things that are no files."""

    def test_folder_leads_out(self) -> None:
        """A folder that is a link to elsewhere is not read, listed, written or deleted through."""
        os.symlink(self.outside, self.path("out"))
        for call in (self.storage.get, self.storage.stat):
            self.failureResultOf(call("out/secret"), NotFoundError)
        error = self.failureResultOf(self.storage.put("out/new", b"x", "", ""), StorageError).value
        self.assertFalse(error.retryable)
        self.successResultOf(self.storage.delete("out/secret"))
        self.assertEqual([], self.keys())
        self.assertEqual([], self.successResultOf(self.storage.list("out/")))
        self.assertEqual(["secret"], os.listdir(self.outside))

    def test_file_leads_out(self) -> None:
        """A file that is a link to elsewhere is no object; putting its key replaces the link, not what it points to."""
        os.symlink(os.path.join(self.outside, "secret"), self.path("object"))
        self.failureResultOf(self.storage.get("object"), NotFoundError)
        self.failureResultOf(self.storage.stat("object"), NotFoundError)
        self.assertEqual([], self.keys())
        self.put("object", b"mine")
        self.assertEqual(b"mine", self.read("object"))
        with open(os.path.join(self.outside, "secret"), "rb") as file:
            self.assertEqual(b"secret", file.read())

    def test_root_is_a_link(self) -> None:
        """The directory itself may be reached through a link: that is the operator's choice."""
        os.symlink(self.root, os.path.join(self.base, "link"))
        storage = LocalStorageFactory(os.path.join(self.base, "link")).create(context())
        self.successResultOf(storage.put("a/b", b"x", "", ""))
        self.assertEqual(["a/b"], self.keys())

    def test_named_pipe_is_no_object(self) -> None:
        """A named pipe is no object and blocks no reader."""
        os.mkfifo(self.path("pipe"))
        self.failureResultOf(self.storage.get("pipe"), NotFoundError)
        self.assertEqual([], self.keys())

    def test_foreign_names_are_not_listed(self) -> None:
        """Files whose names no key can have are not listed."""
        for name in (b"back\\slash", b"line\nfeed", b"not-utf8-\xff"):
            with open(os.path.join(os.fsencode(self.root), name), "wb"):
                pass
        self.put("mine")
        self.assertEqual(["mine"], self.keys())


class WriteTests(Case):
    """How a file comes to be, or fails to."""

    def test_unfinished_is_no_object(self) -> None:
        """While an object is written, nothing can be listed or read, and the old bytes stay."""
        self.put("a/object", b"old")
        seen: list[tuple[list[str], bytes]] = []
        real = os.rename

        def rename(*args: Any, **kwargs: Any) -> None:
            seen.append((self.keys(), self.read("a/object")))
            real(*args, **kwargs)

        with patch("os.rename", rename):
            self.put("a/object", b"new")
        self.assertEqual([(["a/object"], b"old")], seen)
        self.assertEqual([self.path("a", "object")], self.files())

    def test_disk_failures_are_worth_a_retry(self) -> None:
        """A full or broken disk is worth a retry, a key that does not fit is not; nothing is left of either."""
        for number, retryable in (
            (errno.ENOSPC, True),
            (errno.EDQUOT, True),
            (errno.EIO, True),
            (errno.EROFS, True),
            (errno.EACCES, True),
            (errno.EMFILE, True),
            (errno.ENAMETOOLONG, False),
            (errno.EINVAL, False),
        ):
            with patch("os.rename", side_effect=OSError(number, os.strerror(number))):
                error = self.failureResultOf(self.storage.put("a/object", b"x", "", ""), StorageError).value
            self.assertEqual(retryable, error.retryable, error)
            self.assertIn(os.strerror(number), str(error))
            self.assertEqual([], self.files())

    def test_one_thread_for_little(self) -> None:
        """An object that fits into one chunk is opened and read in one go, and a larger one in a go for each chunk."""
        in_thread = Mock(wraps=maybeDeferred)
        self.storage = LocalStorageFactory(self.root).create(context(in_thread))
        for size, goes in ((0, 1), (CHUNK_BYTES, 1), (CHUNK_BYTES + 1, 2), (3 * CHUNK_BYTES, 3)):
            self.put("object", b"x" * size)
            in_thread.reset_mock()
            self.assertEqual(size, len(self.read("object")))
            self.assertEqual(goes, in_thread.call_count, size)

    def test_read_failure_reaches_the_reader(self) -> None:
        """A disk that fails in the middle of an object says so to its reader."""
        self.put("object", b"x" * (CHUNK_BYTES + 1))
        stored = self.successResultOf(self.storage.get("object"))
        with patch("os.pread", side_effect=OSError(errno.EIO, "Input/output error")):
            reading = Deferred.fromCoroutine(read_all(stored))
            self.assertTrue(self.failureResultOf(reading, StorageError).value.retryable)

    def test_cut_off_object_fails_its_reader(self) -> None:
        """An object that is cut short while it is read fails its reader, who waits for no more."""
        self.put("object", b"x" * (CHUNK_BYTES + 1))
        stored = self.successResultOf(self.storage.get("object"))
        os.truncate(self.path("object"), CHUNK_BYTES)
        reading = Deferred.fromCoroutine(read_all(stored))
        self.assertIn(f"byte {CHUNK_BYTES}", str(self.failureResultOf(reading, StorageError).value))

    def test_name_too_long(self) -> None:
        """A name the file system cannot hold is refused for good, and cannot be found."""
        error = self.failureResultOf(self.storage.put("n" * 256, b"x", "", ""), StorageError).value
        self.assertFalse(error.retryable)
        self.failureResultOf(self.storage.get("n" * 256), NotFoundError)
        self.successResultOf(self.storage.delete("n" * 256))

    def test_object_inside_an_object(self) -> None:
        """A key cannot lead through an object, nor replace a folder: refused for good."""
        self.put("a")
        self.put("b/c")
        for key in ("a/b", "b"):
            error = self.failureResultOf(self.storage.put(key, b"x", "", ""), StorageError).value
            self.assertFalse(error.retryable, key)
        self.assertEqual(["a", "b/c"], self.keys())
        self.assertEqual(2, len(self.files()))

    def test_little_at_a_time(self) -> None:
        """A system that takes less than it is given, within a piece or between two, is given the rest."""
        real = os.writev

        def writev(descriptor: int, pieces: list[bytes]) -> int:
            taken = b"".join(pieces)[:3]
            return real(descriptor, [taken])

        with patch("os.writev", writev):
            self.successResultOf(self.storage.put_pieces("object", [b"0123", b"", b"45", b"678901"], "", ""))
        self.assertEqual(b"012345678901", self.read("object"))

    def test_cancelled_put_has_no_effect(self) -> None:
        """A put that was cancelled while it waited for a thread has no effect when its turn comes."""
        queue: list[Callable[[], Any]] = []

        def in_thread(work: Callable[..., Any], *args: Any) -> Deferred[Any]:
            queue.append(lambda: work(*args))
            return Deferred()

        storage = LocalStorage(ObjectDirectory(self.root), context(in_thread))
        put = storage.put("playlist.m3u8", b"old", "", "")
        put.cancel()
        self.failureResultOf(put, CancelledError)
        self.put("playlist.m3u8", b"new")
        self.assertRaises(CancelledError, queue[0])
        self.assertEqual(b"new", self.read("playlist.m3u8"))
        self.assertEqual(1, len(self.files()))

    def test_types_follow_from_names(self) -> None:
        """The content type follows from the name, whatever it was put with."""
        self.successResultOf(self.storage.put("a/init.mp4", b"x", "text/plain", "no-cache"))
        self.assertEqual("video/mp4", self.successResultOf(self.storage.stat("a/init.mp4")).content_type)

    def test_full_disk_is_retried_later(self) -> None:
        """On a disk that is full a put fails, to be retried, leaves nothing, and succeeds once there is room."""
        if sys.platform != "linux" or os.geteuid():
            raise SkipTest("mounting a tiny disk takes root on Linux")
        command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", self.root]
        if (mounted := subprocess.run(command, capture_output=True, check=False)).returncode:
            raise SkipTest(f"no tiny disk: {mounted.stderr.decode().strip()}")
        self.addCleanup(subprocess.run, ["umount", self.root], check=True)
        self.put("small", b"s" * 16_000)
        put = self.storage.put("live/large", b"l" * 100_000, "", "")
        error = self.failureResultOf(put, StorageError).value
        self.assertTrue(error.retryable)
        self.assertIn("No space left", str(error))
        self.assertEqual([self.path("small")], self.files())
        self.put("live/large", b"l" * 30_000)
        self.assertEqual(["live/large", "small"], self.keys())


class FolderTests(Case):
    """Folders come with the first object and go with the last."""

    def test_empty_folders_go(self) -> None:
        """The last object takes its folders along, up to the first that holds something else; never the root."""
        self.put("live/a/b/1")
        self.put("live/c/2")
        self.successResultOf(self.storage.delete("live/a/b/1"))
        self.assertEqual(["c"], os.listdir(self.path("live")))
        self.successResultOf(self.storage.delete("live/c/2"))
        self.assertEqual([], os.listdir(self.root))

    def test_folder_removed_under_a_put(self) -> None:
        """A folder that a deletion removes just as a put enters it is made again."""
        real, removed = os.open, []

        def open_after_removal(path: str, flags: int, *args: Any, **kwargs: Any) -> int:
            if flags & os.O_CREAT and len(removed) < 3:
                removed.append(path)
                os.rmdir(self.path("a", "b"))
                os.rmdir(self.path("a"))
            return real(path, flags, *args, **kwargs)

        with patch("os.open", open_after_removal):
            self.put("a/b/object", b"safe")
        self.assertEqual(3, len(removed))
        self.assertEqual(b"safe", self.read("a/b/object"))

    def test_vanished_root_is_not_made_again(self) -> None:
        """When the directory itself is gone (a disk unmounted), puts fail to be retried and make no new one."""
        os.rmdir(self.root)
        error = self.failureResultOf(self.storage.put("a", b"x", "", ""), StorageError).value
        self.assertTrue(error.retryable)
        self.assertFalse(os.path.exists(self.root))
        self.failureResultOf(self.storage.list(""), StorageError)
        self.failureResultOf(self.storage.stat("a"), StorageError)


class ReadTests(Case):
    """What reading holds, and lets go."""

    def test_chunks_of_bounded_size(self) -> None:
        """However large an object, it is read in chunks of at most 256 KiB."""
        self.put("object", bytes(3 * CHUNK_BYTES + 5))

        async def sizes() -> list[int]:
            return [len(chunk) async for chunk in (await self.storage.get("object", 1)).chunks]

        self.assertEqual([CHUNK_BYTES] * 3 + [4], self.successResultOf(Deferred.fromCoroutine(sizes())))

    def test_descriptors_are_all_closed(self) -> None:
        """No file stays open, whether it was read to the end, in part, never, or was not there."""
        if not os.path.isdir("/proc/self/fd"):
            raise SkipTest("nowhere to count open files")
        self.put("object", bytes(2 * CHUNK_BYTES))
        os.mkfifo(self.path("pipe"))

        async def in_part() -> None:
            async for _ in (await self.storage.get("object")).chunks:
                return

        before = self.open_descriptors()
        self.read("object")
        self.successResultOf(Deferred.fromCoroutine(in_part()))
        self.successResultOf(self.storage.get("object"))
        self.failureResultOf(self.storage.get("pipe"), NotFoundError)
        self.failureResultOf(self.storage.get("nothing/there"), NotFoundError)
        self.successResultOf(self.storage.delete("object"))
        self.assertEqual(before, self.open_descriptors())

    def test_deleted_while_read(self) -> None:
        """An object that is deleted while it is read is read to its end."""
        self.put("object", b"x" * (CHUNK_BYTES + 1))
        stored = self.successResultOf(self.storage.get("object"))
        self.successResultOf(self.storage.delete("object"))
        self.assertEqual(CHUNK_BYTES + 1, len(self.successResultOf(Deferred.fromCoroutine(read_all(stored)))))


KILLED_WRITER = """
import os, sys
from rapidrtmp.storage import directory
directory.os.rename = lambda *args, **kwargs: os._exit(9)
directory.ObjectDirectory(sys.argv[1]).write(directory.FileWrite("live/key/segment.m4s", [b"half"]))
"""


class SpaceTests(Case):
    def test_room_that_is_left(self) -> None:
        """It tells how much can still be written; not even that where its directory is gone."""
        self.assertGreater(self.successResultOf(self.storage.free_bytes()), 0)
        shutil.rmtree(self.root)
        self.failureResultOf(self.storage.free_bytes(), StorageError)


class FactoryTests(Case):
    """Starting up."""

    def test_factory_provides_the_interface(self) -> None:
        """The factory provides IStorageFactory; what it stores outlives the process."""
        factory = LocalStorageFactory(self.root)
        verifyObject(IStorageFactory, factory)
        self.assertTrue(factory.persistent)

    def test_makes_the_directory(self) -> None:
        """A directory that is not there yet is made."""
        LocalStorageFactory(os.path.join(self.base, "new", "below")).create(context())
        self.assertTrue(os.path.isdir(os.path.join(self.base, "new", "below")))

    def test_refuses_a_bad_directory(self) -> None:
        """No directory, or one that cannot be made, stops the start and says which."""
        self.assertRaises(ConfigurationError, LocalStorageFactory, "")
        path = os.path.join(self.outside, "secret", "below")
        error = self.assertRaises(ConfigurationError, LocalStorageFactory(path).create, context())
        self.assertIn(f"local:{path}: Not a directory", str(error))

    def test_not_writable_stops_the_start(self) -> None:
        """A directory where this process may not write stops the start."""
        with patch("os.access", return_value=False):
            self.assertRaises(ConfigurationError, LocalStorageFactory(self.root).create, context())

    @slow
    def test_sweeps_what_a_killed_process_left(self) -> None:
        """What a killed process left half written is never an object, and is gone after the next start."""
        self.put("live/other")
        killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, self.root], check=False, env=self._environment())
        self.assertEqual(9, killed.returncode)
        self.assertEqual(2, len(self.files()))
        self.assertEqual(["live/other"], self.keys())
        events: list[LogEvent] = []
        LocalStorageFactory(self.root).create(StorageContext(maybeDeferred, Clock(), Logger(observer=events.append)))
        self.assertEqual([self.path("live", "other")], self.files())
        self.assertEqual(["other"], os.listdir(self.path("live")))
        self.assertEqual([1], [event["count"] for event in events])

    def test_sweeping_spares_a_write_under_way(self) -> None:
        """A second process starting in the same directory does not disturb what the first is writing."""
        real = os.rename

        def rename(*args: Any, **kwargs: Any) -> None:
            self.assertEqual(0, ObjectDirectory(self.root).sweep())
            real(*args, **kwargs)

        with patch("os.rename", rename):
            self.put("live/object", b"safe")
        self.assertEqual(b"safe", self.read("live/object"))

    def test_failed_sweep_is_a_warning(self) -> None:
        """A sweep that fails is a warning: the storage works."""
        events: list[LogEvent] = []
        with patch("os.fwalk", side_effect=OSError(errno.EIO, "Input/output error")):
            LocalStorageFactory(self.root).create(
                StorageContext(maybeDeferred, Clock(), Logger(observer=events.append))
            )
        self.assertEqual(["warn"], [event["log_level"].name for event in events])

    @staticmethod
    def _environment() -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
