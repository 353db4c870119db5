"""Rewinding on the player page in a real browser: back by its own controls, what is seen there, and live again."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from tests.e2e.browser import BrowserTest, check_library, find_browser
from tests.e2e.ffmpeg import CLIPS, FFMPEG, Clip, decode, read_packets
from tests.e2e.harness import eventually, new_folder

SETTINGS = """
[server]
sinks = ["hls:segment=1s:dvr=1h"]
"""
#: By how much the picture gets brighter each second, from black to white: a picture tells when it was.
BRIGHTER = 5
SHOW = Clip(
    "show",
    seconds=44,
    frame_rate=Fraction(25),
    sample_rate=48_000,
    channels=2,
    size="640x360",
    more=["-vf", f"geq=lum='16+{BRIGHTER}*T':cb=128:cr=128"],
)
RECORDED_S = 20
LATENCY_S = 3.0
#: One step of brightness is 0.2 s, and the picture that is looked at may be one or two older than its time.
PICTURE_TOLERANCE_S = 0.8
FIGURES = """
const bar = document.getElementById("seek"), page = window.rapidrtmp, video = document.querySelector("video");
const pen = document.createElement("canvas").getContext("2d");
if (video.readyState >= 2) pen.drawImage(video, 320, 180, 1, 1, 0, 0, 1, 1);
return {
  shown: !document.getElementById("timeline").hidden,
  at: document.getElementById("timeline").dataset.at,
  said: document.getElementById("position").textContent,
  words: bar.getAttribute("aria-valuetext"),
  pressed: document.getElementById("golive").getAttribute("aria-pressed"),
  first: Number(bar.min), last: Number(bar.max), value: Number(bar.value),
  playing: page.playing / 1000, rewound: page.rewound, latency: page.latency, recoveries: page.recoveries,
  brightness: pen.getImageData(0, 0, 1, 1).data[0],
  volume: video.volume, muted: video.muted, decoded: page.decodedFrames,
  moves: video.readyState >= 3 && !video.paused && !video.seeking && video.currentTime > 0,
  visit: performance.timeOrigin,
};
"""


#: The picture over the bar: how bright its middle is, and which part of the bar it is over.
PREVIEW = """
const canvas = document.getElementById("preview"), bar = document.getElementById("seek");
if (canvas.hidden || document.getElementById("bubble").hidden) return null;
const at = document.getElementById("bubble").getBoundingClientRect(), all = bar.getBoundingClientRect();
const pixel = canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data;
const share = (at.left + at.width / 2 - all.left - 8) / (all.width - 16);
return {brightness: pixel[0], width: canvas.width, moment: Number(bar.min) + share * (bar.max - bar.min)};
"""
#: A picture over the bar is the keyframe of a segment of a second.
PREVIEW_TOLERANCE_S = 2.2


class TimelineTests(BrowserTest):
    """``/live/KEY`` in headless Chromium, of a stream with a rewind window."""

    def test_back_and_live_again(self) -> None:
        """A viewer goes back by button, bar and keys, sees what was then, has a clip saved, and is live again."""
        paths = find_browser()
        server = self.start_server(SETTINGS)
        check_library(server)
        publisher = self.publish(FFMPEG, SHOW.path, server.issue_token("show").publish_url)
        browser = self.open_page(paths, f"{server.root}/live/show")
        browser.set_window_size(1280, 800)
        start = self.look(browser, "the page to play", lambda now: now["moves"] and now["brightness"] > 10)
        browser.execute_script("const v = document.querySelector('video'); v.muted = false; v.volume = 0.4;")
        live = self.look(browser, "some history", lambda now: now["shown"] and now["last"] - now["first"] > RECORDED_S)
        self.assertEqual(("live", "true"), (live["at"], live["pressed"]))
        self.save_screenshot(browser, "timeline-live.png")
        began = live["playing"] - seconds_of(live["brightness"])

        self.button(browser, "back").click()
        self.check_rewound(browser, began, live["first"], tolerance_s=2.0)
        self.check_keys(browser, began)
        self.save_screenshot(browser, "timeline-back.png")
        self.check_clip(browser)
        self.assertEqual("Rewound", browser.find_element("id", "state").text)

        self.button(browser, "golive").click()
        again = self.look(browser, "the page to be live", is_live)
        self.check_picture(again, began)
        self.assertLess(again["latency"], LATENCY_S)
        self.check_bar(browser, began)
        browser.set_window_size(390, 844)
        self.save_screenshot(browser, "timeline-phone.png")
        self.assertFalse(browser.execute_script("return document.body.scrollWidth > window.innerWidth"))
        self.press(browser, "end")
        last = self.look(browser, "the page to be live", is_live)
        self.assertLess(last["latency"], LATENCY_S)
        self.assertEqual((False, 0.4, 0), (last["muted"], last["volume"], last["recoveries"]))
        self.assertEqual(start["visit"], last["visit"], "the page was never loaded again")
        self.assertFalse(publisher.has_ended, "all this was live")
        self.assertEqual([], self.complaints(browser))
        publisher.kill()

    def test_after_the_end(self) -> None:
        """Opened when the stream has ended, the page shows its last picture, says so, and goes back in it."""
        paths = find_browser()
        server = self.start_server(SETTINGS + '[live]\ngrace = "1s"\n')
        check_library(server)
        self.publish(FFMPEG, CLIPS["plain"].path, server.issue_token("show").publish_url).wait()
        eventually("the end", lambda: "#EXT-X-ENDLIST" in server.get("/live/show/index.m3u8").text)
        browser = self.open_page(paths, f"{server.root}/live/show")
        ended = self.look(browser, "its last picture", lambda now: now["at"] == "ended" and is_at_end(now))
        self.assertIn("has ended", browser.find_element("id", "state").text)
        badge = browser.find_element("id", "golive")
        self.assertEqual(("ENDED", False), (badge.text, badge.is_enabled()))
        self.assertIn("0:00 before the end", ended["said"])
        self.assertFalse(ended["moves"])
        self.button(browser, "back").click()
        now = self.look(browser, "the page to rewind", lambda now: now["rewound"] and now["moves"])
        self.assertApproximates(now["first"], now["playing"], 2.0)
        over = self.look(browser, "the end again", lambda now: is_at_end(now) and not now["moves"])
        self.assertEqual((ended["first"], ended["last"]), (over["first"], over["last"]), "the window stands still")
        self.assertEqual([], self.complaints(browser))

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def look(self, browser: Any, what: str, wanted: Any) -> Any:
        """What the page says of itself, as soon as that is ``wanted``."""

        def probe() -> Any:
            now = browser.execute_script(FIGURES)
            return now if wanted(now) else None

        return eventually(what, probe)

    def button(self, browser: Any, name: str) -> Any:
        return browser.find_element("id", name)

    def press(self, browser: Any, key: str) -> None:
        from selenium.webdriver.common.keys import Keys

        browser.find_element("tag name", "body").send_keys(getattr(Keys, key.upper()))

    # ── claims ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def check_rewound(self, browser: Any, began: float, moment: float, tolerance_s: float) -> Any:
        """It plays on from that moment, shows the picture of then, and says so."""
        now = self.look(browser, "the page to rewind", lambda now: now["rewound"] and now["moves"])
        self.assertApproximates(moment, now["playing"], tolerance_s)
        self.check_picture(now, began)
        later = self.look(browser, "it to play on", lambda now: now["playing"] > moment + 1 and now["at"] == "behind")
        self.check_picture(later, began)
        self.assertEqual("false", later["pressed"])
        self.assertIn(" behind", later["said"])
        self.assertEqual(later["said"], later["words"])
        self.assertApproximates(later["playing"], later["value"], 1.0)
        return later

    def check_picture(self, now: Any, began: float) -> None:
        """What is shown is as old as the page says it is."""
        self.assertApproximates(now["playing"] - began, seconds_of(now["brightness"]), PICTURE_TOLERANCE_S)

    def check_keys(self, browser: Any, began: float) -> None:
        """The arrows go ten seconds forward and back."""
        before = browser.execute_script(FIGURES)
        self.press(browser, "arrow_right")
        there = self.check_rewound(browser, began, before["playing"] + 10, tolerance_s=1.5)
        self.press(browser, "arrow_left")
        self.check_rewound(browser, began, there["playing"] - 10, tolerance_s=1.5)

    def check_preview(self, browser: Any, began: float) -> None:
        """Over the bar stands the picture of the moment that is pointed at."""
        found = eventually("the picture over the bar", lambda: browser.execute_script(PREVIEW))
        self.assertGreaterEqual(found["width"], 100)
        self.assertApproximates(found["moment"], began + seconds_of(found["brightness"]), PREVIEW_TOLERANCE_S)
        self.save_screenshot(browser, "timeline-preview.png")

    def check_bar(self, browser: Any, began: float) -> None:
        """A click on the middle of the bar goes to the middle of the window; it says which moment lies there."""
        from selenium.webdriver import ActionChains

        bar = browser.find_element("id", "seek")
        ActionChains(browser).move_to_element(bar).perform()
        bubble = browser.find_element("id", "bubble")
        self.assertTrue(bubble.is_displayed())
        self.assertRegex(bubble.text, r"\d\d:\d\d")
        self.check_preview(browser, began)
        before = browser.execute_script(FIGURES)
        ActionChains(browser).click(bar).perform()
        self.check_rewound(browser, began, (before["first"] + before["last"]) / 2, tolerance_s=2.0)

    def check_clip(self, browser: Any) -> None:
        """The link saves a file of what was shown last."""
        folder = new_folder("downloads")
        behaviour = {"behavior": "allow", "downloadPath": str(folder)}
        browser.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
        before = browser.execute_script(FIGURES)
        browser.find_element("id", "clip").click()
        (file,) = eventually("the clip to be saved", lambda: list(folder.glob("*.mp4")))
        self.assertEqual("", decode(file))
        length_s = float(sum(packet.duration for packet in read_packets(file).tracks["video"]))
        self.assertApproximates(before["playing"] - before["first"], length_s, 2.5)


def is_live(now: Any) -> bool:
    """Whether the page plays live, and knows how far behind the encoder."""
    return now["at"] == "live" and not now["rewound"] and now["moves"] and now["latency"] is not None


def is_at_end(now: Any) -> bool:
    """Whether the picture is among the last there are."""
    return now["playing"] is not None and now["playing"] > now["last"] - 2


def seconds_of(brightness: int) -> float:
    """How far into the clip it is that bright: black is 16 and white 235 there, and 0 and 255 on a screen."""
    return brightness * 219 / 255 / BRIGHTER
