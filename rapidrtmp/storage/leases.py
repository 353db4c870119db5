"""
Which streams this process writes into one storage, so that no other process takes them for its own or for abandoned.

A lease is claimed before the first write and given back after the last one. Between, one call renews all of them, every
few seconds. What is not sure is not written: a stream whose lease could not be claimed, because the storage did not
answer, continues in memory, and what it writes waits until the lease is there; and where leases end with time,
everything waits that has not been renewed for nearly so long. Both show up as a queue that grows, as with any storage
that fails.

Where another process has a lease, that is *lost*: the stream's writes are dropped, and its owner is notified, once.

A storage without :class:`~rapidrtmp.interfaces.ILeasingStorage`, or one that keeps nothing, has one process at a time,
and so has every lease at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.errors import LeaseHeldError, StorageError
from rapidrtmp.interfaces import ILeasingStorage, IStorage, Lease
from rapidrtmp.storage.write_behind import WriteBehind

__all__ = ["CLAIM_TIMEOUT_S", "MARGIN_S", "StorageLeases"]

#: The longest wait for a storage that does not answer.
CLAIM_TIMEOUT_S = 3.0
#: So long before other processes may take the leases nothing more is begun to be written.
MARGIN_S = 2.0


class StorageLeases:
    """
    The leases of this process in one storage.

    :param name: what the log calls the storage.
    :ivar lost: called with a name whose lease is lost.
    :ivar lost_total: how many were.
    """

    _log = Logger()

    def __init__(self, name: str, storage: IStorage, writer: WriteBehind) -> None:
        self._name = name
        self._writer = writer
        self._clock = writer.clock
        self._leasing: Any = ILeasingStorage(storage, None) if writer.persistent else None
        self._leases: dict[str, Lease | None] = {}  # by name; None while it could not be claimed
        self._asking: dict[str, list[Deferred[None]]] = {}  # claims under way, and who waits for them
        self._renewing = LoopingCall(self._renew)
        self._renewing.clock = self._clock
        self._too_late: IDelayedCall | None = None
        self._is_failing = False
        self.lost: Callable[[str], None] = lambda _name: None
        self.lost_total = 0

    def __len__(self) -> int:
        """How many leases are held."""
        return sum(lease is not None for lease in self._leases.values())

    def start(self) -> None:
        """Begin to renew."""
        if self._leasing is not None:
            self._renewing.start(self._leasing.renew_interval_s, now=False)

    def stop(self) -> None:
        """Renew no more; what is held goes with the storage, when that is closed."""
        if self._renewing.running:
            self._renewing.stop()
        self._expect_renewal(None)

    def claim(self, name: str) -> Deferred[None]:
        """
        See that this process has a lease, or will have it as soon as the storage answers.

        The Deferred is the caller's own and fires within :data:`CLAIM_TIMEOUT_S`. It fails with ``LeaseHeldError`` if
        another process has the lease.
        """
        if self._leasing is None or (name in self._leases and name not in self._asking):
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._leases.setdefault(name, None)
        if name in self._asking:
            self._asking[name].append(waiter)
        else:
            self._ask(name, waiter)
        if not waiter.called:
            timeout = self._clock.callLater(CLAIM_TIMEOUT_S, _fire, waiter)
            waiter.addBoth(_cancelled, timeout)
        return waiter

    def release(self, name: str) -> None:
        """Give a lease back; everything is written."""
        lease = self._leases.pop(name, None)
        self._writer.allow(name)
        if lease is not None:
            self._give_back(lease)
        if not len(self):
            self._expect_renewal(None)

    def _give_back(self, lease: Lease) -> None:
        self._leasing.release(lease).addErrback(self._failed, f"releasing the lease of {lease.name}")

    # ── claims ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, name: str, *waiters: Deferred[None]) -> None:
        self._asking[name] = list(waiters)
        self._writer.withhold(name)
        self._leasing.claim(name).addCallbacks(
            self._claimed, self._not_claimed, callbackArgs=(name,), errbackArgs=(name,)
        )

    def _claimed(self, lease: Lease, name: str) -> None:
        waiters = self._asking.pop(name)
        if name not in self._leases:  # no longer wanted
            self._give_back(lease)
            return
        self._leases[name] = lease
        self._is_failing = False
        if self._too_late is None:  # the first one: others hold it alive no longer than this at least
            self._expect_renewal(self._leasing.lease_s - self._leasing.renew_interval_s)
        self._writer.allow(name)
        for waiter in waiters:
            _fire(waiter)

    def _not_claimed(self, failure: Failure, name: str) -> None:
        waiters = [waiter for waiter in self._asking.pop(name) if not waiter.called]
        if not failure.check(LeaseHeldError):
            if getattr(failure.value, "retryable", False) is False:  # it never will be: as without leases
                self._writer.allow(name)
            self._failed(failure, f"claiming the lease of {name}")
            for waiter in waiters:
                _fire(waiter)
        elif waiters:
            self._leases.pop(name, None)
            self._writer.allow(name)
            for waiter in waiters:
                waiter.errback(failure.value)
        elif name in self._leases:
            self._lose(name, str(failure.value))

    # ── renewing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _renew(self) -> Deferred[None] | None:
        for name, lease in list(self._leases.items()):
            if lease is None and name not in self._asking:
                self._ask(name)
        if not len(self):
            return None
        begun_s = self._clock.seconds()
        renewed: Deferred[None] = self._leasing.renew().addCallbacks(
            self._renewed, self._failed, callbackArgs=(begun_s,), errbackArgs=("renewing leases",)
        )
        return renewed

    def _renewed(self, lost: list[Lease], begun_s: float) -> None:
        self._is_failing = False
        for lease in lost:
            if self._leases.get(lease.name) is not None:
                self._lose(lease.name, "it was not renewed in time, or its file was deleted")
        left_s = begun_s + self._leasing.lease_s - self._clock.seconds()
        self._expect_renewal(left_s if len(self) else None)
        self._writer.pause(False)

    def _expect_renewal(self, within_s: float | None) -> None:
        """Pause all writes a little before that time is over, unless there is another renewal; never for ``None``."""
        if self._too_late is not None and self._too_late.active():
            self._too_late.cancel()
        self._too_late = None
        if within_s is None:
            self._writer.pause(False)
        elif self._leasing.lease_s:
            self._too_late = self._clock.callLater(max(0.0, within_s - MARGIN_S), self._pause)

    def _pause(self) -> None:
        self._log.error(
            "{name}: leases have not been renewed for too long; nothing is written until they are", name=self._name
        )
        self._writer.pause(True)

    def _lose(self, name: str, reason: str) -> None:
        del self._leases[name]
        if not len(self):
            self._expect_renewal(None)
        self.lost_total += 1
        self._writer.revoke(name)
        self._log.error(
            "{name}: another server writes {stream} there now, and this one stops: {reason}",
            name=self._name,
            stream=name,
            reason=reason,
        )
        self.lost(name)

    def _failed(self, failure: Failure, doing: str) -> None:
        """Say it once, until something succeeds."""
        if not failure.check(StorageError):
            self._log.failure("{name}: internal error in {doing}", failure, name=self._name, doing=doing)
        elif not self._is_failing:
            self._is_failing = True
            self._log.error("{name}: {doing}: {error}", name=self._name, doing=doing, error=failure.value)


def _fire(waiter: Deferred[None]) -> None:
    if not waiter.called:
        waiter.callback(None)


def _cancelled(result: object, timeout: IDelayedCall) -> Any:
    if timeout.active():
        timeout.cancel()
    return result
