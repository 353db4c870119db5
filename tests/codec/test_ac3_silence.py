"""Silent frames of AC-3 and E-AC-3: read by a decoder that did not learn from us, their checks as well."""

from __future__ import annotations

import subprocess

from imageio_ffmpeg import get_ffmpeg_exe
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.ac3 import read_dac3
from rapidrtmp.codec.ac3_silence import silent_ac3, silent_eac3
from rapidrtmp.codec.eac3 import eac3_of_frame, read_dec3
from rapidrtmp.codec.table import CODECS
from rapidrtmp.media import AudioConfig
from tests.codec.decoding import decoded_samples
from tests.codec.test_ac3 import eac3
from tests.slow import slow

#: Each coding mode, with and without the channel for low frequencies.
MODES = [(mode, low) for mode in range(8) for low in range(2)]


def dac3(rate: int, mode: int, low: int, bit_rate: int = 14) -> AudioConfig:
    """AC-3 of a sampling rate, a coding mode and a bit rate, by their codes."""
    bits = rate << 22 | 8 << 17 | mode << 11 | low << 10 | bit_rate << 5
    return read_dac3(bits.to_bytes(3, "big"))


def dec3(rate: int, mode: int, low: int, kilobits: int = 384) -> AudioConfig:
    """Likewise E-AC-3."""
    substream = rate << 22 | 16 << 17 | mode << 9 | low << 8
    return read_dec3((kilobits << 3).to_bytes(2, "big") + substream.to_bytes(3, "big"))


def complaints(name: str, frames: bytes) -> str:
    """What a decoder that computes every check says of an elementary stream."""
    command = [get_ffmpeg_exe(), "-v", "error", "-err_detect", "crccheck+explode", "-xerror", "-f", name, "-i", "pipe:"]
    done = subprocess.run([*command, "-f", "null", "-"], input=frames, capture_output=True, timeout=60)
    return done.stderr.decode() or ("" if done.returncode == 0 else f"status {done.returncode}")


class SilenceTests(SynchronousTestCase):
    @slow
    def test_decodes_to_zeros(self) -> None:
        """Every coding mode decodes to nothing but zeros, in all of its channels."""
        for make, silent, codec in ((dac3, silent_ac3, CODECS["ac-3"]), (dec3, silent_eac3, CODECS["ec-3"])):
            self.assertIs(silent, codec.silence)
            for mode, low in MODES:
                config = make(0, mode, low)
                sound = decoded_samples(codec.make_track(1, config), [(silent(config), 1536)] * 4)
                self.assertEqual({0}, set(sound), (codec.name, mode, low))
                self.assertEqual(0, len(sound) % config.channels)
                self.assertGreaterEqual(len(sound), 3 * 1536 * config.channels)

    @slow
    def test_checks_of_frames_are_right(self) -> None:
        """The checks of the frames are right, at every rate and in the smallest frames that are usual."""
        for rate in range(3):
            for mode, low, bit_rate in ((1, 0, 0), (2, 0, 4), (2, 0, 10), (7, 1, 14), (7, 1, 18)):
                self.assertEqual("", complaints("ac3", 4 * silent_ac3(dac3(rate, mode, low, bit_rate))))
            for mode, low, kilobits in ((1, 0, 32), (2, 0, 192), (7, 1, 448)):
                self.assertEqual("", complaints("eac3", 4 * silent_eac3(dec3(rate, mode, low, kilobits))))

    def test_wrong_checks_are_noticed(self) -> None:
        """The witness does look: a bit of the padding that has changed is complained about."""
        for name, frame in (("ac3", silent_ac3(dac3(0, 2, 0))), ("eac3", silent_eac3(dec3(0, 2, 0)))):
            wrong = frame[:-9] + bytes([frame[-9] ^ 1]) + frame[-8:]
            self.assertNotEqual("", complaints(name, 4 * wrong), name)

    def test_size_as_the_track_began(self) -> None:
        """A frame is as large as those that the track began with."""
        self.assertEqual(768, len(silent_ac3(dac3(0, 2, 0, 10))))
        self.assertEqual(1_950, len(silent_ac3(dac3(1, 7, 1, 15))))
        self.assertEqual(768, len(silent_eac3(dec3(0, 2, 0, 192))))

    def test_several_substreams_have_none(self) -> None:
        """A track with dependent substreams has none."""
        config = eac3_of_frame(eac3(mode=7, size=128) + eac3(1, 0, mode=2, channel_map=1 << 9))
        self.assertEqual(b"", silent_eac3(config))
