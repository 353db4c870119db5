"""Init segments: laid out as the specification has it, and read back by pymp4."""

from dataclasses import replace
from fractions import Fraction

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.cmaf.reader import Box, TrackInfo, read_boxes, read_init_segment
from rapidrtmp.codec.table import AAC, AVC
from rapidrtmp.errors import MediaError, MisuseError
from rapidrtmp.media import AudioConfig, Colour, Track, VideoConfig

#: What libx264 makes of 160x120 at 25 frames a second: High profile, level 1.1, B-frames.
AVCC = bytes.fromhex("0164000bffe100196764000bacd942847e5c0440000003004000000c83c50a658001000668ebe3cb22c0fdf8f800")
VIDEO = AVC.make_track(1, VideoConfig(AVCC, "avc1.64000b", 160, 120, frame_rate=Fraction(25)))
#: AAC-LC, 44100 Hz, stereo.
AUDIO = AAC.make_track(2, AudioConfig(bytes.fromhex("1210"), "mp4a.40.2", 44100, 2, 1024))


def _moov(data: bytes) -> Box:
    """The movie box of an init segment, which must be its last."""
    ftyp, moov = read_boxes(data)
    assert (ftyp.kind, moov.kind, moov.end) == ("ftyp", "moov", len(data))
    return moov


def _entry(data: bytes, trak: int = 0) -> Box:
    """The sample entry of the ``trak`` of that index."""
    traks = [box for box in _moov(data).children() if box.kind == "trak"]
    (entry,) = traks[trak].child("mdia", "minf", "stbl", "stsd").children()
    return entry


def _tree(box: Box) -> list[object]:
    """The kinds of all boxes within a box, nested like them."""
    return [box.kind, *map(_tree, box.children())]


def _with_video(**changes: object) -> Track:
    """The video track with some of its config changed."""
    return replace(VIDEO, config=replace(VIDEO.config, **changes))


class LayoutTests(SynchronousTestCase):
    def test_tree_has_mandatory_boxes(self) -> None:
        """A muxed init segment has every mandatory box, once and in order."""
        tables = [["stts"], ["stsc"], ["stsz"], ["stco"]]
        dinf = ["dinf", ["dref", ["url "]]]

        def trak(media_header: str, entry: list[object]) -> list[object]:
            minf = ["minf", [media_header], dinf, ["stbl", ["stsd", entry], *tables]]
            return ["trak", ["tkhd"], ["mdia", ["mdhd"], ["hdlr"], minf]]

        expected = [
            "moov",
            ["mvhd"],
            trak("vmhd", ["avc1", ["avcC"]]),
            trak("smhd", ["mp4a", ["esds"]]),
            ["mvex", ["trex"], ["trex"]],
        ]
        self.assertEqual(expected, _tree(_moov(write_init_segment([VIDEO, AUDIO]))))

    def test_segment_reads_back_elsewhere(self) -> None:
        """A reader that is not ours finds the tracks, their clocks and their codecs."""
        expected = [
            TrackInfo(1, "vide", 90_000, "avc1", AVCC, width=160, height=120, fourcc="avc1"),
            TrackInfo(2, "soun", 44_100, "mp4a", b"\x12\x10", channels=2, sample_rate=44_100, fourcc="mp4a"),
        ]
        self.assertEqual(expected, read_init_segment(write_init_segment([VIDEO, AUDIO])))

    def test_brands_of_one_track(self) -> None:
        """One track is CMAF and says so; muxed tracks are not, and do not."""
        self.assertTrue(write_init_segment([VIDEO]).startswith(b"\0\0\0\x1cftypiso6\0\0\0\0iso6cmfcmp41\0\0"))
        self.assertTrue(write_init_segment([VIDEO, AUDIO]).startswith(b"\0\0\0\x18ftypiso6\0\0\0\0iso6mp41\0\0"))

    def test_next_track_id(self) -> None:
        """The movie header names the first id above those in use."""
        mvhd = _moov(write_init_segment([AUDIO])).child("mvhd")
        self.assertEqual(b"\0\0\0\x03", mvhd.body[-4:])

    def test_defaults_of_each_track(self) -> None:
        """Each track has its own trex, even where ids are not the usual ones."""
        tracks = [replace(VIDEO, id=7), replace(AUDIO, id=5)]
        self.assertEqual([7, 5], [info.track_id for info in read_init_segment(write_init_segment(tracks))])

    def test_equal_tracks_equal_bytes(self) -> None:
        """Equal tracks make equal bytes, so that a viewer is not sent what they have."""
        again = [_with_video(), replace(AUDIO, config=replace(AUDIO.config))]
        self.assertEqual(write_init_segment([VIDEO, AUDIO]), write_init_segment(again))


