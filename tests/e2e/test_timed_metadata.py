"""Timed metadata and captions, from sinks that see and hear a stream to the page that plays it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.e2e.browser import BrowserTest, check_library, find_browser
from tests.e2e.ffmpeg import FFMPEG, Clip
from tests.e2e.harness import eventually, new_folder, server_environment

#: What is shown as captions now.
CAPTIONS = """
const shown = [...document.querySelector("video").textTracks].filter((track) => track.mode === "showing");
return shown.flatMap((track) => [...(track.activeCues || [])].map((cue) => cue.text));
"""
PAGE = (Path(__file__).parents[2] / "docs" / "decoding.md").read_text("utf-8")
SHOW = Clip("marked", seconds=40, frame_rate=Fraction(30), sample_rate=48_000, size="320x180")
SINK = """
from rapidrtmp.decoding import DecodingSink, DecodingSinkFactory, Mark

class Marking(DecodingSink):
    def picture(self, image, utc_ms):
        return Mark({"height": str(image.shape[0]), "at": str(utc_ms)}, utc_ms)

class MarkingFactory(DecodingSinkFactory):
    sink = Marking

    def __init__(self):
        super().__init__(fps="2")
"""
PLUGIN = """
from rapidrtmp.discovery import SinkPlugin

marking = SinkPlugin("marking", "Marks pictures", "marking_sink.MarkingFactory")
"""
SETTINGS = """
[apps.live]
sinks = ["hls", "marking", "captions", "thumbnail:every=keyframes"]
"""
#: The cues that have been shown: their texts, and how far from their moment the picture was.
CUES = """
const video = document.querySelector("video");
const found = [];
for (const track of video.textTracks) {
  if (track.kind !== "metadata") continue;
  for (const cue of track.cues || []) found.push({start: cue.startTime, value: cue.value});
}
return found;
"""


class TimedMetadataTests(BrowserTest):
    def make_plugin(self, folder: Path) -> None:
        """Put the sink where the server finds it: the folder that it is started in."""
        plugins = folder / "rapidrtmp" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "marking_plugin.py").write_text(PLUGIN)
        (folder / "marking_sink.py").write_text(SINK)
        captions, entry = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[2:4]
        (folder / "captions.py").write_text(captions)
        (plugins / "captions_plugin.py").write_text(entry)

    def test_page_gets_marks_of_pictures(self) -> None:
        """What a sink says of pictures comes to the page as ID3 cues, at the times of those pictures."""
        paths = find_browser()
        folder = new_folder("marking")
        self.make_plugin(folder)
        server = self.start_server(SETTINGS, folder=folder)
        check_library(server)
        self.publish(FFMPEG, SHOW.path, server.issue_token("marked").publish_url)
        browser = self.open_page(paths, f"{server.root}/live/marked")
        cues: list[dict[str, Any]] = eventually("cues", lambda: self.cues(browser, 6))
        self.assertEqual({"TXXX"}, {cue["value"]["key"] for cue in cues})
        heights = {cue["value"]["data"] for cue in cues if cue["value"]["info"] == "height"}
        self.assertEqual({"180"}, heights)
        moments = sorted({(int(cue["value"]["data"]), cue["start"]) for cue in cues if cue["value"]["info"] == "at"})
        origin = moments[0][0] / 1000 - moments[0][1]
        for utc_ms, start in moments:
            self.assertApproximates(origin, utc_ms / 1000 - start, 0.05)
        self.check_captions(browser, server.root)
        eventually("a thumbnail", lambda: server.get("/live/marked/thumbnail.jpg").body[:2] == b"\xff\xd8")
        self.assertEqual([], self.complaints(browser))

    def check_captions(self, browser: Any, root: str) -> None:
        """The menu offers the language, and what is chosen is shown in its time; the playlists keep the rules."""
        from selenium.webdriver.support.ui import Select

        menu = browser.find_element("id", "captions")
        eventually("the captions menu", menu.is_displayed)
        Select(menu).select_by_visible_text("English")
        eventually("a caption to be shown", lambda: browser.execute_script(CAPTIONS) == ["(sound)"])
        self.save_screenshot(browser, "captions.png")
        url = f"{root}/live/marked/master.m3u8"
        command = [sys.executable, "-m", "rapidrtmp", "check", url, "--seconds", "6", "--json"]
        checked = subprocess.run(command, env=server_environment(), capture_output=True, check=False)
        found = [each for each in json.loads(checked.stdout)["violations"] if each["severity"] == "error"]
        self.assertEqual([], found)

    def cues(self, browser: Any, least: int) -> list[dict[str, Any]]:
        """The cues that the page has, if there are so many."""
        found: list[dict[str, Any]] = browser.execute_script(CUES)
        return found if len(found) >= least else []
