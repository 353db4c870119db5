"""Which process of a server of several owns which stream: the directory that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import Attribute, Interface

from rapidrtmp.interfaces.storage import InThread

__all__ = ["Claim", "DirectoryContext", "IOwnerDirectory", "IOwnerDirectoryFactory", "Node", "Owner"]


@dataclass(frozen=True, slots=True)
class Owner:
    """
    Who owns a name.

    :ivar node: a process, by a name that no other process ever has.
    :ivar address: where the other nodes reach it: a Twisted endpoint string, or a URL.
    :ivar fence: rises with every change of the owner: what was said under a lower one is void.
    """

    node: str
    address: str
    fence: int


@dataclass(frozen=True, slots=True)
class Claim:
    """
    What became of a claim.

    :ivar owner: who owns the name now.
    :ivar is_ours: whether that is this node.
    :ivar former: the owner before, if it is no more and had not released the name: it has left something unfinished.
    """

    owner: Owner
    is_ours: bool
    former: Owner | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """
    A node that lives, as far as the directory knows.

    :ivar name: of the process.
    :ivar address: where the other nodes reach it.
    """

    name: str
    address: str


class IOwnerDirectory(Interface):
    """
    The names of streams, ``APP/KEY``, and the node that owns each.

    A node owns a name from its claim until it releases it, it is moved, or the node is no more. All methods but the
    attributes are asynchronous, may be called again before they are done, and fail with ``DirectoryError`` when the
    directory does not answer; what is owned stays owned then, until ``renew`` says that it is lost.
    """

    node: str = Attribute("This node.")
    lease_s: float = Attribute(
        "How many seconds after the last renewal another node may take a name; 0 where nodes own what they own as long "
        "as they live, and no clock is trusted."
    )
    renew_interval_s: float = Attribute("How many seconds pass between two calls of ``renew``.")

    def claim(name: str) -> Deferred[Claim]:
        """Take a name for this node, unless another one that lives owns it."""

    def move(name: str, former: Owner) -> Deferred[Owner]:
        """
        Take a name over from its owner, which has agreed. Fails with ``OwnerChangedError`` if that is not the owner any
        more.
        """

    def renew() -> Deferred[Sequence[str]]:
        """Renew all that this node owns, in one go; fires with the names that it has lost."""

    def release(name: str) -> Deferred[None]:
        """Give a name back. One that this node does not own stays as it is."""

    def abandon(name: str) -> None:
        """Renew a name no more, at once and without a word: where leases end with time, this one does."""

    def find(name: str) -> Deferred[Owner | None]:
        """The owner of a name, if there is one that lives."""

    def names() -> Deferred[Sequence[str]]:
        """All names that nodes which live own, in no order."""

    def nodes() -> Deferred[Sequence[Node]]:
        """The nodes that live, this one among them, sorted by name."""

    def close() -> Deferred[None]:
        """Give everything back; no call follows."""


@dataclass(frozen=True)
class DirectoryContext:
    """
    What a directory is given to work with.

    :ivar node: this process, by a name that no other ever has.
    :ivar address: where other nodes reach it.
    :ivar clock: time and timers.
    :ivar in_thread: runs a blocking call in a thread and returns a ``Deferred`` of its result.
    """

    node: str
    address: str
    clock: IReactorTime
    log: Logger
    in_thread: InThread


class IOwnerDirectoryFactory(Interface):
    """Makes the directory of a node."""

    is_shared: bool = Attribute("Whether several nodes can share what it makes.")

    def open(context: DirectoryContext) -> Deferred[IOwnerDirectory]:
        """Open it, and make the node known. Fails with ``DirectoryError``."""
