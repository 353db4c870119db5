"""
mpegts.js in Chromium plays our FLV: over HTTP/1.1, HTTP/2 and WebSocket, picture and sound, one of them alone, with
Opus, and in another size.

All pages play at the same time. Then the encoder of the first stream is killed and comes back with another size, and it
stops until the stream has ended, and begins once more. The first test that asks makes it happen.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.e2e.browser import find_browser, open_browser
from tests.e2e.ffmpeg import FFMPEG, Clip
from tests.e2e.harness import TWISTD, EndToEndTest, eventually, free_port, new_folder
from tests.e2e.players import CHROMIUM_FLAGS, Figures, Player, Stage

SETTINGS = """
[live]
grace = "5s"
"""
RATE = Fraction(15)
SMALL = Clip("flv-320", seconds=90, frame_rate=RATE, sample_rate=48_000, size="320x180")
LARGE = Clip("flv-448", seconds=90, frame_rate=RATE, sample_rate=48_000, size="448x252")
SILENT = Clip("flv-silent", seconds=90, frame_rate=RATE)
SOUND = Clip("flv-sound", seconds=90, sample_rate=48_000)
OPUS = Clip("flv-opus", seconds=90, frame_rate=RATE, sample_rate=48_000, more=("-c:a", "libopus"))
#: By what the browser got its page.
VERSION = "return performance.getEntriesByType('navigation')[0].nextHopProtocol"
#: How far they play before something happens.
PLAYED_S, DEADLINE_S = 3.0, 40.0
#: By player: the stream, and the scheme of its URL.
SOURCES = {
    "http": ("both", "http"),
    "websocket": ("both", "ws"),
    "silent": ("silent", "https"),
    "sound": ("sound", "ws"),
    "http2": ("both", "https"),
    "opus": ("opus", "http"),
}
BOTH = [name for name, (key, _) in SOURCES.items() if key == "both"]


#: mpegts.js keeps the newest picture back until the next one tells how long it is shown. Where the encoder has gone
#: right behind a keyframe, the decoder gets that after the configuration of the next size, and the page connects again.
KEPT_BACK = ("PIPELINE_ERROR_DECODE", "MediaMSEError", "notifyBufferedPositionChanged")


def unexpected(figures: Figures) -> list[str]:
    """The errors of a player, but for those of one picture that it has kept back."""
    known = [error for error in figures.errors if any(each in error for each in KEPT_BACK)]
    return [error for error in figures.errors if error not in known[: len(KEPT_BACK)]]


@dataclass
class Facts:
    """The figures of each player, by what had happened."""

    begun: Mapping[str, Figures] = field(default_factory=dict)
    returned: Mapping[str, Figures] = field(default_factory=dict)
    renewed: Mapping[str, Figures] = field(default_factory=dict)


class FlvPlayersTests(EndToEndTest):
    """See the module."""

    facts: Facts | None = None
    version = ""

    def play(self) -> Facts:
        """What was seen."""
        if FlvPlayersTests.facts is None:
            FlvPlayersTests.facts = self._play()
        return FlvPlayersTests.facts

    def _play(self) -> Facts:
        paths = find_browser()
        players = [Player(name, "mpegts.js", "1.8", "dist/mpegts.js") for name in SOURCES]
        stage = Stage(players)
        self.addCleanup(stage.close)
        door, port = self._make_door()
        server = self.start_server(SETTINGS, program=(*TWISTD, "--http", door))
        clips = {"both": SMALL, "silent": SILENT, "sound": SOUND, "opus": OPUS}
        urls = {name: server.issue_token(name).publish_url for name in clips}
        publishers = {name: self.publish(FFMPEG, clip.path, urls[name]) for name, clip in clips.items()}
        browser = open_browser(paths, (*CHROMIUM_FLAGS, "--ignore-certificate-errors"))
        self.addCleanup(browser.quit)
        plain = server.root.partition("://")[2]
        hosts = {"http": plain, "ws": plain, "https": f"127.0.0.1:{port}"}
        stage.show(
            browser, {name: f"{scheme}://{hosts[scheme]}/live/{key}.flv" for name, (key, scheme) in SOURCES.items()}
        )
        facts = Facts()
        facts.begun = self._wait(stage, browser, 0)
        publishers["both"].kill()
        publishers["both"] = self.publish(FFMPEG, LARGE.path, urls["both"])
        facts.returned = self._wait(stage, browser, LARGE_WIDTH)
        publishers["both"].kill()
        eventually("the end", lambda: server.get("/api/v1/streams/both").json()["state"] == "ended")
        self.publish(FFMPEG, SMALL.path, urls["both"])
        facts.renewed = self._wait(stage, browser, SMALL_WIDTH)
        browser.get(f"https://127.0.0.1:{port}/health")
        FlvPlayersTests.version = browser.execute_script(VERSION)
        return facts

    def _make_door(self) -> tuple[str, int]:
        """An HTTPS endpoint, which has HTTP/2, and its port."""
        openssl = shutil.which("openssl")
        if openssl is None:
            raise SkipTest("openssl is not installed")
        folder, port = new_folder("certificate"), free_port()
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
        subprocess.run([openssl, *made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        return f"ssl:{port}:privateKey={key}:certKey={certificate}:interface=127.0.0.1", port

    def _wait(self, stage: Stage, browser: Any, width: int) -> Mapping[str, Figures]:
        """The figures once those of the first stream show a picture of that width and all play on, or at last."""
        begun = stage.figures(browser)
        latest: list[Mapping[str, Figures]] = [begun]

        def look() -> bool:
            latest[0] = now = stage.figures(browser)
            watched = [name for name, (key, _) in SOURCES.items() if key == "both" or not width]
            return all(
                name in now
                and now[name].current_time > (begun[name].current_time if width and name in begun else 0) + PLAYED_S
                and (not width or now[name].width == width)
                for name in watched
            )

        try:
            eventually("the players", look, DEADLINE_S)
        except AssertionError:
            pass  # each test says what is missing of its player
        return latest[0]

    def assert_played(self, figures: Mapping[str, Figures], *names: str, width: int = 0) -> None:
        """They show what is live, and had no errors."""
        for name in names:
            self.assertIn(name, figures)
            seen = figures[name]
            self.assertEqual([], list(seen.errors), name)
            self.assertGreater(seen.current_time, PLAYED_S, f"{name}: {seen}")
            if width:
                self.assertEqual(width, seen.width, f"{name}: {seen}")
                self.assertGreater(seen.decoded, RATE, f"{name}: {seen}")

    def test_picture_and_sound_play(self) -> None:
        """Picture and sound play over HTTP/1.1, HTTP/2 and WebSocket."""
        self.assert_played(self.play().begun, *BOTH, width=SMALL_WIDTH)

    def test_one_kind_alone_plays(self) -> None:
        """So does a picture without sound, and sound without a picture: the flags say what comes."""
        self.assert_played(self.play().begun, "silent", width=SMALL_WIDTH)
        self.assert_played(self.play().begun, "sound")

    def test_opus_plays_beside_pictures(self) -> None:
        """So does Opus beside a picture."""
        self.assert_played(self.play().begun, "opus", width=SMALL_WIDTH)

    def test_browser_speaks_http2(self) -> None:
        """What is asked for over TLS comes by HTTP/2."""
        self.play()
        self.assertEqual("h2", self.version)

    def test_another_size_is_played_on(self) -> None:
        """When the encoder comes back with another size the same connections show it."""
        figures = self.play().returned
        for name in BOTH:
            self.assertEqual((LARGE_WIDTH, []), (figures[name].width, unexpected(figures[name])), figures[name])

    def test_stream_that_begins_again(self) -> None:
        """When the stream has ended, and begins anew, pages that connect again play it."""
        figures = self.play().renewed
        for name in BOTH:
            self.assertEqual((SMALL_WIDTH, []), (figures[name].width, unexpected(figures[name])), figures[name])


SMALL_WIDTH, LARGE_WIDTH = 320, 448
