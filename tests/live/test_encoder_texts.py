"""What encoders say about moments of their streams, and what of it is passed on."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.encoder_texts import MOST_BYTES, MOST_PER_SECOND, EncoderTexts, TextError
from rapidrtmp.rtmp.events import DataReceived


def said(name: str, *values: Any) -> DataReceived:
    return DataReceived(1, name, list(values), 0)


class EncoderTextTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.texts = EncoderTexts()

    def text_of(self, event: DataReceived, time_ms: int = 0) -> bytes:
        metadata = self.texts.read(event, 5_000, time_ms)
        assert metadata is not None
        self.assertEqual((5_000, b"ID3"), (metadata.time_ms, metadata.data[:3]))
        return metadata.data.partition(b"TXXX")[2][7:]

    def test_text_becomes_a_tag(self) -> None:
        """Text, cue points and whatever else encoders say is a text under its name: its value, or its values."""
        self.assertEqual(b'onTextData\0{"text": "Tor"}', self.text_of(said("onTextData", {"text": "Tor"})))
        self.assertEqual(b'onCuePoint\0["a", 1.0]', self.text_of(said("onCuePoint", "a", 1.0)))
        self.assertEqual(b"onGoal\0[]", self.text_of(said("onGoal")))

    def test_times_of_encoders_are_no_text(self) -> None:
        """What is not for players is passed over."""
        for name in ("onFI", "|RtmpSampleAccess", "@clearDataFrame", "onLastSecond", ""):
            self.assertIsNone(self.texts.read(said(name, {}), 0, 0))

    def test_too_many_are_refused(self) -> None:
        """More than so many a second are left out; the next second begins anew."""
        for _ in range(MOST_PER_SECOND):
            self.text_of(said("onTextData", ""))
        with self.assertRaises(TextError):
            self.texts.read(said("onTextData", ""), 0, 999)
        self.text_of(said("onTextData", ""), 1_000)

    def test_unspeakable_values_are_refused(self) -> None:
        """What is too large, or not what JSON can say, is left out with its reason."""
        for value in ("x" * MOST_BYTES, float("nan"), b"bytes"):
            with self.assertRaises(TextError):
                self.texts.read(said("onTextData", value), 0, 0)
