"""
Everything under ``/APP/KEY/NAME``: playlists, segments, parts, and the requests held for what is still to come.

A request finds its stream's shelf by name and is answered at once, or waits on the shelf with a Deferred of its own;
cancelling that Deferred, which happens when a player leaves, takes the waiter off the shelf. Held are

- a request for a playlist whose stream is just starting, up to ``early_hold_ms`` (then 404, worth asking again);
- a blocking reload (RFC 8216 bis, 6.2.5.2), up to three target durations (then 503; but while the publisher is gone
  and may return, the playlist as it is: its URL must not fail in that time);
- a request for a part that was hinted at, up to three target durations, or 404 when the hint is taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from rapidrtmp.errors import NotFoundError
from rapidrtmp.http.errors import NotYetError
from rapidrtmp.http.headers import CORS, accepts_gzip, etag_matches, parse_range
from rapidrtmp.interfaces import PLAYLIST_TYPE, Request, Response, UnavailableError
from rapidrtmp.live.registry import Registry
from rapidrtmp.live.shelf import PlaylistVersion, ShelfObject, contains
from rapidrtmp.live.stream import LiveStream, StreamState
from rapidrtmp.names import StreamName
from rapidrtmp.playback.admission import Seats
from rapidrtmp.playback.directives import Directives, read_directives

__all__ = ["HlsResponder"]

T = TypeVar("T")

MEDIA_PLAYLIST, MULTIVARIANT_PLAYLIST = "index.m3u8", "master.m3u8"
UNKNOWN_RETRY_S = 2
#: A request is held for this many target durations at most (6.2.5.2 wants a server to give up after three).
PATIENCE = 3

Answer = Response | Deferred[Response]


class HlsResponder:
    """
    Answers what players ask.

    :param seats: admits viewers and counts them.
    :param early_hold_ms: how long a request for a playlist is held while its stream is starting.
    :param clock: timers.
    """

    def __init__(self, registry: Registry, seats: Seats, early_hold_ms: int, clock: IReactorTime) -> None:
        self._registry = registry
        self._seats = seats
        self._early_hold_ms = early_hold_ms
        self._clock = clock

    def respond(self, request: Request, app: str, key: str, name: str) -> Answer:
        """
        Answer a ``GET`` or ``HEAD`` for ``/APP/KEY/NAME``.

        :raises BadNameError: there can be no such stream.
        :raises NotFoundError: there is no such stream or object now; a :class:`NotYetError` if there may soon be.
        :raises BadRequestError: the delivery directives make no sense.
        :raises RangeNotSatisfiableError: the range lies outside the object.
        :raises UnavailableError: the stream has all the viewers it may have.
        :raises TooManyWaitersError: too many requests are held for this stream already.
        """
        stream = self._registry.find(StreamName(app, key))
        if stream is None:
            raise NotYetError(f"nobody publishes {StreamName.checked(app, key)} now", UNKNOWN_RETRY_S)
        self._seats.admit(request, stream.name, stream.viewers)
        return self._find(request, stream, name) or self._hold(request, stream, name)

    def _find(self, request: Request, stream: LiveStream, name: str) -> Answer | None:
        """The answer if something of that name is up."""
        version = stream.shelf.find_playlist(name)
        if version is not None:
            return self._playlist(request, stream, name, version)
        stored = stream.shelf.find(name)
        if stored is not None:
            return self._object(request, stream, name, stored)
        return None

    # ── playlists ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _playlist(self, request: Request, stream: LiveStream, name: str, version: PlaylistVersion) -> Answer:
        directives = read_directives(version.facts, request.query)
        if directives.sequence is None or contains(version.facts, directives.sequence, directives.part):
            return self._version(request, stream, name, version, directives)

        def arrived(newer: PlaylistVersion | None) -> Response:
            if newer is None:
                raise NotFoundError(f"{stream.name} is gone")
            return self._version(request, stream, name, newer, directives)

        def late() -> Response:
            if stream.state is not StreamState.INTERRUPTED:
                raise UnavailableError("the segment or part asked for did not come in time", 1)
            newest = stream.shelf.find_playlist(name) or version
            return self._version(request, stream, name, newest, directives, cache_control="no-cache")

        waiting = stream.shelf.wait_for_playlist(name, directives.sequence, directives.part)
        return self._until(waiting, PATIENCE * version.facts.target_ms, arrived, late)

    def _version(
        self,
        request: Request,
        stream: LiveStream,
        name: str,
        version: PlaylistVersion,
        directives: Directives,
        cache_control: str = "",
    ) -> Response:
        text = version.delta if directives.skip and not version.facts.ended else version.full
        blocking = directives.sequence is not None
        response = self._text(request, text, cache_control or _playlist_caching(version, blocking=blocking))
        asked = f"{name}?{directives.sequence}.{directives.part}" if blocking else ""
        self._seats.count(request, stream.viewers, asked, response)
        return response

    def _text(self, request: Request, text: ShelfObject, cache_control: str) -> Response:
        """A playlist's bytes, compressed if the client can read that. No ranges: the next version moves every byte."""
        gzipped = accepts_gzip(request.header("accept-encoding"))
        response: Response | None = text.answers.get((gzipped, cache_control))
        if response is None:
            response = text.answers[gzipped, cache_control] = _text_response(text, cache_control, gzipped=gzipped)
        return _unless_known(request, response)

    # ── objects ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _object(self, request: Request, stream: LiveStream, name: str, stored: ShelfObject) -> Response:
        if stored.content_type == PLAYLIST_TYPE or stored.content_type.startswith("text/"):
            response = self._text(request, stored, stored.cache_control)
            self._seats.count(request, stream.viewers, "", response)
            return response
        whole: Response | None = stored.answers.get("whole")
        if whole is None:
            whole = stored.answers["whole"] = _object_response(stored)
        response = _range_of(request, whole)
        if response.status == 200 or response.headers.get("Content-Range", "").startswith("bytes 0-"):
            self._seats.count(request, stream.viewers, name, response)
        return response

    # ── requests that wait ───────────────────────────────────────────────────────────────────────────────────────────

    def _hold(self, request: Request, stream: LiveStream, name: str) -> Deferred[Response]:
        """Wait for a name that is promised, or that every stream has before long."""
        shelf = stream.shelf
        if stream.state is StreamState.ENDED:
            raise NotFoundError(f"{stream.name} has no {name}")
        if name.endswith(".m3u8") and name != MULTIVARIANT_PLAYLIST:
            if name != MEDIA_PLAYLIST and not shelf.is_announced(name):
                raise NotFoundError(f"{stream.name} has no {name}")
            # every first version contains the segment before the first one of all
            return self._hold_early(request, stream, name, shelf.wait_for_playlist(name, -1, None))
        if name == MULTIVARIANT_PLAYLIST:
            shelf.announce(name)
            return self._hold_early(request, stream, name, shelf.wait_for(name))
        if not shelf.is_announced(name):
            raise NotFoundError(f"{stream.name} has no {name}")

        def late() -> Response:
            raise UnavailableError(f"{name} was announced and did not come in time", 1)

        patience_ms = PATIENCE * shelf.target_ms or self._early_hold_ms
        return self._until(shelf.wait_for(name), patience_ms, self._arrived(request, stream, name), late)

    def _hold_early(
        self, request: Request, stream: LiveStream, name: str, waiting: Deferred[T | None]
    ) -> Deferred[Response]:
        def late() -> Response:
            raise NotYetError(f"{stream.name} is starting and has no {name} yet", 1)

        return self._until(waiting, self._early_hold_ms, self._arrived(request, stream, name), late)

    def _arrived(self, request: Request, stream: LiveStream, name: str) -> Callable[[object], Answer]:
        def arrived(what: object) -> Answer:
            self._seats.admit(request, stream.name, stream.viewers)  # others may have come in meanwhile
            answer = self._find(request, stream, name) if what is not None else None
            if answer is None:
                raise NotFoundError(f"{name} of {stream.name} was announced and withdrawn")
            return answer

        return arrived

    def _until(
        self, waiting: Deferred[T], patience_ms: int, arrived: Callable[[T], Answer], late: Callable[[], Response]
    ) -> Deferred[Response]:
        """``arrived`` with what is waited for, or ``late`` if it takes longer than ``patience_ms``."""

        def failed(failure: Failure) -> Response:
            failure.trap(TimeoutError)
            return late()

        waiting.addTimeout(patience_ms / 1000, self._clock)
        return waiting.addCallbacks(arrived, failed)


