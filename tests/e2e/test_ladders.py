"""Ladders by real FFmpegs: from an encoder to what a viewer has of each rung, and what becomes of children."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

from rapidrtmp.cmaf.reader import SampleInfo, read_fragments, read_init_segment
from rapidrtmp.m3u8.read_multivariant import parse_multivariant_playlist
from tests.e2e.browser import BrowserTest, check_library, find_browser
from tests.e2e.encoders import Process, published_by_ffmpeg
from tests.e2e.ffmpeg import FFMPEG, RUN_S, decode, every_ffmpeg, read_packets
from tests.e2e.harness import EndToEndTest, Server, eventually, new_folder
from tests.e2e.players import PLAYERS, fetch_script
from tests.e2e.playlists import MediaPlaylist, Segment, parse_media_playlist
from tests.e2e.test_codecs import clip, picture_clip
from tests.e2e.test_encoders import digests, fetch_all, track
from tests.e2e.test_tracks import master_of

SETTINGS = """
[live]
grace = "1s"
[apps.live]
sinks = ["hls:segment=1s:window=60"]
transcoder = "ffmpeg:90p=120k:54p=60k:preset=ultrafast:program={program}:bframes={b_frames}"
"""
RUNGS = ("90p", "54p")
#: Where the keyframes of the clip are, in seconds: as scene detection and impatient viewers make them.
KEYFRAMES = "0,1.5,2.2,4.2,4.9,6"
#: What a viewer would notice: a stall that is longer than a part, a hole in the audio.
STALL_S, MOST_HOLE_S = 0.4, 0.1


@functools.cache
def irregular(seconds: int, *, b_frames: int = 2, keyframes: str = KEYFRAMES, rate: str = "30000/1001") -> Path:
    """A small clip with irregular keyframes at first, and a tone."""
    path = new_folder("clip") / "irregular.flv"
    inputs = ["-f", "lavfi", "-i", f"testsrc2=size=320x180:rate={rate}", "-f", "lavfi", "-i", "sine=sample_rate=48000"]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-bf", str(b_frames), "-g", "60"]
    codecs += ["-force_key_frames", keyframes, "-sc_threshold", "0", "-b:v", "400k"]
    codecs += ["-c:a", "aac", "-ac", "2", "-t", str(seconds)]
    subprocess.run(
        [FFMPEG, "-nostdin", "-v", "error", "-y", *inputs, *codecs, "-f", "flv", str(path)],
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=RUN_S,
    )
    return path


def settings_of(program: str = FFMPEG, b_frames: int = 0) -> str:
    """The settings of a server."""
    return SETTINGS.format(program=program, b_frames=b_frames)


def children(server: Server) -> list[int]:
    """The processes that a server has started, by what the system says."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == server.pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def is_alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def renditions(server: Server, key: str) -> dict[str, dict[str, object]]:
    """What the API says of each rung."""
    found: list[dict[str, object]] = server.get(f"/api/v1/streams/{key}").json().get("renditions", [])
    return {str(each["name"]): each for each in found}


