"""The names of streams that this node owns, in the directory that it shares with others."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from rapidrtmp.errors import DirectoryError, LeaseHeldError
from rapidrtmp.interfaces import Claim, IOwnerDirectory, Owner
from rapidrtmp.names import StreamName

__all__ = ["NodeNames"]


class NodeNames:
    """
    What this node owns.

    :ivar node: this node.
    :ivar directory: once it is open.
    :ivar kept: what is not given back just now, by whichever part.
    """

    def __init__(self, node: str) -> None:
        self.node = node
        self.directory: IOwnerDirectory | None = None
        self._owned: dict[StreamName, Owner] = {}
        self.kept: set[StreamName] = set()

    def fence(self, name: StreamName) -> int:
        """The fence under which this node owns a name; 0 if it does not."""
        owner = self._owned.get(name)
        return 0 if owner is None else owner.fence

    def find(self, name: StreamName) -> Deferred[Owner | None]:
        """The owner of a name. Fails with ``DirectoryError``."""
        if self.directory is None:
            return fail(DirectoryError("the directory is not open"))
        found: Deferred[Owner | None] = self.directory.find(str(name))
        return found

    def ask(self, name: StreamName) -> Deferred[Claim]:
        """Claim a name, and learn whose it is. Fails with ``DirectoryError``."""
        if self.directory is None:
            return fail(DirectoryError("the directory is not open"))

        def asked(claim: Claim) -> Claim:
            if claim.is_ours:
                self._owned[name] = claim.owner
            return claim

        claim: Deferred[Claim] = self.directory.claim(str(name))
        return claim.addCallback(asked)

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
            self._owned[name] = owner

        move: Deferred[Owner] = self.directory.move(str(name), former)
        return move.addCallback(moved)

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
        if self.directory is None:
            return fail(DirectoryError("the directory is not open"))

        def renewed(lost: Sequence[str]) -> list[StreamName]:
            names = [StreamName(*name.split("/", 1)) for name in lost if not name.startswith(".")]
            return [name for name in names if self._owned.pop(name, None) is not None]

        renewing: Deferred[Sequence[str]] = self.directory.renew()
        return renewing.addCallback(renewed)
