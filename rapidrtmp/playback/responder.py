"""
Everything under ``/APP/KEY/NAME``: playlists, segments, parts, and the requests held for what is still to come.

A request that is admitted finds its stream by name and is answered at once, or waits with a Deferred of its own, which
is cancelled when the player leaves. An answer is made once of each object and goes to all who ask for it. Held are

- a request for a playlist whose stream is just starting, up to ``early_hold_ms`` (then 404, worth asking again);
- a blocking reload (RFC 8216 bis, 6.2.5.2), up to three target durations (then 503; but while the publisher is gone
  and may return, the playlist as it is: its URL must not fail in that time);
- a request for a part that was hinted at, up to three target durations, or 404 when the hint is taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from rapidrtmp.errors import NotFoundError
from rapidrtmp.http.errors import NotYetError
from rapidrtmp.http.headers import CORS, accepts_gzip, etag_matches, parse_range
from rapidrtmp.interfaces import (
    PLAYLIST_TYPE,
    IMediaObject,
    IPlayable,
    IPlaylistVersion,
    IStreamDirectory,
    Request,
    Response,
    StreamDemand,
    UnavailableError,
    no_demand,
)
from rapidrtmp.live.shelf import contains
from rapidrtmp.names import MULTIVARIANT_PLAYLIST, StreamName
from rapidrtmp.playback.admission import Admission
from rapidrtmp.playback.directives import Directives, TooFarAheadError, read_directives
from rapidrtmp.playback.ready_answers import ReadyAnswers
from rapidrtmp.support.deadlines import Deadlines

__all__ = ["HlsResponder"]

T = TypeVar("T")

MEDIA_PLAYLIST = "index.m3u8"
UNKNOWN_RETRY_S = 2
#: A request is held for this many target durations at most (6.2.5.2 wants a server to give up after three).
PATIENCE = 3

Answer = Response | Deferred[Response]


class HlsResponder:
    """
    Answers what players ask.

    :param directory: finds streams.
    :param admission: admits viewers and counts them.
    :param early_hold_ms: how long a request for a playlist is held while its stream is starting.
    :param clock: timers.
    :param demand: asked for streams that are not here.
    """

    def __init__(
        self,
        directory: IStreamDirectory,
        admission: Admission,
        early_hold_ms: int,
        clock: IReactorTime,
        demand: StreamDemand = no_demand,
    ) -> None:
        self._demand = demand
        self._directory = directory
        self._admission = admission
        self._ready = ReadyAnswers()
        self._early_hold_ms = early_hold_ms
        self._deadlines = Deadlines(clock)

    def respond(self, request: Request, app: str, key: str, name: str) -> Answer:
        """
        Answer a ``GET`` or ``HEAD`` for ``/APP/KEY/NAME`` or ``/APP/KEY/~TOKEN/NAME``.

        :raises BadNameError: there can be no such stream.
        :raises NotFoundError: there is no such stream or object now; a :class:`NotYetError` if there may soon be.
        :raises BadRequestError: the delivery directives make no sense.
        :raises RangeNotSatisfiableError: the range lies outside the object.
        :raises TooManyWaitersError: too many requests are held for this stream already.
        :raises OverloadedError: the client would begin to watch, and there is no time for it.
        And what :meth:`Admission.admit <rapidrtmp.playback.admission.Admission.admit>` raises.
        """
        stream = StreamName(app, key)
        waiting = self._admission.admit(request, stream)
        if waiting is not None:
            return waiting.addCallback(lambda _: self.answer(request, stream, name))
        return self.answer(request, stream, name)

    def answer(self, request: Request, stream: StreamName, name: str) -> Answer:
        """Answer a client that is admitted; see :meth:`respond`."""
        playable = self._directory.find(stream)
        if playable is None:
            awaited = self._ask_for_stream(request, stream, name)
            if awaited is not None:
                return awaited
            raise NotYetError(f"{StreamName.checked(*stream)} has no publisher now", UNKNOWN_RETRY_S)
        if not request.has_watched and name.endswith(".m3u8") and "_HLS_" not in request.query:
            self._admission.begin(request, stream, playable.viewers)
        version = playable.version(name)
        if version is not None:
            if version.facts.ended:
                awaited = self._ask_for_stream(request, stream, name)
                if awaited is not None:
                    return awaited
            return self._playlist(request, playable, name, version)
        stored = playable.find(name)
        return self._object(request, playable, name, stored) if stored else self._hold(request, playable, name)

    def _ask_for_stream(self, request: Request, stream: StreamName, name: str) -> Deferred[Response] | None:
        """Wait for a stream that is not here, and comes when it is asked for; then answer with what there is."""
        waiting = self._demand(StreamName.checked(*stream), ()) if name.endswith(".m3u8") else None

        def answer(_: None) -> Answer:
            playable = self._directory.find(stream)
            if playable is None:
                raise NotYetError(f"{stream} is not to be had now", UNKNOWN_RETRY_S)
            return self._find(request, playable, name) or self._hold(request, playable, name)

        return None if waiting is None else waiting.addCallback(answer)

    def _find(self, request: Request, stream: IPlayable, name: str) -> Answer | None:
        """The answer if something of that name is up."""
        version = stream.version(name)
        if version is not None:
            return self._playlist(request, stream, name, version)
        stored = stream.find(name)
        if stored is not None:
            return self._object(request, stream, name, stored)
        return None

    # ── playlists ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _playlist(self, request: Request, stream: IPlayable, name: str, version: IPlaylistVersion) -> Answer:
        try:
            directives = read_directives(version.facts, request.query)
        except TooFarAheadError as error:
            if not stream.lag_s:
                raise
            return self._hold_ahead(request, stream, name, version, error)
        if directives.sequence is None or contains(version.facts, directives.sequence, directives.part):
            return self._version(request, stream, name, version, directives)
        return self._hold_reload(request, stream, name, version, directives)

    def _hold_ahead(
        self, request: Request, stream: IPlayable, name: str, version: IPlaylistVersion, error: TooFarAheadError
    ) -> Deferred[Response]:
        """Wait for the next version, which others may have seen already, if it comes soon."""

        def arrived(newer: IPlaylistVersion | None) -> Answer:
            if newer is None:
                raise NotFoundError(f"{stream.name} is gone")
            directives = read_directives(newer.facts, request.query)
            if directives.sequence is None or contains(newer.facts, directives.sequence, directives.part):
                return self._version(request, stream, name, newer, directives)
            return self._hold_reload(request, stream, name, newer, directives)

        def late() -> Response:
            raise error

        facts = version.facts
        waiting = stream.wait_for_version(
            name, facts.last_sequence + 1, facts.open_parts if facts.part_target_ms else None
        )
        return self._until(waiting, int(1000 * stream.lag_s), arrived, late)

    def _hold_reload(
        self, request: Request, stream: IPlayable, name: str, version: IPlaylistVersion, directives: Directives
    ) -> Deferred[Response]:
        """Wait for a version that contains what is asked for."""
        assert directives.sequence is not None

        def arrived(newer: IPlaylistVersion | None) -> Response:
            if newer is None:
                raise NotFoundError(f"{stream.name} is gone")
            self._admission.check_again(request, stream.name)
            return self._version(request, stream, name, newer, directives)

        def late() -> Response:
            if not stream.facts.is_interrupted:
                raise UnavailableError("the segment or part asked for did not come in time", 1)
            self._admission.check_again(request, stream.name)
            newest = stream.version(name) or version
            return self._version(request, stream, name, newest, directives, cache_control="no-cache")

        waiting = stream.wait_for_version(name, directives.sequence, directives.part)
        return self._until(waiting, PATIENCE * version.facts.target_ms, arrived, late)

    def _version(
        self,
        request: Request,
        stream: IPlayable,
        name: str,
        version: IPlaylistVersion,
        directives: Directives,
        cache_control: str = "",
    ) -> Response:
        text = version.delta if directives.skip and not version.facts.ended else version.full
        blocking, facts = directives.sequence is not None, version.facts
        response = self._text(
            request, text, cache_control or _playlist_caching(facts.target_ms, ended=facts.ended, blocking=blocking)
        )
        asked = f"{name}?{directives.sequence}.{directives.part}" if blocking else ""
        self._admission.count(request, stream.name, stream.viewers, asked, response)
        return response

    def _text(self, request: Request, text: IMediaObject, cache_control: str) -> Response:
        """A playlist's bytes, compressed if the client can read that. No ranges: the next version moves every byte."""
        gzipped = accepts_gzip(request.headers.get("accept-encoding", ""))
        key = id(text), gzipped, cache_control
        response = self._ready.find(key)
        if response is None:
            response = self._ready.keep(text, key, _text_response(text, cache_control, gzipped=gzipped))
        return _unless_known(request, response) if "if-none-match" in request.headers else response

    # ── objects ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _object(self, request: Request, stream: IPlayable, name: str, stored: IMediaObject) -> Response:
        if stored.content_type == PLAYLIST_TYPE or stored.content_type.startswith("text/"):
            response = self._text(request, stored, stored.cache_control)
            self._admission.count(request, stream.name, stream.viewers, "", response)
            return response
        key = (id(stored),)
        whole = self._ready.find(key)
        if whole is None:
            whole = self._ready.keep(stored, key, _object_response(stored))
        headers = request.headers
        response = _range_of(request, whole) if "range" in headers or "if-none-match" in headers else whole
        if response.status == 200 or response.headers.get("Content-Range", "").startswith("bytes 0-"):
            self._admission.count(request, stream.name, stream.viewers, name, response)
        return response

    # ── requests that wait ───────────────────────────────────────────────────────────────────────────────────────────

    def _hold(self, request: Request, stream: IPlayable, name: str) -> Deferred[Response]:
        """Wait for a name that is promised, or that every stream has before long."""
        facts = stream.facts
        if facts.is_over:
            raise NotFoundError(f"{stream.name} has no {name}")
        if name.endswith(".m3u8") and name != MULTIVARIANT_PLAYLIST:
            if name != MEDIA_PLAYLIST and not stream.is_announced(name):
                raise NotFoundError(f"{stream.name} has no {name}")
            # every first version contains the segment before the first one of all
            return self._hold_early(request, stream, name, stream.wait_for_version(name, -1, None))
        if name == MULTIVARIANT_PLAYLIST:
            return self._hold_early(request, stream, name, stream.wait(name))
        if not stream.is_announced(name):
            raise NotFoundError(f"{stream.name} has no {name}")

        def late() -> Response:
            raise UnavailableError(f"{name} was announced and did not come in time", 1)

        patience_ms = PATIENCE * facts.target_ms or self._early_hold_ms
        return self._until(stream.wait(name), patience_ms, self._arrived(request, stream, name), late)

    def _hold_early(
        self, request: Request, stream: IPlayable, name: str, waiting: Deferred[T | None]
    ) -> Deferred[Response]:
        def late() -> Response:
            raise NotYetError(f"{stream.name} is starting and has no {name} yet", 1)

        return self._until(waiting, self._early_hold_ms, self._arrived(request, stream, name), late)

    def _arrived(self, request: Request, stream: IPlayable, name: str) -> Callable[[object], Answer]:
        def arrived(what: object) -> Answer:
            self._admission.check_again(request, stream.name)
            self._admission.check_seat(request, stream.name, stream.viewers)  # others may have come in meanwhile
            answer = self._find(request, stream, name) if what is not None else None
            if answer is None:
                raise NotFoundError(f"{name} of {stream.name} was announced and withdrawn")
            return answer

        return arrived

    def _until(
        self, waiting: Deferred[T], patience_ms: int, arrived: Callable[[T], Answer], late: Callable[[], Response]
    ) -> Deferred[Response]:
        """``arrived`` with what is waited for, or ``late`` if it takes longer than ``patience_ms``."""

        together = self._deadlines.add(waiting, patience_ms)

        def came(what: T) -> Answer:
            together.forget(waiting)
            return arrived(what)

        def failed(failure: Failure) -> Response:
            together.forget(waiting)
            if not self._deadlines.is_over(failure):
                failure.trap(TimeoutError)
            return late()

        return waiting.addCallbacks(came, failed)


