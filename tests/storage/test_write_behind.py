"""Tests of the queue before a storage, with storages that are slow, broken, full or silent."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from rapidrtmp.errors import StorageError
from rapidrtmp.interfaces import IPacedStorage, IStorageWriter
from rapidrtmp.storage.lanes import JOB_BYTES, REPLACE_FOR_S
from rapidrtmp.storage.loss_log import QUIET_S
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.storage.write_behind import WriteBehind
from rapidrtmp.testing.storage import UnreliableStorage, read_all
from tests.slow import slow

PLAYLIST = "application/vnd.apple.mpegurl"


class Case(SynchronousTestCase):
    """A writer over a storage whose faults the test chooses."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.memory = MemoryStorage()
        self.events: list[LogEvent] = []

    def writer(
        self,
        latency: float = 0.0,
        failures: Callable[[str, str], Exception | None] = lambda operation, key: None,
        deaf: bool = False,
        **settings: Any,
    ) -> WriteBehind:
        self.storage = UnreliableStorage(self.memory, self.clock, latency, failures, deaf=deaf)
        settings = {"random": lambda: 1.0, "log": Logger(observer=self.events.append), **settings}
        return WriteBehind(self.storage, self.clock, **settings)

    def put(self, writer: Any, key: str, data: bytes = b"x") -> Deferred[None]:
        put: Deferred[None] = writer.put(key, [data], "", "no-cache")
        put.addErrback(lambda failure: failure.trap(StorageError, CancelledError) and failure.value)
        return put

    def run_s(self, seconds: float, step: float = 0.25) -> None:
        self.clock.pump([step] * int(seconds / step))

    def stored(self, key: str) -> bytes:
        stored = self.successResultOf(self.memory.get(key))
        return self.successResultOf(Deferred.fromCoroutine(read_all(stored)))

    def said(self) -> list[str]:
        return [formatEvent(event) for event in self.events]


