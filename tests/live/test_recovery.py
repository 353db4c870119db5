"""What an earlier process left, found in bounded time before anyone is let in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rapidrtmp.interfaces import IRecoveringSinkFactory, ISinkFactory, IStorage, RecoveryContext
from rapidrtmp.live.numbering import Numbering
from rapidrtmp.live.recovery import DEAD_PROBE_MS, Recovery
from rapidrtmp.names import StreamName
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.storage.store import Store
from rapidrtmp.storage.write_behind import WriteBehind
from rapidrtmp.testing.sinks import STARTED_AT_MS, FrameCollectorFactory

ONE, OTHER = StreamName("live", "one"), StreamName("live", "other")


@implementer(ISinkFactory, IRecoveringSinkFactory)
class Finding(FrameCollectorFactory):
    """A factory whose look at the storage is a function of the test."""

    def __init__(self, recover: Callable[[RecoveryContext], Deferred[None]]) -> None:
        super().__init__()
        self._recover = recover

    def recover(self, context: RecoveryContext) -> Deferred[None]:
        return self._recover(context)


class RecoveryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.now_ms = STARTED_AT_MS
        self.storage = MemoryStorage(lambda: self.now_ms)
        self.writer = WriteBehind(self.storage, self.clock)
        self.numbering = Numbering(lambda: 0)

    def run_with(self, *factories: Any) -> tuple[Recovery, list[None]]:
        sinks = {f"sink-{index}": factory for index, factory in enumerate(factories)}
        store = Store("storage", self.storage, self.writer)
        recovery = Recovery({"live": sinks}, [store], lambda _app, _factory: store, self.numbering, lambda: self.now_ms)
        done: list[None] = []
        recovery.run(self.clock, 5).addCallback(done.append)
        return recovery, done

    def test_found_streams_are_handed_out(self) -> None:
        """What factories found is handed out by stream and sink, once; those that do not look are not asked."""

        def first(context: RecoveryContext) -> Deferred[None]:
            context.resume(ONE, {"a": b"1"})
            context.reached(77)
            return succeed(None)

        def second(context: RecoveryContext) -> Deferred[None]:
            context.resume(ONE, {"b": b"2"})
            context.resume(OTHER, {})
            return succeed(None)

        recovery, done = self.run_with(Finding(first), FrameCollectorFactory(), Finding(second))
        self.assertEqual([None], done)
        self.assertEqual([ONE, OTHER], recovery.streams())
        self.assertEqual({"sink-0": {"a": b"1"}, "sink-2": {"b": b"2"}}, recovery.take(ONE))
        self.assertEqual({}, recovery.take(ONE))
        self.assertEqual([OTHER], recovery.streams())
        self.assertEqual(78, self.numbering.first())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_storages_of_each_factory(self) -> None:
        """Each factory is shown what its sinks of that application wrote to; where nothing stays, none is asked."""
        seen: list[tuple[str, IStorage]] = []

        def looking(context: RecoveryContext) -> Deferred[None]:
            seen.append((context.app, context.storage))
            context.discard("old")
            return succeed(None)

        one, other = MemoryStorage(), MemoryStorage()
        volatile = MemoryStorage()
        stores = {
            "live": Store("storage", one, WriteBehind(one, self.clock)),
            "radio": Store("apps.radio.storage", other, WriteBehind(other, self.clock)),
            "test": Store("apps.test.storage", volatile, WriteBehind(volatile, self.clock, persistent=False)),
        }
        for storage in (one, other, volatile):
            storage.put("old", b"", "", "")
        apps: Any = {app: {"sink": Finding(looking)} for app in stores}
        recovery = Recovery(
            apps, list(stores.values()), lambda app, _: stores[app], self.numbering, lambda: self.now_ms
        )
        self.successResultOf(recovery.run(self.clock, 5))
        self.assertEqual([("live", one), ("radio", other)], seen)
        self.assertEqual([0, 0, 1], [len(self.successResultOf(each.list(""))) for each in (one, other, volatile)])

    def test_discarded_objects_are_deleted(self) -> None:
        """Objects that a factory discards are deleted."""
        self.storage.put("live/one/old", b"", "", "")

        def discard(context: RecoveryContext) -> Deferred[None]:
            context.discard("live/one/old")
            return succeed(None)

        self.run_with(Finding(discard))
        self.assertEqual([], self.successResultOf(self.storage.list("")))

    def test_failure_of_one_factory(self) -> None:
        """A factory that fails, in whatever way, takes nothing from the others, and is logged."""

        def raising(_: RecoveryContext) -> Deferred[None]:
            raise ZeroDivisionError

        def resuming(context: RecoveryContext) -> Deferred[None]:
            context.resume(ONE, {})
            return succeed(None)

        recovery, done = self.run_with(
            Finding(raising), Finding(resuming), Finding(lambda _: fail(ZeroDivisionError()))
        )
        self.assertEqual([None], done)
        self.assertEqual([ONE], recovery.streams())
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_slow_storage_is_bounded(self) -> None:
        """The wait is bounded: what was found by then is continued, what comes later is not."""
        contexts: list[RecoveryContext] = []
        cancelled: list[object] = []

        def slow(context: RecoveryContext) -> Deferred[None]:
            contexts.append(context)
            context.resume(ONE, {})
            return Deferred(cancelled.append)

        recovery, done = self.run_with(Finding(slow))
        self.clock.advance(4.9)
        self.assertEqual([], done)
        with capturedLogs() as events:
            self.clock.advance(0.2)
        self.assertEqual([None], done)
        self.assertEqual([], cancelled, "what is left may be put in order meanwhile")
        self.assertEqual(["error"], [event["log_level"].name for event in events])
        self.assertTrue(contexts[0].is_over())
        contexts[0].resume(OTHER, {})
        self.assertEqual([ONE], recovery.streams())
        recovery.stop()
        self.assertEqual(1, len(cancelled))

    def test_afterwards_comes_one_by_one(self) -> None:
        """What takes long is done one after the other when the sinks are there; what fails stops nothing of it."""
        begun: list[str] = []
        waits: Deferred[None] = Deferred(lambda _: begun.append("cancelled"))

        async def quick() -> None:
            begun.append("quick")

        async def failing() -> None:
            raise ZeroDivisionError

        async def slow() -> None:
            begun.append("slow")
            await waits

        def found(context: RecoveryContext) -> Deferred[None]:
            for work in (failing, quick, slow, quick):
                context.afterwards(work)
            return succeed(None)

        recovery, done = self.run_with(Finding(found))
        self.assertEqual(([None], []), (done, begun))
        recovery.work_afterwards()
        self.assertEqual(["quick", "slow"], begun)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        recovery.stop()
        self.assertEqual(["quick", "slow", "cancelled"], begun)

    def test_stopped_recovery_leaves_no_timer(self) -> None:
        """A server that is stopped meanwhile looks no further, and leaves no timer."""
        recovery, done = self.run_with(Finding(lambda _: Deferred()))
        recovery.stop()
        self.assertEqual([None], done)
        self.assertEqual([], self.clock.getDelayedCalls())
        recovery.stop()

    def test_probes_of_dead_servers_go(self) -> None:
        """Probes of servers that are no more are removed; younger ones may belong to another server."""
        self.storage.put(".readiness/old", b"", "", "")
        self.now_ms += DEAD_PROBE_MS + 1
        self.storage.put(".readiness/young", b"", "", "")
        self.run_with()
        self.assertEqual([".readiness/young"], [info.key for info in self.successResultOf(self.storage.list(""))])

    def test_missing_listing_is_said(self) -> None:
        """A storage that cannot even list is said, and stops nothing."""
        self.patch(self.storage, "list", lambda _prefix: fail(OSError("gone")))
        with capturedLogs() as events:
            _, done = self.run_with()
        self.assertEqual([None], done)
        self.assertEqual(["warn"], [event["log_level"].name for event in events])
