"""
A hundred kills: real processes, a real disk, and ``kill -9`` wherever it falls.

What is promised stands in ``docs/recordings.md`` and ``docs/restarts.md``; :mod:`tests.e2e.mortal` lives and dies.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any
from zlib import crc32

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive.journal import Journal
from rapidrtmp.archive.layout import RecordingId, read_part_name
from rapidrtmp.archive.objects import read_journal, read_object
from rapidrtmp.interfaces import IStorage
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.recording.catalogue import Entry, RecordingState
from rapidrtmp.recording.recovery import recover_all
from rapidrtmp.recording.tools import Outcome, export, use_storage, verify
from tests.e2e.ffmpeg import FFMPEG, Clip
from tests.e2e.harness import new_folder, server_environment
from tests.e2e.watched import Watched
from tests.hls.resume.restarts import inits_by_discontinuity

LIVES = 100
#: No life is as long.
CLIP = Clip("mortal", seconds=30, frame_rate=Fraction(30), sample_rate=48_000, channels=2, size="128x72")
RUN_S = 600.0
FRAME_TICKS, TIMESCALE = 3_000, 90_000
#: The parts of the recordings are those of HLS.
PART_TICKS = TIMESCALE // 3
#: A part ends with its last frame of sound, which comes a little after the picture.
SOUND_TICKS = TIMESCALE // 10
#: So many recordings are decoded by one FFmpeg.
BATCH = 10


@dataclass
class Recorded:
    """
    One recording as its server spoke of it.

    :ivar put: the parts that it gave to the queue, in order: name, size and checksum.
    :ivar stored: the names of those that it was shown as stored.
    """

    id: RecordingId
    put: list[tuple[str, int, int]] = field(default_factory=list)
    stored: set[str] = field(default_factory=set)


@dataclass
class Life:
    """
    What a process said of itself before it was killed.

    :ivar frames: where each frame of video that the recorder was given begins and ends, in ticks.
    :ivar playlists: name and text of what viewers were shown, in order.
    """

    frames: list[tuple[int, int]] = field(default_factory=list)
    recordings: dict[str, Recorded] = field(default_factory=dict)
    playlists: list[tuple[str, str]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    spoiled: list[str] = field(default_factory=list)

    def hear(self, what: str, *said: Any) -> None:
        """Take one line."""
        if what == "frame":
            self.frames.append((said[0], said[1]))
        elif what == "playlist":
            self.playlists.append((said[0], said[1]))
        elif what in ("lost", "spoiled"):
            getattr(self, what).append(said[0])
        elif said[0].startswith("recordings/live/"):
            self._hear_of_recording(what, said[0].split("/"), *said[1:])

    def _hear_of_recording(self, what: str, path: list[str], *more: int) -> None:
        id, name = RecordingId(*path[1:4]), path[4]
        recorded = self.recordings.setdefault(id.start, Recorded(id))
        if read_part_name(name) and what == "put":
            recorded.put.append((name, more[0], more[1]))
        elif read_part_name(name):
            recorded.stored.add(name)


def read_life(path: Path) -> Life:
    """What one process left of itself; the last line may be cut off."""
    life = Life()
    for line in path.read_text().split("\n")[:-1]:
        life.hear(*json.loads(line))
    return life


class KillsTests(SynchronousTestCase):
    """One server, killed a hundred times."""

    maxDiff = None  # what a life has to say is long

    def test_kills_lose_nothing_stored(self) -> None:
        """Whenever a server is killed, the next one continues, and everything that was stored can be played."""
        seed = int(os.environ.get("RAPIDRTMP_TEST_SEED", time.time_ns()))
        try:
            self.check(self.run_lives(seed))
        except BaseException:
            print(f"\nRAPIDRTMP_TEST_SEED={seed} kills at the same moments", file=sys.stderr)
            raise

    def run_lives(self, seed: int) -> Path:
        """Let them live and die; returns the folder."""
        folder = new_folder("kills")
        program = str(Path(__file__).with_name("mortal.py"))
        command = [sys.executable, "-P", program, str(folder), str(CLIP.path), str(seed), str(LIVES)]
        done = subprocess.run(
            command, env=server_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_S
        )
        self.assertEqual((0, "", ""), (done.returncode, done.stdout, done.stderr))
        return folder

    def check(self, folder: Path) -> None:
        lives = [read_life(path) for path in sorted((folder / "lives").glob("*.jsonl"))]
        self.assertEqual(LIVES, len(lives))
        self.check_logs(folder)
        self.check_playlists(folder, lives)
        self.check_recordings(folder, lives)

    # ── logs and playlists ───────────────────────────────────────────────────────────────────────────────────────────

    def check_logs(self, folder: Path) -> None:
        """Nothing was a bug."""
        for path in (folder / "lives").glob("*.log"):
            log = path.read_text()
            for sign in ("Traceback", "Unhandled", "#error", "#critical"):
                self.assertNotIn(sign, log, path.name)

    def check_playlists(self, folder: Path, lives: list[Life]) -> None:
        """No number went back over all lives, or came again for something else; what is listed at the end is there."""
        for name in ("index.m3u8", "dvr.m3u8"):
            watched = Watched("cam")
            inits: dict[int, set[str]] = {}
            for life in lives:
                for _, text in (each for each in life.playlists if each[0] == name):
                    for number, init in inits_by_discontinuity(watched.see(text)):
                        inits.setdefault(number, set()).add(init)
            self.assertEqual([], watched.broken, name)
            self.assertEqual({1}, {len(each) for each in inits.values()}, name)
        stored = folder / "store" / "live" / "cam"
        playlist = parse_media_playlist((stored / "index.m3u8").read_text())
        listed = {segment.uri for segment in playlist.segments if not segment.gap}
        self.assertEqual(set(), {name for name in listed if not (stored / name).exists()})

    # ── recordings ───────────────────────────────────────────────────────────────────────────────────────────────────

    def check_recordings(self, folder: Path, lives: list[Life]) -> None:
        spec = f"local:{folder / 'store'}"
        recovered: dict[str, Journal] = {}

        async def look(storage: IStorage) -> Outcome:
            await recover_all(storage)
            for life in lives:
                self.assertEqual([], life.lost)
                for recorded in life.recordings.values():
                    journal = await self.check_recording(storage, recorded, life)
                    if journal is not None:
                        self.assertNotIn(str(recorded.id), recovered, "two recordings of one name")
                        recovered[str(recorded.id)] = journal
            return await verify(storage, deep=True)

        outcome = use_storage(spec, look)
        self.assertEqual([], [line for line in outcome.lines if not line.endswith(": good")])
        self.assertEqual(len(recovered), len(outcome.lines))
        spoiled = sum(f"live/cam/{start}" in recovered for life in lives for start in life.spoiled)
        self.assertGreater(len(recovered), LIVES // 10)
        self.assertGreater(spoiled, 0)
        self.check_playing(spec, recovered)

    async def check_recording(self, storage: IStorage, recorded: Recorded, life: Life) -> Journal | None:
        """It holds all that was stored, from its beginning and as it was given; ``None`` if that is nothing."""
        prefix = f"{recorded.id.folder}/part_"
        found = []
        for info in await storage.list(prefix):
            data = await read_object(storage, info.key)
            found.append((info.key.rpartition("/")[2], len(data), crc32(data)))
        self.assertEqual(recorded.put[: len(found)], found, recorded.id)
        self.assertLessEqual(recorded.stored, {name for name, _, _ in found}, recorded.id)
        if not found:
            self.assertEqual([], await storage.list(recorded.id.catalogue_key))
            return None
        return await self.check_journal(storage, recorded, life, len(recorded.put) - len(found))

    async def check_journal(self, storage: IStorage, recorded: Recorded, life: Life, on_their_way: int) -> Journal:
        """What is missing at the end is what was on its way to the disk, and less than one part."""
        journal = await read_journal(storage, recorded.id)
        entry = Entry.parse(recorded.id, await read_object(storage, recorded.id.catalogue_key))
        self.assertIs(RecordingState.RECOVERED, entry.state, recorded.id)
        self.assertEqual(journal.segments, journal.playable, recorded.id)
        recovered = sum(segment.duration for segment in journal.segments)
        given = life.frames[-1][1] - life.frames[0][0]
        self.assertLessEqual(given - recovered, (on_their_way + 1) * PART_TICKS + SOUND_TICKS, recorded.id)
        self.assertLessEqual(on_their_way, len(recorded.put) - len(recorded.stored))
        return journal

    def check_playing(self, spec: str, recovered: dict[str, Journal]) -> None:
        """FFmpeg plays each of them as one file, silently, and shows as many pictures as the journal speaks of."""
        movies = new_folder("movies")
        paths = []
        for number, name in enumerate(recovered):
            paths.append(movies / f"{number}.mp4")
            use_storage(spec, lambda storage: export(storage, name, paths[-1]))  # noqa: B023 - called at once
        expected = [
            sum(segment.duration for segment in journal.segments) // FRAME_TICKS for journal in recovered.values()
        ]
        shown = [count for at in range(0, len(paths), BATCH) for count in self.pictures(paths[at : at + BATCH])]
        self.assertEqual(expected, shown)

    def pictures(self, paths: list[Path]) -> list[int]:
        """How many pictures each file shows; the sound is decoded as well."""
        inputs = [argument for path in paths for argument in ("-i", str(path))]
        maps = [argument for number in range(len(paths)) for argument in ("-map", str(number))]
        done = subprocess.run(
            [FFMPEG, "-nostdin", "-v", "error", "-xerror", *inputs, *maps, "-f", "framecrc", "-"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_S,
        )
        self.assertEqual((0, ""), (done.returncode, done.stderr), paths)
        frames = Counter(int(line.split(",")[0]) for line in done.stdout.splitlines() if not line.startswith("#"))
        return [frames[2 * number] for number in range(len(paths))]