class OrderTests(Case):
    """What is carried out before what."""

    def test_writer_provides_the_interface(self) -> None:
        """The writer and its lanes provide IStorageWriter and know whether the storage is persistent."""
        for persistent in (True, False):
            writer = self.writer(persistent=persistent)
            for one in (writer, writer.lane("live/key")):
                verifyObject(IStorageWriter, one)
                self.assertEqual(persistent, one.persistent)

    def test_pieces_are_concatenated(self) -> None:
        """An object given in pieces, or in none, is stored as their concatenation."""
        writer = self.writer()
        self.successResultOf(writer.put("a", [b"one ", b"", b"two"], "text/plain"))
        self.successResultOf(writer.put("b", [], "text/plain"))
        self.assertEqual((b"one two", b""), (self.stored("a"), self.stored("b")))
        self.assertEqual("text/plain", self.successResultOf(self.memory.stat("a")).content_type)

    def test_pieces_are_joined_late(self) -> None:
        """Pieces stay pieces until the write begins."""
        writer = self.writer(latency=1.0)
        self.put(writer, "first")
        pieces = [b"not ", b"yet"]
        writer.put("second", pieces, "")
        pieces[1] = b"joined"
        self.run_s(2)
        self.assertEqual(b"not joined", self.stored("second"))

    def test_one_after_the_other(self) -> None:
        """In a lane nothing begins before all before it is readable."""
        writer = self.writer(latency=1.0)
        lane = writer.lane("live/a")
        segment, playlist = self.put(lane, "segment_1.m4s"), self.put(lane, "index.m3u8")
        lane.delete("segment_0.m4s")
        self.assertEqual([("put", "segment_1.m4s")], self.storage.begun)
        self.run_s(1)
        self.successResultOf(segment)
        self.assertNoResult(playlist)
        self.assertEqual([("put", "segment_1.m4s"), ("put", "index.m3u8")], self.storage.begun)
        self.run_s(2)
        self.successResultOf(playlist)
        self.assertEqual(("delete", "segment_0.m4s"), self.storage.done[-1])
        self.assertEqual((2, 2, 1), (writer.written_total, writer.written_bytes_total, writer.deleted_total))

    def test_lane_by_name(self) -> None:
        """Two writers of one lane share its order."""
        writer = self.writer(latency=1.0)
        self.put(writer.lane("a"), "1")
        self.put(writer.lane("a"), "2")
        self.assertEqual(1, self.storage.under_way)

    def test_lanes_side_by_side(self) -> None:
        """Lanes continue in parallel as far as the concurrency allows, and then in turns."""
        writer = self.writer(latency=1.0, concurrency=2)
        for number in range(2):
            for lane in "abc":
                self.put(writer.lane(lane), f"{lane}{number}")
        self.assertEqual(2, self.storage.under_way)
        self.run_s(3)
        self.assertEqual(["a0", "b0", "c0", "a1", "b1", "c1"], [key for _, key in self.storage.done])

    def test_waiting_lane_holds_no_place(self) -> None:
        """While a lane waits to try again, another takes its place."""
        broken = {"a"}
        writer = self.writer(
            failures=lambda operation, key: StorageError("no") if key in broken else None, concurrency=1
        )
        first = self.put(writer.lane("a"), "a")
        self.successResultOf(self.put(writer.lane("b"), "b"))
        self.assertNoResult(first)
        broken.clear()
        self.run_s(1)
        self.successResultOf(first)

    @slow
    def test_idle_lanes_hold_nothing(self) -> None:
        """Of ten thousand lanes that have written, the writer keeps nothing."""
        writer = self.writer()
        lanes = [writer.lane(f"live/{number}") for number in range(10_000)]
        for lane in lanes:
            self.put(lane, "object")
        self.assertEqual({}, writer._queues)
        self.assertEqual((0, 0), (writer.pending_objects, writer.pending_bytes))
        self.assertEqual([], self.clock.getDelayedCalls())

    @slow
    def test_long_queue_piles_no_calls(self) -> None:
        """However long the queue, a storage that then answers at once piles up no calls."""
        writer = self.writer()
        self.storage.stall()
        puts = [self.put(writer, str(number)) for number in range(5000)]
        self.storage.resume()
        self.assertEqual([None] * 5000, [self.successResultOf(put) for put in puts])
        self.assertEqual([str(number) for number in range(5000)], [key for _, key in self.storage.done])

    def test_put_from_a_callback(self) -> None:
        """A caller may write its next object as soon as the one before is written."""
        writer, seen = self.writer(), []
        self.storage.stall()
        self.put(writer, "1").addCallback(lambda _: seen.append(self.put(writer, "2")))
        self.storage.resume()
        self.assertIsNone(self.successResultOf(seen[0]))

    def test_cancelled_by_the_caller(self) -> None:
        """A caller that no longer wants to know cancels its Deferred; the object is written all the same."""
        writer = self.writer(latency=1.0)
        put = self.put(writer, "a")
        put.cancel()
        self.assertIsInstance(self.successResultOf(put), CancelledError)
        self.run_s(1)
        self.assertEqual(b"x", self.stored("a"))


