"""The page of recordings in a real browser: played from the list, sought, and downloaded as a file that plays."""

from __future__ import annotations

from typing import Any

from tests.e2e.browser import BrowserTest, check_library, find_browser
from tests.e2e.ffmpeg import CLIPS, FFMPEG
from tests.e2e.harness import Server, eventually

SETTINGS = """
[server]
sinks = ["hls", "record:segment=2s:part=500ms"]
[live]
grace = "1s"
"""
CLIP = CLIPS["plain"]
FIGURES = """
const video = document.querySelector("video");
return {
  currentTime: video.currentTime,
  duration: video.duration,
  seeking: video.seeking,
  paused: video.paused,
  readyState: video.readyState,
  decoded: video.getVideoPlaybackQuality().totalVideoFrames,
  engine: window.rapidrtmp ? window.rapidrtmp.engine : "none",
};
"""
#: A picture after a jump may be the next one, or the last one before.
SEEK_TOLERANCE_S = 0.2


#: Pictures by hls.js itself, from what a multivariant playlist names: what one from the middle is like.
I_FRAMES = """
const [url] = arguments, problems = [];
const hls = new Hls(), film = document.createElement("video"), pictures = document.createElement("video");
let player = null;
window.kept = [hls, film, pictures];
film.muted = pictures.muted = true;
hls.on(Hls.Events.ERROR, (_, data) => problems.push(data.details));
hls.on(Hls.Events.FRAG_BUFFERED, () => {
  if (player || !hls.latestLevelDetails) return;
  window.kept.push(player = hls.createIFramePlayer());
  player.on(Hls.Events.ERROR, (_, data) => problems.push("I-frames: " + data.details));
  player.on(Hls.Events.FRAG_BUFFERED, (_, data) => {
    window.found = () => ({width: pictures.videoWidth, uri: data.frag.relurl, problems});
  });
  player.on(Hls.Events.MEDIA_ATTACHED, () => player.loadMediaAt(hls.latestLevelDetails.edge / 2));
  player.attachMedia(pictures);
});
hls.loadSource(url);
hls.attachMedia(film);
"""


class LibraryTests(BrowserTest):
    """``/recordings`` in headless Chromium."""

    def test_plays_and_seeks(self) -> None:
        """A recording is chosen from the list, plays from its beginning, and continues where the viewer jumps to."""
        paths = find_browser()
        server = self.start_server(SETTINGS)
        check_library(server)
        recording = self.record(server)
        browser = self.open_page(paths, f"{server.root}/recordings")
        picture = "return document.querySelector('.recordings .still').videoWidth"
        eventually("its picture", lambda: browser.execute_script(picture))
        browser.find_element("css selector", "a.play").click()
        first = self.playing(browser)
        self.assertEqual("hls.js", first["engine"])
        self.assertLess(first["currentTime"], 2)
        self.assertApproximates(CLIP.seconds, first["duration"], 0.3)
        self.check_seek(browser)
        self.check_bar(browser)
        self.save_screenshot(browser, "library.png")
        browser.set_window_size(390, 844)
        self.save_screenshot(browser, "library-phone.png")
        self.assertFalse(browser.execute_script("return document.body.scrollWidth > window.innerWidth"))
        self.assertEqual([], self.complaints(browser))
        browser.get(f"{server.root}/recordings")
        browser.execute_script(I_FRAMES, server.root + recording["masterUrl"])
        has_picture = "return Boolean(window.found && found().width)"
        eventually("hls.js to show a picture", lambda: browser.execute_script(has_picture))
        found = browser.execute_script("return found()")
        self.assertEqual([], found["problems"])
        self.assertRegex(found["uri"], r"^iframe_\d+\.m4s$")
        browser.get(f"{server.root}/recordings#live/cam/{recording['start']}")
        self.assertEqual("hls.js", self.playing(browser)["engine"], "a recording has an address of its own")
        browser.get("about:blank")
        browser.get(f"{server.root}/recordings#live/cam/20200101T000000Z")
        state = browser.find_element("id", "state")
        eventually("the page to say what is wrong", lambda: "there is no recording" in state.text)

    def test_movie_plays_and_jumps(self) -> None:
        """The file plays in a video element as it is, and the browser jumps in it by its index."""
        paths = find_browser()
        server = self.start_server(SETTINGS)
        recording = self.record(server)
        browser = self.open_page(paths, f"{server.root}{recording['movieUrl']}")
        self.assertApproximates(CLIP.seconds, self.playing(browser)["duration"], 0.3)
        self.check_seek(browser)

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def record(self, server: Server) -> Any:
        """A publish that is over, as the API tells of its recording."""
        self.publish(FFMPEG, CLIP.path, server.issue_token("cam").publish_url).wait()

        def finished() -> Any:
            found = server.get("/api/v1/recordings?streamKey=cam").json()["recordings"]
            return found[0] if found and found[0]["state"] == "finished" else None

        return eventually("the recording to be over", finished)

    def playing(self, browser: Any, since: float = 0.0) -> Any:
        """The figures, as soon as the video plays and has come past ``since``, in seconds of its own time."""

        def look() -> Any:
            figures = browser.execute_script(FIGURES)
            moves = not figures["paused"] and not figures["seeking"] and figures["decoded"]
            return figures if moves and figures["currentTime"] > since else None

        return eventually("the recording to play", look)

    def check_bar(self, browser: Any) -> None:
        """The bar shows a picture of where it is pointed at, and goes there; so do the keys."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        bar = browser.find_element("id", "seek")
        ActionChains(browser).move_to_element_with_offset(bar, -bar.size["width"] // 4, 0).perform()
        shown = "const c = document.getElementById('preview'); return !c.hidden && c.width > 100"
        eventually("a picture over the bar", lambda: browser.execute_script(shown))
        self.assertRegex(browser.find_element("id", "bubble").text, r"^\d:\d\d$")
        ActionChains(browser).click().perform()
        quarter = self.playing(browser, since=CLIP.seconds / 4 - 1)
        self.assertLess(quarter["currentTime"], CLIP.seconds / 2)
        browser.find_element("tag name", "body").send_keys(Keys.HOME)
        eventually("the beginning", lambda: browser.execute_script(FIGURES)["currentTime"] < CLIP.seconds / 4 - 1)
        browser.find_element("tag name", "body").send_keys(" ")
        eventually("a pause", lambda: browser.execute_script(FIGURES)["paused"])
        browser.find_element("tag name", "body").send_keys(" ")
        self.playing(browser)

    def check_seek(self, browser: Any) -> None:
        """Jump to the middle: that is where it is at once, and it plays on from there."""
        middle = CLIP.seconds / 2
        at_once = browser.execute_script(
            "const v = document.querySelector('video'); v.currentTime = arguments[0]; return v.currentTime;",
            middle,
        )
        self.assertApproximates(middle, at_once, SEEK_TOLERANCE_S)
        after = self.playing(browser, since=middle + 0.5)
        self.assertLess(after["currentTime"], middle + 4)
