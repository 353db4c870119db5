"""Media that does not come one frame to a message, or without its configuration: all of it comes out, or is counted."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable
from fractions import Fraction

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.avc import AVC_SYNTAX
from rapidrtmp.live.demuxer import Demuxer, MediaEvent, TracksChanged
from rapidrtmp.media import Frame, MediaKind
from tests.codec import test_avc_slice as slices
from tests.codec.builders import (
    PPS,
    Message,
    aac_48k,
    audio,
    audio_config,
    audio_messages,
    avcc,
    configs,
    demux,
    every,
    frames_of,
    interleaved,
    picture,
    problems_of,
    sps,
    video,
    video_config,
    video_messages,
)

VIDEO, AUDIO = MediaKind.VIDEO, MediaKind.AUDIO
AUD, SEI = b"\x09\xf0", b"\x06\x05\x01\xaa\x80"
#: The second to fourth slice of a picture: their first macroblocks are 1, 2 and 3.
FURTHER = (b"\x41\x46\x81\xff", b"\x41\x66\x81\xff", b"\x41\x21\xa1\xff")


def join(*nals: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(nal)) + nal for nal in nals)


def start_codes(*nals: bytes) -> bytes:
    return b"".join((b"\0\0\1" if at % 2 else b"\0\0\0\1") + nal for at, nal in enumerate(nals))


def body_of(message: Message) -> bytes:
    return message.payload[5:]


def with_body(message: Message, body: bytes) -> Message:
    return message._replace(payload=message.payload[:5] + body)


def is_key(message: Message) -> bool:
    return message.payload[0] == 0x17


def pictures(count: int = 60, gop: int = 30) -> list[Message]:
    return list(video_messages(every(30, count), gop))


def sounds(count: int = 90) -> list[Message]:
    return list(audio_messages(aac_48k(count)))


def in_slices(messages: Iterable[Message], *openers: bytes) -> list[Message]:
    """Each NAL unit of pictures of four slices in a message of its own."""
    return [
        with_body(message, body)
        for message in messages
        for body in (*map(join, openers), body_of(message), *map(join, FURTHER))
    ]


class SlicesTests(SynchronousTestCase):
    def test_slice_to_a_message(self) -> None:
        """Slices of one picture, each in its own message, are one frame, at the picture's time, and nothing is lost."""
        whole = pictures()
        times = [
            frame.dts for frame in frames_of(demux([*configs(Fraction(30)), *interleaved(whole, sounds())]), VIDEO)
        ]
        for openers in ((), (SEI,), (AUD, SEI)):
            events = demux([*configs(Fraction(30)), *interleaved(in_slices(whole, *openers), sounds())])
            self.assertEqual([], problems_of(events))
            frames = frames_of(events, VIDEO)
            expected = [join(*openers) + body_of(message) + join(*FURTHER) for message in whole]
            self.assertEqual(expected, [frame.data for frame in frames])
            self.assertEqual([0, 30], [at for at, frame in enumerate(frames) if frame.keyframe])
            self.assertEqual(times, [frame.dts for frame in frames])

    def test_slices_with_times_of_their_own(self) -> None:
        """A slice a few milliseconds late still belongs to the picture before."""
        late = [
            message._replace(timestamp=message.timestamp + number % 4)
            for number, message in enumerate(in_slices(pictures()))
        ]
        events = demux([*configs(asc=None), *late])
        self.assertEqual(([], 60), (problems_of(events), len(frames_of(events, VIDEO))))

    def test_slices_behind_start_codes(self) -> None:
        """So are slices that come as byte streams."""
        streams = [with_body(message, b"\0\0\0\1" + body_of(message)[4:]) for message in in_slices(pictures())]
        events = demux([*configs(asc=None), *streams])
        self.assertEqual([], problems_of(events))
        self.assertEqual({4}, {frame.data.count(b"\0\0\0") for frame in frames_of(events, VIDEO)})

    def test_slices_of_ordinary_streams(self) -> None:
        """Pictures that come whole, of however many slices, are handed on with the message they came in."""
        demuxer, latest = Demuxer(), [*configs(asc=None), *pictures(120)]
        for message in latest[:91]:
            demuxer.video_received(message.timestamp, message.payload, message.timestamp)
        for message in latest[91:]:
            body = body_of(message) + join(*FURTHER)
            (frame,) = demuxer.video_received(message.timestamp, message.payload[:5] + body, message.timestamp)
            assert isinstance(frame, Frame)
            self.assertEqual((body, message.timestamp), (frame.data, frame.arrived_ms))

    def test_last_slices_wait_a_second(self) -> None:
        """A picture of slices waits no longer than a second while nothing follows, nor beyond the end."""
        demuxer = Demuxer()
        for message in [*configs(asc=None), *in_slices(pictures(90))]:
            demuxer.video_received(message.timestamp, message.payload, message.timestamp)
        self.assertEqual([], frames_of(demuxer.poll(3_000), VIDEO))
        self.assertEqual(1, len(frames_of(demuxer.poll(4_000), VIDEO)))

    def test_splitting_late_counts_one(self) -> None:
        """An encoder that begins to split its pictures has one of them counted, and the others come out whole."""
        whole = pictures(90)
        events = demux([*configs(asc=None), *whole[:45], *in_slices(whole[45:])])
        self.assertEqual({"no_picture"}, set(problems_of(events)))
        frames = frames_of(events, VIDEO)
        self.assertEqual(90, len(frames))
        self.assertEqual({len(body_of(whole[0]) + join(*FURTHER))}, {len(frame.data) for frame in frames[46:]})

    def test_rate_beyond_reason(self) -> None:
        """Pictures all at one time are no frame rate."""
        frames = frames_of(demux([*configs(asc=None), *video_messages([0] * 60)]), VIDEO)
        self.assertTrue(all(rate is None or rate <= 300 for rate in (frame.rhythm.frame_rate for frame in frames)))


