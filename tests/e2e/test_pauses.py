"""
Encoders that do odd things for seconds while a viewer watches with hls.js in Chromium, who comes in the middle.

A microphone is off for ten seconds, a camera is, the clock of the sound goes back by two, and one encoder sends no IDR
picture but its first. All play side by side; what was seen are facts, and each test is a claim about one of them.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from threading import Thread
from typing import NamedTuple

from twisted.trial.unittest import SkipTest

from rapidrtmp.http import hlsjs
from tests.e2e.browser import find_browser, open_browser
from tests.e2e.ffmpeg import Clip
from tests.e2e.harness import EndToEndTest, Server, eventually, new_folder
from tests.e2e.players import CHROMIUM_FLAGS, Figures, Player, Stage
from tests.rtmp.client import HANDSHAKE, command, connect, message, publish

AUDIO, VIDEO = 8, 9
FRAME_RATE, SECONDS = 25, 36
#: When viewers come, and between when something is odd, in milliseconds of the clip.
COMES_MS, FROM_MS, UNTIL_MS = 8_000, 14_000, 24_000
CLIP = Clip("pauses", seconds=SECONDS, frame_rate=Fraction(FRAME_RATE), sample_rate=48_000)
OPEN_GOPS = Clip(
    "open-gops",
    seconds=SECONDS,
    frame_rate=Fraction(FRAME_RATE),
    sample_rate=48_000,
    b_frames=2,
    more=["-x264-params", f"open-gop=1:keyint={FRAME_RATE}:min-keyint={FRAME_RATE}:scenecut=0"],
)
#: A picture that stands still for longer is a freeze; nor may a viewer be further behind at the end than before.
MOST_FROZEN_S, MOST_LOST_S = 2.5, 3.0


class Tag(NamedTuple):
    """An FLV tag: of audio or video, when it is sent, and with which timestamp."""

    kind: int
    at_ms: int
    timestamp: int
    body: bytes

    @property
    def is_config(self) -> bool:
        """Whether it says how to decode the others."""
        return self.body[1:2] == b"\0"


Change = Callable[[Tag], Tag | None]


def _microphone_off(tag: Tag) -> Tag | None:
    return None if tag.kind == AUDIO and FROM_MS <= tag.at_ms < UNTIL_MS else tag


def _camera_off(tag: Tag) -> Tag | None:
    """Off for a little longer: what it sends first refers to what it has not sent."""
    return None if tag.kind == VIDEO and FROM_MS <= tag.at_ms < UNTIL_MS + 400 else tag


def _clock_back(tag: Tag) -> Tag:
    is_late = tag.kind == AUDIO and tag.at_ms >= FROM_MS and not tag.is_config
    return tag._replace(timestamp=tag.timestamp - 2_000) if is_late else tag


#: By stream: what is sent, and what is changed about it.
STREAMS: Mapping[str, tuple[Clip, Change]] = {
    "microphone": (CLIP, _microphone_off),
    "camera": (CLIP, _camera_off),
    "clock": (CLIP, _clock_back),
    "open": (OPEN_GOPS, lambda tag: tag),
}


def _tags(clip: Clip) -> Iterator[Tag]:
    flv, at = clip.path.read_bytes(), 13
    while at < len(flv):
        size = int.from_bytes(flv[at + 1 : at + 4], "big")
        time_ms = int.from_bytes(flv[at + 4 : at + 7], "big") | flv[at + 7] << 24
        if flv[at] in (AUDIO, VIDEO):
            yield Tag(flv[at], time_ms, time_ms, flv[at + 11 : at + 11 + size])
        at += 15 + size


class ScriptedPublisher(Thread):
    """Sends tags in real time, each when it is due."""

    def __init__(self, server: Server, key: str, clip: Clip, change: Change) -> None:
        super().__init__(daemon=True)
        self._tags = [changed for tag in _tags(clip) if (changed := change(tag)) is not None]
        self._socket = socket.create_connection(("127.0.0.1", server.rtmp_port), 10)
        token = server.issue_token(key).token
        opening = connect() + command("createStream", 4) + publish(f"{key}?token={token}")
        self._socket.sendall(HANDSHAKE + opening)

    def run(self) -> None:
        """Send all; the connection stays."""
        begun_s = time.monotonic()
        for tag in self._tags:
            time.sleep(max(0.0, begun_s + tag.at_ms / 1000 - time.monotonic()))
            self._socket.sendall(message(tag.kind, tag.body, timestamp=tag.timestamp))

    def close(self) -> None:
        """End it."""
        self._socket.close()


@dataclass
class Watched:
    """
    What one viewer got.

    :ivar figures: with the moment of each, in seconds since the encoders began; from the first picture on.
    """

    figures: list[tuple[float, Figures]] = field(default_factory=list)

    @property
    def frozen_s(self) -> float:
        """For how long the position stood still, at most."""
        longest, since = 0.0, self.figures[0]
        for at_s, figures in self.figures:
            if figures.current_time > since[1].current_time:
                since = at_s, figures
            longest = max(longest, at_s - since[0])
        return longest

    @property
    def lost_s(self) -> float:
        """By how much the viewer is further behind the encoder at the end than before anything was odd."""
        before = max(at_s - each.current_time for at_s, each in self.figures if at_s < FROM_MS / 1000 - 1)
        at_s, last = self.figures[-1]
        return at_s - last.current_time - before

    def decoded(self, from_s: float, until_s: float) -> int:
        """How many pictures were decoded between two moments."""
        counts = [each.decoded for at_s, each in self.figures if from_s <= at_s <= until_s]
        return counts[-1] - counts[0]


_made: list[Mapping[str, Watched] | Exception] = []


def watched(stream: str) -> Watched:
    """What the viewer of one stream got. :raises Exception: what went wrong with it, to all who ask."""
    if not _made:
        try:
            _made.append(_watch())
        except Exception as error:
            _made.append(error)
    if isinstance(_made[0], Exception):
        raise _made[0]
    return _made[0][stream]


def _watch() -> Mapping[str, Watched]:
    paths = find_browser()
    stage = Stage([Player(name, "hls.js", hlsjs.VERSION, "dist/hls.min.js") for name in STREAMS])
    server, browser = Server(new_folder("pauses")), open_browser(paths, CHROMIUM_FLAGS)
    publishers = [ScriptedPublisher(server, key, *what) for key, what in STREAMS.items()]
    seen = {name: Watched() for name in STREAMS}
    try:
        begun_s = time.monotonic()
        for publisher in publishers:
            publisher.start()
        eventually("the viewers to come", lambda: time.monotonic() > begun_s + COMES_MS / 1000)
        stage.show(browser, {name: f"{server.root}/live/{name}/index.m3u8" for name in STREAMS})

        def look() -> bool:
            at_s = time.monotonic() - begun_s
            for name, figures in stage.figures(browser).items():
                if figures.decoded:
                    seen[name].figures.append((at_s, figures))
            return at_s > SECONDS

        eventually("the encoders to have sent all", look, SECONDS + 10)
        browser.save_screenshot("pauses.png")
        return seen
    finally:
        browser.quit()
        stage.close()
        for publisher in publishers:
            publisher.close()
        server.kill()


class PauseTests(EndToEndTest):
    """What viewers saw; a picture that is decoded twice counts twice."""

    def check(self, stream: str) -> Watched:
        """It was played without an error, nothing froze, and the latency is what it was."""
        seen = watched(stream)
        if not seen.figures or seen.figures[0][0] > FROM_MS / 1000 - 2:
            raise SkipTest("this machine is too slow today: no picture before anything was odd")
        self.assertEqual([], seen.figures[-1][1].errors)
        self.assertLess(seen.frozen_s, MOST_FROZEN_S)
        self.assertLess(seen.lost_s, MOST_LOST_S)
        return seen

    def check_pictures(self, seen: Watched, from_s: float, until_s: float) -> None:
        """Nearly all pictures of a time were decoded."""
        self.assertGreater(seen.decoded(from_s, until_s), 0.8 * FRAME_RATE * (until_s - from_s))

    def test_microphone_off_plays_on(self) -> None:
        """The picture plays on while the microphone is off, and when it is on again."""
        self.check_pictures(self.check("microphone"), FROM_MS / 1000, SECONDS - 1)

    def test_camera_off_plays_on(self) -> None:
        """The last picture stands while the camera is off, the sound plays on, and pictures come again."""
        seen = self.check("camera")
        self.check_pictures(seen, UNTIL_MS / 1000 + 4, SECONDS - 1)

    def test_clock_of_the_sound(self) -> None:
        """A clock of the sound that goes back by two seconds is not to be noticed."""
        self.check_pictures(self.check("clock"), FROM_MS / 1000 - 1, SECONDS - 1)

    def test_open_gops_show_pictures(self) -> None:
        """A viewer who comes when the only IDR picture is long gone sees the pictures."""
        self.check_pictures(self.check("open"), FROM_MS / 1000 - 1, SECONDS - 1)
