"""Tests of what is remembered of the objects of a bucket."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.storage.generations import ABSENT, REMEMBERED, Generations, ObjectWrite


def write_of(key: str) -> ObjectWrite:
    return ObjectWrite(key, b"x", "", "no-cache")


class GenerationsTests(SynchronousTestCase):
    """Which write is the newest, and what the bucket holds."""

    def setUp(self) -> None:
        self.generations = Generations()

    def test_overtaken_by_newer_writes(self) -> None:
        """A write is overtaken by a newer one of its key, or by a deletion, and by nothing else."""
        older, newer, other = write_of("a"), write_of("a"), write_of("b")
        for write in (older, newer, other):
            self.generations.begin(write)
        self.assertEqual([True, False, False], [write.overtaken for write in (older, newer, other)])
        self.generations.delete("a")
        self.assertEqual([True, False], [write.overtaken for write in (newer, other)])

    def test_finished_write_is_forgotten(self) -> None:
        """A write that is over is forgotten; an older one that ends late takes nothing from the newest."""
        older, newer = write_of("a"), write_of("a")
        self.generations.begin(older)
        self.generations.begin(newer)
        self.generations.end(older)
        self.generations.begin(write_of("a"))
        self.assertTrue(newer.overtaken)

    def test_newest_generation_stays_known(self) -> None:
        """Answers may come out of order: the highest generation stays, until the object is known to be gone."""
        self.assertEqual(ABSENT, self.generations.of("a"))
        for generation in (7, 9, 8):
            self.generations.saw("a", generation)
        self.assertEqual(9, self.generations.of("a"))
        self.generations.saw("a", ABSENT)
        self.assertEqual(ABSENT, self.generations.of("a"))

    def test_remembered_objects_are_bounded(self) -> None:
        """Only so many objects are remembered, those seen last."""
        for number in range(REMEMBERED + 5):
            self.generations.saw(f"{number}", 1)
        self.assertEqual((ABSENT, 1), (self.generations.of("4"), self.generations.of("5")))

    def test_given_up_write_raises(self) -> None:
        """Asking for the bytes of a write that was given up raises ``CancelledError``."""
        write = write_of("a")
        self.assertEqual(b"x", write.wanted())
        failure = Failure(CancelledError())
        self.assertIs(failure, write.give_up(failure))
        self.assertRaises(CancelledError, write.wanted)
