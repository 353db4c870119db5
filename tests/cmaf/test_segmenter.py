"""Where the segmenter cuts: worked examples, and what holds for any stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.segmenter import Segmenter
from rapidrtmp.cmaf.segmenter_events import CutEvent, SegmentContinued, SegmentEnd
from rapidrtmp.interfaces import Cutting, Part
from rapidrtmp.m3u8.write import duration_us
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
from tests.cmaf.streams import AUDIO, RATES, VIDEO, audios, changing_videos, cuttings, free_videos, videos
from tests.slow import slow


def cut(frames: Sequence[Frame], *tracks: Track, cutting: Cutting = Cutting()) -> tuple[list[Part], Segmenter]:  # noqa: B008
    """The parts of a stream of one range, and the segmenter that made them."""
    segmenter = Segmenter(cutting)
    segmenter.start(tracks)
    return parts_of(events_of(segmenter, frames) + segmenter.flush()), segmenter


def events_of(segmenter: Segmenter, frames: Sequence[Frame]) -> list[CutEvent]:
    """What a segmenter tells while it is fed."""
    return [event for frame in frames for event in segmenter.add(frame)]


def parts_of(events: Sequence[CutEvent]) -> list[Part]:
    """The parts of whole segments; the events of their ends must be in order."""
    parts: list[Part] = []
    is_open = is_expected = False
    for event in events:
        if isinstance(event, Part):
            assert event.starts_segment is not is_open, f"{event.start}: a segment begins in another"
            assert not is_expected, f"{event.start}: the segment should have ended"
            is_open, is_expected = True, event.expected_last
            parts.append(event)
        elif isinstance(event, SegmentEnd):
            assert is_open and event.end == parts[-1].end, f"a segment ends at {event.end}, its last part elsewhere"
            is_open = is_expected = False
        else:
            assert isinstance(event, SegmentContinued) and is_expected
            is_expected = False
    assert not is_open, "the last segment has no end"
    return parts


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


def came_of(fed: Sequence[Frame], parts: Sequence[Part], track: Track) -> list[Frame]:
    """The frames of a track without what stands in for others: silence, and pictures for the second time."""
    expected, came = {id(frame.data) for frame in fed}, []
    for frame in frames_in(parts, track):
        if id(frame.data) in expected:
            expected.remove(id(frame.data))
            came.append(frame)
    return came


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
            self.assertSamePictures(fed, came_of(fed, parts, track))
        for part in parts:
            for run in part.runs:
                self.assertTrue(run.samples, "an empty run")
                for one, other in pairwise(run.samples):
                    self.assertEqual(one.frame.dts + one.duration, other.frame.dts)
        primary = [sample for part in parts for run in part.runs if run.track is tracks[0] for sample in run.samples]
        for one, other in pairwise(primary):
            self.assertEqual(one.frame.dts + one.duration, other.frame.dts, "a hole in the primary track")

    def assertSamePictures(self, fed: Sequence[Frame], came: Sequence[Frame]) -> None:
        """
        The frames are the same, presented when they were to be.

        One that came off its beat behind a part that was closed ahead is decoded a little earlier or later; it is
        presented later, by less than a frame, if it came before the end of that part.
        """
        self.assertTrue([frame.data for frame in fed] == [frame.data for frame in came], (len(fed), len(came)))
        for one, other in zip(fed, came, strict=True):
            if one != other:
                self.assertEqual(
                    one, replace(other, dts=one.dts, composition_offset=one.composition_offset, duration=one.duration)
                )
                self.assertTrue(other.pts == one.pts or one.pts < other.pts == other.dts, f"{one} came as {other}")

    def assertDecodeTimesRise(self, parts: list[Part], *tracks: Track) -> None:
        """No decode time is before the end of the sample before it."""
        for track in tracks:
            samples = [sample for part in parts for run in part.runs if run.track is track for sample in run.samples]
            for one, other in pairwise(samples):
                self.assertLessEqual(one.frame.dts + one.duration, other.frame.dts)
                self.assertGreater(one.duration, 0)

    def assertPartition(self, parts: list[Part]) -> None:
        """Each part begins where the one before ends, and so do segments."""
        for part, following in pairwise(parts):
            self.assertEqual(part.start + part.duration, following.start)
            self.assertGreater(part.duration, 0)
        self.assertTrue(parts[0].starts_segment)

    def assertWithinConstants(self, parts: list[Part], segmenter: Segmenter, timescale: int) -> None:
        """No part and no segment is longer than was promised, and no part is too short unless it may be."""
        constants = segmenter.constants
        assert constants is not None
        for segment in segments_of(parts):
            seconds = duration_us(segment[0].start, segment[0].start + span(segment), timescale) / 1_000_000
            self.assertLess(seconds, constants.target_s + 0.5)
            for part in segment:
                ms = duration_us(part.start, part.start + part.duration, timescale) / 1000
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

    @slow
    def test_gops_begin_every_segment(self) -> None:
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
        self.assertEqual(2 * 90_000, span(parts_of(segmenter.add(frames[60]))))

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

    def test_audio_alone_is_cut_anywhere(self) -> None:
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
        """
        A part holds the audio that is presented while its pictures are, and what came too late for the part before:
        two frames and the delay of B-frames, no more.
        """
        video = video_frames(VIDEO, 6, gop=30, b_frames=2)
        parts, segmenter = cut(interleaved(video, audio_frames(AUDIO, 6.2)), VIDEO, AUDIO)
        self.assertOnKeyframes(parts)
        self.assertEqual(3_000, parts[0].start_pts)
        for part in parts[1:-1]:
            _, sound = part.runs
            begins, ends = part.start_pts - 2 * 3_000 - 1_920, part.start_pts + part.duration
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

    def test_without_parts_in_one_piece(self) -> None:
        """With ``part_ms=0`` a segment leaves in one piece."""
        frames = video_frames(VIDEO, 9, gop=30)
        parts, _ = cut(frames, VIDEO, cutting=Cutting(part_ms=0))
        self.assertEqual([[180_000]] * 4, [[part.duration for part in segment] for segment in segments_of(parts)][:4])
        self.assertWhole(parts, frames, VIDEO)


class AheadTests(SegmenterCase):
    """Where the next frame's time is known, parts do not wait for it."""

    def assertLeavesWithLastFrame(self, frames: Sequence[Frame], *tracks: Track) -> None:
        """Behind the opening every part leaves with its newest picture, and its segment's end with the keyframe."""
        segmenter = Segmenter(Cutting())
        segmenter.start(tracks)
        events: list[CutEvent] = []
        for frame in frames:
            had = len(events)
            events += segmenter.add(frame)
            for event in events[had:] if had else ():
                if isinstance(event, Part):
                    self.assertIs(frame, event.runs[0].samples[-1].frame)
                else:
                    self.assertIsInstance(event, SegmentEnd)
                    self.assertTrue(frame.keyframe)
                    self.assertEqual(frame.dts, event.end)
        parts = parts_of(events + segmenter.flush())
        self.assertCutWell(parts, segmenter, frames, *tracks)
        self.assertOnKeyframes(parts)
        ends = [segment[-1].end for segment in segments_of(parts)[1:-1]]
        self.assertGreater(len(ends), 1)
        self.assertEqual(ends, [part.end for part in parts if part.expected_last and ends[0] <= part.end <= ends[-1]])

    @slow
    def test_steady_streams_leave_ahead(self) -> None:
        """At every frame rate, with B-frames and with sound interleaved by decode time, in GOPs of whole parts."""
        for rate in RATES:
            for b_frames in (0, 2):
                part = 3 if rate == 10 else round(rate / 3)
                video = video_frames(VIDEO, 14, frame_rate=rate, gop=6 * part, b_frames=b_frames)
                self.assertLeavesWithLastFrame(video, VIDEO)
                sound = [frame for frame in audio_frames(AUDIO, 14) if frame.dts >= video[0].pts * 48_000 // 90_000]
                by_decode_time = sorted(
                    [*video, *sound],
                    key=lambda frame: (Fraction(frame.dts, frame.track.timescale), frame.track is AUDIO),
                )
                self.assertLeavesWithLastFrame(by_decode_time, VIDEO, AUDIO)

    def test_audio_alone_leaves_ahead(self) -> None:
        """Audio alone is as steady as can be; only what is too short for a part waits for the end of its segment."""
        segmenter = Segmenter(Cutting())
        segmenter.start((AUDIO,))
        events: list[CutEvent] = []
        for frame in audio_frames(AUDIO, 14):
            had = len(events)
            events += segmenter.add(frame)
            for event in events[max(had, 10) :]:
                if isinstance(event, Part) and event.duration >= 14 * 1_024:
                    self.assertIs(frame, event.runs[0].samples[-1].frame)
        self.assertGreater(len(parts_of(events + segmenter.flush())), 40)

    def test_gop_that_is_no_whole_number_of_parts(self) -> None:
        """A last part that is too short to stand in the middle of a segment is not closed on suspicion."""
        frames = video_frames(VIDEO, 14, gop=64)
        parts, segmenter = cut(frames, VIDEO)
        self.assertCutWell(parts, segmenter, frames, VIDEO)
        self.assertEqual([], [part.end for part in parts if part.expected_last])
        frames = video_frames(VIDEO, 14, gop=69)
        parts, segmenter = cut(frames, VIDEO)
        self.assertCutWell(parts, segmenter, frames, VIDEO)
        self.assertEqual({27_000}, {part.duration for part in parts if part.expected_last})

    def test_not_without_a_grid(self) -> None:
        """Off any rhythm, and without parts, every part waits for what comes after it."""
        times = [number * 100 // 3 * 90 for number in range(400)]
        segmenter = Segmenter(Cutting())
        segmenter.start((VIDEO,))
        for frame in video_frames_at(VIDEO, times, range(0, 400, 60)):
            for event in segmenter.add(frame):
                if isinstance(event, Part):
                    self.assertIsNot(frame, event.runs[0].samples[-1].frame)
                    self.assertFalse(event.expected_last)
        frames = video_frames(VIDEO, 14, gop=74)
        parts, _ = cut(frames, VIDEO, cutting=Cutting(part_ms=0))
        self.assertEqual({222_000}, {part.duration for part in parts[:-1]})
        self.assertFalse(any(part.expected_last for part in parts))

    @slow
    def test_drops_at_a_boundary(self) -> None:
        """Frames that are missing right behind a part that has left: decode times continue, pictures keep theirs."""
        for dropped in (1, 2, 7, 8, 9, 12, 30, 49):
            for rate in (Fraction(30), Fraction(24_000, 1001), Fraction(60)):
                part = round(rate / 3)
                for first in (6 * part + 2 * part, 11 * part, 12 * part + 1):
                    missing = range(first, first + dropped)
                    video = video_frames(VIDEO, 9, frame_rate=rate, gop=6 * part, dropped=missing)
                    parts, segmenter = cut(video, VIDEO)
                    self.assertCutWell(parts, segmenter, video, VIDEO)
                    self.assertOnKeyframes(parts)
                    self.assertEqual([frame.pts for frame in video], [frame.pts for frame in frames_in(parts, VIDEO)])
                    both = interleaved(video, audio_frames(AUDIO, 9))
                    parts, segmenter = cut(both, VIDEO, AUDIO)
                    self.assertCutWell(parts, segmenter, both, VIDEO, AUDIO)
                    self.assertOnKeyframes(parts)
                    self.assertNotIn((), [part.runs for part in parts])

    def test_keyframes_that_are_missing(self) -> None:
        """If a keyframe is lost with its neighbours, the segment continues, and decode times with it."""
        for first in (119, 120, 121, 178, 180):
            video = [frame for frame in video_frames(VIDEO, 12, gop=30) if not first <= frame.dts // 3_000 < first + 5]
            parts, segmenter = cut(video, VIDEO)
            self.assertCutWell(parts, segmenter, video, VIDEO)

    def test_faster_of_a_sudden(self) -> None:
        """Frames that come before the end of what has left begin there, and every one comes out."""
        for step in (100, 750, 1_500, 2_900):
            times = [*range(0, 390_000, 3_000), *range(387_000 + step, 600_000, step)]
            video = video_frames_at(VIDEO, times, range(0, len(times), 60))
            parts, segmenter = cut(video, VIDEO)
            self.assertCutWell(parts, segmenter, video, VIDEO)

    def test_other_keyframes_than_expected(self) -> None:
        """A keyframe out of turn, or one that does not come, is reported, and segments still begin on keyframes."""
        for keyframes in ([0, 60, 120, 180, 230, 290, 350], [0, 60, 120, 190, 250, 310], [0, 60, 120, 181, 240, 300]):
            video = video_frames_at(VIDEO, range(0, 3_000 * 360, 3_000), keyframes)
            segmenter = Segmenter(Cutting())
            segmenter.start((VIDEO,))
            events = events_of(segmenter, video) + segmenter.flush()
            parts = parts_of(events)
            self.assertCutWell(parts, segmenter, video, VIDEO)
            self.assertOnKeyframes(parts)
            self.assertEqual(180 not in keyframes, SegmentContinued() in events)

    def test_refuted_with_the_very_next_frame(self) -> None:
        """That a segment continues is reported when the frame comes that is no keyframe, not when its part is whole."""
        video = video_frames_at(VIDEO, range(0, 3_000 * 240, 3_000), [0, 60, 190])
        segmenter = Segmenter(Cutting())
        segmenter.start((VIDEO,))
        events_of(segmenter, video[:119])
        (part,) = segmenter.add(video[119])
        self.assertTrue(isinstance(part, Part) and part.expected_last)
        self.assertEqual([SegmentContinued()], segmenter.add(video[120]))

    def test_end_right_behind_a_part(self) -> None:
        """A range that ends with a part that has left ends its segment there; sound that is left is a part itself."""
        for b_frames in (0, 2):
            video = video_frames(VIDEO, 6, b_frames=b_frames)
            parts, segmenter = cut(video, VIDEO)
            self.assertCutWell(parts, segmenter, video, VIDEO)
            self.assertEqual(540_000, parts[-1].end)
            both = interleaved(video, audio_frames(AUDIO, 6.4))
            parts, segmenter = cut([*both, *audio_frames(AUDIO, 0.1, start=round(6.4 * 48_000))], VIDEO, AUDIO)
            self.assertPartition(parts)
            self.assertEqual(305, len(frames_in(parts, AUDIO)))


class LagTests(SegmenterCase):
    """How far sound may be behind before a part waits for it."""

    def newest_sound_ms(self, late_ms: int, b_frames: int = 2) -> list[Fraction]:
        """By how much the sound in each part but the first and last falls short of the pictures' end."""
        video = video_frames(VIDEO, 12, b_frames=b_frames)
        frames = interleaved(video, delayed(audio_frames(AUDIO, 12.2), late_ms))
        parts, segmenter = cut(frames, VIDEO, AUDIO)
        self.assertCutWell(parts, segmenter, frames, VIDEO, AUDIO)
        ends = []
        for part in parts[1:-1]:
            if part.end > video[-1].dts:
                break
            last = part.runs[1].samples[-1].frame
            ends.append(Fraction(part.start_pts + part.duration, 90) - Fraction(last.dts + last.duration, 48))
        return ends

    def test_bound_on_late_sound(self) -> None:
        """No more is missing in a part than interleaving explains, however late the sound is, up to half a second."""
        bound_ms = Fraction(3_000 + 3_000, 90) + Fraction(1_024, 48)
        for late_ms in (-900, -200, -30, 0, 30, 100, 200, 400):
            missing = self.newest_sound_ms(late_ms)
            self.assertLessEqual(max(missing), bound_ms)
            if late_ms <= -200:
                self.assertLessEqual(max(missing), Fraction(1_024, 48), "it was all there")
        self.assertGreater(max(self.newest_sound_ms(800)), 200)


class PauseTests(SegmenterCase):
    """The pause of one track, however far apart the clocks of the tracks are, never stops the other."""

    def cut_at_once(self, frames: Sequence[Frame], *tracks: Track) -> tuple[list[Part], float]:
        """The parts, and the longest time in seconds for which none came; all that must always hold is checked."""
        segmenter = Segmenter(Cutting())
        segmenter.start(tracks)
        events: list[CutEvent] = []
        longest, since = 0, 0
        for frame in frames:
            done = segmenter.add(frame)
            if events:
                longest = max(longest, frame.arrived_ms - since)
            if done:
                events, since = events + done, frame.arrived_ms
        parts = parts_of(events + segmenter.flush())
        self.assertPartition(parts)
        self.assertWithinConstants(parts, segmenter, 90_000)
        self.assertDecodeTimesRise(parts, *tracks)
        for track in tracks:
            fed = [frame for frame in frames if frame.track is track]
            self.assertEqual(len(fed), len(came_of(fed, parts, track)), track.kind)
        return parts, longest / 1000

    def assertEveryPartHas(self, parts: Sequence[Part], *tracks: Track) -> None:
        """Each track is in each part but the last, and no time is without a sample of it."""
        for part in parts[:-1]:
            self.assertEqual(list(tracks), [run.track for run in part.runs])
        for track in tracks:
            samples = [sample for part in parts for run in part.runs if run.track is track for sample in run.samples]
            for one, other in pairwise(samples):
                self.assertEqual(one.frame.dts + one.duration, other.frame.dts)

    def test_microphone_off_is_silence(self) -> None:
        """Silence takes the place of audio that pauses or ends: frames of the codec, as long as the others."""
        for returns in (20, 100):
            audio = [frame for frame in audio_frames(AUDIO, 30) if not 10 <= frame.dts / 48_000 < returns]
            parts, longest = self.cut_at_once(interleaved(video_frames(VIDEO, 30), audio), VIDEO, AUDIO)
            self.assertEveryPartHas(parts, VIDEO, AUDIO)
            self.assertLess(longest, 1)
            frames = frames_in(parts, AUDIO)
            self.assertEqual(list(range(0, frames[-1].dts + 1, 1_024)), [frame.dts for frame in frames])
            self.assertGreater(frames[-1].dts, 29.9 * 48_000)
            silence = {frame.data for frame in frames} - {frame.data for frame in audio}
            self.assertEqual({bytes.fromhex("21000000001c")}, silence)

    def test_any_number_of_tracks(self) -> None:
        """Of several audio tracks each has its own silence, and all are in each part in order."""
        other = make_audio_track(44_100, 1, id=3)
        first = [frame for frame in audio_frames(AUDIO, 20) if not 5 <= frame.dts / 48_000 < 12]
        second = [frame for frame in audio_frames(other, 20) if frame.dts / 44_100 < 8]
        frames = interleaved(video_frames(VIDEO, 20), first, second)
        parts, longest = self.cut_at_once(frames, VIDEO, AUDIO, other)
        self.assertEveryPartHas(parts, VIDEO, AUDIO, other)
        self.assertLess(longest, 1)

    def test_camera_off_repeats_the_keyframe(self) -> None:
        """The last keyframe stands in for pictures that pause, once a part; segments begin with it."""
        video = [frame for frame in video_frames(VIDEO, 30) if not 10 <= frame.dts / 90_000 < 20]
        parts, longest = self.cut_at_once(interleaved(video, audio_frames(AUDIO, 30)), VIDEO, AUDIO)
        self.assertEveryPartHas(parts, VIDEO, AUDIO)
        self.assertOnKeyframes(parts)
        self.assertLess(longest, 1.8)
        (keyframe,) = [frame for frame in video if frame.dts == 8 * 90_000]
        stills = [frame for frame in frames_in(parts, VIDEO) if 10 * 90_000 < frame.dts < 20 * 90_000]
        self.assertEqual({keyframe.data}, {frame.data for frame in stills})
        self.assertGreater(len(stills), 27)

    def test_camera_returns_without_a_keyframe(self) -> None:
        """Before pictures that continue in mid-GOP their GOP is decoded again, in order, and none shows late."""
        for b_frames in (0, 2):
            pictures = video_frames(VIDEO, 30, b_frames=b_frames)
            video = [frame for frame in pictures if not 10.5 <= frame.dts / 90_000 < 17.3]
            parts, _ = self.cut_at_once(interleaved(video, audio_frames(AUDIO, 30)), VIDEO, AUDIO)
            self.assertEveryPartHas(parts, VIDEO, AUDIO)
            came = frames_in(parts, VIDEO)
            (back,) = [index for index, frame in enumerate(came) if frame.data == video[315].data]
            gop = [frame for frame in video[:315] if frame.dts >= 10 * 90_000]
            again = came[back - len(gop) : back]
            self.assertEqual([frame.data for frame in gop], [frame.data for frame in again])
            order = [frame.data for frame in sorted(gop, key=lambda frame: frame.pts)]
            self.assertEqual(order, [frame.data for frame in sorted(again, key=lambda frame: frame.pts)])
            self.assertLess(max(frame.pts for frame in again), came[back].pts)
            self.assertGreaterEqual(min(frame.composition_offset for frame in came), 0)

    def test_clocks_far_apart(self) -> None:
        """Audio that is ahead or behind, from the start or by a jump, takes no picture and stops nothing."""
        both = interleaved(video_frames(VIDEO, 30), audio_frames(AUDIO, 30))
        for after_s in (0, 10):
            for by_s in (2, 8, 52):
                frames = [
                    replace(frame, dts=frame.dts + round(by_s * 46.875) * 1_024)
                    if frame.track is AUDIO and frame.dts >= after_s * 48_000
                    else frame
                    for frame in both
                ]
                parts, longest = self.cut_at_once(frames, VIDEO, AUDIO)
                self.assertEveryPartHas(parts[:-1], VIDEO, AUDIO)
                self.assertOnKeyframes(parts)
                self.assertLess(longest, 0.5)
                self.assertEqual({3_000}, {sample.duration for part in parts[:-1] for sample in part.runs[0].samples})

    def test_pictures_that_come_late(self) -> None:
        """Pictures that were held up, or whose clock stood still for their pause, are decoded all the same."""
        pictures = video_frames(VIDEO, 30)
        for late_ms, moved_s in ((3_000, 0), (8_000, 8)):
            later = [replace(frame, dts=frame.dts - moved_s * 90_000) for frame in pictures[540:]]
            video = [*pictures[:300], *delayed(later, late_ms if not moved_s else 0)]
            parts, longest = self.cut_at_once(interleaved(video, audio_frames(AUDIO, 30)), VIDEO, AUDIO)
            self.assertLess(longest, 2.5)
            self.assertGreater(parts[-1].end, 28.5 * 90_000)

    def test_both_pause_makes_a_gap(self) -> None:
        """Where nothing comes at all, there is a gap and no silence."""
        both = interleaved(video_frames(VIDEO, 60), audio_frames(AUDIO, 60))
        frames = [frame for frame in both if not 10 <= frame.dts / frame.track.timescale < 50]
        parts, _ = self.cut_at_once(frames, VIDEO, AUDIO)
        self.assertGreater(sum(not part.runs for part in parts), 100)


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
        parts = parts_of(events_of(segmenter, frames) + segmenter.flush())
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
                parts = parts_of(events_of(segmenter, frames) + segmenter.flush())
                self.assertCutWell(parts, segmenter, frames, VIDEO)

    def test_freeze_is_cut_in_parts(self) -> None:
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

    def test_audio_lags_half_a_second(self) -> None:
        """Parts wait for audio half a second, then leave without it; it comes with later ones, none is lost."""
        frames = interleaved(video_frames(VIDEO, 8, gop=30), delayed(audio_frames(AUDIO, 8), 1_500))
        segmenter = Segmenter(Cutting())
        segmenter.start((VIDEO, AUDIO))
        latest, events = 0, []
        for frame in frames:
            done = segmenter.add(frame)
            latest = frame.dts if frame.track is VIDEO else latest
            if events and done and isinstance(done[0], Part):
                self.assertLess(latest - done[0].start, 90_000)
            events += done
        parts = parts_of(events + segmenter.flush())
        self.assertCutWell(parts, segmenter, frames, VIDEO, AUDIO)

    def test_audio_ceases_and_video_continues(self) -> None:
        """Video continues when audio does not, half a second later."""
        frames = interleaved(video_frames(VIDEO, 9, gop=30), audio_frames(AUDIO, 3))
        parts, segmenter = cut(frames, VIDEO, AUDIO)
        self.assertCutWell(parts, segmenter, frames, VIDEO, AUDIO)

    def test_video_ceases_and_audio_continues(self) -> None:
        """After three target durations without a picture audio continues alone, and nothing is held any longer."""
        frames = interleaved(video_frames(VIDEO, 4, gop=30), audio_frames(AUDIO, 30))
        segmenter = Segmenter(Cutting())
        segmenter.start((VIDEO, AUDIO))
        events: list[CutEvent] = []
        for frame in frames:
            events += segmenter.add(frame)
            if events:
                end = next(event.end for event in reversed(events) if isinstance(event, (Part, SegmentEnd)))
                behind = frame.dts / frame.track.timescale - end / 90_000
                self.assertLess(behind, 6.5)
        self.assertLess(behind, 1)
        parts = parts_of(events + segmenter.flush())
        self.assertCutWell(parts, segmenter, frames, VIDEO, AUDIO)

    def test_video_returns_and_joins_in(self) -> None:
        """Pictures that come back after that join in where they belong."""
        pictures = [*video_frames(VIDEO, 4, gop=30), *video_frames(VIDEO, 4, gop=30, start=20 * 90_000)]
        frames = interleaved(pictures, audio_frames(AUDIO, 25))
        parts, segmenter = cut(frames, VIDEO, AUDIO)
        self.assertPartition(parts)
        self.assertWithinConstants(parts, segmenter, 90_000)
        self.assertTrue(pictures == came_of(pictures, parts, VIDEO))
        late = interleaved(pictures[:120], audio_frames(AUDIO, 25), delayed(pictures[120:], 5_000))
        parts, segmenter = cut(late, VIDEO, AUDIO)
        self.assertPartition(parts)
        self.assertDecodeTimesRise(parts, VIDEO)
        self.assertEqual(len(pictures), len(came_of(pictures, parts, VIDEO)))

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
        events = events_of(segmenter, video_frames(VIDEO, 4, gop=30, start=60 * 90_000))
        parts = parts_of(events + segmenter.flush())
        self.assertGreater(parts[0].runs[1].samples[0].frame.dts, 49 * 48_000)

    def test_sound_without_a_picture(self) -> None:
        """A range with audio of a video stream alone leaves nothing."""
        parts, _ = cut(audio_frames(AUDIO, 3), VIDEO, AUDIO)
        self.assertEqual([], parts)

    def test_single_frames_make_single_parts(self) -> None:
        """One frame makes one part, as long as it is said to be."""
        for track, frame in ((VIDEO, video_frames(VIDEO, 0.04)[0]), (AUDIO, audio_frames(AUDIO, 0.02)[0])):
            parts, segmenter = cut([frame], track)
            self.assertEqual([frame.duration], [part.duration for part in parts])
            self.assertCutWell(parts, segmenter, [frame], track)

    def test_an_opening_without_end(self) -> None:
        """A first GOP of very many bytes does not wait for its end."""
        frames = video_frames(VIDEO, 4, gop=1_000, size=1 << 20)
        segmenter = Segmenter(Cutting())
        segmenter.start((VIDEO,))
        held = next(number for number, frame in enumerate(frames) if segmenter.add(frame))
        self.assertLess(held, 60)
        self.assertEqual(10, segmenter.constants and segmenter.constants.target_s)


@slow
class AnyStreamTests(SegmenterCase):
    """What holds for every stream."""

    @given(st.one_of(videos(), free_videos(), changing_videos()), cuttings)
    def test_video_of_any_shape(self, frames: list[Frame], cutting: Cutting) -> None:
        """Video alone, of any shape, is cut well."""
        parts, segmenter = cut(frames, VIDEO, cutting=cutting)
        self.assertCutWell(parts, segmenter, frames, VIDEO)

    @given(st.one_of(videos(90_000), free_videos(90_000), changing_videos(90_000)), audios, cuttings)
    def test_video_and_audio(self, video: list[Frame], audio: list[Frame], cutting: Cutting) -> None:
        """Video with audio that leads or lags, begins late or ends early, is cut well, and no picture is lost."""
        frames = interleaved(video, audio)
        parts, segmenter = cut(frames, VIDEO, AUDIO, cutting=cutting)
        self.assertPartition(parts)
        self.assertWithinConstants(parts, segmenter, 90_000)
        self.assertDecodeTimesRise(parts, VIDEO, AUDIO)
        self.assertEqual(len(video), len(came_of(video, parts, VIDEO)))

    @given(st.integers(1, 60), st.sampled_from(RATES), st.integers(0, 3), cuttings)
    def test_regular_gops_are_cut(self, half_seconds: int, rate: Fraction, b_frames: int, cutting: Cutting) -> None:
        """With GOPs of one length, up to 10 s, every segment begins with a keyframe."""
        gop = max(1, round(rate * min(half_seconds, 20) / 2))
        frames = video_frames(VIDEO, 25, frame_rate=rate, gop=gop, b_frames=b_frames, size=20)
        parts, segmenter = cut(frames, VIDEO, cutting=cutting)
        self.assertCutWell(parts, segmenter, frames, VIDEO)
        self.assertOnKeyframes(parts)

    @given(
        st.lists(
            st.tuples(st.one_of(videos(seconds=4), free_videos(), changing_videos()), st.booleans()),
            min_size=1,
            max_size=4,
        )
    )
    def test_ranges_keep_the_constants(self, ranges: list[tuple[list[Frame], bool]]) -> None:
        """Each range between discontinuities is cut well, by the constants of the first."""
        segmenter = Segmenter(Cutting())
        for index, (frames, with_audio) in enumerate(ranges):
            begin = index * 100_000_000
            shifted = [replace(frame, dts=frame.dts + begin) for frame in frames]
            tracks = (VIDEO, AUDIO) if with_audio else (VIDEO,)
            segmenter.start(tracks)
            before = segmenter.constants
            parts = parts_of(events_of(segmenter, shifted) + segmenter.flush())
            self.assertCutWell(parts, segmenter, shifted, VIDEO)
            self.assertTrue(before in (None, segmenter.constants))
