from __future__ import annotations

import contextlib
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive.objects import read_journal
from rapidrtmp.cli import main
from rapidrtmp.cmaf.reader import read_boxes
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import IStorage
from rapidrtmp.recording.catalogue import Entry, RecordingState
from rapidrtmp.recording.tools import QUIET_MS, Outcome, export, repair, use_storage, verify
from rapidrtmp.storage.memory import MemoryStorage
from tests.recording.recordings import ID, record, store
from tests.recording.test_sink import payloads

PART = f"{ID.folder}/part_00000001_002.m4s"


class ToolsCase(SynchronousTestCase):
    def run_with(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def state(self, storage: MemoryStorage) -> RecordingState:
        stored = self.successResultOf(storage.get(ID.catalogue_key))

        async def read() -> bytes:
            return b"".join([chunk async for chunk in stored.chunks])

        return Entry.parse(ID, self.run_with(read())).state


class VerifyTests(ToolsCase):
    def test_good_recording_is_good(self) -> None:
        """A recording that is as its journal says is good."""
        for deep in (False, True):
            self.assertEqual(Outcome([f"{ID}: good"]), self.run_with(verify(store(record()), deep=deep)))

    def test_nothing_recorded_is_no_complaint(self) -> None:
        """Without recordings there is nothing to complain of."""
        self.assertTrue(self.run_with(verify(MemoryStorage())).is_well)

    def test_problems_are_all_reported(self) -> None:
        """What is missing, unfinished or unknown to the catalogue is reported."""
        missing = store(record())
        self.successResultOf(missing.delete(PART))
        unknown = store(record())
        self.successResultOf(unknown.delete(ID.catalogue_key))
        for storage, words in (
            (missing, "segment 1 cannot be played"),
            (unknown, "it is not in the catalogue"),
            (store(record(finish=False)), "it is being recorded, or its server died"),
        ):
            outcome = self.run_with(verify(storage))
            self.assertEqual(([f"{ID}: {words}"], False), (outcome.lines, outcome.is_well))

    def test_newer_format_is_not_judged(self) -> None:
        """A recording of a newer program is not judged."""
        storage = store(record())
        self.successResultOf(
            storage.put(f"{ID.folder}/journal_000000.jsonl", b'{"type":"recording","format":2}\n', "", "")
        )
        self.assertIn("format 2", self.run_with(verify(storage)).lines[0])
        self.assertFalse(self.run_with(repair(storage, lambda: 1 << 60)).is_well)


class ProgressTests(ToolsCase):
    def test_tools_show_how_far_they_are(self) -> None:
        """Each tool names what it works on and how much of it is done; a movie in bytes, up to the last one."""
        storage = store(record())
        shown: list[tuple[str, int, int]] = []

        def progress(text: str, done: int = 0, whole: int = 0) -> None:
            shown.append((text, done, whole))

        self.run_with(verify(storage, progress=progress))
        self.run_with(repair(storage, progress=progress))
        self.assertEqual([(str(ID), 0, 1)] * 2, shown)
        for target in ("movie.mp4", "folder"):
            shown.clear()
            path = Path(self.mktemp()).with_name(target)
            self.run_with(export(storage, str(ID), path, progress))
            self.assertTrue(all(str(path) in text and done <= whole for text, done, whole in shown))
            self.assertGreater(len(shown), 1)
            if path.is_file():
                self.assertEqual((path.stat().st_size,) * 2, shown[-1][1:])


class RepairTests(ToolsCase):
    def test_nothing_to_do(self) -> None:
        """What is good stays untouched, and so does what cannot be helped."""
        storage = store(record())
        before = self.successResultOf(storage.list(""))
        self.assertEqual(["there was nothing to repair"], self.run_with(repair(storage)).lines)
        self.assertEqual(before, self.successResultOf(storage.list("")))

    def test_unfinished_recording_is_closed(self) -> None:
        """What a dead server left is closed, but not before it has been quiet for a minute."""
        storage = store(record(finish=False), by_another=True)
        newest = max(info.modified_ms for info in self.successResultOf(storage.list("")))
        early = self.run_with(repair(storage, lambda: newest + QUIET_MS - 1))
        self.assertFalse(early.is_well)
        self.assertIs(RecordingState.RECORDING, self.state(storage))
        late = self.run_with(repair(storage, lambda: newest + QUIET_MS))
        self.assertEqual(([f"{ID}: recovered, 14 s, 0 gaps"], True), (late.lines, late.is_well))
        self.assertEqual(["there was nothing to repair"], self.run_with(repair(storage)).lines)

    def test_lost_catalogue_is_found_again(self) -> None:
        """Recordings that were copied without the catalogue are found again."""
        storage = store(record())
        self.successResultOf(storage.delete(ID.catalogue_key))
        self.assertEqual([f"{ID}: recovered, 14 s, 0 gaps"], self.run_with(repair(storage, lambda: 1 << 60)).lines)
        self.assertTrue(self.run_with(verify(storage)).is_well)

    def test_later_lost_part_is_a_gap(self) -> None:
        """A part that got lost later makes its segment a gap, once and for all; the recording stays finished."""
        storage = store(record())
        self.successResultOf(storage.delete(PART))
        self.assertEqual([f"{ID}: finished, 14 s, 1 gaps"], self.run_with(repair(storage)).lines)
        self.assertTrue(self.run_with(read_journal(storage, ID)).segments[1].is_gap)
        self.assertEqual(["there was nothing to repair"], self.run_with(repair(storage)).lines)

    def test_lost_everything_else(self) -> None:
        """Parts alone are called damaged, once."""
        storage = store(record())
        for name in ("init.mp4", "journal_000000.jsonl"):
            self.successResultOf(storage.delete(f"{ID.folder}/{name}"))
        self.assertEqual([f"{ID}: damaged, 0 s, 0 gaps"], self.run_with(repair(storage)).lines)
        self.assertEqual(["there was nothing to repair"], self.run_with(repair(storage)).lines)


class CommandTests(ToolsCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        for key, data in record().objects.items():
            path = self.folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def run_tool(self, *arguments: str) -> tuple[int, str, str]:
        with contextlib.redirect_stdout(StringIO()) as out, contextlib.redirect_stderr(StringIO()) as err:
            status = main(("recordings", *arguments))
        return status, out.getvalue(), err.getvalue()

    def test_progress_is_shown_on_a_terminal(self) -> None:
        """Progress is shown on standard error where that is a terminal, and taken away at the end."""

        class Terminal(StringIO):
            def isatty(self) -> bool:
                return True

        with contextlib.redirect_stdout(StringIO()) as out, contextlib.redirect_stderr(Terminal()) as err:
            self.assertEqual(0, main(("recordings", "verify", str(self.folder))))
        self.assertEqual(f"{ID}: good\n", out.getvalue())
        self.assertEqual(f"\r\x1b[K  0 %  {ID}\r\x1b[K", err.getvalue())

    def test_verify_and_repair(self) -> None:
        """The exit status tells whether all is well; a directory and a spec mean the same."""
        self.assertEqual((0, f"{ID}: good\n", ""), self.run_tool("verify", str(self.folder)))
        self.assertEqual((0, f"{ID}: good\n", ""), self.run_tool("verify", "--deep", f"local:{self.folder}"))
        (self.folder / PART).unlink()
        self.assertEqual(1, self.run_tool("verify", str(self.folder))[0])
        self.assertEqual((0, f"{ID}: finished, 14 s, 1 gaps\n", ""), self.run_tool("repair", str(self.folder)))

    def test_export_as_one_file(self) -> None:
        """A recording is taken out as one file that holds every frame; what is there is not overwritten."""
        target = self.folder / "out.mp4"
        self.assertEqual(0, self.run_tool("export", str(self.folder), str(ID), str(target))[0])
        media = target.read_bytes()
        self.assertEqual(["ftyp", "moov", "sidx"], [box.kind for box in read_boxes(media)][:3])
        self.assertEqual(14 * 30, len(payloads(media, 1)))
        self.assertEqual(1, self.run_tool("export", str(self.folder), str(ID), str(target))[0])

    def test_export_as_a_folder(self) -> None:
        """Or as a folder whose playlist names what is in it."""
        target = self.folder / "out"
        self.assertEqual(0, self.run_tool("export", str(self.folder), str(ID), str(target))[0])
        names = [line for line in (target / "index.m3u8").read_text().splitlines() if not line.startswith("#")]
        self.assertEqual({*names, "init.mp4", "index.m3u8"}, {path.name for path in target.iterdir()})
        media = b"".join((target / name).read_bytes() for name in ("init.mp4", *names))
        self.assertEqual(14 * 30, len(payloads(media, 1)))

    def test_missing_recording_is_one_line(self) -> None:
        """What is not there is one line on standard error."""
        for name in ("live/test", "live/none/20260101T000000Z", "live/test/now"):
            status, out, err = self.run_tool("export", str(self.folder), name, "out.mp4")
            self.assertEqual((1, "", 1), (status, out, err.count("\n")))
        self.assertEqual(1, self.run_tool("verify", "no/such/folder")[0])

    def test_storage_that_waits(self) -> None:
        """A storage that does not answer at once can be used by a server only."""

        async def wait(_storage: IStorage) -> Outcome:
            await Deferred()
            return Outcome([])

        self.assertRaises(ConfigurationError, use_storage, "memory:", wait)
