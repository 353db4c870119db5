"""Tests of `rapidrtmp.codec.aac`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.aac import AacReader, AacSearch, read_audio_config
from rapidrtmp.codec.pieces import Moment
from rapidrtmp.codec.several import SeveralFrames
from rapidrtmp.errors import MediaError, UnsupportedCodecError

#: What FFmpeg 9.0's own encoder writes, and what ffprobe 5.1 says of it: Hz, channels.
ENCODED = {
    "120856e500": (44_100, 1),
    "119056e500": (48_000, 2),
    "11b056e500": (48_000, 6),
    "11e056e500": (48_000, 8),
    "139056e500": (22_050, 2),
    "101056e500": (96_000, 2),
    "158856e500": (8_000, 1),
    # Four channels as two pairs: channel configuration 0 and a program config element with the encoder's name.
    "118004c4040021100c4c61766336332e312e31303256e500": (48_000, 4),
}


def config_of(bits: str) -> bytes:
    """The bits, written as text, filled up with zeros to whole bytes."""
    bits = bits.replace(" ", "")
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def adts(frame: bytes, *, checksum: bytes = b"", blocks: int = 1, size: int | None = None) -> bytes:
    """An ADTS frame of AAC-LC, 44.1 kHz, stereo (ISO/IEC 14496-3, 1.A.2.2)."""
    if size is None:
        size = 7 + len(checksum) + len(frame)
    header = f"111111111111 0 00 {0 if checksum else 1} 01 0100 0 010 0000 {size:013b} {0x7FF:011b} {blocks - 1:02b}"
    return config_of(header) + checksum + frame


class ConfigTests(SynchronousTestCase):
    def test_encoders_are_read_alike(self) -> None:
        """What a real encoder writes is read as another reader reads it, and kept as it is."""
        for text, (sample_rate, channels) in ENCODED.items():
            config = read_audio_config(bytes.fromhex(text))
            self.assertEqual((text, "mp4a.40.2"), (config.record.hex(), config.codec_string))
            self.assertEqual(
                (sample_rate, channels, 1024), (config.sample_rate, config.channels, config.samples_per_frame)
            )

    def test_every_frequency_index(self) -> None:
        """Each frequency index has its frequency; the reserved ones are refused."""
        rates = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350]
        for index, rate in enumerate(rates):
            self.assertEqual(rate, read_audio_config(config_of(f"00010 {index:04b} 0010 000")).sample_rate)
        for index in (13, 14):
            self.assertRaises(MediaError, read_audio_config, config_of(f"00010 {index:04b} 0010 000"))

    def test_every_channel_configuration(self) -> None:
        """Each channel configuration has its channels; the reserved ones are refused."""
        channels = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 8, 11: 7, 12: 8, 13: 24, 14: 8}
        for configuration in range(1, 16):
            data = config_of(f"00010 0011 {configuration:04b} 000")
            if configuration in channels:
                self.assertEqual(channels[configuration], read_audio_config(data).channels)
            else:
                self.assertRaises(MediaError, read_audio_config, data)

    def test_explicit_frequency_is_read(self) -> None:
        """A frequency may be written out; one that AAC cannot have is refused."""
        config = read_audio_config(config_of(f"00010 1111 {37_800:024b} 0010 000"))
        self.assertEqual((37_800, 2), (config.sample_rate, config.channels))
        for rate in (0, 1, 7_349, 96_001, 0xFFFFFF):
            self.assertRaises(MediaError, read_audio_config, config_of(f"00010 1111 {rate:024b} 0010 000"))

    def test_explicit_sbr_counts_in_rate(self) -> None:
        """HE-AAC that says so counts in the rate that comes out."""
        config = read_audio_config(config_of("00101 0111 0010 0100 00010 000"))
        self.assertEqual(("mp4a.40.5", 44_100, 2), (config.codec_string, config.sample_rate, config.channels))
        self.assertEqual(2048, config.samples_per_frame)

    def test_explicit_sbr_at_the_same_rate(self) -> None:
        """HE-AAC of the core's own rate puts out as many samples as the core has."""
        config = read_audio_config(config_of("00101 0011 0010 0011 00010 000"))
        self.assertEqual((48_000, 1024), (config.sample_rate, config.samples_per_frame))

    def test_explicit_parametric_stereo(self) -> None:
        """HE-AAC v2 makes two channels of one."""
        config = read_audio_config(config_of("11101 0110 0001 0011 00010 000"))
        self.assertEqual(("mp4a.40.29", 48_000, 2), (config.codec_string, config.sample_rate, config.channels))
        self.assertEqual(2048, config.samples_per_frame)

    def test_impossible_sbr_is_refused(self) -> None:
        """SBR of any other rate than the core's or twice that is refused."""
        self.assertRaises(MediaError, read_audio_config, config_of("00101 0111 0010 0000 00010 000"))

    def test_backward_compatible_sbr(self) -> None:
        """SBR announced behind the config leaves rate, frame length and record alone."""
        data = config_of("00010 0110 0010 000 01010110111 00101 1 0011")
        config = read_audio_config(data)
        self.assertEqual(
            ("mp4a.40.2", 24_000, 1024), (config.codec_string, config.sample_rate, config.samples_per_frame)
        )
        self.assertEqual(data, config.record)

    def test_short_frames_of_960_samples(self) -> None:
        """Frames may have 960 samples, or twice that with SBR."""
        self.assertEqual(960, read_audio_config(config_of("00010 0011 0010 100")).samples_per_frame)
        self.assertEqual(1920, read_audio_config(config_of("00101 0110 0010 0011 00010 100")).samples_per_frame)

    def test_core_coder_delay(self) -> None:
        """The delay of a core coder is passed over."""
        program = "0000 01 0011 0001 0000 0000 00 000 0000 0 0 0 0 0000"
        data = config_of(f"00010 0011 0000 0 1 {5:014b} 0 {program}") + b"\0"
        self.assertEqual(1, read_audio_config(data).channels)

    def test_program_config_counts_pairs(self) -> None:
        """A program config element counts pairs twice, low frequency once; data, coupling and comment not at all."""
        elements = "1 0000 0 00011 00011 001000000000 00001 0011"
        program = f"0000 01 0011 0010 0001 0001 01 010 0001 1 0000 1 0000 1 000 {elements}"
        bits = f"00010 0011 0000 000 {program}".replace(" ", "")
        data = config_of(bits) + b"\3abc"
        config = read_audio_config(data)
        self.assertEqual(8, config.channels)
        self.assertEqual(data, config.record)
        self.assertRaises(MediaError, read_audio_config, data[:-1])

    def test_program_config_without_channels(self) -> None:
        """A program config element without a channel is refused."""
        program = "0000 01 0011 0000 0000 0000 00 000 0000 0 0 0"
        error = self.assertRaises(MediaError, read_audio_config, config_of(f"00010 0011 0000 000 {program}") + b"\0")
        self.assertEqual("AAC with channel configuration 0 has no channels", str(error))

    def test_object_types_by_number(self) -> None:
        """Main, LC, SSR and LTP are read; others, also those behind the escape, are refused by number."""
        for object_type in (1, 2, 3, 4):
            config = read_audio_config(config_of(f"{object_type:05b} 0011 0010 000"))
            self.assertEqual(f"mp4a.40.{object_type}", config.codec_string)
        for bits, number in (("00000", 0), ("10111", 23), ("11111 000000", 32), ("11111 001010", 42)):
            error = self.assertRaises(MediaError, read_audio_config, config_of(f"{bits} 0011 0010 000"))
            self.assertIn(f"object type {number},", str(error))

    def test_junk_is_taken_off(self) -> None:
        """Bytes behind the config that announce nothing are taken off the record, and so it equals the plain one."""
        plain = read_audio_config(b"\x11\x90")
        for junk in (b"\0", bytes(40), b"\xff\xff\xff", b"\x56", b"padding"):
            self.assertEqual(plain, read_audio_config(b"\x11\x90" + junk))

    def test_announcement_in_junk(self) -> None:
        """Where a decoder that searches would find SBR announced, nothing is taken off."""
        data = b"\x11\x90\0" + config_of("000 01010110111 00101 1 0011")
        self.assertEqual(data, read_audio_config(data).record)

    def test_extension_flag_keeps_the_rest(self) -> None:
        """Where the config claims an extension that we do not read, nothing is taken off."""
        data = config_of("00010 0011 0010 001") + b"\x80\0"
        self.assertEqual(data, read_audio_config(data).record)

    def test_cut_short_config_is_refused(self) -> None:
        """A config that ends early is refused."""
        for data in (b"", b"\x11", config_of(f"00010 1111 {44_100:024b} 0010")[:4], config_of("00101 0111 0010 0100")):
            self.assertRaises(MediaError, read_audio_config, data)

    def test_too_long_config_is_refused(self) -> None:
        """A config longer than any that makes sense is refused before it is read."""
        self.assertEqual(b"\x11\x90", read_audio_config(b"\x11\x90" + bytes(4094)).record)
        self.assertRaises(MediaError, read_audio_config, b"\x11\x90" + bytes(4095))

    @given(st.one_of(st.binary(max_size=40), st.binary(max_size=30).map(lambda tail: b"\x11\x80\x04\xc4" + tail)))
    def test_any_bytes_are_decided(self, data: bytes) -> None:
        """Any bytes are a config of sound numbers, whose record reads the same, or refused as media."""
        try:
            config = read_audio_config(data)
        except MediaError:
            return
        self.assertTrue(data.startswith(config.record))
        self.assertIn(config.sample_rate, range(7_350, 192_001))
        self.assertGreater(config.channels, 0)
        self.assertIn(config.samples_per_frame, (960, 1024, 1920, 2048))
        self.assertEqual(config, read_audio_config(config.record))


