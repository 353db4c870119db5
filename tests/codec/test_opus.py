"""Tests of `rapidrtmp.codec.opus`."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.cmaf.reader import read_init_segment
from rapidrtmp.codec.opus import (
    OpusReader,
    opus_of_channels,
    opus_of_packet,
    read_dops,
    read_opus_head,
    silent_packet,
    write_dops,
)
from rapidrtmp.codec.table import CODECS
from rapidrtmp.errors import MediaError
from rapidrtmp.live.demuxer import TracksChanged
from rapidrtmp.media import MediaKind
from tests.codec.builders import Message, audio, configs, demux, every, frames_of, interleaved, problems_of
from tests.codec.builders import video_messages as pictures
from tests.codec.decoding import decoded_samples

#: FFmpeg 9.0, libopus at 48 kHz: two channels, and six.
STEREO = bytes.fromhex("4F70757348656164 01 02 3801 80BB0000 0000 00")
SURROUND = bytes.fromhex("4F70757348656164 01 06 3801 80BB0000 0000 01 04 02 00 04 01 02 03 05")
OPUS = CODECS["Opus"]
AUDIO = MediaKind.AUDIO
#: Captured of FFmpeg 9.0: what follows each sequence start.
LAYOUT = b"\x94Opus" + bytes.fromhex("01 02 00000003")


class HeaderTests(SynchronousTestCase):
    def test_usual_surround_by_channels(self) -> None:
        """Three to eight channels have the tables of usual encoders, which decoders take; others have none."""
        self.assertEqual(SURROUND[18:], opus_of_channels(6).record[18:])  # type: ignore[union-attr]
        for channels in range(3, 9):
            config = opus_of_channels(channels)
            assert config is not None
            sound = decoded_samples(OPUS.make_track(1, config), [(silent_packet(config), 960)] * 5)
            self.assertEqual((channels, 5 * 960 * channels), (config.channels, len(sound)))
        for channels in (0, 1, 2, 9, 255):
            self.assertIsNone(opus_of_channels(channels))

    def test_captured_headers_become_boxes(self) -> None:
        """The headers that FFmpeg sends become the boxes that it writes itself, and are read back."""
        for head, channels, box in (
            (STEREO, 2, "00 02 0138 0000BB80 0000 00"),
            (SURROUND, 6, "00 06 0138 0000BB80 0000 01 04 02 00 04 01 02 03 05"),
        ):
            config = read_opus_head(head)
            self.assertEqual((48_000, channels, "opus"), (config.sample_rate, config.channels, config.codec_string))
            self.assertEqual(bytes.fromhex(box), write_dops(config.record))
            self.assertEqual(head, read_dops(bytes.fromhex(box)))

    def test_clock_is_always_48_khz(self) -> None:
        """The clock is 48 kHz, whatever the rate of what was encoded; the header's gain is kept with its sign."""
        head = STEREO[:12] + bytes.fromhex("44AC0000 00FF 00")
        config = read_opus_head(head)
        self.assertEqual(48_000, config.sample_rate)
        self.assertEqual(bytes.fromhex("00 02 0138 0000AC44 FF00 00"), write_dops(config.record))

    def test_what_is_behind(self) -> None:
        """What follows the header, and a version of the same layout, make no other configuration."""
        self.assertEqual(read_opus_head(STEREO), read_opus_head(STEREO + b"junk"))
        self.assertEqual(read_opus_head(STEREO), read_opus_head(STEREO[:8] + b"\x00" + STEREO[9:]))

    def test_damaged_headers_are_refused(self) -> None:
        """Headers that are cut short, too new or contradict themselves are refused as media."""
        for head in (
            b"",
            b"OpusTags" + STEREO[8:],
            STEREO[:-1],
            SURROUND[:-1],
            STEREO[:8] + b"\x10" + STEREO[9:],
            STEREO[:9] + b"\x03" + STEREO[10:],  # three channels without a table
            STEREO[:9] + b"\x00" + STEREO[10:],
            SURROUND[:9] + b"\x09" + SURROUND[10:] + bytes(3),
            SURROUND[:18] + b"\x03" + SURROUND[19:],  # a family with a matrix in it
            SURROUND[:19] + b"\x00" + SURROUND[20:],  # no streams
            SURROUND[:20] + b"\x05" + SURROUND[21:],  # more are coupled than there are
            SURROUND[:-1] + b"\x06",  # a channel that is not decoded
        ):
            self.assertRaises(MediaError, read_opus_head, head)
        read_opus_head(SURROUND[:-1] + b"\xff")  # a silent channel

    def test_init_segment_has_the_box(self) -> None:
        """Its sample entry has the channels, 48 kHz, and the box."""
        (info,) = read_init_segment(write_init_segment([OPUS.make_track(2, read_opus_head(SURROUND))]))
        self.assertEqual(("Opus", 6, 48_000, SURROUND), (info.codec, info.channels, info.sample_rate, info.record))

    @given(st.binary(max_size=40))
    def test_any_bytes_are_decided(self, data: bytes) -> None:
        """Any bytes behind the magic are a header, or are refused as media."""
        try:
            config = read_opus_head(b"OpusHead" + data)
        except MediaError:
            return
        self.assertEqual(config.record, read_dops(write_dops(config.record)))


