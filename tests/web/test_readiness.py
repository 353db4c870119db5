from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import StorageError
from rapidrtmp.interfaces import IStorage, ObjectInfo
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.web.readiness import Check, Readiness


class FaultyStorage:
    """Answers as a test wants."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.error: Exception | None = None
        self.stalled = False
        self.size_told: int | None = None
        self.calls = 0

    def _answer(self, value: object) -> Deferred[object]:
        self.calls += 1
        if self.stalled:
            return Deferred()
        return fail(self.error) if self.error is not None else succeed(value)

    def put(self, key: str, data: bytes, content_type: str, cache_control: str) -> Deferred[object]:
        self.objects[key] = data
        return self._answer(None)

    def stat(self, key: str) -> Deferred[object]:
        size = len(self.objects[key]) if self.size_told is None else self.size_told
        return self._answer(ObjectInfo(key, size, 0, "text/plain"))

    def delete(self, key: str) -> Deferred[object]:
        self.objects.pop(key, None)
        return self._answer(None)


class ReadinessTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.readiness = Readiness(self.clock)

    def check(self, name: str) -> Check:
        return next(check for check in self.readiness.checks() if check.name == name)


class ToldTests(ReadinessTestCase):
    def test_ready_from_listening_to_stopping(self) -> None:
        """A server is ready from when it listens until it is asked to stop."""
        self.assertFalse(self.readiness.is_ready)
        self.readiness.listening()
        self.assertTrue(self.readiness.is_ready)
        self.readiness.drain()
        self.assertFalse(self.readiness.is_ready)
        self.assertEqual(Check("draining", False, "shutting down"), self.check("draining"))

    def test_own_checks_can_be_added(self) -> None:
        """A part that knows more can add a check, and change its mind."""
        self.readiness.listening()
        self.readiness.set("disk", False, "3 MB are free")
        self.assertFalse(self.readiness.is_ready)
        self.readiness.set("disk", True, "3 GB are free")
        self.assertTrue(self.readiness.is_ready)
        self.assertEqual(4, len(self.readiness.checks()))


class LagTests(ReadinessTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.readiness.listening()
        self.readiness.start({})

    def turns(self, *seconds: float) -> None:
        for each in seconds:
            self.clock.advance(each)

    def test_punctual_reactor_is_fit(self) -> None:
        """A reactor that runs its timers on time is fit."""
        self.turns(1, 1, 1, 1)
        self.assertEqual(0, self.readiness.lag_ms)
        self.assertTrue(self.check("reactor").ok)

    def test_one_pause_is_forgiven(self) -> None:
        """One long pause is no reason to send clients elsewhere."""
        self.turns(1, 5, 1, 1)
        self.assertTrue(self.readiness.is_ready)
        self.turns(5, 5, 1.2)
        self.assertTrue(self.readiness.is_ready)
        self.assertEqual(200, self.readiness.lag_ms)

    def test_sustained_lag_is_unfit(self) -> None:
        """A reactor that is late again and again is not ready, and is again when it has caught up."""
        self.turns(1.75, 1.6, 1.9)
        self.assertFalse(self.readiness.is_ready)
        self.assertEqual("timers run 600 ms late or more, limit 500 ms", self.check("reactor").reason)
        self.turns(1)
        self.assertTrue(self.readiness.is_ready)

    def test_stop_leaves_nothing_running(self) -> None:
        """Once stopped, nothing is left to run."""
        self.readiness.stop()
        self.assertEqual([], self.clock.getDelayedCalls())


class StorageTests(ReadinessTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.readiness.listening()
        self.storage = FaultyStorage()

    def start(self) -> None:
        self.readiness.start({"storage": self.storage})  # type: ignore[dict-item]

    def wait(self) -> None:
        """Let the time of one probe pass, with a reactor that is never late."""
        self.clock.pump([1] * 15)

    def test_working_storage_is_fit(self) -> None:
        """A storage that takes, knows and deletes an object is fit, and nothing stays behind in it."""
        self.start()
        self.assertTrue(self.readiness.is_ready)
        self.assertEqual({}, self.storage.objects)
        self.wait()
        self.assertEqual(6, self.storage.calls)

    def test_real_storage_takes_the_probe(self) -> None:
        """The probe's key and object are good for a real storage."""
        storage: IStorage = MemoryStorage()
        self.readiness.start({"storage": storage})
        self.assertEqual("takes, knows and deletes objects", self.check("storage").reason)
        self.assertEqual([], self.successResultOf(storage.list("")))

    def test_broken_from_the_start(self) -> None:
        """A storage that fails its first probe is not fit, and why is for the log alone."""
        self.storage.error = StorageError("/srv/secret is not writable")
        self.start()
        self.assertEqual(Check("storage", False, "fails"), self.check("storage"))

    def test_not_tried_yet(self) -> None:
        """Until the first probe has come back, the storage is not known to be fit."""
        self.storage.stalled = True
        self.start()
        self.assertEqual(Check("storage", False, "not tried yet"), self.check("storage"))
        self.clock.advance(10.1)
        self.assertEqual(Check("storage", False, "does not answer within 10 s"), self.check("storage"))

    def test_one_failure_changes_nothing(self) -> None:
        """One failed probe among good ones changes nothing; two in a row do, and one good one mends it."""
        self.start()
        self.storage.error = StorageError("503")
        self.wait()
        self.assertTrue(self.readiness.is_ready)
        self.wait()
        self.assertFalse(self.readiness.is_ready)
        self.storage.error = None
        self.wait()
        self.assertTrue(self.readiness.is_ready)

    def test_wrong_size_is_unfit(self) -> None:
        """A storage that knows another object than was put is not fit."""
        self.storage.size_told = 0
        self.start()
        self.assertFalse(self.check("storage").ok)

    def test_foreign_exception_is_survived(self) -> None:
        """Whatever a storage plugin raises, the probe continues."""
        self.storage.error = KeyError("bug")
        self.start()
        self.assertFalse(self.check("storage").ok)
        self.storage.error = None
        self.wait()
        self.assertTrue(self.check("storage").ok)

    def test_stop_gives_the_probe_up(self) -> None:
        """A probe under way is given up when the server stops."""
        self.storage.stalled = True
        self.start()
        self.readiness.stop()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_several_storages_have_their_checks(self) -> None:
        """Each storage has a check of its own, and a probe of its own, for two may be one and the same place."""
        other = FaultyStorage()
        self.storage.stalled = other.stalled = True
        self.readiness.start({"storage": self.storage, "recordings": other})  # type: ignore[dict-item]
        self.assertFalse(set(self.storage.objects) & set(other.objects))
        self.readiness.stop()
        self.storage.stalled = other.stalled = False
        other.error = StorageError("503")
        self.readiness.start({"storage": self.storage, "recordings": other})  # type: ignore[dict-item]
        self.assertTrue(self.check("storage").ok)
        self.assertEqual(Check("recordings", False, "fails"), self.check("recordings"))

    def test_each_server_has_its_own_key(self) -> None:
        """Two servers that share a storage do not disturb each other's probes."""
        self.assertNotEqual(Readiness(self.clock)._probe_key, Readiness(self.clock)._probe_key)
