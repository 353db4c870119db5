"""
The players of the web, side by side in one Chromium, as pages elsewhere embed them: what each viewer gets.

Each player has a frame of another site, and so a process and a main thread of its own. Its library comes from npm when
the tests run, the newest there is, so that what players do next is not hidden by what was pinned here.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from twisted.trial.unittest import SkipTest

from rapidrtmp.http import hlsjs
from tests.e2e.harness import new_folder

__all__ = ["PLAYERS", "Figures", "Player", "Stage"]

NPM_S = 60.0
PAGE = Path(__file__).with_name("players.html")
#: Chromium resolves the names of the frames' sites to this machine.
CHROMIUM_FLAGS = ("--site-per-process", "--host-resolver-rules=MAP *.test 127.0.0.1")
_GATHER = (
    "addEventListener('message', ({data}) => { figures[data.player] = data; }); const figures = window.figures = {};"
)


class Player(NamedTuple):
    """
    A player.

    :ivar name: of the frame's site.
    :ivar kind: how the page starts it: the name of an npm package, or ``native``.
    :ivar wanted: which version, as npm takes it.
    :ivar script: what the page loads, in the package.
    :ivar latency: ``low`` if it is to play with low latency where it can.
    """

    name: str
    kind: str
    wanted: str = ""
    script: str = ""
    latency: str = "low"


PLAYERS = {
    player.name: player
    for player in (
        Player("pinned", "hls.js", hlsjs.VERSION, "dist/hls.min.js"),
        Player("previous", "hls.js", "1.6", "dist/hls.min.js"),
        Player("latest", "hls.js", "latest", "dist/hls.min.js"),
        Player("shaka", "shaka-player", "latest", "dist/shaka-player.compiled.js"),
        Player("shaka-ordinary", "shaka-player", "latest", "dist/shaka-player.compiled.js", "ordinary"),
        Player("videojs", "video.js", "latest", "dist/video.min.js"),
        Player("chromium", "native"),
    )
}


def fetch_script(player: Player) -> Path:
    """
    The player's script, by npm.

    :raises SkipTest: there is no npm, or it cannot get the package.
    """
    return fetch_package(player.kind, player.wanted) / player.script


def fetch_package(name: str, wanted: str) -> Path:
    """A package of npm, fetched once, as is the news that it cannot be. :raises SkipTest: that."""
    fetched = _fetch_package(name, f"{name}@{wanted}")
    if isinstance(fetched, str):
        raise SkipTest(fetched)
    return fetched


@functools.cache
def _fetch_package(name: str, package: str) -> Path | str:
    """The folder of a package, or the reason why it is not there."""
    npm = shutil.which("npm")
    if npm is None:
        return f"{package} comes by npm, which is not installed"
    folder = new_folder("npm")
    command = [npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", package]
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=NPM_S)
    except subprocess.CalledProcessError as error:
        return f"npm cannot get {package}: {error.stderr.decode(errors='replace')[-300:]}"
    except subprocess.TimeoutExpired:
        return f"npm did not get {package} within {NPM_S:.0f} s"
    return folder / "node_modules" / name


@dataclass(frozen=True)
class Figures:
    """
    What a viewer has got so far.

    :ivar current_time: the position that is shown, in seconds.
    :ivar decoded: how many pictures were decoded.
    :ivar width: of the picture.
    :ivar blocked_ms: how long the page's main thread did nothing else, at most.
    :ivar errors: what playing ended with, if it has.
    """

    current_time: float
    decoded: int
    width: int
    blocked_ms: float
    errors: Sequence[str]

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> Figures:
        """From what a frame tells."""
        return cls(
            message["currentTime"], message["decoded"], message["width"], message["blockedMs"], message["errors"]
        )


class Stage:
    """
    The pages around the players, at addresses of their own.

    :param players: those whose scripts are there.
    """

    def __init__(self, players: Sequence[Player]) -> None:
        self._players = players
        files = {f"/{player.name}.js": fetch_script(player) for player in players if player.script}
        self._pages = _serve({"/player": PAGE, **files})
        self._port = self._pages.server_address[1]

    def close(self) -> None:
        """End it."""
        self._pages.shutdown()
        self._pages.server_close()

    def show(self, browser: Any, source: str | Mapping[str, str]) -> None:
        """Have all of them play this URL, or each its own, by the player's name."""
        browser.get(f"http://stage.test:{self._port}/")
        browser.execute_script(_GATHER)
        browser.execute_script(
            "for (const url of arguments[0]) { const frame = document.createElement('iframe'); frame.width = 320; "
            "frame.height = 180; frame.allow = 'autoplay'; frame.src = url; document.body.append(frame); }",
            [self._url(each, source if isinstance(source, str) else source[each.name]) for each in self._players],
        )

    def _url(self, player: Player, source: str) -> str:
        root = f"http://{player.name}.test:{self._port}"
        library = f"{root}/{player.name}.js" if player.script else ""
        query = {
            "name": player.name,
            "player": player.kind,
            "latency": player.latency,
            "library": library,
            "source": source,
        }
        return f"{root}/player?{urlencode(query)}"

    def figures(self, browser: Any) -> dict[str, Figures]:
        """What each of them has reported last, by name."""
        messages = browser.execute_script("return window.figures")
        return {name: Figures.read(message) for name, message in messages.items()}


def _serve(files: Mapping[str, Path]) -> ThreadingHTTPServer:
    """Serve these, and an empty page as ``/``, in a thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            body = files[path].read_bytes() if path in files else b"<!DOCTYPE html><title>Players</title>"
            self.send_response(HTTPStatus.OK if path == "/" or path in files else HTTPStatus.NOT_FOUND)
            self.send_header("Content-Type", "text/javascript" if path.endswith(".js") else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return server