class MissingPicturesTests(SynchronousTestCase):
    def test_missing_pictures_are_counted(self) -> None:
        """Video messages without any picture are counted, and the health says that video is missing."""
        demuxer = Demuxer()
        empty = [with_body(message, join(SEI)) for message in pictures(90)]
        events = demux([*configs(), *interleaved(empty, sounds())], demuxer)
        self.assertIn("no_picture", problems_of(events))
        self.assertTrue(demuxer.health.video_missing)
        self.assertGreater(demuxer.health.dropped_frames, 1)

    def test_no_config_at_all(self) -> None:
        """Frames whose configuration never comes are counted, and what they should be is missing."""
        demuxer = Demuxer()
        events = demux([audio(0, audio_config()), *interleaved(pictures(90), sounds())], demuxer)
        self.assertEqual(["no_config"] * 90, problems_of(events))
        self.assertEqual((True, False), (demuxer.health.video_missing, demuxer.health.audio_missing))


class ConfigTests(SynchronousTestCase):
    def check(self, messages: Iterable[Message], count: int = 60) -> None:
        """All pictures come out of messages, under the config of a proper sequence header."""
        events = demux([audio(0, audio_config()), *interleaved(messages, sounds())])
        self.assertEqual([], problems_of(events))
        (told,) = (event for event in events if isinstance(event, TracksChanged))
        (expected,) = (
            each for each in demux([video(0, video_config()), *pictures()]) if isinstance(each, TracksChanged)
        )
        self.assertEqual(expected.tracks[0], told.tracks[0])
        self.assertEqual([body_of(message) for message in pictures()], [f.data for f in frames_of(events, VIDEO)])

    def test_in_band_sets_are_enough(self) -> None:
        """Parameter sets in front of keyframes, behind lengths or start codes, are all the config that is needed."""
        for spell in (join, start_codes):
            self.check(
                with_body(message, spell(*([sps(), PPS] if is_key(message) else []), body_of(message)[4:]))
                for message in pictures()
            )

    def test_in_messages_of_their_own(self) -> None:
        """Parameter sets may come in messages of their own, together or one by one, in any order."""
        for sets in (
            [join(sps(), PPS)],
            [join(sps()), join(PPS)],
            [join(PPS), join(sps())],
            [start_codes(sps()), join(PPS)],
        ):
            self.check(
                with_body(message, body)
                for message in pictures()
                for body in ([*sets, body_of(message)] if is_key(message) else [body_of(message)])
            )

    def test_sequence_headers_in_any_spelling(self) -> None:
        """A sequence header may hold parameter sets in any spelling, or some of them, or none if they are in band."""
        record = avcc(sps())
        in_band = [
            with_body(message, join(sps(), PPS) + body_of(message)) if is_key(message) else message
            for message in pictures()
        ]
        for headers, media in (
            ([start_codes(sps(), PPS)], pictures()),
            ([join(sps(), PPS)], pictures()),
            ([start_codes(sps()), start_codes(PPS)], pictures()),
            ([b"\0" + record[1:]], pictures()),
            ([record[:5] + b"\xe0\0"], in_band),
            ([b""], in_band),
            ([record[: record.index(b"\x01\0\x04")] + b"\0", join(PPS)], pictures()),
        ):
            self.check([*(video(0, b"\x17\0\0\0\0" + header) for header in headers), *media])

    def test_adts_needs_no_header(self) -> None:
        """Audio behind ADTS headers needs no sequence header, one frame to a message or two."""

        def adts(message: Message) -> bytes:
            frame = message.payload[2:]
            size = len(frame) + 7
            return bytes([0xFF, 0xF1, 0x4C, 0x80 | size >> 11, size >> 3 & 0xFF, (size & 7) << 5 | 0x1F, 0xFC]) + frame

        single = [message._replace(payload=b"\xaf\x01" + adts(message)) for message in sounds()]
        double = [
            first._replace(payload=first.payload + adts(second))
            for first, second in zip(single[::2], sounds()[1::2], strict=True)
        ]
        for messages in (single, double):
            events = demux([video(0, video_config()), *interleaved(pictures(), messages)])
            frames = frames_of(events, AUDIO)
            self.assertEqual([], problems_of(events))
            self.assertEqual([message.payload[2:] for message in sounds()], [frame.data for frame in frames])
            self.assertEqual({1_024}, {after.dts - frame.dts for frame, after in itertools.pairwise(frames)})

    def test_repeated_header_delays_nothing(self) -> None:
        """A sequence header before each keyframe, as some encoders send it, delays no picture."""
        demuxer = Demuxer()
        for message in [*configs(asc=None), *pictures(90)]:
            demuxer.video_received(message.timestamp, message.payload, message.timestamp)
        demuxer.video_received(3_000, video_config(), 3_000)
        self.assertEqual(1, len(frames_of(demuxer.video_received(3_000, picture(keyframe=True), 3_000), VIDEO)))