class ReplaceTests(Case):
    """Newer puts of a key that still waits."""

    def test_newer_takes_the_place(self) -> None:
        """A put whose key is put again while it waits is skipped, and both callers hear of the newer."""
        writer = self.writer(latency=1.0)
        self.put(writer, "segment_1.m4s")
        older, newer = self.put(writer, "index.m3u8", b"older"), self.put(writer, "index.m3u8", b"newer")
        self.assertEqual(2, writer.pending_objects)
        self.run_s(2)
        self.assertEqual((None, None), (self.successResultOf(older), self.successResultOf(newer)))
        self.assertEqual(b"newer", self.stored("index.m3u8"))
        self.assertEqual(2, len(self.storage.begun))
        self.assertEqual(0, writer.pending_bytes)

    def test_newer_stays_behind_what_it_names(self) -> None:
        """The newer playlist comes after the segment put before it, though the older was put before that."""
        writer = self.writer(latency=1.0)
        for key in ("segment_1.m4s", "index.m3u8", "segment_2.m4s", "index.m3u8"):
            self.put(writer, key)
        self.run_s(4)
        self.assertEqual(["segment_1.m4s", "segment_2.m4s", "index.m3u8"], [key for _, key in self.storage.done])

    def test_put_under_way_is_not_replaced(self) -> None:
        """A put that has begun is not replaced: the newer follows it."""
        writer = self.writer(latency=1.0)
        older, newer = self.put(writer, "index.m3u8", b"older"), self.put(writer, "index.m3u8", b"newer")
        self.run_s(1)
        self.successResultOf(older)
        self.assertEqual(b"older", self.stored("index.m3u8"))
        self.assertNoResult(newer)
        self.run_s(1)
        self.assertEqual(b"newer", self.stored("index.m3u8"))

    def test_put_between_attempts_is_replaced(self) -> None:
        """A put that waits for its next attempt is replaced; the newer has all its attempts."""
        writer = self.writer(failures=lambda operation, key: StorageError("no"), attempts=2, first_delay_s=4.0)
        older = self.put(writer, "index.m3u8", b"older")
        newer = self.put(writer, "index.m3u8", b"newer")
        self.run_s(4)
        self.assertNoResult(newer)
        self.run_s(4)
        self.assertIsInstance(self.successResultOf(older), StorageError)
        self.assertIsInstance(self.successResultOf(newer), StorageError)
        self.assertEqual((1, 5), (writer.lost_total, writer.lost_bytes_total))
        self.assertEqual(0, writer.pending_bytes)

    def test_deletion_follows_the_playlist(self) -> None:
        """What is deleted after a playlist no longer names it is not deleted before that playlist is written."""
        writer = self.writer(latency=1.0)
        self.put(writer, "segment_9.m4s")
        self.put(writer, "index.m3u8", b"without 0")
        writer.delete("segment_0.m4s")
        self.put(writer, "index.m3u8", b"without 1")
        self.run_s(4)
        self.assertEqual(
            [("put", "index.m3u8"), ("delete", "segment_0.m4s"), ("put", "index.m3u8")], self.storage.done[1:]
        )

    def test_playlist_is_not_put_off_for_ever(self) -> None:
        """With a storage just too slow for the segments, the playlist is still written now and then, and at the end."""
        writer = self.writer(latency=2.0)
        for number in range(60):
            self.put(writer, f"segment_{number}.m4s")
            self.put(writer, "index.m3u8", b"%d" % number)
            self.run_s(2)
        playlists = [key for _, key in self.storage.done].count("index.m3u8")
        self.assertGreater(playlists, 3)
        self.assertGreater(REPLACE_FOR_S * playlists, 40)
        self.run_s(120)
        self.assertEqual(b"59", self.stored("index.m3u8"))

    def test_too_large_to_replace(self) -> None:
        """A newer put that does not fit is lost; the older one stays."""
        writer = self.writer(latency=1.0, max_bytes=3 * JOB_BYTES)
        self.put(writer, "segment_1.m4s")
        older = self.put(writer, "index.m3u8", b"older")
        newer = self.put(writer, "index.m3u8", bytes(2 * JOB_BYTES))
        self.assertIsInstance(self.successResultOf(newer), StorageError)
        self.run_s(2)
        self.assertIsNone(self.successResultOf(older))
        self.assertEqual(b"older", self.stored("index.m3u8"))


@implementer(IPacedStorage)
class PacedStorage(UnreliableStorage):
    """Wants a second between two puts of one key."""

    replace_interval_s = 1.0


