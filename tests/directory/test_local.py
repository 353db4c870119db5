"""Tests of the directory in a folder: the contract, and what operators, clocks and stopped processes do to it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from rapidrtmp.directory import local
from rapidrtmp.directory.local import LocalDirectory, LocalDirectoryFactory
from rapidrtmp.errors import DirectoryError
from rapidrtmp.interfaces import Claim, IOwnerDirectory
from rapidrtmp.testing.directory import SharedDirectoryContract, directory_context
from tests.slow import slow

OTHER_PROCESS = """
import sys
from pathlib import Path
from rapidrtmp.directory.local import LocalDirectory
from rapidrtmp.testing.directory import directory_context
directory = LocalDirectory(Path(sys.argv[1]), directory_context("process"))
directory.claim("live/cam")
print("claimed", flush=True)
sys.stdin.read()
"""


class LocalDirectoryContractTests(SharedDirectoryContract, TestCase):
    """The contract every directory of several nodes keeps."""

    def setUp(self) -> None:
        self.folder = self.mktemp()

    def open_directory(self, node: str) -> Deferred[IOwnerDirectory]:
        return LocalDirectoryFactory(self.folder).open(directory_context(node))

    def kill(self, directory: LocalDirectory) -> None:
        """The kernel closes what a process had open."""
        directory.forget()


class LocalDirectoryTests(SynchronousTestCase):
    """What is said of this directory alone."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.one, self.other = self.open("one"), self.open("other")

    def open(self, node: str) -> LocalDirectory:
        directory = LocalDirectory(self.folder, directory_context(node))
        self.addCleanup(directory.close)
        return directory

    def claim(self, directory: LocalDirectory, name: str = "live/cam") -> Claim:
        claim: Claim = self.successResultOf(directory.claim(name))
        return claim

    def test_fence_survives_earlier_clock(self) -> None:
        """A clock that is set back lowers no fence, not that of a name that is free either."""
        before = self.claim(self.one).owner
        self.successResultOf(self.one.release("live/cam"))
        with patch("rapidrtmp.directory.local.time.time_ns", return_value=1):
            self.assertEqual(before.fence + 1, self.claim(self.other).owner.fence)

    def test_old_names_are_forgotten(self) -> None:
        """The file of a name that was free for a day is deleted by the next node that comes; no other one is."""
        self.claim(self.one, "live/free")
        self.claim(self.one, "live/owned")
        self.successResultOf(self.one.release("live/free"))
        names = self.folder / "names"
        self.open("third")
        self.assertEqual({"live%2Ffree", "live%2Fowned"}, set(os.listdir(names)))
        for path in names.iterdir():
            os.utime(path, (0, 0))
        self.open("fourth")
        self.assertEqual(["live%2Fowned"], os.listdir(names))

    def test_damaged_file_names_no_owner(self) -> None:
        """A file that was cut short, or holds something else, names no owner; the name can be claimed."""
        for damage in (b"", b"[1, 2]", b'["live/cam", 7, "", 1]', b"\xff"):
            self.claim(self.one)
            (self.folder / "names" / "live%2Fcam").write_bytes(damage)
            self.assertIsNone(self.successResultOf(self.other.find("live/cam")))
            self.assertTrue(self.claim(self.other).is_ours)
            self.successResultOf(self.other.release("live/cam"))
            self.one.renew()
            self.one.release("live/cam")

    def test_deleted_folder_is_made_anew(self) -> None:
        """An operator who deletes the files costs no node what it owns: the next renewal writes them again."""
        before = self.claim(self.one).owner
        shutil.rmtree(self.folder)
        self.failureResultOf(self.other.claim("live/cam"), DirectoryError)
        with capturedLogs() as logs:
            self.assertEqual([], self.successResultOf(self.one.renew()))
            self.assertEqual([], self.successResultOf(self.other.renew()))
        self.assertEqual(2, sum("were deleted" in event["log_format"] for event in logs))
        claim = self.claim(self.other)
        self.assertEqual((False, "one"), (claim.is_ours, claim.owner.node))
        self.assertGreaterEqual(claim.owner.fence, before.fence)

    def test_stopped_process_in_a_change(self) -> None:
        """A process that was stopped in the middle of a change holds the others up for a moment; then they fail."""
        self.claim(self.one)
        paths = list((self.folder / "locks").iterdir())
        with paths[0].open("rb") as stopped, patch.object(local.time, "sleep"):
            fcntl.flock(stopped, fcntl.LOCK_EX)
            failure = self.failureResultOf(self.other.claim("live/cam"), DirectoryError)
            self.assertIn("holds a lock", str(failure.value))
            self.assertIsNotNone(self.successResultOf(self.other.find("live/cam")))
        self.assertFalse(self.claim(self.other).is_ours)

    def test_folder_that_cannot_be(self) -> None:
        """A folder that cannot be made is an error of one line."""
        path = self.folder / "file"
        path.write_bytes(b"")
        error = self.assertRaises(DirectoryError, LocalDirectory, path / "below", directory_context("third"))
        self.assertIn("opening the directory: Not a directory", str(error))

    @slow
    def test_killed_process_owns_nothing(self) -> None:
        """What a process owned is free as soon as it was killed; while it is merely stopped it owns it still."""
        command = [sys.executable, "-c", OTHER_PROCESS, str(self.folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                self.assertEqual("claimed\n", process.stdout.readline())
                process.send_signal(signal.SIGSTOP)
                self.assertEqual("process", self.claim(self.one).owner.node)
            finally:
                process.kill()
            process.wait()
            claim = self.claim(self.one)
            assert claim.former is not None
            self.assertEqual((True, "process"), (claim.is_ours, claim.former.node))
