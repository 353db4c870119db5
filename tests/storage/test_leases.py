"""Tests of what a process does with leases: what is not sure is not written, and what is lost stops, once."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rapidrtmp.errors import LeaseHeldError, StorageError
from rapidrtmp.interfaces import ILeasingStorage, Lease
from rapidrtmp.storage.leases import CLAIM_TIMEOUT_S, MARGIN_S, StorageLeases
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.storage.write_behind import WriteBehind

NAME = "live/cam"


@implementer(ILeasingStorage)
class ScriptedStorage(MemoryStorage):
    """Answers about leases as a test says; ``None`` for an answer that does not come."""

    lease_s = 15.0
    renew_interval_s = 5.0

    def __init__(self) -> None:
        super().__init__(lambda: 0)
        self.answer: Exception | None = None
        self.silent: list[Deferred[Lease]] | None = None
        self.lost: list[Lease] = []
        self.released: list[str] = []
        self.claims = self.renewals = 0

    def claim(self, name: str) -> Deferred[Lease]:
        self.claims += 1
        if self.silent is not None:
            self.silent.append(Deferred())
            return self.silent[-1]
        return fail(self.answer) if self.answer else succeed(Lease(name, "me", self.claims))

    def renew(self) -> Deferred[Sequence[Lease]]:
        self.renewals += 1
        lost, self.lost = self.lost, []
        return fail(self.answer) if self.answer else succeed(lost)

    def release(self, lease: Lease) -> Deferred[None]:
        self.released.append(lease.name)
        return fail(self.answer) if self.answer else succeed(None)

    def find_leases(self, prefix: str) -> Deferred[Sequence[Lease]]:
        raise NotImplementedError


class LeaseCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.storage = ScriptedStorage()
        self.writer = WriteBehind(self.storage, self.clock)
        self.leases = StorageLeases("storage", self.storage, self.writer)
        self.lost: list[str] = []
        self.leases.lost = self.lost.append
        self.leases.start()
        self.addCleanup(self.leases.stop)

    def put(self, key: str = "a") -> Deferred[None]:
        return self.writer.lane(f"{NAME}/hls").put(key, [b"x"], "")

    def pass_s(self, seconds: float) -> None:
        self.clock.pump([0.5] * round(seconds * 2))

    def renewed_by_lease(self, name: str = NAME) -> Lease:
        return Lease(name, "me", 1)


class ClaimTests(LeaseCase):
    def test_claimed_once_and_renewed(self) -> None:
        """A lease is claimed once, renewed again and again, and given back; without one nothing is asked."""
        self.pass_s(20)
        self.assertEqual((0, 0, 0), (self.storage.claims, self.storage.renewals, len(self.leases)))
        for _ in range(2):
            self.successResultOf(self.leases.claim(NAME))
        self.pass_s(20)
        self.assertEqual((1, 4, 1), (self.storage.claims, self.storage.renewals, len(self.leases)))
        self.leases.release(NAME)
        self.pass_s(20)
        self.assertEqual((4, [NAME], 0), (self.storage.renewals, self.storage.released, len(self.leases)))
        self.successResultOf(self.put())

    def test_held_by_another(self) -> None:
        """A name of another process is refused, and nothing of it is remembered."""
        self.storage.answer = LeaseHeldError("process 7 on elsewhere")
        self.failureResultOf(self.leases.claim(NAME), LeaseHeldError)
        self.assertEqual([], self.lost)
        self.storage.answer = None
        self.successResultOf(self.leases.claim(NAME))

    def test_failing_storage_delays_writes(self) -> None:
        """Where the storage fails, the stream continues; what it writes waits until the lease is there after all."""
        self.storage.answer = StorageError("no route to host")
        with capturedLogs() as logs:
            self.successResultOf(self.leases.claim(NAME))
            put = self.put()
            self.pass_s(30)
        self.assertNoResult(put)
        self.assertEqual(1, len(logs))
        self.storage.answer = None
        self.pass_s(6)
        self.successResultOf(put)
        self.assertEqual((1, []), (len(self.leases), self.lost))

    def test_held_after_all(self) -> None:
        """Where it then turns out that another process has the lease, nothing was written, and it is lost."""
        self.storage.answer = StorageError("no route to host")
        self.successResultOf(self.leases.claim(NAME))
        put = self.put()
        self.storage.answer = LeaseHeldError("process 7 on elsewhere")
        self.pass_s(6)
        self.failureResultOf(put, StorageError)
        self.assertEqual(([NAME], 1), (self.lost, self.leases.lost_total))
        self.assertEqual([], self.successResultOf(self.storage.list("")))

    def test_no_locks_means_no_leases(self) -> None:
        """Where there can never be leases, as on a disk without locks, all is written as if there were none."""
        self.storage.answer = StorageError("no locks available", retryable=False)
        self.successResultOf(self.leases.claim(NAME))
        self.successResultOf(self.put())

    def test_silent_storage_is_not_waited_for(self) -> None:
        """The wait for a storage that does not answer is short; late answers count all the same."""
        silent = self.storage.silent = []
        waiting = [self.leases.claim(NAME), self.leases.claim(NAME)]
        self.pass_s(CLAIM_TIMEOUT_S - 1)
        self.assertNoResult(waiting[0])
        self.pass_s(1)
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(1, len(silent))
        put = self.put()
        self.assertNoResult(put)
        silent[0].callback(Lease(NAME, "me", 1))
        self.successResultOf(put)

    def test_released_before_it_was_claimed(self) -> None:
        """A lease that comes when it is no longer wanted is given back."""
        silent = self.storage.silent = []
        self.leases.claim(NAME)
        self.leases.release(NAME)
        silent[0].callback(Lease(NAME, "me", 1))
        self.assertEqual(([NAME], 0), (self.storage.released, len(self.leases)))

    def test_storage_without_leases(self) -> None:
        """Where storages lend out no leases, or keep nothing, every name is ours at once."""
        plain = MemoryStorage(lambda: 0)
        for leases in (
            StorageLeases("plain", plain, WriteBehind(plain, self.clock)),
            StorageLeases("lost", self.storage, WriteBehind(self.storage, self.clock, persistent=False)),
        ):
            leases.start()
            self.successResultOf(leases.claim(NAME))
            leases.release(NAME)
            leases.stop()
        self.assertEqual(0, self.storage.claims)


class RenewalTests(LeaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.successResultOf(self.leases.claim(NAME))

    def test_lost_lease_stops_writing(self) -> None:
        """A lease that another process has is lost: that is said and counted once, and nothing more is written."""
        self.storage.lost = [self.renewed_by_lease()]
        held = self.writer.lane(f"{NAME}/hls")
        with capturedLogs() as logs:
            self.pass_s(20)
        self.assertEqual(([NAME], 1), (self.lost, self.leases.lost_total))
        self.assertEqual(1, len([log for log in logs if "another server writes" in log["log_format"]]))
        self.failureResultOf(held.put("late", [b"x"], ""), StorageError)
        held.delete("live/cam/theirs")
        self.successResultOf(self.writer.lane("live/other/hls").put("other", [b"x"], ""))
        self.assertEqual(["other"], [info.key for info in self.successResultOf(self.storage.list(""))])
        self.assertEqual((0, 0), (self.writer.lost_total, self.writer.pending_objects))

    def test_published_again_after_a_loss(self) -> None:
        """When the other process has given it back, it can be claimed and written again."""
        self.storage.lost = [self.renewed_by_lease()]
        self.pass_s(6)
        self.leases.release(NAME)
        self.successResultOf(self.leases.claim(NAME))
        self.successResultOf(self.put())

    def test_late_renewal_pauses_writing(self) -> None:
        """What has not been renewed for nearly as long as a lease lasts is not written, until it is renewed."""
        self.pass_s(5)
        self.storage.answer = StorageError("no route to host")
        self.pass_s(15 - MARGIN_S - 1)
        self.successResultOf(self.put("before"))
        self.pass_s(2)
        put = self.put("after")
        self.pass_s(60)
        self.assertNoResult(put)
        self.storage.answer = None
        self.pass_s(6)
        self.successResultOf(put)
        self.assertEqual([], self.lost)

    def test_leases_that_last(self) -> None:
        """Leases that last as long as their process hold up nothing when they cannot be looked at."""
        self.leases.stop()
        self.storage.lease_s = 0.0
        self.leases.start()
        self.storage.answer = StorageError("input/output error")
        self.pass_s(100)
        self.successResultOf(self.put())


class WrittenTests(LeaseCase):
    def test_end_of_writing_is_notified(self) -> None:
        """It is notified when nothing of a stream waits any more, whatever waits of others."""
        self.successResultOf(self.writer.when_written(NAME))
        self.writer.withhold(NAME)
        self.writer.withhold("live/other")
        self.put()
        self.writer.lane("live/other/hls").put("b", [b"x"], "")
        written = self.writer.when_written(NAME)
        self.assertNoResult(written)
        self.writer.allow(NAME)
        self.successResultOf(written)

    def test_revoked_while_it_waits(self) -> None:
        """What is revoked waits no more; what was under way is dropped when it ends."""
        self.writer.withhold(NAME)
        put, written = self.put(), self.writer.when_written(NAME)
        self.writer.revoke(NAME)
        self.failureResultOf(put, StorageError)
        self.successResultOf(written)
        self.assertEqual((0, 0), (self.writer.pending_bytes, self.writer.lost_total))
