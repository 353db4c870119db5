from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive.journal import Journal
from rapidrtmp.archive.layout import RecordingId, read_part_name
from rapidrtmp.archive.objects import read_journal
from rapidrtmp.cmaf.reader import read_fragments, read_init_segment
from rapidrtmp.errors import LeaseHeldError, NotFoundError
from rapidrtmp.interfaces import IMMUTABLE, Lease
from rapidrtmp.media import Frame, MediaKind
from rapidrtmp.recording.catalogue import WRITER, Entry, RecordingState
from rapidrtmp.recording.recovery import catalogued, delete_recording, recover, recover_all
from rapidrtmp.recording.tools import repair
from rapidrtmp.recording.verification import examine
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track, video_frames
from rapidrtmp.testing.sinks import STARTED_AT_MS, RecordingWriter, feed, make_sink_context
from tests.recording.test_sink import make_recorder
from tests.slow import slow
from tests.storage.test_leases import ScriptedStorage

ID = RecordingId("live", "test", "20260101T000000Z")
KILL_POINTS = 100


class Tape(RecordingWriter):
    """Remembers every put with its bytes, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.puts: list[tuple[str, bytes]] = []

    def put(self, key: str, data: Sequence[bytes], content_type: str, cache_control: str = IMMUTABLE) -> Deferred[None]:
        self.puts.append((key, b"".join(data)))
        return super().put(key, data, content_type, cache_control)


def of_another_process(data: bytes) -> bytes:
    return data.replace(WRITER.encode(), b"0" * len(WRITER))


class RecoveryCase(SynchronousTestCase):
    def finish(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def recorded(self, gops: int = 7, gop: int = 60) -> tuple[Tape, list[Frame]]:
        """What a recorder writes of an ordinary stream, and the frames of that."""
        tape = Tape()
        recorder = make_recorder(make_sink_context(storage=tape))
        source = FrameSource(make_video_track(), make_audio_track(), gop=gop)
        recorder.tracks_changed(source.tracks)
        frames = source.take(gops)
        feed(recorder, frames)
        self.successResultOf(recorder.finish())
        return tape, frames

    def stored(self, puts: Sequence[tuple[str, bytes]]) -> MemoryStorage:
        """A storage after these puts of a process that is no more; parts are dated by their place."""
        times = iter(range(STARTED_AT_MS + 1000, STARTED_AT_MS + 10_000_000, 1000))
        storage = MemoryStorage(lambda: next(times))
        for key, data in puts:
            self.successResultOf(storage.put(key, of_another_process(data), "", ""))
        return storage

    def entry(self, storage: MemoryStorage) -> Entry:
        data = self.finish(_read(storage, ID.catalogue_key))
        return Entry.parse(ID, data)

    def journal(self, storage: MemoryStorage) -> Journal:
        journal: Journal = self.finish(read_journal(storage, ID))
        return journal

    def payloads(self, storage: MemoryStorage, track_id: int) -> list[bytes]:
        """The samples of a track in all segments that the journal calls playable, in order."""
        journal = self.journal(storage)
        tracks = read_init_segment(self.finish(_read(storage, f"{ID.folder}/init.mp4")))
        found = []
        for segment in journal.playable:
            for index, part in enumerate(segment.parts):
                if part.size:
                    data = self.finish(_read(storage, f"{ID.folder}/part_{segment.number:08d}_{index:03d}.m4s"))
                    self.assertEqual(part.size, len(data))
                    for fragment in read_fragments(data, tracks):
                        found += [
                            sample.payload
                            for track in fragment.tracks
                            if track.track_id == track_id
                            for sample in track.samples
                        ]
        return found


async def _read(storage: MemoryStorage, key: str) -> bytes:
    return b"".join([chunk async for chunk in (await storage.get(key)).chunks])


def parts_in(puts: Sequence[tuple[str, bytes]]) -> int:
    return sum(read_part_name(key.rpartition("/")[2]) is not None for key, _ in puts)


@slow
class KillTests(RecoveryCase):
    def check(self, puts: Sequence[tuple[str, bytes]], frames: list[Frame]) -> None:
        """Recover what was stored; every whole part must be there, and nothing else."""
        storage = self.stored(puts)
        self.finish(recover_all(storage))
        whole = parts_in(puts)
        if not whole:
            self.assertEqual([], self.successResultOf(storage.list("")))
            return
        self.assertIn(self.entry(storage).state, (RecordingState.RECOVERED, RecordingState.FINISHED))
        journal = self.journal(storage)
        self.assertEqual(whole, sum(part.size > 0 for each in journal.segments for part in each.parts))
        self.assertEqual(journal.segments, journal.playable)
        self.assertFalse(any(segment.discontinuity for segment in journal.segments))
        for before, after in zip(journal.segments, journal.segments[1:], strict=False):
            self.assertEqual(before.start + before.duration, after.start)
            self.assertEqual(before.utc_ms + before.duration // 90, after.utc_ms)
        for track_id in (1, 2):
            stored = self.payloads(storage, track_id)
            self.assertEqual([each.data for each in frames if each.track.id == track_id][: len(stored)], stored)
        entry = self.entry(storage)
        self.assertEqual(replace(Entry.of_journal(ID, entry.state, journal), writer=entry.writer), entry)
        again = self.successResultOf(storage.list(""))
        self.assertEqual([], self.finish(recover_all(storage)))
        self.assertEqual(again, self.successResultOf(storage.list("")), "a second recovery changes nothing")

    def test_between_any_two_writes(self) -> None:
        """Wherever a server is killed between two writes, everything that was written is recovered."""
        tape, frames = self.recorded(4)
        for count in range(len(tape.puts) + 1):
            self.check(tape.puts[:count], frames)

    def test_within_a_write(self) -> None:
        """On a file system that keeps half of a write, no more than that object is lost: a hundred random places."""
        tape, frames = self.recorded(4)
        chance = random.Random(19)
        for _ in range(KILL_POINTS):
            count = chance.randrange(len(tape.puts))
            key, data = tape.puts[count]
            self.check_torn(tape.puts[:count], (key, data[: chance.randrange(len(data))]), frames)

    def check_torn(self, puts: Sequence[tuple[str, bytes]], torn: tuple[str, bytes], frames: list[Frame]) -> None:
        storage = self.stored([*puts, torn])
        self.finish(recover_all(storage))
        whole = parts_in(puts)
        if whole:
            self.assertEqual(
                whole, sum(part.size > 0 for each in self.journal(storage).playable for part in each.parts)
            )
            stored = self.payloads(storage, 1)
            self.assertEqual([each.data for each in frames if each.track.id == 1][: len(stored)], stored)
            keys = [info.key for info in self.successResultOf(storage.list(f"{ID.folder}/part_"))]
            self.assertEqual(whole, len(keys), "what is cut off is gone, so that the listing is the recording")

    def test_killed_recovery_is_done_again(self) -> None:
        """A recovery that is killed is done again, with the same outcome."""
        tape, _ = self.recorded()
        complete = self.stored(tape.puts[:-2])
        self.finish(recover_all(complete))
        for allowed in range(4):
            storage = Mortal(self.stored(tape.puts[:-2]), allowed)
            died = Deferred.fromCoroutine(recover_all(storage))  # type: ignore[arg-type]
            if not self.died(died):
                break
            self.finish(recover_all(storage.storage))
            self.assertEqual(self.journal(complete).segments, self.journal(storage.storage).segments)
            self.assertIs(RecordingState.RECOVERED, self.entry(storage.storage).state)
        else:
            self.fail("the recovery never got to its end")

    def died(self, deferred: Deferred[Any]) -> bool:
        results: list[Any] = []
        deferred.addBoth(results.append)
        return not isinstance(results[0], list)


class Mortal:
    """A storage whose process dies at a put."""

    def __init__(self, storage: MemoryStorage, allowed: int) -> None:
        self.storage = storage
        self._allowed = allowed

    def put(self, *arguments: Any) -> Any:
        if not self._allowed:
            raise KeyboardInterrupt
        self._allowed -= 1
        return self.storage.put(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)


class RecoverTests(RecoveryCase):
    def test_own_recordings_are_not_recovered(self) -> None:
        """What this process records is not recovered, and what is finished neither."""
        tape, _ = self.recorded()
        storage = MemoryStorage()
        for key, data in tape.puts[:-1]:
            self.successResultOf(storage.put(key, data, "", ""))
        self.assertEqual([], self.finish(recover_all(storage)))
        self.assertIs(RecordingState.RECORDING, self.entry(storage).state)
        self.assertEqual([], self.finish(recover_all(self.stored(tape.puts))))

    def test_lost_part_is_a_gap(self) -> None:
        """A part that is missing among others is a gap, and the time continues behind it."""
        tape, _ = self.recorded()
        lost = f"{ID.folder}/part_00000001_002.m4s"
        for puts in (tape.puts[:-1], [put for put in tape.puts[:-1] if "journal" not in put[0]]):
            storage = self.stored([put for put in puts if put[0] != lost])
            self.finish(recover_all(storage))
            journal = self.journal(storage)
            self.assertEqual([False, True, False], [segment.is_gap for segment in journal.segments])
            self.assertEqual([0, 540_000, 1_080_000], [segment.start for segment in journal.segments])
            self.assertTrue(journal.segments[1].parts[2].lost)

    def test_lost_journal_is_made_again(self) -> None:
        """Without its journal a recording is described by its init segment and its parts."""
        tape, _ = self.recorded()
        storage = self.stored([put for put in tape.puts[:-1] if "journal" not in put[0]])
        self.finish(recover_all(storage))
        whole = self.stored(tape.puts)
        self.assertEqual(self.journal(whole).segments, self.journal(storage).segments)
        self.assertEqual(self.journal(whole).header, self.journal(storage).header)

    def test_lost_init_is_put_back(self) -> None:
        """The init segment is put back from the journal."""
        tape, _ = self.recorded()
        storage = self.stored([put for put in tape.puts[:-1] if "init" not in put[0]])
        self.finish(recover_all(storage))
        self.assertEqual(self.journal(storage).header.init, self.finish(_read(storage, f"{ID.folder}/init.mp4")))

    @slow
    def test_lost_page_is_filled_again(self) -> None:
        """A page that is missing before others is filled again, so that the journal can be read in one go."""
        tape = Tape()
        recorder = make_recorder(make_sink_context(storage=tape))
        source = FrameSource(make_video_track(), None, gop=60)
        recorder.tracks_changed(source.tracks)
        feed(recorder, source.take(3 * 130))
        self.successResultOf(recorder.finish())
        storage = self.stored([put for put in tape.puts[:-1] if not put[0].endswith("journal_000001.jsonl")])
        self.finish(recover_all(storage))
        self.assertEqual(self.journal(self.stored(tape.puts)).segments, self.journal(storage).segments)

    def test_nothing_to_play(self) -> None:
        """Parts without any description are kept and called damaged: an operator may still have use for them."""
        tape, _ = self.recorded()
        storage = self.stored([put for put in tape.puts[:-1] if "journal" not in put[0] and "init" not in put[0]])
        self.finish(recover_all(storage))
        self.assertIs(RecordingState.DAMAGED, self.entry(storage).state)
        self.assertGreater(self.entry(storage).size, 0)
        self.failureResultOf(Deferred.fromCoroutine(read_journal(storage, ID)), NotFoundError)

    def test_discontinuity_is_dated_by_storage(self) -> None:
        """A segment that the journal lost and that does not join on is dated by when it was stored."""
        tape = Tape()
        recorder = make_recorder(make_sink_context(storage=tape))
        video = make_video_track()
        recorder.tracks_changed((video,))
        feed(recorder, video_frames(video, 3, gop=30))
        recorder.interrupted()
        recorder.discontinuity()
        feed(recorder, video_frames(video, 3, gop=30, start=9_000_000))
        self.successResultOf(recorder.finish())
        last_line = max(at for at, (key, _) in enumerate(tape.puts) if "journal" in key)
        puts = [put for at, put in enumerate(tape.puts[:-1]) if (at < last_line and "journal" not in put[0]) or at < 7]
        storage = self.stored(puts)
        self.finish(recover_all(storage))
        first, second = self.journal(storage).segments
        self.assertEqual((False, True), (first.discontinuity, second.discontinuity))
        self.assertEqual((0, 9_000_000), (first.start, second.start))
        self.assertGreater(second.utc_ms, first.utc_ms)

    def test_interrupted_deletion_is_finished(self) -> None:
        """A deletion that was begun is finished."""
        tape, _ = self.recorded()
        storage = self.stored(tape.puts)
        entry = self.entry(storage)
        data = entry.render().replace(b'"finished"', b'"deleting"')
        self.successResultOf(storage.put(ID.catalogue_key, data, "", ""))
        self.finish(recover_all(storage))
        self.assertEqual([], self.successResultOf(storage.list("")))

    def test_unreadable_entry_is_written_again(self) -> None:
        """An entry that is cut off is written again."""
        tape, _ = self.recorded()
        storage = self.stored([*tape.puts, (ID.catalogue_key, b'{"state"')])
        self.assertEqual([ID], self.finish(recover_all(storage)))
        self.assertEqual(14_000, self.entry(storage).duration_ms)

    def test_what_is_left(self) -> None:
        """Recovering one by name tells what became of it."""
        tape, _ = self.recorded()
        entry = self.finish(recover(self.stored(tape.puts[:-1]), ID))
        self.assertEqual((RecordingState.RECOVERED, 3, 0), (entry.state, entry.segments, entry.gaps))
        self.assertIsNone(self.finish(recover(self.stored(tape.puts[:2]), ID)))


class ExaminationTests(RecoveryCase):
    def test_sound_recording_has_no_problems(self) -> None:
        """A recording that is as its journal says has no problems, however deeply it is looked at."""
        tape, _ = self.recorded()
        for deep in (False, True):
            self.assertEqual([], self.finish(examine(self.stored(tape.puts), ID, deep=deep)).problems)

    def test_problems_are_said_in_words(self) -> None:
        """What is wrong is said in words; damage inside an object shows only to a deep look."""
        tape, _ = self.recorded()
        key = f"{ID.folder}/part_00000001_002.m4s"
        storage = self.stored([(each, data if each != key else bytes(len(data))) for each, data in tape.puts])
        self.assertEqual([], self.finish(examine(storage, ID)).problems)
        deep = self.finish(examine(storage, ID, deep=True))
        self.assertEqual([f"{key} is cut off, or no fragment", "segment 1 cannot be played"], deep.problems)


class Leasing(ScriptedStorage):
    """A storage that knows who writes into it, and in which another process may hold what is claimed."""

    def __init__(self, leases: Sequence[Lease]) -> None:
        super().__init__()
        self._leases_there = leases

    def find_leases(self, prefix: str) -> Deferred[Sequence[Lease]]:
        return succeed([lease for lease in self._leases_there if lease.name.startswith(prefix)])


class OtherProcessTests(RecoveryCase):
    """Recordings that another process, which is alive, writes into the same storage."""

    def growing(self, *leases: Lease) -> Leasing:
        """A storage with the recording that the process ``0000000000000000`` has begun."""
        tape, _ = self.recorded(4)
        storage = Leasing(leases)
        for key, data in tape.puts[:-1]:
            self.successResultOf(storage.put(key, of_another_process(data), "", ""))
        return storage

    def contents(self, storage: Leasing) -> list[bytes]:
        keys = [info.key for info in self.successResultOf(storage.list(""))]
        return [self.finish(_read(storage, key)) for key in keys]

    def test_living_process_keeps_its_recordings(self) -> None:
        """What its process still writes is left as it is, also by who repairs by hand."""
        storage = self.growing(Lease("live/test", "0" * 16, 7), Lease("live/test2", "1" * 16, 8))
        before = self.contents(storage)
        self.assertEqual([], self.finish(recover_all(storage)))
        outcome = self.finish(repair(storage, lambda: STARTED_AT_MS * 2))
        self.assertEqual(([f"{ID}: left alone: a server is recording it"], False), (outcome.lines, outcome.is_well))
        self.assertEqual(before, self.contents(storage))

    def test_dead_process_loses_its_recordings(self) -> None:
        """What no one writes any more is recovered, also where another process has the stream now."""
        for leases in ((), (Lease("live/test", "1" * 16, 8),), (Lease("live/test2", "0" * 16, 8),)):
            storage = self.growing(*leases)
            self.assertEqual([ID], self.finish(recover_all(storage)))
            self.assertIs(RecordingState.RECOVERED, self.entry(storage).state)
            self.assertEqual([ID.folder], storage.released)

    def test_one_of_two_processes_recovers(self) -> None:
        """Of two processes that start at the same moment, one recovers."""
        storage = self.growing()
        storage.answer = LeaseHeldError("process 7 on elsewhere")
        self.assertEqual([], self.finish(recover_all(storage)))
        self.assertIs(RecordingState.RECORDING, self.entry(storage).state)

    def test_unreadable_entry_is_left_alone(self) -> None:
        """A recording of which the catalogue does not say whose it is, is left to the server that has the stream."""
        storage = self.growing(Lease("live/test", "0" * 16, 7))
        self.successResultOf(storage.put(ID.catalogue_key, b"{", "", ""))
        self.assertEqual([], self.finish(recover_all(storage)))


class DamageTests(RecoveryCase):
    """Objects that say what no writer of ours says."""

    def spoil(self, storage: MemoryStorage, key: str, old: bytes, new: bytes) -> bytes:
        data = self.finish(_read(storage, key))
        self.assertIn(old, data)
        spoiled = data.replace(old, new, 1)
        self.successResultOf(storage.put(key, spoiled, "", ""))
        return spoiled

    @slow
    def test_damaged_page_is_set_aside(self) -> None:
        """A damaged page is named and set aside, and its recording is whole again from its parts."""
        tape, frames = self.recorded()
        page = f"{ID.folder}/journal_000000.jsonl"
        for old, new in (
            (b'"number":1,"utcMs":', b'"number":1,"utcMs":1e999,"x":'),
            (b'"number":2', b'"number":' + b"[" * 3000),
            (b'"timescale":90000', b'"timescale":0'),
            (b'"init":"', b'"init":"AAAA'),
        ):
            storage = self.stored(tape.puts[:-1])
            spoiled = self.spoil(storage, page, old, new)
            with capturedLogs() as logs:
                self.assertEqual([ID], self.finish(recover_all(storage)))
            self.assertIs(RecordingState.RECOVERED, self.entry(storage).state)
            self.assertEqual(14_000, self.entry(storage).duration_ms, new[:40])
            video = [each.data for each in frames if each.track.kind is MediaKind.VIDEO]
            self.assertEqual(video, self.payloads(storage, 1))
            if b"AAAA" not in new:
                self.assertEqual(spoiled, self.finish(_read(storage, f"{page}.damaged")))
                self.assertIn(page, [log.get("key") for log in logs])
            self.assertEqual([], self.finish(examine(storage, ID)).problems)

    def test_damaged_entry_is_set_aside(self) -> None:
        """A damaged entry of the catalogue is named, set aside and written again; no other recording is concerned."""
        for old, new in (
            (b'"startedMs":', b'"startedMs":9e99,"x":'),
            (b'"endedMs":0', b'"endedMs":253402300800000'),
            (b'"state":"recording"', b'"state":"lost"'),
            (b'"codecs":[', b'"codecs":' + b"[" * 3000),
        ):
            tape, _ = self.recorded(4)
            storage = self.stored(tape.puts[:-1])
            self.successResultOf(storage.put("recordings/.catalogue/live/test/20260230T000000Z.json", b"{}", "", ""))
            spoiled = self.spoil(storage, ID.catalogue_key, old, new)
            with capturedLogs() as logs:
                self.assertEqual([ID], self.finish(recover_all(storage)))
            self.assertIn(ID.catalogue_key, [log.get("key") for log in logs])
            self.assertIs(RecordingState.RECOVERED, self.entry(storage).state)
            self.assertEqual(spoiled, self.finish(_read(storage, f"{ID.catalogue_key}.damaged")))
            self.assertEqual([ID], list(self.finish(catalogued(storage))))
            self.finish(delete_recording(storage, ID))
            left = [info.key for info in self.successResultOf(storage.list(""))]
            self.assertEqual(["recordings/.catalogue/live/test/20260230T000000Z.json"], left)
