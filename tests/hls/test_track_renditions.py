"""Renditions of single tracks over a real shelf: what players of each of them find there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.packager import Packager
from rapidrtmp.cmaf.reader import read_fragments, read_init_segment
from rapidrtmp.codec.opus import opus_of_packet
from rapidrtmp.codec.table import CODECS
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.interfaces import Playlist
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.read_multivariant import parse_multivariant_playlist
from rapidrtmp.media import Frame, Track
from rapidrtmp.testing.frames import (
    audio_frames,
    delayed,
    interleaved,
    make_audio_track,
    make_video_track,
    video_frames,
)
from rapidrtmp.testing.sinks import RecordingMetrics, feed, make_sink_context
from tests.m3u8.checker import Follower, ReadPlaylist
from tests.slow import slow

VIDEO = make_video_track()
MAIN, COMMENT, MONO = (
    make_audio_track(id=2),
    make_audio_track(44_100, id=4, language="deu", name="Kommentar"),
    make_audio_track(channels=1, id=8),
)
FOLDERS = ("", "video-0/", "audio-0/", "audio-1/")


class WatchedShelf(Shelf):
    """
    A shelf with a player in front of each playlist, who looks at every version and fetches everything new.

    :ivar players: by the folder of the playlist.
    """

    def __init__(self) -> None:
        super().__init__()
        self.players: dict[str, Follower] = defaultdict(Follower)
        self.bodies: dict[str, bytes] = {}

    def put(self, name: str, pieces: Sequence[bytes], *rest: str) -> None:
        super().put(name, pieces, *rest)
        assert name.endswith(".m3u8") or name not in self.bodies, f"{name} was used before"
        self.bodies[name] = b"".join(pieces)

    def put_playlist(self, name: str, playlist: Playlist) -> None:
        folder = name.removesuffix("index.m3u8")
        seen = self.players[folder].see(playlist.body, playlist.delta)
        for uri in seen.uris():
            assert self.find(folder + uri) is not None, f"{folder}{uri} is listed and not there"
        if seen.hint is not None:
            assert self.is_announced(folder + seen.hint), f"{seen.hint} is hinted at and not announced"
        super().put_playlist(name, playlist)

    def latest(self, folder: str) -> ReadPlaylist:
        """The newest version of a playlist."""
        return self.players[folder].latest


class Packaged:
    """A packager at work."""

    def __init__(self, spec: dict[str, str] | None = None) -> None:
        self.shelf = WatchedShelf()
        self.metrics = RecordingMetrics()
        self.context = make_sink_context(shelf=self.shelf, metrics=self.metrics)
        self.sink = Packager(HlsSinkFactory(**(spec or {})).create(self.context))
        self._has_begun = False

    def range(self, *tracks: Track, frames: Sequence[Frame]) -> None:
        """A range of frames; a discontinuity comes before all but the first."""
        if self._has_begun:
            self.sink.discontinuity()
        self._has_begun = True
        self.sink.tracks_changed(tracks)
        feed(self.sink, frames)

    def payloads(self, folder: str, track: Track) -> list[bytes]:
        """The payloads of all samples of a track, from the segments that a playlist ever listed."""
        listed = {
            segment.sequence: segment for version in self.shelf.players[folder].versions for segment in version.segments
        }
        found = []
        for _, segment in sorted(listed.items()):
            if segment.uri and not segment.gap:
                init = read_init_segment(self.shelf.bodies[folder + segment.map_uri])
                for fragment in read_fragments(self.shelf.bodies[folder + segment.uri], init):
                    found += [run.samples for run in fragment.tracks if run.track_id == track.id]
        return [sample.payload for sample in chain.from_iterable(found)]

    def multivariant(self) -> str:
        """The multivariant playlist, read without a problem."""
        text = self.shelf.bodies["master.m3u8"].decode()
        assert not parse_multivariant_playlist(text).problems, text
        return text


def shape(playlist: ReadPlaylist) -> list[object]:
    """All that must be equal in the playlists of a stream."""
    return [
        playlist.sequence,
        playlist.discontinuity_sequence,
        playlist.target,
        playlist.part_target,
        [
            (
                each.sequence,
                each.duration,
                each.discontinuity,
                each.starts,
                [part.duration for part in each.parts],
            )
            for each in playlist.segments
        ],
    ]


class TwoTracksTests(SynchronousTestCase):
    """A second audio track."""

    def packaged(self, seconds: int = 20, spec: dict[str, str] | None = None) -> Packaged:
        packaged = Packaged(spec)
        frames = interleaved(
            video_frames(VIDEO, seconds), audio_frames(MAIN, seconds), audio_frames(COMMENT, seconds, size=200)
        )
        packaged.range(VIDEO, MAIN, COMMENT, frames=frames)
        return packaged

    @slow
    def test_folders_of_single_tracks(self) -> None:
        """Video and each audio track have playlists of their own, and nothing is lost or in the wrong one."""
        packaged = self.packaged()
        packaged.sink.finish()
        self.assertEqual(sorted(FOLDERS), sorted(packaged.shelf.players))
        for folder, track in (("video-0/", VIDEO), ("audio-0/", MAIN), ("audio-1/", COMMENT)):
            sent = [frame.data for frame in self.sent(track)]
            self.assertEqual(sent, packaged.payloads(folder, track))
        self.assertEqual([], packaged.payloads("audio-1/", MAIN))

    @staticmethod
    def sent(track: Track) -> list[Frame]:
        return (
            video_frames(VIDEO, 20) if track is VIDEO else audio_frames(track, 20, size=340 if track is MAIN else 200)
        )

    @slow
    def test_muxed_as_before(self) -> None:
        """The muxed playlist and its media are what they are without the second track, byte for byte."""
        both, one = self.packaged(), Packaged()
        one.range(VIDEO, MAIN, frames=interleaved(video_frames(VIDEO, 20), audio_frames(MAIN, 20)))
        for packaged in (both, one):
            packaged.sink.finish()
        same = {name: body for name, body in both.shelf.bodies.items() if "/" not in name and name != "master.m3u8"}
        self.assertEqual(same, {name: one.shelf.bodies[name] for name in same})
        self.assertEqual(shape(one.shelf.latest("")), shape(both.shelf.latest("")))

    @slow
    def test_playlists_are_in_step(self) -> None:
        """At every moment all playlists have the same segments, parts, dates and promises, and report on each other."""
        for spec in (None, {"part": "0"}):
            packaged = self.packaged(spec=spec)
            shelf = packaged.shelf
            for folder in FOLDERS[1:]:
                self.assertEqual(len(shelf.players[""].versions), len(shelf.players[folder].versions))
                for ours, muxed in zip(shelf.players[folder].versions, shelf.players[""].versions, strict=True):
                    self.assertEqual(shape(muxed), shape(ours))
            playlist = shelf.find_playlist("audio-1/index.m3u8")
            assert playlist is not None
            read = parse_media_playlist(playlist.facts.body)
            self.assertEqual(["../video-0/index.m3u8", "../audio-0/index.m3u8"], [each.uri for each in read.reports])
            if spec is None:
                sequence, part = read.edge
                last = {(each.last_sequence, each.last_part) for each in read.reports}
                self.assertEqual({(sequence, part - 1)} if part else {(sequence - 1, 5)}, last)

    @slow
    def test_multivariant_offers_audio_groups(self) -> None:
        """The multivariant playlist offers video alone with a group of audio tracks, by language and name."""
        text = self.packaged().multivariant()
        self.assertIn(
            '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio-mp4a",NAME="Audio 1",DEFAULT=YES,AUTOSELECT=YES,CHANNELS="2",'
            'URI="audio-0/index.m3u8"\n'
            '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio-mp4a",NAME="Kommentar",LANGUAGE="deu",DEFAULT=NO,AUTOSELECT=YES,'
            'CHANNELS="2",URI="audio-1/index.m3u8"\n',
            text,
        )
        (variant,) = parse_multivariant_playlist(text).variants
        self.assertEqual(
            ("video-0/index.m3u8", "avc1.42c01f,mp4a.40.2", {"AUDIO": "audio-mp4a"}),
            (variant.uri, variant.codecs, variant.groups),
        )

    def test_stored_copy_is_muxed_alone(self) -> None:
        """What is stored is the muxed rendition, and a multivariant playlist of that alone."""
        packaged = Packaged()
        frames = interleaved(video_frames(VIDEO, 10), audio_frames(MAIN, 10), audio_frames(COMMENT, 10))
        packaged.range(VIDEO, MAIN, COMMENT, frames=frames)
        packaged.sink.finish()
        stored = packaged.context.storage.objects  # type: ignore[attr-defined]
        prefix = str(packaged.context.stream)
        self.assertEqual([], [key for key in stored if key.startswith((f"{prefix}/audio", f"{prefix}/video"))])
        master = stored[f"{prefix}/master.m3u8"].decode()
        self.assertEqual(["index.m3u8"], [each.uri for each in parse_multivariant_playlist(master).variants])


class AudioAloneTests(SynchronousTestCase):
    """Several audio tracks without video."""

    def packaged(self, *tracks: Track, seconds: int = 20, frames: Sequence[Frame] = ()) -> Packaged:
        packaged = Packaged()
        sound = frames or interleaved(*(audio_frames(track, seconds) for track in tracks))
        packaged.range(*tracks, frames=sound)
        return packaged

    @slow
    def test_each_track_comes_out(self) -> None:
        """Each track has a playlist of its own, in step; the stream's own one is that of the first track."""
        packaged = self.packaged(MAIN, COMMENT, MONO)
        packaged.sink.finish()
        shelf = packaged.shelf
        self.assertEqual(["", "audio-0/", "audio-1/", "audio-3/"], sorted(shelf.players))
        for folder, track in (("", MAIN), ("audio-0/", MAIN), ("audio-1/", COMMENT), ("audio-3/", MONO)):
            sent = [frame.data for frame in audio_frames(track, 20)]
            self.assertEqual(sent, packaged.payloads(folder, track), folder)
            self.assertEqual(shape(shelf.latest("")), shape(shelf.latest(folder)))
            self.assertTrue(all(part.independent for each in shelf.latest(folder).segments for part in each.parts))

    @slow
    def test_muxed_as_with_one(self) -> None:
        """The stream's own media are what they are without the other tracks, byte for byte."""
        both, one = self.packaged(MAIN, COMMENT), self.packaged(MAIN)
        same = {name: body for name, body in both.shelf.bodies.items() if "/" not in name and name != "master.m3u8"}
        self.assertEqual(same, {name: one.shelf.bodies[name] for name in same})

    def test_multivariant_offers_all(self) -> None:
        """The multivariant playlist has a variant for each codec, whose URI is one of its group of audio."""
        opus = CODECS["Opus"].make_track(6, opus_of_packet(b"\xfc"))
        sound = [replace(frame, data=b"\xfc" + frame.data) for frame in audio_frames(opus, 12)]
        frames = interleaved(audio_frames(MAIN, 12), audio_frames(COMMENT, 12, size=900), sound)
        packaged = self.packaged(MAIN, COMMENT, opus, frames=frames)
        parsed = parse_multivariant_playlist(packaged.multivariant())
        self.assertEqual(
            [
                ("audio-0/index.m3u8", "mp4a.40.2", {"AUDIO": "audio-mp4a"}),
                ("audio-2/index.m3u8", "opus", {"AUDIO": "audio-opus"}),
            ],
            [(variant.uri, variant.codecs, variant.groups) for variant in parsed.variants],
        )
        self.assertEqual(
            [f"audio-{number}/index.m3u8" for number in range(3)], [each.uri for each in parsed.renditions]
        )
        largest = 8 * 900 * 44_100 // 1024
        self.assertTrue(largest < parsed.variants[0].bandwidth < 2 * largest, parsed.variants[0].bandwidth)

    @slow
    def test_first_track_pauses(self) -> None:
        """While the first track is silent the others continue, in gaps of the first; it joins in where it belongs."""
        back = audio_frames(MAIN, 6, start=14 * 48_000)
        frames = interleaved([*audio_frames(MAIN, 6), *back], audio_frames(COMMENT, 20))
        packaged = self.packaged(MAIN, COMMENT, frames=frames)
        edges = packaged.shelf.latest("audio-1/").segments
        self.assertGreater(sum(segment.duration or 0 for segment in edges), 16)
        packaged.sink.finish()
        sent = [frame.data for frame in audio_frames(COMMENT, 20)]
        self.assertEqual(sent, packaged.payloads("audio-1/", COMMENT))
        self.assertEqual([frame.data for frame in (*audio_frames(MAIN, 6), *back)], packaged.payloads("", MAIN))
        self.assertEqual(0, packaged.metrics.total("playlist_violations_total"))

    @slow
    def test_camera_comes_and_goes(self) -> None:
        """Video that comes later makes variants with the same audio to choose from, and leaves them behind."""
        packaged = self.packaged(MAIN, COMMENT, seconds=8)
        both = [audio_frames(track, 8, start=10 * track.timescale) for track in (MAIN, COMMENT)]
        packaged.range(VIDEO, MAIN, COMMENT, frames=interleaved(video_frames(VIDEO, 8, start=900_000), *both))
        parsed = parse_multivariant_playlist(packaged.multivariant())
        self.assertEqual(["video-0/index.m3u8"], [variant.uri for variant in parsed.variants])
        both = [audio_frames(track, 8, start=20 * track.timescale) for track in (MAIN, COMMENT)]
        packaged.range(MAIN, COMMENT, frames=interleaved(*both))
        parsed = parse_multivariant_playlist(packaged.multivariant())
        self.assertEqual(["audio-0/index.m3u8"], [variant.uri for variant in parsed.variants])


