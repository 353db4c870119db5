"""
The pages people look at: a player for each stream, an index of what is live, and the few files these need.

A page holds no script of its own and no secret: what the script must know stands in ``data-`` attributes, and the
content security policy lets nothing run but our own files and the one pinned player library.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Container, Iterable, Mapping
from functools import cached_property
from html import escape
from importlib.resources import files
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rapidrtmp.errors import NotFoundError
from rapidrtmp.http.headers import accepts_gzip, etag_matches
from rapidrtmp.http.pages import page_response, player_library, read_template
from rapidrtmp.interfaces import IStreamDirectory, Request, Response, json_response
from rapidrtmp.live.poster import write_poster
from rapidrtmp.live.registry import Registry
from rapidrtmp.live.stream import NOTICE, LiveStream, StreamState
from rapidrtmp.media import VideoConfig
from rapidrtmp.names import MULTIVARIANT_PLAYLIST, POSTER, StreamName
from rapidrtmp.playback.admission import Admission
from rapidrtmp.playback.responder import MEDIA_PLAYLIST
from rapidrtmp.support.clock import now_ms

__all__ = ["VIEWERS", "Pages", "StreamsElsewhere", "poster_response"]

#: What the player page tells of a stream that has nothing but its playlists.
NO_DATA: Mapping[str, str] = MappingProxyType({})
#: What the player page asks for below its stream: how many watch.
VIEWERS = "viewers.json"
#: A cache may answer for a while, so that a thousand pages ask once.
BRIEFLY = {"Cache-Control": "public, max-age=3"}
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_WORDS = {
    StreamState.STARTING: "starting",
    StreamState.LIVE: "live",
    StreamState.INTERRUPTED: "interrupted",
    StreamState.ENDED: "ended",
}


class _StaticFile:
    """One file of the package, read once."""

    def __init__(self, body: bytes, content_type: str) -> None:
        self.body = body
        self.content_type = content_type
        self.etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'

    @cached_property
    def gzipped(self) -> bytes:
        return gzip.compress(self.body, compresslevel=9, mtime=0)


def _static_files() -> dict[str, _StaticFile]:
    found = {}
    for file in files("rapidrtmp.web").joinpath("static").iterdir():
        content_type = _TYPES.get(file.name[file.name.rfind(".") :])
        if content_type is not None:
            found[file.name] = _StaticFile(file.read_bytes(), content_type)
    return found


class StreamsElsewhere(Protocol):
    """The streams of other processes of the server."""

    def streams_elsewhere(self) -> Deferred[list[Mapping[str, Any]]]:
        """Those that there are, as the API describes them. It never fails."""

    def poster_elsewhere(self, name: StreamName) -> Deferred[bytes]:
        """The picture of one. Fails with ``NotFoundError`` if there is none."""


class _Listed(NamedTuple):
    """A stream as the index shows it."""

    name: StreamName
    state: StreamState
    size: str
    viewers: int
    notice: str = ""

    @classmethod
    def of_description(cls, said: Mapping[str, Any]) -> _Listed:
        """One of another process."""
        size = str(said["resolution"] or "").replace("x", "×")
        name = StreamName(said["app"], said["streamKey"])
        return cls(name, StreamState(said["state"]), size, int(said["viewers"]))


class Pages:
    """
    Answers what browsers show.

    :param apps: the names of all applications.
    :param admission: decides who may watch.
    :param data: what the player page tells its script: attributes, and the names below the stream that they hold.
    :param clock: the clock viewers are counted by.
    :param streams: finds streams for viewers, those of other processes too; without it the registry does.
    :param elsewhere: tells of those; ``None`` where there are none.
    """

    def __init__(
        self,
        registry: Registry,
        apps: Container[str],
        clock: IReactorTime,
        admission: Admission,
        data: Mapping[str, str] = NO_DATA,
        streams: IStreamDirectory | None = None,
        elsewhere: StreamsElsewhere | None = None,
    ) -> None:
        self._elsewhere = elsewhere
        self._streams: IStreamDirectory = registry if streams is None else streams
        self._admission = admission
        self._registry = registry
        self._apps = apps
        self._clock = clock
        self._data = data
        self._files = _static_files()
        self._player = read_template("player.html")
        self._index = read_template("index.html")
        self._obs = read_template("obs.html")

    def player(self, request: Request, app: str, key: str) -> Response | Deferred[Response]:
        """
        A page that plays a stream, or waits for it: ``GET /APP/KEY``, or ``GET /APP/KEY/~TOKEN/``.

        :raises BadNameError: there can be no such stream.
        :raises NotFoundError: there is no such application.
        And what :meth:`Admission.check <rapidrtmp.playback.admission.Admission.check>` raises.
        """
        return self._playing(request, app, key, is_embedded=False)

    def embed(self, request: Request, app: str, key: str) -> Response | Deferred[Response]:
        """The player alone, which fills a frame of another page: ``GET /embed/APP/KEY``; as :meth:`player`."""
        return self._playing(request, app, key, is_embedded=True)

    def _playing(self, request: Request, app: str, key: str, *, is_embedded: bool) -> Response | Deferred[Response]:
        name = StreamName.checked(app, key)
        if app not in self._apps:
            raise NotFoundError(f"there is no application {app!r} here")
        waiting = self._admission.check(request, name)
        below, root = ("", "../../../") if request.is_token_in_path else (f"{name.key}/", "../")
        if is_embedded:
            root = f"../{root}"
        if waiting is None:
            return self._player_page(name, below, root, is_embedded=is_embedded)
        return waiting.addCallback(lambda _: self._player_page(name, below, root, is_embedded=is_embedded))

    def _player_page(self, name: StreamName, below: str, root: str, *, is_embedded: bool) -> Response:
        """
        The page, which holds no token: the same for all who may see it.

        :param below: where the stream's media is, as seen from the page that is not embedded.
        :param root: the root of all, as seen from the page.
        """
        library, foreign_script = player_library(f"{root}static")
        body = self._player.substitute(
            key=escape(name.key),
            kind="player embed" if is_embedded else "player",
            root=root,
            viewers=escape(f"{below}{VIEWERS}"),
            multivariant=escape(f"{below}{MULTIVARIANT_PLAYLIST}"),
            media=escape(f"{below}{MEDIA_PLAYLIST}"),
            notice=escape(f"{below}{NOTICE}"),
            data="".join(f' data-{what}="{escape(f"{below}{file}")}"' for what, file in self._data.items()),
            library=library,
        )
        caching = "public, max-age=60" if self._admission.is_open(name.app) else "private, no-cache"
        return page_response(body, foreign_script=foreign_script, cache_control=caching, is_framed=is_embedded)

    def viewers(self, request: Request, app: str, key: str) -> Response | Deferred[Response]:
        """
        How many watch a stream, for its page: ``GET /APP/KEY/viewers.json``. To ask is not to watch.

        :raises BadNameError: there can be no such stream.
        :raises NotFoundError: there is none of that name.
        And what :meth:`Admission.check <rapidrtmp.playback.admission.Admission.check>` raises.
        """
        name = StreamName.checked(app, key)
        waiting = self._admission.check(request, name)
        return self._count(name) if waiting is None else waiting.addCallback(lambda _: self._count(name))

    def _count(self, name: StreamName) -> Response:
        stream = self._streams.find(name)
        if stream is None:
            raise NotFoundError(f"there is no stream {name}")
        return json_response({"viewers": stream.viewers.count(now_ms(self._clock))}, headers=BRIEFLY)

    def poster(self, request: Request, app: str, key: str) -> Response | Deferred[Response]:
        """
        The newest keyframe of a stream: ``GET /APP/KEY/poster.mp4``; as :meth:`viewers`, and no way to watch either.
        """
        name = StreamName.checked(app, key)
        waiting = self._admission.check(request, name)
        return self._show(name) if waiting is None else waiting.addCallback(lambda _: self._show(name))

    def _show(self, name: StreamName) -> Response | Deferred[Response]:
        stream = self._registry.find(name)
        if self._elsewhere is None or (stream is not None and not stream.has_ended):
            return poster_response(stream, name, BRIEFLY)
        headers = {"Content-Type": "video/mp4", **BRIEFLY}
        return self._elsewhere.poster_elsewhere(name).addCallback(lambda body: Response(200, headers, body))

    def playlist_redirect(self, request: Request, app: str, key: str) -> Response:
        """
        Lead to the playlist: ``GET /APP/KEY.m3u8``, as other servers name it.

        :raises BadNameError: there can be no such stream.
        """
        return _redirect(request, f"{StreamName.checked(app, key).key}/{MEDIA_PLAYLIST}")

    def player_redirect(self, request: Request, app: str, key: str) -> Response:
        """
        Lead to the page: ``GET /APP/KEY/``.

        :raises BadNameError: there can be no such stream.
        """
        return _redirect(request, f"../{StreamName.checked(app, key).key}")

    def token_redirect(self, request: Request, app: str, key: str) -> Response:
        """
        Lead to the page with a token: ``GET /APP/KEY/~TOKEN``, which lacks the slash.

        :raises BadNameError: there can be no such stream.
        """
        StreamName.checked(app, key)
        return Response(307, {"Location": f"~{quote(request.token, safe='~')}/", "Cache-Control": "no-store"})

    def index(self, _request: Request) -> Response | Deferred[Response]:
        """What is live now: ``GET /``."""
        own = [self._listed(stream) for stream in self._registry]
        if self._elsewhere is None:
            return self._index_page(own)
        others = self._elsewhere.streams_elsewhere()
        return others.addCallback(lambda found: self._index_page([*own, *map(_Listed.of_description, found)]))

    def _index_page(self, listed: Iterable[_Listed]) -> Response:
        live = {stream.name: stream for stream in listed if stream.state is not StreamState.ENDED}
        rows = "".join(self._row(live[name]) for name in sorted(live))
        body = self._index.substitute(rows=rows or '<li class="empty">Nothing is live right now.</li>')
        return page_response(body, foreign_script="", cache_control="no-store")

    def obs(self, _request: Request) -> Response:
        """A page that writes the configuration of OBS's multitrack output: ``GET /obs``. It asks the server nothing."""
        return page_response(self._obs.substitute(), foreign_script="", cache_control="public, max-age=300")

    def static(self, request: Request, name: str) -> Response:
        """
        A file that a page needs: ``GET /static/NAME``.

        :raises NotFoundError: there is none of that name.
        """
        file = self._files.get(name)
        if file is None:
            raise NotFoundError("there is no such file")
        gzipped = accepts_gzip(request.header("accept-encoding"))
        headers = {
            "Content-Type": file.content_type,
            "Cache-Control": "public, max-age=300",
            "ETag": f'{file.etag[:-1]}-gzip"' if gzipped else file.etag,
            "Vary": "Accept-Encoding",
        }
        if etag_matches(request.header("if-none-match"), headers["ETag"]):
            del headers["Content-Type"]
            return Response(304, headers)
        if gzipped:
            headers["Content-Encoding"] = "gzip"
        return Response(200, headers, file.gzipped if gzipped else file.body)

    def icon(self, _request: Request) -> Response:
        """Nothing: ``GET /favicon.ico``. The pages name an icon of their own."""
        return Response(204, {"Cache-Control": "public, max-age=86400"})

    def _listed(self, stream: LiveStream) -> _Listed:
        video = next((track.config for track in stream.tracks if isinstance(track.config, VideoConfig)), None)
        size = f"{video.width}×{video.height}" if video else ""
        viewers = stream.viewers.count(now_ms(self._clock))
        return _Listed(stream.name, stream.state, size, viewers, stream.notice)

    def _row(self, stream: _Listed) -> str:
        facts = [
            _WORDS[stream.state],
            stream.size,
            f"{stream.viewers} viewer{'' if stream.viewers == 1 else 's'}",
            stream.notice,
        ]
        path = escape(str(stream.name))
        picture = (
            f'<video class="still" data-src="{path}/{POSTER}" muted playsinline preload="auto" aria-hidden="true"'
            ' tabindex="-1"></video>'
            if self._admission.is_open(stream.name.app)
            else ""
        )
        return (
            f'<li><a href="{path}">{picture}<span class="name">{path}</span>'
            f'<span class="facts">{escape(" · ".join(filter(None, facts)))}</span></a></li>'
        )


def poster_response(stream: LiveStream | None, name: StreamName, caching: Mapping[str, str]) -> Response:
    """The picture of a stream. :raises NotFoundError: there is no such stream, or none of its keyframes is kept."""
    keyframe = stream.newest_keyframe if stream is not None else None
    if keyframe is None:
        raise NotFoundError(f"there is no picture of {name}")
    return Response(200, {"Content-Type": "video/mp4", **caching}, write_poster(keyframe))


def _redirect(request: Request, path: str) -> Response:
    """Lead to where something is, relative to where it was asked for; the query is kept."""
    location = f"{path}?{request.query}" if request.query else path
    return Response(307, {"Location": location, "Cache-Control": "public, max-age=60"})
