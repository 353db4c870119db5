"""Which rungs there are beside a source."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.media import Colour, VideoConfig
from rapidrtmp.testing.frames import make_video_track
from rapidrtmp.transcode.command import make_command
from rapidrtmp.transcode.room import estimated_cores
from rapidrtmp.transcode.rungs import is_common, parse_rungs, suitable_rungs

RUNGS = parse_rungs({"360p": "700k", "720p": "3000k", "480p": "1200k"})


def config_of(width: int, height: int, **more: object) -> VideoConfig:
    config = make_video_track(width, height).config
    assert isinstance(config, VideoConfig)
    return replace(config, **more)  # type: ignore[arg-type]


def sizes(config: VideoConfig, bitrate: int = 6_000_000) -> list[tuple[str, int, int]]:
    return [(each.rung.name, each.width, each.height) for each in suitable_rungs(RUNGS, config, bitrate)]


class RungTests(SynchronousTestCase):
    def test_smaller_ones_alone(self) -> None:
        """No rung is scaled up, or hardly smaller than the source, or takes about as much."""
        full = [("720p", 1280, 720), ("480p", 854, 480), ("360p", 640, 360)]
        self.assertEqual(full, sizes(config_of(1920, 1080)))
        self.assertEqual(full[1:], sizes(config_of(1280, 720)))
        self.assertEqual(full[2:], sizes(config_of(1280, 720), 1_000_000))
        self.assertEqual([], sizes(config_of(640, 360)))
        self.assertEqual([], sizes(config_of(1920, 1080), 800_000))

    def test_portrait_by_shorter_side(self) -> None:
        """Of a portrait the shorter side counts."""
        self.assertEqual([("480p", 480, 854), ("360p", 360, 640)], sizes(config_of(720, 1280)))

    def test_pixels_that_are_not_square(self) -> None:
        """A rung has the shape that is shown, with square pixels and even sides."""
        self.assertEqual([("480p", 854, 480), ("360p", 640, 360)], sizes(config_of(960, 720, pixel_aspect=(4, 3))))

    def test_hdr_is_left_alone(self) -> None:
        """Of HDR there are no rungs, for they would look wrong."""
        self.assertEqual([], sizes(config_of(1920, 1080, colour=Colour(9, 16, 9, False))))

    def test_tones_are_mapped_where_that_is_wanted(self) -> None:
        """Of HDR there are rungs where that is asked for: as an ordinary picture, and dearer."""
        for transfer, name in ((16, "smpte2084"), (18, "arib-std-b67")):
            config = config_of(1920, 1080, colour=Colour(9, transfer, 9, False))
            suitable = suitable_rungs(RUNGS, config, 6_000_000, maps_tones=True)
            self.assertEqual(3, len(suitable))
            graph = " ".join(make_command("/opt/ffmpeg", suitable, "veryfast", transfer=transfer))
            self.assertIn(f"setsar=1,setparams=color_primaries=bt2020:color_trc={name}", graph)
            self.assertEqual(3, graph.count("tonemap=hable"))
            plain, mapped = (
                estimated_cores(config, None, suitable, "veryfast", on_hardware=False, maps_tones=each)
                for each in (False, True)
            )
            self.assertGreater(mapped, plain * 1.5)

    def test_other_codecs_have_one_of_their_size(self) -> None:
        """Beside a source that not all players can play a rung of its height makes sense, and one that takes more."""
        rungs = parse_rungs({"source": "5000k", "720p": "3000k", "480p": "1200k"})

        def names(*source: int, common: bool) -> list[tuple[str, int, int]]:
            width, height, bitrate = source
            suitable = suitable_rungs(rungs, config_of(width, height), bitrate, common=common)
            return [(each.rung.name, each.width, each.height) for each in suitable]

        self.assertEqual(
            [("source", 1280, 720), ("720p", 1280, 720), ("480p", 854, 480)],
            names(1280, 720, 2_000_000, common=False),
        )
        self.assertEqual([("480p", 854, 480)], names(1280, 720, 2_000_000, common=True))

    def test_codecs_that_all_players_have(self) -> None:
        """All players have H.264 in its usual profiles, not with ten bits, and no other codec for certain."""
        self.assertTrue(is_common(make_video_track()))
        config = replace(make_video_track().config, codec_string="avc1.6E001F")
        self.assertFalse(is_common(replace(make_video_track(), config=config)))
        self.assertFalse(is_common(replace(make_video_track(), codec="hvc1")))

    def test_specs_are_read(self) -> None:
        """A rung is a height and a bit rate; what is none is refused with what would be right."""
        self.assertEqual(["720p", "480p", "360p"], [rung.name for rung in RUNGS])
        for options, said in (
            ({"hd": "3000k"}, "720p=3000k"),
            ({"720p": "fast"}, "800k or 8M"),
            ({"720p": "3"}, "at least"),
            ({f"{lines}p": "100k" for lines in range(100, 118, 2)}, "at most 8"),
        ):
            error = self.assertRaises(ConfigurationError, parse_rungs, options)
            self.assertIn(said, str(error))

    def test_one_output_for_each(self) -> None:
        """The source is decoded once; each rung has its size, its rate and an output of its own."""
        suitable = suitable_rungs(RUNGS, config_of(1280, 720), 6_000_000)
        command = make_command("/opt/ffmpeg", suitable, "superfast")
        self.assertIn("[0:v]split=2[s0][s1];[s0]scale=854:480,setsar=1[v0];[s1]scale=640:360,setsar=1[v1]", command)
        self.assertEqual(["pipe:0", "pipe:3", "pipe:4"], [each for each in command if each.startswith("pipe:")])
        self.assertEqual(["1200000", "700000"], [command[i + 1] for i, each in enumerate(command) if each == "-b:v"])
