"""What storages share that block: their calls are made in threads, and so is the keeping of their leases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from rapidrtmp.interfaces import Lease, StorageContext
from rapidrtmp.interfaces.storage import InThread
from rapidrtmp.storage.keys import check_key

if TYPE_CHECKING:
    from rapidrtmp.storage.bucket_leases import BucketLeases
    from rapidrtmp.storage.locked_names import LockedNames

__all__ = ["ThreadedStorage"]


class ThreadedStorage:
    """
    The base of a storage that blocks.

    :param leases: keeps the leases of this process, in threads of their own.
    :param context: where blocking calls run.
    """

    def __init__(self, leases: BucketLeases | LockedNames, context: StorageContext) -> None:
        self._leases = leases
        self._in_thread = context.in_thread
        self._in_read_thread = context.in_read_thread
        self._in_lease_thread = context.in_lease_thread

    def claim(self, name: str) -> Deferred[Lease]:
        """Take a name's lease."""
        return self._of_key(self._leases.claim, name, self._in_lease_thread)

    def renew(self) -> Deferred[Sequence[Lease]]:
        """Keep what is held."""
        return self._in_lease_thread(self._leases.renew)

    def release(self, lease: Lease) -> Deferred[None]:
        """Give a lease back."""
        return self._in_lease_thread(self._leases.release, lease)

    def find_leases(self, prefix: str) -> Deferred[Sequence[Lease]]:
        """Look at the leases of all."""
        return self._in_lease_thread(self._leases.find, prefix)

    def _of_key(self, work: Callable[[str], Any], key: str, in_thread: InThread) -> Deferred[Any]:
        async def carry_out() -> Any:
            return await in_thread(work, check_key(key))

        return Deferred.fromCoroutine(carry_out())