def read_frame(body: bytes) -> bytes | None:
    """Read the first frame of a track."""
    return AacReader(read_audio_config(b"\x11\x90")).read(body)


class FrameTests(SynchronousTestCase):
    def test_raw_frame_stays_the_same(self) -> None:
        """A raw frame is the very object that came."""
        for body in (b"", b"\x21\x10\x04", b"\xff", b"\xff\x00", b"\xff\xe1", b"\xff\xf3" + bytes(9)):
            self.assertIs(body, read_frame(body))

    def test_adts_header_is_taken_off(self) -> None:
        """An ADTS header is taken off, with its checksum if it has one."""
        self.assertEqual(b"\x21\x10", read_frame(adts(b"\x21\x10")))
        self.assertEqual(b"\x21\x10", read_frame(adts(b"\x21\x10", checksum=b"\xab\xcd")))
        self.assertEqual(b"", read_frame(adts(b"")))
        self.assertEqual(bytes(8184), read_frame(adts(bytes(8184))))

    def test_adts_blocks_come_apart(self) -> None:
        """Several raw frames behind one header come out one by one where it says at which places they begin."""
        frames = b"\x21\x10", b"\x22", b"\x23\x11\x12"
        blocks = b"".join(frame + b"\xcc\xcc" for frame in frames)
        places = b"\0\x04\0\x07"
        body = adts(blocks, checksum=places + b"\xab\xcd", blocks=3)
        pieces = SeveralFrames(AacReader(read_audio_config(b"\x12\x10")))
        self.assertIsNone(pieces.reader.read(body))
        units = pieces.add(body + adts(b"\x24"), Moment(100, 0, 0, 7))
        self.assertEqual([*frames, b"\x24"], [unit.data for unit in units])
        self.assertRaises(UnsupportedCodecError, pieces.add, adts(b"\x21\x10", blocks=2), Moment(100, 0, 0, 7))
        wrong = adts(blocks, checksum=b"\0\x04\0\xff\xab\xcd", blocks=3)
        self.assertRaises(MediaError, pieces.add, wrong, Moment(100, 0, 0, 7))

    def test_adts_of_another_size(self) -> None:
        """A header that promises more than there is, less than itself, or several frames, is refused."""
        for body in (
            adts(b"\x21\x10", size=10),
            adts(b"\x21\x10", size=6),
            adts(b"\x21", checksum=b"\0\0", size=8),
            adts(b"")[:6],
            b"\xff\xf1",
        ):
            self.assertRaises(MediaError, read_frame, body)

    @given(st.binary(max_size=20).map(lambda tail: b"\xff\xf1" + tail))
    def test_any_frame_bytes_are_decided(self, body: bytes) -> None:
        """Whatever begins like ADTS becomes a part of itself, or is refused as media."""
        try:
            frame = read_frame(body)
        except MediaError:
            return
        if frame is not None:  # several
            self.assertTrue(body.endswith(frame))
            self.assertLessEqual(len(frame), len(body) - 7)