class OpenGopTests(SynchronousTestCase):
    """
    An encoder with open GOPs: intra pictures with a recovery point; what is shown before them comes behind them.

    These pictures are too short to become others: they stay as they are, as of an encoder that is too odd for that.
    """

    def pictures(self, first: int) -> list[Message]:
        """Pictures from the keyframe ``first`` on, a multiple of 30, at 25 a second; number 0 is an IDR picture."""
        recovery = join(b"\x06\x06\x01\xc4\x80")
        messages = []
        for number in range(first, first + 90):
            place = number % 30
            shown_ms = 40 * (number + (2 if place % 3 == 0 else -1 if number > 2 else 1))
            message = video(40 * number, picture(number == 0, mark=number, composition_ms=shown_ms + 40 - 40 * number))
            if number and not place:
                body = recovery + body_of(message).replace(b"\x41\x9a", b"\x41\x88", 1)
                message = message._replace(payload=b"\x17" + message.payload[1:5] + body)
            messages.append(message)
        return messages

    def test_keyframes_by_recovery_points(self) -> None:
        """Every intra picture with a recovery point is a keyframe, and no picture between them is lost."""
        demuxer = Demuxer()
        events = demux([*configs(Fraction(25), asc=None), *self.pictures(0)], demuxer)
        self.assertEqual(2, demuxer.health.open_gops)
        frames = frames_of(events, VIDEO)
        self.assertEqual(([], 90), (problems_of(events), len(frames)))
        self.assertEqual([0, 30, 60], [at for at, frame in enumerate(frames) if frame.keyframe])

    def test_joining_leaves_pictures_out(self) -> None:
        """Who joins at such a keyframe is not sent what is shown before it, which needs pictures from before."""
        events = demux([*configs(Fraction(25), asc=None), *self.pictures(30)])
        frames = frames_of(events, VIDEO)
        self.assertEqual(["trimmed"] * 2, problems_of(events))
        self.assertEqual(88, len(frames))
        self.assertEqual(frames[0].pts, min(frame.pts for frame in frames))


