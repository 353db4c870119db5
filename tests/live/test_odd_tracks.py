"""Odd inputs of Enhanced RTMP, each as an encoder sends it, from its messages to frames."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.demuxer import Discontinuity, TracksChanged
from rapidrtmp.media import Frame, MediaKind
from rapidrtmp.timeline.events import MediaEvent
from tests.codec.builders import (
    ASC_48K,
    Message,
    aac_48k,
    audio,
    audio_config,
    audio_messages,
    demux,
    frames_of,
    problems_of,
    video,
)
from tests.codec.test_av1 import KEY, SENT
from tests.codec.test_av1 import RECORD as AV1_RECORD
from tests.codec.test_hevc import IDR, RECORD, TRAIL, lengths

FRAME_MS = 40


def published(start: bytes, key: bytes, other: bytes) -> list[Message]:
    """A sequence start and three seconds of pictures, each second a keyframe."""
    pictures = [video(at * FRAME_MS, other if at % 25 else key) for at in range(75)]
    return [video(0, start), *pictures]


def video_of(events: list[MediaEvent]) -> list[tuple[int, bool]]:
    """Decode times of pictures, and which are keyframes."""
    return [(frame.dts, frame.keyframe) for frame in frames_of(events, MediaKind.VIDEO)]


def heard_of(events: list[MediaEvent]) -> list[tuple[int, int, bytes]]:
    """Decode times, durations and data of audio."""
    return [(frame.dts, frame.duration, frame.data) for frame in frames_of(events, MediaKind.AUDIO)]


class OddHeadersTests(SynchronousTestCase):
    def test_frame_type_is_a_hint(self) -> None:
        """Keyframes are those of the bitstream, where headers say nothing, always "key" or never."""
        key, other = lengths(IDR), lengths(TRAIL)
        plain = demux(published(b"\x90hvc1" + RECORD, b"\x93hvc1" + key, b"\xa3hvc1" + other))
        self.assertEqual(75, len(video_of(plain)))
        for first in (0x80, 0x90, 0xA0, 0xB0, 0xC0):
            coded = bytes([first | 3]) + b"hvc1"
            events = demux(published(bytes([first]) + b"hvc1" + RECORD, coded + key, coded + other))
            self.assertEqual([], problems_of(events))
            self.assertEqual(video_of(plain), video_of(events), hex(first))

    def test_transport_stream_start_of_av1(self) -> None:
        """A sequence start that holds AV1's descriptor of transport streams loses nothing."""
        plain = demux(published(b"\x90av01" + AV1_RECORD, b"\x91av01" + SENT + KEY, b"\x91av01" + SENT + KEY))
        descriptor = b"\x80\x04" + AV1_RECORD[:4]
        events = demux(published(b"\x95av01" + descriptor, b"\x91av01" + SENT + KEY, b"\x91av01" + SENT + KEY))
        self.assertEqual(75, len(video_of(plain)))
        self.assertEqual(video_of(plain), video_of(events))

    def test_unknown_codec_costs_no_others(self) -> None:
        """A track of an unknown codec is left out, reported once, and the first one continues."""
        key, other = lengths(IDR), lengths(TRAIL)
        messages = published(b"\x90hvc1" + RECORD, b"\x93hvc1" + key, b"\xa3hvc1" + other)
        extra = [video(message.timestamp, b"\x96\x01zzzz\xff" + b"\0" * 9) for message in messages]
        mixed = [each for pair in zip(messages, extra, strict=True) for each in pair]
        events = demux(mixed)
        self.assertEqual(["unsupported_codec"], problems_of(events))
        self.assertEqual(75, len(video_of(events)))

    def test_last_track_number_is_taken(self) -> None:
        """A track of the highest number is a track like others."""
        messages = [audio(0, b"\x95\x00mp4a\xff" + ASC_48K)]
        messages += [audio(time, b"\x95\x01mp4a\xff" + b"\x21\x10\x04") for time in aac_48k(120)]
        events = demux(messages)
        self.assertEqual([], problems_of(events))
        self.assertEqual({2 * 255 + 2}, {frame.track.id for frame in events if isinstance(frame, Frame)})


class OddSoundTests(SynchronousTestCase):
    """What FFmpeg sends beside classic AAC."""

    def sounds(self, *extra: Message) -> list[MediaEvent]:
        messages = [audio(0, audio_config(ASC_48K)), *extra[:1], *audio_messages(aac_48k(180)), *extra[1:]]
        return demux(messages)

    def test_enhanced_layout_beside_classic_frames(self) -> None:
        """A channel layout in the enhanced form is no other codec than that of the classic frames around it."""
        layout = audio(0, b"\x94mp4a" + bytes.fromhex("01 06 0000003F"))
        plain, events = self.sounds(), self.sounds(layout)
        self.assertEqual(heard_of(plain), heard_of(events))
        self.assertEqual(1, sum(isinstance(event, TracksChanged) for event in events))

    def test_end_at_no_time(self) -> None:
        """A sequence end counts for nothing whatever its timestamp, and what follows it continues."""
        late = [message._replace(timestamp=message.timestamp + 3_840) for message in audio_messages(aac_48k(180))]
        plain = self.sounds(audio(0, b""), *late)
        events = self.sounds(audio(0, b""), audio(0, b"\x92mp4a"), audio(0, b"\x92mp4a"), *late)
        self.assertEqual([], problems_of(events))
        self.assertEqual(0, sum(isinstance(event, Discontinuity) for event in events))
        self.assertEqual(heard_of(plain), heard_of(events))
        self.assertEqual(360, len(frames_of(events, MediaKind.AUDIO)))
