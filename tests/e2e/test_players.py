"""
The players of the web play what we serve: hls.js as pinned, before and after; Shaka, video.js, Chromium's own.

All of them play side by side, one kind of stream after the other, then on when the encoder has come back with another
picture, when the server was killed, and when it was stopped and started again seconds later. The first test that asks
makes it happen; what was seen are facts, and each test is a claim about one player.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SkipTest

from tests.e2e.browser import find_browser, open_browser
from tests.e2e.ffmpeg import FFMPEG, Clip
from tests.e2e.harness import EndToEndTest, Publisher, Server, eventually, new_folder
from tests.e2e.players import CHROMIUM_FLAGS, PLAYERS, Figures, Stage, fetch_script

_Base = EndToEndTest if TYPE_CHECKING else object
SETTINGS = """
[live]
grace = "30s"
[apps.plain]
sinks = ["hls:part=0"]
"""
FRAME_RATE, PLAYED_S, DEADLINE_S = 30, 6, 90.0
#: How long the server is away when it is stopped and started again.
AWAY_S = 5.0
#: What the encoder sends at first, when it has come back, and to the next servers: the width says which it is.
CLIPS = [
    Clip(f"width-{width}", seconds=120, frame_rate=Fraction(FRAME_RATE), sample_rate=48_000, size=f"{width}x{height}")
    for width, height in ((320, 180), (384, 216), (256, 144), (448, 252))
]
#: By the name of the case.
SOURCES = {
    "live": "plain/show/master.m3u8",
    "low latency": "live/show/index.m3u8",
    "multivariant": "live/show/master.m3u8",
}
#: What a player does not do, by case and player; each of them begins anew when its page is loaded again.
FAULTS = dict.fromkeys(
    (("return", "shaka"), ("kill", "shaka"), ("restart", "shaka")),
    "in sequence mode, low-latency Shaka 5.2 stands still behind a discontinuity",
)
#: Of the pictures of the time that was shown; and of how long the page may stand still.
LEAST_DECODED, MOST_BLOCKED_MS = Fraction(9, 10), 2_000


@dataclass
class Run:
    """
    What one player got in one case.

    :ivar first: when it had begun; ``None`` where it never did.
    :ivar last: when it had played for long enough, or at the end.
    """

    first: Figures | None = None
    last: Figures | None = None

    @property
    def has_played(self) -> bool:
        """Whether it has played for long enough, and shown as many pictures as are sent in that time."""
        if self.first is None or self.last is None:
            return False
        time_s, decoded = self.last.current_time - self.first.current_time, self.last.decoded - self.first.decoded
        return time_s > PLAYED_S and decoded > FRAME_RATE * PLAYED_S


@dataclass
class Screening:
    """
    All that was seen.

    :ivar runs: by case and player.
    :ivar missing: why a player could not be had, by name.
    """

    runs: dict[tuple[str, str], Run] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


_made: list[Screening | Exception] = []


def screening() -> Screening:
    """The screening, made when first asked for. :raises Exception: what went wrong with it, to all who ask."""
    if not _made:
        try:
            _made.append(_Projection().run())
        except Exception as error:
            _made.append(error)
    if isinstance(_made[0], Exception):
        raise _made[0]
    return _made[0]


class _Projection:
    """One server and those that take its place, one browser, all players."""

    def __init__(self) -> None:
        self._seen = Screening()
        self._paths = find_browser()
        for name, player in PLAYERS.items():
            try:
                if player.script:
                    fetch_script(player)
            except SkipTest as reason:
                self._seen.missing[name] = str(reason)
        self._players = [player for name, player in PLAYERS.items() if name not in self._seen.missing]
        self._publishers: list[Publisher] = []

    def run(self) -> Screening:
        """Have everything played."""
        server = Server(new_folder("players"), SETTINGS)
        servers, stage = [server], Stage(self._players)
        browser = open_browser(self._paths, CHROMIUM_FLAGS)
        try:
            if not _plays_hls(browser):
                self._seen.missing["chromium"] = "this Chromium has no HLS of its own"
            urls = [server.issue_token("show", app).publish_url for app in ("live", "plain")]
            self._publish(CLIPS[0], urls)
            for case, source in SOURCES.items():
                eventually(f"{source} to be there", lambda source=source: _has_segments(server, source))
                stage.show(browser, f"{server.root}/{source}")
                self._watch(case, lambda: stage.figures(browser), lambda figures: figures.decoded > 0)
            browser.save_screenshot("players.png")
            self._publish(CLIPS[1], urls)
            self._watch("return", lambda: stage.figures(browser), _shows(CLIPS[1]))
            server.kill()
            servers.append(_again(server))
            self._publish(CLIPS[2], urls)
            self._watch("kill", lambda: stage.figures(browser), _shows(CLIPS[2]))
            servers[-1].stop()
            stopped_s = time.monotonic()
            eventually("some seconds to pass", lambda: time.monotonic() > stopped_s + AWAY_S)
            servers.append(_again(server))
            self._publish(CLIPS[3], urls)
            self._watch("restart", lambda: stage.figures(browser), _shows(CLIPS[3]))
            browser.save_screenshot("players-restarted.png")
            return self._seen
        finally:
            browser.quit()
            stage.close()
            for process in (*self._publishers, *servers):
                process.kill()

    def _plays(self, case: str, player: str) -> bool:
        return player not in self._seen.missing and (case, player) not in FAULTS

    def _publish(self, clip: Clip, urls: list[str]) -> None:
        for publisher in self._publishers:
            publisher.kill()
        self._publishers = [Publisher(FFMPEG, clip.path, url) for url in urls]

    def _watch(self, case: str, look: Callable[[], Mapping[str, Figures]], begun: Callable[[Figures], bool]) -> None:
        """Wait until each player has begun, and has then played for long enough; or for longer than that can take."""
        runs = {player.name: self._seen.runs.setdefault((case, player.name), Run()) for player in self._players}

        def all_played() -> bool:
            for name, figures in look().items():
                run = runs[name]
                if run.first is None and begun(figures):
                    run.first = figures
                if not run.has_played:
                    run.last = figures
            return all(run.has_played for name, run in runs.items() if self._plays(case, name))

        try:
            eventually("all to play", all_played, DEADLINE_S)
        except AssertionError:
            pass  # a page that did not is known by its figures


def _again(server: Server) -> Server:
    ports = (server.rtmp_port, int(server.root.rpartition(":")[2]))
    return Server(server.folder, server.settings, ports=ports)


def _has_segments(server: Server, source: str) -> bool:
    """Whether there is what players begin with: three target durations."""
    media = server.get(f"/{source.rpartition('/')[0]}/index.m3u8")
    return media.status == 200 and media.text.count("#EXTINF") >= 4


def _shows(clip: Clip) -> Callable[[Figures], bool]:
    width = int(clip.size.partition("x")[0])
    return lambda figures: figures.width == width


def _plays_hls(browser: Any) -> bool:
    return bool(
        browser.execute_script("return document.createElement('video').canPlayType('application/vnd.apple.mpegurl')")
    )


class PlayerClaims(_Base):
    """
    Claims about one player.

    :cvar player: its name.
    """

    player: str

    def check_steady(self, case: str) -> None:
        """It has played nearly all pictures of the time it showed."""
        run = self.check(case)
        assert run.first is not None and run.last is not None
        self.assertEqual([], run.last.errors)
        played_s = run.last.current_time - run.first.current_time
        self.assertGreater(run.last.decoded - run.first.decoded, FRAME_RATE * LEAST_DECODED * (played_s - 1), str(run))

    def check(self, case: str) -> Run:
        """It has played for long enough, and its page never stood still."""
        seen = screening()
        if self.player in seen.missing:
            raise SkipTest(seen.missing[self.player])
        if (case, self.player) in FAULTS:
            raise SkipTest(FAULTS[case, self.player])
        run = seen.runs[case, self.player]
        self.assertTrue(run.has_played, f"{self.player}: {run}")
        assert run.first is not None and run.last is not None
        self.assertLess(run.last.blocked_ms, MOST_BLOCKED_MS)
        return run

    def test_live_stream_is_played(self) -> None:
        """An ordinary live stream."""
        self.check_steady("live")

    def test_low_latency_by_media_playlist(self) -> None:
        """Low-latency HLS by its media playlist."""
        self.check_steady("low latency")

    def test_low_latency_by_multivariant_playlist(self) -> None:
        """Low-latency HLS by its multivariant playlist."""
        self.check_steady("multivariant")

    def test_plays_on_after_a_return(self) -> None:
        """It plays on when the encoder has come back and sends another size."""
        self.check("return")

    def test_plays_on_after_a_kill(self) -> None:
        """It plays on when the server was killed and started again."""
        self.check("kill")

    def test_plays_on_after_a_restart(self) -> None:
        """It plays on when the server was stopped, and started again five seconds later."""
        self.check("restart")


class PinnedHlsJsTests(PlayerClaims, EndToEndTest):
    """The hls.js of our own page."""

    player = "pinned"


class PreviousHlsJsTests(PlayerClaims, EndToEndTest):
    """The last hls.js 1.6."""

    player = "previous"


class LatestHlsJsTests(PlayerClaims, EndToEndTest):
    """The hls.js that npm gives today."""

    player = "latest"


class LowLatencyShakaTests(PlayerClaims, EndToEndTest):
    """Shaka Player with low latency, in its sequence mode."""

    player = "shaka"


class ShakaTests(PlayerClaims, EndToEndTest):
    """Shaka Player without low latency."""

    player = "shaka-ordinary"


class VideoJsTests(PlayerClaims, EndToEndTest):
    """video.js."""

    player = "videojs"


class ChromiumTests(PlayerClaims, EndToEndTest):
    """Chromium's own HLS, where it has it."""

    player = "chromium"
