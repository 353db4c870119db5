"""Tests of the local storage on disks that fill up, turn read-only or are taken away, and of what power cuts take."""

from __future__ import annotations

import os
import subprocess
from typing import Any
from unittest import SkipTest
from unittest.mock import patch

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.archive.playlist import render_recording
from rapidrtmp.errors import ConfigurationError, StorageError
from rapidrtmp.interfaces import StorageContext
from rapidrtmp.recording.catalogue import RecordingState
from rapidrtmp.recording.library import Library
from rapidrtmp.storage.filesystem import LocalStorage, LocalStorageFactory
from rapidrtmp.storage.probe import PROBE_INTERVAL_S
from rapidrtmp.storage.write_behind import WriteBehind
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.sinks import feed, make_sink_context
from rapidrtmp.web.readiness import Readiness
from tests.recording.test_sink import make_recorder
from tests.slow import slow


def make_storage(directory: str, **settings: str) -> LocalStorage:
    return LocalStorageFactory(directory, **settings).create(StorageContext(maybeDeferred, Clock(), Logger()))


class FlushTests(SynchronousTestCase):
    """What writes wait for."""

    def told(self, **settings: str) -> list[str]:
        """What happens in which order when an object is put into a folder that is not there yet."""
        storage = make_storage(self.mktemp(), **settings)
        happened: list[str] = []
        rename = os.rename

        def fsync(descriptor: int) -> None:
            happened.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")

        def renamed(*args: Any, **kwargs: Any) -> None:
            happened.append("named")
            rename(*args, **kwargs)

        with patch("os.fsync", fsync), patch("os.rename", renamed):
            self.successResultOf(storage.put("folder/a", b"x", "", ""))
        return happened

    def test_never_waits_for_the_disk(self) -> None:
        """By default no write waits for the disk."""
        self.assertEqual(["named"], self.told())

    def test_file_is_flushed_before_its_name(self) -> None:
        """With fsync=file the bytes are on the disk before the file gets its name."""
        self.assertEqual(["file", "named"], self.told(fsync="file"))

    def test_folder_is_flushed_as_well(self) -> None:
        """With fsync=folder the name of the file is on the disk as well, and those of new folders."""
        self.assertEqual(["folder", "file", "named", "folder"], self.told(fsync="folder"))

    def test_unknown_word_stops_the_start(self) -> None:
        """Another word stops the start."""
        self.assertRaises(ConfigurationError, LocalStorageFactory, "data", fsync="always")

    def test_failing_flush_fails_the_put(self) -> None:
        """A disk that fails to flush fails the put, which can be repeated, and leaves no file without a name."""
        directory = self.mktemp()
        storage = make_storage(directory, fsync="file")
        with patch("os.fsync", side_effect=OSError(5, "Input/output error")):
            error = self.failureResultOf(storage.put("a", b"x", "", ""), StorageError).value
        self.assertTrue(error.retryable)
        self.assertEqual([], os.listdir(directory))


