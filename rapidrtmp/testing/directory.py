"""
For the author of a directory of owners.

:class:`DirectoryContract` holds what :class:`~rapidrtmp.interfaces.IOwnerDirectory` promises one node,
:class:`SharedDirectoryContract` what it promises several, as tests::

    class MyDirectoryTests(SharedDirectoryContract, TestCase):
        def open_directory(self, node: str) -> Deferred[IOwnerDirectory]:
            return MyDirectoryFactory(self.place).open(directory_context(node))

        def kill(self, directory) -> None:
            directory.connection.abort()  # what the death of its process would do, and the time that passes after it
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.logger import Logger
from zope.interface.verify import verifyObject

from rapidrtmp.errors import OwnerChangedError
from rapidrtmp.interfaces import Claim, DirectoryContext, IOwnerDirectory, Node, Owner

__all__ = ["DirectoryContract", "SharedDirectoryContract", "directory_context"]

if TYPE_CHECKING:
    from unittest import TestCase as _Base  # typed, as trial's is not
else:
    _Base = object

NAMES = ("live/cam", "live/cam2", "radio/...", "live/..", "Zürich/東京", "n" * 100 + "/" + "m" * 199)


def directory_context(node: str, clock: IReactorTime | None = None) -> DirectoryContext:
    """What a node of that name gives its directory; it is reached at ``unix:NODE``."""
    return DirectoryContext(node, f"unix:{node}", clock or Clock(), Logger(), maybeDeferred)


class DirectoryContract(_Base):
    """What one node is promised, one test each; mix into a ``twisted.trial.unittest.TestCase``."""

    def open_directory(self, node: str) -> Deferred[IOwnerDirectory]:
        """Open the directory as a node of that name has it, reached at ``unix:NODE``: one place within a test."""
        raise NotImplementedError

    async def new_directory(self, node: str) -> Any:
        """A directory under test, closed when the test ends."""
        directory: Any = await self.open_directory(node)
        self.addCleanup(directory.close)
        return directory

    async def test_directory_provides_interface(self) -> None:
        """It provides IOwnerDirectory, method by method, and renews well before its leases end."""
        one = await self.new_directory("one")
        verifyObject(IOwnerDirectory, one)
        self.assertEqual("one", one.node)
        self.assertGreater(one.renew_interval_s, 0)
        if one.lease_s:
            self.assertLess(2 * one.renew_interval_s, one.lease_s)

    async def test_claim_of_free_name(self) -> None:
        """A name that is free is the node's that claims it, under a fence above 0, and found as that."""
        one = await self.new_directory("one")
        for name in NAMES:
            self.assertIsNone(await one.find(name))
            claim = await one.claim(name)
            self.assertEqual(Claim(Owner("one", "unix:one", claim.owner.fence), is_ours=True), claim)
            self.assertGreater(claim.owner.fence, 0)
            self.assertEqual(claim.owner, await one.find(name))

    async def test_claim_of_own_name(self) -> None:
        """What a node owns it is given again, with nothing changed."""
        one = await self.new_directory("one")
        claim = await one.claim("live/cam")
        self.assertEqual(claim, await one.claim("live/cam"))

    async def test_fence_rises_with_release(self) -> None:
        """What is given back has no owner, and a higher fence with the next one; giving back twice changes nothing."""
        one = await self.new_directory("one")
        fences = []
        for _ in range(4):
            fences.append((await one.claim("live/cam")).owner.fence)
            await one.release("live/cam")
            await one.release("live/cam")
            self.assertIsNone(await one.find("live/cam"))
        self.assertEqual(sorted(set(fences)), fences)

    async def test_renewal_keeps_names(self) -> None:
        """Renewing loses nothing, whether there is anything to renew or not."""
        one = await self.new_directory("one")
        self.assertEqual([], list(await one.renew()))
        claim = await one.claim("live/cam")
        for _ in range(3):
            self.assertEqual([], list(await one.renew()))
        self.assertEqual(claim.owner, await one.find("live/cam"))

    async def test_names_that_are_owned(self) -> None:
        """The names that are owned are listed, whatever they consist of; those that were given back are not."""
        one = await self.new_directory("one")
        self.assertEqual([], list(await one.names()))
        for name in NAMES:
            await one.claim(name)
        await one.release(NAMES[0])
        self.assertEqual(sorted(NAMES[1:]), sorted(await one.names()))

    async def test_node_finds_itself(self) -> None:
        """A node is among those that live."""
        one = await self.new_directory("one")
        self.assertEqual([Node("one", "unix:one")], list(await one.nodes()))

    async def test_move_from_stranger(self) -> None:
        """A name is not moved from a node that does not own it."""
        one = await self.new_directory("one")
        claim = await one.claim("live/cam")
        try:
            await one.move("live/cam", Owner("stranger", "unix:stranger", claim.owner.fence))
        except OwnerChangedError:
            self.assertEqual(claim.owner, await one.find("live/cam"))
            return
        self.fail("it was moved")


