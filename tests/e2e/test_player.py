"""The player page in a real browser: picture, sound and latency, as a viewer has them."""

from __future__ import annotations

import importlib.util
import shutil
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from twisted.trial.unittest import SkipTest

from rapidrtmp.web import hlsjs
from tests.e2e.ffmpeg import FFMPEG, Clip
from tests.e2e.harness import EndToEndTest, Server, eventually, new_folder
from tests.e2e.playlists import parse_media_playlist

SHOW = Clip("show", seconds=60, frame_rate=Fraction(30), sample_rate=48_000, channels=2, size="640x360")
#: What the browser must play, once it plays, for its figures to mean something.
PLAYED_S = 8
LATENCY_S = 3.0
#: Two parts: what the page has and has not yet, and what is listed meanwhile.
EDGE_TOLERANCE_S = 0.7
#: One frame in twenty: the browser here draws without a graphics card.
DROPPED = Fraction(1, 20)
_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run --mute-audio "
    "--disable-background-networking --disable-component-update --disable-sync --window-size=1280,900 "
    "--autoplay-policy=no-user-gesture-required"
)
#: What the page and its video element say, in one moment.
_FIGURES = """
const video = document.querySelector("video"), page = window.rapidrtmp;
return {
  now: Date.now(),
  currentTime: video.currentTime,
  paused: video.paused,
  readyState: video.readyState,
  buffered: video.buffered.length ? video.buffered.end(video.buffered.length - 1) : 0,
  width: video.videoWidth,
  height: video.videoHeight,
  audioBytes: video.webkitAudioDecodedByteCount,
  videoBytes: video.webkitVideoDecodedByteCount,
  decoded: page.decodedFrames,
  dropped: page.droppedFrames,
  latency: page.latency,
  recoveries: page.recoveries,
  engine: page.engine,
  state: page.state,
  said: document.getElementById("state").textContent,
};
"""


def _browser() -> tuple[str, str]:
    """The paths of Chromium and its driver. :raises SkipTest: something is missing; it says what."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    missing = [f"Debian's {name}" for name, path in (("chromium", chromium), ("chromium-driver", driver)) if not path]
    if importlib.util.find_spec("selenium") is None:
        missing.append("PyPI's selenium")
    if chromium is None or driver is None or missing:
        raise SkipTest(f"not installed: {', '.join(missing)}")
    return chromium, driver


def _check_library(server: Server) -> None:
    """Make sure that the page can load hls.js. :raises SkipTest: neither the server nor the CDN has it."""
    if server.get(f"/static/{hlsjs.FILE_NAME}").status == 200:
        return
    try:
        with urlopen(hlsjs.CDN_URL, timeout=10):
            pass
    except (URLError, OSError) as error:
        raise SkipTest(
            f"hls.js was not packaged (npm was not there at build time) and not at the CDN: {error}"
        ) from error


class PlayerTests(EndToEndTest):
    """``/live/KEY`` in headless Chromium."""

    def test_plays(self) -> None:
        """The page plays picture and sound, smoothly and less than three seconds behind the encoder."""
        paths = _browser()
        server = self.start_server()
        _check_library(server)
        started = datetime.now(UTC)
        publisher = self.publish(FFMPEG, SHOW.path, server.issue_token("show").publish_url)
        browser = self._open(paths, f"{server.root}/live/show")
        first = eventually("the page to play", lambda: self._figures_of_play(browser))
        last = eventually("it to play on", lambda: self._figures_of_play(browser, first["currentTime"] + PLAYED_S))
        self._save_screenshot(browser)
        self.assertEqual("hls.js", first["engine"])
        self._check_progress(first, last)
        self._check_latency(server, browser, started)
        self.assertFalse(publisher.has_ended, "all this was live")
        self.assertEqual([], self._complaints(browser))
        publisher.kill()

    def test_waits(self) -> None:
        """Opened too early, the page says that it waits, and plays when the stream begins."""
        paths = _browser()
        server = self.start_server()
        _check_library(server)
        browser = self._open(paths, f"{server.root}/live/show")
        eventually("the page to wait", lambda: browser.execute_script(_FIGURES)["state"] == "waiting")
        publisher = self.publish(FFMPEG, SHOW.path, server.issue_token("show").publish_url)
        self.assertGreater(eventually("the page to play", lambda: self._figures_of_play(browser))["decoded"], 0)
        publisher.kill()

    # ── the browser ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _open(self, paths: tuple[str, str], url: str) -> Any:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location, driver = paths
        for flag in (*_FLAGS.split(), f"--user-data-dir={new_folder('browser')}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        browser = webdriver.Chrome(options=options, service=Service(driver))
        self.addCleanup(browser.quit)
        browser.get(url)
        return browser

    def _figures_of_play(self, browser: Any, since: float = 0.0) -> dict[str, Any] | None:
        """The figures, if the video plays and has come past ``since``, in seconds of its own time."""
        figures: dict[str, Any] = browser.execute_script(_FIGURES)
        playing = figures["readyState"] >= 3 and not figures["paused"] and figures["decoded"] > 0
        return figures if playing and figures["currentTime"] > since else None

    def _complaints(self, browser: Any) -> list[str]:
        """What the console holds against the page."""
        return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]

    def _save_screenshot(self, browser: Any) -> None:
        path = Path.cwd() / "player.png"
        browser.save_screenshot(str(path))
        print(f"screenshot: {path}")

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
        figures = browser.execute_script(_FIGURES)
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
