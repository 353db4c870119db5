"""A live publisher whose clock and network can be disturbed, and what must hold of what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.demuxer import Demuxer, Discontinuity, MediaEvent, TracksChanged
from rapidrtmp.media import Frame, MediaKind
from tests.codec.builders import (
    aac_48k,
    configs,
    every,
    frames_of,
    mark_of,
    picture,
    problems_of,
    sound,
    steps,
)

VIDEO, AUDIO = MediaKind.VIDEO, MediaKind.AUDIO
JUMP = Discontinuity("timestamp jump")

Wire = Callable[[MediaKind, int], int]


class Sent(NamedTuple):
    """A frame as it was made: at which moment, how it was stamped and when it arrived."""

    kind: MediaKind
    moment_ms: int
    mark: int
    timestamp: int
    now_ms: int


class Broadcast:
    """
    A publisher of 30 pictures a second, a keyframe each second, and 48 kHz AAC.

    :param wire: from a frame's kind and moment to its timestamp.
    :param arrives: from its moment to its arrival.
    :param is_sent: whether frames of that kind and moment are sent at all.
    """

    def __init__(
        self,
        seconds: int,
        *,
        wire: Wire = lambda _kind, moment: moment,
        arrives: Callable[[int], int] = lambda moment: moment,
        is_sent: Callable[[MediaKind, int], bool] = lambda _kind, _moment: True,
        keyframes: tuple[int, ...] = (),
        demuxer: Demuxer | None = None,
    ) -> None:
        self.demuxer = demuxer or Demuxer()
        self.sent = sorted(
            (
                Sent(kind, moment, mark, wire(kind, moment), arrives(moment))
                for kind, moments in ((VIDEO, every(30, seconds * 30)), (AUDIO, aac_48k(seconds * 48_000 // 1024)))
                for mark, moment in enumerate(moments)
                if is_sent(kind, moment)
            ),
            key=lambda frame: (frame.moment_ms, frame.kind.value),
        )
        self.moments = {(frame.kind, frame.mark): frame.moment_ms for frame in self.sent}
        self._keyframes = keyframes
        self.events = self._publish()

    def _publish(self) -> list[MediaEvent]:
        demuxer, events = self.demuxer, []
        for kind, _, payload in configs():
            receive = demuxer.video_received if kind is VIDEO else demuxer.audio_received
            events += receive(0, payload, self.sent[0].now_ms)
        polled_ms = self.sent[0].now_ms
        for frame in self.sent:
            while polled_ms + 250 <= frame.now_ms:
                polled_ms += 250
                events += demuxer.poll(polled_ms)
            if frame.kind is VIDEO:
                keyframe = frame.mark % 30 == 0 or frame.moment_ms in self._keyframes
                payload = picture(keyframe, mark=frame.mark)
                events += demuxer.video_received(frame.timestamp % 2**32, payload, frame.now_ms)
            else:
                events += demuxer.audio_received(frame.timestamp % 2**32, sound(frame.mark), frame.now_ms)
        return events + demuxer.finish()

    def ranges(self) -> list[list[Frame]]:
        """The frames between discontinuities."""
        runs: list[list[Frame]] = [[]]
        for event in self.events:
            if isinstance(event, Discontinuity):
                runs.append([])
            elif isinstance(event, Frame):
                runs[-1].append(event)
        return runs

    def delay_ms(self, frame: Frame) -> float:
        """How much later than at its moment a frame is on the stream's timeline."""
        return frame.dts * 1000 / frame.track.timescale - self.moments[frame.track.kind, mark_of(frame)]

    def skews_ms(self, frames: list[Frame]) -> list[float]:
        """How far sound and picture are from how they were made, at each frame against the other track's last."""
        latest: dict[MediaKind, float] = {}
        skews = []
        for frame in sorted(frames, key=lambda frame: self.moments[frame.track.kind, mark_of(frame)]):
            latest[frame.track.kind] = self.delay_ms(frame)
            skews.append(latest.get(VIDEO, 0) - latest.get(AUDIO, 0) if len(latest) == 2 else 0)
        return skews


class DisturbanceCase(SynchronousTestCase):
    def assertSound(self, broadcast: Broadcast, breaks: int = 0, *, lost: int = 0) -> None:
        """
        Decode times rise, sound and picture are within 40 ms of how they were made in every range, and there are so
        many breaks and at most so many frames lost.
        """
        events = broadcast.events
        self.assertEqual([JUMP] * breaks, [event for event in events if isinstance(event, Discontinuity)])
        self.assertEqual(1, len([event for event in events if isinstance(event, TracksChanged)]))
        for kind in (VIDEO, AUDIO):
            self.assertGreater(min(steps(frames_of(events, kind))), 0)
        for frames in broadcast.ranges():
            delays = [broadcast.delay_ms(frame) for frame in frames]
            self.assertLessEqual(max(delays) - min(delays), 40)
            self.assertEqual({VIDEO, AUDIO}, {frame.track.kind for frame in frames})
            self.assertTrue(frames_of(frames, VIDEO)[0].keyframe)
        self.assertGreaterEqual(sum(map(len, broadcast.ranges())), len(broadcast.sent) - lost)

    def assertUnbroken(self, broadcast: Broadcast) -> None:
        """Not a frame is missing or astray, and there is nothing to say."""
        self.assertSound(broadcast)
        self.assertEqual([], problems_of(broadcast.events))
        self.assertEqual({3000}, set(steps(frames_of(broadcast.events, VIDEO))))
        self.assertEqual({1024}, set(steps(frames_of(broadcast.events, AUDIO))))
