"""HEVC, AV1, VP9 and H.264 in every form that they are sent in, as encoders send them (tests/data), to frames."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.demuxer import Demuxer, Discontinuity, TracksChanged
from rapidrtmp.media import Frame, MediaKind, VideoConfig
from rapidrtmp.rtmp.events import ConnectRequested, PublishRequested, VideoReceived
from rapidrtmp.rtmp.session import ServerSession
from tests.codec.builders import END_OF_VIDEO, Message, demux, frames_of, problems_of, steps, track_frames, video
from tests.codec.test_hevc import IDR, PPS, RECORD, SPS, TRAIL, VPS, array
from tests.codec.test_vp9 import KEY, keyframe

DATA = Path(__file__).parent.parent / "data"
HEVC, AV1, VP9, AVC = "ffmpeg-9.0-hevc-open-gops", "ffmpeg-9.0-av1-svt", "ffmpeg-9.0-vp9", "ffmpeg-9.0-multitrack"
FRAME_MS = 40


def sent(name: str) -> list[Message]:
    """The video messages of a capture, of its first track."""
    session, found = ServerSession(bytes), []
    session.receive_data((DATA / f"{name}.rtmp").read_bytes())
    for event in session.events():
        if isinstance(event, ConnectRequested):
            session.accept_connect()
        elif isinstance(event, PublishRequested):
            session.accept_publish(event.msid)
        elif isinstance(event, VideoReceived):
            found.append(video(event.timestamp, event.payload))
    return [message for message in found if message.payload[0] & 0x8F != 0x86]


def lengths(*nals: bytes) -> bytes:
    return b"".join(len(nal).to_bytes(4, "big") + nal for nal in nals)


def classic(message: Message, number: int) -> Message:
    """An enhanced message in the classic form, of a codec's unofficial number."""
    head, body = message.payload[0], message.payload[5:]
    packet_type = head & 0x0F
    if packet_type not in (0, 1, 3):
        return message._replace(payload=b"\x57\0")  # a command, which says nothing
    offset = b"\0\0\0"
    if packet_type == 1 and number == 12:
        offset, body = body[:3], body[3:]
    first = (head & 0x70) | number
    return message._replace(payload=bytes([first, min(packet_type, 1)]) + offset + body)


def enhanced(message: Message) -> Message:
    """A classic message of H.264 in the enhanced form, without a composition time where that is 0."""
    first, packet_type, offset, body = (*message.payload[:2], message.payload[2:5], message.payload[5:])
    if packet_type != 1:
        return message._replace(payload=bytes([0x80 | first & 0x70 | packet_type]) + b"avc1" + body)
    kind, offset = (1, offset) if any(offset) else (3, b"")
    return message._replace(payload=bytes([0x80 | first & 0x70 | kind]) + b"avc1" + offset + body)


def later(messages: Iterable[Message], by_ms: int) -> list[Message]:
    return [message._replace(timestamp=message.timestamp + by_ms) for message in messages]


