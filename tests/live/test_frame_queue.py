"""The queue between a sink and slow work: bounded, and whole GOPs come out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from rapidrtmp.errors import MisuseError
from rapidrtmp.interfaces import IFrameQueue
from rapidrtmp.live.frame_queue import FrameQueue
from rapidrtmp.media import Frame
from rapidrtmp.testing.frames import audio_frames, interleaved, make_audio_track, make_video_track, video_frames
from tests.slow import slow

VIDEO, AUDIO = make_video_track(), make_audio_track()
FRAMES = interleaved(video_frames(VIDEO, 4, gop=15), audio_frames(AUDIO, 4))


class FrameQueueTests(SynchronousTestCase):
    def read(self, queue: FrameQueue) -> list[Frame]:
        return [frame for _ in range(len(queue)) if (frame := self.successResultOf(queue.get()))]

    def test_queue_provides_the_interface(self) -> None:
        """It provides what the context promises."""
        verifyObject(IFrameQueue, FrameQueue())

    def test_frames_come_in_order(self) -> None:
        """What fits comes out as it went in, and nothing is dropped."""
        queue = FrameQueue()
        queue.tracks_changed((VIDEO, AUDIO))
        self.assertEqual([True] * 20, [queue.put(frame) for frame in FRAMES[:20]])
        self.assertEqual((FRAMES[:20], 0), (self.read(queue), queue.dropped))

    def test_waiting_reader_gets_the_next(self) -> None:
        """A reader that waits gets the next frame at once, even where nothing may wait."""
        queue = FrameQueue(max_frames=0)
        reading = queue.get()
        self.assertNoResult(reading)
        self.assertTrue(queue.put(FRAMES[0]))
        self.assertIs(FRAMES[0], self.successResultOf(reading))
        self.assertFalse(queue.put(FRAMES[1]))

    def test_only_one_reader_waits(self) -> None:
        """Only one may wait; one that is cancelled waits no more."""
        queue = FrameQueue()
        reading = queue.get()
        self.assertRaises(MisuseError, queue.get)
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        queue.put(FRAMES[0])
        self.assertIs(FRAMES[0], self.successResultOf(queue.get()))

    def test_closed_queue_can_be_emptied(self) -> None:
        """What is in it can still be read when it is closed, then the end; nothing more goes in."""
        queue = FrameQueue()
        queue.put(FRAMES[0])
        queue.close()
        self.assertFalse(queue.put(FRAMES[1]))
        ends = [self.successResultOf(queue.get()) for _ in range(3)]
        self.assertEqual([FRAMES[0], None, None], ends)
        queue = FrameQueue()
        reading = queue.get()
        queue.close()
        self.assertIsNone(self.successResultOf(reading))

    def test_audio_alone_drops_little(self) -> None:
        """Audio can start anywhere: no more is dropped than does not fit."""
        queue = FrameQueue(max_frames=2)
        queue.tracks_changed((AUDIO,))
        frames = audio_frames(AUDIO, 0.2)
        for frame in frames[:4]:
            queue.put(frame)
        self.assertEqual((frames[:2], 2), (self.read(queue), queue.dropped))
        self.assertTrue(queue.put(frames[4]))

    @slow
    @given(st.integers(1, 60), st.integers(200, 6_000), st.lists(st.integers(0, 30), min_size=5, max_size=60))
    def test_bounds_and_whole_gops(self, max_frames: int, max_bytes: int, pauses: list[int]) -> None:
        """However it is read, its bounds hold, and behind each hole there is a keyframe of the video first."""
        queue = FrameQueue(max_frames, max_bytes)
        queue.tracks_changed((VIDEO, AUDIO))
        waiting, came, at = list(FRAMES), list[Frame](), 0
        for pause in pauses:
            for frame in waiting[at : at + pause]:
                queue.put(frame)
                held = list(queue._frames)
                self.assertTrue(len(held) <= max_frames and sum(len(each.data) for each in held) <= max_bytes)
            at += pause
            if len(queue):
                came.append(self.successResultOf(queue.get()))
        came += self.read(queue)
        self.assertEqual(min(at, len(FRAMES)) - len(came), queue.dropped)
        numbers = [FRAMES.index(frame) for frame in came]
        for before, after, frame in zip([-1, *numbers], numbers, came, strict=False):
            if after != before + 1:
                self.assertTrue(frame.keyframe and frame.track is VIDEO)
