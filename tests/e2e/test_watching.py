"""What viewers do on the player page in a real browser: menus, keys, full screen; and the player in other pages."""

from __future__ import annotations

import functools
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from tests.e2e.browser import BrowserTest, check_library, find_browser
from tests.e2e.ffmpeg import FFMPEG, RUN_S
from tests.e2e.harness import eventually, new_folder

SETTINGS = '[server]\nsinks = ["hls:segment=1s:dvr=1h"]\n'
CLIP_S = 60
FIGURES = """
if (!document.getElementById("video") || !window.rapidrtmp) return null;
const of = (id) => document.getElementById(id), page = window.rapidrtmp, video = of("video");
const menu = (id) => ({
  shown: !of(id).parentElement.hidden, value: of(id).value, said: of(id).selectedOptions[0]?.text ?? "",
  offered: [...of(id).options].map((each) => each.text),
});
const box = video.getBoundingClientRect();
return {
  moves: video.readyState >= 3 && !video.paused && video.currentTime > 0, paused: video.paused, muted: video.muted,
  volume: video.volume, height: video.videoHeight, isAuto: page.isAuto, audioTrack: page.audioTrack,
  quality: menu("quality"), audio: menu("audio"), captions: menu("captions"),
  full: document.fullscreenElement?.id ?? "", viewers: of("viewers").textContent,
  fills: box.width === innerWidth && box.height === innerHeight,
  controls: of("panel").checkVisibility(), begin: of("begin").checkVisibility(),
  seeks: [...document.querySelectorAll("#seek, video[controls]")].length, live: of("golive").checkVisibility(),
};
"""


@functools.cache
def sizes_and_languages() -> Path:
    """A clip of one picture in three sizes, whose keyframes coincide, and two tones."""
    path = new_folder("clip") / "several.flv"
    graph = "[0:v]split=3[a][b][c];[b]scale=320:180[d];[c]scale=160:90[e]"
    inputs = ["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=15"]
    inputs += [each for pitch in (440, 660) for each in ("-f", "lavfi", "-i", f"sine=frequency={pitch}")]
    maps = ["-filter_complex", graph, *(each for name in ("[a]", "[d]", "[e]", "1", "2") for each in ("-map", name))]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "15", "-keyint_min", "15"]
    codecs += ["-sc_threshold", "0", "-c:a", "aac", "-t", str(CLIP_S), "-f", "flv", str(path)]
    command = [FFMPEG, "-nostdin", "-v", "error", "-y", *inputs, *maps, *codecs]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=RUN_S)
    return path