class InStepTests(EndToEndTest):
    def test_rungs_by_every_ffmpeg(self) -> None:
        """
        Every FFmpeg brings all pictures at their times, keyframes where the source has some, and the same audio; also
        with B-frames in rungs of a source without them.
        """
        cells = [(each, b_frames) for each in every_ffmpeg() for b_frames in (0, 2)]
        servers = [self.start_server(settings_of(each, b_frames)) for each, b_frames in cells]
        publishers = [
            self.publish(FFMPEG, irregular(8, b_frames=2 - b_frames), server.issue_token("show").publish_url)
            for server, (_, b_frames) in zip(servers, cells, strict=True)
        ]
        for server in servers:
            master = parse_multivariant_playlist(eventually("the ladder", lambda: master_of(server, "show")))  # noqa: B023
            self.assertEqual({"index.m3u8", "90p/index.m3u8", "54p/index.m3u8"}, {each.uri for each in master.variants})
        for publisher in publishers:
            self.assertEqual(0, publisher.wait(), publisher.said)
        for server in servers:
            self._check(server)

    def _check(self, server: Server) -> None:
        source, whole = fetch_all(server, "show", new_folder("source"))
        for name in RUNGS:
            rung, received = fetch_all(server, f"show/{name}", new_folder(name))
            self.assertEqual(self._shape(source), self._shape(rung))
            self.assertEqual(self._times(whole), self._times(received))
            self.assertEqual("", decode(received))
            sent, got = read_packets(whole), read_packets(received)
            self.assertEqual(digests(track(sent, "audio")), digests(track(got, "audio")))
            self._check_starts(server, source, rung, name)
        self.assertEqual([], children(server))

    def _shape(self, playlist: MediaPlaylist) -> list[object]:
        return [(each.sequence, each.duration, each.date) for each in playlist.complete]

    def _times(self, path: Path) -> tuple[list[int], list[int]]:
        """When pictures are shown, and which of them are keyframes."""
        data = path.read_bytes()
        init = read_init_segment(data[: data.index(b"moof") - 4])
        samples = [
            each
            for fragment in read_fragments(data, init)
            for run in fragment.tracks
            if run.track_id == 1
            for each in run.samples
        ]
        return sorted(each.pts for each in samples), [each.pts for each in samples if each.keyframe]

    def _check_starts(self, server: Server, source: MediaPlaylist, rung: MediaPlaylist, name: str) -> None:
        """
        Each segment has the audio of the source's, and begins with a keyframe that is shown with the source's, wherever
        that begins with one.
        """
        begun = 0
        for ours, theirs in zip(rung.complete, source.complete, strict=True):
            first, audio = self._open(server, "", theirs)
            other, heard = self._open(server, f"{name}/", ours)
            self.assertEqual(audio, heard)
            if first.keyframe:
                begun += 1
                self.assertEqual((first.pts, True), (other.pts, other.keyframe))
        self.assertGreater(begun, 3)

    def _open(self, server: Server, folder: str, segment: Segment) -> tuple[SampleInfo, list[bytes]]:
        """The first picture of a segment, and its audio."""
        init = read_init_segment(server.get(f"/live/show/{folder}{segment.map_uri}").body)
        fragments = read_fragments(server.get(f"/live/show/{folder}{segment.uri}").body, init)
        runs = [run for each in fragments for run in each.tracks]
        video = next(run for run in runs if run.track_id == 1)
        return video.samples[0], [each.payload for run in runs if run.track_id == 2 for each in run.samples]


class OtherCodecsTests(EndToEndTest):
    """Sources that not all players can play."""

    def test_rung_of_the_same_size(self) -> None:
        """Of HEVC, AV1, VP9, ten bits and HDR there is a rung of the source's size, picture for picture, for all."""
        settings = SETTINGS.replace("90p=120k", "source=200k:hdr=tonemap").format(program=FFMPEG, b_frames=0)
        server = self.start_server(settings)
        clips = [picture_clip(name) for name in ("hevc-open-gops", "av1-svt", "vp9", "avc-10-bit", "hevc-in-band")]
        for each in clips:
            self.assertTrue(each.path.exists())  # encoded now, not meanwhile
        for each in clips:
            url = server.issue_token(each.name).publish_url
            process = Process(published_by_ffmpeg(FFMPEG, each), url, new_folder(each.name))
            self.addCleanup(process.kill)
        for each in clips:
            source, whole = fetch_all(server, each.name, new_folder(each.name))
            rung, received = fetch_all(server, f"{each.name}/source", new_folder(each.name))
            self.assertEqual([], [segment.uri for segment in rung.complete if segment.gap], each.name)
            self.assertEqual(len(source.complete), len(rung.complete), each.name)
            sent, got = read_packets(whole), read_packets(received)
            lost = len(track(sent, "video")) - len(track(got, "video"))
            self.assertLessEqual(lost, 4 if each.name == "hevc-open-gops" else 0, each.name)  # before it is known
            self.assertEqual(digests(track(sent, "audio")), digests(track(got, "audio")), each.name)
            self.assertEqual("", decode(received), each.name)
            said = server.get(f"/live/{each.name}/master.m3u8").text.splitlines()
            (line,) = [said[at - 1] for at, uri in enumerate(said) if uri == "source/index.m3u8"]
            self.assertRegex(line, 'CODECS="avc1.(42|4D|64)', each.name)
            self.assertIn("VIDEO-RANGE=SDR", line, each.name)


