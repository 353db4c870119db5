from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rapidrtmp.archive.layout import RecordingId, StartNames
from rapidrtmp.errors import StorageError
from rapidrtmp.interfaces import IStorageSpace, RetentionRules
from rapidrtmp.names import StreamName
from rapidrtmp.recording.catalogue import WRITER, Entry, RecordingState
from rapidrtmp.recording.contribution import RecorderRules
from rapidrtmp.recording.library import Library
from rapidrtmp.recording.retention import Deletions, Retention
from rapidrtmp.recording.service import SWEEP_S, RecordingsService
from rapidrtmp.recording.sink import RecorderFactory
from rapidrtmp.storage.memory import MemoryStorage
from tests.applications import FakeApplication
from tests.recording.recordings import START_MS, record, store

DAY_MS = 86_400_000
#: What a recording of these tests takes of the storage.
SIZE = 1_000


@implementer(IStorageSpace)
class SmallStorage(MemoryStorage):
    """A storage that has room for so many bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def free_bytes(self) -> Deferred[int]:
        used = sum(info.size for info in self.successful_list())
        return succeed(self.room - used)

    def successful_list(self) -> list[Any]:
        found: list[Any] = []
        self.list("recordings/live").addCallback(found.extend)
        self.list("recordings/tv").addCallback(found.extend)
        return found


class CountedDeletions(Deletions):
    """Remembers what was counted."""

    def __init__(self) -> None:
        self.deleted: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def count(self, limit: str, size: int) -> None:
        self.deleted[limit] += 1
        self.bytes[limit] += size


class RetentionCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.now_ms = START_MS + 10 * DAY_MS
        self.storage = SmallStorage(20 * SIZE)
        self.deletions = CountedDeletions()

    def add(self, day: int, app: str = "live", *, state: str = "finished", protected: bool = False) -> RecordingId:
        """A recording of one day."""
        id = RecordingId(app, "k", f"202601{day + 1:02d}T000000Z")
        ended_ms = START_MS + day * DAY_MS + 3_600_000
        entry = Entry(id, RecordingState(state), WRITER, START_MS + day * DAY_MS, ended_ms, 3_600_000, SIZE, 600)
        self.storage.put(id.catalogue_key, entry.render(), "", "")
        self.storage.put(f"{id.folder}/part_00000000_000.m4s", bytes(SIZE), "", "")
        if protected:
            self.storage.put(id.protection_key, b"", "", "")
        return id

    def retention(self, **rules: RetentionRules) -> Retention:
        library = Library(self.storage, self.clock)
        return Retention(library, rules, lambda: self.now_ms, self.deletions)

    def sweep(self, **rules: RetentionRules) -> list[str]:
        """The days of what is left, and of which application."""
        self.successResultOf(Deferred.fromCoroutine(self.retention(**rules).sweep()))
        return self.left()

    def left(self) -> list[str]:
        found = self.successResultOf(Deferred.fromCoroutine(Library(self.storage, self.clock).find()))
        return [f"{id.app} {int(id.start[6:8]) - 1}" for id in found]


class RetentionTests(RetentionCase):
    # ── the limits

    def test_age_deletes_old_recordings(self) -> None:
        """What ended longer ago than it may is deleted, all of it, and counted."""
        for day in (0, 2, 3, 9):
            self.add(day)
        self.assertEqual(["live 3", "live 9"], self.sweep(live=RetentionRules(age_ms=7 * DAY_MS)))
        self.assertEqual((2, 2 * SIZE), (self.deletions.deleted["retain"], self.deletions.bytes["retain"]))
        self.assertEqual(2, len(self.storage.successful_list()))

    def test_size_deletes_the_oldest(self) -> None:
        """While there is too much, the oldest goes; each application counts for itself."""
        for day in range(5):
            self.add(day)
        self.add(0, "tv")
        rules = RetentionRules(max_bytes=3 * SIZE + 1)
        self.assertEqual(["live 2", "live 3", "live 4", "tv 0"], self.sweep(live=rules, tv=rules))

    def test_room_deletes_the_oldest(self) -> None:
        """While there is too little room, the oldest goes, whatever the application."""
        for day in range(8):
            self.add(day, "tv" if day % 2 else "live")
        self.storage.room = 10 * SIZE
        rules = RetentionRules(min_free_bytes=5 * SIZE)
        self.assertEqual(["live 4", "live 6", "tv 3", "tv 5", "tv 7"], self.sweep(live=rules, tv=rules))

    def test_no_limits_keep_everything(self) -> None:
        """An application without limits keeps everything, also for the sake of another."""
        for day in range(8):
            self.add(day)
        self.add(8, "tv")
        self.storage.room = 9 * SIZE
        self.assertEqual(8, len(self.sweep(tv=RetentionRules(min_free_bytes=SIZE * 5))))
        self.assertFalse(self.retention(live=RetentionRules()).has_limits)

    def test_strictest_of_limits_counts(self) -> None:
        """Of several recorders of an application, every limit counts."""
        self.assertEqual(
            RetentionRules(5, 7, 9),
            RetentionRules.strictest([RetentionRules(5, 0, 2), RetentionRules(6, 7, 9), RetentionRules()]),
        )

    # ── what stays

    def test_growing_recording_never_goes(self) -> None:
        """A recording that grows never goes, however old or large it is."""
        self.storage = SmallStorage(0)
        for key, data in record(4, finish=False).objects.items():
            self.storage.put(key, data, "", "")
        self.now_ms = START_MS + 1000 * DAY_MS
        self.assertEqual(["live 0"], self.sweep(live=RetentionRules(1, 1, 1)))

    def test_protected_recording_never_goes(self) -> None:
        """A protected recording never goes, but counts; that a limit cannot be kept is said once."""
        self.add(0, protected=True)
        self.add(1, protected=True)
        self.add(2)
        retention = self.retention(live=RetentionRules(age_ms=DAY_MS, max_bytes=SIZE))
        with capturedLogs() as logs:
            for _ in range(3):
                self.successResultOf(Deferred.fromCoroutine(retention.sweep()))
        self.assertEqual(["live 0", "live 1"], self.left())
        self.assertEqual(1, sum("cannot be kept" in event["log_format"] for event in logs))

    def test_damaged_recording_ages_from_beginning(self) -> None:
        """What was never finished properly ages from its beginning."""
        self.add(1, state="damaged")
        self.add(9, state="recovered")
        self.assertEqual(["live 9"], self.sweep(live=RetentionRules(age_ms=2 * DAY_MS)))

    # ── failures

    def test_storage_failure_is_retried_later(self) -> None:
        """What cannot be deleted now is left for the next time, and the others go."""
        first, _ = self.add(0), self.add(1)
        delete = self.storage.delete
        self.patch(
            self.storage,
            "delete",
            lambda key: fail(StorageError("no")) if key.startswith(first.folder) else delete(key),
        )
        with capturedLogs() as logs:
            self.assertEqual(["live 0"], self.sweep(live=RetentionRules(age_ms=DAY_MS)))
        self.assertTrue(any("cannot be deleted now" in event["log_format"] for event in logs))
        self.patch(self.storage, "delete", delete)
        self.assertEqual([], self.sweep(live=RetentionRules(age_ms=DAY_MS)))

    def test_unknown_room_is_said_once(self) -> None:
        """Where a storage cannot tell its room, that is said at the start, and nothing is deleted for it."""
        storage = store(record())
        with capturedLogs() as logs:
            library = Library(storage, self.clock)
            retention = Retention(library, {"live": RetentionRules(min_free_bytes=1 << 60)}, lambda: 0, self.deletions)
        self.assertIn("min-free has no effect", logs[0]["log_format"])
        self.successResultOf(Deferred.fromCoroutine(retention.sweep()))
        self.assertEqual(1, len(self.successResultOf(Deferred.fromCoroutine(library.find()))))


class RecorderRulesTests(SynchronousTestCase):
    def test_new_settings_count_at_once(self) -> None:
        """Where an application has another recorder, its limits are those of that one, at once."""
        app = FakeApplication(sinks={"record": RecorderFactory(retain="1d")})
        apps = {"live": app, "tv": FakeApplication("tv")}
        rules = RecorderRules(apps, app.stored)
        self.assertEqual({"live": RetentionRules(age_ms=DAY_MS)}, dict(rules))
        app.sinks = {"record": RecorderFactory(retain="2d"), "hls": object()}
        self.assertEqual({"live": RetentionRules(age_ms=2 * DAY_MS)}, dict(rules))
        app.sinks = {}
        self.assertEqual({"live": RetentionRules()}, dict(rules))
        apps["radio"] = FakeApplication("radio", sinks={"record": RecorderFactory(retain="3d")}, stored=app.stored)
        self.assertEqual({"live": RetentionRules(), "radio": RetentionRules(age_ms=3 * DAY_MS)}, dict(rules))


class ServiceTests(RetentionCase):
    def service(self, **rules: RetentionRules) -> RecordingsService:
        library = Library(self.storage, self.clock)
        retention = Retention(library, rules, lambda: self.now_ms, self.deletions)
        self.names = StartNames()
        return RecordingsService(library, retention, self.clock, self.names)

    def test_names_are_never_used_twice(self) -> None:
        """A server that is started in the second in which another began a recording does not write over that."""
        self.add(0)
        (id,) = self.successResultOf(Deferred.fromCoroutine(Library(self.storage, self.clock).find()))
        service = self.service()
        service.startService()
        self.assertNotEqual(id, self.names.take(StreamName(id.app, id.key), id.start_ms))
        service.stopService()

    def test_recovers_and_sweeps(self) -> None:
        """It recovers what a dead server left, sweeps at once, and then from time to time until it is stopped."""
        for key, data in record(7, finish=False).objects.items():
            self.storage.put(key, data.replace(WRITER.encode(), b"0" * 16), "", "")
        service = self.service(live=RetentionRules(age_ms=30 * DAY_MS))
        service.startService()
        self.assertEqual(["live 0"], self.left())
        self.now_ms += 30 * DAY_MS
        self.clock.advance(SWEEP_S)
        self.assertEqual([], self.left())
        self.add(1)
        self.clock.advance(SWEEP_S)
        self.assertEqual([], self.left())
        service.stopService()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_without_limits_nothing_is_read(self) -> None:
        """Where nothing is limited nothing is looked at, until new settings set a limit."""
        self.add(0)
        rules = {"live": RetentionRules()}
        listed: list[str] = []
        service = self.service(**rules)
        service._retention._rules = rules
        service.startService()
        listing = self.storage.list
        self.patch(self.storage, "list", lambda prefix: listed.append(prefix) or listing(prefix))
        self.clock.advance(SWEEP_S)
        self.assertEqual([], listed)
        rules["live"] = RetentionRules(age_ms=DAY_MS)
        self.clock.advance(SWEEP_S)
        self.assertEqual(1, self.deletions.deleted["retain"])
        service.stopService()

    def test_failing_storage_is_asked_again(self) -> None:
        """A storage that fails is reported, and asked again."""
        self.add(0)
        listing = self.storage.list
        self.patch(self.storage, "list", lambda prefix: fail(StorageError("no")))
        service = self.service(live=RetentionRules(age_ms=DAY_MS))
        with capturedLogs() as logs:
            service.startService()
        self.assertEqual(2, sum("no" in str(event.get("error")) for event in logs))
        self.patch(self.storage, "list", listing)
        self.clock.advance(SWEEP_S)
        self.assertEqual([], self.left())
        service.stopService()

    def test_stopped_in_the_middle(self) -> None:
        """Stopping waits for nothing."""
        waiting: list[Deferred[Any]] = []

        def never(_prefix: str) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        self.patch(self.storage, "list", never)
        service = self.service(live=RetentionRules(age_ms=DAY_MS))
        service.startService()
        service.stopService()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual(1, len(waiting))