class PaceTests(Case):
    """A storage that does not like one object to be replaced often."""

    def writer(self, **settings: Any) -> WriteBehind:
        self.storage = PacedStorage(self.memory, self.clock, **settings)
        return WriteBehind(self.storage, self.clock, random=lambda: 1.0)

    def put_segment(self, writer: Any, key: str) -> Deferred[None]:
        put: Deferred[None] = writer.put(key, [b"x"], "")
        return put

    def test_once_a_second(self) -> None:
        """A playlist is put at most once a second, always the newest, and all who put it get the answer."""
        writer = self.writer()
        puts = [self.put(writer, "index.m3u8", b"0")]
        for number in range(1, 40):
            self.run_s(0.1, 0.1)
            puts.append(self.put(writer, "index.m3u8", b"%d" % number))
        self.run_s(1)
        self.assertEqual(b"39", self.stored("index.m3u8"))
        self.assertEqual(5, len(self.storage.done))
        for put in puts:
            self.assertIsNone(self.successResultOf(put))
        self.assertEqual(0, writer.pending_bytes)

    def test_immutable_objects_overtake(self) -> None:
        """While a playlist waits, segments are written, those queued before it came and those after."""
        writer = self.writer()
        self.put(writer, "index.m3u8", b"0")
        waiting = self.put(writer, "index.m3u8", b"1")
        for number in range(3):
            self.successResultOf(self.put_segment(writer, f"segment_{number}.m4s"))
        self.assertNoResult(waiting)
        self.run_s(1)
        self.successResultOf(waiting)

    def test_deletions_do_not_overtake(self) -> None:
        """What an old playlist names is not deleted while the new one waits."""
        writer = self.writer()
        self.put(writer, "index.m3u8", b"with 0")
        self.put(writer, "index.m3u8", b"without 0")
        writer.delete("segment_0.m4s")
        self.put_segment(writer, "segment_1.m4s")
        self.assertEqual(["index.m3u8", "segment_1.m4s"], [key for _, key in self.storage.done])
        self.run_s(1)
        self.assertEqual(["index.m3u8", "segment_0.m4s"], [key for _, key in self.storage.done[2:]])

    def test_other_lanes_and_keys(self) -> None:
        """The wait of one key delays no other lane, and a key that waited long enough not at all."""
        writer = self.writer()
        for _ in range(2):
            self.put(writer.lane("a"), "a/index.m3u8")
        self.successResultOf(self.put(writer.lane("b"), "b/index.m3u8"))
        self.run_s(1)
        self.successResultOf(self.put(writer.lane("b"), "b/index.m3u8"))

    def test_retries_keep_the_pace(self) -> None:
        """An attempt that failed counts as a put, and the next one comes no sooner."""
        failing = iter([StorageError("slow down"), None])
        writer = self.writer(failures=lambda operation, key: next(failing))
        put = self.put(writer, "index.m3u8")
        self.run_s(0.75)
        self.assertEqual(1, len(self.storage.begun))
        self.run_s(0.25)
        self.assertIsNone(self.successResultOf(put))

    def test_overtaken_by_one_that_fails(self) -> None:
        """An object that overtakes and fails is tried again; the playlist comes in its time."""
        failing = {"segment.m4s": 2}

        def failures(operation: str, key: str) -> Exception | None:
            failing[key] = failing.get(key, 0) - 1
            return StorageError("no") if failing[key] >= 0 else None

        writer = self.writer(failures=failures)
        for data in (b"0", b"1"):
            self.put(writer, "index.m3u8", data)
        segment = self.put_segment(writer, "segment.m4s")
        self.run_s(4)
        self.successResultOf(segment)
        self.assertEqual(b"1", self.stored("index.m3u8"))
        self.assertEqual(0, writer.pending_objects)

    def test_stopped_drain_leaves_no_timer(self) -> None:
        """A drain waits for what waits; when its time is over, nothing is left to fire."""
        for timeout_s, complete in ((2.0, True), (0.5, False)):
            writer = self.writer()
            for data in (b"0", b"1"):
                self.put(writer, "index.m3u8", data)
            drained = writer.drain(timeout_s)
            self.run_s(2)
            self.assertEqual(complete, self.successResultOf(drained))
            self.assertEqual((0, 0), (writer.pending_objects, writer.pending_bytes))