class DescribedTests(SynchronousTestCase):
    def test_change_of_header_begins_anew(self) -> None:
        """A header that says another thing than those before makes a new config; the first one does not argue."""
        reader = AacReader(read_audio_config(b"\x11\x90"))
        self.assertEqual((b"\x21", 48_000), (reader.read(adts(b"\x21")), reader.config.sample_rate))
        mono = bytearray(adts(b"\x22"))
        mono[3] = mono[3] & 0x3F | 1 << 6
        self.assertEqual((b"\x22", 1), (reader.read(bytes(mono)), reader.config.channels))

    def test_search_in_frame_headers(self) -> None:
        """The config is found in a frame's header, or in one that came as the config; raw frames tell nothing."""
        config = read_audio_config(b"\x12\x10")
        self.assertEqual(config, AacSearch().look_at_frame(adts(b"\x21\x10")))
        self.assertEqual(config, AacSearch().look_at_config(adts(b"\x21\x10")))
        self.assertEqual(config, AacSearch().look_at_config(adts(b"")))
        self.assertIsNone(AacSearch().look_at_frame(b"\x21\x10"))
        self.assertRaises(MediaError, AacSearch().look_at_config, b"\xff\xf1")
        self.assertRaises(MediaError, AacSearch().look_at_config, b"\0\0")

    def test_several_frames_in_a_message(self) -> None:
        """Frames that share a message follow each other by their length."""
        pieces = SeveralFrames(AacReader(read_audio_config(b"\x12\x10")))
        self.assertIsNone(pieces.reader.read(adts(b"\x21") + adts(b"\x22")))
        units = pieces.add(adts(b"\x21") + adts(b"\x22"), Moment(100, 0, 0, 7))
        self.assertEqual([b"\x21", b"\x22"], [unit.data for unit in units])
        self.assertEqual([(100, 0), (123, 219_954)], [unit.moment[:2] for unit in units])
        self.assertRaises(MediaError, pieces.add, adts(b"\x21") + b"junk", Moment(100, 0, 0, 7))
