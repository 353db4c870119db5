"""Colour and brightness that Enhanced RTMP's metadata packets tell of, beside what is in the bitstream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.cmaf.reader import read_boxes
from rapidrtmp.errors import MediaError
from rapidrtmp.hls.multivariant import render_multivariant
from rapidrtmp.live.colour_info import ColourInfo, coloured, read_colour_info
from rapidrtmp.live.demuxer import Demuxer, TracksChanged
from rapidrtmp.media import Colour, ContentLight, MasteringDisplay, MediaKind, Track, VideoConfig
from rapidrtmp.rtmp.amf0 import write_values
from tests.codec.builders import Message, demux, frames_of, problems_of, video
from tests.codec.test_avc import lengths
from tests.codec.test_hevc import CRA, HDR_SPS, HDR_VPS, IDR, PPS, RECORD, TRAIL

PQ = {"colorPrimaries": 9.0, "transferCharacteristics": 16.0, "matrixCoefficients": 9.0, "bitDepth": 10.0}
LIGHT = {"maxCLL": 1000.0, "maxFall": 400.0}
DISPLAY = {"redX": 0.68, "redY": 0.32, "greenX": 0.265, "greenY": 0.69, "blueX": 0.15, "blueY": 0.06}
DISPLAY |= {"whitePointX": 0.3127, "whitePointY": 0.329, "maxLuminance": 1000.0, "minLuminance": 0.0001}
PLAIN = VideoConfig(b"", "", 1920, 1080)
P3 = MasteringDisplay((13250, 34500), (7500, 3000), (34000, 16000), (15635, 16450), 10_000_000, 1)


def body(**parts: Any) -> bytes:
    """The body of a packet."""
    return write_values("colorInfo", parts)


def packet(parts: Mapping[str, Any], fourcc: bytes = b"hvc1", head: int = 0x84) -> bytes:
    """A message of metadata; OBS says inter frame of no type, 0x84, and FFmpeg a command, 0xd4."""
    return bytes([head]) + fourcc + body(**parts)


class ReadTests(SynchronousTestCase):
    def read(self, **parts: Any) -> ColourInfo:
        info = read_colour_info(body(**parts))
        assert info is not None
        return info

    def test_all_information_is_understood(self) -> None:
        """All that there is to say is understood."""
        info = self.read(colorConfig=PQ, hdrCll=LIGHT, hdrMdcv=DISPLAY)
        config = coloured(PLAIN, info)
        self.assertEqual(Colour(9, 16, 9, False), config.colour)
        self.assertEqual((ContentLight(1000, 400), P3), (config.light, config.mastering))

    def test_little_information_is_enough(self) -> None:
        """Nothing has to be there: parts, fields, and the object itself may be missing."""
        for values in (["colorInfo"], ["colorInfo", None], ["colorInfo", {}], ["colorInfo", {"colorConfig": {}}]):
            info = read_colour_info(write_values(*values))
            self.assertIs(PLAIN, coloured(PLAIN, info))
        self.assertIsNone(read_colour_info(write_values("other", {"colorConfig": PQ})))
        self.assertRaises(MediaError, read_colour_info, b"\xff")
        self.assertRaises(MediaError, read_colour_info, b"")

    def test_false_matrix_is_not_believed(self) -> None:
        """FFmpeg sends a matrix of 0, which is RGB, alone, of pictures that it copies: the bitstream tells better."""
        self.assertIs(PLAIN, coloured(PLAIN, self.read(colorConfig={"matrixCoefficients": 0.0})))

    def test_luminance_alone_is_kept(self) -> None:
        """OBS tells of a display how bright it is and no more: its primaries are those of the pictures."""
        for primaries, red in (
            (9, (35_400, 14_600)),
            (12, (34_000, 16_000)),
            (1, (32_000, 16_500)),
            (2, (35_400, 14_600)),
        ):
            info = self.read(colorConfig={"colorPrimaries": primaries}, hdrMdcv={"maxLuminance": 1000.0})
            mastering = coloured(PLAIN, info).mastering
            assert mastering is not None
            self.assertEqual((red, 10_000_000, 0), (mastering.red, mastering.max_luminance, mastering.min_luminance))

    def test_bitstream_comes_first(self) -> None:
        """What the bitstream says is believed, and what it leaves open is filled in."""
        info = self.read(colorConfig=PQ, hdrCll=LIGHT)
        own = VideoConfig(b"", "", 16, 16, colour=Colour(1, 2, 1, True), light=ContentLight(1, 1))
        self.assertEqual(Colour(1, 16, 1, True), coloured(own, info).colour)
        self.assertEqual(ContentLight(1, 1), coloured(own, info).light)

    def test_nonsense_numbers_are_left_out(self) -> None:
        """Numbers that cannot be, and what is no number, are not there."""
        for value in (-1.0, 1e300, float("nan"), float("inf"), "9", True, None, {}):
            info = self.read(
                colorConfig=dict.fromkeys(PQ, value),
                hdrCll=dict.fromkeys(LIGHT, value),
                hdrMdcv=dict.fromkeys(DISPLAY, value),
            )
            self.assertEqual(ColourInfo(), info)

    @given(st.binary(max_size=60))
    def test_any_bytes_are_read_or_refused(self, data: bytes) -> None:
        """Any bytes are some information, or none, or refused as media."""
        try:
            read_colour_info(body(colorConfig=PQ)[:20] + data)
        except MediaError:
            pass


class DemuxerTests(SynchronousTestCase):
    def pictures(self, count: int = 60, begin: int = 0) -> list[Message]:
        """HEVC pictures, 25 a second, with a keyframe each second."""
        return [
            video(40 * at, (b"\x93hvc1" + lengths(IDR)) if at % 25 == 0 else b"\xa3hvc1" + lengths(TRAIL))
            for at in range(begin, begin + count)
        ]

    def tracks(self, messages: list[Message]) -> list[VideoConfig]:
        """The configurations in force, one after the other; nothing is lost."""
        events = demux(messages)
        self.assertEqual([], problems_of(events))
        pictures = sum(message.payload[0] in (0x93, 0xA3) for message in messages)
        self.assertEqual(pictures, len(frames_of(events, MediaKind.VIDEO)))
        configs = [event.tracks[0].config for event in events if isinstance(event, TracksChanged)]
        return [config for config in configs if isinstance(config, VideoConfig)]

    def test_places_where_it_may_come(self) -> None:
        """It may come before the configuration or behind it, as OBS and FFmpeg have it, and be repeated."""
        start = video(0, b"\x90hvc1" + RECORD)
        for head in (0x84, 0xD4):
            told = video(0, packet({"colorConfig": PQ, "hdrCll": LIGHT}, head=head))
            for opening in ([told, start], [start, told], [told, start, told]):
                configs = self.tracks([*opening, *self.pictures(30), told, *self.pictures(30, 30)])
                self.assertEqual([Colour(9, 16, 9, False)], [config.colour for config in configs])
                self.assertEqual([ContentLight(1000, 400)], [config.light for config in configs])

    def test_change_at_the_next_keyframe(self) -> None:
        """A change holds from the next keyframe on, where the init segment changes; no picture is lost."""
        start, changed = video(0, b"\x90hvc1" + RECORD), video(4_200, packet({"colorConfig": PQ}))
        configs = self.tracks([start, *self.pictures(105), changed, *self.pictures(60, 105)])
        self.assertEqual([None, Colour(9, 16, 9, False)], [config.colour for config in configs])
        configs = self.tracks([start, changed, *self.pictures(105), video(4_200, packet({})), *self.pictures(60, 105)])
        self.assertEqual([Colour(9, 16, 9, False), None], [config.colour for config in configs])

    def test_empty_is_no_reset(self) -> None:
        """An empty object takes nothing from what the bitstream says."""
        hdr = lengths(HDR_VPS, HDR_SPS, PPS, CRA)
        start = [video(0, b"\x90hvc1" + RECORD), video(0, packet({})), video(0, b"\x93hvc1" + hdr)]
        configs = self.tracks([*start, *self.pictures(24, 1)])
        self.assertEqual([Colour(9, 16, 9, False)], [config.colour for config in configs])

    def test_other_track_keeps_its_own(self) -> None:
        """FFmpeg sends that of further tracks without their number: by its codec it is not the first track's."""
        start = video(0, b"\x90hvc1" + RECORD)
        configs = self.tracks([start, video(0, packet({"colorConfig": PQ}, b"av01", 0xD4)), *self.pictures()])
        self.assertEqual([None], [config.colour for config in configs])

    def test_malformed_information_is_counted(self) -> None:
        """What is no AMF0, or longer than any such information, is counted."""
        for malformed in (b"\xff", body(colorConfig={"name": "x" * 16_384})):
            events = Demuxer().video_received(0, b"\x84hvc1" + malformed, 0)
            self.assertEqual(["malformed"], problems_of(events))

    def test_players_learn_of_it(self) -> None:
        """The init segment has the boxes, and the multivariant playlist the range."""
        info = read_colour_info(body(colorConfig=PQ, hdrCll=LIGHT, hdrMdcv=DISPLAY))
        start = [video(0, b"\x90hvc1" + RECORD), *self.pictures()]
        (plain,) = self.tracks(start)
        track = Track(1, MediaKind.VIDEO, "hvc1", coloured(plain, info))
        moov = next(box for box in read_boxes(write_init_segment([track])) if box.kind == "moov")
        entry = next(moov.child("trak", "mdia", "minf", "stbl", "stsd").children())
        found = {box.kind: box.body.hex() for box in entry.children()}
        self.assertEqual("6e636c7800090010000900", found["colr"])
        self.assertEqual("33c286c41d4c0bb884d03e803d1340420098968000000001", found["mdcv"])
        self.assertEqual("03e80190", found["clli"])
        for transfer, name in ((16, "PQ"), (18, "HLG"), (14, "SDR")):
            info = ColourInfo(9, transfer, 9)
            playlist = render_multivariant(
                [Track(1, MediaKind.VIDEO, "hvc1", coloured(plain, info))], "x", (1, 1), None
            )
            self.assertIn(f"VIDEO-RANGE={name}\n".encode(), playlist)
