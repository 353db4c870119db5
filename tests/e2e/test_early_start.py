"""A stream of which it is known how far apart its keyframes are is played before its first GOP is whole."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

from tests.e2e.browser import find_browser, open_browser
from tests.e2e.ffmpeg import FFMPEG, Clip
from tests.e2e.harness import EndToEndTest, eventually, server_environment
from tests.e2e.players import CHROMIUM_FLAGS, PLAYERS, Stage, fetch_script

#: The first GOP is long, so that players come while it is not whole.
SETTINGS = '[apps.live]\nsinks = ["hls:segment=6s:keyframes=6s"]\n'
FRAME_RATE = 30
GOP = str(6 * FRAME_RATE)
SHOW = Clip(
    "early",
    seconds=60,
    frame_rate=Fraction(FRAME_RATE),
    sample_rate=48_000,
    encoder=("-g", GOP, "-c:v", "libx264", "-preset", "ultrafast", "-keyint_min", GOP, "-sc_threshold", "0"),
)
#: Shaka 5.2 begins with no playlist that has parts alone, and video.js 8 waits long behind a gap.
NAMES = ("pinned", "previous")


class EarlyStartTests(EndToEndTest):
    def test_players_begin_before_the_first_segment(self) -> None:
        """hls.js that comes while the playlist has parts alone plays it, and nothing is held against that."""
        paths, server = find_browser(), self.start_server(SETTINGS)
        players = [PLAYERS[name] for name in NAMES]
        for player in players:
            fetch_script(player)
        stage = Stage(players)
        self.addCleanup(stage.close)
        browser = open_browser(paths, CHROMIUM_FLAGS)
        self.addCleanup(browser.quit)
        self.publish(FFMPEG, SHOW.path, server.issue_token("show").publish_url)
        url = f"{server.root}/live/show/index.m3u8"
        eventually("the stream to be there", lambda: server.get("/live/show/index.m3u8").status == 200)
        first = server.get("/live/show/index.m3u8").text
        self.assertEqual((1, 1), (first.count("#EXT-X-GAP"), first.count("#EXTINF")))
        command = [sys.executable, "-m", "rapidrtmp", "check", "--seconds", "10", url]
        check = subprocess.Popen(command, env=server_environment())
        self.addCleanup(check.kill)
        stage.show(browser, url)

        def all_play() -> bool:
            figures = stage.figures(browser)
            return len(figures) == len(players) and all(each.decoded > 3 * FRAME_RATE for each in figures.values())

        eventually("all to play", all_play, 40.0)
        for name, figures in stage.figures(browser).items():
            self.assertEqual([], figures.errors, name)
        self.assertEqual(0, check.wait(20))
