"""Every codec that FFmpeg sends over Enhanced RTMP, from the encoder to what a viewer gets."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.e2e.browser import BrowserTest, check_library, find_browser
from tests.e2e.encoders import CLIP_S, Process, Stream, published_by_ffmpeg
from tests.e2e.ffmpeg import FFMPEG, Clip, decode, read_packets
from tests.e2e.harness import DEADLINE_S, EndToEndTest, Server, eventually, fetch, new_folder, server_environment
from tests.e2e.playlists import parse_media_playlist
from tests.e2e.test_encoders import Claims, Result, digests, track
from tests.e2e.viewer import in_parallel

RECORDED = """
[live]
grace = "1s"
[apps.live]
sinks = ["hls:segment=1s:window=60:dvr=1h", "record"]
"""
#: So many clips are published, recorded and looked at together.
AT_A_TIME = 7
#: Those whose segments are decoded one by one: of each codec, and of HEVC with open GOPs.
ALONE = ("hevc", "hevc-open-gops", "av1-svt", "vp9-superframes")
#: By the name of a clip: FFmpeg's encoder of its audio with options, and how long frames are, in samples.
SOUNDS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "opus": (("-c:a", "libopus", "-b:a", "64k"), 960),
    "opus-short": (("-c:a", "libopus", "-b:a", "64k", "-frame_duration", "10"), 480),
    "opus-long": (("-c:a", "libopus", "-b:a", "64k", "-frame_duration", "60"), 2_880),
    "opus-surround": (("-c:a", "libopus", "-b:a", "192k", "-ac", "6"), 960),
    "flac": (("-c:a", "flac", "-frame_size", "1152"), 1_152),
    "flac-24": (("-c:a", "flac", "-frame_size", "4096", "-sample_fmt", "s32", "-ac", "1"), 4_096),
    "ac3": (("-c:a", "ac3", "-b:a", "192k"), 1_536),
    "ac3-surround": (("-c:a", "ac3", "-b:a", "448k", "-ac", "6"), 1_536),
    "eac3": (("-c:a", "eac3", "-b:a", "192k"), 1_536),
    "mp3": (("-c:a", "libmp3lame", "-b:a", "128k"), 1_152),
}

#: The same of its video: what else is in pictures that an MP4 track has elsewhere, or not at all.
_X265 = "log-level=error:keyint=30:min-keyint=30:scenecut=0:pools=none:frame-threads=1"
_AV1_DELIMITERS = "av1_metadata=td=remove"
_X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-sc_threshold", "0")
_HEVC_SETS = "filter_units=remove_types=32-34"
PICTURES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "avc-10-bit": (("-pix_fmt", "yuv420p10le", *_X264), ""),
    "avc-422": (("-pix_fmt", "yuv422p", *_X264), ""),
    "avc-444": (("-pix_fmt", "yuv444p", *_X264), ""),
    "hevc": (("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", f"{_X265}:open-gop=0"), ""),
    "hevc-open-gops": (("-c:v", "libx265", "-preset", "fast", "-x265-params", f"{_X265}:bframes=4:b-adapt=0"), ""),
    "hevc-in-band": (
        (
            *("-pix_fmt", "yuv420p10le", "-c:v", "libx265", "-preset", "ultrafast", "-x265-params"),
            f"{_X265}:open-gop=0:repeat-headers=1:hdr10=1:max-cll=1000,400:transfer=smpte2084:aud=1",
        ),
        _HEVC_SETS,
    ),
    "av1-svt": (("-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", "scd=0:lp=1"), _AV1_DELIMITERS),
    "av1-aom": (("-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8"), _AV1_DELIMITERS),
    "av1-rav1e": (("-c:v", "librav1e", "-speed", "10"), _AV1_DELIMITERS),
    "vp9": (("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"), ""),
    "vp9-superframes": (("-c:v", "libvpx-vp9", "-deadline", "good", "-cpu-used", "5", "-auto-alt-ref", "1"), ""),
    "vp9-444": (("-pix_fmt", "yuv444p", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"), ""),
    "av1-hdr": (
        (
            *("-pix_fmt", "yuv420p10le", "-c:v", "libsvtav1", "-preset", "12", "-svtav1-params"),
            "scd=0:lp=1:color-primaries=9:transfer-characteristics=16:matrix-coefficients=9:content-light=1000,400",
        ),
        _AV1_DELIMITERS,
    ),
}

#: What the multivariant playlist says of them.
STRINGS: Mapping[str, str] = {
    "opus": 'CODECS="avc1.42c01e,opus"',
    "avc-10-bit": 'CODECS="avc1.6e000d,mp4a.40.2"',
    "avc-422": 'CODECS="avc1.7a000d,mp4a.40.2"',
    "avc-444": 'CODECS="avc1.f4000d,mp4a.40.2"',
    "hevc": 'CODECS="hvc1.1.6.L60.90,mp4a.40.2"',
    "hevc-open-gops": 'CODECS="hvc1.1.6.L60.90,mp4a.40.2"',
    "hevc-in-band": 'CODECS="hvc1.2.4.L60.90,mp4a.40.2"',
    "av1-svt": 'CODECS="av01.0.00M.08,mp4a.40.2"',
    "av1-aom": 'CODECS="av01.0.00M.08,mp4a.40.2"',
    "av1-rav1e": 'CODECS="av01.0.00M.08,mp4a.40.2"',
    "vp9": 'CODECS="vp09.00.11.08,mp4a.40.2"',
    "vp9-superframes": 'CODECS="vp09.00.11.08,mp4a.40.2"',
    "vp9-444": 'CODECS="vp09.01.11.08.03.02.02.02.00,mp4a.40.2"',
    "av1-hdr": 'CODECS="av01.0.00M.10.0.110.09.16.09.0,mp4a.40.2"',
}


def picture_clip(name: str, *, seconds: int = CLIP_S, sound: str = "") -> Clip:
    """A clip with pictures of that kind; with AAC, if no other sound is named."""
    encoder, taken_out = PICTURES[name]
    more = SOUNDS[sound][0] if sound else ()
    return Clip(name, seconds, Fraction(30), 48_000, 2, more=more, encoder=encoder, taken_out=taken_out)


def clip(name: str, *, seconds: int = CLIP_S, frame_rate: Fraction | None = Fraction(30)) -> Clip:
    """A clip with sound of that kind."""
    return Clip(name, seconds, frame_rate, 48_000, 2, size="640x360", more=SOUNDS[name][0])


class SoundTests(Claims, EndToEndTest):
    """H.264 with sound of every codec that is carried."""

    wanted, package = FFMPEG, "imageio-ffmpeg (a Python package)"

    def streams(self) -> list[Stream]:
        return [published_by_ffmpeg(FFMPEG, clip(name)) for name in SOUNDS]

    def test_audio_is_on_its_sample_clock(self) -> None:
        """Audio frames follow each other by their samples exactly."""

        def claim(result: Result) -> str:
            steps = {after.dts - before.dts for before, after in itertools.pairwise(track(result.received, "audio"))}
            wrong = steps - {Fraction(SOUNDS[result.stream.name][1], 48_000)}
            return f"steps of {sorted(map(float, wrong))} s" if wrong else ""

        self.hold(claim)


class PictureTests(Claims, EndToEndTest):
    """Pictures of every codec that is carried, with AAC."""

    wanted, package = FFMPEG, "imageio-ffmpeg (a Python package)"

    def streams(self) -> list[Stream]:
        return [published_by_ffmpeg(FFMPEG, picture_clip(name)) for name in PICTURES]


class KeptTests(EndToEndTest):
    """What is kept of every codec: recordings, the rewind window, clips and files; and what our own tools say of it."""

    def test_kept_packet_for_packet(self) -> None:
        """All of it is packet for packet what was sent, decodes, and is described truly."""
        server = self.start_server(RECORDED)
        clips = [*map(clip, ("opus", "flac", "ac3", "eac3", "mp3")), *map(picture_clip, PICTURES)]
        for each in clips:
            self.assertTrue(each.path.exists())  # encoded now, not meanwhile
        for at in range(0, len(clips), AT_A_TIME):
            in_parallel(*(functools.partial(self._check_kept, server, each) for each in clips[at : at + AT_A_TIME]))

    def _check_kept(self, server: Server, sent: Clip) -> None:
        folder = new_folder(sent.name)
        process = Process(published_by_ffmpeg(FFMPEG, sent), server.issue_token(sent.name).publish_url, folder)
        self.addCleanup(process.kill)
        self.assertEqual(0, process.wait(DEADLINE_S), process.said)
        recording = eventually(f"the recording of {sent.name}", functools.partial(self._over, server, sent.name))
        stream, packets = f"{server.root}/live/{sent.name}", process.packets()
        self.assertEqual((CLIP_S, 0), (round(recording["duration"]), recording["gaps"]), sent.name)
        for path in (f"{server.root}{recording['movieUrl']}", f"{stream}/dvr.m3u8"):
            kept = read_packets(path)
            for kind in packets.tracks:
                self.assertEqual(digests(track(packets, kind)), digests(track(kept, kind)), f"{kind} of {path}")
            self.assertEqual("", decode(path), path)
        cut = f"{server.root}{recording['playlistUrl'].rpartition('/')[0]}/clip.mp4?from=2s&to=4s"
        self.assertEqual("", decode(cut), cut)
        lasts_s = float(sum(each.duration for each in track(read_packets(cut), "video")))
        self.assertTrue(2 <= lasts_s <= 3.5, f"{lasts_s} s of {cut}")  # from keyframe to keyframe
        for path in (f"{stream}/index.m3u8", f"{stream}/dvr.m3u8"):
            is_claimed = "#EXT-X-INDEPENDENT-SEGMENTS" in fetch(path).text
            self.assertEqual(sent.name != "hevc-open-gops", is_claimed, path)
        if sent.name in ALONE:
            self._check_segments(stream, folder)
        self._check_description(server, sent, fetch(f"{stream}/master.m3u8").text)
        self._check_tools(f"{stream}/master.m3u8", fetch(f"{server.root}{recording['movieUrl']}").body, folder)

    def _over(self, server: Server, key: str) -> Any:
        found = server.get(f"/api/v1/recordings?streamKey={key}").json()["recordings"]
        return found[0] if found and found[0]["state"] == "finished" else None

    def _check_segments(self, stream: str, folder: Path) -> None:
        """Every segment decodes by itself behind its init segment, its times to a millisecond."""
        segments = parse_media_playlist(fetch(f"{stream}/index.m3u8").text).complete
        for segment in segments:
            file = folder / "alone.mp4"
            file.write_bytes(fetch(f"{stream}/{segment.map_uri}").body + fetch(f"{stream}/{segment.uri}").body)
            self.assertEqual("", decode(file), segment.uri)
            if segment is segments[-1]:  # whose sound may be a little longer
                continue
            lasts_s = float(sum(each.duration for each in track(read_packets(file), "video")))
            self.assertApproximates(float(segment.duration), lasts_s, 0.001)

    def _check_description(self, server: Server, sent: Clip, multivariant: str) -> None:
        """The multivariant playlist names the codecs, the size and the rate of what was sent."""
        string = STRINGS.get(sent.name)
        if string is not None:
            self.assertIn(string, multivariant)
        colours = "PQ" if sent.name in ("hevc-in-band", "av1-hdr") else "SDR"
        self.assertIn(f"RESOLUTION={sent.size},FRAME-RATE=30.000,VIDEO-RANGE={colours}", multivariant)

    def _check_tools(self, url: str, movie: bytes, folder: Path) -> None:
        (folder / "movie.mp4").write_bytes(movie)
        for arguments in (("check", url), ("inspect", str(folder / "movie.mp4"))):
            command = [sys.executable, "-m", "rapidrtmp", *arguments]
            done = subprocess.run(command, env=server_environment(), capture_output=True, timeout=DEADLINE_S)
            self.assertEqual((0, b""), (done.returncode, done.stderr), (arguments, done.stdout.decode()))


class BrowserTests(BrowserTest):
    """The player page with codecs other than H.264 and AAC, in Chromium."""

    def _check_plays(self, name: str) -> None:
        paths = find_browser()
        server = self.start_server()
        check_library(server)
        publisher = self.publish(FFMPEG, clip(name, seconds=60).path, server.issue_token(name).publish_url)
        browser = self.open_page(paths, f"{server.root}/live/{name}")
        first = eventually("the page to play", lambda: self.figures_of_play(browser))
        last = eventually("it to play on", lambda: self.figures_of_play(browser, first["currentTime"] + 4))
        self.assertEqual((640, 360), (last["width"], last["height"]))
        self.assertGreater(last["audioBytes"], first["audioBytes"])
        self.assertGreater(last["videoBytes"], first["videoBytes"])
        self.assertEqual([], self.complaints(browser))
        publisher.kill()

    def _check_shows(self, name: str, sound: str = "") -> None:
        """Hold the page to playing pictures of a kind; their number is counted, for the bytes of some are not."""
        paths = find_browser()
        server = self.start_server()
        check_library(server)
        sent = picture_clip(name, seconds=30, sound=sound)
        publisher = self.publish(FFMPEG, sent.path, server.issue_token(name).publish_url)
        browser = self.open_page(paths, f"{server.root}/live/{name}")
        first = eventually("the page to play", lambda: self.figures_of_play(browser))
        last = eventually("it to play on", lambda: self.figures_of_play(browser, first["currentTime"] + 4))
        self.assertEqual((320, 180), (last["width"], last["height"]))
        self.assertGreater(last["decoded"], first["decoded"] + 60)
        self.assertGreater(last["audioBytes"], first["audioBytes"])
        self.assertEqual([], self.complaints(browser))
        publisher.kill()

    def test_av1_is_shown_with_aac(self) -> None:
        """AV1 is shown, with AAC."""
        self._check_shows("av1-svt")

    def test_vp9_is_shown_with_flac(self) -> None:
        """VP9 is shown, with FLAC."""
        self._check_shows("vp9", "flac")

    def _check_refuses(self, name: str, words: str) -> None:
        """Hold the page to saying what the browser lacks, and to trying again later."""
        paths = find_browser()
        server = self.start_server()
        check_library(server)
        publisher = self.publish(FFMPEG, clip(name, seconds=60).path, server.issue_token(name).publish_url)
        eventually("the stream", lambda: server.get(f"/live/{name}/master.m3u8").status == 200)
        browser = self.open_page(paths, f"{server.root}/live/{name}")
        state = browser.find_element("id", "state")
        eventually("the page to refuse", lambda: state.get_attribute("data-kind") == "failed")
        self.assertEqual(words, state.text)
        publisher.kill()

    def test_opus_is_heard_beside_picture(self) -> None:
        """Opus is heard beside the picture."""
        self._check_plays("opus")

    def test_flac_is_heard_beside_picture(self) -> None:
        """FLAC is heard beside the picture."""
        self._check_plays("flac")

    def test_ac3_is_named_as_missing(self) -> None:
        """What the browser has no decoder for is named."""
        self._check_refuses("ac3", "This browser cannot decode AC-3")

    def test_mp3_is_named_as_missing(self) -> None:
        """MP3 within MP4 as well, though by itself it would be played."""
        self._check_refuses("mp3", "This browser cannot decode MP3")

    def test_hevc_is_named_as_missing(self) -> None:
        """Where the browser cannot decode a codec, the page says so, and does not try over and over to recover."""
        paths = find_browser()
        server = self.start_server(RECORDED)
        check_library(server)
        name = "hevc"
        publisher = self.publish(FFMPEG, picture_clip(name, seconds=30).path, server.issue_token(name).publish_url)
        browser = self.open_page(paths, f"{server.root}/live/{name}")
        words = "This browser cannot decode HEVC"
        eventually("the page to say so", lambda: browser.find_element("id", "state").text == words)
        publisher.kill()
        recording = eventually("a recording", lambda: server.get("/api/v1/recordings").json()["recordings"])[0]
        browser.get(f"{server.root}/recordings#{recording['app']}/{recording['streamKey']}/{recording['start']}")
        eventually("the library to say so", lambda: browser.find_element("id", "state").text == words)