class PauseTests(SynchronousTestCase):
    """A camera that was off: what it sends then may need pictures that it has not sent."""

    SETS = slices.sets(cabac=True)

    def config(self) -> Message:
        return video(0, b"\x17\0\0\0\0" + AVC_SYNTAX.config_of_sets(self.SETS).record)

    def demux(self, messages: list[Message]) -> list[MediaEvent]:
        """What comes of messages that arrive in real time."""
        return demux(messages, now_ms=lambda index: messages[index].timestamp)

    def picture(self, number: int, at_ms: int, frame_number: int | None = None) -> Message:
        """A picture of a GOP of 50, at 25 a second, each of which refers to the one before."""
        place = number % 50
        if not place:
            return video(at_ms, b"\x17\1\0\0\0" + join(b"\x65\x88\x84\x21\xff"))
        frame = place if frame_number is None else frame_number
        nal = slices.slice_of(0, frame % 16, f"{2 * place % 64:06b}", "0", cabac=True, middle="00")
        return video(at_ms, b"\x27\1\0\0\0" + join(nal))

    def test_camera_off_without_references(self) -> None:
        """Pictures behind a pause whose references were not sent are left out, and said so, up to the next keyframe."""
        numbers = [*range(60), *range(313, 400)]
        for in_slices_of_their_own in (False, True):
            messages = [self.config()]
            for number in numbers:
                message = self.picture(number, 40 * number)
                messages += [video(40 * number, b"\x27\1\0\0\0" + join(AUD))] if in_slices_of_their_own else []
                messages.append(message)
            events = self.demux(messages)
            pictures = frames_of(events, VIDEO)
            self.assertEqual(["waiting_for_keyframe"] * 37, problems_of(events))
            self.assertEqual((60 + 50, True), (len(pictures), pictures[60].keyframe))
            self.assertEqual((350 - 59) * 3600, pictures[60].dts - pictures[59].dts)

    def test_camera_paused_continues_at_once(self) -> None:
        """A camera that has sent nothing because it coded nothing continues at once."""
        messages = [self.config(), *(self.picture(number, 40 * number) for number in range(60))]
        messages += [self.picture(number, 40 * number + 10_000) for number in range(60, 120)]
        events = self.demux(messages)
        self.assertEqual(([], 120), (problems_of(events), len(frames_of(events, VIDEO))))

    def test_numbers_that_say_nothing(self) -> None:
        """An encoder whose pictures have no proper numbers is taken as it is."""
        messages = [self.config(), *(self.picture(number, 1_000 * number, 7) for number in range(60))]
        self.assertEqual(60, len(frames_of(self.demux(messages), VIDEO)))