class RetryTests(Case):
    """Failures that may pass, and failures that may not."""

    def test_slow_and_faulty(self) -> None:
        """With 2 s latency and 5 % errors nothing is lost, each lane keeps its order, and no put takes any time."""
        chance = Random(1).random
        writer = self.writer(
            latency=2.0, failures=lambda operation, key: StorageError("503") if chance() < 0.05 else None
        )
        lanes = [writer.lane(f"live/{number}") for number in range(6)]
        puts = []
        for number in range(40):
            for which, lane in enumerate(lanes):
                puts.append(self.put(lane, f"{which}/segment_{number:03}.m4s", bytes(1000)))
            self.run_s(2.5)
        self.run_s(60)
        self.assertEqual({None}, {self.successResultOf(put) for put in puts})
        for which in range(6):
            done = [key for _, key in self.storage.done if key.startswith(f"{which}/")]
            self.assertEqual([f"{which}/segment_{number:03}.m4s" for number in range(40)], done)
        self.assertEqual((240, 240_000, 0), (writer.written_total, writer.written_bytes_total, writer.lost_total))
        self.assertGreater(writer.retried_total, 3)
        self.assertEqual(0, writer.pending_bytes)
        self.assertEqual([], self.events)

    def test_delays_between_attempts_grow(self) -> None:
        """Attempts are spaced 0.25, 0.5, 1, 2, 4 and then 8 seconds apart; after the last the object is lost."""
        for random, factor in ((1.0, 1.0), (0.0, 0.5)):
            times: list[float] = []
            start = self.clock.seconds()

            def fails(operation: str, key: str, times: list[float] = times, start: float = start) -> StorageError:
                times.append(self.clock.seconds() - start)
                return StorageError("503")

            writer = self.writer(failures=fails, attempts=8, random=lambda random=random: random)
            put = self.put(writer, "a")
            self.run_s(40, step=0.125)
            expected = [factor * at for at in (0.0, 0.25, 0.75, 1.75, 3.75, 7.75, 15.75, 23.75)]
            self.assertEqual(expected, times)
            error = self.successResultOf(put)
            self.assertIn("a: lost after 8 attempts: 503", str(error))
            self.assertTrue(error.retryable)
            self.assertEqual((7, 1, 0), (writer.retried_total, writer.lost_total, writer.pending_bytes))

    def test_refused_for_good(self) -> None:
        """What can never succeed is not tried twice, and does not hold up what follows."""
        writer = self.writer()
        bad, good = self.put(writer, "../outside"), self.put(writer, "good")
        self.assertFalse(self.successResultOf(bad).retryable)
        self.assertIsNone(self.successResultOf(good))
        self.assertEqual((0, 1), (writer.retried_total, writer.lost_total))

    def test_foreign_exception_is_retried(self) -> None:
        """A storage that fails with words of its own is retried; the caller hears a StorageError."""
        writer = self.writer(failures=lambda operation, key: ConnectionError("reset"), attempts=2)
        put = self.put(writer, "a")
        self.run_s(1)
        self.assertIsInstance(self.successResultOf(put), StorageError)
        self.assertEqual(1, writer.retried_total)

    def test_raises_at_once(self) -> None:
        """A storage that raises instead of failing later disturbs no other lane."""

        class Raising:
            def put(self, *args: Any) -> Deferred[None]:
                raise RuntimeError("a bug")

        writer = WriteBehind(Raising(), self.clock, attempts=1, log=Logger(observer=self.events.append))
        self.assertIn("a bug", str(self.successResultOf(self.put(writer, "a"))))

    def test_failing_deletion_is_no_loss(self) -> None:
        """A deletion is retried too; one that fails for good is counted, and is no lost object."""
        writer = self.writer(failures=lambda operation, key: StorageError("403"), attempts=3)
        writer.delete("a")
        self.run_s(2)
        self.assertEqual((2, 1, 0), (writer.retried_total, writer.undeleted_total, writer.lost_total))
        self.assertEqual(1, len(self.events))


class SilenceTests(Case):
    """A storage that does not answer."""

    def test_hanging_call_times_out(self) -> None:
        """A call that hangs is cancelled after its time and made again."""
        writer = self.writer(timeout_s=30.0)
        self.storage.stall()
        put = self.put(writer, "a")
        self.run_s(29)
        self.assertEqual(1, len(self.storage.begun))
        self.run_s(1.5)
        self.assertEqual((2, 1, 1), (len(self.storage.begun), self.storage.under_way, writer.retried_total))
        self.storage.resume()
        self.assertIsNone(self.successResultOf(put))

    def test_other_lanes_go_on(self) -> None:
        """Calls that hang and do not heed being cancelled keep no place from others for longer than their time."""
        writer = self.writer(deaf=True, timeout_s=5.0, concurrency=1)
        self.storage.stall()
        hung = self.put(writer.lane("a"), "a")
        other = self.put(writer.lane("b"), "b")
        self.run_s(5)
        self.assertEqual([("put", "a"), ("put", "b")], self.storage.begun)
        self.storage.resume()
        self.assertIsNone(self.successResultOf(other))
        self.run_s(1)
        self.assertIsNone(self.successResultOf(hung))

    def test_late_answer_gives_room_back(self) -> None:
        """An answer that comes after its call was given up changes nothing but gives back its room."""
        writer = self.writer(deaf=True, timeout_s=1.0, attempts=2)
        self.storage.stall()
        put = self.put(writer, "a", bytes(1000))
        self.run_s(3)
        self.assertIn("no answer in 1 s", str(self.successResultOf(put)))
        self.assertEqual((0, 1000 + JOB_BYTES), (writer.pending_objects, writer.pending_bytes))
        self.storage.resume()
        self.assertEqual((0, 0, 1), (writer.pending_bytes, writer.written_total, writer.lost_total))

    def test_held_bytes_stay_bounded(self) -> None:
        """However long a storage is silent, what is held stays within the bound, calls it did not end included."""
        writer = self.writer(deaf=True, timeout_s=1.0, attempts=2, max_bytes=20 * (1000 + JOB_BYTES))
        self.storage.stall()
        for number in range(400):
            self.put(writer.lane(str(number % 5)), str(number), bytes(1000))
            writer.lane("x").delete("y")
            self.run_s(0.25)
            self.assertLessEqual(writer.pending_bytes, 20 * (1000 + JOB_BYTES))
        self.run_s(100)
        self.assertEqual(400, writer.lost_total)
        self.assertLessEqual(writer.pending_bytes, 20 * (1000 + JOB_BYTES))
        self.storage.resume()
        self.assertEqual(0, writer.pending_bytes)
        self.assertIsNone(self.successResultOf(self.put(writer, "again")))


