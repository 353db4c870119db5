"""What publishers' clocks do, and the timeline that is to come of it: through the demuxer, message by message."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.demuxer import Demuxer, Discontinuity, MediaEvent, TimelinePolicy, TracksChanged
from rapidrtmp.media import Frame, MediaKind
from rapidrtmp.timeline.audio_clock import AudioClock
from tests.codec.builders import (
    ASC_44K,
    END_OF_VIDEO,
    Message,
    aac_48k,
    audio,
    audio_messages,
    configs,
    demux,
    every,
    frames_of,
    interleaved,
    mark_of,
    picture,
    problems_of,
    shifted,
    sound,
    steps,
    video,
    video_config,
    video_messages,
)
from tests.slow import slow

VIDEO, AUDIO = MediaKind.VIDEO, MediaKind.AUDIO


def publish(seconds: int = 4, rate: int = 30) -> list[Message]:
    """Video and 48 kHz AAC together, from 0 on; a keyframe a second."""
    audio_count = seconds * 48_000 // 1024
    return interleaved(video_messages(every(rate, seconds * rate), gop=rate), audio_messages(aac_48k(audio_count)))


class SteadyClockTests(SynchronousTestCase):
    @slow
    def test_t1_aac_at_48_khz(self) -> None:
        """T1: an hour of 48 kHz AAC steps by exactly 1024 samples and ends where it should."""
        for jitter in (0, 5):
            noise = random.Random(1)
            clock, count = AudioClock(48_000, 1024, TimelinePolicy()), 3600 * 48_000 // 1024
            for index, time in enumerate(aac_48k(count)):
                arrival = (time + noise.randint(-jitter, jitter)) * 48
                self.assertIsNone(clock.place(arrival, 1024))
                if not index:
                    first = clock.dts
                self.assertEqual((first + index * 1024, 1024), (clock.dts, clock.duration))
            self.assertLessEqual(abs(clock.dts - (count - 1) * 1024), 1024)

    def test_t1_through_the_demuxer(self) -> None:
        """T1: a minute of it, from messages to frames."""
        frames = frames_of(demux(configs(has_video=False) + list(audio_messages(aac_48k(2812)))), AUDIO)
        self.assertEqual([(index * 1024, 1024) for index in range(2812)], [(f.dts, f.duration) for f in frames])

    def test_t2_aac_at_44_1_khz(self) -> None:
        """T2: 44.1 kHz AAC with timestamps rounded down lasts 1024 samples a frame, 172 of them 3.99383 s."""
        times = [index * 1024 * 10 // 441 for index in range(2000)]
        frames = frames_of(demux(configs(asc=ASC_44K, has_video=False) + list(audio_messages(times))), AUDIO)
        self.assertEqual({1024}, set(steps(frames)) | {frame.duration for frame in frames})
        self.assertEqual("3.99383", f"{(frames[172].dts - frames[0].dts) / 44_100:.5f}")

    def test_t3_30_a_second(self) -> None:
        """T3: 0, 34, 67, 100 ms at 30 frames a second are 3000 ticks apart, from the first frame on."""
        times = [-(-index * 1000 // 30) for index in range(150)]
        for claim in (None, Fraction(30)):
            frames = frames_of(demux(configs(claim, asc=None) + list(video_messages(times))), VIDEO)
            self.assertEqual([(index * 3000, 3000) for index in range(150)], [(f.dts, f.duration) for f in frames])

    def test_t4_29_97_a_second(self) -> None:
        """T4: 29.97 frames a second are 3003 ticks apart, claimed or not, with or without audio."""
        rate = Fraction(30_000, 1001)
        for claim in (None, rate, Fraction(2997, 100)):
            for sounds in ([], aac_48k(230)):
                messages = interleaved(video_messages(every(rate, 150)), audio_messages(sounds))
                frames = frames_of(demux(configs(claim) + messages), VIDEO)
                self.assertEqual({3003}, set(steps(frames)) | {frame.duration for frame in frames})
                self.assertEqual(150, len(frames))

    def test_23_976_a_second(self) -> None:
        """23.976 frames a second last 3753 or 3754 ticks, and as much as they should in sum."""
        rate = Fraction(24_000, 1001)
        frames = frames_of(demux(configs(rate) + list(video_messages(every(rate, 241)))), VIDEO)
        self.assertEqual({3753, 3754}, set(steps(frames)))
        self.assertEqual(60 * 15_015, frames[240].dts)

    def test_t5_dropped_frames(self) -> None:
        """T5: where three frames were dropped, one frame lasts four times as long, all others as they should."""
        times = every(30, 200)
        del times[100:103]
        frames = frames_of(demux(configs(Fraction(30)) + list(video_messages(times))), VIDEO)
        expected = [3000] * 196
        expected[99] = 12_000
        self.assertEqual(expected, steps(frames))

    def test_rate_is_known_late(self) -> None:
        """Frames too slow to be measured at the start keep their times, and step onto the grid at a keyframe."""
        events = demux(configs() + interleaved(video_messages(every(10, 150), gop=20), audio_messages(aac_48k(700))))
        frames = frames_of(events, VIDEO)
        self.assertEqual({9000}, set(steps(frames)[60:]))
        self.assertLessEqual({abs(step - 9000) <= 180 for step in steps(frames)}, {True})

    def test_t13_negative_composition(self) -> None:
        """T13: composition offsets of -33, 0, 67 and 133 ms put presentation times on the grid of the frames."""
        times, offsets = every(30, 120), (-33, 0, 67, 133)
        messages = [
            video(time, picture(index % 40 == 0, offsets[index % 4], index)) for index, time in enumerate(times)
        ]
        frames = frames_of(demux(configs(Fraction(30)) + messages), VIDEO)
        self.assertEqual({3000}, set(steps(frames)))
        self.assertEqual([-3000, 0, 6000, 12_000] * 30, [frame.composition_offset for frame in frames])
        self.assertTrue(0 <= frames[0].pts < 90)

    def test_t13_two_b_frames(self) -> None:
        """T13: with two B-frames between others, every place on the grid is presented exactly once."""
        shown = [0] + [3 * group + place for group in range(40) for place in (3, 1, 2)]
        times = every(30, len(shown) + 1)
        messages = [
            video(times[index], picture(index == 0, times[place] - times[index], index))
            for index, place in enumerate(shown)
        ]
        frames = frames_of(demux(configs() + messages), VIDEO)
        self.assertEqual([3000 * index for index in range(len(shown))], sorted(frame.pts for frame in frames))
        self.assertEqual({-3000, 0, 6000}, {frame.composition_offset for frame in frames})

    def test_t17_nanoseconds_are_exact(self) -> None:
        """T17: nanosecond offsets make 60 frames a second exactly 1500 ticks apart, on a grid or off it."""
        instants = [index * 1_000_000_000 // 60 for index in range(240)]
        for gop in (60, 1):
            messages = [
                video(ns // 1_000_000, picture(index % gop == 0, 0, index, nanoseconds=ns % 1_000_000))
                for index, ns in enumerate(instants)
            ]
            frames = frames_of(demux(configs() + messages), VIDEO)
            self.assertEqual({1500}, set(steps(frames)))

    def test_t18_doubled_timestamps(self) -> None:
        """T18: two pictures at one time are one tick apart, and those that follow where they belong."""
        times = every(30, 90)
        times.insert(50, times[50])
        frames = frames_of(demux(configs(Fraction(30)) + list(video_messages(times, gop=100))), VIDEO)
        self.assertEqual([3000, 1, 2999, 3000], steps(frames)[49:53])
        self.assertEqual(89 * 3000, frames[-1].dts)

    def test_t20_audio_only(self) -> None:
        """T20: audio alone starts after two seconds; every frame is a keyframe, on the grid of its samples."""
        events = demux(configs(has_video=False) + list(audio_messages(aac_48k(200))))
        self.assertEqual([("mp4a", 2)], [(t.codec, t.id) for t in _only_tracks(self, events)])
        frames = frames_of(events, AUDIO)
        self.assertEqual([(index * 1024, True, 0) for index in range(200)], [_facts(frame) for frame in frames])


def _facts(frame: Frame) -> tuple[int, bool, int]:
    return frame.dts, frame.keyframe, frame.composition_offset


def _only_tracks(test: SynchronousTestCase, events: list[MediaEvent]) -> tuple[object, ...]:
    changes = [event for event in events if isinstance(event, TracksChanged)]
    test.assertEqual(1, len(changes))
    test.assertEqual([], [event for event in events if isinstance(event, Discontinuity)])
    return changes[0].tracks


class WrapTests(SynchronousTestCase):
    def test_t6_wraps_change_nothing(self) -> None:
        """T6: a clock that wraps at 2^32, 2^31 or 2^24 in the middle of a GOP makes the same frames as one from 0."""
        messages = publish()
        expected = [
            (event.dts, event.duration, event.track.kind)
            for event in demux(configs() + messages)
            if isinstance(event, Frame)
        ]
        for modulus in (1 << 32, 1 << 31, 1 << 24):
            for lead_ms in (300, 2_517):  # while frames are still held, and later
                events = demux(configs() + shifted(messages, modulus - lead_ms, modulus))
                frames = [event for event in events if isinstance(event, Frame)]
                self.assertEqual(expected, [(f.dts, f.duration, f.track.kind) for f in frames])
                _only_tracks(self, events)

    def test_crossing_2_31(self) -> None:
        """A clock that counts on past 2^31 is continuous too."""
        events = demux(configs() + shifted(publish(), (1 << 31) - 2_517))
        self.assertEqual({3000}, set(steps(frames_of(events, VIDEO))))
        _only_tracks(self, events)

    def test_t7_end_of_sequence(self) -> None:
        """T7: the end of sequence that encoders send at 0 moves nothing, and the last frame lasts as long as any."""
        demuxer = Demuxer()
        events = demux(
            [*configs(), *shifted(publish(), 90_000), video(0, END_OF_VIDEO), audio(0, b"\x92mp4a")], demuxer
        )
        frames = frames_of(events, VIDEO)
        self.assertEqual(({3000}, 3000), (set(steps(frames)), frames[-1].duration))
        self.assertEqual(4_000, demuxer.end_ms)
        _only_tracks(self, events)
        self.assertEqual([], problems_of(events))

    @slow
    def test_t8_repeated_configs(self) -> None:
        """T8: codec configs repeated at 0 in mid-stream change nothing."""
        messages = shifted(publish(), 90_000)
        events = demux(configs() + messages[:150] + configs() + messages[150:])
        self.assertEqual(demux(configs() + messages, now_ms=lambda _: 0), _at_once(events))

    def test_odd_payloads_do_not_touch_the_clock(self) -> None:
        """Empty messages, pictures without a slice and things unheard of move nothing, whatever their timestamp."""
        messages = shifted(publish(), 90_000)
        odd = [
            audio(0, b""),
            audio(5, b"\xaf\x01"),
            video(7, b"\x27\x01\0\0\0"),
            video(0, b"\x57\x00"),
            video(0, b"\x17\x01\0\0\0\0\0\0\x02\x09\xf0"),
        ]
        events = demux(configs() + messages[:150] + odd + messages[150:])
        kinds = [event for event in events if isinstance(event, Frame)]
        self.assertEqual(len(messages), len(kinds))
        self.assertEqual({3000}, set(steps(frames_of(events, VIDEO))))
        _only_tracks(self, events)


def _at_once(events: list[MediaEvent]) -> list[MediaEvent]:
    """The events as if all had arrived at 0."""
    return [replace(event, arrived_ms=0) if isinstance(event, Frame) else event for event in events]


class StartTests(SynchronousTestCase):
    def test_t9_audio_leads(self) -> None:
        """T9: audio that leads by 1.5 s is trimmed: the stream starts at the keyframe, with its sound."""
        events = demux(configs() + interleaved(video_messages(every(30, 90, 1500)), audio_messages(aac_48k(210))))
        self.assertEqual(2, len(_only_tracks(self, events)))
        video_frame, audio_frame = frames_of(events, VIDEO)[0], frames_of(events, AUDIO)[0]
        # Frame 70 runs from 1493 to 1515 ms: the one that overlaps the keyframe at 1500 ms.
        self.assertEqual((70, 0), (mark_of(audio_frame), audio_frame.dts))
        self.assertEqual((0, 7 * 90), (mark_of(video_frame), video_frame.dts))
        self.assertEqual(["trimmed"] * 70, problems_of(events))

    def test_t9_audio_never_comes(self) -> None:
        """T9: video whose audio never comes starts alone after two seconds of media, after five if it is announced."""
        for metadata, seconds in (({}, 2), ({"hasAudio": True}, 5), ({"audiocodecid": 10.0}, 5)):
            demuxer = Demuxer()
            demuxer.metadata_received(metadata)
            demuxer.video_received(0, video_config(), 0)
            started = [
                index / 30
                for index, message in enumerate(video_messages(every(30, 300)))
                if demuxer.video_received(message.timestamp, message.payload, 0)
            ]
            self.assertEqual(seconds, started[0])

    def test_t9_wall_clock(self) -> None:
        """T9: a publisher whose timestamps stand still starts after five seconds of the server's clock."""
        demuxer = Demuxer()
        self.assertEqual([], demuxer.video_received(0, video_config(), 1_000))
        self.assertEqual([], demuxer.video_received(0, picture(keyframe=True), 1_040))
        self.assertEqual([], demuxer.poll(5_999))
        events = demuxer.poll(6_000)
        self.assertEqual(1, len(_only_tracks(self, events)))
        self.assertEqual([0], [frame.dts for frame in frames_of(events, VIDEO)])

    def test_first_frame_after_the_wait(self) -> None:
        """A publisher that thinks for six seconds before its first frame still starts with both tracks."""
        demuxer = Demuxer()
        for message in configs():
            (demuxer.video_received if message.kind is VIDEO else demuxer.audio_received)(0, message.payload, 0)
        events = demux(publish(), demuxer, now_ms=lambda index: 6_000 + 14 * index)
        self.assertEqual(2, len(_only_tracks(self, events)))

    def test_within_a_gop(self) -> None:
        """Frames come out with the second keyframe at the latest, even if the rate is not known by then."""
        demuxer = Demuxer()
        seen = []
        for message in configs() + interleaved(video_messages(every(30, 60), gop=15), audio_messages(aac_48k(90))):
            receive = demuxer.video_received if message.kind is VIDEO else demuxer.audio_received
            if receive(message.timestamp, message.payload, 0):
                seen.append(message.timestamp)
        self.assertEqual(500, seen[0])

    def test_long_gop_comes_after_a_second(self) -> None:
        """Without a second keyframe frames come out after a second at the latest."""
        demuxer = Demuxer()
        times = [index * 41 + index % 3 * 7 for index in range(100)]
        events: list[MediaEvent] = []
        for message in configs() + interleaved(video_messages(times, gop=1000), audio_messages(aac_48k(90))):
            receive = demuxer.video_received if message.kind is VIDEO else demuxer.audio_received
            events = receive(message.timestamp, message.payload, 0)
            if events:
                self.assertTrue(1000 <= message.timestamp < 1050, message.timestamp)
                break
        self.assertEqual(2, len(_only_tracks(self, events)))

    def test_late_audio_begins_at_a_later_keyframe(self) -> None:
        """When audio begins 1.5 s after the video, the stream begins with the keyframe next to it."""
        events = demux(
            configs() + interleaved(video_messages(every(30, 120), gop=15), audio_messages(aac_48k(120, 1500)))
        )
        self.assertEqual([45, 0], [mark_of(frames_of(events, kind)[0]) for kind in (VIDEO, AUDIO)])
        self.assertEqual([0, 0], [frames_of(events, kind)[0].dts for kind in (VIDEO, AUDIO)])
        self.assertEqual(["trimmed"] * 45, problems_of(events))

    def test_slightly_late_audio(self) -> None:
        """Audio that begins 0.4 s after the video stays where it is."""
        events = demux(configs() + interleaved(video_messages(every(30, 90)), audio_messages(aac_48k(120, 400))))
        self.assertEqual([0, 19_200], [frames_of(events, kind)[0].dts for kind in (VIDEO, AUDIO)])

    def test_b_frames_and_priming(self) -> None:
        """What an encoder with B-frames says of audio and video stays true: picture at 67 ms, sound at 46 ms."""
        messages = interleaved(
            [video(time, picture(index == 0, 67, index)) for index, time in enumerate(every(30, 90))],
            audio_messages(aac_48k(120, 46)),
        )
        events = demux(configs() + shifted(messages, 5_000))
        video_frame, audio_frame = frames_of(events, VIDEO)[0], frames_of(events, AUDIO)[0]
        self.assertEqual((0, 6000, 46 * 48), (video_frame.dts, video_frame.pts, audio_frame.dts))

    def test_continues_another_publisher(self) -> None:
        """A later publisher of a stream begins where the one before has ended."""
        first = Demuxer()
        demux(configs() + publish(), first)
        second = Demuxer(start_ms=first.end_ms)
        events = demux(configs() + shifted(publish(), 123_456), second)
        self.assertEqual(4_000, first.end_ms)
        self.assertEqual([360_000, 192_000], [frames_of(events, kind)[0].dts for kind in (VIDEO, AUDIO)])
        self.assertEqual(8_000, second.end_ms)