def _playlist_caching(version: PlaylistVersion, *, blocking: bool) -> str:
    """
    How long a playlist may be kept (RFC 8216 bis, appendix B).

    What a blocking reload asked for, and a final playlist, change no more; but the name of the stream may be used
    again, so that even these are let go after six target durations. Any other may be kept for half a target duration,
    and for a second where that is less: a cache that may not keep a playlist at all asks for it for each viewer.
    """
    target_s = version.facts.target_ms // 1000
    if blocking or version.facts.ended:
        return f"public, max-age={max(6 * target_s, 1)}"
    return f"public, max-age={max(target_s // 2, 1)}"


def _text_response(text: ShelfObject, cache_control: str, *, gzipped: bool) -> Response:
    headers = {
        **CORS,
        "Content-Type": text.content_type,
        "Cache-Control": cache_control,
        "ETag": f'{text.etag[:-1]}-gzip"' if gzipped else text.etag,
        "Vary": "Accept-Encoding",
        "Accept-Ranges": "none",
    }
    if gzipped:
        headers["Content-Encoding"] = "gzip"
    return Response(200, headers, text.gzipped if gzipped else text.body)


def _object_response(stored: ShelfObject) -> Response:
    headers = {
        **CORS,
        "Content-Type": stored.content_type,
        "Cache-Control": stored.cache_control,
        "ETag": stored.etag,
        "Accept-Ranges": "bytes",
    }
    return Response(200, headers, stored.body)


def _unless_known(request: Request, response: Response) -> Response:
    """An answer, or the empty one for whoever has its body already (RFC 9110, 13.2.2)."""
    if not etag_matches(request.header("if-none-match"), response.headers["ETag"]):
        return response
    left_out = ("Content-Type", "Content-Encoding")
    return Response(304, {name: value for name, value in response.headers.items() if name not in left_out})


def _range_of(request: Request, whole: Response) -> Response:
    """The whole object or a range of it, or nothing if the client has it already (RFC 9110, 13.2.2)."""
    response = _unless_known(request, whole)
    condition = request.header("if-range")
    if response is not whole or request.method != "GET" or (condition and condition != whole.headers["ETag"]):
        return response
    size = len(whole.body)
    span = parse_range(request.header("range"), size)
    if span is None:
        return whole
    start, stop = span
    content_range = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return Response(206, {**whole.headers, **content_range}, whole.body[start:stop])
