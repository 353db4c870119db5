"""The player page in a real browser: picture, sound and latency, as a viewer has them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from tests.e2e.browser import FIGURES, BrowserTest, check_library, find_browser
from tests.e2e.ffmpeg import FFMPEG, Clip
from tests.e2e.harness import Server, eventually
from tests.e2e.playlists import parse_media_playlist

SHOW = Clip("show", seconds=60, frame_rate=Fraction(30), sample_rate=48_000, channels=2, size="640x360")
#: With audio of a codec that is not carried.
TELEPHONE = Clip("telephone", seconds=60, frame_rate=Fraction(30), sample_rate=8_000, more=("-c:a", "pcm_alaw"))
#: What the browser must play, once it plays, for its figures to mean something.
PLAYED_S = 8
LATENCY_S = 3.0
#: Two parts: what the page has and has not yet, and what is listed meanwhile.
EDGE_TOLERANCE_S = 0.7
#: One frame in twenty: the browser here draws without a graphics card.
DROPPED = Fraction(1, 20)


class PlayerTests(BrowserTest):
    """``/live/KEY`` in headless Chromium."""

    def test_page_plays_smoothly(self) -> None:
        """The page plays picture and sound, smoothly and less than three seconds behind the encoder."""
        paths = find_browser()
        server = self.start_server()
        check_library(server)
        started = datetime.now(UTC)
        publisher = self.publish(FFMPEG, SHOW.path, server.issue_token("show").publish_url)
        browser = self.open_page(paths, f"{server.root}/live/show")
        first = eventually("the page to play", lambda: self.figures_of_play(browser))
        last = eventually("it to play on", lambda: self.figures_of_play(browser, first["currentTime"] + PLAYED_S))
        self.save_screenshot(browser)
        self.assertEqual("hls.js", first["engine"])
        self.assertFalse(browser.find_element("id", "timeline").is_displayed(), "there is no rewind window")
        self._check_progress(first, last)
        self._check_latency(server, browser, started)
        self.assertFalse(publisher.has_ended, "all this was live")
        self.assertEqual([], self.complaints(browser))
        publisher.kill()

    def test_page_waits_for_the_stream(self) -> None:
        """Opened too early, the page says that it waits, and plays when the stream begins."""
        paths = find_browser()
        server = self.start_server()
        check_library(server)
        browser = self.open_page(paths, f"{server.root}/live/show")
        eventually("the page to wait", lambda: browser.execute_script(FIGURES)["state"] == "waiting")
        publisher = self.publish(FFMPEG, SHOW.path, server.issue_token("show").publish_url)
        self.assertGreater(eventually("the page to play", lambda: self.figures_of_play(browser))["decoded"], 0)
        publisher.kill()

    def test_page_says_no_one_publishes(self) -> None:
        """After half a minute of waiting the page says that no encoder publishes, and shows a way back."""
        paths = find_browser()
        server = self.start_server()
        check_library(server)
        browser = self.open_page(paths, f"{server.root}/live/misspelt")
        way_back = browser.find_element("id", "way-back")
        eventually("the page to wait", lambda: browser.execute_script(FIGURES)["state"] == "waiting")
        self.assertFalse(way_back.is_displayed())
        eventually("it to say so", way_back.is_displayed)
        self.assertIn("No encoder publishes this stream", way_back.text)
        self.save_screenshot(browser)
        way_back.find_element("tag name", "a").click()
        eventually("the list", lambda: browser.title == "Live streams")

    def test_page_says_why_no_sound(self) -> None:
        """Where the audio's codec is not carried the page plays the picture and says why there is no sound."""
        paths = find_browser()
        server = self.start_server()
        check_library(server)
        url = server.issue_token("show").publish_url
        publisher = self.publish(FFMPEG, TELEPHONE.path, url)
        browser = self.open_page(paths, f"{server.root}/live/show")
        eventually("the page to play", lambda: self.figures_of_play(browser))
        reason = browser.find_element("id", "reason")
        eventually("the reason", reason.is_displayed)
        self.assertEqual("No sound: the encoder sends G.711 A-law, which this server does not carry", reason.text)
        publisher.kill()

    def test_list_keeps_its_focus(self) -> None:
        """The list of streams keeps up by itself, and what has the focus keeps it."""
        paths = find_browser()
        server = self.start_server()
        publishers = [self.publish(FFMPEG, SHOW.path, server.issue_token("middle").publish_url)]
        eventually("the stream", lambda: server.get("/live/middle/index.m3u8").status == 200)
        browser = self.open_page(paths, f"{server.root}/")
        browser.execute_script("document.querySelector('.streams a').focus(); window.notReloaded = true")
        for name in ("after", "zuletzt"):
            publishers.append(self.publish(FFMPEG, SHOW.path, server.issue_token(name).publish_url))
        names = "return [...document.querySelectorAll('.streams a')].map((link) => link.getAttribute('href'))"
        wanted = ["live/after", "live/middle", "live/zuletzt"]
        eventually("all three", lambda: browser.execute_script(names) == wanted)
        focused = "return [document.activeElement.getAttribute('href'), window.notReloaded]"
        self.assertEqual(["live/middle", True], browser.execute_script(focused))
        for publisher in publishers:
            publisher.kill()

    def test_full_stream_is_said(self) -> None:
        """Where there is no seat left the page says so in the server's words, and tries again."""
        paths = find_browser()
        server = self.start_server("[server]\nmax_viewers_per_stream = 1\n")
        check_library(server)
        publisher = self.publish(FFMPEG, SHOW.path, server.issue_token("show").publish_url)
        eventually("another to watch", lambda: server.get("/live/show/master.m3u8").status == 200)
        browser = self.open_page(paths, f"{server.root}/live/show")
        words = eventually(
            "the page to be refused",
            lambda: (figures := browser.execute_script(FIGURES)) and "viewers" in figures["said"] and figures["said"],
        )
        self.assertEqual("live/show has all the 1 viewers it may have; trying again…", words)
        publisher.kill()

    # ── claims ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _check_progress(self, first: dict[str, Any], last: dict[str, Any]) -> None:
        self.assertEqual((640, 360), (last["width"], last["height"]))
        played_s = last["currentTime"] - first["currentTime"]
        self.assertApproximates(played_s, (last["now"] - first["now"]) / 1000, 0.15 * played_s)
        decoded = last["decoded"] - first["decoded"]
        self.assertApproximates(30 * played_s, decoded, 30)
        self.assertLessEqual(last["dropped"] - first["dropped"], DROPPED * decoded)
        self.assertGreater(last["audioBytes"], first["audioBytes"])
        self.assertGreater(last["videoBytes"], first["videoBytes"])
        self.assertEqual(first["recoveries"], last["recoveries"])
        self.assertEqual("live", last["state"])

    def _check_latency(self, server: Server, browser: Any, started: datetime) -> None:
        """What the page calls its latency is small, and is what the playlist's dates and the buffer come to."""
        edge = _edge_date(server)
        figures = browser.execute_script(FIGURES)
        now = datetime.fromtimestamp(figures["now"] / 1000, UTC)
        counted_s = (now - edge).total_seconds() + figures["buffered"] - figures["currentTime"]
        self.assertGreater(figures["latency"], 0)
        self.assertLess(figures["latency"], LATENCY_S)
        self.assertApproximates(counted_s, figures["latency"], EDGE_TOLERANCE_S)
        self.assertGreater(edge, started)
        self.assertLess(edge, now + timedelta(seconds=EDGE_TOLERANCE_S))


def _edge_date(server: Server) -> datetime:
    """The date at which the newest part that is listed ends."""
    last = parse_media_playlist(server.get("/live/show/index.m3u8").text).segments[-1]
    assert last.date is not None
    listed = last.duration or sum(part.duration for part in last.parts)
    return last.date + timedelta(seconds=float(listed))