class PictureTests(SynchronousTestCase):
    def test_square_pixels_have_no_aspect(self) -> None:
        """With square pixels the display size is the coded size, and no aspect is written."""
        data = write_init_segment([VIDEO])
        self.assertEqual(bytes.fromhex("00a00000 00780000"), _moov(data).child("trak", "tkhd").body[-8:])
        self.assertEqual(["avcC"], [box.kind for box in _entry(data).children()])

    def test_wide_pixels_stretch_the_display(self) -> None:
        """With pixels that are not square the display width is stretched, the coded width kept, the aspect written."""
        data = write_init_segment([_with_video(width=720, height=576, pixel_aspect=(64, 45))])
        self.assertEqual(bytes.fromhex("04000000 02400000"), _moov(data).child("trak", "tkhd").body[-8:])
        self.assertEqual(720, read_init_segment(data)[0].width)
        self.assertEqual(bytes.fromhex("00000040 0000002d"), _entry(data).child("pasp").body)

    def test_narrow_pixels_round(self) -> None:
        """A display width that is no whole number is rounded to 1/65536 of a pixel."""
        data = write_init_segment([_with_video(pixel_aspect=(10, 11))])
        self.assertEqual(round(160 * 10 / 11 * 65536).to_bytes(4, "big"), _moov(data).child("trak", "tkhd").body[-8:-4])

    def test_reducible_aspect_is_square(self) -> None:
        """An aspect of equal numbers is square, whatever the numbers."""
        self.assertEqual(write_init_segment([VIDEO]), write_init_segment([_with_video(pixel_aspect=(12, 12))]))

    def test_unspecified_aspect_is_square(self) -> None:
        """An aspect with a 0 says nothing, so pixels count as square."""
        for aspect in ((0, 1), (1, 0), (0, 0)):
            self.assertEqual(write_init_segment([VIDEO]), write_init_segment([_with_video(pixel_aspect=aspect)]))

    def test_colour_behind_the_record(self) -> None:
        """A known colour description is written behind the codec record."""
        entry = _entry(write_init_segment([_with_video(colour=Colour(9, 16, 9, full_range=True))]))
        self.assertEqual(["avcC", "colr"], [box.kind for box in entry.children()])
        self.assertEqual(b"nclx" + bytes.fromhex("0009 0010 0009 80"), entry.child("colr").body)


class SoundTests(SynchronousTestCase):
    def test_high_rate_is_zero_there(self) -> None:
        """A rate beyond the sample entry's field is 0 there; the track's clock and the codec still have it."""
        config = replace(AUDIO.config, record=b"\x10\x10", sample_rate=96_000)
        (info,) = read_init_segment(write_init_segment([replace(AUDIO, config=config)]))
        self.assertEqual((0, 96_000, b"\x10\x10"), (info.sample_rate, info.timescale, info.record))

    def test_volume_of_sound_tracks(self) -> None:
        """A sound track is at full volume and has no size; a picture track is the other way round."""
        sound = _moov(write_init_segment([AUDIO])).child("trak", "tkhd").body
        picture = _moov(write_init_segment([VIDEO])).child("trak", "tkhd").body
        self.assertEqual((b"\1\0", bytes(8)), (sound[36:38], sound[-8:]))
        self.assertEqual(b"\0\0", picture[36:38])


class RefusalTests(SynchronousTestCase):
    def test_unknown_codec_is_refused(self) -> None:
        """A codec without a sample entry is refused, with the ones there are."""
        with self.assertRaisesRegex(MediaError, "'vp08', only for avc1"):
            write_init_segment([replace(VIDEO, codec="vp08")])
        with self.assertRaisesRegex(MediaError, "'flv:11', only for mp4a"):
            write_init_segment([replace(AUDIO, codec="flv:11")])

    def test_too_large_picture_is_refused(self) -> None:
        """A picture that its fields cannot describe is refused, not cut off."""
        for changes in ({"width": 65_536}, {"height": 65_536}, {"width": 40_000, "pixel_aspect": (2, 1)}):
            with self.assertRaisesRegex(MediaError, "does not fit"):
                write_init_segment([_with_video(**changes)])

    def test_tracks_must_be_distinct(self) -> None:
        """No tracks at all, or two with one id, is a bug of the caller."""
        for tracks in ([], [VIDEO, replace(AUDIO, id=1)]):
            with self.assertRaises(MisuseError):
                write_init_segment(tracks)
