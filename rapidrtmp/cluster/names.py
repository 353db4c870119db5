"""The names of streams that this node owns, in the directory that it shares with others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from rapidrtmp.errors import DirectoryError, LeaseHeldError
from rapidrtmp.interfaces import Claim, IOwnerDirectory, Owner
from rapidrtmp.names import StreamName

__all__ = ["NodeNames"]

#: Of so many names the owner is remembered.
MOST_KNOWN = 10_000


class NodeNames:
    """
    What this node owns, and what it knows of the others.

    :param accepts: whether a name is owned while the directory does not answer, and claimed later.
    :param utc_ms: the time of day in milliseconds since 1970.
    :ivar node: this node.
    :ivar directory: once it is open.
    :ivar kept: what is not given back just now, by whichever part.
    """

    def __init__(self, node: str, *, accepts: bool = False, utc_ms: Callable[[], int] = lambda: 0) -> None:
        self.node = node
        self._accepts = accepts
        self._utc_ms = utc_ms
        self._unasked: set[StreamName] = set()  # owned, as far as it is known
        self._known: dict[StreamName, Owner] = {}
        self.directory: IOwnerDirectory | None = None
        self._owned: dict[StreamName, Owner] = {}
        self.kept: set[StreamName] = set()

    def fence(self, name: StreamName) -> int:
        """The fence under which this node owns a name; 0 if it does not."""
        owner = self._owned.get(name)
        return 0 if owner is None else owner.fence

    def find(self, name: StreamName) -> Deferred[Owner | None]:
        """The owner of a name; the last that was known while the directory does not answer, else ``DirectoryError``."""
        if self.directory is None:
            return fail(DirectoryError("the directory is not open"))

        def found(owner: Owner | None) -> Owner | None:
            self._learn(name, owner)
            return owner

        def failed(failure: Failure) -> Owner:
            failure.trap(DirectoryError)
            owner = self._owned.get(name) or self._known.get(name)
            if owner is None:
                failure.raiseException()
            assert owner is not None
            return owner

        finding: Deferred[Owner | None] = self.directory.find(str(name))
        return finding.addCallbacks(found, failed)

    def _learn(self, name: StreamName, owner: Owner | None) -> None:
        if owner is None or owner.node == self.node:
            self._known.pop(name, None)
            return
        if len(self._known) >= MOST_KNOWN and name not in self._known:
            del self._known[next(iter(self._known))]
        self._known[name] = owner

    def ask(self, name: StreamName) -> Deferred[Claim]:
        """Claim a name, and learn whose it is. Fails with ``DirectoryError``."""
        if self.directory is None:
            return fail(DirectoryError("the directory is not open"))

        def asked(claim: Claim) -> Claim:
            self._learn(name, claim.owner)
            if claim.is_ours:
                self._owned[name] = claim.owner
            return claim

        def failed(failure: Failure) -> Claim:
            failure.trap(DirectoryError)
            if not self._accepts:
                failure.raiseException()
            owner = self._known.get(name)
            return Claim(owner, is_ours=False) if owner is not None else self._assume(name, 0)

        claim: Deferred[Claim] = self.directory.claim(str(name))
        return claim.addCallbacks(asked, failed)

    def _assume(self, name: StreamName, fence: int) -> Claim:
        """Own a name that the directory cannot be asked for."""
        owner = self._owned[name] = Owner(self.node, "", max(fence + 1, self._utc_ms()))
        self._unasked.add(name)
        return Claim(owner, is_ours=True)

    def claim(self, name: StreamName) -> Deferred[None]:
        """Claim a name for good. Fails with ``LeaseHeldError`` if another node has it, or with ``DirectoryError``."""
        if name in self._owned:
            return succeed(None)

        def asked(claim: Claim) -> None:
            if not claim.is_ours:
                raise LeaseHeldError(f"the node {claim.owner.node} publishes {name}")

        return self.ask(name).addCallback(asked)

    def move(self, name: StreamName, former: Owner) -> Deferred[None]:
        """Take a name over from an owner that has agreed. Fails with ``OwnerChangedError`` or ``DirectoryError``."""
        if self.directory is None:
            return fail(DirectoryError("the directory is not open"))

        def moved(owner: Owner) -> None:
            self._learn(name, owner)
            self._owned[name] = owner

        def failed(failure: Failure) -> None:
            if not (self._accepts and failure.check(DirectoryError)):
                failure.raiseException()
            self._assume(name, former.fence)

        move: Deferred[Owner] = self.directory.move(str(name), former)
        return move.addCallbacks(moved, failed)

    def leave(self, name: StreamName) -> Owner | None:
        """Own a name no more, but leave it where it is until another node has moved it; returns what it was."""
        return self._owned.pop(name, None)

    def restore(self, name: StreamName, owner: Owner | None) -> None:
        """Own a name again that was left."""
        if owner is not None:
            self._owned[name] = owner

    def release(self, name: StreamName) -> Deferred[None]:
        """Give a name back, if this node owns it. Fails with ``DirectoryError``."""
        if name in self.kept or self._owned.pop(name, None) is None or self.directory is None:
            return succeed(None)
        released: Deferred[None] = self.directory.release(str(name))
        return released

    def disown(self, name: StreamName) -> None:
        """Let go of a name that was left, and that no other node has taken."""
        if name not in self._owned and self.directory is not None:
            self.directory.release(str(name)).addErrback(Failure.trap, DirectoryError)

    def renew(self) -> Deferred[list[StreamName]]:
        """Renew all that this node owns; fires with what it has lost. Fails with ``DirectoryError``."""
        return Deferred.fromCoroutine(self._renew())

    async def _renew(self) -> list[StreamName]:
        if self.directory is None:
            raise DirectoryError("the directory is not open")
        lost = await self.directory.renew()
        names = [StreamName(*name.split("/", 1)) for name in lost if not name.startswith(".")]
        for name in list(self._unasked):
            self._unasked.discard(name)
            if name in self._owned:
                claim = await self.directory.claim(str(name))
                self._learn(name, claim.owner)
                if claim.is_ours:
                    self._owned[name] = claim.owner
                else:
                    names.append(name)
        return [name for name in names if self._owned.pop(name, None) is not None]

    def __iter__(self) -> Iterator[StreamName]:
        """What this node owns."""
        return iter(list(self._owned))
