"""Tests of `rapidrtmp.codec.flac`."""

from __future__ import annotations

import subprocess

from hypothesis import given
from hypothesis import strategies as st
from imageio_ffmpeg import get_ffmpeg_exe
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.flac import FlacReader, read_dfla, read_stream_info, silent_flac, write_dfla
from rapidrtmp.codec.flv import read_audio
from rapidrtmp.codec.table import CODECS
from rapidrtmp.errors import MediaError
from rapidrtmp.live.demuxer import TracksChanged
from rapidrtmp.media import MediaKind
from tests.codec.builders import audio, demux, frames_of, problems_of
from tests.codec.decoding import decoded_samples

#: FFmpeg 9.0: what it sends first, what it sends when the stream ends, and how its first frame begins.
START = bytes.fromhex("0400 0400 000000 001098 0BB802F0 00000000") + bytes(16)
END = bytes.fromhex("0400 0400 000145 00017F 0BB802F0 0000BB80 9E36F85F3D9494C75A2AC524EFAF9EBD")
FRAME = bytes.fromhex("FFF8AA88005B4C000000A601")
BLANK = START[:4] + bytes(6) + START[10:]
FLAC = CODECS["fLaC"]


def frame(code: int, number: bytes = b"\0", told: bytes = b"") -> bytes:
    """A frame with that code for its block size."""
    return bytes([0xFF, 0xF8, code << 4 | 0x0A, 0x88]) + number + told + bytes(8)


class StreamInfoTests(SynchronousTestCase):
    def test_captured_stream_info_makes_box(self) -> None:
        """What FFmpeg sends becomes ``dfLa`` with one block, the last; what only the end can tell is blank."""
        config = read_stream_info(START)
        self.assertEqual((48_000, 2, 1024, "fLaC"), (48_000, config.channels, config.samples_per_frame, "fLaC"))
        self.assertEqual(bytes.fromhex("00000000 80 000022") + BLANK, write_dfla(config.record))
        self.assertEqual(BLANK, read_dfla(write_dfla(config.record)))

    def test_forms_of_a_stream_info(self) -> None:
        """It comes bare, with the header of its block, behind the mark of a file, and with further blocks behind it."""
        comment = bytes.fromhex("84 000004 00000000")
        block = bytes.fromhex("00 000022") + START
        for form in (START, b"\x80" + block[1:], b"fLaC" + block, b"fLaC" + block + comment, block + comment):
            self.assertEqual(read_stream_info(START), read_stream_info(form))

    def test_end_is_no_change(self) -> None:
        """What FFmpeg sends at the end, sizes and digest filled in, is the same configuration."""
        self.assertEqual(read_stream_info(START), read_stream_info(END))
        self.assertEqual((), tuple(read_audio(b"\x91fLaC")), "the empty frame that follows")

    def test_high_rates_are_read(self) -> None:
        """Rates beyond 16 bits, depths and eight channels are read."""
        info = START[:10] + (192_000 << 12 | 7 << 9 | 23 << 4).to_bytes(4, "big") + START[14:]
        config = read_stream_info(info)
        self.assertEqual((192_000, 8), (config.sample_rate, config.channels))

    def test_damaged_info_is_refused(self) -> None:
        """What is cut short, or has no rate or no blocks, is refused as media."""
        for info in (b"", START[:-1], b"fLaC" + START[:-1], bytes(34), START[:10] + bytes(2) + START[12:]):
            self.assertRaises(MediaError, read_stream_info, info)

    @given(st.binary(max_size=60))
    def test_any_bytes_read_the_same(self, data: bytes) -> None:
        """Any bytes are read as the same again, or refused as media."""
        try:
            config = read_stream_info(data)
        except MediaError:
            return
        self.assertEqual(config.record, read_dfla(write_dfla(config.record)))


class FrameTests(SynchronousTestCase):
    def test_durations_by_block_size(self) -> None:
        """A frame lasts what its block size says, wherever that stands."""
        for body, samples in (
            (FRAME, 1024),
            (frame(1), 192),
            (frame(5), 4608),
            (frame(15), 32_768),
            (frame(6, told=b"\xff"), 256),
            (frame(7, told=b"\x03\x7f"), 896),
            (frame(7, b"\xf0\x90\x80\x80", b"\xff\xff"), 65_536),  # a number of four bytes
            (frame(6, b"\xfe\x80\x80\x80\x80\x80\x80", b"\x0f"), 16),  # and of seven
        ):
            reader = FlacReader(read_stream_info(START))
            self.assertIs(body, reader.read(body))
            self.assertEqual(samples, reader.samples)

    def test_headerless_frames_are_refused(self) -> None:
        """What begins with no header, or does not tell its block size, is no frame."""
        for body in (
            b"\x00" * 9,
            b"\xff\xfb" + bytes(9),
            FRAME[:5],
            frame(0),
            frame(7)[:5] + b"",
            b"\xff\xf8\x7a\x88\xfe\x80",
        ):
            self.assertRaises(MediaError, FlacReader(read_stream_info(START)).read, body)
        self.assertIsNone(FlacReader(read_stream_info(START)).read(b""))

    def test_silence_decodes_to_zeros(self) -> None:
        """Silent frames decode to nothing but zeros, at any depth and number of channels."""
        for packed in (0x0BB802F0, 0x0BB80170, 0x0BB80B70, 0x177002F0):
            track = FLAC.make_track(1, read_stream_info(START[:10] + packed.to_bytes(4, "big") + START[14:]))
            sound = decoded_samples(track, [(silent_flac(track.config), 1024)] * 5)  # type: ignore[arg-type]
            self.assertEqual({0}, set(sound))
            self.assertEqual(5 * 1024 * track.config.channels, len(sound))  # type: ignore[union-attr]