class SmallDisk(SynchronousTestCase):
    """A file system in memory, of four MiB."""

    def setUp(self) -> None:
        self.mounted = False
        self.disk = os.path.abspath(self.mktemp())
        os.makedirs(self.disk)
        self.mount()
        self.addCleanup(self.unmount)
        self.storage = make_storage(f"{self.disk}/streams")

    def mount(self) -> None:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", self.disk], capture_output=True)
        if done.returncode:
            raise SkipTest(f"cannot mount a file system: {done.stderr.decode().strip()}")
        self.mounted = True

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", self.disk], check=True)
            self.mounted = False

    def remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", self.disk], check=True)

    def fill(self) -> None:
        with open(f"{self.disk}/ballast", "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass

    def put(self) -> Deferred[None]:
        return self.storage.put("a/b", b"x" * 100, "", "")


class DiskTests(SmallDisk):
    """What the storage says of its disk."""

    def assert_recovers(self, told: str) -> None:
        error = self.failureResultOf(self.put(), StorageError).value
        self.assertIn(told, str(error))
        self.assertTrue(error.retryable)

    def test_full_disk_fails_the_put(self) -> None:
        """On a full disk a put fails, leaves nothing, and succeeds once there is room."""
        self.fill()
        self.assert_recovers("No space left on device")
        self.assertEqual([], self.successResultOf(self.storage.list("")))
        os.unlink(f"{self.disk}/ballast")
        self.successResultOf(self.put())

    def test_read_only_disk_fails_the_put(self) -> None:
        """On a disk that has turned read-only a put fails, and succeeds once it can be written again."""
        self.remount("ro")
        self.assert_recovers("Read-only file system")
        self.remount("rw")
        self.successResultOf(self.put())

    def test_disk_taken_away_is_noticed(self) -> None:
        """While its disk is not mounted, nothing is written below the mount point, and nothing read from there."""
        self.unmount()
        self.assert_recovers("is not there any more")
        os.makedirs(f"{self.disk}/streams/a")
        with open(f"{self.disk}/streams/a/b", "wb") as file:
            file.write(b"of another disk")
        self.assert_recovers(f"nothing is mounted at {self.disk} any more")
        for call in (self.storage.stat("a/b"), self.storage.get("a/b"), self.storage.list("")):
            self.failureResultOf(call, StorageError)
        self.mount()
        os.makedirs(f"{self.disk}/streams")
        self.successResultOf(self.put())


@slow
class FullDiskTests(SmallDisk):
    """A disk that fills up under a recording, all the way to the playlist."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.writer = WriteBehind(self.storage, self.clock, attempts=2, random=lambda: 1.0)
        self.readiness = Readiness(self.clock)
        self.readiness.listening()
        self.readiness.start({"storage": self.storage})
        self.addCleanup(self.readiness.stop)
        self.recorder = make_recorder(make_sink_context(storage=self.writer.lane("record"), clock=self.clock))
        self.source = FrameSource(make_video_track(), make_audio_track(), gop=60)
        self.recorder.tracks_changed(self.source.tracks)

    def record(self, gops: int) -> None:
        """So many GOPs of two seconds, with as much time for the storage."""
        for _ in range(gops):
            feed(self.recorder, self.source.take(1))
            self.clock.pump([0.5] * 4)

    def test_recording_goes_on(self) -> None:
        """The log says that the disk is full, the loss is counted, the recording continues behind a gap."""
        self.record(7)
        self.assertTrue(self.readiness.is_ready)
        self.fill()
        self.record(20)
        self.clock.pump([1.0] * int(2 * PROBE_INTERVAL_S))
        self.assertFalse(self.readiness.is_ready)
        self.assertGreater(self.writer.lost_total, 20)
        os.unlink(f"{self.disk}/ballast")
        self.clock.pump([1.0] * int(PROBE_INTERVAL_S))
        self.assertTrue(self.readiness.is_ready)
        lost = self.writer.lost_total
        self.record(12)
        finished = self.recorder.finish()
        self.clock.pump([0.5] * 8)
        self.successResultOf(finished)
        self.assertEqual(lost, self.writer.lost_total)
        self.assert_complete()

    def assert_complete(self) -> None:
        """The recording is finished, and its playlist names just what can be read, with gaps for what cannot."""
        library = Library(self.storage, self.clock)
        id = RecordingId("live", "test", "20260101T000000Z")
        entry = self.successResultOf(Deferred.fromCoroutine(library.entry(id)))
        self.assertIs(RecordingState.FINISHED, entry.state)
        journal, _ = self.successResultOf(Deferred.fromCoroutine(library.journal(id)))
        playlist = render_recording(journal, is_over=True).decode()
        self.assertEqual(entry.gaps, playlist.count("#EXT-X-GAP"))
        self.assertGreater(entry.gaps, 3)
        self.assertFalse(journal.segments[0].is_gap or journal.segments[-1].is_gap)
        stored = {info.key for info in self.successResultOf(self.storage.list(""))}
        for segment in journal.segments:
            for index, part in enumerate(segment.parts):
                if part.size:
                    self.assertIn(f"{id.folder}/part_{segment.number:08}_{index:03}.m4s", stored)
