"""Tests of `rapidrtmp.codec.esds`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.esds import read_esds, write_esds
from rapidrtmp.errors import MediaError


class EsdsTests(SynchronousTestCase):
    def test_bytes_of_a_short_config(self) -> None:
        """ES descriptor, decoder config of MPEG-4 audio, the AudioSpecificConfig, SL config of MP4 files."""
        decoder_config = "04 11 40 15 000000 00000000 00000000 05 02 1210"
        self.assertEqual(bytes.fromhex(f"00000000 03 19 0000 00 {decoder_config} 06 01 02"), write_esds(b"\x12\x10"))

    def test_bytes_of_a_long_config(self) -> None:
        """A size of 128 or more takes two groups of seven bits."""
        config = bytes(range(200))
        written = write_esds(config)
        self.assertIn(b"\x05\x81\x48" + config, written)
        self.assertIn(b"\x04\x81\x58\x40\x15", written)
        self.assertTrue(written[4:].startswith(b"\x03\x81\x61\0\0\0\x04"), written[4:12].hex())

    @given(st.binary(max_size=300))
    def test_written_descriptor_reads_back(self, config: bytes) -> None:
        """What was written is read as the same."""
        self.assertEqual(config, read_esds(write_esds(config)))

    @given(st.binary(max_size=60))
    def test_any_bytes_are_decided(self, data: bytes) -> None:
        """Any bytes hold a config, or are refused as media."""
        try:
            self.assertIn(read_esds(data), data)
        except MediaError:
            return