class PacketTests(SynchronousTestCase):
    def test_durations_by_first_byte(self) -> None:
        """A packet lasts what its first byte says, or the number of frames in the second one."""
        for packet, samples in (
            ("00", 480),  # SILK, 10 ms
            ("18", 2_880),  # SILK, 60 ms
            ("60", 480),  # hybrid, 10 ms
            ("78", 960),
            ("80", 120),  # CELT, 2.5 ms
            ("98", 960),
            ("fc", 960),  # as FFmpeg sends it
            ("99", 1_920),  # two frames, of one size
            ("1a0100", 5_760),  # and of two: 120 ms
            ("fb03", 2_880),  # three frames
            ("83b0", 5_760),  # 48, padded
        ):
            reader, body = OpusReader(read_opus_head(STEREO)), bytes.fromhex(packet)
            self.assertIs(body, reader.read(body))
            self.assertEqual(samples, reader.samples, packet)

    def test_impossible_packets_are_refused(self) -> None:
        """No frames, more than 120 ms of them, or no number where one belongs: no packet."""
        for packet in ("fb00", "fb", "fb07", "1b03"):
            self.assertRaises(MediaError, OpusReader(read_opus_head(STEREO)).read, bytes.fromhex(packet))
        self.assertIsNone(OpusReader(read_opus_head(STEREO)).read(b""))

    def test_channels_of_a_packet(self) -> None:
        """Without a header the first byte tells one channel or two."""
        self.assertEqual((1, 2), (opus_of_packet(b"\xf8").channels, opus_of_packet(b"\xfc").channels))
        self.assertRaises(MediaError, opus_of_packet, b"")

    def test_silence_decodes_to_zeros(self) -> None:
        """Silent packets decode to nothing but zeros, in all channels."""
        for head in (STEREO, STEREO[:9] + b"\x01" + STEREO[10:], SURROUND):
            track = OPUS.make_track(1, read_opus_head(head))
            packet = silent_packet(track.config)  # type: ignore[arg-type]
            sound = decoded_samples(track, [(packet, 960)] * 10)
            self.assertGreaterEqual(len(sound), 9 * 960 * head[9])
            self.assertEqual({0}, set(sound))


