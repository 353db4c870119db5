"""The multivariant playlist: what was measured, no more often than needed."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.hls.multivariant import REWIND_DATA, Multivariant, render_multivariant
from rapidrtmp.media import Colour, Track, VideoConfig
from rapidrtmp.testing.frames import make_audio_track, make_video_track
from tests.m3u8.checker import read_attributes

VIDEO, AUDIO = make_video_track(), make_audio_track()


def attributes_of(body: bytes) -> dict[str, str]:
    """The attributes of the one variant."""
    lines = body.decode().splitlines()
    assert lines[:2] == ["#EXTM3U", "#EXT-X-VERSION:9"], lines
    assert lines[3:] == ["index.m3u8"], lines
    return read_attributes(lines[2].removeprefix("#EXT-X-STREAM-INF:"))


def video_with(**facts: object) -> Track:
    """A video track whose config differs in some facts."""
    config = VIDEO.config
    assert isinstance(config, VideoConfig)
    return replace(VIDEO, config=replace(config, **facts))  # type: ignore[arg-type]


class TextTests(SynchronousTestCase):
    def render(self, *tracks: Track, rate: Fraction | None = None) -> dict[str, str]:
        return attributes_of(render_multivariant(tracks, "index.m3u8", (2_000_000, 1_500_000), rate))

    def test_both_tracks_are_described(self) -> None:
        """Codecs of all tracks, what the picture is like, and two bandwidths."""
        expected = {
            "BANDWIDTH": "2000000",
            "AVERAGE-BANDWIDTH": "1500000",
            "CODECS": '"avc1.42c01f,mp4a.40.2"',
            "RESOLUTION": "1280x720",
            "FRAME-RATE": "29.970",
            "VIDEO-RANGE": "SDR",
        }
        self.assertEqual(expected, self.render(VIDEO, AUDIO, rate=Fraction(30_000, 1001)))

    def test_audio_alone_has_no_picture(self) -> None:
        """Nothing is said of a picture that there is not."""
        self.assertEqual({"BANDWIDTH", "AVERAGE-BANDWIDTH", "CODECS"}, set(self.render(AUDIO, rate=Fraction(40))))

    def test_pixels_are_square_or_scaled(self) -> None:
        """The resolution is the one shown; an aspect that says nothing is square."""
        self.assertEqual("1707x720", self.render(video_with(pixel_aspect=(4, 3)))["RESOLUTION"])
        self.assertEqual("1280x720", self.render(video_with(pixel_aspect=(0, 0)))["RESOLUTION"])
        self.assertEqual("1280x720", self.render(video_with(pixel_aspect=(1, 0)))["RESOLUTION"])

    def test_dynamic_range_from_transfer_function(self) -> None:
        """The transfer function tells the video range."""
        for transfer, expected in ((16, "PQ"), (18, "HLG"), (1, "SDR")):
            self.assertEqual(expected, self.render(video_with(colour=Colour(9, transfer, 9, False)))["VIDEO-RANGE"])

    def test_rewind_is_session_data(self) -> None:
        """That viewers can go back, and how far, is said in data of the session."""
        body = render_multivariant((VIDEO,), "index.m3u8", (2_000_000, 1_500_000), None, rewind_ms=7_200_000)
        lines = body.decode().splitlines()
        self.assertEqual(f'#EXT-X-SESSION-DATA:DATA-ID="{REWIND_DATA}",VALUE="7200"', lines.pop(2))
        self.assertEqual(
            render_multivariant((VIDEO,), "index.m3u8", (2_000_000, 1_500_000), None).decode(),
            "".join(f"{line}\n" for line in lines),
        )


class MeasurementTests(SynchronousTestCase):
    def announced(self, multivariant: Multivariant, *tracks: Track, rate: Fraction | None = None) -> tuple[int, int]:
        body = multivariant.render_if_changed(tracks, rate)
        assert body is not None
        attributes = attributes_of(body)
        return int(attributes["BANDWIDTH"]), int(attributes["AVERAGE-BANDWIDTH"])

    def test_steps_above_the_measured(self) -> None:
        """A tenth above what was measured, in steps; said again only when a step is passed, and never lower."""
        multivariant = Multivariant("index.m3u8")
        multivariant.measure(250_000, 2_000, 2_000)
        self.assertEqual((1_100_000, 1_100_000), self.announced(multivariant, VIDEO))
        multivariant.measure(125_000, 2_000, 2_000)
        self.assertIsNone(multivariant.render_if_changed((VIDEO,), None))
        multivariant.measure(375_000, 2_000, 2_000)
        self.assertEqual((1_650_000, 1_100_000), self.announced(multivariant, VIDEO))

    def test_changes_are_said_at_once(self) -> None:
        """Other tracks, or another frame rate, are said at once; the bandwidth stays."""
        multivariant = Multivariant("index.m3u8")
        multivariant.measure(250_000, 2_000, 2_000)
        self.announced(multivariant, VIDEO, rate=Fraction(30))
        self.assertEqual(1_100_000, self.announced(multivariant, VIDEO, AUDIO, rate=Fraction(30))[0])
        self.assertEqual(1_100_000, self.announced(multivariant, VIDEO, AUDIO, rate=Fraction(60))[0])
        self.assertIsNone(multivariant.render_if_changed((VIDEO, AUDIO), Fraction(60)))

    def test_short_segments_are_no_peak(self) -> None:
        """A keyframe alone, in a segment of a moment, is no peak by itself, but together with those before it."""
        multivariant = Multivariant("index.m3u8")
        multivariant.measure(250_000, 2_000, 2_000)
        multivariant.measure(100_000, 40, 2_000)
        self.assertEqual(350_000 * 8_000 // 2_040, multivariant.peak)
        self.assertEqual(350_000 * 8_000 // 2_040, multivariant.average)
        alone = Multivariant("index.m3u8")
        alone.measure(100_000, 40, 2_000)
        self.assertEqual(0, alone.peak)

    def test_runs_make_the_peak(self) -> None:
        """The peak is that of any run between half and one and a half target durations, whatever segments it is of."""
        multivariant = Multivariant("index.m3u8")
        for size in (100_000, 900_000, 100_000, 900_000):
            multivariant.measure(size, 1_000, 2_000)
        self.assertEqual(7_200_000, multivariant.peak)
        halves = Multivariant("index.m3u8")
        for size in (100_000, 900_000, 100_000, 900_000):
            halves.measure(size, 900, 2_000)  # too short to be a peak alone
        self.assertEqual(1_900_000 * 8_000 // 2_700, halves.peak)

    def test_nothing_measured_is_not_zero(self) -> None:
        """A bandwidth is never 0."""
        self.assertEqual((50_000, 50_000), self.announced(Multivariant("index.m3u8"), AUDIO))
        multivariant = Multivariant("index.m3u8")
        multivariant.measure_opening(1_000, 0)
        self.assertGreater(multivariant.peak, 0)
