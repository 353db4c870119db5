"""What real FFmpegs bring back of rungs: every picture at its exact time, keyframes where the source has some."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.trial.unittest import TestCase

from rapidrtmp.cmaf.reader import read_fragments, read_init_segment
from rapidrtmp.codec.table import AVC
from rapidrtmp.interfaces import Rung
from rapidrtmp.media import VIDEO_TIMESCALE, Frame, VideoConfig
from rapidrtmp.transcode.child import Child, Outcome
from rapidrtmp.transcode.command import make_command, make_environment
from rapidrtmp.transcode.encoders import LIBX264
from rapidrtmp.transcode.rungs import suitable_rungs
from tests.e2e.ffmpeg import FFMPEG, RUN_S, every_ffmpeg
from tests.e2e.harness import new_folder

RUNGS = (Rung("90p", 120_000), Rung("54p", 60_000))
#: Where a timeline may be: at its beginning, and beyond 32 bits of ticks.
STARTS = (0, 25 * 3600 * VIDEO_TIMESCALE)
#: By name, how fast pictures come, and which are left out.
RATES = {"30": ("30", ""), "29.97": ("30000/1001", ""), "VFR": ("60", ",select='mod(n\\,7)*mod(n\\,5)'")}
KEYFRAMES = "0,1.5,2.2,2.9"


@functools.cache
def source_frames(rate: str, b_frames: int) -> Sequence[Frame]:
    """The pictures of a small clip with irregular keyframes, as an encoder sends them."""
    path = new_folder("rungs") / "clip.mp4"
    frame_rate, left_out = RATES[rate]
    source = f"testsrc2=size=320x180:rate={frame_rate}{left_out}"
    codec = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-bf", str(b_frames), "-g", "999"]
    codec += ["-force_key_frames", KEYFRAMES, "-sc_threshold", "0", "-b:v", "400k", "-t", "4"]
    form = ["-fps_mode", "passthrough", "-video_track_timescale", str(VIDEO_TIMESCALE), "-use_editlist", "0"]
    form += ["-movflags", "empty_moov+default_base_moof+frag_every_frame"]
    subprocess.run(
        [FFMPEG, "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", source, *codec, *form, str(path)],
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=RUN_S,
    )
    return _read(path)


def _read(path: Path) -> Sequence[Frame]:
    data = path.read_bytes()
    (info,) = read_init_segment(data)
    assert AVC.read_config is not None
    track = AVC.make_track(1, AVC.read_config(info.record))
    samples = [each for part in read_fragments(data, [info]) for run in part.tracks for each in run.samples]
    base = min(each.dts for each in samples)
    return [Frame(track, s.dts - base, s.pts - s.dts, s.duration, s.keyframe, s.payload, 0) for s in samples]


class Back(NamedTuple):
    """A picture that came back."""

    pts: int
    turn: int
    keyframe: bool


class Cell:
    """One child, fed with all of a source at once; what comes back of each rung."""

    def __init__(self, ffmpeg: str, frames: Sequence[Frame], b_frames: int) -> None:
        self.name = f"{ffmpeg}, from {frames[0].dts}, {b_frames} B-frames"
        self.frames = frames
        self.back: dict[str, list[Back]] = {rung.name: [] for rung in RUNGS}
        self.ended: Deferred[Outcome] = Deferred()
        config = frames[0].track.config
        assert isinstance(config, VideoConfig)
        sizes = suitable_rungs(RUNGS, config, 1 << 30)
        self._child = Child(
            frames[0].track,
            [size.rung for size in sizes],
            configured=lambda _rung, _config: None,
            returned=self._returned,
            ended=lambda _child, outcome: self.ended.callback(outcome),
            reorders=bool(b_frames),
        )
        command = make_command(ffmpeg, sizes, "ultrafast", LIBX264, b_frames)
        self._child.start(reactor.spawnProcess, command, make_environment(os.environ))  # type: ignore[attr-defined]

    def feed(self) -> None:
        """Give it all, and wait for what it brings."""
        for frame in self.frames:
            self._child.feed(frame)
        self._child.close()

    @property
    def strays(self) -> int:
        """Pictures that belong to no frame."""
        return self._child.strays

    def _returned(self, rung: str, _data: bytes, keyframe: bool, frame: Frame, turn: int) -> None:
        self.back[rung].append(Back(frame.pts, turn, keyframe))


class MatrixTests(TestCase):
    timeout = 120

    async def _check(self, rate: str) -> None:
        for source_b in (0, 2):
            clip = source_frames(rate, source_b)
            for ffmpeg in every_ffmpeg():
                cells = [
                    Cell(ffmpeg, [replace(frame, dts=frame.dts + start) for frame in clip], rung_b)
                    for start in STARTS
                    for rung_b in (0, 2)
                ]
                for cell in cells:
                    cell.feed()
                outcomes = await DeferredList([cell.ended for cell in cells])
                for cell, (_, outcome) in zip(cells, outcomes, strict=True):
                    self.assertTrue(outcome.is_good, (cell.name, outcome.why, outcome.lines))
                    self._check_cell(cell)

    def _check_cell(self, cell: Cell) -> None:
        shown = sorted(frame.pts for frame in cell.frames)
        keyframes = [frame.pts for frame in cell.frames if frame.keyframe]
        self.assertEqual(0, cell.strays, cell.name)
        for name, back in cell.back.items():
            self.assertEqual(shown, sorted(each.pts for each in back), (cell.name, name))
            self.assertEqual(shown, [each.turn for each in back], (cell.name, name))
            self.assertEqual(keyframes, [each.pts for each in back if each.keyframe], (cell.name, name))
            reordered = any(each.pts != each.turn for each in back)
            self.assertEqual("2 B-frames" in cell.name, reordered, (cell.name, name))

    async def test_whole_frame_rate(self) -> None:
        """At 30 pictures a second all come back at their times, with and without B-frames, wherever the time is."""
        await self._check("30")

    async def test_broken_frame_rate(self) -> None:
        """Likewise at 29.97 pictures a second."""
        await self._check("29.97")

    async def test_variable_frame_rate(self) -> None:
        """Likewise where pictures are missing now and then."""
        await self._check("VFR")
