"""A new stream is refused before those that there are suffer."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rapidrtmp.errors import StorageError
from rapidrtmp.interfaces import IStorageSpace
from rapidrtmp.net.limits import HeadroomLimits
from rapidrtmp.server.headroom import LOOK_EVERY_S, Headroom, resident_bytes


@implementer(IStorageSpace)
class Disk:
    def __init__(self) -> None:
        self.free: Any = succeed(1000)

    def free_bytes(self) -> Deferred[int]:
        free: Deferred[int] = self.free
        return free


class HeadroomTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lag_ms = self.memory = 0
        self.disk = Disk()
        self.clock = Clock()

    def make(self, **limits: int) -> Headroom:
        made = Headroom(
            HeadroomLimits(**limits),
            lambda: self.lag_ms,
            lambda: [self.disk, object()],
            lambda: self.memory,  # type: ignore[list-item]
        )
        made.start(self.clock)
        self.addCleanup(made.stop)
        return made

    def test_lag_up_to_the_limit(self) -> None:
        """At the limit a stream is admitted, a millisecond beyond it is refused in words."""
        headroom = self.make(max_lag_ms=500)
        self.lag_ms = 500
        self.assertEqual("", headroom.refusal())
        self.lag_ms = 501
        self.assertIn("501 ms behind", headroom.refusal())
        self.assertEqual("", self.make(max_lag_ms=0).refusal())

    def test_memory_up_to_the_limit(self) -> None:
        """Likewise of memory, by the byte."""
        headroom = self.make(max_memory_bytes=1000)
        self.memory = 1000
        self.assertEqual("", headroom.refusal())
        self.memory = 1001
        self.assertIn("too little memory", headroom.refusal())

    def test_space_in_any_storage(self) -> None:
        """Likewise of space in any storage; one that does not answer is as it was."""
        headroom = self.make(min_free_space_bytes=1000)
        self.assertEqual("", headroom.refusal())
        for free, words in ((succeed(999), "space left"), (fail(StorageError("x")), "space left"), (succeed(1000), "")):
            self.disk.free = free
            self.clock.advance(LOOK_EVERY_S)
            self.assertEqual(bool(words), words in headroom.refusal() and bool(headroom.refusal()))

    def test_process_holds_some_megabytes(self) -> None:
        """A process holds some megabytes."""
        self.assertGreater(resident_bytes(), 1 << 20)
