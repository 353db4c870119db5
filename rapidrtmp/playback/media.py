"""
Everything under ``/APP/KEY/NAME``: what is on the shelf of a stream, and where that has nothing, what plugins find.

Who asks for the latter is a viewer like any other: it needs a seat, and is counted.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from rapidrtmp.errors import NotFoundError
from rapidrtmp.interfaces import Request, Response
from rapidrtmp.interfaces.contributions import MediaFinder
from rapidrtmp.live.registry import Registry
from rapidrtmp.live.stream import LiveStream
from rapidrtmp.names import StreamName
from rapidrtmp.playback.admission import Seats
from rapidrtmp.playback.responder import Answer, HlsResponder

__all__ = ["MediaResponder"]


class MediaResponder:
    """
    Answers for the media of live streams.

    :param hls: answers for the shelf.
    :param finders: asked in turn for what is not there.
    """

    def __init__(self, hls: HlsResponder, registry: Registry, seats: Seats, finders: Sequence[MediaFinder]) -> None:
        self._hls = hls
        self._registry = registry
        self._seats = seats
        self._finders = finders

    def respond(self, request: Request, app: str, key: str, name: str) -> Answer:
        """
        Answer a ``GET`` or ``HEAD`` for ``/APP/KEY/NAME``: as :meth:`HlsResponder.respond
        <rapidrtmp.playback.responder.HlsResponder.respond>`, or as one of the finders does.
        """
        try:
            return self._hls.respond(request, app, key, name)
        except NotFoundError:
            stream = self._registry.find(StreamName(app, key))
            answer = None if stream is None else self._find(request, stream, name)
            if stream is None or answer is None:
                raise
        asked = "" if name.endswith(".m3u8") else f"{name}?{request.query}" if request.query else name
        return answer.addCallback(lambda found: self._seats.seat(request, stream.name, stream.viewers, asked, found))

    def _find(self, request: Request, stream: LiveStream, name: str) -> Deferred[Response] | None:
        for find in self._finders:
            answer = find(request, stream.name, name)
            if answer is not None:
                return answer
        return None