class JumpTests(SynchronousTestCase):
    def test_jump_is_one_discontinuity(self) -> None:
        """Where the clock jumps there is one discontinuity; then a keyframe, with the sound that goes along."""
        for jump_ms in (3_600_000, -3_600_000, -5_000):
            before = shifted(publish(), 4_000_000)
            events = demux(configs() + before + shifted(publish(), 4_004_000 + jump_ms))
            self.assertEqual([Discontinuity("timestamp jump")], [e for e in events if isinstance(e, Discontinuity)])
            self.assertEqual(1, len([e for e in events if isinstance(e, TracksChanged)]))
            pictures, sounds = frames_of(events, VIDEO), frames_of(events, AUDIO)
            self.assertEqual({3000}, set(steps(pictures)))
            self.assertEqual((240, 374), (len(pictures), len(sounds)))
            self.assertTrue(pictures[120].keyframe)
            self.assertEqual([360_000, 192_000], [pictures[120].dts, sounds[187].dts])

    def test_jump_between_keyframes(self) -> None:
        """After a jump between keyframes, the pictures that no player can decode are dropped, and their sound."""
        messages = publish(6)
        cut = next(index for index, message in enumerate(messages) if message.timestamp > 3_500)
        events = demux(configs() + messages[:cut] + shifted(messages[cut:], 3_600_000))
        at = next(index for index, event in enumerate(events) if isinstance(event, Discontinuity))
        after = [event for event in events[at:] if isinstance(event, Frame)]
        picture_, sound_ = frames_of(after, VIDEO)[0], frames_of(after, AUDIO)[0]
        self.assertEqual((120, True), (mark_of(picture_), picture_.keyframe))
        sent_ms = round(mark_of(sound_) * 64 / 3) - 4_000
        placed_ms = sound_.dts / 48 - picture_.dts / 90
        self.assertLessEqual(abs(placed_ms - sent_ms), 2)

    def test_straggler_of_the_old_clock(self) -> None:
        """A frame that still has the old clock behind the first ones on the new one is kept, before the jump."""
        before, after = publish(), shifted(publish(), 3_600_000)
        after.sort(key=lambda message: message.timestamp + (40 if message.kind is AUDIO else 0))
        events = demux([*configs(), *before, *after[:2], audio(4_010, sound()), *after[2:]])
        self.assertEqual(1, len([e for e in events if isinstance(e, Discontinuity)]))
        self.assertEqual(([], 240), (problems_of(events), len(frames_of(events, VIDEO))))

    def test_jump_while_held(self) -> None:
        """A clock that jumps before the start is the start: no discontinuity, nothing from before."""
        events = demux(configs() + publish()[:5] + shifted(publish(), 7_200_000))
        self.assertEqual(2, len(_only_tracks(self, events)))
        self.assertEqual(["timestamp_jump"] * 5, problems_of(events))
        self.assertEqual([0, 0], [mark_of(frames_of(events, kind)[0]) for kind in (VIDEO, AUDIO)])


