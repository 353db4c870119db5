"""Tests of `rapidrtmp.codec.table`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import rapidrtmp
from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.cmaf.reader import read_init_segment
from rapidrtmp.codec.table import (
    AAC,
    AVC,
    CODECS,
    HEVC,
    Codec,
    carried,
    codec_of_entry,
    codec_of_string,
    names_carried,
)
from rapidrtmp.errors import MediaError
from rapidrtmp.live.demuxer import Demuxer, TracksChanged
from rapidrtmp.media import AudioConfig, CodecConfig, MediaKind, VideoConfig
from tests.codec.builders import Message, audio, configs, demux, every, frames_of, problems_of, video, video_messages

VIDEO, AUDIO = MediaKind.VIDEO, MediaKind.AUDIO
PACKAGE = Path(rapidrtmp.__path__[0])


class ToyReader:
    """Reads a toy codec: the first byte of a frame is 1 in keyframes; a second of 0xFF brings another size."""

    def __init__(self, config: VideoConfig) -> None:
        self.config = config
        self.keyframe = False
        self.samples = 0

    def read(self, body: bytes) -> bytes | None:
        self.keyframe = body[0] == 1
        if body[1:2] == b"\xff":
            self.config = read_toy_config(body[2:4])
        return body or None


def read_toy_config(record: bytes) -> VideoConfig:
    if len(record) != 2:
        raise MediaError(f"toy record of {len(record)} bytes")
    return VideoConfig(record, f"toy1.{record.hex()}", record[0] * 8, record[1] * 8)


class HumReader:
    """Reads a toy codec of audio, a frame of which lasts ten samples for each of its bytes."""

    keyframe = True

    def __init__(self, config: AudioConfig) -> None:
        self.config = config
        self.samples = 0

    def read(self, body: bytes) -> bytes:
        self.samples = 10 * len(body)
        return body


def read_hum_config(record: bytes) -> AudioConfig:
    return AudioConfig(record, "hum1", 8_000, 1, 80)


TOY = Codec("toy1", VIDEO, "Toy", read_config=read_toy_config, reader=ToyReader, box="toyC")
HUM = Codec(
    "hum1",
    AUDIO,
    "Hum",
    read_config=read_hum_config,
    config_of_frame=lambda _: read_hum_config(b""),
    reader=HumReader,
    box="humC",
    write_box=lambda record: b"hum" + record,
    read_box=lambda payload: payload[3:],
    describes_itself=True,
)


def toy_frames(count: int = 60, *, change_at: int = -1) -> Iterator[Message]:
    """A toy stream, a keyframe each second."""
    yield video(0, b"\x90toy1" + bytes([20, 10]))
    for number, time in enumerate(every(30, count)):
        body = bytes([number % 30 == 0]) + (b"\xff\x30\x20" if number == change_at else bytes([number]))
        yield video(time, (b"\x91" if number % 30 == 0 else b"\xa1") + b"toy1" + body)


class OneRowTests(SynchronousTestCase):
    """A codec is added by one row, and needs nothing else."""

    def setUp(self) -> None:
        for codec in (TOY, HUM):
            self.addCleanup(CODECS.pop, codec.fourcc)
            CODECS[codec.fourcc] = codec

    def test_frames_of_a_new_row(self) -> None:
        """Its frames come out of the demuxer, with what its reader says of them."""
        events = demux(toy_frames())
        self.assertEqual([], problems_of(events))
        (told,) = (event.tracks for event in events if isinstance(event, TracksChanged))
        self.assertEqual([("toy1", "toy1.140a", 160, 80)], [_facts(track.codec, track.config) for track in told])
        frames = frames_of(events, VIDEO)
        self.assertEqual([0, 30], [n for n, frame in enumerate(frames) if frame.keyframe])
        self.assertEqual(60, len(frames))

    def test_change_in_frames(self) -> None:
        """A configuration that comes within its frames is another track's."""
        events = demux(toy_frames(120, change_at=90))
        told = [event.tracks[0] for event in events if isinstance(event, TracksChanged)]
        self.assertEqual(["toy1.140a", "toy1.3020"], [track.config.codec_string for track in told])

    def test_init_segment_of_a_new_row(self) -> None:
        """Its init segment holds the box that its row makes, and reads back."""
        tracks = [TOY.make_track(1, read_toy_config(b"\x14\x0a")), HUM.make_track(2, read_hum_config(b"la"), "eng")]
        init = write_init_segment(tracks)
        self.assertIn(b"toyC\x14\x0a", init)
        self.assertIn(b"humChumla", init)
        self.assertEqual(
            [("toy1", b"\x14\x0a", 160), ("hum1", b"la", 0)],
            [(info.codec, info.record, info.width) for info in read_init_segment(init)],
        )

    def test_self_describing_codec_needs_nothing(self) -> None:
        """A codec whose frames say it all needs no sequence start, or an empty one; its frames last what they say."""
        for opening in ([], [audio(0, b"\x90hum1")]):
            frames = [audio(time, b"\x91hum1" + b"m" * size) for time, size in ((0, 80), (100, 40), (150, 80))]
            events = demux([*opening, *frames])
            self.assertEqual([], problems_of(events))
            self.assertEqual(
                [(0, 800), (800, 400), (1200, 800)], [(each.dts, each.duration) for each in frames_of(events, AUDIO)]
            )

    def test_change_of_codec(self) -> None:
        """A track that continues in another codec begins a new range; a stray frame of one changes nothing."""
        stray = video(2_980, b"\x91toy1\x01\x02")
        events = demux([*configs(asc=None), *video_messages(every(30, 90)), stray])
        self.assertEqual(["no_config"], problems_of(events))
        later = [message._replace(timestamp=message.timestamp + 3_000) for message in toy_frames()]
        events = demux([*configs(asc=None), *video_messages(every(30, 90)), *later])
        told = [event.tracks[0] for event in events if isinstance(event, TracksChanged)]
        self.assertEqual([(1, "avc1"), (1, "toy1")], [(track.id, track.codec) for track in told])

    def test_names_of_a_new_row(self) -> None:
        """It is named to encoders, and known by its sample entry and codec string."""
        self.assertRegex(names_carried(), r"H\.264.* or Toy and AAC.* or Hum$")
        self.assertIs(TOY, codec_of_entry("toy1"))
        self.assertIs(TOY, codec_of_string("toy1.140a"))