class LossTests(Case):
    """What is said of losses."""

    def test_full_queue_refuses_new_objects(self) -> None:
        """A full queue refuses what is new at once and keeps what it has; one line says so, one that it is over."""
        writer = self.writer(max_bytes=4 * (1000 + JOB_BYTES))
        self.storage.stall()
        puts = [self.put(writer, str(number), bytes(1000)) for number in range(10)]
        writer.delete("0")
        errors = [self.successResultOf(put) for put in puts[4:]]
        self.assertTrue(all(isinstance(error, StorageError) for error in errors))
        self.assertIn("4: 1000 bytes, and 6048 of 6048 wait already", str(errors[0]))
        self.assertEqual((6, 6000, 1), (writer.lost_total, writer.lost_bytes_total, writer.undeleted_total))
        self.assertEqual(["error"], [event["log_level"].name for event in self.events])
        self.storage.resume()
        self.assertEqual([None] * 4, [self.successResultOf(put) for put in puts[:4]])
        self.assertEqual(1, len(self.events))
        self.run_s(QUIET_S)
        self.assertEqual("writing again, 6 objects, 6000 bytes lost, 1 deletions not done", self.said()[1])

    def test_one_line_for_a_long_failure(self) -> None:
        """A storage that fails for minutes is said once; the end of it once, with the sum; the next failure anew."""
        failing = True
        writer = self.writer(failures=lambda operation, key: StorageError("503") if failing else None, attempts=2)
        for number in range(100):
            self.put(writer, str(number), bytes(10))
            self.run_s(1)
        self.assertEqual(1, len(self.events))
        self.assertIn("0: lost after 2 attempts: 503", self.said()[0])
        failing = False
        self.run_s(2 * QUIET_S)
        self.assertEqual(1, len(self.events))
        self.put(writer, "good")
        self.assertEqual("writing again, 100 objects, 1000 bytes lost, 0 deletions not done", self.said()[1])
        failing = True
        self.put(writer, "bad")
        self.run_s(1)
        self.assertEqual(3, len(self.events))

    def test_now_and_then(self) -> None:
        """Losses among successes are one run of losses: the log does not flap."""
        writer = self.writer()
        for number in range(50):
            self.put(writer, "bad\\key")
            self.put(writer, f"good{number}")
            self.run_s(1)
        self.assertEqual(1, len(self.events))
        self.put(writer, "good")
        self.run_s(QUIET_S)
        self.assertEqual(2, len(self.events))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_full_disk_loses_objects(self) -> None:
        """While a disk is full objects are lost and said once; once there is room all is written again."""
        full = True
        writer = self.writer(
            failures=lambda operation, key: StorageError("No space left on device") if full else None,
            max_bytes=10 * (100_000 + JOB_BYTES),
        )
        lost = [self.put(writer, f"segment_{number}.m4s", bytes(100_000)) for number in range(30)]
        self.run_s(200)
        self.assertTrue(all(isinstance(self.successResultOf(put), StorageError) for put in lost))
        self.assertEqual((1, 30, 0), (len(self.events), writer.lost_total, writer.pending_bytes))
        self.assertIn("wait already", self.said()[0])
        full = False
        self.assertIsNone(self.successResultOf(self.put(writer, "segment_30.m4s")))
        self.assertEqual(2, len(self.events))


