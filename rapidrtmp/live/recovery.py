"""
Before any client is let in: what an earlier process left in the storage is put in order, by the sinks that wrote it.

This cannot take long. When the time is over the server begins without what is not ready by then: those streams begin
anew, above all numbers they ever used. The rest of the recovery continues beside the live streams, and so does
what takes long in any case.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial

from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.errors import LeaseHeldError, StorageError
from rapidrtmp.interfaces import IMovingSinkFactory, IRecoveringSinkFactory, ISinkFactory, ObjectInfo, RecoveryContext
from rapidrtmp.live.leases import StreamLeases
from rapidrtmp.live.numbering import Numbering
from rapidrtmp.names import StreamName
from rapidrtmp.storage.probe import PROBE_PREFIX
from rapidrtmp.storage.store import Store

__all__ = ["Recovery"]

#: A probe of this age belongs to no living process.
DEAD_PROBE_MS = 600_000


class Recovery:
    """
    The streams that can be continued.

    :param apps: the sink factories of each application, by name.
    :param stores: all there are.
    :param store_of: the one that the sinks of a factory write to, in an application.
    :param utc_ms: the time of day in milliseconds since 1970.
    :param leases: tell what other processes, which are alive, write in the same places.
    """

    _log = Logger()

    def __init__(
        self,
        apps: Mapping[str, Mapping[str, ISinkFactory]],
        stores: Sequence[Store],
        store_of: Callable[[str, ISinkFactory], Store],
        numbering: Numbering,
        utc_ms: Callable[[], int],
        leases: StreamLeases | None = None,
    ) -> None:
        self._apps = apps
        self._stores = stores
        self._store_of = store_of
        self._numbering = numbering
        self._utc_ms = utc_ms
        self._leases = leases or StreamLeases()
        self._claimed: set[StreamName] = set()
        self._left_alone: set[StreamName] = set()
        self._found: dict[StreamName, dict[str, Mapping[str, bytes]]] = {}
        self._over = False
        self._done: Deferred[None] = Deferred()
        self._looking: Deferred[list[tuple[bool, None]]] | None = None
        self._later: deque[tuple[str, str, Callable[[], Awaitable[None]]]] = deque()
        self._after: Deferred[None] | None = None

    def run(self, clock: IReactorTime, within_s: float) -> Deferred[None]:
        """Look at everything; fires when that is done, or the time is over. Never fails."""
        timer = clock.callLater(within_s, self._late, within_s)
        self._looking = DeferredList([*self._factories(), *map(self._sweep_probes, self._stores)], consumeErrors=True)

        def looked(_: object) -> None:
            if timer.active():
                timer.cancel()
            self._finish()
            self._release()  # what is resumed is held by its stream

        self._looking.addCallback(looked)
        return self._done

    async def arrive(self, stream: StreamName, left: Mapping[str, Mapping[str, bytes]]) -> None:
        """
        See what can be continued of one stream, which this process owns now.

        :param left: what sinks left of it in the process before, by the name of each.
        """
        self._claimed.add(stream)  # it holds the leases already
        for sink, factory in self._apps[stream.app].items():
            moving = IMovingSinkFactory(factory, None)
            if moving is None:
                continue
            store = self._store_of(stream.app, factory)
            done = maybeDeferred(moving.arrive, self._context(stream.app, sink, store), stream, left.get(sink, {}))
            await done.addErrback(self._failed, stream.app, sink)
        self._claimed.discard(stream)

    def work_afterwards(self) -> None:
        """Do what takes long, now that the sinks of what was found are there."""
        self._after = Deferred.fromCoroutine(self._work())
        self._after.addErrback(Failure.trap, CancelledError)

    async def _work(self) -> None:
        while self._later:
            app, sink, work = self._later.popleft()
            await Deferred.fromCoroutine(_awaited(work)).addErrback(self._failed, app, sink)

    def stop(self) -> None:
        """Look no further; what was found so far can be resumed."""
        self._finish()
        self._later.clear()
        for waiting in (self._looking, self._after):
            if waiting is not None:
                waiting.cancel()

    def _late(self, within_s: float) -> None:
        self._log.error(
            "recovery: the storage listing was not complete within {within_s:g} s; "
            "streams not found by then start anew, and are recovered at the next start",
            within_s=within_s,
        )
        self._finish()

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._done.callback(None)

    def _factories(self) -> Iterator[Deferred[None]]:
        for app, sinks in self._apps.items():
            for sink, factory in sinks.items():
                recovering, store = IRecoveringSinkFactory(factory, None), self._store_of(app, factory)
                if recovering is None or not store.writer.persistent:
                    continue
                done = maybeDeferred(recovering.recover, self._context(app, sink, store))
                yield done.addErrback(self._failed, app, sink)

    def _context(self, app: str, sink: str, store: Store) -> RecoveryContext:
        return RecoveryContext(
            app=app,
            storage=store.storage,
            utc_ms=self._utc_ms,
            log=Logger(f"rapidrtmp.sinks.{sink}"),
            reached=self._numbering.reached,
            resume=partial(self._resume, sink),
            discard=store.writer.delete,
            is_over=lambda: self._over,
            afterwards=lambda work: self._later.append((app, sink, work)),
            claim=self._claim,
            is_stored=store.writer.persistent,
        )

    async def _claim(self, stream: StreamName) -> bool:
        if stream in self._claimed:
            return True
        try:
            await self._leases.claim(stream)
        except LeaseHeldError as error:
            if stream not in self._left_alone:
                self._left_alone.add(stream)
                self._log.info("{stream} is not resumed: {error}", stream=stream, error=error)
            return False
        if stream in self._claimed:  # by another sink meanwhile
            self._leases.release(stream)
        self._claimed.add(stream)
        return True

    def _release(self) -> None:
        claimed, self._claimed = self._claimed, set()
        for stream in claimed:
            self._leases.release(stream)

    def _resume(self, sink: str, stream: StreamName, objects: Mapping[str, bytes]) -> None:
        if not self._over:
            self._found.setdefault(stream, {})[sink] = objects

    def _failed(self, failure: Failure, app: str, sink: str) -> None:
        if failure.check(StorageError):
            self._log.error(
                "{app}: sink {sink} cannot recover stored streams: {error}", app=app, sink=sink, error=failure.value
            )
        elif not failure.check(CancelledError):
            self._log.failure("{app}: internal error in recovery by sink {sink}", failure, app=app, sink=sink)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be done, or taken."""
        return not self._found and self._after is not None and self._after.called

    def streams(self) -> list[StreamName]:
        """The streams that can be continued."""
        return list(self._found)

    def take(self, stream: StreamName) -> Mapping[str, Mapping[str, bytes]]:
        """What was found of a stream, by sink; once."""
        return self._found.pop(stream, {})

    def _sweep_probes(self, store: Store) -> Deferred[None]:
        """Remove what readiness probes of dead servers left."""

        def sweep(objects: Sequence[ObjectInfo]) -> None:
            for info in objects:
                if info.modified_ms < self._utc_ms() - DEAD_PROBE_MS:
                    store.writer.delete(info.key)

        def failed(failure: Failure) -> None:
            self._log.warn("{name}: old probes cannot be listed: {error}", name=store.name, error=failure.value)

        return maybeDeferred(store.storage.list, PROBE_PREFIX).addCallbacks(sweep, failed)


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()