def encoded(seconds: int, *options: str) -> tuple[bytes, list[bytes]]:
    """STREAMINFO, and the frames of a tone, by FFmpeg."""
    command = [
        get_ffmpeg_exe(),
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        f"sine=sample_rate=48000:duration={seconds}",
        "-ac",
        "2",
    ]
    made = subprocess.run([*command, *options, "-f", "flv", "-"], capture_output=True, check=True, timeout=60).stdout
    bodies, at = [], 13
    while at + 15 < len(made):
        size = int.from_bytes(made[at + 1 : at + 4], "big")
        if made[at] == 8:
            bodies.append(made[at + 11 : at + 11 + size])
        at += 15 + size
    info = next(body[5:] for body in bodies if body[:1] == b"\x90")
    return info, [body[5:] for body in bodies if body[:1] == b"\x91" and body[5:]]


class SeveralFramesTests(SynchronousTestCase):
    """Messages with several frames, of which none says how long it is."""

    def test_encoded_frames_come_apart(self) -> None:
        """Frames of a real encoder that share messages come out as they were, each at its own time."""
        info, frames = encoded(8, "-c:a", "flac")
        for count in (1, 2, 5):
            bodies = [b"".join(frames[at : at + count]) for at in range(0, len(frames), count)]
            block = read_stream_info(info).samples_per_frame
            messages = [audio(at * count * block // 48, b"\x91fLaC" + body) for at, body in enumerate(bodies)]
            events = demux([audio(0, b"\x90fLaC" + info), *messages])
            self.assertEqual([], problems_of(events))
            heard = frames_of(events, MediaKind.AUDIO)
            self.assertEqual(frames, [each.data for each in heard])
            self.assertEqual([at * block for at in range(len(frames))], [each.dts for each in heard])

    def test_marks_within_are_no_frames(self) -> None:
        """Bytes like the beginning of a frame, or a header with another number or a wrong sum, are part of a frame."""
        first, second = headed(0), headed(1)
        for inside in (b"\xff\xf8" * 1000, second[:5] + b"\x00" + second[6:], headed(2), headed(0), second[:5]):
            body = first + inside
            self.assertIs(body, FlacReader(read_stream_info(START)).read(body), inside[:12].hex())
        self.assertIsNone(FlacReader(read_stream_info(START)).read(first + second))

    def test_samples_are_counted_where_blocks_vary(self) -> None:
        """Where blocks vary in size the number that follows is that of the next frame's first sample."""
        reader = FlacReader(read_stream_info(START))
        varying = [headed(0, 0xF9, 4), headed(2304, 0xF9, 5), headed(2304 + 4608, 0xF9, 4)]
        self.assertIsNone(reader.read(b"".join(varying)))
        self.assertEqual(varying, list(reader.split(b"".join(varying))))
        self.assertEqual(2304, reader.samples)

    def test_countless_frames_are_refused(self) -> None:
        """A message of more frames than any encoder sends is refused."""
        body = b"".join(map(headed, range(1000)))
        events = demux([audio(0, b"\x90fLaC" + START), audio(0, b"\x91fLaC" + body)])
        self.assertEqual(["too_many_pieces"], problems_of(events))


def headed(number: int, second: int = 0xF8, code: int = 10) -> bytes:
    """A frame with a whole header, and some bytes behind it."""
    written = chr(number).encode() if number else b"\0"
    head = bytes([0xFF, second, code << 4 | 0x0A, 0x88]) + written
    value = 0
    for byte in head:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ (0x107 if value & 0x80 else 0)) & 0x1FF
    return head + bytes([value & 0xFF]) + b"\x5b\x4c\x00\x00\x00\xa6\x01"


class PublishTests(SynchronousTestCase):
    def test_whole_publish_is_timed(self) -> None:
        """Frames are timed by their blocks, the last and shorter one as well; the end is no news."""
        start = [audio(0, b"\x90fLaC" + START), audio(0, b"\x94fLaC" + bytes.fromhex("01 02 00000003"))]
        frames = [audio(each * 1024 // 48, b"\x91fLaC" + FRAME) for each in range(180)]
        frames.append(audio(180 * 1024 // 48, b"\x91fLaC" + frame(7, told=b"\x03\x7f")))
        end = [audio(3_858, b"\x90fLaC" + END), audio(3_858, b"\x91fLaC")]
        events = demux([*start, *frames, *end])
        self.assertEqual([], problems_of(events))
        self.assertEqual(1, sum(isinstance(event, TracksChanged) for event in events))
        heard = frames_of(events, MediaKind.AUDIO)
        self.assertEqual([1024] * 180 + [896], [each.duration for each in heard])
        self.assertEqual(180 * 1024, heard[-1].dts)