class FormTests(SynchronousTestCase):
    def frames(self, messages: Iterable[Message]) -> list[Frame]:
        """The frames of messages, whenever they came; none is lost, and tracks do not change."""
        events = demux(messages)
        self.assertEqual([], problems_of(events))
        self.assertEqual(1, sum(isinstance(event, TracksChanged) for event in events))
        frames = [event for event in frames_of(events, MediaKind.VIDEO) if event.track.id == 1]
        return [replace(frame, arrived_ms=0) for frame in frames]

    def same(self, name: str, change: Callable[[Message], Message]) -> None:
        """Hold a capture in another form to making the same frames."""
        self.assertEqual(self.frames(sent(name)), self.frames(map(change, sent(name))))

    def test_classic_numbers_are_understood(self) -> None:
        """HEVC as number 12 of classic tags, as many hardware encoders have it, and AV1 as 13, are the same."""
        self.same(HEVC, lambda message: classic(message, 12))
        self.same(AV1, lambda message: classic(message, 13))

    def test_enhanced_avc_is_understood(self) -> None:
        """So is H.264 in the enhanced form, with its composition times and without, or in both forms at once."""
        self.same(AVC, enhanced)
        turns = itertools.cycle((True, False, False))
        self.same(AVC, lambda message: enhanced(message) if next(turns) else message)

    def test_repeated_starts_change_nothing(self) -> None:
        """A sequence start that comes again, spelled otherwise even, is no change."""
        plain = self.frames(sent(HEVC))
        start = next(message for message in sent(HEVC) if message.payload[0] == 0x90)
        self.assertEqual(
            plain, self.frames(each for message in sent(HEVC) for each in (message, start._replace(timestamp=0)))
        )
        other = b"\x90hvc1" + RECORD[:22] + b"\4" + array(0x27, b"\x4e\x01\x05\x00\x80") + array(0x22, PPS)
        other += array(0x20, VPS) + array(0x21, SPS)
        opening = [video(0, b"\x90hvc1" + RECORD)]
        pictures = [video(FRAME_MS * at, b"\xa3hvc1" + lengths(TRAIL if at % 25 else IDR)) for at in range(120)]
        repeated = [each for message in pictures for each in (message, video(0, other))]
        self.assertEqual(self.frames(opening + pictures), self.frames(opening + repeated))
        for name in (AV1, VP9):
            start = sent(name)[0]
            again = [each for message in sent(name) for each in (message, start._replace(timestamp=0))]
            self.assertEqual(self.frames(sent(name)), self.frames(again))

    def test_no_start_loses_nothing(self) -> None:
        """Without a sequence start nothing is lost where keyframes say it all: in HEVC, with parameter sets in band."""
        for name in (AV1, VP9):
            frames = self.frames(message for message in sent(name) if message.payload[0] != 0x90)
            plain = self.frames(sent(name))
            self.assertEqual([frame.data for frame in plain], [frame.data for frame in frames])
        opening = [video(0, b"\x93hvc1" + lengths(VPS, SPS, PPS, IDR))]
        pictures = [video(FRAME_MS * at, b"\xa3hvc1" + lengths(TRAIL)) for at in range(1, 50)]
        self.assertEqual(50, len(self.frames(opening + pictures)))

    def test_ends_touch_nothing_else(self) -> None:
        """Sequence ends, at any time, and packets of types that nothing is known of, touch nothing."""
        for name, fourcc in ((HEVC, b"hvc1"), (AV1, b"av01"), (VP9, b"vp09"), (AVC, b"avc1")):
            plain = self.frames(sent(name))
            ends = [video(0, b"\x92" + fourcc), video(0, END_OF_VIDEO)]
            self.assertEqual(plain, self.frames([*sent(name), *ends]))
            events = demux([*sent(name), video(0, b"\x88" + fourcc), video(0, b"\x9f" + fourcc + b"\1\2")])
            self.assertEqual(["unknown_packet"] * 2, problems_of(events))
            self.assertEqual(len(plain), len(track_frames(events, 1)))

    def test_nanoseconds_make_steps_exact(self) -> None:
        """At 60 frames a second, nanoseconds beside the milliseconds make every step exact."""
        messages = [video(0, b"\x90hvc1" + RECORD)]
        for at in range(180):
            ms, ns = divmod(at * 1_000_000_000 // 60, 1_000_000)
            nal = TRAIL if at % 60 else IDR
            messages.append(video(ms, b"\xa7\x02" + ns.to_bytes(3, "big") + b"\x03hvc1" + lengths(nal)))
        self.assertEqual([1500] * 179, steps(self.frames(messages)))


class ChangeTests(SynchronousTestCase):
    def check_change(self, first: list[Message], second: list[Message], sizes: list[tuple[int, int]]) -> None:
        """Hold a change of configuration to one discontinuity, at its keyframe, and to losing nothing."""
        events = demux([*first, *later(second, first[-1].timestamp + FRAME_MS)])
        self.assertEqual([], problems_of(events))
        self.assertEqual(len(sizes) - 1, sum(isinstance(event, Discontinuity) for event in events))
        configs = [event.tracks[0].config for event in events if isinstance(event, TracksChanged)]
        self.assertEqual(sizes, [(each.width, each.height) for each in configs if isinstance(each, VideoConfig)])
        sizes_of_frames = [frame.track.config for frame in frames_of(events, MediaKind.VIDEO)]
        self.assertEqual(configs, list(dict.fromkeys(sizes_of_frames)))
        coded = sum(message.payload[0] & 0x8F in (0x81, 0x83) for message in (*first, *second))
        self.assertEqual(coded, len(frames_of(events, MediaKind.VIDEO)))

    def of_two_seconds(self, messages: list[Message]) -> list[Message]:
        """Messages twice, one after the other: longer than what is held at the start."""
        frames = [message for message in messages if message.payload[0] & 0x8F in (0x81, 0x83)]
        return [*messages, *later(frames, frames[-1].timestamp + FRAME_MS)]

    def test_hevc_changes_its_depth(self) -> None:
        """HEVC that continues in 10 bits, with a sequence start or with parameter sets in band alone."""
        second = sent("ffmpeg-9.0-hevc-hdr")
        first = self.of_two_seconds(sent(HEVC))
        self.check_change(first, second, [(64, 48), (64, 48)])
        without = [message for message in second if message.payload[0] not in (0x90, 0xD4)]
        self.check_change(first, without, [(64, 48), (64, 48)])

    def test_av1_changes_its_size(self) -> None:
        """AV1 of another size, with a sequence start, with one that says nothing, and with none."""
        first = self.of_two_seconds(sent(AV1))
        second = [message for message in sent("ffmpeg-9.0-av1-aom") if message.payload[0] != 0xD4]
        self.check_change(first, second, [(64, 64), (64, 48)])
        self.check_change(first, second[2:], [(64, 64), (64, 48)])

    def test_vp9_changes_its_size(self) -> None:
        """VP9 of another size, with a sequence start and with none."""
        first = self.of_two_seconds(sent(VP9))
        larger = [video(0, b"\x91vp09" + keyframe(0, size=(640, 360)))]
        larger += [video(FRAME_MS * at, b"\xa1vp09\x86\0\x40") for at in range(1, 50)]
        self.check_change(first, larger, [(64, 48), (640, 360)])
        self.check_change(first, [sent(VP9)[0], *larger], [(64, 48), (640, 360)])
        self.check_change(first, [video(0, b"\x91vp09" + KEY), *larger[1:]], [(64, 48), (320, 180)])

    def test_other_codec_continues_the_track(self) -> None:
        """A track that continues in another codec."""
        for first, second in ((AV1, HEVC), (HEVC, AV1), (VP9, HEVC), (HEVC, VP9)):
            sizes = [(64, 64) if name == AV1 else (64, 48) for name in (first, second)]
            self.check_change(self.of_two_seconds(sent(first)), sent(second), sizes)

    def test_starts_alone_come_to_nothing(self) -> None:
        """A publish of nothing but sequence starts comes to nothing."""
        demuxer = Demuxer()
        for name in (HEVC, AV1, VP9):
            self.assertEqual([], demuxer.video_received(0, sent(name)[0].payload, 0))