class AudioTests(EndToEndTest):
    def test_audio_that_few_play_becomes_aac(self) -> None:
        """With ``audio=aac`` rungs of Opus, FLAC, AC-3 and MP3 have AAC, without a hole and at the source's times."""
        settings = settings_of().replace(":program", ":audio=aac:program")
        server = self.start_server(settings)
        clips = [clip(name) for name in ("opus", "flac", "ac3", "mp3")]
        for each in clips:
            self.assertTrue(each.path.exists())
        for each in clips:
            url = server.issue_token(each.name).publish_url
            process = Process(published_by_ffmpeg(FFMPEG, each), url, new_folder(each.name))
            self.addCleanup(process.kill)
        for each in clips:
            source, whole = fetch_all(server, each.name, new_folder(each.name))
            rung, received = fetch_all(server, f"{each.name}/90p", new_folder(each.name))
            self.assertEqual([], [segment.uri for segment in rung.complete if segment.gap], each.name)
            self.assertEqual(len(source.complete), len(rung.complete), each.name)
            self.assertEqual("", decode(received), each.name)
            sent, got = track(read_packets(whole), "audio"), track(read_packets(received), "audio")
            steps = {after.dts - before.dts for before, after in itertools.pairwise(got)}
            self.assertEqual({Fraction(1024, 48_000)}, steps, each.name)
            self.assertLess(abs(got[0].dts - sent[0].dts), 0.05, each.name)
            self.assertLess(abs(got[-1].dts - sent[-1].dts), 0.1, each.name)
            said = server.get(f"/live/{each.name}/master.m3u8").text.splitlines()
            (line,) = [said[at - 1] for at, uri in enumerate(said) if uri == "90p/index.m3u8"]
            self.assertIn(",mp4a.40.2", line, each.name)
        eventually("no child", lambda: children(server) == [])


class ChildTests(EndToEndTest):
    def test_killed_child_is_replaced(self) -> None:
        """A child that is killed, or stopped, costs its rungs gaps and the source nothing; it ends with the server."""
        server = self.start_server(settings_of())
        publisher = self.publish(FFMPEG, irregular(40), server.issue_token("show").publish_url)
        eventually("the ladder", lambda: "90p" in master_of(server, "show"))
        (child,) = children(server)
        os.kill(child, signal.SIGKILL)
        eventually("a restart", lambda: renditions(server, "show")["90p"]["restarts"] == 1)
        self.assertFalse(is_alive(child))
        frames = renditions(server, "show")["90p"]["frames"]
        eventually("its return", lambda: int(str(renditions(server, "show")["90p"]["frames"])) > int(str(frames)) + 60)
        (child,) = children(server)
        os.kill(child, signal.SIGSTOP)
        eventually("it to be replaced", lambda: renditions(server, "show")["90p"]["restarts"] == 2)
        self.assertFalse(is_alive(child))
        source = server.get("/live/show/index.m3u8").text
        self.assertNotIn("EXT-X-GAP", source)
        rung = server.get("/live/show/90p/index.m3u8").text
        self.assertIn("EXT-X-GAP", rung)
        self.assertEqual(1, rung.count("EXT-X-MAP"))
        (child,) = eventually("the next one", lambda: children(server))
        os.kill(child, signal.SIGSTOP)
        server.kill()
        killed = time.monotonic()
        eventually("it to be gone with the server", lambda: not is_alive(child), 5.0)
        self.assertLess(time.monotonic() - killed, 2.0)
        publisher.kill()


