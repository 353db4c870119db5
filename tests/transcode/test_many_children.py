"""A thousand publishes, each with a child process of its own: what is left of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IProcessTransport
from twisted.trial.unittest import TestCase

from rapidrtmp.media import Frame
from rapidrtmp.testing.frames import make_video_track, video_frames
from rapidrtmp.testing.sinks import feed
from rapidrtmp.testing.transcoders import make_transcoder_context
from rapidrtmp.transcode import ffmpeg
from rapidrtmp.transcode.encoders import LIBX264
from rapidrtmp.transcode.room import Room
from tests.slow import slow

PUBLISHES, AT_A_TIME = 1_000, 25
VIDEO = make_video_track()


def open_files() -> int:
    """How many file descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


def children() -> list[str]:
    """The processes that this one has started and that are there, zombies among them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == os.getpid():
            found.append(text)
    return found


@slow
class ManyChildrenTests(TestCase):
    timeout = 120
    skip = None if Path("/proc/self/fd").exists() else "this system does not say what processes there are"

    def setUp(self) -> None:
        program = Path(self.mktemp())
        program.write_text("#!/bin/sh\nexec cat >/dev/null\n")
        program.chmod(0o755)
        self.patch(ffmpeg, "usable_ffmpeg", lambda path, maps_tones: path)
        self.patch(ffmpeg, "find_encoder", lambda *_: LIBX264)
        self.patch(ffmpeg, "ROOM", Room(lambda: 1e6))
        self.factory = ffmpeg.FfmpegTranscoderFactory(program=str(program.absolute()), **{"480p": "100k"})
        self.frames = video_frames(VIDEO, 2.1)
        self.started: list[Any] = []

    def spawn(self, *arguments: Any, **options: Any) -> IProcessTransport:
        self.started.append(reactor.spawnProcess(*arguments, **options))  # type: ignore[attr-defined]
        return self.started[-1]  # type: ignore[no-any-return]

    def publish(self, frames: Sequence[Frame], *, is_killed: bool) -> Deferred[None]:
        """One publish; its child is killed in the middle, or ends with it."""
        context = make_transcoder_context(clock=reactor, spawn_process=self.spawn)
        transcoder = self.factory.create(context)
        transcoder.tracks_changed((VIDEO,))
        feed(transcoder, frames)
        if is_killed:
            os.kill(self.started[-1].pid, signal.SIGKILL)
        done = transcoder.finish()
        assert done is not None
        return done

    async def _publish_all(self) -> None:
        for at in range(0, PUBLISHES, AT_A_TIME):
            await gatherResults([self.publish(self.frames, is_killed=not number % 3) for number in range(AT_A_TIME)])
            self.assertLessEqual(len(children()), len(self.before), at)

    def test_thousand_publishes_leave_nothing(self) -> Deferred[None]:
        """Neither a process, nor a zombie, nor an open file is left of a thousand publishes, a third of them killed."""
        self.before, files = children(), open_files()

        def check(_: None) -> None:
            self.assertEqual(PUBLISHES, len(self.started))
            self.assertEqual(len(self.before), len(children()))
            self.assertLessEqual(open_files(), files + 2)  # the reactor's own

        return Deferred.fromCoroutine(self._publish_all()).addCallback(check)
