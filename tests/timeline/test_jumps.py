from __future__ import annotations

from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.media import MediaKind
from rapidrtmp.testing.frames import make_audio_track, make_video_track
from rapidrtmp.timeline.events import Coded
from rapidrtmp.timeline.jumps import JumpGuard, Step
from rapidrtmp.timeline.policy import TimelinePolicy

VIDEO, AUDIO = KINDS = tuple(MediaKind)
TRACKS = {VIDEO: make_video_track(), AUDIO: make_audio_track()}
CONTINUES, JUMPED, STRAGGLES, OUTLIER, FROZEN, SHIFTED = Step

Arrival = tuple[MediaKind, int, int]


def track(kind: MediaKind, *times: int) -> list[Arrival]:
    """Frames that arrive as fast as they should."""
    return [(kind, time, time) for time in times]


class JumpGuardTests(SynchronousTestCase):
    def judge(self, *arrivals: Arrival, settled: bool = True) -> list[tuple[Step, MediaKind, int]]:
        """What became of frames of these kinds and times that arrived then."""
        guard = JumpGuard(TimelinePolicy())
        judged = []
        for kind, time_ms, now_ms in arrivals:
            time_ms += guard.shifts.get(TRACKS[kind].id, 0)
            coded = Coded(TRACKS[kind], time_ms * 1_000_000, 0, True, 0, b"", now_ms)
            verdicts = guard.judge(coded, time_ms)
            judged += [(CONTINUES, coded)] if verdicts is None else verdicts
        for kind in (VIDEO, AUDIO) if settled else ():
            judged += guard.settle(TRACKS[kind].id)
        return [(step, coded.track.kind, coded.time_ns // 1_000_000) for step, coded in judged]

    def assertSteps(self, expected: list[Step], *arrivals: Arrival) -> None:
        self.assertEqual(expected, [step for step, _, _ in self.judge(*arrivals)])

    def test_jitter_is_let_through(self) -> None:
        """Steps of a tenth of a second back or ahead are let through as they come."""
        times = (0, 100, 0, 40, 139, 60)
        self.assertEqual(
            [(CONTINUES, VIDEO, time) for time in times],
            self.judge(*((VIDEO, time, 0) for time in times), settled=False),
        )

    def test_gap_that_really_lasted(self) -> None:
        """A pause that really lasted is a gap at once, on one track or both, however long."""
        for pause_ms in (400, 4_000, 400_000):
            times = (0, 40, 80, 80 + pause_ms, 120 + pause_ms)
            self.assertSteps([CONTINUES] * 5, *track(VIDEO, *times))

    def test_gap_behind_a_burst(self) -> None:
        """What an encoder dropped while the network stalled is a gap, though its last frames from before came late."""
        before = track(VIDEO, *range(0, 4_000, 40))
        burst = [(VIDEO, time, 14_000) for time in range(4_000, 6_000, 40)]
        after = [(VIDEO, time, max(14_000, time)) for time in range(13_960, 16_000, 40)]
        self.assertEqual({CONTINUES}, {step for step, _, _ in self.judge(*before, *burst, *after)})

    def test_small_step_without_time(self) -> None:
        """A step of up to three seconds for which no time has passed is a gap when a second frame agrees."""
        arrivals = [(VIDEO, time, 0) for time in (0, 40, 80, 3_080, 3_120)]
        self.assertEqual([(CONTINUES, VIDEO, time) for _, time, _ in arrivals], self.judge(*arrivals))

    def test_jump_ahead_needs_two(self) -> None:
        """A longer one is a jump, which begins with the first of the two."""
        arrivals = [(VIDEO, time, 0) for time in (0, 40, 80, 3_081, 3_121)]
        self.assertSteps([CONTINUES] * 3 + [JUMPED, CONTINUES], *arrivals)
        self.assertSteps([CONTINUES] * 3 + [OUTLIER], *arrivals[:4])

    def test_jump_back_beyond_jitter(self) -> None:
        """So is a step back of more than half a second; up to that, it is jitter."""
        arrivals = [(VIDEO, time, 0) for time in (9_000, 9_040, 8_539, 8_579)]
        self.assertSteps([CONTINUES, CONTINUES, JUMPED, CONTINUES], *arrivals)
        arrivals = [(VIDEO, time, 0) for time in (9_000, 9_040, 8_540, 8_579)]
        self.assertSteps([CONTINUES] * 4, *arrivals)

    def test_the_other_track_confirms(self) -> None:
        """A frame of the other track that has jumped along confirms a jump."""
        arrivals = [(VIDEO, 9_000, 0), (AUDIO, 9_000, 0), (VIDEO, 5, 40), (AUDIO, 3, 41), (VIDEO, 45, 80)]
        self.assertEqual(
            [(CONTINUES, VIDEO, 9_000), (CONTINUES, AUDIO, 9_000), (JUMPED, VIDEO, 5)],
            self.judge(*arrivals)[:3],
        )
        self.assertSteps([CONTINUES, CONTINUES, JUMPED, CONTINUES, CONTINUES], *arrivals)

    def test_outlier_is_put_between(self) -> None:
        """One frame far from those around it is put between them, wherever it was, while the other track continues."""
        for astray_ms in (0, 779, 1_041, 3_000, 90_000_000):
            arrivals = [*track(VIDEO, 840, 880), (VIDEO, astray_ms, 920), *track(AUDIO, 930, 951), (VIDEO, 960, 960)]
            self.assertEqual(
                [
                    *((CONTINUES, VIDEO, time) for time in (840, 880)),
                    *((CONTINUES, AUDIO, time) for time in (930, 951)),
                    (OUTLIER, VIDEO, 920),
                    (CONTINUES, VIDEO, 960),
                ],
                self.judge(*arrivals),
            )

    def test_outlier_before_a_jump(self) -> None:
        """A frame astray, and then a jump elsewhere: each is seen for what it is."""
        arrivals = [*track(VIDEO, 9_000, 9_040), (VIDEO, 500_000, 9_080), (VIDEO, 5, 9_120), (VIDEO, 45, 9_160)]
        self.assertSteps([CONTINUES, CONTINUES, OUTLIER, JUMPED, CONTINUES], *arrivals)

    def test_lagging_track_is_fine(self) -> None:
        """A track that lags behind the other by seconds is as good as any."""
        lag = [
            (kind, 40 * index - (8_000 if kind is AUDIO else 0), 40 * index) for index in range(50) for kind in KINDS
        ]
        self.assertEqual({CONTINUES}, {step for step, _, _ in self.judge(*lag)})

    def test_pause_of_one_track(self) -> None:
        """A track may pause for a minute while the other continues, in real time or in a hurry."""
        for hurry in (1, 50):
            video = [(VIDEO, time, time // hurry) for time in range(0, 60_000, 1000)]
            audio = [(AUDIO, 60_000, 60_000 // hurry), (AUDIO, 60_021, 60_021 // hurry)]
            self.assertEqual({CONTINUES}, {step for step, _, _ in self.judge((AUDIO, 0, 0), *video, *audio)})

    def test_track_far_away(self) -> None:
        """A track that begins hours away has jumped, and takes the clock along, if it continues there."""
        far = (AUDIO, 3_600_000, 40)
        self.assertSteps([CONTINUES, STRAGGLES], (VIDEO, 0, 0), far)
        self.assertSteps([CONTINUES, OUTLIER, CONTINUES], (VIDEO, 0, 0), far, (AUDIO, 60, 60))
        self.assertSteps([CONTINUES, JUMPED, CONTINUES], (VIDEO, 0, 0), far, (AUDIO, 3_600_021, 61))

    def test_stragglers_on_the_old_clock(self) -> None:
        """After a jump, frames of the other track still on the old clock are known as such, however near that is."""
        for jump_ms in (900_000, -5_000, -2_000):
            new = 10_000 + jump_ms
            self.assertSteps(
                [CONTINUES, CONTINUES, JUMPED, *[CONTINUES] * 13, STRAGGLES, CONTINUES, CONTINUES],
                (VIDEO, 9_960, 0),
                (AUDIO, 9_965, 5),
                *((VIDEO, new + after, 40 + after) for after in range(0, 560, 40)),
                (AUDIO, 9_986, 561),
                (VIDEO, new + 560, 600),
                (AUDIO, new + 570, 601),
            )

    def test_one_track_is_moved_back(self) -> None:
        """A track that jumps while another continues is moved back to where it was, frame by frame, either way."""
        for jump_ms in (900_000, 3_000, 2_000, 600, -600, -2_000, -900_000_000):
            for jumping, step, other, other_step in ((VIDEO, 40, AUDIO, 20), (AUDIO, 20, VIDEO, 40)):
                before = [(VIDEO, at, at) for at in range(9_000, 10_000, 40)]
                before += [(AUDIO, at + 5, at + 5) for at in range(9_000, 10_000, 20)]
                after = [(jumping, at + jump_ms, at) for at in range(10_000, 10_400, step)]
                after += [(other, at + 5, at + 5) for at in range(10_000, 10_400, other_step)]
                arrivals = sorted(before + after, key=lambda arrival: arrival[2])
                judged = self.judge(*arrivals)
                self.assertEqual(len(arrivals), len(judged))
                steps = [each for each, kind, _ in judged if kind is jumping]
                self.assertEqual(1, steps.count(SHIFTED))
                self.assertEqual({CONTINUES, SHIFTED}, {each for each, _, _ in judged})
                times = [time for _, kind, time in judged if kind is jumping]
                between = {after - before for before, after in pairwise(times)}
                self.assertTrue(between <= set(range(step - 5, step + 6)), between)

    def test_one_track_and_then_the_other(self) -> None:
        """Where the other track jumps alike a moment later it goes along, and the two stay as far apart as sent."""
        arrivals = [(VIDEO, at - (5_000 if at >= 10_000 else 0), at) for at in range(9_000, 11_000, 40)]
        arrivals += [(AUDIO, at + 5 - (5_000 if at >= 10_300 else 0), at + 5) for at in range(9_000, 11_000, 20)]
        arrivals.sort(key=lambda arrival: arrival[2])
        judged = self.judge(*arrivals)
        self.assertEqual(sorted(arrival[2] for arrival in arrivals), sorted(time for _, _, time in judged))
        self.assertEqual(2, sum(step is SHIFTED for step, _, _ in judged))

    def test_both_later_forget_offsets(self) -> None:
        """When the whole clock jumps afterwards, what had been added to one track's times is forgotten."""
        arrivals = [(VIDEO, at + (2_000 if at >= 10_000 else 0), at) for at in range(9_000, 12_000, 40)]
        arrivals += [(AUDIO, at + 5, at + 5) for at in range(9_000, 12_000, 20)]
        arrivals += [(VIDEO, at - 12_000, at) for at in range(12_000, 13_000, 40)]
        arrivals += [(AUDIO, at + 5 - 12_000, at + 5) for at in range(12_000, 13_000, 20)]
        judged = self.judge(*sorted(arrivals, key=lambda arrival: arrival[2]))
        at = next(index for index, (step, _, _) in enumerate(judged) if step is JUMPED)
        self.assertEqual(
            ([SHIFTED], {CONTINUES}),
            ([step for step, _, _ in judged[:at] if step is not CONTINUES], {step for step, _, _ in judged[at + 1 :]}),
        )
        self.assertEqual(list(range(0, 1_000, 40)), [time for _, kind, time in judged[at:] if kind is VIDEO])
        self.assertEqual(list(range(5, 1_000, 20)), [time for _, kind, time in judged[at:] if kind is AUDIO])

    def test_gap_of_one_track_in_a_burst(self) -> None:
        """Pictures left out while the network stalled are a gap, though the sound of that time comes at once."""
        arrivals = [(VIDEO, at, at) for at in range(9_000, 10_000, 40)]
        arrivals += [(AUDIO, at + 5, at + 5) for at in range(9_000, 10_000, 20)]
        arrivals += [(AUDIO, at + 5, 12_000) for at in range(10_000, 12_000, 20)]
        arrivals += [(VIDEO, at, max(at, 12_000)) for at in range(11_900, 13_000, 40)]
        arrivals += [(AUDIO, at + 5, at + 5) for at in range(12_000, 13_000, 20)]
        judged = self.judge(*sorted(arrivals, key=lambda arrival: (arrival[2], arrival[0] is VIDEO)))
        self.assertEqual({CONTINUES}, {step for step, _, _ in judged})

    def test_clocks_that_meet(self) -> None:
        """A frame that could be on the old clock as well as on the new one is on the new one."""
        self.assertSteps(
            [CONTINUES, CONTINUES, JUMPED, CONTINUES, CONTINUES, CONTINUES],
            (VIDEO, 9_960, 0),
            (AUDIO, 9_965, 5),
            (VIDEO, 9_300, 40),
            (VIDEO, 9_340, 80),
            (VIDEO, 10_160, 900),
            (AUDIO, 10_165, 905),
        )

    def test_both_held_go_along(self) -> None:
        """Frames of both tracks that are held back when the clock jumps go along if they are on the new one."""
        steps = self.judge(
            (VIDEO, 0, 0), (AUDIO, 0, 0), (VIDEO, 900_000, 40), (AUDIO, 903_000, 41), (VIDEO, 900_040, 80)
        )
        self.assertEqual([JUMPED, CONTINUES, CONTINUES], [step for step, _, _ in steps[2:]])

    def test_frozen_timestamps_follow_arrivals(self) -> None:
        """Timestamps that stand still for half a second are made from arrivals, until they move again."""
        still = [(VIDEO, 1_000, now) for now in range(1_000, 4_001, 100)]
        made = self.judge(*track(VIDEO, 900, 950), *still, *track(VIDEO, 4_040, 4_080))
        self.assertEqual([(CONTINUES, VIDEO, time) for time in (900, 950, *[1_000] * 5)], made[:7])
        self.assertEqual([(FROZEN, VIDEO, time) for time in range(1_500, 4_001, 100)], made[7:-2])
        self.assertEqual([(CONTINUES, VIDEO, 4_040), (CONTINUES, VIDEO, 4_080)], made[-2:])

    def test_clock_resumes_where_it_stood(self) -> None:
        """A clock that continues from where it stood has jumped back from where it was taken to."""
        still = [(VIDEO, 1_000, now) for now in range(1_000, 4_001, 100)]
        self.assertSteps(
            [CONTINUES] * 6 + [FROZEN] * 26 + [JUMPED, CONTINUES],
            *track(VIDEO, 960),
            *still,
            (VIDEO, 1_040, 4_040),
            (VIDEO, 1_080, 4_080),
        )
