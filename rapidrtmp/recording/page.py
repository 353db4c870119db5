"""The page of recordings: what there is, to be watched and downloaded. It is as open as the list of live streams."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from typing import cast
from urllib.parse import urlencode

from twisted.internet.defer import Deferred

from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.http.pages import page_response, player_library, read_template
from rapidrtmp.http.params import read_query, read_whole
from rapidrtmp.interfaces import Request, Response
from rapidrtmp.names import POSTER
from rapidrtmp.recording.catalogue import RecordingState
from rapidrtmp.recording.libraries import Libraries, View
from rapidrtmp.recording.library import Listed
from rapidrtmp.recording.titles import fold, searched

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
    """
    Answers for ``/recordings``.

    :param is_open: whether all clients may watch what an application has recorded; other recordings have no pictures.
    """

    def __init__(self, libraries: Libraries, is_open: Callable[[str], bool]) -> None:
        self._is_open = is_open
        self._libraries = libraries
        self._template = read_template("recordings.html")

    def respond(self, request: Request) -> Deferred[Response]:
        """
        A page of recordings, the newest first: ``GET /recordings?page=``.

        :raises BadRequestError: the number of the page makes no sense. The Deferred fails with ``StorageError``.
        """
        query = read_query(request)
        number = read_whole(query, "page", 0, minimum=0)
        wanted = fold(query.get("q", ""))

        async def answer() -> Response:
            view = await self._libraries.view()
            key = "page of recordings", number, wanted, view.change
            response = self._libraries.work.kept(key)
            if response is None:
                response, is_final = await self._make(view, number, wanted)
                if is_final:
                    self._libraries.work.keep(key, response, len(response.body))
            return cast(Response, response)

        return Deferred.fromCoroutine(answer())

    async def _make(self, view: View, number: int, wanted: str) -> tuple[Response, bool]:
        """
        The page, and whether it stays as it is until the catalogue changes: nothing on it grows.

        :param wanted: what the name, the day or the title of each has in it; empty for all.
        """

        def chosen(id: RecordingId) -> bool:
            return wanted in searched(id, view.title(id))

        listed, total = await view.page(chosen if wanted else None, number, ROWS_PER_PAGE)
        nothing = "Nothing has been recorded yet."
        if wanted:
            nothing = f"No recording has “{escape(wanted)}” in its title, name or day."
        rows = [_row(each, is_pictured=self._is_open(each.entry.id.app)) for each in listed]
        script, foreign_script = player_library("static")
        body = self._template.substitute(
            library=script,
            rows="".join(rows) or f'<li class="empty">{nothing}</li>',
            pager=_pager(number, total, wanted),
            wanted=escape(wanted),
        )
        response = page_response(body, foreign_script=foreign_script, cache_control="no-store", has_forms=True)
        return response, all(each.entry.state.is_over for each in listed)


def _row(listed: Listed, *, is_pictured: bool) -> str:
    entry = listed.entry
    path = escape(entry.id.folder)
    started = datetime.fromtimestamp(entry.started_ms / 1000, UTC)
    facts = [render_clock(entry.duration_ms), render_bytes(entry.size), _WORDS[entry.state]]
    stream = f"{entry.id.app}/{entry.id.key}"
    if listed.title:
        facts.insert(0, stream)
    words = (
        f'<span class="name">{escape(listed.title or stream)}</span>'
        f'<span class="facts"><time datetime="{started:%Y-%m-%dT%H:%M:%SZ}">{started:%Y-%m-%d %H:%M:%S} UTC</time>'
        f" · {escape(' · '.join(filter(None, facts)))}</span>"
    )
    if entry.state in _UNPLAYABLE or not entry.segments:
        return f'<li><div class="empty">{words}</div></li>'
    picture = (
        f'<video class="still" data-src="{path}/{POSTER}" muted playsinline preload="auto" aria-hidden="true"'
        ' tabindex="-1"></video>'
    )
    has_renditions = " data-renditions" if entry.renditions else ""
    return (
        f'<li><a class="play" href="{path}/recording.mp4" data-name="{escape(str(entry.id))}"{has_renditions}>'
        f"{picture if is_pictured else ''}{words}</a>"
        f'<a class="download" href="{path}/recording.mp4" download>Download</a></li>'
    )


def _pager(number: int, total: int, wanted: str) -> str:
    """Links to the pages before and after this one."""
    search = escape(f"&{urlencode({'q': wanted})}") if wanted else ""
    newer = f'<a rel="prev" href="?page={number - 1}{search}">Newer</a>' if number else ""
    older = f'<a rel="next" href="?page={number + 1}{search}">Older</a>' if (number + 1) * ROWS_PER_PAGE < total else ""
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
