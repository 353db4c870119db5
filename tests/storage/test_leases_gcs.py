"""Tests of leases in a bucket, against an emulator on loopback, with clocks that are set forward by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import SkipTest
from unittest.mock import patch

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase, TestCase

from rapidrtmp.errors import LeaseHeldError, StorageError
from rapidrtmp.interfaces import Lease, StorageContext
from rapidrtmp.storage.bucket import Mark
from rapidrtmp.storage.bucket_leases import LEASE_S, RENEW_INTERVAL_S
from rapidrtmp.storage.gcs import GcsStorage, GcsStorageFactory
from rapidrtmp.storage.process import ProcessPlace
from rapidrtmp.testing.leases import LeasingStorageContract
from tests.slow import slow
from tests.storage.front import Front

try:
    from tests.storage.emulator import emulator_url
except ImportError as error:
    missing: str | None = f"needs google-cloud-storage and gcp-storage-emulator: {error}"
else:
    missing = None

ELSEWHERE = ProcessPlace("elsewhere", 7, "another machine", "1")


class Case:
    """Storages in one place, and how much later than now it is for each of them."""

    id: Callable[[], str]
    addCleanup: Callable[..., None]

    def setUp(self) -> None:
        if missing:
            raise SkipTest(missing)
        self.later_s = 0.0
        self.written: dict[int, float] = {}  # how much later than now a mark was written, by generation

    def make_storage(self, process: str, endpoint: str = "") -> GcsStorage:
        context = StorageContext(maybeDeferred, Clock(), Logger(), process)
        settings = {"prefix": f"{self.id()}/streams", "endpoint": endpoint or emulator_url()}
        storage = GcsStorageFactory("bucket", **settings).create(context)
        now_s = storage._leases._now_s
        storage._leases._now_s = lambda: now_s() + self.later_s
        as_mark = storage._bucket._as_mark

        def as_mark_of_then(blob: Any) -> Mark:
            mark = as_mark(blob)
            return replace(mark, updated_s=mark.updated_s + self.written.setdefault(mark.generation, self.later_s))

        storage._bucket._as_mark = as_mark_of_then  # type: ignore[method-assign]
        return storage

    def pass_over(self, storage: GcsStorage) -> None:
        """Let as much time pass for everyone as the leases of a process last, which does not renew them."""
        self.later_s += LEASE_S + 1


@slow
class GcsLeaseContractTests(Case, LeasingStorageContract, TestCase):
    """The contract every storage with leases keeps."""

    kill = Case.pass_over


@slow
class GcsLeaseTests(Case, SynchronousTestCase):
    """What is said of this storage alone."""

    def setUp(self) -> None:
        super().setUp()
        self.front = Front(emulator_url())
        self.addCleanup(self.front.close)
        self.one, self.other = self.make_storage("one", self.front.url), self.make_storage("other")
        self.requests: list[tuple[str, str]] = []
        self.front.passed = lambda method, path: self.requests.append((method, path))

    def claim(self, storage: GcsStorage, name: str = "live/cam") -> Lease:
        return self.successResultOf(storage.claim(name))

    def assert_held(self, storage: GcsStorage) -> None:
        self.failureResultOf(storage.claim("live/cam"), LeaseHeldError)

    def answers_lost(self, method: str) -> None:
        """From now on, requests of this method are carried out and their answers lost, once."""
        self.front.fault = lambda seen, path: self._lose_once() if seen == method else None

    def _lose_once(self) -> Any:
        self.front.fault = lambda method, path: None
        return "lost"

    def test_one_request_renews_all(self) -> None:
        """Renewing is one request for all leases, and none where there are none."""
        self.successResultOf(self.one.renew())
        self.assertEqual([], self.requests)
        for number in range(20):
            self.claim(self.one, f"live/{number}")
        self.requests.clear()
        self.successResultOf(self.one.renew())
        self.assertEqual(["POST"], [method for method, _ in self.requests])

    def test_renewed_leases_are_kept(self) -> None:
        """A process that renews in time keeps what it has for as long as it likes."""
        self.claim(self.one)
        with patch.object(ProcessPlace, "here", lambda: ELSEWHERE):
            for _ in range(5):
                self.successResultOf(self.one.renew())
                self.assert_held(self.other)

    def test_late_process_learns_its_losses(self) -> None:
        """A process that was stopped for too long learns with its next renewal what others have taken meanwhile."""
        taken, kept = self.claim(self.one), self.claim(self.one, "live/kept")
        self.pass_over(self.one)
        self.claim(self.other)
        self.assertEqual([taken], self.successResultOf(self.one.renew()))
        self.assertEqual([], self.successResultOf(self.one.renew()))
        self.failureResultOf(self.other.claim("live/kept"), LeaseHeldError)
        found = self.successResultOf(self.one.find_leases(""))
        self.assertEqual([("live/cam", "other"), ("live/kept", "one")], [(each.name, each.holder) for each in found])
        self.assertGreater(found[1].fence, kept.fence)

    def test_late_but_first(self) -> None:
        """One that is late and renews before anyone else has looked has lost nothing."""
        self.claim(self.one)
        self.later_s += LEASE_S + 1
        self.assertEqual([], self.successResultOf(self.one.renew()))
        self.assertEqual(["live/cam"], [lease.name for lease in self.successResultOf(self.one.find_leases(""))])

    def test_dead_on_this_machine(self) -> None:
        """A process of this machine that is not there any more is not waited for."""
        gone = ProcessPlace("here", 2**22, ProcessPlace.here().space, "1")
        with patch.object(ProcessPlace, "here", lambda: gone):
            self.claim(self.one)
        self.claim(self.other)

    def test_elsewhere_only_time_tells(self) -> None:
        """Of one that ran elsewhere only time tells."""
        with patch.object(ProcessPlace, "here", lambda: ELSEWHERE):
            self.claim(self.one)
        error = self.failureResultOf(self.other.claim("live/cam"), LeaseHeldError).value
        self.assertIn("process 7 on elsewhere", str(error))

    def test_idle_process_claims_again(self) -> None:
        """A process that held nothing for long can claim again."""
        self.successResultOf(self.one.release(self.claim(self.one)))
        self.pass_over(self.one)
        self.successResultOf(self.other.find_leases(""))  # which strikes it off
        self.claim(self.one)
        self.assert_held(self.other)

    def test_lost_answers_lose_nothing(self) -> None:
        """A renewal or a claim that was carried out, but whose answer was lost, is no reason to lose anything."""
        self.claim(self.one)
        self.answers_lost("POST")
        self.failureResultOf(self.one.renew(), StorageError)
        self.assertEqual([], self.successResultOf(self.one.renew()))
        self.answers_lost("POST")
        self.failureResultOf(self.one.claim("live/second"), StorageError)
        lease = self.claim(self.one, "live/second")
        self.assertEqual([], self.successResultOf(self.one.renew()))
        self.successResultOf(self.one.release(lease))
        self.claim(self.other, "live/second")

    def test_bucket_cannot_be_reached(self) -> None:
        """An error says so, and nothing is lost by it."""
        self.claim(self.one)
        self.front.fault = lambda method, path: 503
        self.failureResultOf(self.one.renew(), StorageError)
        self.failureResultOf(self.one.claim("live/second"), StorageError)
        self.failureResultOf(self.one.find_leases(""), StorageError)
        self.front.fault = lambda method, path: None
        self.assertEqual([], self.successResultOf(self.one.renew()))

    def test_dead_leave_nothing(self) -> None:
        """Who looks deletes what the dead left: names and processes."""
        self.claim(self.one)
        self.pass_over(self.one)
        self.assertEqual([], self.successResultOf(self.other.find_leases("")))
        self.assertEqual(1, len(self.other._bucket.marks("\\leases/")))  # the other's own
        self.successResultOf(self.other.close())
        self.assertEqual([], self.make_storage("third")._bucket.marks("\\leases/"))

    def test_renews_in_time(self) -> None:
        """A claim long after the last one renews first, so that what is claimed is alive."""
        self.claim(self.one, "live/first")
        self.later_s += RENEW_INTERVAL_S + 1
        self.requests.clear()
        self.claim(self.one)
        self.assertEqual(2, len(self.requests))
