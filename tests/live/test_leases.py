"""Tests of who may write a stream, over all storages of its application."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import LeaseHeldError
from rapidrtmp.interfaces import AppLimits, Lease, RecoveryContext
from rapidrtmp.live.leases import StreamLeases
from rapidrtmp.live.numbering import Numbering
from rapidrtmp.live.recovery import Recovery
from rapidrtmp.live.registry import NameTakenError, Registry
from rapidrtmp.live.stream import StreamState
from rapidrtmp.names import StreamName
from rapidrtmp.storage.store import Store
from rapidrtmp.storage.write_behind import WriteBehind
from tests.applications import FakeApplication
from tests.live.test_recovery import Finding
from tests.live.test_registry import VIDEO, FakePublisher
from tests.storage.test_leases import ScriptedStorage

NAME = StreamName("live", "cam")
HELD = LeaseHeldError("process 7 on elsewhere writes live/cam into this storage")


class LeaseCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.storages = ScriptedStorage(), ScriptedStorage()
        names = ("storage", "recordings")
        self.stores = [
            Store(name, storage, WriteBehind(storage, self.clock))
            for name, storage in zip(names, self.storages, strict=True)
        ]
        self.leases = StreamLeases(lambda app: self.stores if app == "live" else (), self.stores)
        for store in self.stores:
            store.leases.start()
            self.addCleanup(store.leases.stop)

    def held(self) -> list[int]:
        """How many leases there are in each storage."""
        return [len(store.leases) for store in self.stores]


class StreamLeasesTests(LeaseCase):
    def test_uses_hold_until_the_last(self) -> None:
        """Leases are held in every storage until the last who needs them is done."""
        self.successResultOf(self.leases.claim(NAME))
        self.leases.hold(NAME)
        self.leases.release(NAME)
        self.assertEqual([1, 1], self.held())
        self.leases.release(NAME)
        self.assertEqual([0, 0], self.held())
        self.assertEqual([1, 1], [storage.claims for storage in self.storages])

    def test_held_in_one_storage(self) -> None:
        """Where one storage refuses, what the others gave is given back."""
        self.storages[1].answer = HELD
        self.failureResultOf(self.leases.claim(NAME), LeaseHeldError)
        self.assertEqual([0, 0], self.held())

    def test_given_up_claim_is_released(self) -> None:
        """A publisher that leaves while a storage is asked needs nothing any more."""
        silent = self.storages[0].silent = []
        claim = self.leases.claim(NAME)
        claim.addErrback(lambda _: None)
        claim.cancel()
        silent[0].callback(Lease(str(NAME), "me", 1))
        self.assertEqual([0, 0], self.held())

    def test_other_applications_need_no_leases(self) -> None:
        """An application that stores nothing needs no leases."""
        self.successResultOf(self.leases.claim(StreamName("other", "cam")))
        self.assertEqual(0, self.storages[0].claims)

    def test_written_first_then_released(self) -> None:
        """A lease is given back when all that its stream has left behind is written, and not if it has come back."""
        self.successResultOf(self.leases.claim(NAME))
        writer = self.stores[0].writer
        writer.pause(True)
        writer.lane(f"{NAME}/hls").put("a", [b"x"], "").addErrback(lambda _: None)
        self.leases.release(NAME)
        self.assertEqual([1, 0], self.held())
        self.leases.hold(NAME)
        writer.pause(False)
        self.assertEqual([1, 1], self.held())


class RegistryLeasesTests(LeaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.registry = Registry(
            self.clock,
            {"live": FakeApplication(limits=AppLimits(grace_ms=6_000))},
            lambda stream: 2_000,
            leases=self.leases,
        )

    def test_life_of_a_streams_leases(self) -> None:
        """A stream holds its leases from its first publisher until it has ended, also while it waits for another."""
        publisher = FakePublisher()
        stream = self.registry.claim(NAME, publisher)
        stream.tracks_changed((VIDEO,))
        self.registry.release(stream, publisher)
        self.clock.pump([1.0] * 5)
        self.assertEqual([1, 1], self.held())
        self.clock.pump([1.0] * 2)
        self.assertIs(StreamState.ENDED, stream.state)
        self.assertEqual([0, 0], self.held())

    def test_lost_lease_ends_the_stream(self) -> None:
        """A stream whose lease is lost ends: its publisher gets the reason, once, and no lease is left."""
        publisher = FakePublisher()
        stream = self.registry.claim(NAME, publisher)
        for storage in self.storages:
            storage.lost = [Lease(str(NAME), "me", 1)]
        with capturedLogs():
            self.clock.pump([1.0] * 7)
        self.assertIs(StreamState.ENDED, stream.state)
        self.assertEqual(["another server publishes this stream now"], publisher.reasons)
        self.assertEqual([0, 0], self.held())

    def test_lease_of_another_process_refuses(self) -> None:
        """A stream that begins although another process has its lease ends at once, and its publisher is refused."""
        self.storages[0].answer = HELD
        with capturedLogs():
            self.assertRaises(NameTakenError, self.registry.claim, NAME, FakePublisher())
        stream = self.registry.find(NAME)
        assert stream is not None
        self.assertIs(StreamState.ENDED, stream.state)
        self.assertEqual([0, 0], self.held())


class RecoveryLeasesTests(LeaseCase):
    def recover(self, look: Any) -> list[bool]:
        """Recover by a factory that claims the stream."""
        claimed: list[bool] = []

        async def looked(context: RecoveryContext) -> None:
            claimed.append(await context.claim(NAME))
            claimed.append(await context.claim(NAME))
            look()

        store = self.stores[0]
        factory = Finding(lambda context: Deferred.fromCoroutine(looked(context)))
        self.recovery = Recovery(
            {"live": {"hls": factory}},
            self.stores,
            lambda _app, _factory: store,
            Numbering(lambda: 0),
            lambda: 0,
            self.leases,
        )
        self.successResultOf(self.recovery.run(self.clock, 5))
        return claimed

    def test_recovered_streams_are_held(self) -> None:
        """What is recovered is held meanwhile, and given back when that is done and no publisher continues it."""
        seen: list[list[int]] = []
        self.assertEqual([True, True], self.recover(lambda: seen.append(self.held())))
        self.assertEqual([[1, 1]], seen)
        self.assertEqual([0, 0], self.held())

    def test_of_another_process(self) -> None:
        """What another process writes is not ours to recover, which is said once."""
        self.storages[0].answer = HELD
        with capturedLogs() as logs:
            self.assertEqual([False, False], self.recover(lambda: None))
        self.assertEqual(["{stream} is not resumed: {error}"], [log["log_format"] for log in logs])
