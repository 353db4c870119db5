"""Tests of leases on a disk: locked files, real processes, and what operators do to both."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from unittest.mock import patch

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase, TestCase

from rapidrtmp.errors import LeaseHeldError, StorageError
from rapidrtmp.interfaces import Lease, StorageContext
from rapidrtmp.storage.filesystem import LocalStorage, LocalStorageFactory
from rapidrtmp.storage.locked_names import FOLDER
from rapidrtmp.testing.leases import LeasingStorageContract
from tests.slow import slow

OTHER_PROCESS = """
import sys
from rapidrtmp.storage.directory import ObjectDirectory
from rapidrtmp.storage.locked_names import LockedNames
names = LockedNames(ObjectDirectory(sys.argv[1]).folder, "other process")
print(names.claim("live/cam").fence, flush=True)
sys.stdin.read()
"""


def make(root: str, process: str) -> LocalStorage:
    return LocalStorageFactory(root).create(StorageContext(maybeDeferred, Clock(), Logger(), process))


class LocalLeaseContractTests(LeasingStorageContract, TestCase):
    """The contract every storage with leases keeps."""

    def setUp(self) -> None:
        self.root = self.mktemp()

    def make_storage(self, process: str) -> LocalStorage:
        return make(self.root, process)

    def kill(self, storage: LocalStorage) -> None:
        """The kernel closes what a process had open."""
        storage._names.forget()


class LocalLeaseTests(SynchronousTestCase):
    """What is said of this storage alone."""

    def setUp(self) -> None:
        self.root = os.path.abspath(self.mktemp())
        self.one, self.other = make(self.root, "one"), make(self.root, "other")
        self.addCleanup(self.one.close)
        self.addCleanup(self.other.close)

    def claim(self, storage: LocalStorage, name: str = "live/cam") -> Lease:
        return self.successResultOf(storage.claim(name))

    def start_other_process(self) -> subprocess.Popen[str]:
        """Another process, which holds live/cam."""
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER_PROCESS, self.root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        assert process.stdout
        self.assertTrue(process.stdout.readline())
        return process

    @slow
    def test_killed_process_frees_its_lease(self) -> None:
        """What another process holds is refused with its number; the moment it is killed it is free."""
        process = self.start_other_process()
        error = self.failureResultOf(self.one.claim("live/cam"), LeaseHeldError).value
        self.assertIn(f"process {process.pid} on ", str(error))
        found = self.successResultOf(self.one.find_leases(""))
        self.assertEqual([("live/cam", "other process")], [(lease.name, lease.holder) for lease in found])
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertEqual([], self.successResultOf(self.one.find_leases("")))
        self.claim(self.one)

    @slow
    def test_stopped_process_keeps_its_lease(self) -> None:
        """A process that is only stopped keeps what it has."""
        process = self.start_other_process()
        process.send_signal(signal.SIGSTOP)
        self.failureResultOf(self.one.claim("live/cam"), LeaseHeldError)
        self.assertEqual(1, len(self.successResultOf(self.one.find_leases(""))))

    def test_child_holds_no_locks(self) -> None:
        """A child that is forked does not keep its parent's locks alive."""
        self.claim(self.one)
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        self.one._names.forget()
        self.claim(self.other)
        os.close(writing)
        os.close(reading)
        os.waitpid(child, 0)

    def test_deleted_file_is_made_anew(self) -> None:
        """Where the files are deleted under a running server, its leases are made anew with the next look."""
        self.claim(self.one)
        shutil.rmtree(os.path.join(self.root, FOLDER))
        self.assertEqual([], self.successResultOf(self.one.renew()))
        self.failureResultOf(self.other.claim("live/cam"), LeaseHeldError)

    def test_lost_lease_is_reported_once(self) -> None:
        """Where another process was quicker, the lease is lost, once, and giving it back takes it from none."""
        lease = self.claim(self.one)
        shutil.rmtree(os.path.join(self.root, FOLDER))
        self.claim(self.other)
        self.assertEqual([lease], self.successResultOf(self.one.renew()))
        self.assertEqual([], self.successResultOf(self.one.renew()))
        self.successResultOf(self.one.release(lease))
        self.failureResultOf(self.one.claim("live/cam"), LeaseHeldError)

    def test_same_process_twice(self) -> None:
        """Two storages of one process in one place do not keep each other out."""
        again = make(os.path.join(self.root, "."), "one")
        first, second = self.claim(self.one), self.claim(again)
        self.assertEqual(first, second)
        self.successResultOf(self.one.release(first))
        self.assertEqual([], self.successResultOf(again.renew()))
        self.failureResultOf(self.other.claim("live/cam"), LeaseHeldError)
        self.successResultOf(again.release(self.claim(again)))
        self.claim(self.other)

    def test_nothing_is_left(self) -> None:
        """What was given back leaves no file behind but the count of fences."""
        for name in ("live/a", "live/b"):
            self.successResultOf(self.one.release(self.claim(self.one, name)))
        self.assertEqual(1, len(os.listdir(os.path.join(self.root, FOLDER))))

    def test_damaged_files_hide_nothing(self) -> None:
        """Files that say nothing, or are none, hide no lease and stop none from being claimed."""
        lease = self.claim(self.one)
        folder = os.path.join(self.root, FOLDER)
        for name, data in (("live%2Fempty", b""), ("live%2Fdeep", b"[" * 5000), ("live%2Fodd", b'["live/odd",1,2,3]')):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)
        os.mkdir(os.path.join(folder, "a folder"))
        with open(os.path.join(folder, "\\fence"), "w") as file:
            file.write("nonsense")
        self.assertIn(lease, self.successResultOf(self.other.find_leases("live/")))
        for name in ("live/empty", "live/deep", "live/odd"):
            self.assertGreater(self.claim(self.other, name).fence, lease.fence)

    def test_no_locks_fail_for_good(self) -> None:
        """Where the file system has no locks, claiming fails for good."""
        with patch("fcntl.flock", side_effect=OSError(errno.ENOLCK, "No locks available")):
            error = self.failureResultOf(self.one.claim("live/cam"), StorageError).value
        self.assertFalse(error.retryable)

    def test_disk_is_gone(self) -> None:
        """Where the directory itself is gone, that is an error and nothing is lost yet."""
        self.claim(self.one)
        shutil.rmtree(self.root)
        self.failureResultOf(self.one.renew(), StorageError)
        os.mkdir(self.root)
        self.assertEqual([], self.successResultOf(self.one.renew()))
