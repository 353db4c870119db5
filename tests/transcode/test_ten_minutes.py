"""Ten minutes of a stream with irregular keyframes: what of each rung is beside every segment of the source."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate, takewhile

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rapidrtmp.cmaf.packager import Packager
from rapidrtmp.cmaf.rung_frames import RungFrames
from rapidrtmp.interfaces import Constants, Cutting, IPartSink, IRenditionsSink, Part, Rung
from rapidrtmp.media import VIDEO_TIMESCALE, Frame, Track
from rapidrtmp.names import StreamName
from rapidrtmp.testing.frames import (
    audio_frames,
    delayed,
    interleaved,
    make_audio_track,
    make_video_track,
    video_frames_at,
)
from rapidrtmp.testing.transcoders import FakeTranscoder, make_transcoder_context
from rapidrtmp.transcode.ladder import Ladder
from tests.slow import slow

VIDEO, AUDIO = make_video_track(), make_audio_track()
SECONDS, FRAME = 600, 3_000
#: From keyframe to keyframe, in frames: as scene detection, impatient viewers and lazy encoders make them.
INTERVALS = (3, 12, 21, 30, 45, 60, 60, 99, 147, 183, 240)


@implementer(IPartSink)
class Parts(RungFrames):
    """Keeps the parts of each segment of a rendition."""

    leads = True
    cutting = Cutting(segment_ms=2_000, part_ms=333)

    def __init__(self) -> None:
        super().__init__("", self)
        self.segments: list[list[Part]] = [[]]

    def part_cut(self, part: Part) -> None:
        """A part."""
        self.segments[-1].append(part)

    def segment_ended(self) -> None:
        """The next one begins another segment."""
        self.segments.append([])

    def constants_chosen(self, constants: Constants) -> None:
        """They are those of all."""

    def finish(self) -> Deferred[None] | None:
        """The end."""
        return None


@implementer(IRenditionsSink)
class Renditions(Parts):
    """The source's own, and those of its rungs."""

    def __init__(self) -> None:
        super().__init__()
        self.rungs: dict[str, Parts] = {}

    def open_rendition(self, rung: Rung) -> Parts:
        """One of them."""
        self.rungs[rung.name] = Parts()
        return self.rungs[rung.name]


def stream(late_ms: int) -> list[Frame]:
    """Ten minutes, whose audio comes later than its pictures."""
    chosen = random.Random(late_ms)
    total = SECONDS * VIDEO_TIMESCALE // FRAME
    starts = accumulate(iter(lambda: chosen.choice(INTERVALS), None), initial=0)
    keyframes = frozenset(takewhile(lambda number: number < total, starts))
    pictures = video_frames_at(VIDEO, range(0, total * FRAME, FRAME), keyframes, size=20)
    return interleaved(pictures, delayed(audio_frames(AUDIO, SECONDS, size=20), late_ms))


def times_of(segment: list[Part], track: Track) -> Iterator[tuple[int, bool, bytes]]:
    """When each sample of a track in a segment is shown, whether decoding may begin there, and its bytes."""
    runs = [run for part in segment for run in part.runs if run.track.kind is track.kind]
    return ((frame.pts, frame.keyframe, frame.data) for run in runs for frame, _ in run.samples)


class TenMinutesTests(SynchronousTestCase):
    def _play(self, late_ms: int, b_frames: int) -> Renditions:
        clock, sink = Clock(), Renditions()
        ladder = Ladder(StreamName("live", "test"), clock, lambda: [sink])
        transcoder = FakeTranscoder(make_transcoder_context(ladder, clock=clock))
        transcoder.lag, transcoder.b_frames, ladder.transcoder = 7, b_frames, transcoder
        packager = Packager(sink, ladder)
        for each in (packager, transcoder):
            each.tracks_changed((VIDEO, AUDIO))
        for frame in stream(late_ms):
            clock.advance(max(0.0, frame.arrived_ms / 1000 - clock.seconds()))
            packager.frame_received(frame)
            transcoder.frame_received(frame)
        packager.finish()
        transcoder.finish()
        return sink

    def _check(self, source: list[Part], rung: list[Part]) -> bool:
        """Hold a segment of a rung to that of the source; whether that begins with a keyframe."""
        self.assertEqual(
            [(each.start, each.duration) for each in source], [(each.start, each.duration) for each in rung]
        )
        self.assertEqual(list(times_of(source, AUDIO)), list(times_of(rung, AUDIO)))
        sent, got = list(times_of(source, VIDEO)), list(times_of(rung, VIDEO))
        self.assertEqual(len(sent), len(got))
        if not sent or not sent[0][1]:
            return False
        self.assertEqual(sent[0], got[0])
        self.assertEqual(source[0].runs[0].samples[0].frame.dts, rung[0].runs[0].samples[0].frame.dts)
        return True

    @slow
    def test_keyframes_of_every_rung(self) -> None:
        """
        Wherever a segment of the source begins with a keyframe every rung's does, presented at the same time; the
        audio of a segment is the same in all of them, however late it comes.
        """
        for late_ms, b_frames in ((60, 0), (300, 2)):
            sink = self._play(late_ms, b_frames)
            self.assertEqual({"480p", "360p"}, sink.rungs.keys())
            for rung in sink.rungs.values():
                pairs = list(zip(sink.segments, rung.segments, strict=True))
                self.assertGreater(sum(self._check(*pair) for pair in pairs), 150)
                sent, got = (
                    [picture for segment in every for picture in times_of(segment, VIDEO)]
                    for every in (sink.segments, rung.segments)
                )
                self.assertEqual(sent, sorted(got))
