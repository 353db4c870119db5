"""Timestamps that are plainly wrong: single ones, ones that stand still, and storms of them."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from rapidrtmp.live.demuxer import Demuxer, Discontinuity, MediaEvent, PublisherUnusable
from rapidrtmp.media import Frame, MediaKind
from tests.codec.builders import (
    aac_48k,
    configs,
    every,
    frames_of,
    mark_of,
    picture,
    problems_of,
    steps,
    video_config,
)
from tests.slow import slow
from tests.timeline.broadcast import JUMP, Broadcast, DisturbanceCase

VIDEO, AUDIO = MediaKind.VIDEO, MediaKind.AUDIO


class OutlierTests(DisturbanceCase):
    @slow
    def test_single_outlier_loses_nothing(self) -> None:
        """One frame with a wrong timestamp is put where it belongs: not a frame is lost, and nothing is shifted."""
        for kind in (VIDEO, AUDIO):
            moment = next(m for m in (every(30, 200) if kind is VIDEO else aac_48k(300)) if m >= 5_000)
            for astray in (0, moment - 3_000, moment - 400, moment + 300, moment + 2_000, moment + 3_600_000):
                wire = lambda k, m, kind=kind, at=moment, astray=astray: (  # noqa: E731
                    astray if (k, m) == (kind, at) else m
                )
                broadcast = Broadcast(10, wire=wire)
                self.assertSound(broadcast)
                self.assertEqual(["timestamp_repaired"], problems_of(broadcast.events))
                self.assertEqual(len(broadcast.sent), sum(isinstance(event, Frame) for event in broadcast.events))

    def test_outlier_at_the_end(self) -> None:
        """One that is the last of all comes out too."""
        broadcast = Broadcast(5, wire=lambda kind, moment: 900_000 if (kind, moment) == (VIDEO, 4_967) else moment)
        self.assertSound(broadcast)
        self.assertEqual(149, mark_of(frames_of(broadcast.events, VIDEO)[-1]))

    def test_outlier_at_a_new_config(self) -> None:
        """One that is held back when the codec config changes belongs to the old one."""
        demuxer = Demuxer()
        events: list[MediaEvent] = []
        for _, _, payload in configs(asc=None):
            events += demuxer.video_received(0, payload, 0)
        for mark, time in enumerate(every(30, 120)):
            events += demuxer.video_received(time, picture(mark % 30 == 0, mark=mark), time)
        self.assertEqual([], demuxer.video_received(900_000, picture(keyframe=False, mark=120), 4_000))
        held = demuxer.video_received(0, video_config(width_mbs=40), 4_010)
        self.assertEqual([120], [mark_of(frame) for frame in frames_of(held, VIDEO)])
        self.assertEqual(["timestamp_repaired"], problems_of(held))

    @slow
    @settings(max_examples=10)
    @example({271}, -300_000)  # right behind a keyframe
    @given(st.sets(st.integers(60, 430), max_size=12), st.integers(-400_000, 400_000))
    def test_now_and_then(self, indices: set[int], by_ms: int) -> None:
        """However many single frames of the video have lost their time, viewers do not notice."""
        alone = {index for index in indices if not {index - 1, index - 2} & indices}
        moments = {moment for index, moment in enumerate(every(30, 450)) if index in alone}
        broadcast = Broadcast(
            15, wire=lambda kind, moment: 500_000 + moment + (by_ms if kind is VIDEO and moment in moments else 0)
        )
        self.assertEqual(0, sum(isinstance(event, Discontinuity) for event in broadcast.events))
        self.assertEqual(len(broadcast.sent), sum(isinstance(event, Frame) for event in broadcast.events))
        if abs(by_ms) > 200:
            self.assertSound(broadcast)


class FrozenTests(DisturbanceCase):
    def frozen(self, *kinds: MediaKind, resumes_ms: int = 8_000) -> Broadcast:
        return Broadcast(
            14,
            wire=lambda kind, moment: (
                min(moment, 5_000)
                if kind in kinds and moment < 8_000
                else moment - 8_000 + resumes_ms
                if moment >= 8_000
                else moment
            ),
        )

    def test_t14_frozen_timestamps(self) -> None:
        """T14: while timestamps stand still for 3 s, media continues as it arrives, and returns to them unnoticed."""
        for kinds in ((VIDEO, AUDIO), (VIDEO,), (AUDIO,)):
            broadcast = self.frozen(*kinds)
            events = broadcast.events
            self.assertEqual([], [event for event in events if isinstance(event, Discontinuity)])
            for kind in (VIDEO, AUDIO):
                frames = frames_of(events, kind)
                self.assertGreater(min(steps(frames)), 0)
                # Not in the half second that it takes to be sure.
                delays = [
                    broadcast.delay_ms(frame)
                    for frame in frames
                    if not 5_000 < broadcast.moments[kind, mark_of(frame)] < 5_600
                ]
                self.assertLessEqual(max(delays) - min(delays), 40, (kinds, kind))
            made = [problem for problem in problems_of(events) if problem == "timestamp_frozen"]
            self.assertGreater(len(made), 70)

    def test_clock_resumes_where_it_stood(self) -> None:
        """A clock that was stopped and continues from there makes one discontinuity, and no more."""
        broadcast = self.frozen(VIDEO, AUDIO, resumes_ms=5_033)
        self.assertEqual([JUMP], [event for event in broadcast.events if isinstance(event, Discontinuity)])
        frames = broadcast.ranges()[1]
        delays = [broadcast.delay_ms(frame) for frame in frames]
        self.assertLessEqual(max(delays) - min(delays), 40)


class StormTests(DisturbanceCase):
    def storms(self, broadcast: Broadcast) -> list[str]:
        return [event.reason for event in broadcast.events if isinstance(event, PublisherUnusable)]

    def test_storm_makes_publisher_unusable(self) -> None:
        """A clock that jumps every second makes the publisher unusable after five times, which is reported once."""
        broadcast = Broadcast(30, wire=lambda _kind, moment: moment + moment // 1_000 * 3_600_000)
        (reason,) = self.storms(broadcast)
        self.assertRegex(reason, r"^the stream broke off 5 times in \d+ ms \(timestamp jump\)$")

    def test_tracks_on_different_clocks(self) -> None:
        """Audio and video that have clocks of their own, an hour apart, are put together as they come."""
        broadcast = Broadcast(30, wire=lambda kind, moment: moment + (3_600_000 if kind is VIDEO else 0))
        self.assertEqual([], self.storms(broadcast))
        self.assertSound(broadcast, lost=2)

    @slow
    def test_no_clock_at_all(self) -> None:
        """So do timestamps that mean nothing."""
        broadcast = Broadcast(30, wire=lambda _kind, moment: moment * 2_654_435_761 % 2**32)
        self.assertEqual(1, len(self.storms(broadcast)))

    def test_now_and_then(self) -> None:
        """A file of five seconds that is played in a loop is no storm."""
        broadcast = Broadcast(60, wire=lambda _kind, moment: moment % 5_000)
        self.assertEqual([], self.storms(broadcast))
        self.assertSound(broadcast, breaks=11)
