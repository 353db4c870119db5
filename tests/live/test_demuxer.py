"""Tracks: how they are found, change, come late and are left out. What becomes of their times is in test_timeline."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.demuxer import Demuxer, Discontinuity, MediaEvent, MediaProblem, TracksChanged
from rapidrtmp.media import Frame, MediaKind, Track, VideoConfig
from tests.codec.builders import (
    ASC_44K,
    ASC_48K,
    END_OF_VIDEO,
    Message,
    aac_48k,
    audio,
    audio_config,
    audio_messages,
    configs,
    demux,
    every,
    frames_of,
    interleaved,
    mark_of,
    on_track,
    picture,
    problems_of,
    sound,
    sps,
    steps,
    track_frames,
    video,
    video_config,
    video_messages,
)
from tests.slow import slow

VIDEO, AUDIO = MediaKind.VIDEO, MediaKind.AUDIO


def pictures(count: int, start_ms: int = 0, gop: int = 30) -> list[Message]:
    return list(video_messages(every(30, count, start_ms), gop))


def sounds(count: int, start_ms: int = 0) -> list[Message]:
    return list(audio_messages(aac_48k(count, start_ms)))


def outline(events: list[MediaEvent]) -> list[str]:
    """What happened, with runs of frames as one word each: ``v`` and ``a``, capital at a keyframe of video."""
    words: list[str] = []
    for event in events:
        if isinstance(event, Frame):
            letter = "a" if event.track.kind is AUDIO else "V" if event.keyframe else "v"
            if words and set(words[-1]) <= set("vVa"):
                words[-1] += letter
            else:
                words.append(letter)
        elif isinstance(event, TracksChanged):
            words.append("tracks " + "+".join(track.codec for track in event.tracks))
        elif isinstance(event, Discontinuity):
            words.append(event.reason)
    return [word[:1] if set(word) <= set("vVa") else word for word in words]


class TrackTests(SynchronousTestCase):
    def test_audio_and_video(self) -> None:
        """Both tracks are announced before their first frame, video first, with what their configs say."""
        events = demux([*configs(Fraction(30)), *interleaved(pictures(60), sounds(90))])
        self.assertEqual(["tracks avc1+mp4a", "V"], outline(events))
        assert isinstance(events[0], TracksChanged)
        picture_track, sound_track = events[0].tracks
        assert isinstance(picture_track.config, VideoConfig)
        self.assertEqual((1, 1280, 720), (picture_track.id, picture_track.config.width, picture_track.config.height))
        self.assertEqual((2, 48_000), (sound_track.id, sound_track.timescale))
        self.assertEqual([60, 90], [len(frames_of(events, kind)) for kind in (VIDEO, AUDIO)])
        self.assertEqual([], problems_of(events))

    def test_frames_carry_what_was_sent(self) -> None:
        """A frame has the sample, without a copy, the key flag of the bitstream, and the time of its arrival."""
        payload = picture(keyframe=True, mark=7)
        demuxer = Demuxer()
        demuxer.video_received(0, video_config(), 10)
        demuxer.video_received(0, payload, 25)
        (frame,) = frames_of(demuxer.finish(), VIDEO)
        self.assertEqual((payload[5:], True, 25), (frame.data, frame.keyframe, frame.arrived_ms))

    def test_false_key_flag(self) -> None:
        """A picture is a keyframe if it is an IDR picture, whatever the tag says."""
        lying = b"\x17" + picture(keyframe=False)[1:]
        events = demux([video(0, video_config()), video(0, lying), video(33, picture(keyframe=True))])
        self.assertEqual([True], [frame.keyframe for frame in frames_of(events, VIDEO)])
        self.assertEqual(["waiting_for_keyframe"], problems_of(events))

    def test_metadata_makes_no_track(self) -> None:
        """Metadata that promises everything, or nonsense, makes no track and breaks nothing."""
        for values in (
            {"hasAudio": True, "hasVideo": True},
            {"framerate": float("nan"), "audiocodecid": "mp4a"},
            {"framerate": "30"},
        ):
            self.assertEqual(
                ["tracks mp4a", "a"], outline(demux([*configs(has_video=False), *sounds(300)], metadata=values))
            )

    def test_metadata_frame_rate(self) -> None:
        """A frame rate from metadata is tried: the stream starts after ten frames that agree, not after a second."""
        for metadata, started_ms in (({"framerate": 25.0}, 400), ({}, 1024)):
            demuxer = Demuxer()
            demuxer.metadata_received(metadata)
            seen = []
            for message in configs() + interleaved(video_messages(every(25, 60), gop=60), sounds(90)):
                receive = demuxer.video_received if message.kind is VIDEO else demuxer.audio_received
                if receive(message.timestamp, message.payload, 0):
                    seen.append(message.timestamp)
            self.assertEqual(started_ms, seen[0])

    def test_frames_before_their_config(self) -> None:
        """Frames before their config are dropped and counted, and their timestamps mean nothing."""
        events = demux(
            [
                video(900_000, picture(keyframe=True)),
                audio(5, sound()),
                *configs(),
                *interleaved(pictures(60), sounds(90)),
            ]
        )
        self.assertEqual(["no_config", "no_config"], problems_of(events))
        self.assertEqual(["tracks avc1+mp4a", "V"], outline(events))

    def test_other_codecs_are_reported_once(self) -> None:
        """A track whose codec is not packaged is reported once and left out; the others continue."""
        vp6 = [video(message.timestamp, b"\x14" + message.payload[1:]) for message in pictures(90)]
        telephone = [audio(message.timestamp, b"\x72" + bytes(9)) for message in sounds(20)]
        events = demux([*configs(has_video=False), *interleaved(vp6, sounds(150), telephone)])
        self.assertEqual(["unsupported_codec", "unsupported_codec"], problems_of(events))
        self.assertEqual(["tracks mp4a", "a"], outline(events))

    def test_kinds_of_aac(self) -> None:
        """AAC of a kind that is not carried is left out by its name, and its frames silently; so is one changed to."""
        for config, name in (("BA19", "AAC-LD"), ("F8E62000", "AAC-ELD"), ("F95318", "xHE-AAC")):
            demuxer = Demuxer()
            opening = [*configs(asc=None), audio(0, audio_config(bytes.fromhex(config)))]
            events = demux([*opening, *interleaved(pictures(60), sounds(90))], demuxer)
            self.assertEqual(["unsupported_codec"], problems_of(events))
            self.assertIn(f"audio codec {name} (mp4a.40.", str(demuxer.left_out[0]))
            self.assertEqual(["tracks avc1", "V"], outline(events))
        later = [audio(each.timestamp + 3_000, each.payload) for each in sounds(30)]
        changed = [audio(3_000, audio_config(bytes.fromhex("BA19"))), *later]
        events = demux([*configs(has_video=False), *sounds(140), *changed])
        self.assertEqual(["unsupported_codec"], problems_of(events))
        self.assertEqual(140, len(frames_of(events, MediaKind.AUDIO)))

    def test_other_forms_of_aac(self) -> None:
        """AAC in LATM, or whose frames only a decoder finds, is left out by its name at its first frame."""
        raw = b"\x21" + bytes(60)
        latm = b"\x56\xe0" + bytes([len(raw)]) + raw
        several = b"\xff\xf1\x4c\x80" + bytes([(len(raw) + 7) >> 3, (len(raw) + 7 & 7) << 5 | 0x1F, 0xFD]) + raw
        for body, name in ((latm, "AAC in LATM"), (several, "AAC with several frames behind one ADTS header")):
            for has_config in (True, False):
                demuxer = Demuxer()
                odd = [audio(each.timestamp, b"\xaf\x01" + body) for each in sounds(90)]
                opening = configs(asc=ASC_48K if has_config else None)
                events = demux([*opening, *interleaved(pictures(60), odd)], demuxer)
                self.assertEqual(["unsupported_codec"], problems_of(events))
                self.assertIn(f"audio codec {name}", str(demuxer.left_out[0]))
                self.assertEqual(["tracks avc1", "V"], outline(events))
                self.assertFalse(demuxer.health.audio_missing)

    def test_unknown_packets_are_counted(self) -> None:
        """Messages of packet types that are not known are counted, and change nothing."""
        odd = [video(500, b"\x98avc1"), audio(500, b"\x93"), video(500, b"\xd0\x00")]
        events = demux([*configs(), *interleaved(pictures(60), sounds(90), odd)])
        self.assertEqual(["unknown_packet", "unknown_packet"], problems_of(events))
        self.assertEqual(["tracks avc1+mp4a", "V"], outline(events))

    def test_further_tracks_are_all_taken(self) -> None:
        """Every track of a known codec is taken, with ids that do not depend on which others there are."""
        extra = [*configs(), video(0, on_track(5, video_config(width_mbs=40))), audio(0, on_track(1, audio_config()))]
        rung = [video(each.timestamp, on_track(5, each.payload)) for each in pictures(60)]
        comment = [audio(each.timestamp, on_track(1, each.payload)) for each in sounds(90)]
        events = demux([*extra, *interleaved(pictures(60), rung, sounds(90), comment)])
        self.assertEqual([], problems_of(events))
        (told,) = (event for event in events if isinstance(event, TracksChanged))
        self.assertEqual(
            [(1, VIDEO, "avc1"), (11, VIDEO, "avc1"), (2, AUDIO, "mp4a"), (4, AUDIO, "mp4a")],
            [(track.id, track.kind, track.codec) for track in told.tracks],
        )
        self.assertEqual([60, 60, 90, 90], [len(track_frames(events, track.id)) for track in told.tracks])
        self.assertEqual(
            [(frame.dts, frame.keyframe) for frame in track_frames(events, 1)],
            [(frame.dts, frame.keyframe) for frame in track_frames(events, 11)],
        )

    def test_late_further_video(self) -> None:
        """Further video that comes late begins with a keyframe of the leading track, which loses nothing."""
        late = [video(each.timestamp, on_track(1, each.payload)) for each in pictures(60, 1_500, gop=15)]
        messages = interleaved(pictures(120), sounds(180), [video(1_490, on_track(1, video_config())), *late])
        events = demux([*configs(), *messages])
        self.assertEqual(["video came late"], [event.reason for event in events if isinstance(event, Discontinuity)])
        self.assertEqual((120, 180), (len(track_frames(events, 1)), len(track_frames(events, 2))))
        frames = track_frames(events, 3)
        self.assertTrue(frames[0].keyframe)
        self.assertEqual(45, len(frames))
        self.assertEqual(frames[0].dts, next(frame for frame in track_frames(events, 1)[60:] if frame.keyframe).dts)

    def test_track_without_frames(self) -> None:
        """A track that is configured and never comes delays the start a little, and is not announced."""
        events = demux([*configs(), video(0, on_track(1, video_config())), *interleaved(pictures(90), sounds(140))])
        (told,) = (event for event in events if isinstance(event, TracksChanged))
        self.assertEqual([1, 2], [track.id for track in told.tracks])
        self.assertEqual([], problems_of(events))

    def test_forms_of_multitrack(self) -> None:
        """One track to a message, many of one codec, or of many codecs: the same frames come out, at the same times."""

        def sized(track_id: int, body: bytes) -> bytes:
            return bytes([track_id]) + len(body).to_bytes(3, "big") + body

        asc, opus = ASC_48K, b"OpusHead" + bytes.fromhex("01 02 3801 80BB0000 0000 00")
        many = [audio(0, b"\x95\x10mp4a" + sized(0, asc) + sized(3, asc))]
        one = [audio(0, b"\x90mp4a" + asc), audio(0, b"\x95\x00mp4a\x03" + asc)]
        kinds = [audio(0, b"\x95\x20mp4a" + sized(0, asc) + b"Opus" + sized(3, opus))]
        for index, time in enumerate(aac_48k(120)):
            raw, packet = sound(index)[2:], b"\xfc" + bytes([index])
            many.append(audio(time, b"\x95\x11mp4a" + sized(0, raw) + sized(3, raw)))
            one += [audio(time, b"\x91mp4a" + raw), audio(time, b"\x95\x01mp4a\x03" + raw)]
            kinds.append(audio(time, b"\x95\x21mp4a" + sized(0, raw) + b"Opus" + sized(3, packet)))
        first, second = (
            [(frame.track.id, frame.dts, frame.data) for frame in frames_of(demux(messages), MediaKind.AUDIO)]
            for messages in (one, many)
        )
        self.assertEqual(first, second)
        self.assertEqual({2, 8}, {track_id for track_id, *_ in first})
        events = demux(kinds)
        self.assertEqual("tracks mp4a+Opus", outline(events)[0])
        self.assertEqual(120, len(track_frames(events, 8)))

    def test_nanoseconds_put_frames_on_grid(self) -> None:
        """Offsets below a millisecond put every frame of 60 a second exactly on its grid, for audio as well."""
        times = [index * 1_000_000_000 // 60 for index in range(120)]
        pictures_exact = [
            video(time // 1_000_000, picture(index % 60 == 0, mark=index, nanoseconds=time % 1_000_000))
            for index, time in enumerate(times)
        ]
        events = demux([*configs(asc=None), *pictures_exact])
        self.assertEqual([], problems_of(events))
        self.assertEqual({1_500}, {frame.duration for frame in frames_of(events, MediaKind.VIDEO)})

    def test_too_many_tracks(self) -> None:
        """Beyond sixteen tracks of a kind each further one is reported once, and left out."""
        extra = [audio(0, on_track(number, audio_config())) for number in range(1, 18)]
        more = [audio(time, on_track(number, sound())) for time in (0, 21) for number in (16, 17)]
        events = demux([*configs(), *extra, *interleaved(pictures(60), sounds(90), more)])
        self.assertEqual(["extra_track", "extra_track"], problems_of(events))
        self.assertEqual(90, len(frames_of(events, AUDIO)))

    def test_malformed_track_costs_no_others(self) -> None:
        """Of a message of several tracks one that cannot be read costs the others nothing."""
        nal = b"\0\0\0\3\x65\x88\x84"
        tracks = b"".join(
            bytes([number]) + len(body).to_bytes(3, "big") + body
            for number, body in ((1, b"\0\0\0" + b"\0\0\0\x63\x65"), (0, b"\0\0\0" + nal))
        )
        opening = [*configs(asc=None), video(0, on_track(1, video_config()))]
        events = demux([*opening, video(0, b"\x96\x11avc1" + tracks)])
        self.assertEqual(["malformed"], problems_of(events))
        self.assertEqual([nal], [frame.data for frame in frames_of(events, VIDEO)])

    def test_malformed_messages_are_counted(self) -> None:
        """What cannot be read is counted, and the stream continues; the problem says nothing of what was in it."""
        broken = [
            video(40, b"\x17"),
            video(41, b"\x17\0\0\0\0\x01\x42secret"),
            video(42, b"\x27\x01\0\0\0\0\0\0\x63secret"),
            audio(43, b"\xaf"),
        ]
        events = demux([*configs(), *interleaved(pictures(60), sounds(90), broken)])
        self.assertEqual(["malformed"] * 4, problems_of(events))
        self.assertNotIn("secret", repr([event for event in events if isinstance(event, MediaProblem)]))
        self.assertEqual({3000}, set(steps(frames_of(events, VIDEO))))

    def test_short_publish_comes_out_whole(self) -> None:
        """A publish that ends while everything is still held comes out whole."""
        demuxer = Demuxer()
        events = demux([*configs(), *interleaved(pictures(5), sounds(8))], demuxer)
        self.assertEqual([5, 8], [len(frames_of(events, kind)) for kind in (VIDEO, AUDIO)])
        self.assertEqual(171, demuxer.end_ms)

    def test_nothing_published_makes_nothing(self) -> None:
        """A publish of nothing, or of configs only, makes nothing, and the timeline stays where it was."""
        for messages in ([], configs(), [*configs(), video(0, END_OF_VIDEO)]):
            demuxer = Demuxer(start_ms=700)
            self.assertEqual([], [*demux(messages, demuxer), *demuxer.poll(10_000)])
            self.assertEqual(700, demuxer.end_ms)


class ChangeTests(SynchronousTestCase):
    def test_repeated_config_is_nothing(self) -> None:
        """The same config again, in front of every keyframe, is nothing."""
        messages = [video(message.timestamp, video_config()) for message in pictures(120)[::30]]
        self.assertEqual(
            ["tracks avc1+mp4a", "V"], outline(demux([*configs(), *interleaved(messages, pictures(120), sounds(180))]))
        )

    def test_video_config_changes(self) -> None:
        """Another picture size makes a discontinuity, then tracks, then a keyframe; sound is the very same track."""
        messages = [*configs(), *interleaved(pictures(90), sounds(140)), video(0, video_config(width_mbs=40))]
        messages += [video(3_000, picture(keyframe=False)), *interleaved(pictures(60, 3_033), sounds(90, 2_987))]
        events = demux(messages)
        self.assertEqual(["tracks avc1+mp4a", "V", "codec config changed", "tracks avc1+mp4a", "V"], outline(events))
        before, after = [event.tracks for event in events if isinstance(event, TracksChanged)]
        self.assertEqual([1280, 640], [config.width for (config, _) in _configs(before, after)])
        self.assertIs(before[1], after[1])
        self.assertEqual(["waiting_for_keyframe"], problems_of(events))
        pictures_after = [frame for frame in frames_of(events, VIDEO) if frame.track is after[0]]
        self.assertEqual(60, len(pictures_after))
        # As sent, and later by what of the sound before had not ended yet.
        self.assertTrue(0 <= pictures_after[0].dts / 90 - 3_033 < 22)
        self.assertEqual({3000}, set(steps(pictures_after)))

    def test_config_in_band(self) -> None:
        """Parameter sets in front of a keyframe are a new config just as well."""
        sets = b"".join(len(nal).to_bytes(4, "big") + nal for nal in (sps(40), bytes.fromhex("68ce3c80")))
        keyframe = picture(keyframe=True)
        messages = [
            *configs(),
            *interleaved(pictures(90), sounds(140)),
            video(3_000, keyframe[:5] + sets + keyframe[5:]),
        ]
        events = demux([*messages, *interleaved(pictures(20, 3_033, gop=99), sounds(30, 2_987))])
        self.assertEqual(["tracks avc1+mp4a", "V", "codec config changed", "tracks avc1+mp4a", "V"], outline(events))

    def test_audio_config_changes(self) -> None:
        """When the sound changes, the picture continues to its next keyframe, where the new tracks begin."""
        late = [index * 10_240 // 441 + 3_200 for index in range(90)]
        messages = [
            *configs(),
            *interleaved(pictures(150), [*sounds(140), audio(3_190, audio_config(ASC_44K)), *audio_messages(late)]),
        ]
        events = demux(messages)
        self.assertEqual(["tracks avc1+mp4a", "V", "codec config changed", "tracks avc1+mp4a", "V"], outline(events))
        self.assertEqual([*range(150)], [mark_of(frame) for frame in frames_of(events, VIDEO)])
        self.assertEqual({3000}, set(steps(frames_of(events, VIDEO))))
        new = [frame for frame in frames_of(events, AUDIO) if frame.track.timescale == 44_100]
        self.assertLessEqual(abs(new[0].dts / 44.1 - late[mark_of(new[0])]), 1)
        self.assertEqual({1024}, set(steps(new)))

    def test_config_there_and_back(self) -> None:
        """A config that changes and changes back before any frame is nothing."""
        messages = [
            *configs(),
            *interleaved(pictures(90), sounds(140)),
            video(0, video_config(width_mbs=40)),
            *configs(),
        ]
        self.assertEqual(["tracks avc1+mp4a", "V"], outline(demux([*messages, *pictures(30, 3_000)])))

    def test_config_replaced_at_the_start(self) -> None:
        """A config replaced before the stream has started was never there; nor were the frames that came with it."""
        messages = [*configs(), *interleaved(pictures(3), sounds(4)), video(0, video_config(width_mbs=40))]
        events = demux([*messages, *interleaved(pictures(60, 100), sounds(90, 85))])
        self.assertEqual(["tracks avc1+mp4a", "V"], outline(events))
        self.assertEqual(["config_replaced"] * 3, problems_of(events)[:3])
        self.assertEqual({640}, {frame.track.config.width for frame in frames_of(events, VIDEO)})


def _configs(*tracks: tuple[Track, ...]) -> list[tuple[VideoConfig, object]]:
    return [(pair[0].config, pair[1].config) for pair in tracks if isinstance(pair[0].config, VideoConfig)]


class LateTrackTests(SynchronousTestCase):
    def test_late_audio_begins_at_keyframe(self) -> None:
        """Sound that comes seconds late begins at the next keyframe, and no picture is lost for it."""
        late = [audio(4_100, audio_config()), *sounds(150, 4_100)]
        events = demux([*configs(asc=None), *interleaved(pictures(210), late)])
        self.assertEqual(["tracks avc1", "V", "audio came late", "tracks avc1+mp4a", "V"], outline(events))
        self.assertEqual([*range(210)], [mark_of(frame) for frame in frames_of(events, VIDEO)])
        self.assertEqual({3000}, set(steps(frames_of(events, VIDEO))))
        heard = frames_of(events, AUDIO)[0]
        self.assertLessEqual(abs(heard.dts / 48 - 4_100 - mark_of(heard) * 64 / 3), 1)
        self.assertLess(heard.dts / 48, 5_025)

    def test_late_audio_config_alone(self) -> None:
        """A late config without frames changes nothing."""
        events = demux([*configs(asc=None), *pictures(120), audio(0, audio_config()), *pictures(60, 4_000)])
        self.assertEqual(["tracks avc1", "V"], outline(events))

    def test_late_audio_without_keyframes(self) -> None:
        """Where no keyframe comes for five seconds, late sound begins without the picture, which follows."""
        late = [audio(3_000, audio_config()), *sounds(600, 3_000)]
        events = demux([*configs(asc=None), *interleaved(pictures(450, gop=420), late)])
        self.assertEqual(["tracks avc1", "V", "audio came late", "tracks avc1+mp4a", "a"], outline(events))
        self.assertEqual([0, 420], [mark_of(frame) for frame in frames_of(events, VIDEO) if frame.keyframe])

    def test_late_video_begins_at_keyframe(self) -> None:
        """A picture that comes late begins with its first keyframe."""
        late = [video(4_100, video_config()), video(4_105, picture(keyframe=False)), *pictures(60, 4_110)]
        events = demux([*configs(has_video=False), *interleaved(sounds(300), late)])
        self.assertEqual(["tracks mp4a", "a", "video came late", "tracks avc1+mp4a", "V"], outline(events))
        seen, heard = frames_of(events, VIDEO)[0], frames_of(events, AUDIO)[-1]
        self.assertTrue(seen.keyframe)
        # Decode times continue as sent, later only by what of the old range ends after the keyframe.
        self.assertLess(abs(seen.dts / 90 - 4_110), 22)
        self.assertLess(abs(seen.dts / 90 - 4_110 - (heard.dts / 48 - 299 * 64 / 3)), 2)


#: The kinds of problems with which a frame is lost.
DROPPING = (
    "no_config",
    "no_picture",
    "waiting_for_keyframe",
    "waiting_for_cut",
    "trimmed",
    "timestamp_jump",
    "config_replaced",
    "audio_overlap",
)


class PropertyTests(SynchronousTestCase):
    """Whatever comes: built from true messages, torn ones, any timestamp, and time that passes."""

    payloads = st.sampled_from(
        [
            *([picture(keyframe=True), picture(keyframe=False, composition_ms=-40), picture(False, 67), sound()] * 3),
            picture(keyframe=False, composition_ms=8_000_000),
            video_config(),
            video_config(Fraction(30), width_mbs=40),
            audio_config(ASC_48K),
            audio_config(ASC_44K),
            END_OF_VIDEO,
            *([on_track(1, picture(keyframe=True)), on_track(1, picture(False, 67)), on_track(1, sound())] * 2),
            on_track(1, video_config()),
            on_track(1, audio_config()),
        ]
    )
    steps_ms = st.one_of(st.integers(0, 60), st.integers(-700, 12_000), st.integers(0, 2**32 - 1))

    @slow
    @settings(max_examples=150)
    @given(st.lists(st.tuples(payloads, steps_ms, st.integers(0, 1000)), max_size=120), st.booleans())
    def test_promises_of_the_demuxer(self, messages: list[tuple[bytes, int, int]], configured: bool) -> None:
        """Decode times rise, tracks are announced first, and no frame is lost without a problem."""
        demuxer, timestamp, now_ms, sent = Demuxer(start_ms=250), 0, 0, 0
        opening = [(video_config(), 0, 0), (audio_config(), 0, 0)] if configured else []
        events: list[MediaEvent] = []
        for payload, step_ms, wait_ms in [*opening, *messages]:
            timestamp = (timestamp + step_ms) % 2**32
            now_ms += wait_ms
            is_audio = payload[0] in (0xAF, 0x95)
            events += (demuxer.audio_received if is_audio else demuxer.video_received)(timestamp, payload, now_ms)
            events += demuxer.poll(now_ms)
            sent += payload[1] == 1
        events += demuxer.finish()
        self.check(events, demuxer.end_ms)
        lost = sum(kind in DROPPING for kind in problems_of(events))
        self.assertEqual(sent, lost + sum(isinstance(event, Frame) for event in events))

    @slow
    @settings(max_examples=150)
    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 2**32 - 1), st.binary(max_size=40))))
    def test_any_bytes_are_events(self, messages: list[tuple[bool, int, bytes]]) -> None:
        """Any bytes at any time are events at most."""
        demuxer = Demuxer()
        events: list[MediaEvent] = []
        for is_audio, timestamp, payload in messages:
            events += (demuxer.audio_received if is_audio else demuxer.video_received)(timestamp, payload, 0)
        self.check(events + demuxer.finish(), demuxer.end_ms)

    def check(self, events: list[MediaEvent], end_ms: int) -> None:
        told: tuple[Track, ...] = ()
        latest: dict[int, Fraction] = {}
        floor = end = Fraction(0)
        just_broken, begun = False, set[int]()
        for event in events:
            if isinstance(event, Discontinuity):
                floor = end
                begun.clear()
            elif isinstance(event, TracksChanged):
                self.assertTrue(just_broken or not told, "tracks changed without a discontinuity")
                told = event.tracks
                begun.clear()
                self.assertEqual(len(told), len({track.id for track in told}))
            elif isinstance(event, Frame):
                self.assertTrue(any(event.track is track for track in told))
                track_id, scale = event.track.id, event.track.timescale
                # To the tick: the end of one track's frames may lie between two ticks of the other.
                self.assertGreater(Fraction(event.dts + 1, scale), floor)
                self.assertGreater(Fraction(event.dts, scale), latest.get(track_id, -1))
                self.assertGreater(event.duration, 0)
                latest[track_id] = Fraction(event.dts, scale)
                end = max(end, Fraction(max(event.dts, event.pts) + event.duration, scale))
                self.assertTrue(event.keyframe or track_id in begun)
                begun.add(track_id)
            elif isinstance(event, MediaProblem):
                self.assertIn(event.kind, _KINDS)
            just_broken = isinstance(event, Discontinuity)
        if latest:
            self.assertEqual(ceil(end * 1000), end_ms)


_KINDS = {
    *DROPPING,
    "malformed",
    "audio_gap",
    "timestamp_repaired",
    "timestamp_clamped",
    "timestamp_frozen",
    "timestamp_shifted",
    "track_skew",
    "clamped_composition",
    "unknown_packet",
    "unsupported_codec",
    "extra_track",
}
