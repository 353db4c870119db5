"""
Everything under ``/APP/KEY/NAME``: what is on the shelf of a stream, and where that has nothing, what plugins find.

Who asks for the latter is a viewer like any other: it needs a seat, and is counted.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from rapidrtmp.errors import NotFoundError
from rapidrtmp.interfaces import IPlayable, IStreamDirectory, Request, Response
from rapidrtmp.interfaces.contributions import MediaFinder
from rapidrtmp.names import StreamName
from rapidrtmp.playback.admission import Admission
from rapidrtmp.playback.responder import Answer, HlsResponder

__all__ = ["MediaResponder"]


class MediaResponder:
    """
    Answers for the media of live streams.

    :param hls: answers for the shelf.
    :param directory: finds streams.
    :param admission: admits viewers and counts them.
    :param finders: asked in turn for what is not there.
    """

    def __init__(
        self,
        hls: HlsResponder,
        directory: IStreamDirectory,
        admission: Admission,
        finders: Sequence[MediaFinder],
    ) -> None:
        self._hls = hls
        self._directory = directory
        self._admission = admission
        self._finders = finders

    def respond(self, request: Request, app: str, key: str, name: str) -> Answer:
        """
        Answer a ``GET`` or ``HEAD`` for ``/APP/KEY/NAME``: as :meth:`HlsResponder.respond
        <rapidrtmp.playback.responder.HlsResponder.respond>`, or as one of the finders does.
        """
        wanted = StreamName(app, key)
        waiting = self._admission.admit(request, wanted)
        if waiting is not None:
            return waiting.addCallback(lambda _: self._answer(request, wanted, name))
        return self._answer(request, wanted, name)

    def respond_rendition(self, request: Request, app: str, key: str, rendition: str, name: str) -> Answer:
        """Answer a ``GET`` or ``HEAD`` for ``/APP/KEY/RENDITION/NAME``, likewise."""
        return self.respond(request, app, key, f"{rendition}/{name}")

    def _answer(self, request: Request, wanted: StreamName, name: str) -> Answer:
        try:
            return self._hls.answer(request, wanted, name)
        except NotFoundError:
            stream = self._directory.find(wanted)
            answer = None if stream is None else self._find(request, stream, name)
            if stream is None or answer is None:
                raise
        asked = "" if name.endswith(".m3u8") else f"{name}?{request.query}" if request.query else name
        return answer.addCallback(
            lambda found: self._admission.seat(request, stream.name, stream.viewers, asked, found)
        )

    def _find(self, request: Request, stream: IPlayable, name: str) -> Deferred[Response] | None:
        for find in self._finders:
            answer = find(request, stream.name, name)
            if answer is not None:
                return answer
        return None