class TableTests(SynchronousTestCase):
    def test_rows_are_all_complete(self) -> None:
        """A codec that is carried has all that carrying it takes."""
        self.assertLessEqual({AVC, HEVC, AAC}, set(carried()))
        for codec in carried():
            self.assertTrue(codec.read_config and codec.reader and codec.box, codec.fourcc)
        for fourcc, codec in CODECS.items():
            self.assertEqual((fourcc, 4), (codec.fourcc, len(fourcc)))

    def test_names_in_one_breath(self) -> None:
        """What is carried can be said in one breath."""
        self.assertRegex(names_carried(), r"^H\.264[^,]*(, [^,]+)* and AAC[^,]*(, [^,]+)*$")

    def test_entries_of_other_names(self) -> None:
        """Sample entries of others name the same codecs; what is none names none."""
        for entry, codec in (("avc1", AVC), ("avc3", AVC), ("hev1", HEVC), ("mp4a", AAC)):
            self.assertIs(codec, codec_of_entry(entry))
        self.assertIsNone(codec_of_entry("wxyz"))
        self.assertIsNone(codec_of_string(""))
        self.assertIs(CODECS["Opus"], codec_of_string("opus"))

    def test_unknown_config_is_reported(self) -> None:
        """A known codec that is not carried is reported by its name; an unknown one by its code."""
        demuxer = Demuxer()
        events = demuxer.video_received(0, b"\x90vvc1\1", 0) + demuxer.audio_received(0, b"\x90wxyz\1", 0)
        details = [event.detail for event in events if hasattr(event, "detail")]
        self.assertEqual(["video codec VVC (vvc1)", "audio codec 'wxyz'"], details)

    def test_no_literals_elsewhere(self) -> None:
        """No other module names a codec by its code: the table is asked."""
        codes = re.compile("|".join(re.escape(entry) for codec in CODECS.values() for entry in _codes(codec)))
        for path in PACKAGE.rglob("*.py"):
            if path.parent != PACKAGE / "codec" and codes.search(path.read_text("utf-8")):
                found = [text for text in _texts(path) if codes.fullmatch(text)]
                self.assertEqual([], found, path)


def _facts(codec: str, config: CodecConfig) -> tuple[str, str, int, int]:
    assert isinstance(config, VideoConfig)
    return codec, config.codec_string, config.width, config.height


def _codes(codec: Codec) -> tuple[str, ...]:
    codes = (codec.fourcc, *codec.other_entries)
    return tuple(code for code in codes if not code.startswith("."))  # which names files as well


def _texts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            yield node.value if isinstance(node.value, str) else node.value.decode("latin-1")