class PropertyTests(SynchronousTestCase):
    @slow
    @settings(max_examples=30)
    @given(st.integers(0, 2**32), st.sampled_from([Fraction(25), Fraction(30_000, 1001), Fraction(50)]))
    def test_audio_and_video_stay_together(self, seed: int, rate: Fraction) -> None:
        """However timestamps jitter, sound and picture stay within 40 ms of how they were meant."""
        chance, jitter = random.Random(seed), {VIDEO: 8, AUDIO: 15}
        messages = interleaved(video_messages(every(rate, 200, 100), gop=50), audio_messages(aac_48k(250, 100)))
        for index, (kind, timestamp, payload) in enumerate(messages):
            messages[index] = Message(kind, timestamp + chance.randint(-jitter[kind], jitter[kind]), payload)
        events = demux(configs() + messages)
        shown = [frame.dts / 90 - mark_of(frame) * 1000 / rate for frame in frames_of(events, VIDEO)]
        heard = [frame.dts / 48 - mark_of(frame) * 64 / 3 for frame in frames_of(events, AUDIO)]
        self.assertLessEqual(max(shown) - min(heard), 40)
        self.assertLessEqual(max(heard) - min(shown), 40)
        for kind in (VIDEO, AUDIO):
            self.assertTrue(all(step > 0 for step in steps(frames_of(events, kind))))
