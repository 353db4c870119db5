"""Tests of `rapidrtmp.codec.mp3`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.describe import describe
from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.cmaf.reader import read_init_segment
from rapidrtmp.codec.esds import read_esds
from rapidrtmp.codec.mp3 import Mp3Reader, mp3_of_frame, silent_mp3
from rapidrtmp.codec.table import AAC, CODECS, codec_of_string
from rapidrtmp.errors import MediaError
from rapidrtmp.live.demuxer import TracksChanged
from rapidrtmp.media import MediaKind
from tests.codec.builders import Message, audio, demux, frames_of, problems_of
from tests.codec.decoding import decoded_samples

MP3 = CODECS[".mp3"]
#: 48 kHz, 128 kbit/s, stereo; 24 kHz, 64 kbit/s, mono; 8 kHz (MPEG-2.5), 8 kbit/s, mono.
STEREO, LOW, LOWEST = (bytes.fromhex(head) for head in ("FFFB9464", "FFF384C4", "FFE318C4"))


def frame(head: bytes = STEREO, size: int = 384) -> bytes:
    """A frame of nothing but its header."""
    return head + bytes(size - 4)


def publish(frames: list[bytes], head: bytes = b"\x2f") -> list[Message]:
    """Frames of 24 ms, in that form."""
    return [audio(24 * at, head + each) for at, each in enumerate(frames)]


class HeaderTests(SynchronousTestCase):
    def test_headers_tell_rate_and_duration(self) -> None:
        """Rate, channels and duration are in every frame's header."""
        for head, rate, channels, samples in (
            (STEREO, 48_000, 2, 1152),
            (LOW, 24_000, 1, 576),
            (LOWEST, 8_000, 1, 576),
        ):
            config = mp3_of_frame(head)
            self.assertEqual((rate, channels, samples), (config.sample_rate, config.channels, config.samples_per_frame))
            self.assertEqual("mp4a.40.34", config.codec_string)

    def test_same_configuration_of_frames(self) -> None:
        """Bit rate, padding, a checksum and the way two channels are coded make no other configuration."""
        for head in ("FFFBB464", "FFFB9664", "FFFA9464", "FFFB9400", "FFFB9425"):
            self.assertEqual(mp3_of_frame(STEREO), mp3_of_frame(bytes.fromhex(head)))

    def test_other_layers_are_refused(self) -> None:
        """Other layers, reserved values and what is no header are refused, layers by their number."""
        error = self.assertRaises(MediaError, mp3_of_frame, bytes.fromhex("FFFD9464"))
        self.assertIn("layer 2", str(error))
        for head in ("", "FFFB94", "00000000", "FFFBF464", "FFFB9C64", "FFEB9464", "FFF99464"):
            self.assertRaises(MediaError, mp3_of_frame, bytes.fromhex(head))


class FrameTests(SynchronousTestCase):
    def test_one_frame_is_stored_alike(self) -> None:
        """A message of one frame is stored as it came; so is one of a frame that does not tell its size."""
        for body in (frame(), frame(LOW, 192), frame(bytes.fromhex("FFFB0464"), 300)):
            self.assertIs(body, Mp3Reader(mp3_of_frame(body)).read(body))

    def test_cut_short_frame_is_refused(self) -> None:
        """A frame that ends before its header says is refused."""
        self.assertRaises(MediaError, Mp3Reader(mp3_of_frame(STEREO)).read, frame()[:-1])

    def test_silence_decodes_to_zeros(self) -> None:
        """Silent frames decode to nothing but zeros."""
        for head in (STEREO, STEREO[:3] + b"\xc4", LOW, LOW[:3] + b"\x04", LOWEST):
            track = MP3.make_track(1, mp3_of_frame(head))
            samples = track.config.samples_per_frame  # type: ignore[union-attr]
            sound = decoded_samples(track, [(silent_mp3(track.config), samples)] * 6)  # type: ignore[arg-type]
            self.assertEqual({0}, set(sound), head.hex())

    @given(st.binary(max_size=40))
    def test_any_bytes_are_frames_or_refused(self, data: bytes) -> None:
        """Any bytes are frames, or are refused as media."""
        try:
            reader = Mp3Reader(mp3_of_frame(data))
            self.assertEqual(data, b"".join(reader.split(data)))
        except MediaError:
            return


class StoredTests(SynchronousTestCase):
    """MP3 in MP4 shares its sample entry with AAC."""

    def test_init_segment_tells_them_apart(self) -> None:
        """The descriptor tells them apart: its object type is MPEG-1 or MPEG-2 audio, and there is nothing else."""
        for head, object_type in ((STEREO, "6b"), (LOW, "69")):
            init = write_init_segment([MP3.make_track(2, mp3_of_frame(head))])
            (info,) = read_init_segment(init)
            self.assertEqual(("mp4a", ".mp3", b""), (info.codec, info.fourcc, info.record))
            self.assertIn(f": object type 0x{object_type}\n", describe(init))
            descriptor = bytes.fromhex(f"04 0d {object_type} 15")
            self.assertIn(descriptor, init)
            self.assertRaises(MediaError, read_esds, init[init.index(b"esds") + 4 :])

    def test_strings_name_the_codec(self) -> None:
        """Its codec strings name it, and not AAC."""
        for text, codec in (("mp4a.40.34", MP3), ("mp4a.6B", MP3), ("mp4a.40.2", AAC)):
            self.assertIs(codec, codec_of_string(text))


class PublishTests(SynchronousTestCase):
    def test_forms_bring_the_same_frames(self) -> None:
        """The classic forms of both numbers and the enhanced one bring the same frames, without a configuration."""
        for head in (b"\x2f", b"\x2e", b"\xef", b"\x91.mp3", b"\x95\x01.mp3\x02"):
            start = [audio(0, b"\x90.mp3")] if head[0] == 0x91 else []
            events = demux([*start, *publish([frame()] * 60, head)])
            self.assertEqual([], problems_of(events))
            frames = frames_of(events, MediaKind.AUDIO)
            self.assertEqual([n * 1152 for n in range(60)], [each.dts for each in frames])
            self.assertEqual({frame()}, {each.data for each in frames})

    def test_several_in_one_message(self) -> None:
        """Frames that share a message are taken apart, each at its own time."""
        events = demux([audio(48 * at, b"\x2f" + 2 * frame()) for at in range(40)])
        self.assertEqual([], problems_of(events))
        self.assertEqual([n * 1152 for n in range(80)], [each.dts for each in frames_of(events, MediaKind.AUDIO)])

    def test_change_of_channels_begins_anew(self) -> None:
        """A frame of one channel after those of two begins a new range; one in joint stereo does not."""
        joint, mono = frame(STEREO[:3] + b"\x44"), frame(STEREO[:3] + b"\xc4")
        events = demux(publish([frame()] * 100 + [joint] * 30 + [mono] * 100))
        told = [event.tracks[0].config for event in events if isinstance(event, TracksChanged)]
        self.assertEqual([2, 1], [config.channels for config in told])  # type: ignore[union-attr]
