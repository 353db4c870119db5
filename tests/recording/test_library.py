from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.errors import NotFoundError
from rapidrtmp.recording.catalogue import RecordingState
from rapidrtmp.recording.library import Library, RecordingKeptError
from rapidrtmp.recording.recovery import recover_all
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.testing.frames import FrameSource, make_video_track
from rapidrtmp.testing.sinks import feed, make_sink_context
from tests.recording.recordings import ID, record, store
from tests.recording.test_sink import make_recorder


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
    def test_show(self) -> None:
        """A finished recording is described by the catalogue alone."""
        listed = self.finish(self.library(store(record())).show(ID))
        self.assertIs(RecordingState.FINISHED, listed.entry.state)
        self.assertEqual((14_000, 3, False), (listed.entry.duration_ms, listed.entry.segments, listed.protected))

    def test_growing(self) -> None:
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

    def test_journal(self) -> None:
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

    def test_many_pages(self) -> None:
        """A growing journal of many pages is read whole, and then only its last page."""
        recorder = make_recorder(context := make_sink_context())
        source = FrameSource(make_video_track(), None, gop=60)
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

    def test_unknown(self) -> None:
        """What is not there, is being deleted or can not be played is not found."""
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


class ChangingTests(LibraryCase):
    def test_delete(self) -> None:
        """Deleting leaves nothing, tells how much that was, and is remembered by nobody."""
        storage = store(record())
        library = self.library(storage)
        self.finish(library.journal(ID))
        self.assertGreater(self.finish(library.delete(ID)), 100_000)
        self.assertEqual([], self.successResultOf(storage.list("")))
        self.fail_with(library.journal(ID), NotFoundError)
        self.fail_with(library.delete(ID), NotFoundError)

    def test_protected(self) -> None:
        """A protected recording can not be deleted until it is released."""
        library = self.library(store(record()))
        self.finish(library.protect(ID, True))
        self.assertTrue(self.finish(library.show(ID)).protected)
        self.assertEqual({ID: True}, self.finish(library.find()))
        self.fail_with(library.delete(ID), RecordingKeptError)
        self.finish(library.protect(ID, False))
        self.assertFalse(self.finish(library.show(ID)).protected)
        self.finish(library.delete(ID))

    def test_protecting_nothing(self) -> None:
        """What is not there can not be protected."""
        self.fail_with(self.library(MemoryStorage()).protect(ID, True), NotFoundError)

    def test_growing(self) -> None:
        """A recording that grows can not be deleted, but be protected."""
        library = self.library(store(record(4, finish=False)))
        self.fail_with(library.delete(ID), RecordingKeptError)
        self.finish(library.protect(ID, True))

    def test_foreign_objects(self) -> None:
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
