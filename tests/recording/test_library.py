from __future__ import annotations

import os
import random
from fractions import Fraction
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rapidrtmp.archive.layout import RecordingId, StartNames
from rapidrtmp.archive.objects import read_object
from rapidrtmp.errors import NotFoundError
from rapidrtmp.interfaces import ILeasingStorage, StorageContext
from rapidrtmp.recording.catalogue import RecordingState
from rapidrtmp.recording.library import FEW, Library, RecordingKeptError
from rapidrtmp.recording.recovery import recover_all
from rapidrtmp.storage.filesystem import LocalStorageFactory
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.storage.write_behind import WriteBehind
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.sinks import RecordingWriter, feed, make_sink_context
from rapidrtmp.testing.storage import UnreliableStorage
from tests.recording.recordings import ID, record, store
from tests.recording.test_sink import make_recorder
from tests.slow import slow


class LibraryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def library(self, storage: MemoryStorage) -> Library:
        return Library(storage, self.clock)

    def finish(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def fail_with(self, coroutine: Any, error: type[Exception]) -> None:
        self.failureResultOf(Deferred.fromCoroutine(coroutine), error)


class LookingTests(LibraryCase):
    def test_show_reads_the_catalogue_alone(self) -> None:
        """A finished recording is described by the catalogue alone."""
        listed = self.finish(self.library(store(record())).show(ID))
        self.assertIs(RecordingState.FINISHED, listed.entry.state)
        self.assertEqual((14_000, 3, False), (listed.entry.duration_ms, listed.entry.segments, listed.protected))

    def test_growing_recording_is_read_again(self) -> None:
        """One that grows is described as far as it has come, and read again only after a while."""
        storage = store(record(4, finish=False))
        library = self.library(storage)
        entry = self.finish(library.show(ID)).entry
        self.assertEqual((RecordingState.RECORDING, 6_000), (entry.state, entry.duration_ms))
        for key, data in record(7, finish=False).objects.items():
            storage.put(key, data, "", "")
        self.assertEqual(6_000, self.finish(library.entry(ID)).duration_ms)
        self.clock.advance(2)
        self.assertEqual(12_000, self.finish(library.entry(ID)).duration_ms)

    def test_growing_recording_of_this_process(self) -> None:
        """Its duration and size are those of what was recorded, to a part, before a segment is over or stored."""
        storage = MemoryStorage()
        reactor = Clock()
        recorder = make_recorder(make_sink_context(storage=WriteBehind(storage, reactor)))
        source = FrameSource(make_video_track(), make_audio_track(), gop=60)
        recorder.tracks_changed(source.tracks)
        library = self.library(storage)
        before = 0
        for gops in (1, 2, 3, 4, 5):  # of two seconds; a segment has three of them
            feed(recorder, source.take(1))
            entry = self.finish(library.entry(ID))
            self.assertIs(RecordingState.RECORDING, entry.state)
            self.assertTrue(2_000 * gops - 2_000 <= entry.duration_ms <= 2_000 * gops, entry.duration_ms)
            self.assertEqual((0, 0), (entry.ended_ms, entry.gaps))
            self.assertGreater(entry.size, before)
            before = entry.size
        recorder.finish()
        reactor.pump([0] * 100)
        ended = self.finish(library.entry(ID))
        stored = sum(info.size for info in self.successResultOf(storage.list(f"{ID.folder}/")) if "part" in info.key)
        self.assertIs(RecordingState.FINISHED, ended.state)
        self.assertEqual(10_000, ended.duration_ms)
        self.assertEqual(ended.size, stored + len(self.finish(read_object(storage, f"{ID.folder}/init.mp4"))))

    def test_segments_count_when_they_can_be_read(self) -> None:
        """Of a recording that this process writes a segment counts once the journal that names it is stored."""
        storage = MemoryStorage()
        writer = RecordingWriter(holds=True)
        writer.storage = storage
        recorder = make_recorder(make_sink_context(storage=writer))
        source = FrameSource(make_video_track(), make_audio_track(), gop=60)
        recorder.tracks_changed(source.tracks)
        feed(recorder, source.take(5))
        library = self.library(storage)
        self.assertEqual(0, self.finish(library.entry(ID)).segments)
        writer.settle_all()
        self.assertEqual(1, self.finish(library.entry(ID)).segments)
        self.assertGreaterEqual(self.finish(library.entry(ID)).duration_ms, 8_000)

    def test_entries_are_read_once(self) -> None:
        """What a list says of recordings that are over is read once, and again only when its object has changed."""
        storage = store(record())
        library = self.library(storage)
        read: list[str] = []
        get = storage.get

        def counted(key: str, *arguments: int) -> Any:
            read.append(key)
            return get(key, *arguments)

        self.patch(storage, "get", counted)

        def listed() -> RecordingState:
            listing = self.finish(library.listing())
            state: RecordingState = self.finish(library.listed(listing, ID)).entry.state
            return state

        self.assertEqual([RecordingState.FINISHED] * 3, [listed() for _ in range(3)])
        self.assertEqual([ID.catalogue_key], read)
        entry = self.finish(read_object(storage, ID.catalogue_key))
        storage.put(ID.catalogue_key, entry.replace(b"finished", b"recovered"), "", "")
        self.assertEqual([RecordingState.RECOVERED] * 2, [listed() for _ in range(2)])

    def test_change_number_follows_changes(self) -> None:
        """The number of a list's change is another one when something has changed, and only then."""
        storage = store(record())
        library = self.library(storage)
        seen = [self.finish(library.listing()).change for _ in range(2)]
        self.finish(library.protect(ID, True))
        seen.append(self.finish(library.listing()).change)
        seen.append(self.finish(library.listing()).change)
        self.finish(library.protect(ID, False))
        self.finish(library.delete(ID))
        seen.append(self.finish(library.listing()).change)
        self.assertEqual([0, 0], [seen[1] - seen[0], seen[3] - seen[2]])
        self.assertEqual(3, len(set(seen)))

    @slow
    def test_many_that_grow(self) -> None:
        """Recordings that grow are asked for the pages that are not full yet, however many there are, once a second."""
        storage = MemoryStorage()
        library = self.library(storage)
        ids = []
        long = record(300, finish=False)
        for number in range(10):
            id = RecordingId(ID.app, f"s{number}", ID.start)
            ids.append(id)
            for key, data in long.objects.items():
                storage.put(key.replace(f"{ID.app}/{ID.key}/", f"{id.app}/{id.key}/"), data, "", "")
        before = [self.finish(library.entry(id)) for id in ids]
        self.assertEqual([before[0].duration_ms] * 10, [entry.duration_ms for entry in before])
        self.assertEqual(self.finish(library.journal(ids[0]))[0].duration_ms, before[0].duration_ms)
        self.assertEqual(self.finish(library.journal(ids[0]))[0].size, before[0].size)
        self.clock.advance(2)
        read: list[str] = []
        get = storage.get

        def counted(key: str, *arguments: int) -> Any:
            read.append(key.rpartition("/")[2])
            return get(key, *arguments)

        self.patch(storage, "get", counted)
        listing = self.finish(library.listing())
        for _ in range(3):
            for id in ids:
                self.finish(library.listed(listing, id))
        self.assertNotIn("journal_000000.jsonl", read)
        self.assertEqual(10, sum(name == "journal_000002.jsonl" for name in read), read)

    def test_complete_journal_is_read_once(self) -> None:
        """The journal comes with whether it is complete; of one that is, nothing is read twice."""
        storage = store(record())
        library = self.library(storage)
        journal, is_over = self.finish(library.journal(ID))
        self.assertEqual((3, True), (len(journal.segments), is_over))
        self.successResultOf(storage.delete(f"{ID.folder}/journal_000000.jsonl"))
        self.assertEqual((journal, True), self.finish(library.journal(ID)))

    def test_end_of_growth(self) -> None:
        """A journal that was read while it grew is read to its end once it is over."""
        storage = MemoryStorage()
        library = self.library(storage)
        for data in (record(4, finish=False), record(7)):
            for key, each in data.objects.items():
                storage.put(key, each, "", "")
            journal, is_over = self.finish(library.journal(ID))
            self.clock.advance(2)
        self.assertEqual((14_000, True), (journal.duration_ms, is_over))

    def test_many_pages_are_read_whole(self) -> None:
        """A growing journal of many pages is read whole, and then only its last page."""
        recorder = make_recorder(context := make_sink_context())
        source = FrameSource(make_video_track(), None, frame_rate=Fraction(5), gop=10)
        recorder.tracks_changed(source.tracks)
        feed(recorder, source.take(3 * 140))
        written: Any = context.storage
        storage = store(written)
        library = self.library(storage)
        journal, is_over = self.finish(library.journal(ID))
        self.assertEqual((139, False), (len(journal.segments), is_over))
        self.successResultOf(storage.delete(f"{ID.folder}/journal_000000.jsonl"))
        self.clock.advance(2)
        self.assertEqual(139, len(self.finish(library.journal(ID))[0].segments))

    def test_unknown_recordings_are_not_found(self) -> None:
        """What is not there, is being deleted or cannot be played is not found."""
        library = self.library(store(record()))
        other = ID._replace(key="other")
        for coroutine in (library.show(other), library.journal(other), library.entry(other)):
            self.fail_with(coroutine, NotFoundError)
        storage = store(record(), by_another=True)
        for key in ("init.mp4", "journal_000000.jsonl"):
            self.successResultOf(storage.delete(f"{ID.folder}/{key}"))
        data = b'{"state":"recording"}'
        self.successResultOf(storage.put(ID.catalogue_key, data, "", ""))
        self.fail_with(self.library(storage).entry(ID), NotFoundError)
        self.finish(recover_all(storage))
        self.assertIs(RecordingState.DAMAGED, self.finish(self.library(storage).entry(ID)).state)
        self.fail_with(self.library(storage).journal(ID), NotFoundError)


class StrangersTests(LibraryCase):
    """Requests for recordings that never were."""

    def test_cost_of_unknown_recordings(self) -> None:
        """They cost the storage a few look-ups a second, however many there are; what is there is found meanwhile."""
        storage = UnreliableStorage(store(record()), self.clock)
        library = Library(storage, self.clock, StartNames())
        self.assertTrue(self.finish(library.journal(ID))[1])
        for number in range(5_000):
            self.fail_with(library.journal(ID._replace(key=f"guess{number}")), NotFoundError)
            if number % 1_000 == 0:
                self.assertEqual(3, len(self.finish(library.journal(ID))[0].segments))
            self.clock.advance(0.001)
        asked = [key for _, key in storage.begun if "guess" in key]
        self.assertLess(len(asked), 60)

    def test_of_another_server(self) -> None:
        """What another server has recorded since is found, if strangers are not asking for everything just then."""
        library = Library(store(record()), self.clock, StartNames())
        self.assertTrue(self.finish(library.journal(ID))[1])


class ChangingTests(LibraryCase):
    def test_delete_leaves_nothing_behind(self) -> None:
        """Deleting leaves nothing, tells how much that was, and nothing remembers it."""
        storage = store(record())
        library = self.library(storage)
        self.finish(library.journal(ID))
        self.assertGreater(self.finish(library.delete(ID)), 100_000)
        self.assertEqual([], self.successResultOf(storage.list("")))
        self.fail_with(library.journal(ID), NotFoundError)
        self.fail_with(library.delete(ID), NotFoundError)

    def test_protected_recordings_stay_until_released(self) -> None:
        """A protected recording cannot be deleted until it is released."""
        library = self.library(store(record()))
        self.finish(library.protect(ID, True))
        self.assertTrue(self.finish(library.show(ID)).protected)
        self.assertEqual({ID: True}, self.finish(library.find()))
        self.fail_with(library.delete(ID), RecordingKeptError)
        self.finish(library.protect(ID, False))
        self.assertFalse(self.finish(library.show(ID)).protected)
        self.finish(library.delete(ID))

    def test_title_is_what_people_call_it(self) -> None:
        """A recording has the title that it was given last, in every list, until it is deleted."""
        storage = store(record())
        library = self.library(storage)
        self.assertEqual("", self.finish(library.show(ID)).title)
        for title in ("Opening night", "Première: “Ænima” / 2"):
            self.finish(library.rename(ID, title))
            self.assertEqual(title, self.finish(library.show(ID)).title)
            self.assertEqual({ID: title}, self.finish(library.listing()).titles)
            self.assertEqual({ID: title}, self.finish(self.library(storage).listing()).titles, "so do other processes")
            self.assertEqual(1, len([info for info in self.successResultOf(storage.list("")) if ".title." in info.key]))
        listing = self.finish(library.listing())
        self.assertEqual(title, self.finish(library.listed(listing, ID)).title)
        self.finish(library.rename(ID, ""))
        self.assertEqual("", self.finish(library.show(ID)).title)
        self.finish(library.rename(ID, "again"))
        self.finish(library.delete(ID))
        self.assertEqual([], self.successResultOf(storage.list("")))
        self.fail_with(library.rename(ID, "gone"), NotFoundError)

    def test_long_list_is_kept_briefly(self) -> None:
        """A long list is kept for seconds; what is deleted and protected here shows in it at once."""
        storage = store(record())
        for number in range(FEW + 1):
            id = RecordingId("live", "test", f"20250101T{number // 60:02d}{number % 60:02d}00Z")
            self.successResultOf(storage.put(id.catalogue_key, b"", "", ""))
        library = self.library(storage)
        listing = self.finish(library.listing())
        self.assertEqual((ID, FEW + 2), (listing.newest_first[0], len(listing.newest_first)))
        self.assertEqual(sorted(listing.newest_first, key=lambda id: id.start, reverse=True), listing.newest_first)
        other = RecordingId("live", "test", "20270101T000000Z")
        self.successResultOf(storage.put(other.catalogue_key, b"", "", ""))
        self.assertIs(listing, self.finish(library.listing()))
        self.finish(library.protect(ID, True))
        self.assertEqual({ID}, self.finish(library.listing()).protected)
        self.finish(library.protect(ID, False))
        self.finish(library.delete(ID))
        after = self.finish(library.listing())
        self.assertNotIn(ID, [*after.newest_first, *after.under("live/test/")])
        self.clock.advance(60)
        self.assertEqual(other, self.finish(library.listing()).newest_first[0])

    def test_journal_is_read_once_together(self) -> None:
        """However many ask for a recording at a time, its journal is read once."""
        storage = store(record())
        reading: list[Deferred[Any]] = []
        get = storage.get

        def slow_get(key: str, *place: Any) -> Deferred[Any]:
            reading.append(Deferred())
            return reading[-1].addCallback(lambda _: get(key, *place))

        self.patch(storage, "get", slow_get)
        library = self.library(storage)
        asked = [Deferred.fromCoroutine(library.journal(ID)) for _ in range(9)]
        for deferred in reading:  # which grows meanwhile
            deferred.callback(None)
        self.assertEqual(1, len({id(self.successResultOf(each)[0]) for each in asked}))
        self.assertEqual(3, len(reading), "the entry, a page, and that there is no other")

    def test_protecting_nothing_is_not_found(self) -> None:
        """What is not there cannot be protected."""
        self.fail_with(self.library(MemoryStorage()).protect(ID, True), NotFoundError)

    def test_growing_recording_can_be_protected(self) -> None:
        """A recording that grows cannot be deleted, but be protected."""
        library = self.library(store(record(4, finish=False)))
        self.fail_with(library.delete(ID), RecordingKeptError)
        self.finish(library.protect(ID, True))

    def test_foreign_objects_do_no_harm(self) -> None:
        """What lies in the catalogue and is no entry does no harm."""
        storage = store(record())
        for name in (
            "x.json",
            "live/x.json",
            "live/a/b/c.json",
            "live/test/now.json",
            "live/test/20260101T000000Z.txt",
        ):
            self.successResultOf(storage.put(f"recordings/.catalogue/{name}", b"", "", ""))
        self.assertEqual([RecordingId("live", "test", ID.start)], list(self.finish(self.library(storage).find())))


class OrderTests(LibraryCase):
    """Changes of one recording at the same time."""

    def setUp(self) -> None:
        super().setUp()
        self.storage = UnreliableStorage(store(record()), self.clock, latency=lambda: self.chance.uniform(0.0, 1.0))
        self.chance = random.Random(7)
        self.slow = Library(self.storage, self.clock)

    def start(self, coroutine: Any) -> Deferred[Any]:
        deferred = Deferred.fromCoroutine(coroutine)
        deferred.addErrback(lambda failure: failure.value)
        return deferred

    def is_there(self) -> bool:
        return bool(self.successResultOf(self.storage._storage.list(ID.catalogue_key)))

    def race(self, protecting: Any, deleting: Any) -> bool:
        """Let both happen; whether the recording was protected, and then is there."""
        protected, deleted = self.start(protecting), self.start(deleting)
        self.clock.pump([0.25] * 800)
        answers = self.successResultOf(protected), self.successResultOf(deleted)
        if answers[0] is None:
            self.assertIsInstance(answers[1], RecordingKeptError)
        else:
            self.assertIsInstance(answers[0], NotFoundError)
            self.assertGreater(answers[1], 0)
        self.assertEqual(answers[0] is None, self.is_there())
        return answers[0] is None

    def test_protection_asked_first_holds(self) -> None:
        """A recording whose protection was asked for first stays."""
        self.assertTrue(self.race(self.slow.protect(ID, True), self.slow.delete(ID)))

    def test_deletion_asked_first_holds(self) -> None:
        """One whose deletion was asked for first goes, and protecting it fails."""
        deleting = self.slow.delete(ID)
        deleted = self.start(deleting)
        protected = self.start(self.slow.protect(ID, True))
        self.clock.pump([0.25] * 800)
        self.assertIsInstance(self.successResultOf(protected), NotFoundError)
        self.assertGreater(self.successResultOf(deleted), 0)
        self.assertEqual([], self.successResultOf(self.storage._storage.list("recordings/")))

    def test_interrupted_deletion_is_not_protected(self) -> None:
        """What was begun to be deleted is protected no more, as it will go with the next start."""
        data = self.successResultOf(Deferred.fromCoroutine(read_object(self.storage._storage, ID.catalogue_key)))
        self.storage._storage.put(ID.catalogue_key, data.replace(b'"finished"', b'"deleting"'), "", "")
        self.fail_with(self.library(self.storage._storage).protect(ID, True), NotFoundError)

    def test_deletion_survives_its_client(self) -> None:
        """A deletion continues to its end when its client leaves, and what comes behind it waits for that."""
        deleted = Deferred.fromCoroutine(self.slow.delete(ID))
        deleted.addErrback(lambda _: None)
        self.clock.pump([0.25] * 4)
        deleted.cancel()
        protected = self.start(self.slow.protect(ID, True))
        self.clock.pump([0.25] * 800)
        self.assertIsInstance(self.successResultOf(protected), NotFoundError)
        self.assertEqual([], self.successResultOf(self.storage._storage.list("recordings/")))

    @slow
    def test_protection_holds_between_processes(self) -> None:
        """Two servers on one folder, whatever the timing: what one shows as protected, the other does not delete."""
        for number in range(30):
            root = os.path.abspath(self.mktemp())
            libraries = []
            for process in ("one", "other"):
                local = LocalStorageFactory(root).create(StorageContext(maybeDeferred, self.clock, Logger(), process))
                self.addCleanup(local.close)
                libraries.append(Library(Slow(local, self.clock, lambda: self.chance.uniform(0, 1)), self.clock))
            self.storage = UnreliableStorage(local, self.clock)
            for key, data in record().objects.items():
                self.successResultOf(local.put(key, data, "", ""))
            protected = self.start(libraries[number % 2].protect(ID, True))
            self.clock.advance(self.chance.uniform(0, 3) * (number % 3))
            deleted = self.start(libraries[1 - number % 2].delete(ID))
            self.clock.pump([0.25] * 1_000)
            answers = self.successResultOf(protected), self.successResultOf(deleted)
            self.assertEqual(answers[0] is None, self.is_there(), answers)


@implementer(ILeasingStorage)
class Slow(UnreliableStorage):
    """A slow storage with leases."""

    def claim(self, name: str) -> Deferred[Any]:
        return self._storage.claim(name)

    def release(self, lease: Any) -> Deferred[None]:
        return self._storage.release(lease)
