"""Large messages that are made of as many pieces as fit: each is dropped after a look at its beginning."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.pieces import MOST_FRAMES, MOST_PIECES
from rapidrtmp.live.demuxer import Demuxer, MediaEvent
from rapidrtmp.media import MediaKind
from tests.codec.builders import (
    ASC_48K,
    PPS,
    Message,
    audio,
    audio_config,
    configs,
    demux,
    frames_of,
    picture,
    problems_of,
    sound,
    sps,
    video,
)
from tests.codec.test_av1 import KEY, SENT
from tests.codec.test_av1 import RECORD as AV1_RECORD
from tests.codec.test_hevc import IDR, RECORD, TRAIL, lengths

SIZE = 256 * 1024
#: Calls, as Python's profiler counts them, that a message may cost: a few milliseconds.
MOST_CALLS = 20_000
SLICE, IDR_SLICE = b"\x41\x9a", b"\x65\x88"
AVC = b"\x27\x01\x00\x00\x00"
PLAIN_SEI, RECOVERY_SEI = b"\x06\x05\x00\x80", b"\x06\x06\x01\xc4\x80"
#: The smallest frames that there are.
ADTS = bytes.fromhex("fff14c80011ffc00")
MP3 = bytes.fromhex("fff314c4") + bytes(20)


def filled(unit: bytes, size: int = SIZE) -> bytes:
    return unit * (size // len(unit))


AVC_BODIES = {
    "slices": lengths(SLICE) + filled(lengths(b"\x41\x1a")),
    "slices of a keyframe": lengths(IDR_SLICE) + filled(lengths(b"\x65\x1a")),
    "SEI": filled(lengths(PLAIN_SEI)) + lengths(SLICE),
    "recovery points": filled(lengths(RECOVERY_SEI)) + lengths(SLICE),
    "parameter sets": filled(lengths(sps(), PPS)) + lengths(IDR_SLICE),
    "empty units": bytes(SIZE) + lengths(SLICE),
    "start codes": filled(b"\0\0\1\x41"),
    "start codes inside of a unit": lengths(IDR_SLICE + filled(b"\0\0\1\x41")),
    "start codes that begin nothing": lengths(IDR_SLICE + filled(b"\0\0\1\xff")),
    "start codes in each of many units": lengths(IDR_SLICE) + lengths(filled(b"\0\0\1\x41", 1_000)) * 250,
    "lengths, then start codes": filled(lengths(SLICE), SIZE // 2) + filled(b"\0\0\1\x41", SIZE // 2),
}
HEVC_BODIES = {
    "slices": lengths(TRAIL) + filled(lengths(TRAIL[:2] + b"\x50")),
    "slices of a keyframe": lengths(IDR) + filled(lengths(IDR[:2] + b"\x50")),
    "SEI": filled(lengths(b"\x4e\x01\x05\x00")) + lengths(TRAIL),
}
AV1_BODIES = {
    "frames": filled(b"\x32\x01\x30"),
    "metadata": filled(b"\x2a\x01\x30") + KEY,
    "sequence headers": filled(SENT) + KEY,
    "padding": filled(b"\x7a\x00"),
}


def calls_of(action: Callable[[], object]) -> int:
    """How many functions are called meanwhile, those in C too."""
    counter = count()

    def see(_frame: object, event: str, _argument: object) -> None:
        if event in ("call", "c_call"):
            next(counter)

    sys.setprofile(see)
    try:
        action()
    finally:
        sys.setprofile(None)
    return next(counter)


def take(demuxer: Demuxer, message: Message) -> list[MediaEvent]:
    receive = demuxer.audio_received if message.kind is MediaKind.AUDIO else demuxer.video_received
    return receive(message.timestamp, message.payload, message.timestamp)


class TooManyPiecesTests(SynchronousTestCase):
    def check(self, start: list[Message], hostile: Message) -> None:
        """A message in the middle of a publish is dropped, as one problem that is named, and is cheap."""
        demuxer = Demuxer()
        for message in start:
            take(demuxer, message)
        before = demuxer.health.dropped_frames
        received: list[MediaEvent] = []
        calls = calls_of(lambda: received.extend(take(demuxer, hostile)))
        self.assertEqual(["too_many_pieces"], problems_of(received))
        self.assertLess(calls, MOST_CALLS)
        self.assertEqual(before + 1, demuxer.health.dropped_frames)

    def test_pictures_of_h264(self) -> None:
        """However a picture of H.264 is cut into units, one of thousands is dropped and cheap; the stream continues."""
        start = [*configs(asc=None), *(video(40 * at, picture(at == 0)) for at in range(4))]
        for name, body in AVC_BODIES.items():
            with self.subTest(name):
                self.check(start, video(160, AVC + body))

    def test_pictures_before_their_configuration(self) -> None:
        """The same holds where the units are searched for parameter sets, and for the first picture."""
        for name, body in AVC_BODIES.items():
            with self.subTest(name):
                self.check([], video(0, AVC + body))
                self.check(configs(asc=None), video(0, AVC + body))

    def test_pictures_of_hevc(self) -> None:
        """It holds for HEVC."""
        first, other = b"\x93hvc1" + lengths(IDR), b"\xa3hvc1" + lengths(TRAIL)
        start = [video(0, b"\x90hvc1" + RECORD), *(video(40 * at, other if at else first) for at in range(4))]
        for name, body in HEVC_BODIES.items():
            with self.subTest(name):
                self.check(start, video(160, b"\xa3hvc1" + body))

    def test_pictures_of_av1(self) -> None:
        """It holds for AV1."""
        start = [video(0, b"\x90av01" + AV1_RECORD), *(video(40 * at, b"\x91av01" + SENT + KEY) for at in range(4))]
        for name, body in AV1_BODIES.items():
            with self.subTest(name):
                self.check(start, video(160, b"\xa3av01" + body))

    def test_frames_of_audio(self) -> None:
        """A message of thousands of frames of audio is dropped and cheap, of each codec that can be taken apart."""
        aac = [audio(0, audio_config(ASC_48K)), *(audio(21 * at, sound()) for at in range(4))]
        self.check(aac, audio(84, b"\xaf\x01" + filled(ADTS)))
        self.check([], audio(0, b"\x2f" + filled(MP3)))

    def test_picture_of_endless_messages(self) -> None:
        """A picture that further messages continue without end is dropped, so that it never fills the memory."""
        start = configs(asc=None)
        first = video(0, AVC + lengths(IDR_SLICE))
        more = [video(0, AVC + lengths(b"\x65\x40" + bytes(10)) * 100)] * (MOST_PIECES // 100 + 2)
        problems = problems_of(demux([*start, first, *more]))
        self.assertEqual("too_many_pieces", problems[0])

    def test_large_pictures_are_taken(self) -> None:
        """A picture of as many slices as any encoder makes is carried, and so is as much audio in a message."""
        slices = lengths(IDR_SLICE) + lengths(b"\x65\x1a") * (MOST_PIECES - 1)
        events = demux([*configs(asc=None), *(video(40 * at, b"\x17" + AVC[1:] + slices) for at in range(3))])
        self.assertEqual([], problems_of(events))
        self.assertEqual([slices] * 3, [frame.data for frame in frames_of(events, MediaKind.VIDEO)])
        events = demux([audio(0, audio_config(ASC_48K)), audio(0, b"\xaf\x01" + ADTS * MOST_FRAMES)])
        self.assertEqual([], problems_of(events))
        self.assertEqual(MOST_FRAMES, len(frames_of(events, MediaKind.AUDIO)))
