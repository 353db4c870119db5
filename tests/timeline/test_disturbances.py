"""What happens to publishers' clocks and networks, and what viewers are to see of it: through the demuxer."""

from __future__ import annotations

import ast
import itertools
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

import rapidrtmp.codec
import rapidrtmp.timeline
from rapidrtmp.live.demuxer import Demuxer, Discontinuity, MediaProblem
from rapidrtmp.media import Frame, MediaKind
from tests.codec.builders import (
    frames_of,
    mark_of,
    problems_of,
    steps,
)
from tests.slow import slow
from tests.timeline.broadcast import Broadcast, DisturbanceCase

VIDEO, AUDIO = MediaKind.VIDEO, MediaKind.AUDIO


class JumpTests(DisturbanceCase):
    def test_t10_jumps_are_one_discontinuity(self) -> None:
        """T10: a clock that jumps an hour either way, or back to 0, makes one discontinuity at the next keyframe."""
        for jump_ms in (3_600_000, -3_600_000, 3_500, -600):
            wire = lambda _kind, moment, by=jump_ms: 7_200_000 + moment + (by if moment >= 5_300 else 0)  # noqa: E731
            self.assertSound(Broadcast(10, wire=wire), breaks=1, lost=60)
        self.assertSound(Broadcast(10, wire=lambda _kind, moment: moment % 5_000), breaks=1)

    def test_restart_near_0(self) -> None:
        """A file that loops loses nothing: its first keyframe begins the new range, both tracks with it."""
        broadcast = Broadcast(10, wire=lambda _kind, moment: moment % 5_000)
        self.assertSound(broadcast, breaks=1)
        after = broadcast.ranges()[1]
        self.assertEqual((150, VIDEO), (mark_of(after[0]), after[0].track.kind))
        self.assertEqual([], problems_of(broadcast.events))
        # The end of the range before is that of its last sound.
        self.assertLess(after[0].dts / 90 - 5_000, 22)

    def test_jump_of_one_track_first(self) -> None:
        """Tracks that jump at different moments, but alike, continue as they were, and nothing is lost."""
        for late in (VIDEO, AUDIO):
            wire = lambda kind, moment, late=late: (  # noqa: E731
                moment - (5_000 if moment >= (6_300 if kind is late else 6_000) else 0)
            )
            broadcast = Broadcast(12, wire=wire)
            self.assertSound(broadcast)
            self.assertEqual({"timestamp_shifted"}, set(problems_of(broadcast.events)))

    def test_jump_of_one_track(self) -> None:
        """A jump of one track's clock, there and back, costs no frame and no break, and sound stays with picture."""
        for jumping in (VIDEO, AUDIO):
            for jump_ms in (2_000, -2_000, 8_000, -3_600_000):
                wire = lambda kind, moment, jumping=jumping, by=jump_ms: (  # noqa: E731
                    7_200_000 + moment + (by if kind is jumping and 5_300 <= moment < 9_100 else 0)
                )
                broadcast = Broadcast(12, wire=wire)
                self.assertSound(broadcast)
                self.assertEqual(["timestamp_shifted"] * 2, problems_of(broadcast.events))

    def test_p8_extreme_timestamps(self) -> None:
        """P8: starting at 0xFFFFF0 and crossing 2^24, 2^31 or 2^32 is nothing; jumping back 5 s one discontinuity."""
        for start in (0xFFFFF0, 2**24 - 3_000, 2**31 - 3_000, 2**32 - 3_000):
            for modulus in (2**32, 2**31) if start > 2**24 else (2**32, 2**24):
                wire = lambda _kind, moment, at=start, by=modulus: (at + moment) % by  # noqa: E731
                self.assertUnbroken(Broadcast(6, wire=wire))
            back = lambda _kind, moment, at=start: at + moment - (5_000 if moment >= 6_000 else 0)  # noqa: E731
            self.assertSound(Broadcast(12, wire=back), breaks=1)

    def test_time_that_was_lost_is_not_made_up(self) -> None:
        """The new range begins where the old one has ended, whatever the clock says."""
        broadcast = Broadcast(10, wire=lambda _kind, moment: moment + (3_600_000 if moment >= 5_000 else 0))
        before, after = broadcast.ranges()
        self.assertLess(after[0].dts / 90 - max(frame.dts / frame.track.timescale * 1000 for frame in before), 55)