class OddTracksTests(SynchronousTestCase):
    def test_names_differ_within_a_group(self) -> None:
        """Names in a group differ, and hold nothing that ends them early."""
        packaged = Packaged()
        tracks = (VIDEO, MAIN, COMMENT, replace(COMMENT, id=6), replace(MONO, name='"quoted"\n'))
        frames = interleaved(video_frames(VIDEO, 8), *(audio_frames(track, 8) for track in tracks[1:]))
        packaged.range(*tracks, frames=frames)
        text = packaged.multivariant()
        for name in ("Audio 1", "Kommentar", "Kommentar (2)", "quoted"):
            self.assertIn(f'NAME="{name}"', text)

    def test_codecs_apart_in_groups(self) -> None:
        """Audio of another codec is a group of its own, and a variant with the same video."""
        opus = CODECS["Opus"].make_track(4, opus_of_packet(b"\xfc"))
        packaged = Packaged()
        sound = [replace(frame, data=b"\xfc" + frame.data) for frame in audio_frames(opus, 8)]
        frames = interleaved(video_frames(VIDEO, 8), audio_frames(MAIN, 8), sound)
        packaged.range(VIDEO, MAIN, opus, frames=frames)
        variants = parse_multivariant_playlist(packaged.multivariant()).variants
        self.assertEqual(
            [
                ("video-0/index.m3u8", "avc1.42c01f,mp4a.40.2", {"AUDIO": "audio-mp4a"}),
                ("video-0/index.m3u8", "avc1.42c01f,opus", {"AUDIO": "audio-opus"}),
            ],
            [(variant.uri, variant.codecs, variant.groups) for variant in variants],
        )

    def test_announced_track_is_waited_for(self) -> None:
        """For a track that is announced and not here the multivariant playlist waits, but for two segments at most."""
        for expected, until_ms in ((frozenset(), 2_500), (frozenset({4}), 4_500)):
            packaged = Packaged()
            context = replace(packaged.context, expected_tracks=lambda expected=expected: expected)
            packaged.sink = Packager(HlsSinkFactory().create(context))
            packaged.sink.tracks_changed((VIDEO, MAIN))
            for frame in interleaved(video_frames(VIDEO, 10), audio_frames(MAIN, 10)):
                packaged.sink.frame_received(frame)
                if "master.m3u8" in packaged.shelf.bodies:
                    break
            self.assertTrue(until_ms - 700 <= frame.arrived_ms <= until_ms, (expected, frame.arrived_ms))

    @slow
    def test_late_track_delays_little(self) -> None:
        """A track that is far behind delays no part by more than a tenth of a second, and loses nothing."""
        lag_ms = 800
        prompt, late = Packaged(), Packaged()
        for packaged, by_ms in ((prompt, 0), (late, lag_ms)):
            comment = delayed(audio_frames(COMMENT, 12), by_ms)
            frames = interleaved(video_frames(VIDEO, 12), audio_frames(MAIN, 12), comment)
            arrived = [frame for frame in frames if frame.arrived_ms <= 12_000]
            packaged.range(VIDEO, MAIN, COMMENT, frames=arrived)
        self.assertLessEqual(
            len(prompt.shelf.latest("").uris()), len(late.shelf.latest("").uris()) + 1, "a part is missing"
        )
        late.sink.finish()
        heard = late.payloads("audio-1/", COMMENT)
        self.assertGreater(len(heard), 11_000 * 44_100 // 1024 // 1000)

    @slow
    def test_track_that_ends(self) -> None:
        """The rendition of a track that is gone continues with gaps, in step; one that returns is there again."""
        packaged = Packaged()

        def frames(start_s: int, *tracks: Track) -> list[Frame]:
            audio = [audio_frames(track, 8, start=start_s * track.timescale) for track in tracks]
            return interleaved(video_frames(VIDEO, 8, start=start_s * 90_000), *audio)

        packaged.range(VIDEO, MAIN, COMMENT, frames=frames(0, MAIN, COMMENT))
        packaged.range(VIDEO, MAIN, frames=frames(10, MAIN))
        shelf = packaged.shelf
        self.assertEqual(shape(shelf.latest("")), shape(shelf.latest("audio-1/")))
        self.assertTrue(shelf.latest("audio-1/").segments[-2].gap)
        (variant,) = parse_multivariant_playlist(packaged.multivariant()).variants
        self.assertEqual("index.m3u8", variant.uri)
        packaged.range(VIDEO, MAIN, COMMENT, frames=frames(20, MAIN, COMMENT))
        self.assertEqual(shape(shelf.latest("")), shape(shelf.latest("audio-1/")))
        self.assertFalse(shelf.latest("audio-1/").segments[-2].gap)
        packaged.sink.finish()
        self.assertTrue(all(shelf.latest(folder).ended for folder in FOLDERS))

    def test_track_that_begins(self) -> None:
        """A track that comes later begins its rendition where the muxed one is, with the same numbers."""
        packaged = Packaged()
        packaged.range(VIDEO, MAIN, frames=interleaved(video_frames(VIDEO, 8), audio_frames(MAIN, 8)))
        start = 10
        frames = interleaved(
            video_frames(VIDEO, 8, start=start * 90_000),
            audio_frames(MAIN, 8, start=start * 48_000),
            audio_frames(COMMENT, 8, start=start * 44_100),
        )
        packaged.range(VIDEO, MAIN, COMMENT, frames=frames)
        muxed, comment = packaged.shelf.latest(""), packaged.shelf.latest("audio-1/")
        shared = shape(muxed)[-1][-len(comment.segments) :]  # type: ignore[index]
        self.assertEqual(shared, shape(comment)[-1])
        self.assertEqual(1, comment.segments[0].discontinuity + comment.discontinuity_sequence)
        self.assertTrue(comment.segments[0].discontinuity)

    @slow
    def test_windows_slide_in_every_folder(self) -> None:
        """What has left a playlist is taken down in its folder as well."""
        packaged = Packaged({"window": "3"})
        seconds = 60
        frames = interleaved(video_frames(VIDEO, seconds), audio_frames(MAIN, seconds), audio_frames(COMMENT, seconds))
        packaged.range(VIDEO, MAIN, COMMENT, frames=frames)
        for folder in FOLDERS:
            up = [
                name
                for name in packaged.shelf.bodies
                if name.startswith(f"{folder}segment") and packaged.shelf.find(name)
            ]
            self.assertLess(len(up), 15, folder)


class SizesTests(SynchronousTestCase):
    """Several sizes of one picture."""

    SMALL, TINY = make_video_track(640, 360, id=3), make_video_track(320, 180, id=5)

    def frames(self, seconds: int = 20, *audio: Track, shifted: int = 0, gap: range = range(0)) -> list[Frame]:
        """Three sizes, the smallest with other keyframes if ``shifted``, the middle one without some of its frames."""
        small = [frame for number, frame in enumerate(video_frames(self.SMALL, seconds, size=500)) if number not in gap]
        tiny = video_frames(self.TINY, seconds, size=200, gop=60)
        if shifted:
            tiny = [replace(frame, keyframe=number % 60 == shifted) for number, frame in enumerate(tiny)]
        sound = [audio_frames(track, seconds) for track in audio]
        return interleaved(video_frames(VIDEO, seconds), small, tiny, *sound)

    def packaged(self, *frames: Frame, audio: Sequence[Track] = (MAIN,)) -> Packaged:
        packaged = Packaged()
        packaged.range(VIDEO, self.SMALL, self.TINY, *audio, frames=frames)
        return packaged

    @slow
    def test_rungs_are_variants_in_step(self) -> None:
        """Each size is a variant, muxed with the same audio, in step; the one to start with comes first."""
        packaged = self.packaged(*self.frames(20, MAIN))
        variants = parse_multivariant_playlist(packaged.multivariant()).variants
        self.assertEqual(
            {"index.m3u8": "1280x720", "video-1/index.m3u8": "640x360", "video-2/index.m3u8": "320x180"},
            {variant.uri: variant.resolution for variant in variants},
        )
        rates = {variant.uri: variant.bandwidth for variant in variants}
        self.assertEqual(sorted(rates.values(), reverse=True), [rates[uri] for uri in ("index.m3u8", *list(rates)[1:])])
        self.assertEqual({"avc1.42c01f,mp4a.40.2"}, {variant.codecs for variant in variants})
        shelf = packaged.shelf
        for folder in ("video-1/", "video-2/"):
            self.assertEqual(shape(shelf.latest("")), shape(shelf.latest(folder)))
        packaged.sink.finish()
        for folder, track in (("video-1/", self.SMALL), ("video-2/", self.TINY)):
            sent = [frame.data for frame in self.frames(20) if frame.track is track]
            self.assertEqual(sent, packaged.payloads(folder, track))
            self.assertEqual(packaged.payloads("", MAIN), packaged.payloads(folder, MAIN))

    def test_reports_of_all_other_playlists(self) -> None:
        """Each playlist that can be chosen reports on all others."""
        packaged = self.packaged(*self.frames(10, MAIN))
        playlists = {"index.m3u8", "video-1/index.m3u8", "video-2/index.m3u8"}
        for name in playlists:
            found = packaged.shelf.find_playlist(name)
            assert found is not None
            reports = parse_media_playlist(found.facts.body).reports
            up = "../" if "/" in name else ""
            self.assertEqual({up + other for other in playlists - {name}}, {each.uri for each in reports})

    def test_held_until_keyframes_are_known(self) -> None:
        """The multivariant playlist is not put up before it is clear of each size whether its keyframes coincide."""
        packaged = Packaged()
        packaged.sink.tracks_changed((VIDEO, self.SMALL, self.TINY, MAIN))
        for frame in self.frames(20, MAIN):
            packaged.sink.frame_received(frame)
            if "master.m3u8" in packaged.shelf.bodies:
                break
        self.assertTrue(4_000 <= frame.arrived_ms <= 6_100, frame.arrived_ms)
        self.assertEqual(3, len(parse_multivariant_playlist(packaged.multivariant()).variants))

    @slow
    def test_other_keyframes_are_not_offered(self) -> None:
        """A size whose keyframes are elsewhere is not offered, the encoder hears of it, and no other waits for it."""
        packaged, said = Packaged(), list[tuple[str, str]]()
        context = replace(packaged.context, advise=lambda topic, advice: said.append((topic, advice)))
        packaged.sink = Packager(HlsSinkFactory().create(context))
        packaged.range(VIDEO, self.SMALL, self.TINY, MAIN, frames=self.frames(20, MAIN, shifted=10))
        variants = parse_multivariant_playlist(packaged.multivariant()).variants
        self.assertEqual({"index.m3u8", "video-1/index.m3u8"}, {variant.uri for variant in variants})
        self.assertEqual(shape(packaged.shelf.latest("")), shape(packaged.shelf.latest("video-2/")))
        self.assertTrue(all(segment.gap for segment in packaged.shelf.latest("video-2/").segments))
        self.assertEqual([("video-1", ""), ("video-2", said[-1][1])], said)
        self.assertIn("Viewers do not get video track 2: its keyframes", said[-1][1])

    def test_dropped_keyframe_makes_a_gap(self) -> None:
        """A segment whose keyframe was dropped in one size is a gap there, and the next one is not."""
        packaged = self.packaged(*self.frames(20, MAIN, gap=range(235, 250)))
        gaps = [segment.gap for segment in packaged.shelf.latest("video-1/").segments]
        self.assertEqual(1, sum(gaps), gaps)
        self.assertFalse(any(segment.gap for segment in packaged.shelf.latest("").segments))
        self.assertEqual(3, len(parse_multivariant_playlist(packaged.multivariant()).variants))

    def test_every_segment_stands_alone(self) -> None:
        """In all sizes each segment begins with a keyframe of one presentation time, with B-frames in some or not."""
        leading = video_frames(VIDEO, 12, b_frames=2)
        shift = leading[0].composition_offset
        small = video_frames(self.SMALL, 12, start=shift)
        frames = interleaved(leading, small, audio_frames(MAIN, 12))
        packaged = Packaged()
        packaged.range(VIDEO, self.SMALL, MAIN, frames=frames)
        shelf = packaged.shelf
        for one, other in zip(shelf.latest("").segments, shelf.latest("video-1/").segments, strict=True):
            starts = []
            for folder, segment in (("", one), ("video-1/", other)):
                init = read_init_segment(shelf.bodies[folder + segment.map_uri])
                first = read_fragments(shelf.bodies[f"{folder}{segment.uri}"], init)[0].tracks[0].samples[0]
                self.assertTrue(first.keyframe)
                starts.append(first.pts)
            self.assertEqual(starts[0], starts[1])

    def test_other_pictures_are_no_size(self) -> None:
        """A picture of another shape is not a size of this one."""
        upright = make_video_track(360, 640, id=3)
        packaged = Packaged()
        frames = interleaved(video_frames(VIDEO, 10), video_frames(upright, 10), audio_frames(MAIN, 10))
        packaged.range(VIDEO, upright, MAIN, frames=frames)
        self.assertEqual(1, len(parse_multivariant_playlist(packaged.multivariant()).variants))
        self.assertEqual([""], list(packaged.shelf.players))

    @slow
    def test_with_audio_to_choose(self) -> None:
        """With several audio tracks each size is video alone, and goes with the same group of audio."""
        packaged = self.packaged(*self.frames(12, MAIN, COMMENT), audio=(MAIN, COMMENT))
        parsed = parse_multivariant_playlist(packaged.multivariant())
        self.assertEqual(
            {(f"video-{number}/index.m3u8", "audio-mp4a") for number in range(3)},
            {(variant.uri, variant.groups["AUDIO"]) for variant in parsed.variants},
        )
        self.assertEqual(2, len(parsed.renditions))
        self.assertEqual([], packaged.payloads("video-1/", MAIN))


class AnyStreamTests(SynchronousTestCase):
    """Tracks that come, go, lag, drop frames and have keyframes of their own."""

    @slow
    @settings(max_examples=40)
    @given(st.randoms(use_true_random=False))
    def test_any_tracks_keep_the_rules(self, random: Random) -> None:
        """Whatever they do, playlists keep the rules and are in step, and segments begin where decoding can."""
        packaged, start_s = Packaged(random.choice([{}, {"part": "0"}, {"window": "3"}, {"segment": "1"}])), 0
        for _ in range(random.randint(1, 3)):
            seconds = random.randint(1, 6)
            audio = [track for track in (MAIN, COMMENT, MONO) if random.random() < 0.6]
            sizes = [track for track in (SizesTests.SMALL, SizesTests.TINY) if random.random() < 0.6]
            gop = random.choice([15, 30, 60])
            lead = video_frames(VIDEO, seconds, gop=gop, b_frames=random.choice([0, 2]), start=start_s * 90_000)
            leading = [VIDEO]
            if audio and random.random() < 0.2:
                lead, leading, sizes = [], [], []
            others = [
                video_frames(each, seconds, gop=random.choice([gop, 45]), start=start_s * 90_000) for each in sizes
            ]
            others += [audio_frames(each, seconds, start=start_s * each.timescale) for each in audio]
            others = [self._mangled(random, frames) for frames in others]
            packaged.range(*leading, *sizes, *audio, frames=interleaved(lead, *others))
            start_s += seconds + random.choice([1, 4])
        packaged.sink.finish()
        self.assertEqual(0, packaged.metrics.total("playlist_violations_total"))
        if not packaged.shelf.players:  # no frame of a leading track has come
            return
        muxed = packaged.shelf.latest("")
        for folder in packaged.shelf.players:
            ours = packaged.shelf.latest(folder)
            listed = min(len(ours.segments), len(muxed.segments))
            self.assertEqual(shape(muxed)[-1][-listed:], shape(ours)[-1][-listed:])  # type: ignore[index]
            self.assertTrue(ours.ended)
            self._check_begins(packaged.shelf, folder, ours)
            self._check_joins(packaged.shelf, folder)

    def _mangled(self, random: Random, frames: list[Frame]) -> list[Frame]:
        """Frames that come late, or not at all: some, the first ones, the last ones, or a stretch of them."""
        frames = [frame for frame in frames if random.random() > random.choice([0, 0, 0.02])]
        at = random.randint(0, len(frames))
        lost = random.choice([slice(0, 0), slice(0, 0), slice(at, None), slice(0, at), slice(at, at + 40)])
        del frames[lost]
        return delayed(frames, random.choice([0, 0, 20, 150, 900]))

    def _check_joins(self, shelf: WatchedShelf, folder: str) -> None:
        """Within a range no sample of a track begins before the one in front of it has ended."""
        listed = {each.sequence: each for version in shelf.players[folder].versions for each in version.segments}
        ends: dict[int, int] = {}
        for _, segment in sorted(listed.items()):
            if segment.discontinuity:
                ends.clear()
            if segment.gap or segment.uri is None:
                continue
            init = read_init_segment(shelf.bodies[folder + segment.map_uri])
            for fragment in read_fragments(shelf.bodies[folder + segment.uri], init):
                for run in fragment.tracks:
                    for sample in run.samples:
                        self.assertGreaterEqual(sample.dts, ends.get(run.track_id, 0), f"{folder}{segment.uri}")
                        ends[run.track_id] = sample.dts + sample.duration

    def _check_begins(self, shelf: WatchedShelf, folder: str, playlist: ReadPlaylist) -> None:
        if not playlist.independent:
            return  # a GOP was longer than the longest segment, and the playlist does not claim otherwise
        for segment in playlist.segments if folder.startswith("video-") else ():
            if segment.gap or segment.uri is None:
                continue
            init = read_init_segment(shelf.bodies[folder + segment.map_uri])
            first = read_fragments(shelf.bodies[folder + segment.uri], init)[0].tracks[0]
            self.assertTrue(first.samples[0].keyframe, f"{folder}{segment.uri}")
