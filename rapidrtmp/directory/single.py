"""The directory of a server of one process: it owns every name."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from rapidrtmp.errors import OwnerChangedError
from rapidrtmp.interfaces import Claim, DirectoryContext, IOwnerDirectory, IOwnerDirectoryFactory, Node, Owner

__all__ = ["SingleDirectory", "SingleDirectoryFactory"]


@implementer(IOwnerDirectory)
class SingleDirectory:
    """See :class:`~rapidrtmp.interfaces.IOwnerDirectory`."""

    lease_s = 0.0
    renew_interval_s = 60.0

    def __init__(self, context: DirectoryContext) -> None:
        self.node = context.node
        self._address = context.address
        self._owned: dict[str, Owner] = {}
        self._fence = 0

    def claim(self, name: str) -> Deferred[Claim]:
        """See :meth:`IOwnerDirectory.claim <rapidrtmp.interfaces.IOwnerDirectory.claim>`."""
        owner = self._owned.get(name)
        if owner is None:
            self._fence += 1
            owner = self._owned[name] = Owner(self.node, self._address, self._fence)
        return succeed(Claim(owner, is_ours=True))

    def move(self, name: str, former: Owner) -> Deferred[Owner]:
        """See :meth:`IOwnerDirectory.move <rapidrtmp.interfaces.IOwnerDirectory.move>`: there is no other node."""
        return fail(OwnerChangedError(f"{former.node} does not own {name}"))

    def renew(self) -> Deferred[Sequence[str]]:
        """See :meth:`IOwnerDirectory.renew <rapidrtmp.interfaces.IOwnerDirectory.renew>`."""
        return succeed(())

    def release(self, name: str) -> Deferred[None]:
        """See :meth:`IOwnerDirectory.release <rapidrtmp.interfaces.IOwnerDirectory.release>`."""
        self._owned.pop(name, None)
        return succeed(None)

    def abandon(self, name: str) -> None:
        """See :meth:`IOwnerDirectory.abandon <rapidrtmp.interfaces.IOwnerDirectory.abandon>`."""
        self._owned.pop(name, None)

    def find(self, name: str) -> Deferred[Owner | None]:
        """See :meth:`IOwnerDirectory.find <rapidrtmp.interfaces.IOwnerDirectory.find>`."""
        return succeed(self._owned.get(name))

    def names(self) -> Deferred[Sequence[str]]:
        """See :meth:`IOwnerDirectory.names <rapidrtmp.interfaces.IOwnerDirectory.names>`."""
        return succeed(list(self._owned))

    def nodes(self) -> Deferred[Sequence[Node]]:
        """See :meth:`IOwnerDirectory.nodes <rapidrtmp.interfaces.IOwnerDirectory.nodes>`."""
        return succeed((Node(self.node, self._address),))

    def close(self) -> Deferred[None]:
        """See :meth:`IOwnerDirectory.close <rapidrtmp.interfaces.IOwnerDirectory.close>`."""
        self._owned.clear()
        return succeed(None)


@implementer(IOwnerDirectoryFactory)
class SingleDirectoryFactory:
    """``single``."""

    is_shared = False

    def open(self, context: DirectoryContext) -> Deferred[IOwnerDirectory]:
        """See :meth:`IOwnerDirectoryFactory.open <rapidrtmp.interfaces.IOwnerDirectoryFactory.open>`."""
        return succeed(SingleDirectory(context))
