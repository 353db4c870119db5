"""Tests of what a key may be and what it says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import MisuseError, StorageError
from rapidrtmp.storage.keys import byte_range, check_key, guess_content_type
from rapidrtmp.testing.storage import BAD_KEYS, ODD_KEYS


class KeyTests(SynchronousTestCase):
    """Which keys are let through."""

    def test_bad_keys_are_refused(self) -> None:
        """Every bad key is refused for good."""
        for key in BAD_KEYS:
            error = self.assertRaises(StorageError, check_key, key)
            self.assertFalse(error.retryable, repr(key))

    def test_good_keys_come_back(self) -> None:
        """A key that is only unusual comes back as it is."""
        for key in (*ODD_KEYS, "live/key/segment_1.m4s", "x" * 1024, "é" * 512):
            self.assertEqual(key, check_key(key))

    @given(st.text(st.characters(), max_size=30))
    def test_any_text_stays_below(self, text: str) -> None:
        """A key that passes stays below whatever folder it is appended to, and can be written in UTF-8."""
        try:
            check_key(text)
        except StorageError:
            return
        names = text.split("/")
        self.assertTrue(all(names))
        self.assertFalse({".", ".."} & set(names))
        self.assertFalse({"\0", "\n", "\\"} & set(text))
        self.assertEqual(text, text.encode().decode())

    def test_message_is_short(self) -> None:
        """A refusal names the limit, not all of a long key."""
        error = self.assertRaises(StorageError, check_key, "k" * 5000)
        self.assertIn("5000 bytes, limit 1024", str(error))
        self.assertLess(len(str(error)), 100)


class ContentTypeTests(SynchronousTestCase):
    """What the suffix of a key stands for."""

    def test_types_of_our_media(self) -> None:
        """Playlists, segments and init segments get the types players insist on."""
        self.assertEqual("application/vnd.apple.mpegurl", guess_content_type("live/a/index.m3u8"))
        self.assertEqual("video/mp4", guess_content_type("live/a/init.mp4"))
        self.assertEqual("video/iso.segment", guess_content_type("live/a/segment_1.m4s"))
        self.assertEqual("video/iso.segment", guess_content_type("SEGMENT.M4S"))

    def test_unknown_names_are_bytes(self) -> None:
        """Anything else is just bytes."""
        for key in ("live/a", "a.exe", "m4s", "a.m4s/b", "a."):
            self.assertEqual("application/byte-stream", guess_content_type(key), key)


class ByteRangeTests(SynchronousTestCase):
    """Which bytes a range means."""

    @given(st.binary(max_size=20), st.integers(0, 30), st.none() | st.integers(0, 30))
    def test_like_a_slice(self, data: bytes, start: int, length: int | None) -> None:
        """It means what the slice means."""
        first, stop = byte_range(len(data), start, length)
        self.assertTrue(0 <= first <= stop <= len(data))
        self.assertEqual(data[start:] if length is None else data[start : start + length], data[first:stop])

    def test_negative_start_is_refused(self) -> None:
        """Counting from the end is not offered."""
        for start, length in ((-1, None), (0, -1)):
            self.assertRaises(MisuseError, byte_range, 10, start, length)