class SharedDirectoryContract(DirectoryContract):
    """What several nodes are promised as well."""

    def kill(self, directory: Any) -> Deferred[None] | None:
        """Do to the names of a node what the death of its process does, in the end; it is used no more."""
        raise NotImplementedError

    async def two_directories(self) -> tuple[Any, Any]:
        """One place as two nodes have it."""
        return await self.new_directory("one"), await self.new_directory("other")

    async def test_claim_of_owned_name(self) -> None:
        """What one node owns another one is not given, but learns whose it is, and where that is reached."""
        one, other = await self.two_directories()
        for name in NAMES:
            owner = (await one.claim(name)).owner
            self.assertEqual(Claim(owner, is_ours=False), await other.claim(name))
            self.assertEqual(owner, await other.find(name))

    async def test_claims_at_once(self) -> None:
        """Of nodes that claim a name at the same moment one has it, and all learn which."""
        nodes = [await self.new_directory(f"node-{number}") for number in range(4)]
        for name in (f"live/{number}" for number in range(8)):
            claims = await gatherResults([node.claim(name) for node in nodes])
            self.assertEqual(1, len({claim.owner for claim in claims}))
            self.assertEqual(1, sum(claim.is_ours for claim in claims))

    async def test_move_to_another_node(self) -> None:
        """A name that is moved has a new owner and a higher fence; the former one loses it, once."""
        one, other = await self.two_directories()
        before = (await one.claim("live/cam")).owner
        await one.claim("live/kept")
        after = await other.move("live/cam", before)
        self.assertEqual(("other", "unix:other"), (after.node, after.address))
        self.assertGreater(after.fence, before.fence)
        self.assertEqual(after, await one.find("live/cam"))
        await one.release("live/cam")
        self.assertEqual(after, await one.find("live/cam"))
        self.assertIn(list(await one.renew()), ([], ["live/cam"]))
        self.assertEqual([], list(await one.renew()))

    async def test_loss_is_reported(self) -> None:
        """A node whose name was moved without its knowledge learns it by the next renewal."""
        one, other = await self.two_directories()
        before = (await one.claim("live/cam")).owner
        await one.claim("live/kept")
        await other.move("live/cam", before)
        self.assertEqual(["live/cam"], list(await one.renew()))

    async def test_moves_at_once(self) -> None:
        """Of nodes that take a name over at the same moment one has it."""
        one = await self.new_directory("one")
        nodes = [await self.new_directory(f"node-{number}") for number in range(3)]
        before = (await one.claim("live/cam")).owner
        moved = []
        for move in [node.move("live/cam", before) for node in nodes]:
            try:
                moved.append(await move)
            except OwnerChangedError:
                continue
        self.assertEqual([await one.find("live/cam")], moved)

    async def test_death_of_owner(self) -> None:
        """A dead node's names are free, under a higher fence; who claims one learns whose it was."""
        one, other = await self.two_directories()
        before = (await one.claim("live/cam")).owner
        await one.claim("live/other")
        await maybeDeferred(self.kill, one)
        self.assertIsNone(await other.find("live/cam"))
        claim = await other.claim("live/cam")
        self.assertEqual((True, before), (claim.is_ours, claim.former))
        self.assertGreater(claim.owner.fence, before.fence)
        self.assertEqual([Node("other", "unix:other")], list(await other.nodes()))

    async def test_all_nodes_are_found(self) -> None:
        """Every node that lives is found by every other, sorted; one that has closed is not."""
        one, other = await self.two_directories()
        third = await self.new_directory("third")
        expected = [Node(name, f"unix:{name}") for name in ("one", "other", "third")]
        for node in (one, other, third):
            self.assertEqual(expected, list(await node.nodes()))
        await third.close()
        self.assertEqual(expected[:2], list(await one.nodes()))

    async def test_close_releases_names(self) -> None:
        """Closing gives everything back: it is as if it had been released."""
        one, other = await self.two_directories()
        await one.claim("live/cam")
        await one.close()
        claim = await other.claim("live/cam")
        self.assertEqual((True, None), (claim.is_ours, claim.former))
