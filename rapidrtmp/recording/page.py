"""The page of recordings: what there is, to be watched and downloaded. It is as open as the list of live streams."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import cast

from twisted.internet.defer import Deferred

from rapidrtmp.http.pages import page_response, player_library, read_template
from rapidrtmp.http.params import read_query, read_whole
from rapidrtmp.interfaces import Request, Response
from rapidrtmp.recording.catalogue import RecordingState
from rapidrtmp.recording.libraries import Libraries, View
from rapidrtmp.recording.library import Listed

__all__ = ["LibraryPage"]

ROWS_PER_PAGE = 50
_WORDS = {
    RecordingState.RECORDING: "recording now",
    RecordingState.FINISHED: "",
    RecordingState.RECOVERED: "recovered after a crash",
    RecordingState.DAMAGED: "damaged",
    RecordingState.DELETING: "being deleted",
}
_UNPLAYABLE = (RecordingState.DAMAGED, RecordingState.DELETING)


class LibraryPage:
    """Answers for ``/recordings``."""

    def __init__(self, libraries: Libraries) -> None:
        self._libraries = libraries
        self._template = read_template("recordings.html")

    def respond(self, request: Request) -> Deferred[Response]:
        """
        A page of recordings, the newest first: ``GET /recordings?page=``.

        :raises BadRequestError: the number of the page makes no sense. The Deferred fails with ``StorageError``.
        """
        number = read_whole(read_query(request), "page", 0, minimum=0)

        async def answer() -> Response:
            view = await self._libraries.view()
            key = "page of recordings", number, view.change
            response = self._libraries.work.kept(key)
            if response is None:
                response, is_final = await self._make(view, number)
                if is_final:
                    self._libraries.work.keep(key, response, len(response.body))
            return cast(Response, response)

        return Deferred.fromCoroutine(answer())

    async def _make(self, view: View, number: int) -> tuple[Response, bool]:
        """The page, and whether it stays as it is until the catalogue changes: nothing on it grows."""
        listed, total = await view.page(None, number, ROWS_PER_PAGE)
        script, foreign_script = player_library("static")
        body = self._template.substitute(
            library=script,
            rows="".join(map(_row, listed)) or '<li class="empty">Nothing has been recorded yet.</li>',
            pager=_pager(number, total),
        )
        response = page_response(body, foreign_script=foreign_script, cache_control="no-store")
        return response, all(each.entry.state.is_over for each in listed)


def _row(listed: Listed) -> str:
    entry = listed.entry
    path = escape(entry.id.folder)
    started = datetime.fromtimestamp(entry.started_ms / 1000, UTC)
    facts = [render_clock(entry.duration_ms), render_bytes(entry.size), _WORDS[entry.state]]
    words = (
        f'<span class="name">{escape(f"{entry.id.app}/{entry.id.key}")}</span>'
        f'<span class="facts"><time datetime="{started:%Y-%m-%dT%H:%M:%SZ}">{started:%Y-%m-%d %H:%M:%S} UTC</time>'
        f" · {escape(' · '.join(filter(None, facts)))}</span>"
    )
    if entry.state in _UNPLAYABLE or not entry.segments:
        return f'<li><div class="empty">{words}</div></li>'
    return (
        f'<li><a class="play" href="{path}/recording.mp4" data-name="{escape(str(entry.id))}">{words}</a>'
        f'<a class="download" href="{path}/recording.mp4" download>Download</a></li>'
    )


def _pager(number: int, total: int) -> str:
    """Links to the pages before and after this one."""
    newer = f'<a rel="prev" href="?page={number - 1}">Newer</a>' if number else ""
    older = f'<a rel="next" href="?page={number + 1}">Older</a>' if (number + 1) * ROWS_PER_PAGE < total else ""
    return newer + older


def render_clock(duration_ms: int) -> str:
    """A duration as players show it: ``0:07``, ``1:02:03``."""
    minutes, seconds = divmod(duration_ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def render_bytes(size: int) -> str:
    """A size in decimal units, as file managers show it."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