class RestartTests(EndToEndTest):
    def test_rungs_continue_after_a_restart(self) -> None:
        """
        A player of a rung waits while the server is started again, and finds the numbers, dates and discontinuities of
        the source, beyond those that it has seen.
        """
        server = self.start_server(settings_of().replace('grace = "1s"', 'grace = "20s"'))
        token = server.issue_token("show")
        publisher = self.publish(FFMPEG, irregular(40), token.publish_url)
        eventually("the ladder", lambda: "90p" in master_of(server, "show"))
        eventually("some segments", lambda: self._playlist(server, "90p/").complete[3:])
        seen = self._playlist(server, "90p/")
        server.kill()
        publisher.wait()
        again = self.start_again(server)
        with ThreadPoolExecutor() as threads:
            asked = threads.submit(lambda: again.get("/live/show/90p/index.m3u8"))
            publisher = self.publish(FFMPEG, irregular(41), again.issue_token("show").publish_url)
            answer = asked.result()
        self.assertEqual(200, answer.status)
        eventually("some more", lambda: self._playlist(again, "90p/").complete[3:])
        rung, source = self._playlist(again, "90p/"), self._playlist(again, "")
        self.assertGreater(rung.complete[0].sequence, seen.complete[-1].sequence)
        of_source = {each.sequence: (each.duration, each.date) for each in source.complete}
        for each in rung.complete:
            if each.sequence in of_source:
                self.assertEqual(of_source[each.sequence], (each.duration, each.date))
        text = again.get("/live/show/90p/index.m3u8").text
        self.assertIn("#EXT-X-DISCONTINUITY\n", text)
        self.assertIn("90p/index.m3u8", master_of(again, "show"))
        publisher.kill()

    def _playlist(self, server: Server, folder: str) -> MediaPlaylist:
        return parse_media_playlist(server.get(f"/live/show/{folder}index.m3u8").text)


class WatchedTests(EndToEndTest):
    def test_begins_with_the_first_viewer(self) -> None:
        """With ``when=watched`` no FFmpeg runs until a player asks for the multivariant playlist."""
        settings = SETTINGS.replace("preset", "when=watched:preset").format(program=FFMPEG, b_frames=0)
        server = self.start_server(settings)
        publisher = self.publish(FFMPEG, irregular(40), server.issue_token("show").publish_url)
        eventually("some segments", lambda: server.get("/live/show/index.m3u8").text.count("EXTINF") > 3)
        self.assertEqual([], children(server))
        master = parse_multivariant_playlist(server.get("/live/show/master.m3u8").text)
        self.assertEqual({"index.m3u8", "90p/index.m3u8", "54p/index.m3u8"}, {each.uri for each in master.variants})
        self.assertEqual(1, len(children(server)))
        publisher.kill()


class PlayerTests(BrowserTest):
    """Players that change between the renditions of a low-latency ladder all the time."""

    def _change(self, begin: str, switches: int, clip: Path, *scripts: str) -> None:
        """
        Have a player change between all renditions, and hold it to what viewers would notice.

        :param begin: begins to play, and gives ``ladder`` what changes to a rendition.
        :param scripts: run before.
        """
        paths = find_browser()
        server = self.start_server(settings_of())
        check_library(server)
        publisher = self.publish(FFMPEG, clip, server.issue_token("show").publish_url)
        eventually("the ladder", lambda: "90p" in master_of(server, "show"))
        browser = self.open_page(paths, f"{server.root}/live/show")
        for script in (*scripts, LADDER, begin):
            browser.execute_script(script)
        changes = "return window.ladder.changes"
        eventually("all changes", lambda: browser.execute_script(changes) >= switches, 20 + 3 * switches)
        said = browser.execute_script(
            "const { video, change, ...said } = window.ladder; return { ...said, heights: [...said.heights] };"
        )
        publisher.kill()
        print(f"{switches} changes: the longest stall {said['longest']:.3f} s, the largest hole {said['hole']:.3f} s")
        self.assertEqual([54, 90, 180], sorted(said["heights"]))
        self.assertEqual([], said["errors"])
        self.assertLessEqual(said["hole"], MOST_HOLE_S)
        self.assertLessEqual(said["longest"], STALL_S)

    def test_hlsjs_changes_between_rungs(self) -> None:
        """hls.js changes twenty times without a stall that is longer than a part, or a hole in the audio."""
        self._change(HLSJS, 20, irregular(90, b_frames=0))

    def test_shaka_changes_between_rungs(self) -> None:
        """Shaka changes a dozen times, likewise; that a part is hinted at and does not come is an error to it."""
        self._change(SHAKA, 12, irregular(60, b_frames=0, keyframes="0"), fetch_script(PLAYERS["shaka"]).read_text())