class DrainTests(Case):
    """The end."""

    def test_nothing_waiting_drains_at_once(self) -> None:
        """With nothing to write, draining is over at once."""
        self.assertTrue(self.successResultOf(self.writer().drain(5.0)))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_drained_in_time_means_written(self) -> None:
        """What is queued, and what comes while the rest is written, is written; then nothing is taken."""
        writer = self.writer(latency=1.0)
        puts = [self.put(writer, "a"), self.put(writer.lane("b"), "b")]
        drained = writer.drain(5.0)
        puts.append(self.put(writer, "c"))
        self.run_s(1.5)
        self.assertNoResult(drained)
        self.run_s(1)
        self.assertTrue(self.successResultOf(drained))
        self.assertEqual([None] * 3, [self.successResultOf(put) for put in puts])
        self.assertIn("stopping", str(self.successResultOf(self.put(writer, "d"))))
        self.run_s(QUIET_S)
        self.assertEqual(3, len(self.storage.begun))

    def test_following_writes_are_written_too(self) -> None:
        """What is asked for when the last write is done is written as well: a playlist follows its last segment."""
        writer = self.writer(latency=1.0)
        self.put(writer, "segment").addCallback(lambda _: self.put(writer, "playlist"))
        drained = writer.drain(5.0)
        self.run_s(1.5)
        self.assertNoResult(drained)
        self.run_s(1.0)
        self.assertTrue(self.successResultOf(drained))
        self.assertEqual((b"x", 0), (self.stored("playlist"), writer.lost_total))

    def test_late_writes_are_lost(self) -> None:
        """What is not written in time is lost, counted and said; the storage is not called again."""
        writer = self.writer(deaf=True)
        self.storage.stall()
        puts = [self.put(writer, "a"), self.put(writer, "b"), self.put(writer.lane("x"), "c")]
        drained, also = writer.drain(5.0), writer.drain(6.0)
        self.run_s(5)
        self.assertFalse(self.successResultOf(drained))
        self.assertFalse(self.successResultOf(also))
        self.assertTrue(all(isinstance(self.successResultOf(put), StorageError) for put in puts))
        self.assertEqual((3, 0), (writer.lost_total, writer.pending_objects))
        self.assertEqual("stopped, 3 objects, 3 bytes lost, 0 deletions not done", self.said()[-1])
        self.storage.resume()
        self.run_s(60)
        self.assertEqual(2, len(self.storage.begun))
        self.assertEqual((0, []), (writer.pending_bytes, self.clock.getDelayedCalls()))

    def test_writes_between_attempts_are_lost(self) -> None:
        """An object that waits for its next attempt when the time is over is lost as well."""
        writer = self.writer(failures=lambda operation, key: StorageError("no"), first_delay_s=8.0)
        put = self.put(writer, "a")
        drained = writer.drain(1.0)
        self.run_s(1)
        self.assertFalse(self.successResultOf(drained))
        self.assertIn("stopping", str(self.successResultOf(put)))
        self.assertEqual([], self.clock.getDelayedCalls())


OPERATION = st.tuples(
    st.sampled_from(["put", "put", "put", "delete", "wait", "stall", "resume"]),
    st.sampled_from("abc"),
    st.sampled_from(["1", "2", "3"]),
    st.integers(0, 3000),
)


class AnyCourseTests(SynchronousTestCase):
    """Whatever happens in whatever order."""

    @slow
    @given(st.lists(OPERATION, max_size=40), st.integers(0, 999), st.booleans())
    def test_accounts_balance_always(self, course: list[tuple[str, str, str, int]], seed: int, deaf: bool) -> None:
        """Every put is answered once, the bound holds throughout, and in the end nothing is held."""
        clock, memory, chance = Clock(), MemoryStorage(), Random(seed).random
        storage = UnreliableStorage(
            memory, clock, 0.5, lambda operation, key: StorageError("no") if chance() < 0.2 else None, deaf=deaf
        )
        writer = WriteBehind(
            storage,
            clock,
            max_bytes=10_000,
            concurrency=2,
            attempts=3,
            timeout_s=3.0,
            random=chance,
            log=Logger(observer=lambda e: None),
        )
        puts, answers = 0, []
        for verb, lane, name, size in course:
            if verb == "put":
                puts += 1
                writer.lane(lane).put(f"{lane}/{name}", [bytes(size)], "").addBoth(answers.append)
            elif verb == "delete":
                writer.lane(lane).delete(f"{lane}/{name}")
            elif verb == "wait":
                clock.pump([0.25] * (size // 500))
            else:
                storage.stall() if verb == "stall" else storage.resume()
            self.assertLessEqual(writer.pending_bytes, 10_000)
            self.assertLessEqual(0, writer.pending_objects)
        storage.resume()
        clock.pump([0.25] * 400)
        self.assertEqual(puts, len(answers))
        self.assertEqual((0, 0, {}), (writer.pending_objects, writer.pending_bytes, writer._queues))
        self.assertEqual([], clock.getDelayedCalls())