class GapTests(DisturbanceCase):
    def test_t11_stall_with_time_lost(self) -> None:
        """T11: ten seconds in which nothing was sent are a gap of ten seconds, without a discontinuity."""
        broadcast = Broadcast(20, is_sent=lambda _kind, moment: not 5_000 < moment < 15_000)
        self.assertSound(broadcast)
        self.assertIn(10_000 * 90, steps(frames_of(broadcast.events, VIDEO)))
        self.assertEqual({"audio_gap"}, set(problems_of(broadcast.events)))

    def test_t11_after_a_burst(self) -> None:
        """T11: likewise when the last frames from before the stall arrive only after it, all at once."""
        broadcast = Broadcast(
            20,
            is_sent=lambda _kind, moment: not 6_500 < moment < 15_000,
            arrives=lambda moment: 15_000 if 5_000 < moment < 15_000 else moment,
        )
        self.assertSound(broadcast)

    def test_t12_stall_without_loss(self) -> None:
        """T12: ten seconds of frames that arrive late and all at once are as good as any."""
        self.assertUnbroken(Broadcast(30, arrives=lambda moment: 15_000 if 5_000 < moment < 15_000 else moment))

    def test_p7_video_freezes(self) -> None:
        """P7: when the video pauses for ten seconds, or the audio does, it comes back where it belongs."""
        for pausing in (VIDEO, AUDIO):
            is_sent = lambda kind, moment, pausing=pausing: kind is not pausing or not 5_000 < moment < 15_000  # noqa: E731
            self.assertSound(Broadcast(20, is_sent=is_sent))

    def test_p7_audio_starts_late(self) -> None:
        """P7: audio that starts 700 ms late is as late for the viewer, or the stream begins with it."""
        self.assertSound(Broadcast(10, is_sent=lambda kind, moment: kind is VIDEO or moment >= 700), lost=50)

    def test_short_pauses_keep_tracks_together(self) -> None:
        """Pauses of any length up to three seconds, in real time or not, keep sound and picture together."""
        for pause_ms in (120, 300, 700, 1_500, 2_900):
            for hurry in (1, 1_000):
                is_sent = lambda _kind, moment, pause=pause_ms: not 4_000 < moment < 4_000 + pause  # noqa: E731
                arrives = lambda moment, hurry=hurry: moment // hurry  # noqa: E731
                self.assertSound(Broadcast(9, is_sent=is_sent, arrives=arrives))

    def test_faster_than_real_time(self) -> None:
        """A file sent as fast as it can be read is as good as a live one."""
        self.assertUnbroken(Broadcast(60, arrives=lambda moment: moment // 200))


class OtherPublisherTests(DisturbanceCase):
    def test_t16_reconnect_continues_the_stream(self) -> None:
        """T16: a publisher that comes back with another clock continues where the stream was, as one range."""
        first = Broadcast(5)
        for start in (0, 4_000_000_000):
            second = Broadcast(
                5,
                wire=lambda _kind, moment, at=start: at + moment,
                arrives=lambda moment: 10_000 + moment,
                demuxer=Demuxer(start_ms=first.demuxer.end_ms),
            )
            self.assertUnbroken(second)
            self.assertEqual(first.demuxer.end_ms * 90, frames_of(second.events, VIDEO)[0].dts)
            last = frames_of(first.events, AUDIO)[-1]
            self.assertGreaterEqual(frames_of(second.events, AUDIO)[0].dts, last.dts + last.duration)

    def test_t19_time_of_day(self) -> None:
        """T19: only the distances of arrivals count: the same publish at another hour makes the same frames."""
        is_sent = lambda _kind, moment: not 5_000 < moment < 9_000  # noqa: E731
        outlines = []
        for hour in (0, 1_753_000_000_000):
            broadcast = Broadcast(14, is_sent=is_sent, arrives=lambda moment, at=hour: at + moment)
            frames = [event for event in broadcast.events if isinstance(event, Frame)]
            outlines.append([(frame.track.kind, frame.dts, frame.duration) for frame in frames])
        self.assertEqual(*outlines)

    @slow
    def test_t19_no_clock_is_read(self) -> None:
        """T19: no module of the codecs and the timeline imports a clock."""
        clocks = {"time", "datetime", "twisted"}
        folders = [Path(path) for package in (rapidrtmp.codec, rapidrtmp.timeline) for path in package.__path__]
        for path in (path for folder in folders for path in folder.glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                self.assertEqual(set(), {name.split(".")[0] for name in names} & clocks, path.name)


@slow
class AnyDisturbanceTests(DisturbanceCase):
    disturbances = st.lists(
        st.tuples(
            st.integers(0, 1_000),
            st.sampled_from(["jump back", "jump ahead", "gap", "stall", "lost"]),
            st.integers(700, 2_500),
        ),
        max_size=4,
    )

    @settings(max_examples=40)
    @given(disturbances)
    def test_tracks_together_whatever_comes(self, drawn: list[tuple[int, str, int]]) -> None:
        """Whatever comes one after the other, sound and picture stay together, and nothing breaks but for jumps."""
        disturbances = [(4_000 * index + at, what, size) for index, (at, what, size) in enumerate(drawn, 1)]
        jumps = {"jump back": -1, "jump ahead": 9}

        def wire(_kind: MediaKind, moment: int) -> int:
            return (
                50_000
                + moment
                + sum(jumps[what] * size for at, what, size in disturbances if what in jumps and moment >= at)
            )

        def arrives(moment: int) -> int:
            return max(
                [
                    moment,
                    *(at + size for at, what, size in disturbances if what == "stall" and at <= moment < at + size),
                ]
            )

        def is_sent(kind: MediaKind, moment: int) -> bool:
            return not any(
                at < moment < at + size and (what == "gap" or (what == "lost" and kind is AUDIO))
                for at, what, size in disturbances
            )

        broadcast = Broadcast(22, wire=wire, arrives=arrives, is_sent=is_sent)
        counted = Counter(type(event) for event in broadcast.events)
        self.assertLessEqual(counted[Discontinuity], sum(what in jumps for _, what, _ in disturbances))
        for frames in broadcast.ranges():
            self.assertLessEqual(max(map(abs, broadcast.skews_ms(frames))), 40)
        for kind in (VIDEO, AUDIO):
            for before, after in itertools.pairwise(frames_of(broadcast.events, kind)):
                self.assertLess(before.dts, after.dts)
        lost = [event for event in broadcast.events if isinstance(event, MediaProblem) and event.kind != "audio_gap"]
        if not any(what in jumps for _, what, _ in disturbances):
            self.assertEqual([], lost)