class RecordedTests(BrowserTest):
    def test_recorded_ladder_plays(self) -> None:
        """What was recorded of a ladder is in step and decodes; the page of recordings changes between renditions."""
        paths = find_browser()
        sinks = '"hls:segment=1s", "record:segment=2s:renditions=all"'
        server = self.start_server(settings_of().replace('"hls:segment=1s:window=60"', sinks))
        check_library(server)
        self.publish(FFMPEG, irregular(12), server.issue_token("show").publish_url).wait()
        recording = eventually("the recording", lambda: finished(server))
        self.assertEqual(["54p", "90p"], sorted(recording["renditions"]))
        folder = server.root + recording["masterUrl"].removesuffix("/master.m3u8")
        folders = [folder, f"{folder}/90p", f"{folder}/54p"]
        pictures = [len(track(read_packets(f"{each}/recording.mp4"), "video")) for each in folders]
        self.assertEqual([pictures[0]] * 2, pictures[1:])
        self.assertEqual([""] * 3, [decode(f"{each}/index.m3u8") for each in folders])
        browser = self.open_page(paths, f"{server.root}/recordings")
        browser.find_element("css selector", "a.play").click()
        levels = "return window.rapidrtmp.hls ? window.rapidrtmp.hls.levels.length : 0"
        eventually("its renditions", lambda: browser.execute_script(levels) == 3)
        for height in (54, 180, 90):
            browser.execute_script(CHOOSE, height)
            shown = "return document.querySelector('video').videoHeight"
            eventually(f"{height} lines", lambda: browser.execute_script(shown) == height)  # noqa: B023


def finished(server: Server) -> Any:
    """The recording that is over, as the API describes it; ``None`` before there is one."""
    found = server.get("/api/v1/recordings").json()["recordings"]
    return found[0] if found and found[0]["state"] == "finished" else None


#: Has the page of recordings play a size from its beginning.
CHOOSE = """
const { hls } = window.rapidrtmp, video = document.querySelector("video");
video.currentTime = 0;
hls.currentLevel = hls.levels.findIndex((each) => each.height === arguments[0]);
"""
#: A second player on the page: how long it stands still, and how large holes in its buffer are, at most. It changes to
#: the next rendition whenever it has played for so long.
LADDER = """
const video = document.createElement("video");
video.muted = true;
document.body.append(video);
const ladder = (window.ladder = { errors: [], heights: new Set(), longest: 0, hole: 0, changes: 0, change: null });
ladder.video = video;
let moved = performance.now(), at = 0, changed = 2;
setInterval(() => {
  const now = performance.now(), { buffered, currentTime } = video;
  if (currentTime !== at) { at = currentTime; moved = now; }
  if (video.videoHeight) ladder.heights.add(video.videoHeight);
  if (ladder.changes) ladder.longest = Math.max(ladder.longest, (now - moved) / 1000);
  for (let i = 1; i < buffered.length; i++) {
    ladder.hole = Math.max(ladder.hole, buffered.start(i) - buffered.end(i - 1));
  }
  if (ladder.change && video.played.length && at - video.played.start(0) > changed) {
    changed = at - video.played.start(0) + 1.5;
    ladder.change(ladder.changes++ % 3);
  }
}, 50);
"""
HLSJS = """
const hls = new Hls({ lowLatencyMode: true, liveSyncDuration: 3 });
hls.on(Hls.Events.MANIFEST_PARSED, () => {
  ladder.video.play();
  ladder.change = (level) => { hls.nextLevel = level; };
});
hls.on(Hls.Events.ERROR, (_, data) => { if (data.fatal) ladder.errors.push(data.details); });
hls.loadSource(location.pathname + "/master.m3u8");
hls.attachMedia(ladder.video);
"""
SHAKA = """
const player = new shaka.Player();
player.addEventListener("error", ({ detail }) => {
  ladder.errors.push(`shaka ${detail.code}: ${detail.data.slice(0, 2)}`);
});
player.attach(ladder.video).then(() => {
  const streaming = { lowLatencyMode: true }, hls = { sequenceMode: true };
  player.configure({ streaming, abr: { enabled: false }, manifest: { hls } });
  return player.load(location.pathname + "/master.m3u8");
}).then(() => {
  ladder.video.play();
  ladder.change = (level) => {
    const tracks = player.getVariantTracks().sort((one, other) => one.height - other.height);
    player.selectVariantTrack(tracks[level % tracks.length]);
  };
}, (error) => ladder.errors.push(`shaka ${error.code}`));
"""
