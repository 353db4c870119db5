"""Where the segmenter cuts: worked examples, and what holds for any stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.hls.grid import Cutting
from rapidrtmp.hls.playlist import render_seconds
from rapidrtmp.hls.segmenter import Part, Segmenter
from rapidrtmp.media import Frame, Track
from rapidrtmp.testing.frames import (
    audio_frames,
    delayed,
    interleaved,
    make_audio_track,
    make_video_track,
    video_frames,
    video_frames_at,
)

VIDEO, AUDIO = make_video_track(), make_audio_track()
RATES = [Fraction(24_000, 1001), *map(Fraction, (24, 25)), Fraction(30_000, 1001), *map(Fraction, (30, 50, 60, 10))]


def cut(frames: Sequence[Frame], *tracks: Track, cutting: Cutting = Cutting()) -> tuple[list[Part], Segmenter]:  # noqa: B008
    """The parts of a stream of one range, and the segmenter that made them."""
    segmenter = Segmenter(cutting)
    segmenter.start(tracks)
    parts = [part for frame in frames for part in segmenter.add(frame)]
    return parts + segmenter.flush(), segmenter


def segments_of(parts: Sequence[Part]) -> list[list[Part]]:
    """Parts by segment."""
    segments: list[list[Part]] = []
    for part in parts:
        if part.starts_segment:
            segments.append([])
        segments[-1].append(part)
    return segments


def span(parts: Sequence[Part]) -> int:
    """How long some parts last together, in ticks."""
    return sum(part.duration for part in parts)


def frames_in(parts: Sequence[Part], track: Track) -> list[Frame]:
    """The frames of a track in the order in which parts hold them."""
    return [sample.frame for part in parts for run in part.runs if run.track is track for sample in run.samples]


class SegmenterCase(SynchronousTestCase):
    """Adds the assertions."""

    def assertCutWell(self, parts: list[Part], segmenter: Segmenter, frames: Sequence[Frame], *tracks: Track) -> None:
        """Check everything that holds for the parts of one range, whatever the frames were."""
        self.assertWhole(parts, frames, *tracks)
        self.assertPartition(parts)
        self.assertWithinConstants(parts, segmenter, tracks[0].timescale)

    def assertWhole(self, parts: list[Part], frames: Sequence[Frame], *tracks: Track) -> None:
        """Every frame came out once, in order, for as long as it lasts."""
        for track in tracks:
            fed = [frame for frame in frames if frame.track is track]
            self.assertEqual(fed, frames_in(parts, track))
        for part in parts:
            for run in part.runs:
                self.assertTrue(run.samples, "an empty run")
                for one, other in pairwise(run.samples):
                    self.assertEqual(one.frame.dts + one.duration, other.frame.dts)
        primary = [sample for part in parts for run in part.runs if run.track is tracks[0] for sample in run.samples]
        for one, other in pairwise(primary):
            self.assertEqual(one.frame.dts + one.duration, other.frame.dts, "a hole in the primary track")

    def assertPartition(self, parts: list[Part]) -> None:
        """Each part begins where the one before ends, and so do segments."""
        for part, following in pairwise(parts):
            self.assertEqual(part.start + part.duration, following.start)
            self.assertEqual(part.ends_segment, following.starts_segment)
            self.assertGreater(part.duration, 0)
        self.assertTrue(parts[0].starts_segment)
        self.assertTrue(parts[-1].ends_segment)

    def assertWithinConstants(self, parts: list[Part], segmenter: Segmenter, timescale: int) -> None:
        """No part and no segment is longer than was promised, and no part is too short unless it may be."""
        constants = segmenter.constants
        assert constants is not None
        for segment in segments_of(parts):
            seconds = float(render_seconds(segment[0].start, segment[0].start + span(segment), timescale))
            self.assertLess(seconds, constants.target_s + 0.5)
            for part in segment:
                ms = float(render_seconds(part.start, part.start + part.duration, timescale)) * 1000
                self.assertLessEqual(round(ms, 2), constants.part_target_ms)
                if part is not segment[-1]:
                    self.assertGreaterEqual(round(ms, 2), 0.85 * constants.part_target_ms)

    def assertOnKeyframes(self, parts: list[Part]) -> None:
        """Every segment begins with a keyframe."""
        for part in parts:
            if part.starts_segment:
                self.assertTrue(part.on_keyframe, f"the segment at {part.start} does not begin with a keyframe")
                self.assertTrue(part.independent)


class RegularTests(SegmenterCase):
    """Encoders that do what they say."""

    def test_gops(self) -> None:
        """With GOPs of 0.5 to 10 s, at every frame rate, every segment begins with a keyframe."""
        for rate in RATES:
            for gop_s in (Fraction(1, 2), 1, 2, 4, 10):
                gop = round(rate * gop_s)
                video = video_frames(VIDEO, 2.5 * max(gop_s, 4), frame_rate=rate, gop=gop)
                parts, segmenter = cut(video, VIDEO)
                self.assertCutWell(parts, segmenter, video, VIDEO)
                self.assertOnKeyframes(parts)
                wanted = max(2, gop_s)
                self.assertEqual(wanted, segmenter.constants and segmenter.constants.target_s)
                for segment in segments_of(parts)[:-1]:
                    self.assertGreaterEqual(span(segment) / 90_000, wanted - 0.1)
                    self.assertLess(span(segment) / 90_000, wanted + max(0.1, gop_s) * (gop_s < 2) + 0.1)

    def test_parts_hold_whole_frames(self) -> None:
        """On a frame grid parts end between frames: at 30 frames a second, ten in each."""
        parts, _ = cut(video_frames(VIDEO, 8), VIDEO)
        self.assertEqual({10}, {len(run.samples) for part in parts for run in part.runs})
        self.assertEqual({30_000}, {part.duration for part in parts})

    def test_first_parts_leave_with_the_second_keyframe(self) -> None:
        """Nothing leaves before the first GOP is whole; all of it but the keyframe after it leaves then."""
        segmenter = Segmenter(Cutting())
        segmenter.start((VIDEO,))
        frames = video_frames(VIDEO, 4, gop=60)
        for frame in frames[:60]:
            self.assertEqual([], segmenter.add(frame))
        self.assertEqual(2 * 90_000, span(segmenter.add(frames[60])))

    def test_constants_are_final(self) -> None:
        """What was chosen from the first GOP stays, whatever comes: other GOPs, a gap, other tracks."""
        segmenter = Segmenter(Cutting())
        segmenter.start((VIDEO, AUDIO))
        for frame in video_frames(VIDEO, 4, gop=60):
            segmenter.add(frame)
        constants = segmenter.constants
        segmenter.flush()
        segmenter.start((AUDIO,))
        for frame in audio_frames(AUDIO, 4, start=480_000):
            segmenter.add(frame)
        segmenter.flush()
        segmenter.start((VIDEO,))
        for frame in video_frames(VIDEO, 30, frame_rate=Fraction(25), gop=250, start=1_800_000):
            segmenter.add(frame)
        self.assertIs(constants, segmenter.constants)

    def test_audio_alone(self) -> None:
        """Audio alone is cut anywhere between its frames, at any sample rate."""
        for rate in (48_000, 44_100, 22_050):
            track = make_audio_track(rate)
            frames = audio_frames(track, 15)
            parts, segmenter = cut(frames, track)
            self.assertCutWell(parts, segmenter, frames, track)
            self.assertOnKeyframes(parts)
            self.assertTrue(all(part.independent for part in parts))
            self.assertEqual(2, segmenter.constants and segmenter.constants.target_s)

    def test_audio_goes_with_the_picture(self) -> None:
        """A part holds the audio that is presented while its pictures are, B-frames and their delay included."""
        video = video_frames(VIDEO, 6, gop=30, b_frames=2)
        parts, segmenter = cut(interleaved(video, audio_frames(AUDIO, 6.2)), VIDEO, AUDIO)
        self.assertOnKeyframes(parts)
        self.assertEqual(3_000, parts[0].start_pts)
        for part in parts[1:-1]:
            _, sound = part.runs
            begins, ends = part.start_pts, part.start_pts + part.duration
            times = [sample.frame.pts * 90_000 / 48_000 for sample in sound.samples]
            self.assertTrue(all(begins <= time < ends for time in times))
        self.assertEqual(Fraction(30), segmenter.frame_rate)

    def test_frame_rate_by_range(self) -> None:
        """The frame rate is measured anew in each range; a claim that fits is taken instead."""
        segmenter = Segmenter(Cutting())
        claiming = make_video_track(frame_rate=Fraction(30_000, 1001))
        segmenter.start((claiming,))
        for frame in video_frames(claiming, 3, gop=60):
            segmenter.add(frame)
        self.assertEqual(Fraction(30_000, 1001), segmenter.frame_rate)
        segmenter.flush()
        for frame in video_frames(claiming, 3, gop=60, frame_rate=Fraction(50), start=900_000):
            segmenter.add(frame)
        self.assertEqual(Fraction(50), segmenter.frame_rate)

    def test_without_parts(self) -> None:
        """With ``part_ms=0`` a segment leaves in one piece."""
        frames = video_frames(VIDEO, 9, gop=30)
        parts, _ = cut(frames, VIDEO, cutting=Cutting(part_ms=0))
        self.assertEqual(
            [180_000] * 4, [part.duration for part in parts if part.starts_segment and part.ends_segment][:4]
        )
        self.assertWhole(parts, frames, VIDEO)


class IrregularTests(SegmenterCase):
    """What happens all the same."""

    def test_no_second_keyframe(self) -> None:
        """Without a second keyframe, parts leave after 10 s, and segments are cut without one."""
        frames = video_frames(VIDEO, 40, gop=10_000)
        parts, segmenter = cut(frames, VIDEO)
        self.assertCutWell(parts, segmenter, frames, VIDEO)
        self.assertEqual(10, segmenter.constants and segmenter.constants.target_s)
        self.assertEqual([True, False, False, False], [part.on_keyframe for part in parts if part.starts_segment])

    def test_keyframes_of_scene_cuts(self) -> None:
        """Keyframes out of turn do not make later segments begin without one."""
        keyframes = {0, 60, 120, 170, 230, 245, 305, 306, 366, 426}
        frames = video_frames_at(VIDEO, [number * 3_000 for number in range(480)], keyframes)
        parts, segmenter = cut(frames, VIDEO)
        self.assertCutWell(parts, segmenter, frames, VIDEO)
        self.assertOnKeyframes(parts)

    def test_shorter_gops_in_a_later_range(self) -> None:
        """A later range with other GOPs still begins its segments on keyframes, if the target duration allows."""
        segmenter = Segmenter(Cutting())
        segmenter.start((VIDEO,))
        for frame in video_frames(VIDEO, 4, gop=60):
            segmenter.add(frame)
        segmenter.flush()
        frames = video_frames(VIDEO, 12, gop=57, start=900_000)
        parts = [part for frame in frames for part in segmenter.add(frame)] + segmenter.flush()
        self.assertCutWell(parts, segmenter, frames, VIDEO)
        self.assertOnKeyframes(parts)

    def test_drop_before_the_end_of_the_longest_segment(self) -> None:
        """Dropped frames do not take a segment past its target."""
        for first in range(60, 80):
            frames = video_frames(VIDEO, 12, gop=200, dropped=[*range(first, first + 6), *range(200 + first, 280)])
            for constants_of in ([], video_frames(VIDEO, 4, gop=60)):
                segmenter = Segmenter(Cutting())
                segmenter.start((VIDEO,))
                for frame in constants_of:
                    segmenter.add(frame)
                segmenter.flush()
                parts = [part for frame in frames for part in segmenter.add(frame)] + segmenter.flush()
                self.assertCutWell(parts, segmenter, frames, VIDEO)

    def test_freeze(self) -> None:
        """A picture that stays for seconds is cut into parts; those behind it hold no picture, or audio alone."""
        times = [*range(0, 270_000, 3_000), *range(720_000, 1_100_000, 3_000)]
        video = video_frames_at(VIDEO, times, range(0, 300, 30))
        parts, segmenter = cut(video, VIDEO)
        self.assertCutWell(parts, segmenter, video, VIDEO)
        self.assertIn((), [part.runs for part in parts])
        both = interleaved(video, audio_frames(AUDIO, 12.2))
        parts, segmenter = cut(both, VIDEO, AUDIO)
        self.assertCutWell(parts, segmenter, both, VIDEO, AUDIO)
        self.assertNotIn((), [part.runs for part in parts])

    def test_frame_that_reaches_into_a_tail(self) -> None:
        """A frame that reaches past the part target, up to the end of the segment, leaves no part without pictures."""
        frames = video_frames(VIDEO, 8, frame_rate=Fraction(15), gop=30, dropped=(5, 25, 29, 59))
        parts, segmenter = cut(frames, VIDEO)
        self.assertCutWell(parts, segmenter, frames, VIDEO)
        self.assertNotIn((), [part.runs for part in parts])

    def test_last_frame_is_not_longer_than_a_part(self) -> None:
        """A last frame that is said to stay beyond what parts may hold is cut like any other."""
        frames = video_frames(VIDEO, 8, frame_rate=Fraction(15), gop=30)
        for index in range(1, 9):
            held = frames[:-index]
            held[-1] = replace(held[-1], duration=200_000)
            parts, segmenter = cut(held, VIDEO)
            self.assertCutWell(parts, segmenter, held, VIDEO)

    def test_audio_lags(self) -> None:
        """Parts wait for audio half a second, then leave without it; it comes with later ones, none is lost."""
        frames = interleaved(video_frames(VIDEO, 8, gop=30), delayed(audio_frames(AUDIO, 8), 1_500))
        segmenter = Segmenter(Cutting())
        segmenter.start((VIDEO, AUDIO))
        latest, parts = 0, []
        for frame in frames:
            done = segmenter.add(frame)
            latest = frame.dts if frame.track is VIDEO else latest
            if parts and done:
                self.assertLess(latest - done[0].start, 90_000)
            parts += done
        parts += segmenter.flush()
        self.assertCutWell(parts, segmenter, frames, VIDEO, AUDIO)

    def test_audio_ceases(self) -> None:
        """Video goes on when audio does not, half a second later."""
        frames = interleaved(video_frames(VIDEO, 9, gop=30), audio_frames(AUDIO, 3))
        parts, segmenter = cut(frames, VIDEO, AUDIO)
        self.assertCutWell(parts, segmenter, frames, VIDEO, AUDIO)

    def test_video_ceases(self) -> None:
        """After three target durations without a picture audio goes on alone, and nothing is held any longer."""
        frames = interleaved(video_frames(VIDEO, 4, gop=30), audio_frames(AUDIO, 30))
        segmenter = Segmenter(Cutting())
        segmenter.start((VIDEO, AUDIO))
        parts = []
        for frame in frames:
            parts += segmenter.add(frame)
            if parts:
                behind = frame.dts / frame.track.timescale - (parts[-1].start + parts[-1].duration) / 90_000
                self.assertLess(behind, 6.5)
        self.assertLess(behind, 1)
        parts += segmenter.flush()
        self.assertCutWell(parts, segmenter, frames, VIDEO, AUDIO)

    def test_video_returns(self) -> None:
        """Pictures that come back after that join in where they belong."""
        pictures = [*video_frames(VIDEO, 4, gop=30), *video_frames(VIDEO, 4, gop=30, start=20 * 90_000)]
        frames = interleaved(pictures, audio_frames(AUDIO, 25))
        parts, segmenter = cut(frames, VIDEO, AUDIO)
        self.assertPartition(parts)
        self.assertWithinConstants(parts, segmenter, 90_000)
        self.assertEqual(pictures, frames_in(parts, VIDEO))
        late = interleaved(pictures[:120], audio_frames(AUDIO, 25), delayed(pictures[120:], 5_000))
        parts, segmenter = cut(late, VIDEO, AUDIO)
        self.assertPartition(parts)
        self.assertEqual([frame.dts for frame in pictures], [frame.dts for frame in frames_in(parts, VIDEO)])

    def test_audio_before_the_first_picture(self) -> None:
        """Audio that comes before the first picture leaves with it; of very much, only the newest."""
        early = audio_frames(AUDIO, 8)
        frames = interleaved(early, video_frames(VIDEO, 4, gop=30, start=90_000))
        parts, segmenter = cut(frames, VIDEO, AUDIO)
        self.assertCutWell(parts, segmenter, frames, VIDEO, AUDIO)
        segmenter = Segmenter(Cutting())
        segmenter.start((VIDEO, AUDIO))
        for frame in audio_frames(AUDIO, 60):
            self.assertEqual([], segmenter.add(frame))
        parts = [part for frame in video_frames(VIDEO, 4, gop=30, start=60 * 90_000) for part in segmenter.add(frame)]
        self.assertGreater(parts[0].runs[1].samples[0].frame.dts, 49 * 48_000)

    def test_sound_without_a_picture(self) -> None:
        """A range with audio of a video stream alone leaves nothing."""
        parts, _ = cut(audio_frames(AUDIO, 3), VIDEO, AUDIO)
        self.assertEqual([], parts)

    def test_single_frames(self) -> None:
        """One frame makes one part, as long as it is said to be."""
        for track, frame in ((VIDEO, video_frames(VIDEO, 0.04)[0]), (AUDIO, audio_frames(AUDIO, 0.02)[0])):
            parts, segmenter = cut([frame], track)
            self.assertEqual([frame.duration], [part.duration for part in parts])
            self.assertCutWell(parts, segmenter, [frame], track)

    def test_an_opening_without_end(self) -> None:
        """A first GOP of very many octets does not wait for its end."""
        frames = video_frames(VIDEO, 4, gop=1_000, size=1 << 20)
        segmenter = Segmenter(Cutting())
        segmenter.start((VIDEO,))
        held = next(number for number, frame in enumerate(frames) if segmenter.add(frame))
        self.assertLess(held, 60)
        self.assertEqual(10, segmenter.constants and segmenter.constants.target_s)


@st.composite
def videos(draw: st.DrawFn, start: int = 0, seconds: int = 14) -> list[Frame]:
    """Video of an encoder on a grid, with B-frames, dropped frames and GOPs of any length."""
    rate = draw(st.sampled_from(RATES))
    gop = draw(st.integers(1, 150))
    count = round(rate * seconds)
    dropped = set(draw(st.lists(st.integers(1, count), max_size=12)))
    if draw(st.booleans()):
        first = draw(st.integers(1, count))
        dropped |= set(range(first, first + draw(st.integers(1, 60))))
    b_frames = draw(st.integers(0, 3))
    return video_frames(
        VIDEO, seconds, frame_rate=rate, gop=gop, b_frames=b_frames, start=start, dropped=dropped, size=20
    )


@st.composite
def free_videos(draw: st.DrawFn, start: int = 0) -> list[Frame]:
    """Video with frames at any time, some far apart, and keyframes anywhere."""
    steps = draw(
        st.lists(
            st.one_of(st.integers(1_000, 12_000), st.integers(1, 60_000), st.integers(1, 500_000)),
            min_size=1,
            max_size=150,
        )
    )
    times = [start + sum(steps[:index]) for index in range(len(steps))]
    keyframes = {0, *draw(st.lists(st.integers(0, len(steps)), max_size=20))}
    duration = draw(st.sampled_from([1_500, 3_000, 9_000, 45_000]))
    return video_frames_at(VIDEO, times, keyframes, duration=duration, size=20)


audios = st.builds(
    lambda seconds, lead, late, hole: delayed(
        [
            frame
            for frame in audio_frames(AUDIO, seconds, start=48_000 * (100 + lead) // 1000 * 10, size=20)
            if not hole < frame.dts < hole + 48_000
        ],
        late,
    ),
    st.integers(0, 20),
    st.integers(-100, 100),
    st.integers(-900, 900),
    st.integers(0, 960_000),
)
cuttings = st.builds(
    Cutting, segment_ms=st.sampled_from([1_000, 2_000, 6_000]), part_ms=st.sampled_from([100, 200, 333, 500, 1_000])
)


class AnyStreamTests(SegmenterCase):
    """What holds for every stream."""

    @given(st.one_of(videos(), free_videos()), cuttings)
    def test_video(self, frames: list[Frame], cutting: Cutting) -> None:
        """Video alone, of any shape, is cut well."""
        parts, segmenter = cut(frames, VIDEO, cutting=cutting)
        self.assertCutWell(parts, segmenter, frames, VIDEO)

    @given(st.one_of(videos(90_000), free_videos(90_000)), audios, cuttings)
    def test_video_and_audio(self, video: list[Frame], audio: list[Frame], cutting: Cutting) -> None:
        """Video with audio that leads or lags, begins late or ends early, is cut well, and no audio is lost."""
        frames = interleaved(video, audio)
        parts, segmenter = cut(frames, VIDEO, AUDIO, cutting=cutting)
        self.assertPartition(parts)
        self.assertWithinConstants(parts, segmenter, 90_000)
        self.assertEqual(video, frames_in(parts, VIDEO))
        kept = frames_in(parts, AUDIO)
        self.assertEqual([frame for frame in audio if frame.dts >= kept[0].dts] if kept else kept, kept)

    @given(st.integers(1, 60), st.sampled_from(RATES), st.integers(0, 3), cuttings)
    def test_regular_gops(self, half_seconds: int, rate: Fraction, b_frames: int, cutting: Cutting) -> None:
        """With GOPs of one length, up to 10 s, every segment begins with a keyframe."""
        gop = max(1, round(rate * min(half_seconds, 20) / 2))
        frames = video_frames(VIDEO, 25, frame_rate=rate, gop=gop, b_frames=b_frames, size=20)
        parts, segmenter = cut(frames, VIDEO, cutting=cutting)
        self.assertCutWell(parts, segmenter, frames, VIDEO)
        self.assertOnKeyframes(parts)

    @given(st.lists(st.tuples(st.one_of(videos(seconds=4), free_videos()), st.booleans()), min_size=1, max_size=4))
    def test_ranges(self, ranges: list[tuple[list[Frame], bool]]) -> None:
        """Each range between discontinuities is cut well, by the constants of the first."""
        segmenter = Segmenter(Cutting())
        for index, (frames, with_audio) in enumerate(ranges):
            begin = index * 100_000_000
            shifted = [replace(frame, dts=frame.dts + begin) for frame in frames]
            tracks = (VIDEO, AUDIO) if with_audio else (VIDEO,)
            segmenter.start(tracks)
            before = segmenter.constants
            parts = [part for frame in shifted for part in segmenter.add(frame)] + segmenter.flush()
            self.assertCutWell(parts, segmenter, shifted, VIDEO)
            self.assertTrue(before in (None, segmenter.constants))
