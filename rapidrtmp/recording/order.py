"""
One change of a recording at a time: what was protected stays, and what is being deleted cannot be protected any more.

Within a process changes queue up. Between processes on one storage, where that lends out leases, a change holds the
lease of the recording's folder; another process tries again for a while. A change that has begun is carried through
although its client leaves: half of one, with another begun behind it, would be in no order.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.errors import LeaseHeldError, StorageError
from rapidrtmp.interfaces import ILeasingStorage, IStorage

__all__ = ["RecordingOrder"]

T = TypeVar("T")
#: How often another process's change is waited for, and how long each time.
ATTEMPTS, WAIT_S = 20, 0.25


class RecordingOrder:
    """
    The changes of the recordings in one storage.

    :param clock: timers.
    """

    def __init__(self, storage: IStorage, clock: IReactorTime) -> None:
        self._leasing = ILeasingStorage(storage, None)
        self._clock = clock
        self._locks: dict[RecordingId, DeferredLock] = {}

    def change(self, id: RecordingId, work: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> Deferred[T]:
        """
        Do ``work`` when all earlier changes of the recording are done.

        The Deferred is the caller's own, with what ``work`` returns or raises; cancelling it only stops waiting. It
        fails with ``StorageError`` if another process does not finish its change.
        """
        answer: Deferred[T] = Deferred()
        done = Deferred.fromCoroutine(self._in_turn(id, work))
        done.addCallbacks(lambda result: _answer(answer, result), lambda failure: _answer(answer, failure))
        return answer

    async def _in_turn(self, id: RecordingId, work: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> T:
        lock = self._locks.setdefault(id, DeferredLock())
        await lock.acquire()
        try:
            return await self._leased(id, work)
        finally:
            if not lock.waiting:
                del self._locks[id]
            lock.release()

    async def _leased(self, id: RecordingId, work: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> T:
        if self._leasing is None:
            return await work()
        lease = await self._claim(id)
        try:
            return await work()
        finally:
            await self._leasing.release(lease)

    async def _claim(self, id: RecordingId) -> Any:
        for _ in range(ATTEMPTS):
            try:
                return await self._leasing.claim(id.folder)
            except LeaseHeldError:
                await deferLater(self._clock, WAIT_S)
        raise StorageError(f"another server is changing {id}")


def _answer(waiting: Deferred[Any], result: object) -> None:
    """Answer the caller, if one waits; an error after the client has left is logged by the storage."""
    if not waiting.called:
        waiting.callback(result)
    elif isinstance(result, Failure):
        result.trap(Exception)
