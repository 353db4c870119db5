"""Tests of what is remembered of the objects of a bucket."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.storage.versions import ABSENT, REMEMBERED, ObjectWrite, Versions


def write_of(key: str) -> ObjectWrite:
    return ObjectWrite(key, b"x", "", "no-cache")


class VersionsTests(SynchronousTestCase):
    """Which write is the newest, and what the bucket holds."""

    def setUp(self) -> None:
        self.versions = Versions()

    def test_overtaken(self) -> None:
        """A write is overtaken by a newer one of its key, or by a deletion, and by nothing else."""
        older, newer, other = write_of("a"), write_of("a"), write_of("b")
        for write in (older, newer, other):
            self.versions.begin(write)
        self.assertEqual([True, False, False], [write.overtaken for write in (older, newer, other)])
        self.versions.delete("a")
        self.assertEqual([True, False], [write.overtaken for write in (newer, other)])

    def test_over(self) -> None:
        """A write that is over is forgotten; an older one that ends late takes nothing from the newest."""
        older, newer = write_of("a"), write_of("a")
        self.versions.begin(older)
        self.versions.begin(newer)
        self.versions.end(older)
        self.versions.begin(write_of("a"))
        self.assertTrue(newer.overtaken)

    def test_newest_version(self) -> None:
        """Answers may come out of order: the highest version stays, until the object is known to be gone."""
        self.assertEqual(ABSENT, self.versions.of("a"))
        for version in (7, 9, 8):
            self.versions.saw("a", version)
        self.assertEqual(9, self.versions.of("a"))
        self.versions.saw("a", ABSENT)
        self.assertEqual(ABSENT, self.versions.of("a"))

    def test_bounded(self) -> None:
        """Only so many objects are remembered, those seen last."""
        for number in range(REMEMBERED + 5):
            self.versions.saw(f"{number}", 1)
        self.assertEqual((ABSENT, 1), (self.versions.of("4"), self.versions.of("5")))

    def test_given_up(self) -> None:
        """Who wants the bytes of a write that was given up is told that nobody waits for it."""
        write = write_of("a")
        self.assertEqual(b"x", write.wanted())
        failure = Failure(CancelledError())
        self.assertIs(failure, write.give_up(failure))
        self.assertRaises(CancelledError, write.wanted)
