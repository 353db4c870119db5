"""Chromium without a screen, looking at the player page."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from twisted.trial.unittest import SkipTest

from rapidrtmp.http import hlsjs
from tests.e2e.harness import EndToEndTest, Server, new_folder

__all__ = ["FIGURES", "BrowserTest", "check_library", "find_browser", "open_browser"]

_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run --mute-audio "
    "--disable-background-networking --disable-component-update --disable-sync --window-size=1280,900 "
    "--autoplay-policy=no-user-gesture-required"
)
#: What the page and its video element say, in one moment.
FIGURES = """
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


def find_browser() -> tuple[str, str]:
    """The paths of Chromium and its driver. :raises SkipTest: something is missing; it says what."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    missing = [f"Debian's {name}" for name, path in (("chromium", chromium), ("chromium-driver", driver)) if not path]
    if importlib.util.find_spec("selenium") is None:
        missing.append("PyPI's selenium")
    if chromium is None or driver is None or missing:
        raise SkipTest(f"not installed: {', '.join(missing)}")
    return chromium, driver


def check_library(server: Server) -> None:
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


def open_browser(paths: tuple[str, str], flags: Sequence[str] = ()) -> Any:
    """Chromium without a page; to be quit."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location, driver = paths
    for flag in (*_FLAGS.split(), f"--user-data-dir={new_folder('browser')}", *flags):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


class BrowserTest(EndToEndTest):
    """A test with browsers."""

    def open_page(self, paths: tuple[str, str], url: str) -> Any:
        """Chromium with a page, gone after the test."""
        browser = open_browser(paths)
        self.addCleanup(browser.quit)
        browser.get(url)
        return browser

    def figures_of_play(self, browser: Any, since: float = 0.0, *, has_picture: bool = True) -> dict[str, Any] | None:
        """The figures, if it plays and has come past ``since``, in seconds of its own time."""
        figures: dict[str, Any] = browser.execute_script(FIGURES)
        has_decoded = figures["decoded"] > 0 or (not has_picture and figures["audioBytes"] > 0)
        playing = figures["readyState"] >= 3 and not figures["paused"] and has_decoded
        return figures if playing and figures["currentTime"] > since else None

    def complaints(self, browser: Any) -> list[str]:
        """What the console holds against the page."""
        return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]

    def save_screenshot(self, browser: Any, name: str = "player.png") -> None:
        path = Path.cwd() / name
        browser.save_screenshot(str(path))
        print(f"screenshot: {path}")