@lru_cache(maxsize=256)
def _playlist_caching(target_ms: int, *, ended: bool, blocking: bool) -> str:
    """
    How long a playlist may be kept (RFC 8216 bis, appendix B).

    What a blocking reload asked for, and a final playlist, change no more; but the name of the stream may be used
    again, so that even these are let go after six target durations. Any other may be kept for half a target duration,
    and for a second where that is less: a cache that may not keep a playlist at all asks for it for each viewer.
    """
    target_s = target_ms // 1000
    if blocking or ended:
        return f"public, max-age={max(6 * target_s, 1)}"
    return f"public, max-age={target_s // 2 or 1}"


def _text_response(text: IMediaObject, cache_control: str, *, gzipped: bool) -> Response:
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


def _object_response(stored: IMediaObject) -> Response:
    headers = {
        **CORS,
        "Content-Type": stored.content_type,
        "Cache-Control": stored.cache_control,
        "ETag": stored.etag,
        "Accept-Ranges": "bytes",
    }
    return Response(200, headers, stored.body)


def _unless_known(request: Request, response: Response) -> Response:
    """An answer, or the empty one for a client that has its body already (RFC 9110, 13.2.2)."""
    if not etag_matches(request.header("if-none-match"), response.headers["ETag"]):
        return response
    left_out = ("Content-Type", "Content-Encoding")
    return Response(304, {name: value for name, value in response.headers.items() if name not in left_out})


def _range_of(request: Request, whole: Response) -> Response:
    """The whole object or a range of it, or nothing if the client has it already (RFC 9110, 13.2.2)."""
    response = _unless_known(request, whole) if "if-none-match" in request.headers else whole
    wanted = request.headers.get("range")
    if not wanted:
        return response
    condition = request.headers.get("if-range")
    if response is not whole or request.method != "GET" or (condition and condition != whole.headers["ETag"]):
        return response
    size = len(whole.body)
    span = parse_range(wanted, size)
    if span is None:
        return whole
    start, stop = span
    content_range = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return Response(206, {**whole.headers, **content_range}, whole.body[start:stop])
