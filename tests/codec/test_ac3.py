"""Tests of `rapidrtmp.codec.ac3` and `rapidrtmp.codec.eac3`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.cmaf.reader import read_init_segment
from rapidrtmp.codec.ac3 import Ac3Reader, ac3_of_frame, read_dac3
from rapidrtmp.codec.eac3 import Eac3Reader, eac3_of_frame, read_dec3
from rapidrtmp.codec.table import CODECS
from rapidrtmp.errors import MediaError
from rapidrtmp.live.demuxer import TracksChanged
from rapidrtmp.media import MediaKind
from tests.codec.builders import Message, audio, configs, demux, every, frames_of, interleaved, problems_of
from tests.codec.builders import video_messages as pictures

AC3, EAC3 = CODECS["ac-3"], CODECS["ec-3"]


def filled(head: str, size: int) -> bytes:
    """A sync frame that begins like that; what follows means nothing."""
    begun = bytes.fromhex(head)
    return begun + bytes(size - len(begun))


#: FFmpeg 9.0: 48 kHz, 192 kbit/s, stereo; 44.1 kHz, 448 kbit/s, six channels, two frames of different sizes.
AC3_STEREO = filled("0B77 FE95 14 40 43", 768)
AC3_SURROUND, AC3_LONGER = filled("0B77 054E 5E 40 EB", 1_950), filled("0B77 054E 5F 40 EB", 1_952)
#: Likewise E-AC-3, at 48 kHz.
EAC3_STEREO = filled("0B77 017F 34 87 C0", 768)
EAC3_SURROUND = filled("0B77 037F 3F 87 C0", 1_792)


def eac3(
    kind: int = 0, substream: int = 0, blocks: int = 6, mode: int = 2, size: int = 64, channel_map: int = 0
) -> bytes:
    """An E-AC-3 sync frame at 48 kHz, or its header at least."""
    code = {1: 0, 2: 1, 3: 2, 6: 3}[blocks]
    bits = f"{kind:02b}{substream:03b}{size // 2 - 1:011b}00{code:02b}{mode:03b}0{16:05b}" + "00000" + "0"
    if kind == 1:
        bits += f"1{channel_map:016b}"
    bits += "0" * (-len(bits) % 8)
    return filled("0b77" + int(bits, 2).to_bytes(len(bits) // 8, "big").hex(), size)


def publish(bodies: list[bytes], fourcc: bytes, step_ms: int = 32) -> list[Message]:
    """A publish as FFmpeg begins it, with a message every so many milliseconds."""
    start = [audio(0, b"\x90" + fourcc), audio(0, b"\x94" + fourcc + bytes.fromhex("01 02 00000003"))]
    return start + [audio(at * step_ms, b"\x91" + fourcc + body) for at, body in enumerate(bodies)]


class BoxTests(SynchronousTestCase):
    def test_captured_frame_makes_the_box(self) -> None:
        """The first sync frame becomes the box that FFmpeg makes of it, and tells rate and channels."""
        for codec, config, rate, channels, box in (
            (AC3, ac3_of_frame(AC3_STEREO), 48_000, 2, "10 11 40"),
            (AC3, ac3_of_frame(AC3_SURROUND), 44_100, 6, "50 3D E0"),
            (EAC3, eac3_of_frame(EAC3_STEREO), 48_000, 2, "06 00 20 04 00"),
            (EAC3, eac3_of_frame(EAC3_SURROUND), 48_000, 6, "0E 00 20 0F 00"),
        ):
            self.assertEqual((rate, channels, 1536), (config.sample_rate, config.channels, config.samples_per_frame))
            self.assertEqual(bytes.fromhex(box), config.record)
            self.assertEqual(codec.fourcc, config.codec_string)
            (info,) = read_init_segment(write_init_segment([codec.make_track(2, config)]))
            self.assertEqual((codec.fourcc, config.record), (info.codec, info.record))
        self.assertEqual(ac3_of_frame(AC3_SURROUND), read_dac3(bytes.fromhex("503DE0 00")))
        self.assertEqual(eac3_of_frame(EAC3_SURROUND), read_dec3(bytes.fromhex("0E00 200F00")))

    def test_mixing_levels_are_passed_over(self) -> None:
        """The channel for low frequencies is found behind whatever levels the coding mode has."""
        for mode, levels, channels in ((0, 0, 2), (1, 0, 1), (2, 2, 2), (3, 2, 3), (4, 2, 3), (5, 4, 4), (7, 4, 5)):
            low = filled(f"0B77 0000 14 40 {mode << 5 | 1 << 4 - levels:02x}", 768)
            self.assertEqual(channels + 1, ac3_of_frame(low).channels, mode)

    def test_dependent_substream_adds_channels(self) -> None:
        """Seven channels and one: a dependent substream adds two, and ``dec3`` says where they are."""
        unit = eac3(mode=7, size=128) + eac3(1, 0, mode=2, channel_map=1 << 15 - 6)
        config = eac3_of_frame(unit)
        self.assertEqual(7, config.channels)
        # 48 kbit/s, one independent substream; version 16, five channels; one that depends on it, at Lrs and Rrs.
        bits = f"{48:013b}000" + "00" + f"{16:05b}" + "00" + "000" + "111" + "0" + "000" + "0001" + f"{2:09b}"
        self.assertEqual(int(bits, 2).to_bytes(6, "big"), config.record)
        self.assertIs(unit, Eac3Reader(config).read(unit))

    def test_half_rates_in_frames_alone(self) -> None:
        """Half the sampling rates are in frames alone."""
        half = filled("0B77 001F F4 80 00", 64)
        self.assertEqual(16_000, eac3_of_frame(filled("0B77 001F E4 80 00", 64)).sample_rate)
        self.assertRaises(MediaError, eac3_of_frame, half)

    def test_damaged_frames_are_refused(self) -> None:
        """What is cut short, of another version or reserved is refused as media."""
        for body in (b"", AC3_STEREO[:6], AC3_STEREO[:-1], b"\x0b\x78" + AC3_STEREO[2:], EAC3_STEREO):
            self.assertRaises(MediaError, ac3_of_frame, body)
        for head in ("0B77 0000 D4 40 43", "0B77 0000 26 40 43", "0B77 0000 14 48 43"):
            self.assertRaises(MediaError, ac3_of_frame, filled(head, 4_000))
        for body in (b"", EAC3_STEREO[:5], EAC3_STEREO[:-1], AC3_STEREO, eac3(3), eac3(1)):
            self.assertRaises(MediaError, eac3_of_frame, body)
        for record in (b"", b"\x10\x11", b"\xd0\x11\x40", b"\x12\x11\x40"):
            self.assertRaises(MediaError, read_dac3, record)
        for record in (b"", b"\x06\x00\x20\x04", b"\x06\x01\x20\x04\x00", b"\x06\x00\x10\x04\x00"):
            self.assertRaises(MediaError, read_dec3, record)

    @given(st.binary(max_size=40))
    def test_any_bytes_are_frames_or_refused(self, data: bytes) -> None:
        """Any bytes behind the sync word are frames, or are refused as media."""
        body = b"\x0b\x77" + data
        for codec in (AC3, EAC3):
            assert codec.config_of_frame is not None and codec.read_config is not None and codec.reader is not None
            try:
                config = codec.config_of_frame(body)
                codec.reader(config).read(body)
                self.assertEqual(config.record, codec.read_config(config.record).record)
            except MediaError:
                continue


class PublishTests(SynchronousTestCase):
    def test_begins_with_a_frame(self) -> None:
        """The sequence start says nothing; the first frame tells, and each lasts 1536 samples."""
        for body, fourcc in ((AC3_STEREO, b"ac-3"), (EAC3_STEREO, b"ec-3")):
            sound = publish([body] * 100, fourcc)
            events = demux(interleaved([*configs(asc=None), *pictures(every(30, 90))], sound))
            self.assertEqual([], problems_of(events))
            (tracks,) = (event.tracks for event in events if isinstance(event, TracksChanged))
            self.assertEqual([fourcc.decode()], [track.codec for track in tracks[1:]])
            frames = frames_of(events, MediaKind.AUDIO)
            self.assertEqual({1536}, {frame.duration for frame in frames})
            self.assertEqual({body}, {frame.data for frame in frames})

    def test_said_beforehand_is_as_good(self) -> None:
        """A sequence start with the box in it is as good; one with anything else is reported, and frames tell."""
        events = demux([audio(0, b"\x90ac-3\x10\x11\x40"), *publish([AC3_STEREO] * 60, b"ac-3")])
        self.assertEqual([], problems_of(events))
        events = demux([audio(0, b"\x90ac-3?"), *publish([AC3_STEREO] * 60, b"ac-3")])
        self.assertEqual(["malformed"], problems_of(events))
        self.assertEqual(60, len(frames_of(events, MediaKind.AUDIO)))

    def test_bit_rates_are_no_news(self) -> None:
        """Another bit rate, or a longer frame at 44.1 kHz, is no news; other channels are."""
        faster = filled("0B77 FE95 16 40 43", 896)
        events = demux(publish([AC3_STEREO, faster] * 50, b"ac-3"))
        self.assertEqual(1, sum(isinstance(event, TracksChanged) for event in events))
        reader = Ac3Reader(ac3_of_frame(AC3_SURROUND))
        config = reader.config
        self.assertEqual(AC3_LONGER, reader.read(AC3_LONGER))
        self.assertIs(config, reader.config)
        mono = filled("0B77 FE95 14 40 20", 768)
        events = demux(publish([AC3_STEREO] * 100 + [mono] * 100, b"ac-3"))
        told = [event.tracks[0].config for event in events if isinstance(event, TracksChanged)]
        self.assertEqual([2, 1], [config.channels for config in told])  # type: ignore[union-attr]

    def test_several_frames_in_a_message(self) -> None:
        """Sync frames that share a message are taken apart, each at its own time."""
        for body, fourcc in ((AC3_STEREO, b"ac-3"), (EAC3_STEREO, b"ec-3")):
            events = demux(publish([3 * body] * 40, fourcc, step_ms=96))
            self.assertEqual([], problems_of(events))
            frames = frames_of(events, MediaKind.AUDIO)
            self.assertEqual([n * 1536 for n in range(120)], [frame.dts for frame in frames])
            self.assertEqual({body}, {frame.data for frame in frames})

    def test_few_blocks_are_joined(self) -> None:
        """Sync frames of fewer than six blocks make access units of six, however they share messages."""
        for blocks, size in ((1, 64), (2, 66), (3, 68)):
            short, count = eac3(blocks=blocks, size=size), 6 // blocks
            together = demux(publish([count * short] * 60, b"ec-3"))
            apart = demux([*publish([short] * (60 * count), b"ec-3", step_ms=32 // count)])
            for events in (together, apart):
                self.assertEqual([], problems_of(events))
                self.assertEqual({short * count}, {frame.data for frame in frames_of(events, MediaKind.AUDIO)})
                self.assertEqual(60, len(frames_of(events, MediaKind.AUDIO)))

    def test_torn_units_are_left_out(self) -> None:
        """A unit that lacks blocks is left out and reported; what follows is whole again."""
        short = eac3(blocks=2)
        bodies = [short] * 5 + [eac3()] * 60
        events = demux(publish(bodies, b"ec-3"))
        self.assertEqual(["malformed"], problems_of(events)[:1])
        self.assertEqual([short * 3] + [eac3()] * 60, [frame.data for frame in frames_of(events, MediaKind.AUDIO)])

    def test_substreams_belong_to_their_unit(self) -> None:
        """Dependent substreams in messages of their own belong to the unit before; without one they are left out."""
        main, extra = eac3(blocks=3, mode=7), eac3(1, blocks=3, channel_map=1 << 9)
        events = demux(publish([extra, *[main + extra, main + extra] * 40], b"ec-3", step_ms=16))
        self.assertEqual(["malformed"], problems_of(events))
        self.assertEqual({2 * (main + extra)}, {frame.data for frame in frames_of(events, MediaKind.AUDIO)})
