"""
For the author of a storage that several processes can use at the same time.

:class:`LeasingStorageContract` holds every promise of :class:`~rapidrtmp.interfaces.ILeasingStorage` as a test::

    class MyLeaseTests(LeasingStorageContract, TestCase):
        def make_storage(self, process: str) -> ILeasingStorage:
            return MyStorage(self.place, process)

        def kill(self, storage) -> None:
            storage.connection.abort()  # what the death of its process would do, and the time that passes after it
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from zope.interface.verify import verifyObject

from rapidrtmp.errors import LeaseHeldError
from rapidrtmp.interfaces import ILeasingStorage, IStorage, Lease

__all__ = ["LeasingStorageContract"]

if TYPE_CHECKING:
    from unittest import TestCase as _Base  # typed, as trial's is not
else:
    _Base = object

NAMES = (
    "live/cam",
    "live/cam2",
    "live",
    "radio/...",
    "with space/and%2Fmore",
    "Zürich/東京",
    "n" * 100 + "/" + "m" * 199,
)


class LeasingStorageContract(_Base):
    """The promises of ``ILeasingStorage``, one test each; mix into a ``twisted.trial.unittest.TestCase``."""

    def make_storage(self, process: str) -> Deferred[IStorage] | IStorage:
        """Return the storage as a process of that name has it, or a Deferred of it: one place within a test."""
        raise NotImplementedError

    def kill(self, storage: Any) -> Deferred[None] | None:
        """Do to the leases of ``storage`` what the death of its process does, in the end; it is used no more."""
        raise NotImplementedError

    async def new_storage(self, process: str) -> Any:
        """A storage under test, closed when the test ends."""
        storage: Any = await maybeDeferred(self.make_storage, process)
        self.addCleanup(storage.close)
        return storage

    async def two_storages(self) -> tuple[Any, Any]:
        """One place as two processes have it."""
        return await self.new_storage("one"), await self.new_storage("other")

    async def assert_held(self, storage: Any, name: str) -> None:
        """Check that the process of ``storage`` is refused the name."""
        try:
            await storage.claim(name)
        except LeaseHeldError:
            return
        self.fail(f"{name} was given to two processes")

    async def test_leasing_interface(self) -> None:
        """It provides ILeasingStorage, method by method, and renews well before its leases end."""
        storage = await self.new_storage("one")
        verifyObject(ILeasingStorage, storage)
        self.assertGreater(storage.renew_interval_s, 0)
        if storage.lease_s:
            self.assertLess(2 * storage.renew_interval_s, storage.lease_s)

    async def test_claim(self) -> None:
        """What one process has claimed, another one is refused; the same one has it already."""
        one, other = await self.two_storages()
        for name in NAMES:
            lease = await one.claim(name)
            self.assertEqual((name, "one"), (lease.name, lease.holder))
            await self.assert_held(other, name)
            self.assertEqual(lease, await one.claim(name))

    async def test_release(self) -> None:
        """What is given back can be claimed; the fence has risen then."""
        one, other = await self.two_storages()
        fences = []
        for storage in (one, other, one, other):
            lease = await storage.claim("live/cam")
            fences.append(lease.fence)
            await storage.release(lease)
        self.assertEqual(sorted(set(fences)), fences)

    async def test_release_of_what_is_not_held(self) -> None:
        """Giving back twice, or what another process has meanwhile, changes nothing."""
        one, other = await self.two_storages()
        lease = await one.claim("live/cam")
        await one.release(lease)
        await one.release(lease)
        await other.claim("live/cam")
        await one.release(lease)
        await self.assert_held(one, "live/cam")
        await other.release(Lease("live/unknown", "other", 1))

    async def test_find_leases(self) -> None:
        """Every process sees whose names are whose, by prefix and in order; what was given back is not among them."""
        one, other = await self.two_storages()
        leases = [await one.claim("live/b"), await other.claim("live/a"), await one.claim("radio/a")]
        await one.release(await one.claim("live/c"))
        for storage in (one, other, await self.new_storage("third")):
            self.assertEqual([leases[1], leases[0]], list(await storage.find_leases("live/")))
            self.assertEqual([leases[1], leases[0], leases[2]], list(await storage.find_leases("")))
            self.assertEqual([], list(await storage.find_leases("live/d")))

    async def test_leases_are_no_objects(self) -> None:
        """A listing does not show them, and an object of the same name is another thing."""
        one, other = await self.two_storages()
        await one.claim("live/cam")
        self.assertEqual([], await one.list(""))
        await other.put("live/cam", b"x", "", "")
        await other.delete("live/cam")
        await self.assert_held(other, "live/cam")

    async def test_renew(self) -> None:
        """Renewing keeps what is held, and nothing is lost by it."""
        one, other = await self.two_storages()
        self.assertEqual([], list(await one.renew()))
        await one.claim("live/cam")
        for _ in range(3):
            self.assertEqual([], list(await one.renew()))
        await self.assert_held(other, "live/cam")

    async def test_claims_at_once(self) -> None:
        """Of processes that claim a name at the same moment one has it."""
        storages = [await self.new_storage(f"process-{number}") for number in range(4)]
        for name in (f"live/{number}" for number in range(8)):
            claims = await DeferredList([storage.claim(name) for storage in storages], consumeErrors=True)
            won = [lease for success, lease in claims if success]
            lost = [failure.type for success, failure in claims if not success]
            self.assertEqual((1, [LeaseHeldError] * 3), (len(won), lost))

    async def test_death(self) -> None:
        """What a dead process held is free: it is not found any more, and can be claimed with a higher fence."""
        one, other = await self.two_storages()
        before = await one.claim("live/cam")
        await one.claim("live/other")
        await maybeDeferred(self.kill, one)
        self.assertGreater((await other.claim("live/cam")).fence, before.fence)
        self.assertEqual(["live/cam"], [lease.name for lease in await other.find_leases("")])

    async def test_close(self) -> None:
        """Closing gives everything back."""
        one, other = await self.two_storages()
        await one.claim("live/cam")
        await one.close()
        await other.claim("live/cam")
