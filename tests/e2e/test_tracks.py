"""Several tracks of one publish, as FFmpeg sends them over Enhanced RTMP, from the encoder to what a viewer chooses."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path

from rapidrtmp.m3u8.read_multivariant import parse_multivariant_playlist
from tests.e2e.browser import FIGURES, BrowserTest, check_library, find_browser
from tests.e2e.encoders import CLIP_S
from tests.e2e.ffmpeg import FFMPEG, RUN_S, Packet, decode, read_packets
from tests.e2e.harness import EndToEndTest, Server, eventually, new_folder
from tests.e2e.playlists import MediaPlaylist
from tests.e2e.test_encoders import SETTINGS, digests, fetch_all, track


@functools.cache
def two_languages(seconds: int, *, has_picture: bool = True) -> Path:
    """A clip of a picture, or none, and two tones, each an AAC track."""
    path = new_folder("clip") / "two.flv"
    tones = [f"sine=frequency={pitch}:beep_factor=2:sample_rate=48000" for pitch in (440, 660)]
    inputs = ["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30"]
    inputs += [each for tone in tones for each in ("-f", "lavfi", "-i", tone)]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "30", "-c:a", "aac", "-ac", "2"]
    maps = [*(["-map", "0"] if has_picture else []), "-map", "1", "-map", "2"]
    arguments = [*inputs, *maps, *codecs, "-t", str(seconds), "-f", "flv", str(path)]
    subprocess.run(
        [FFMPEG, "-nostdin", "-v", "error", "-y", *arguments], stdin=subprocess.DEVNULL, check=True, timeout=RUN_S
    )
    return path


@functools.cache
def three_sizes(seconds: int) -> Path:
    """A clip of one picture in three sizes, whose keyframes coincide, and a tone."""
    path = new_folder("clip") / "three.flv"
    graph = "[0:v]split=3[a][b][c];[b]scale=640:360[d];[c]scale=320:180[e]"
    inputs = ["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30", "-f", "lavfi", "-i", "sine=sample_rate=48000"]
    maps = ["-filter_complex", graph, "-map", "[a]", "-map", "[d]", "-map", "[e]", "-map", "1"]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "30", "-keyint_min", "30"]
    codecs += ["-sc_threshold", "0", "-c:a", "aac", "-t", str(seconds), "-f", "flv"]
    subprocess.run(
        [FFMPEG, "-nostdin", "-v", "error", "-y", *inputs, *maps, *codecs, str(path)],
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=RUN_S,
    )
    return path


def audio_packets(clip: Path, number: int) -> list[Packet]:
    """The packets of one audio track of a clip."""
    alone = new_folder("alone") / "audio.flv"
    arguments = ["-i", str(clip), "-map", f"0:a:{number}", "-c", "copy", str(alone)]
    subprocess.run([FFMPEG, "-nostdin", "-v", "error", *arguments], stdin=subprocess.DEVNULL, check=True, timeout=RUN_S)
    return list(track(read_packets(alone), "audio"))


def master_of(server: Server, name: str) -> str:
    """The multivariant playlist of a stream; empty as long as there is none."""
    answer = server.get(f"/live/{name}/master.m3u8")
    return answer.text if answer.status == 200 else ""


class AudioTests(EndToEndTest):
    def test_renditions_of_each_audio_track(self) -> None:
        """Each audio track has a playlist of its own, in step with the others, and comes out as it was sent."""
        clip = two_languages(CLIP_S)
        server = self.start_server(SETTINGS.format(grace="1s"))
        publisher = self.publish(FFMPEG, clip, server.issue_token("show").publish_url)
        master = parse_multivariant_playlist(eventually("the stream", lambda: master_of(server, "show")))
        self.assertEqual(["video-0/index.m3u8"], [variant.uri for variant in master.variants])
        self.assertEqual(["audio-0/index.m3u8", "audio-1/index.m3u8"], [each.uri for each in master.renditions])
        self.assertEqual(0, publisher.wait(), publisher.said)
        muxed, whole = fetch_all(server, "show", new_folder("muxed"))
        self.assertEqual(digests(audio_packets(clip, 0)), digests(track(read_packets(whole), "audio")))
        shape = [(each.sequence, each.duration, each.date) for each in muxed.complete]
        for number in (0, 1):
            playlist, media = fetch_all(server, f"show/audio-{number}", new_folder(f"audio-{number}"))
            self.assertEqual("", decode(media))
            self.assertEqual(digests(audio_packets(clip, number)), digests(track(read_packets(media), "audio")))
            self.assertEqual(shape, [(each.sequence, each.duration, each.date) for each in playlist.complete])
        playlist, media = fetch_all(server, "show/video-0", new_folder("video"))
        self.assertEqual(["video"], list(read_packets(media).tracks))
        self.assertEqual("", decode(media))
        self.assertEqual(shape, [(each.sequence, each.duration, each.date) for each in playlist.complete])

    def test_audio_tracks_without_video(self) -> None:
        """Of a publish of audio alone each track has a playlist of its own, and comes out as it was sent."""
        clip = two_languages(CLIP_S, has_picture=False)
        server = self.start_server(SETTINGS.format(grace="1s"))
        publisher = self.publish(FFMPEG, clip, server.issue_token("show").publish_url)
        master = parse_multivariant_playlist(eventually("the stream", lambda: master_of(server, "show")))
        self.assertEqual(["audio-0/index.m3u8"], [variant.uri for variant in master.variants])
        self.assertEqual(["audio-0/index.m3u8", "audio-1/index.m3u8"], [each.uri for each in master.renditions])
        self.assertEqual(0, publisher.wait(), publisher.said)
        for number in (0, 1):
            _, media = fetch_all(server, f"show/audio-{number}", new_folder(f"audio-{number}"))
            self.assertEqual("", decode(media))
            self.assertEqual(digests(audio_packets(clip, number)), digests(track(read_packets(media), "audio")))


class SizesTests(EndToEndTest):
    def test_rungs_of_one_picture(self) -> None:
        """Video tracks of one picture become rungs, in step: each segment of each decodes alone, none lacks sound."""
        server = self.start_server(SETTINGS.format(grace="1s"))
        publisher = self.publish(FFMPEG, three_sizes(CLIP_S + 3), server.issue_token("show").publish_url)
        master = parse_multivariant_playlist(eventually("the stream", lambda: master_of(server, "show")))
        sizes = {"index.m3u8": "1280x720", "video-1/index.m3u8": "640x360", "video-2/index.m3u8": "320x180"}
        self.assertEqual(sizes, {variant.uri: variant.resolution for variant in master.variants})
        self.assertEqual(0, publisher.wait(), publisher.said)
        shapes, sounds = [], []
        for name in ("show", "show/video-1", "show/video-2"):
            playlist, media = fetch_all(server, name, new_folder("size"))
            self.assertEqual("", decode(media), name)
            packets = read_packets(media)
            self.assertEqual(30 * (CLIP_S + 3), len(track(packets, "video")), name)
            sounds.append(digests(track(packets, "audio")))
            shapes.append([(each.sequence, each.duration, each.date, each.gap) for each in playlist.complete])
            self._check_alone(server, name, playlist)
        self.assertEqual([shapes[0]] * 3, shapes)
        self.assertEqual([sounds[0]] * 3, sounds)

    def _check_alone(self, server: Server, name: str, playlist: MediaPlaylist) -> None:
        """Hold every segment to decoding without any other."""
        folder = new_folder("alone")
        for segment in playlist.complete[:-1]:
            path = folder / segment.uri
            path.write_bytes(b"".join(server.get(f"/live/{name}/{uri}").body for uri in (segment.map_uri, segment.uri)))
            self.assertEqual("", decode(path), f"{name}/{segment.uri}")


class BrowserTests(BrowserTest):
    def test_rungs_play_in_hls_js(self) -> None:
        """hls.js finds all sizes of a picture, and plays from one to another without a stop."""
        paths = find_browser()
        server = self.start_server()
        check_library(server)
        publisher = self.publish(FFMPEG, three_sizes(60), server.issue_token("show").publish_url)
        eventually("the stream", lambda: master_of(server, "show"))
        browser = self.open_page(paths, f"{server.root}/live/show")
        first = eventually("the page to play", lambda: self.figures_of_play(browser))
        self.assertEqual(3, browser.execute_script("return window.rapidrtmp.sizes"))
        for height in (180, 720, 360):
            browser.execute_script("window.rapidrtmp.size = arguments[0]", height)
            eventually(f"{height} lines", lambda height=height: browser.execute_script(FIGURES)["height"] == height)
        last = eventually("it to play on", lambda: self.figures_of_play(browser, first["currentTime"] + 4))
        self.assertEqual(0, last["recoveries"])
        self.assertEqual([], self.complaints(browser))
        publisher.kill()

    def test_choice_of_audio_in_hls_js(self) -> None:
        """hls.js plays one of several audio tracks, and the viewer chooses another while it plays."""
        self._choose_audio(has_picture=True)

    def test_choice_of_audio_without_video_in_hls_js(self) -> None:
        """So it does where there is no video."""
        self._choose_audio(has_picture=False)

    def _choose_audio(self, *, has_picture: bool) -> None:
        clip = two_languages(60, has_picture=has_picture)
        paths = find_browser()
        server = self.start_server()
        check_library(server)
        publisher = self.publish(FFMPEG, clip, server.issue_token("show").publish_url)
        browser = self.open_page(paths, f"{server.root}/live/show")
        first = eventually("the page to play", lambda: self.figures_of_play(browser, has_picture=has_picture))
        choice = browser.find_element("id", "audio")
        self.assertTrue(choice.is_displayed())
        options = choice.find_elements("tag name", "option")
        self.assertEqual(["Audio 1", "Audio 2"], [each.text for each in options])
        options[1].click()
        eventually("the other track", lambda: browser.execute_script("return window.rapidrtmp.audioTrack") == 1)
        since = first["currentTime"] + 6
        last = eventually("it to play on", lambda: self.figures_of_play(browser, since, has_picture=has_picture))
        self.assertGreater(last["audioBytes"], first["audioBytes"])
        self.assertEqual(0, last["recoveries"])
        self.assertEqual([], self.complaints(browser))
        publisher.kill()

    def test_obs_page_makes_a_configuration(self) -> None:
        """The page for OBS makes a configuration of a publish URL: key and token are where OBS takes them from."""
        paths = find_browser()
        server = self.start_server()
        browser = self.open_page(paths, f"{server.root}/obs")
        url, text = browser.find_element("id", "url"), browser.find_element("id", "json")
        url.send_keys("rtmp://media.example.org:1936/live/show?token=s3cr-et")
        made = json.loads(text.get_attribute("value"))
        self.assertEqual(
            [
                {
                    "protocol": "RTMP",
                    "url_template": "rtmp://media.example.org:1936/live/{stream_key}?token=s3cr-et",
                    "authentication": "show",
                }
            ],
            made["ingest_endpoints"],
        )
        self.assertEqual("", made["meta"]["config_id"])
        sizes = [(each["width"], each["height"]) for each in made["encoder_configurations"]]
        self.assertEqual([(1920, 1080), (1280, 720), (854, 480), (640, 360)], sizes)
        self.assertEqual({2}, {each["settings"]["keyint_sec"] for each in made["encoder_configurations"]})
        rates = [each["settings"]["bitrate"] for each in made["encoder_configurations"]]
        self.assertEqual(sorted(rates, reverse=True), rates)
        self.assertEqual({"live"}, set(made["audio_configurations"]))
        browser.find_element("id", "second").click()
        self.assertEqual(
            [2], [each["track_id"] for each in json.loads(text.get_attribute("value"))["audio_configurations"]["vod"]]
        )
        url.clear()
        url.send_keys("rtmp://media.example.org")
        eventually("the problem", browser.find_element("id", "problem").is_displayed)
        self.assertEqual("", text.get_attribute("value"))
        self.assertEqual([], self.complaints(browser))
