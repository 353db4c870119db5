"""Ends that no one planned: a server that is killed and started again, an encoder that is killed, seen by viewers."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

from rapidrtmp.hls.names import is_media
from rapidrtmp.m3u8.model import MediaPlaylist
from rapidrtmp.m3u8.read import parse_media_playlist
from tests.e2e.browser import FIGURES, BrowserTest, check_library, find_browser
from tests.e2e.ffmpeg import CLIPS, FFMPEG, Clip, decode
from tests.e2e.harness import Answer, EndToEndTest, Server, eventually, new_folder
from tests.e2e.viewer import Viewer
from tests.e2e.watched import Watched

SHOW = Clip("show", seconds=60, frame_rate=Fraction(30), sample_rate=48_000, channels=2, size="640x360")
SETTINGS = """
[hls]
segment = "1s"
window = 20
[live]
grace = "20s"
"""
AWAY_S = 5.0
STOP_WITHIN_S = 10.0
PLAYED_ON_S = 5.0
#: More than a player holds that is some seconds behind.
BUFFERED_FRAMES = 10 * 30


class ResumingBrowserTest(BrowserTest):
    """A test with a page that has to continue by itself."""

    def open_playing(self, paths: tuple[str, str], url: str) -> Any:
        """A browser in which the page plays, and can tell whether it was loaded anew since."""
        browser = self.open_page(paths, url)
        eventually("the page to play", lambda: self.figures_of_play(browser, 2))
        browser.execute_script("window.notReloaded = true")
        return browser

    def check_plays_on(self, browser: Any) -> None:
        """
        It plays on for longer than it can have had in its buffer, in one piece, and the page was never loaded anew.
        """
        decoded = browser.execute_script(FIGURES)["decoded"]
        beginning = eventually("the page to play again", lambda: self._fresh(browser, decoded + BUFFERED_FRAMES))
        eventually("it to play on", lambda: self.figures_of_play(browser, beginning + PLAYED_ON_S))
        self.assertTrue(browser.execute_script("return window.notReloaded === true"))

    def _fresh(self, browser: Any, decoded: int) -> float | None:
        """Where it plays, once it has decoded so many frames."""
        figures = self.figures_of_play(browser)
        return None if figures is None or figures["decoded"] < decoded else float(figures["currentTime"])


class KilledServerTests(ResumingBrowserTest):
    """A server that is killed and started again on the same storage."""

    def test_publisher_returns_after_a_kill(self) -> None:
        """The stream continues where it was: with its promises, above its numbers, behind one discontinuity."""
        server = self.start_server(SETTINGS)
        watched = Watched("mine")
        token = server.issue_token("mine")
        self.publish(FFMPEG, SHOW.path, token.publish_url)
        eventually("four segments", lambda: watched.has(server, 4))
        server.kill()
        (server.store / "live" / "mine" / "segment_1.m4s").write_bytes(b"nothing names this")
        again = self.start_again(server)
        before = watched.look(again)
        assert before is not None, "it is there as soon as the server is"
        self.assertFalse(before.ended)
        publisher = self.publish(FFMPEG, SHOW.path, token.publish_url)
        after = eventually("three more", lambda: watched.has(again, 3, returned=True))
        self.assertEqual([], watched.broken)
        self.assertEqual(
            [before.next_sequence], [segment.sequence for segment in after.segments if segment.discontinuity]
        )
        self._check_decodes(again, after)
        publisher.kill()
        again.stop()
        names = {path.name for path in (server.store / "live" / "mine").iterdir()}
        self.assertNotIn("segment_1.m4s", names)

    def _check_decodes(self, server: Server, playlist: MediaPlaylist) -> None:
        """What is served of before and of after decodes silently, each with its init segment."""
        ranges: dict[str, list[str]] = {}
        for segment in playlist.segments:
            if not segment.gap:
                assert segment.init is not None
                ranges.setdefault(segment.init.uri, [segment.init.uri]).append(segment.uri)
        self.assertEqual(2, len(ranges))
        for names in ranges.values():
            path = new_folder("range") / "range.mp4"
            path.write_bytes(b"".join(server.get(f"/live/mine/{name}").body for name in names))
            self.assertEqual("", decode(path))

    def test_applications_apart_after_a_kill(self) -> None:
        """Streams of two applications continue, each with what is in the storage of its own."""
        server = self.start_server(f"{SETTINGS}[apps.radio]\nstorage = 'local:radio'\n")
        watched = {app: Watched("mine", app) for app in ("live", "radio")}
        tokens = {app: server.issue_token("mine", app) for app in watched}
        for token in tokens.values():
            self.publish(FFMPEG, SHOW.path, token.publish_url)
        for app, each in watched.items():
            eventually(f"three segments in {app}", lambda each=each: each.has(server, 3))
        server.kill()
        for app, folder in (("live", server.store), ("radio", server.folder / "radio")):
            self.assertEqual([app], [path.name for path in folder.iterdir() if path.name[0] not in ".\\"])
        again = self.start_again(server)
        before = {app: each.look(again) for app, each in watched.items()}
        for token in tokens.values():
            self.publish(FFMPEG, SHOW.path, token.publish_url)
        for app, each in watched.items():
            after = eventually(f"two more in {app}", lambda each=each: each.has(again, 2, returned=True))
            resumed = before[app]
            assert resumed is not None, "it is there as soon as the server is"
            self.assertEqual(
                [resumed.next_sequence], [segment.sequence for segment in after.segments if segment.discontinuity]
            )
            self.assertEqual([], each.broken)
        again.stop()

    def test_playlist_ends_without_a_publisher(self) -> None:
        """The playlist becomes final after the grace time, for viewers and on the disk."""
        server = self.start_server(SETTINGS.replace("20s", "2s"))
        watched = Watched("mine")
        publisher = self.publish(FFMPEG, SHOW.path, server.issue_token("mine").publish_url)
        eventually("two segments", lambda: watched.has(server, 2))
        server.kill()
        publisher.kill()
        again = self.start_again(server)

        def ended() -> bool:
            playlist = watched.look(again)
            return playlist is not None and playlist.ended

        eventually("the end", ended)
        self.assertEqual([], watched.broken)
        stored = again.store / "live" / "mine" / "index.m3u8"
        eventually("the end on the disk", lambda: "#EXT-X-ENDLIST" in stored.read_text())
        again.stop()

    def test_page_plays_after_a_kill(self) -> None:
        """The page continues playing by itself."""
        paths = find_browser()
        server = self.start_server(SETTINGS)
        check_library(server)
        token = server.issue_token("show")
        self.publish(FFMPEG, SHOW.path, token.publish_url)
        browser = self.open_playing(paths, f"{server.root}/live/show")
        server.kill()
        again = self.start_again(server)
        publisher = self.publish(FFMPEG, SHOW.path, token.publish_url)
        self.check_plays_on(browser)
        publisher.kill()
        again.stop()


class KilledEncoderTests(ResumingBrowserTest):
    """An encoder that is killed and started again."""

    def test_page_plays_after_encoder_kill(self) -> None:
        """Five seconds later, the page continues playing by itself."""
        paths = find_browser()
        server = self.start_server(SETTINGS)
        check_library(server)
        token = server.issue_token("show")
        first = self.publish(FFMPEG, SHOW.path, token.publish_url)
        browser = self.open_playing(paths, f"{server.root}/live/show")
        first.kill()
        killed_s = time.monotonic()
        eventually("some seconds to pass", lambda: time.monotonic() > killed_s + AWAY_S)
        second = self.publish(FFMPEG, SHOW.path, token.publish_url)
        self.check_plays_on(browser)
        second.kill()
        server.stop()


class PlannedRestartTests(ResumingBrowserTest):
    """A server that is stopped while streams are live, and started again a while later."""

    def test_publisher_returns_after_a_restart(self) -> None:
        """
        Nothing that viewers were shown is lost, the stream continues behind one discontinuity, and a request that was
        held when the server stopped was answered.
        """
        server = self.start_server(SETTINGS)
        watched = Watched("mine")
        token = server.issue_token("mine")
        publisher = self.publish(FFMPEG, SHOW.path, token.publish_url)
        begun = eventually("four segments", lambda: watched.has(server, 4))
        held: list[Answer] = []
        path = f"/live/mine/index.m3u8?_HLS_msn={begun.next_sequence + 1}"
        thread = threading.Thread(target=lambda: held.append(server.get(path)))
        thread.start()
        self.assertLess(server.stop(), STOP_WITHIN_S)
        thread.join()
        self.assertEqual(200, held[0].status)
        left = watched.see(held[0].text)
        self.assertFalse(left.ended)
        self.assertIn(
            "shutting down; connect again", eventually("it to end", lambda: publisher.has_ended and publisher.said)
        )
        again = self.start_again(server)
        before = watched.look(again)
        assert before is not None, "it is there as soon as the server is"
        self.assertFalse(before.ended)
        there = {segment.uri for segment in before.segments if not segment.gap}
        shown = {segment.uri for segment in left.segments if segment.sequence >= before.sequence}
        self.assertEqual(set(), shown - there)
        publisher = self.publish(FFMPEG, SHOW.path, token.publish_url)
        after = eventually("three more", lambda: watched.has(again, 3, returned=True))
        self.assertEqual([], watched.broken)
        self.assertEqual(
            [before.next_sequence], [segment.sequence for segment in after.segments if segment.discontinuity]
        )
        publisher.kill()
        again.stop()

    def test_memory_ends_with_the_server(self) -> None:
        """What is in memory only ends: the request that is held is notified, and the encoder."""
        server = self.start_server(SETTINGS, storage="memory:")
        watched = Watched("mine")
        self.publish(FFMPEG, SHOW.path, server.issue_token("mine").publish_url)
        begun = eventually("two segments", lambda: watched.has(server, 2))
        held: list[Answer] = []
        path = f"/live/mine/index.m3u8?_HLS_msn={begun.next_sequence + 1}"
        thread = threading.Thread(target=lambda: held.append(server.get(path)))
        thread.start()
        self.assertLess(server.stop(), STOP_WITHIN_S)
        thread.join()
        self.assertTrue(watched.see(held[0].text).ended)

    def test_page_plays_after_a_restart(self) -> None:
        """The page continues playing by itself when the server was away for five seconds."""
        paths = find_browser()
        server = self.start_server(SETTINGS)
        check_library(server)
        token = server.issue_token("show")
        self.publish(FFMPEG, SHOW.path, token.publish_url)
        browser = self.open_playing(paths, f"{server.root}/live/show")
        server.stop()
        stopped_s = time.monotonic()
        eventually("some seconds to pass", lambda: time.monotonic() > stopped_s + AWAY_S)
        again = self.start_again(server)
        publisher = self.publish(FFMPEG, SHOW.path, token.publish_url)
        self.check_plays_on(browser)
        publisher.kill()
        again.stop()


class EndedTests(EndToEndTest):
    """A server that is stopped for good while streams are live, and started again all the same."""

    def test_nothing_is_lost(self) -> None:
        """All that viewers were shown is on the disk, and final; what comes after is another presentation."""
        server = self.start_server(f'{SETTINGS}[server]\non_stop = "end"\n')
        keys = ("plain", "bframes", "video")
        viewers = [Viewer(f"{server.root}/live/{key}") for key in keys]
        tokens = [server.issue_token(key) for key in keys]
        for key, token, viewer in zip(keys, tokens, viewers, strict=True):
            self.publish(FFMPEG, CLIPS[key].path, token.publish_url)
            viewer.start()
        for viewer in viewers:
            eventually("three segments", lambda viewer=viewer: viewer.has_segments(3))
        server.stop()
        for key, viewer in zip(keys, viewers, strict=True):
            self._check_stored(server.store / "live" / key, viewer.result())
        again = self.start_again(server)
        self.assertEqual(0, again.get("/api/v1/streams").json()["total"])
        self.assertEqual(404, again.get("/live/plain/index.m3u8").status)
        watched = Watched("plain")
        self.publish(FFMPEG, CLIPS["plain"].path, tokens[0].publish_url)
        begun = eventually("a segment", lambda: watched.has(again, 1))
        last = viewers[0].result().versions[-1].playlist.segments[-1]
        self.assertGreater(begun.sequence, last.sequence)
        self.assertEqual(1, begun.discontinuity_sequence, "above the one before, and small")
        eventually("the old ones to go", lambda: not (server.store / "live" / "plain" / last.uri).exists())
        again.stop()

    def _check_stored(self, folder: Path, viewer: Viewer) -> None:
        stored = parse_media_playlist((folder / "index.m3u8").read_text())
        self.assertTrue(stored.ended)
        listed = {segment.uri: segment for segment in stored.segments}
        seen = [segment for version in viewer.versions for segment in version.playlist.segments if segment.uri]
        for segment in seen:
            if segment.sequence >= stored.sequence:
                self.assertFalse(listed[segment.uri].gap)
        for path in folder.iterdir():
            if is_media(path.name) and path.name in viewer.objects:
                self.assertEqual(viewer.objects[path.name].body, path.read_bytes())
        self.assertEqual(set(), {segment.uri for segment in stored.segments} - {path.name for path in folder.iterdir()})