def opus_messages(packets: list[str], start: bytes | None = STEREO) -> list[Message]:
    """A publish of Opus packets of any lengths, with milliseconds as FFmpeg rounds them: down, from the pre-skip on."""
    reader, samples = OpusReader(read_opus_head(STEREO)), 0
    messages = [] if start is None else [audio(0, b"\x90Opus" + start), audio(0, LAYOUT)]
    for packet in packets:
        body = bytes.fromhex(packet)
        messages.append(audio(max(0, (samples - 312) // 48), b"\x91Opus" + body))
        reader.read(body)
        samples += reader.samples
    return messages


class PublishTests(SynchronousTestCase):
    """Opus over Enhanced RTMP."""

    def test_sample_clock_is_exact(self) -> None:
        """Frames last their samples exactly, whatever milliseconds they come with, and however long each is."""
        packets = ["fc00", "fc01", "f402", "fb8303", "e404"] * 50
        events = demux(opus_messages(packets))
        self.assertEqual([], problems_of(events))
        frames = frames_of(events, AUDIO)
        self.assertEqual([bytes.fromhex(packet) for packet in packets], [frame.data for frame in frames])
        self.assertEqual([960, 960, 480, 2_880, 120], [frame.duration for frame in frames[:5]])
        for before, after in itertools.pairwise(frames):
            self.assertEqual(before.dts + before.duration, after.dts)

    def test_beside_video_one_more(self) -> None:
        """Beside video it is one track more."""
        packets = opus_messages(["fc00"] * 150)
        events = demux(interleaved([*configs(asc=None), *pictures(every(30, 90))], packets))
        self.assertEqual([], problems_of(events))
        (tracks,) = (event.tracks for event in events if isinstance(event, TracksChanged))
        self.assertEqual(["H.264", "Opus"], [CODECS[track.codec].name for track in tracks])

    def test_no_header_is_as_good(self) -> None:
        """An empty sequence start, or none, is as good: packets tell their channels."""
        for start in (None, b""):
            events = demux(opus_messages(["fc00"] * 60, start))
            self.assertEqual([], problems_of(events))
            (tracks,) = (event.tracks for event in events if isinstance(event, TracksChanged))
            self.assertEqual([("opus", 2)], [(each.config.codec_string, each.config.channels) for each in tracks])  # type: ignore[union-attr]
            self.assertEqual(60, len(frames_of(events, AUDIO)))

    def test_channels_told_without_header(self) -> None:
        """Where the header is missing the channels are those of the packet that tells their layout, in any order."""
        for layout, channels in (
            ("01 06 0000003F", 6),
            ("00 03", 3),
            ("02 04 00 01 04 05", 4),
            ("01 02 00000003", 2),
            ("01 06 00000003", 2),  # contradicts itself
            ("02 06 00 01", 2),
            ("07 06", 2),
            ("00 09", 2),  # no usual order
            ("00", 2),
        ):
            told = audio(0, b"\x94Opus" + bytes.fromhex(layout))
            packets = opus_messages(["fc00"] * 60, None)
            events = demux([audio(0, b"\x90Opus"), told, *packets])
            self.assertEqual([], problems_of(events))
            (tracks,) = (event.tracks for event in events if isinstance(event, TracksChanged))
            self.assertEqual([channels], [each.config.channels for each in tracks], layout)  # type: ignore[union-attr]

    def test_header_knows_channels_better(self) -> None:
        """A header says more than the packet that tells the layout, which is of its own track alone."""
        told = audio(0, b"\x94Opus" + bytes.fromhex("01 06 0000003F"))
        for messages in (
            [told, *opus_messages(["fc00"] * 60)],
            [audio(0, b"\x95\x04Opus\x01" + told.payload[5:]), *opus_messages(["fc00"] * 60, None)],
        ):
            events = demux(messages)
            (tracks,) = (event.tracks for event in events if isinstance(event, TracksChanged))
            self.assertEqual([2], [each.config.channels for each in tracks])  # type: ignore[union-attr]

    def test_repeated_header_is_no_news(self) -> None:
        """The same header again is no news; another one is a new range."""
        again = opus_messages(["fc00"] * 180)
        later = [message._replace(timestamp=message.timestamp + 3_600) for message in again]
        events = demux([*again, *later])
        self.assertEqual(1, sum(isinstance(event, TracksChanged) for event in events))
        mono = [later[0]._replace(payload=b"\x90Opus" + STEREO[:9] + b"\x01" + STEREO[10:]), *later[1:]]
        events = demux([*again, *mono])
        self.assertEqual(2, sum(isinstance(event, TracksChanged) for event in events))

    def test_broken_packet_is_left_out(self) -> None:
        """A packet that cannot be read is left out and reported; those around it stay where they are."""
        events = demux([*opus_messages(["fc00"] * 30)[:-1], audio(580, b"\x91Opus\xfb\x00")])
        self.assertEqual(["malformed"], problems_of(events))
        self.assertEqual(29, len(frames_of(events, AUDIO)))
