"""Silent AAC frames: read by a decoder that did not learn from us."""

from __future__ import annotations

import struct
import subprocess
from shutil import which

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.aac import read_audio_config
from rapidrtmp.codec.aac_silence import silent_frame
from rapidrtmp.codec.table import AAC
from tests.slow import slow


def adts(frame: bytes, channels: int) -> bytes:
    """A raw frame at 48 kHz behind an ADTS header."""
    size = 7 + len(frame)
    bits = f"{0xFFF:012b}0001{1:02b}{3:04b}0{channels:03b}0000{size:013b}{0x7FF:011b}00"
    return int(bits, 2).to_bytes(7, "big") + frame


class SilenceTests(SynchronousTestCase):
    """What a track without sound says."""

    def test_stereo_frame_is_a_pair(self) -> None:
        """A stereo frame is a pair of channels without a coded band, and the end."""
        frame = silent_frame(read_audio_config(bytes.fromhex("1190")))
        self.assertEqual(bytes.fromhex("21000000001c"), frame)
        self.assertIs(silent_frame, AAC.silence)

    @slow
    def test_decodes_to_zeros(self) -> None:
        """FFmpeg decodes every channel configuration without an error, to nothing but zeros."""
        if which("ffmpeg") is None:
            self.skipTest("needs ffmpeg")
        for channels in range(1, 8):
            frame = silent_frame(read_audio_config((2 << 11 | 3 << 7 | channels << 3).to_bytes(2, "big")))
            done = subprocess.run(
                ["ffmpeg", "-v", "error", "-f", "aac", "-i", "pipe:", "-f", "s16le", "pipe:"],
                input=4 * adts(frame, channels),
                capture_output=True,
                check=True,
            )
            self.assertEqual(b"", done.stderr)
            sounding = 8 if channels == 7 else channels
            self.assertEqual(4 * 1024 * sounding * 2, len(done.stdout), channels)
            self.assertEqual({0}, set(struct.unpack(f"<{len(done.stdout) // 2}h", done.stdout)))

    def test_program_config_names_channels(self) -> None:
        """Where a program config names the channels, the frame has just those, with their tags; else there is none."""
        bits = f"{2:05b}{3:04b}0000" + "000" + f"{0:04b}{1:02b}{3:04b}" + f"{1:04b}{0:04b}{0:04b}{1:02b}{0:03b}{0:04b}"
        bits += "000" + f"1{5:04b}" + f"{2:04b}"
        bits += "0" * (-len(bits) % 8) + f"{0:08b}"
        config = read_audio_config(int(bits, 2).to_bytes(len(bits) // 8, "big"))
        self.assertEqual(3, config.channels)
        frame = silent_frame(config)
        self.assertEqual(f"{1:03b}{5:04b}1", f"{frame[0]:08b}")
        self.assertEqual(b"", silent_frame(read_audio_config((2 << 11 | 3 << 7 | 13 << 3).to_bytes(2, "big"))))
