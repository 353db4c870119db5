"""Where objects are kept by key, who may write them, and the queue through which sinks do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from secrets import token_hex
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import Attribute, Interface

from rapidrtmp.interfaces.playback import IMMUTABLE

__all__ = [
    "IGatheringStorage",
    "ILeasingStorage",
    "IPacedStorage",
    "IStorage",
    "IStorageFactory",
    "IStorageRedirect",
    "IStorageSpace",
    "IStorageWriter",
    "InThread",
    "Lease",
    "ObjectInfo",
    "StorageContext",
    "StoredObject",
]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """
    What a storage knows of an object without reading it.

    :ivar key: its key.
    :ivar size: in bytes.
    :ivar modified_ms: when it was last put, in milliseconds since 1970.
    :ivar content_type: as it was put, or guessed from the key.
    """

    key: str
    size: int
    modified_ms: int
    content_type: str


@dataclass(frozen=True)
class StoredObject:
    """
    An object being read.

    :ivar info: of the whole object.
    :ivar chunks: the bytes asked for, in order; iterate once. Stopping early releases what it holds.
    """

    info: ObjectInfo
    chunks: AsyncIterator[bytes]


class IStorage(Interface):
    """
    Objects by key.

    A key is ``/``-separated names, none of them empty, ``.`` or ``..``, without control characters or backslashes; at
    most 1024 bytes of UTF-8. A bad key fails with a ``StorageError`` that is not ``retryable`` and touches nothing.
    All methods are asynchronous, may be called again before they are done, and fail with ``StorageError`` when the
    backend does: ``retryable`` says whether the same call can succeed later.
    """

    def put(key: str, data: bytes, content_type: str, cache_control: str) -> Deferred[None]:
        """Store an object, replacing one of the same key. A reader sees the old bytes or the new, never a mixture."""

    def get(key: str, start: int = 0, length: int | None = None) -> Deferred[StoredObject]:
        """
        Open an object for reading from byte ``start``, ``length`` bytes or to its end (fewer if it is shorter).

        Fails with ``NotFoundError`` if there is none.
        """

    def stat(key: str) -> Deferred[ObjectInfo]:
        """What is known of an object. Fails with ``NotFoundError`` if there is none."""

    def list(prefix: str) -> Deferred[list[ObjectInfo]]:
        """All objects whose key begins with ``prefix``, sorted by key. ``""`` lists all."""

    def delete(key: str) -> Deferred[None]:
        """Delete an object; one that is not there is no error."""

    def close() -> Deferred[None]:
        """Release what is held; no call follows."""


class IGatheringStorage(Interface):
    """What a storage provides besides, if it takes an object in pieces more cheaply than joined."""

    def put_pieces(key: str, pieces: Sequence[bytes], content_type: str, cache_control: str) -> Deferred[None]:
        """Store what the pieces make one behind the other, as :meth:`IStorage.put` does."""


class IStorageSpace(Interface):
    """What a storage provides besides, if there is an end to what it can hold and it can tell how far that is."""

    def free_bytes() -> Deferred[int]:
        """How many bytes can still be stored. Fails with ``StorageError``."""


@dataclass(frozen=True, slots=True)
class Lease:
    """
    A name in a storage that one process holds.

    :ivar name: of a stream, ``APP/KEY``, or whatever else processes must not do at the same time.
    :ivar holder: the process that holds it, by a name that no other process ever has.
    :ivar fence: rises with every change of the holder: of two processes that believe to hold a name, the one with the
        lower fence is wrong.
    """

    name: str
    holder: str
    fence: int


class ILeasingStorage(Interface):
    """
    What a storage provides besides, if several processes can use it at the same time.

    Who writes a stream, or a recording of it, holds the lease of its name ``APP/KEY`` in that storage, from before the
    first write until after the last one. What has a live lease of another process is not abandoned: recovery leaves it
    alone, and publishing it elsewhere is refused. A lease ends when it is released, or soon after its process does.

    A storage without this has one process at a time: all that an earlier one left in it is taken for abandoned.

    A name is what a key may be, of 300 bytes at most. Leases are no objects: ``list`` does not show them. All methods
    fail with ``StorageError`` when the backend does; a lease stays held until ``renew`` says that it is lost.
    """

    lease_s: float = Attribute(
        """
        How many seconds after the last renewal another process may take a lease; nothing is written later than that
        until it is renewed. 0 if a lease lasts as long as its process, and needs no renewal to be kept.
        """
    )
    renew_interval_s: float = Attribute("How many seconds pass between two calls of ``renew``.")

    def claim(name: str) -> Deferred[Lease]:
        """
        Take the lease of a name for this process, unless another one that is alive holds it: then it fails with
        ``LeaseHeldError``. What this process holds already is returned.
        """

    def renew() -> Deferred[Sequence[Lease]]:
        """
        Renew all leases that were claimed here and not released, with as few requests as there can be.

        :returns: those that another process has taken meanwhile, and this one holds no more.
        """

    def release(lease: Lease) -> Deferred[None]:
        """Give a lease back; one that is not held any more is no error, and stays with whom it is."""

    def find_leases(prefix: str) -> Deferred[Sequence[Lease]]:
        """All leases, of this process and of others that are alive, whose name begins with ``prefix``, by name."""


InThread = Callable[..., Deferred[Any]]


def _in_no_thread(*_args: Any, **_kwargs: Any) -> Deferred[Any]:
    raise NotImplementedError


@dataclass(frozen=True)
class StorageContext:
    """
    What a storage is given to work with.

    :ivar in_thread: ``in_thread(callable, *args, **kwargs)`` runs a blocking call in the storage's own thread pool and
        returns a ``Deferred`` of its result.
    :ivar clock: time and timers.
    :ivar log: logs with the storage's name.
    :ivar process: this process, by a name that no other ever has: the holder of its leases.
    :ivar in_read_thread: as ``in_thread``, for what only reads, in threads of their own: however many viewers read,
        writes do not wait for them.
    :ivar in_lease_thread: likewise for leases, which are lost if they wait.
    """

    in_thread: InThread
    clock: IReactorTime
    log: Logger
    process: str = field(default_factory=partial(token_hex, 8))
    in_read_thread: InThread = _in_no_thread
    in_lease_thread: InThread = _in_no_thread

    def __post_init__(self) -> None:
        for name in ("in_read_thread", "in_lease_thread"):
            if getattr(self, name) is _in_no_thread:
                object.__setattr__(self, name, self.in_thread)


class IStorageFactory(Interface):
    """Makes the one storage behind a spec."""

    persistent: bool = Attribute("Whether objects outlive the process.")

    def create(context: StorageContext) -> IStorage:
        """Make the storage. Raises ``ConfigurationError`` if it can never work."""


class IStorageWriter(Interface):
    """
    The sinks' side of a storage: a bounded queue that writes behind.

    Operations are carried out in the order they were given for one stream, with retries; a slow or failing backend
    delays no caller. When the queue is full, or retries are exhausted, the object is lost: its Deferred fails, the loss
    is counted, and logged once.
    """

    persistent: bool = Attribute("Whether what is written outlives the process: else there is no need to mirror.")
    storage: IStorage | None = Attribute("Where to; ``None`` for a double that writes nowhere.")

    def put(key: str, data: Sequence[bytes], content_type: str, cache_control: str = IMMUTABLE) -> Deferred[None]:
        """
        Queue an object. The Deferred fires when it can be read, or fails with ``StorageError`` when it is lost.

        A newer ``put`` of a key whose older one still waits takes its place: both Deferreds fire with the newer.
        The Deferred's owner is the caller: handle its failure.
        """

    def delete(key: str) -> None:
        """Queue a deletion. Failing is logged and counted, no more."""


class IPacedStorage(Interface):
    """A storage that refuses to have one object replaced too often."""

    replace_interval_s: float = Attribute("How many seconds must lie between two puts of one key, done or failed.")


class IStorageRedirect(Interface):
    """A storage from which clients can fetch objects themselves."""

    def redirect_url(key: str) -> Deferred[str | None]:
        """
        Where any client can read an object for the next minutes; ``None`` where it must be read through the server.

        It is not looked whether there is such an object. Fails with ``StorageError``.
        """