class WatchingTests(BrowserTest):
    """``/live/KEY`` and ``/embed/live/KEY`` in headless Chromium, of a stream with several sizes and languages."""

    def test_viewer_has_all_controls(self) -> None:
        """Menus, keys and full screen work; what was chosen and how loud it was hold when the page is loaded anew."""
        paths = find_browser()
        server = self.start_server(SETTINGS)
        check_library(server)
        publisher = self.publish(FFMPEG, sizes_and_languages(), server.issue_token("show").publish_url)
        browser = self.open_page(paths, f"{server.root}/live/show")
        now = self.look(browser, "the page to play", lambda now: now["moves"] and now["viewers"] == "1")
        self.assertTrue(now["isAuto"])
        self.check_menus(browser)
        self.check_keys(browser)
        browser.refresh()
        kept = self.look(browser, "the page to play", lambda now: now["moves"] and now["audio"]["shown"])
        self.assertEqual((180, False, 1), (kept["height"], kept["isAuto"], kept["audioTrack"]))
        self.assertEqual((True, 0.5), (kept["muted"], kept["volume"]))
        self.check_sharing(browser, server.root)
        self.check_embedded(browser, server.root)
        self.assertFalse(publisher.has_ended, "all this was live")
        self.assertEqual([], self.complaints(browser))
        publisher.kill()

    def look(self, browser: Any, what: str, wanted: Any) -> Any:
        """What the page says of itself, as soon as that is ``wanted``."""

        def probe() -> Any:
            now = browser.execute_script(FIGURES)
            return now if now and wanted(now) else None

        return eventually(what, probe)

    def serve_page(self, body: str) -> str:
        """The address of a page of another origin, which is there until the test is over."""

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None:
                return

        other = HTTPServer(("127.0.0.1", 0), Page)
        self.addCleanup(other.server_close)
        threading.Thread(target=other.serve_forever, daemon=True).start()
        self.addCleanup(other.shutdown)
        return f"http://localhost:{other.server_port}/"

    def press(self, browser: Any, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(browser).send_keys(*keys).perform()

    def choose(self, browser: Any, menu: str, words: str) -> None:
        from selenium.webdriver.support.select import Select

        select = Select(browser.find_element("id", menu))
        select.select_by_visible_text(next(each.text for each in select.options if each.text.startswith(words)))

    # ── claims ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def check_menus(self, browser: Any) -> None:
        """Each menu is there as soon as there is something to choose, and what is chosen is played."""
        now = self.look(browser, "the sizes", lambda now: now["quality"]["said"].startswith("Auto ("))
        self.assertRegex(" ".join(now["quality"]["offered"]), r"^Auto \(\d+p\) 360p · \d\.\d\d Mbit/s 180p .* 90p ")
        self.assertEqual((["Audio 1", "Audio 2"], True), (now["audio"]["offered"], now["audio"]["shown"]))
        self.assertFalse(now["captions"]["shown"])
        for lines in (90, 360, 180):
            self.choose(browser, "quality", f"{lines}p")
            self.look(browser, f"{lines} lines", lambda now, lines=lines: now["height"] == lines and not now["isAuto"])
        self.choose(browser, "audio", "Audio 2")
        self.look(browser, "the other tone", lambda now: now["audioTrack"] == 1 and now["moves"])
        browser.execute_script("document.getElementById('video').addTextTrack('captions', 'English', 'en')")
        now = self.look(browser, "captions to choose", lambda now: now["captions"]["shown"])
        self.assertEqual((["Off", "English"], "Off"), (now["captions"]["offered"], now["captions"]["said"]))
        self.choose(browser, "captions", "English")
        mode = "return [...document.getElementById('video').textTracks].find((each) => each.label === 'English').mode"
        self.assertEqual("showing", browser.execute_script(mode))
        self.choose(browser, "captions", "Off")
        self.assertEqual("disabled", browser.execute_script(mode))

    def check_keys(self, browser: Any) -> None:
        """Space pauses and plays, f shows the whole player in full screen and back, arrows and m are for the sound."""
        from selenium.webdriver.common.keys import Keys

        browser.execute_script("document.activeElement.blur()")
        self.press(browser, " ")
        self.look(browser, "a pause", lambda now: now["paused"])
        self.press(browser, " ")
        self.look(browser, "it to play", lambda now: now["moves"])
        self.press(browser, "f")
        now = self.look(browser, "full screen", lambda now: now["full"] == "stage" and now["fills"])
        self.assertEqual((1, True, True), (now["seeks"], now["live"], now["controls"]))
        self.save_screenshot(browser, "watching-full.png")
        self.press(browser, "f")
        self.look(browser, "the page", lambda now: now["full"] == "")
        self.press(browser, *[Keys.ARROW_DOWN] * 5)
        self.look(browser, "less sound", lambda now: abs(now["volume"] - 0.5) < 0.01 and not now["muted"])
        self.press(browser, "m")
        self.look(browser, "no sound", lambda now: now["muted"])
        browser.execute_script("document.getElementById('video').volume = 0.5")

    def check_sharing(self, browser: Any, root: str) -> None:
        """The page offers its own address, and code that shows the player in other pages."""
        browser.find_element("css selector", "#share summary").click()
        value = "return document.getElementById(arguments[0]).value"
        self.assertEqual(f"{root}/live/show", browser.execute_script(value, "link"))
        code = browser.execute_script(value, "embed")
        self.assertRegex(code, rf'^<iframe src="{root}/embed/live/show" .*allow="autoplay; fullscreen')
        browser.find_element("css selector", "[data-copy=embed]").click()
        eventually("it to be copied", lambda: browser.find_element("id", "copied").text)

    def check_embedded(self, browser: Any, root: str) -> None:
        """In a page of another origin the player fills its frame and does what its address asks for."""
        for query, has_controls, begins in (
            ("controls=0&muted=1&autoplay=1", False, True),
            ("autoplay=0", True, False),
        ):
            code = f'<iframe src="{root}/embed/live/show?{query}" allow="autoplay" width="500" height="300"></iframe>'
            browser.get(self.serve_page(code))
            browser.switch_to.frame(0)
            now = self.look(browser, "the player", lambda now, begins=begins: now["moves"] if begins else now["begin"])
            self.assertTrue(now["fills"])
            self.assertEqual((has_controls, not begins), (now["controls"], now["begin"]))
            if not begins:
                self.assertEqual("none", browser.execute_script("return window.rapidrtmp.engine"))
                self.save_screenshot(browser, "watching-embedded.png")
                browser.find_element("id", "begin").click()
                self.look(browser, "it to play", lambda now: now["moves"])
            else:
                self.assertTrue(now["muted"])
            browser.switch_to.default_content()
