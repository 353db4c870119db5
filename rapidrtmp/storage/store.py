"""A storage and the queue that writes behind into it: what the server has of each storage that it is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rapidrtmp.interfaces import EventType, IStorage, RecordEvent, StorageContext, no_event
from rapidrtmp.storage.leases import StorageLeases
from rapidrtmp.storage.write_behind import WriteBehind
from rapidrtmp.support.factories import create

__all__ = ["Store", "make_store"]


@dataclass(frozen=True)
class Store:
    """
    One of the server's storages.

    :ivar name: the setting that chose it, in short: what logs, checks and metrics call it.
    :ivar storage: to read from, and to write what may not wait.
    :ivar writer: its queue.
    :ivar leases: of what this process writes there.
    """

    name: str
    storage: IStorage
    writer: WriteBehind
    leases: StorageLeases = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "leases", StorageLeases(self.name, self.storage, self.writer))


def make_store(
    name: str, factory: Any, context: StorageContext, queue_bytes: int, record: RecordEvent = no_event
) -> Store:
    """
    Make the storage of an ``IStorageFactory``, and its queue.

    :param record: records when it does not take what is written, and does again.
    :raises ConfigurationError: it can never work.
    """
    storage = create(name, factory, context)
    writer = WriteBehind(
        storage,
        context.clock,
        persistent=factory.persistent,
        max_bytes=queue_bytes,
        log=context.log,
        tell=lambda said: record(EventType.STORAGE, None, "", {"storage": name, **said}),
    )
    return Store(name, storage, writer)
