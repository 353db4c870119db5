"""What stored media is answered with: files that are put together while they are sent, and playlists of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from zlib import DEFLATED, MAX_WBITS, compressobj, crc32

from rapidrtmp.archive.clip_run import ClipRun, spans_of
from rapidrtmp.archive.movie import Movie
from rapidrtmp.http.errors import SeveralFilesError
from rapidrtmp.http.headers import CORS, accepts_gzip, etag_matches, parse_range
from rapidrtmp.http.params import rfc3339
from rapidrtmp.interfaces import PLAYLIST_TYPE, IStorage, Request, Response, StreamedResponse
from rapidrtmp.support.steps import Steps

__all__ = [
    "GROWING",
    "OVER",
    "PlaylistBody",
    "PlaylistDraft",
    "bytes_response",
    "disposition",
    "movie_response",
    "playlist_response",
    "playlist_steps",
    "sole_run",
]

#: How long what may still grow, and what does not, may be kept.
GROWING, OVER = "no-cache", "public, max-age=3600"
#: So much of a playlist is compressed in one step.
STEP_CHARACTERS = 4096


def disposition(app: str, key: str, utc_ms: int) -> str:
    """``Content-Disposition`` of a movie that begins at ``utc_ms``, in milliseconds since 1970."""
    return f'inline; filename="{app}-{key}-{datetime.fromtimestamp(utc_ms / 1000, UTC):%Y%m%dT%H%M%SZ}.mp4"'


def sole_run(runs: Sequence[ClipRun]) -> ClipRun:
    """
    What one file can be made of.

    :raises SeveralFilesError: there is more than one run.
    """
    if len(runs) > 1:
        raise SeveralFilesError([(rfc3339(start_ms), rfc3339(end_ms)) for start_ms, end_ms in spans_of(runs)])
    return runs[0]


def bytes_response(request: Request, data: bytes, headers: Mapping[str, str]) -> Response:
    """As :func:`movie_response`, of what is at hand."""
    return movie_response(request, None, Movie(data, ()), headers)


def movie_response(request: Request, storage: IStorage | None, movie: Movie, headers: Mapping[str, str]) -> Response:
    """
    The whole of a movie or a range of it, or nothing if the client has it already (RFC 9110, 13.2.2).

    :param storage: where its pieces are; ``None`` if it has none.
    :raises RangeNotSatisfiableError: the range lies outside of it.
    """
    etag = f'"{movie.fingerprint:08x}-{movie.size:x}"'
    headers = {**headers, "ETag": etag, "Accept-Ranges": "bytes", **CORS}
    if etag_matches(request.header("if-none-match"), etag):
        del headers["Content-Type"]
        return Response(304, headers)
    condition = request.header("if-range")
    span = None
    if request.method == "GET" and (not condition or condition == etag):
        span = parse_range(request.header("range"), movie.size)
    start, stop = span or (0, movie.size)
    if span:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{movie.size}"
    chunks: Callable[[], AsyncIterator[bytes]] = partial(movie.read, storage, start, stop)
    return StreamedResponse(206 if span else 200, headers, size=stop - start, open=chunks)


@dataclass(frozen=True, slots=True)
class PlaylistBody:
    """The text of a playlist, ready to be sent: as it is, and compressed."""

    plain: bytes
    gzipped: bytes
    checksum: int

    @property
    def memory_bytes(self) -> int:
        """About how much it takes to keep it."""
        return len(self.plain) + len(self.gzipped) + 500


class PlaylistDraft:
    """The text of a playlist, plain and compressed, to which more can be added at the end."""

    def __init__(self) -> None:
        self._compressor = compressobj(6, DEFLATED, MAX_WBITS | 16)
        self._plain: list[bytes] = []
        self._gzipped: list[bytes] = []
        self._checksum = 0

    def extend(self, text: Iterable[str]) -> Steps[None]:
        """Add pieces of text, some of which may be empty."""
        waiting: list[str] = []
        size = 0
        for piece in text:
            yield
            waiting.append(piece)
            size += len(piece)
            if size >= STEP_CHARACTERS:
                self._add("".join(waiting))
                waiting.clear()
                size = 0
        self._add("".join(waiting))

    def _add(self, text: str) -> None:
        data = text.encode()
        self._plain.append(data)
        self._gzipped.append(self._compressor.compress(data))
        self._checksum = crc32(data, self._checksum)

    def body(self) -> PlaylistBody:
        """All that there is by now."""
        self._plain, self._gzipped = [b"".join(self._plain)], [b"".join(self._gzipped)]
        return PlaylistBody(self._plain[0], self._gzipped[0] + self._compressor.copy().flush(), self._checksum)


def playlist_steps(text: Iterable[str]) -> Steps[PlaylistBody]:
    """Put the pieces of a playlist together and compress them."""
    draft = PlaylistDraft()
    yield from draft.extend(text)
    return draft.body()


def playlist_response(request: Request, body: PlaylistBody, cache_control: str) -> Response:
    """A playlist, compressed if the client can read that. No ranges: the next version may move every byte."""
    gzipped = accepts_gzip(request.header("accept-encoding"))
    etag = f'"{body.checksum:08x}-{len(body.plain):x}{"-gzip" if gzipped else ""}"'
    headers = {
        "Content-Type": PLAYLIST_TYPE,
        "Cache-Control": cache_control,
        "ETag": etag,
        "Vary": "Accept-Encoding",
        "Accept-Ranges": "none",
        **CORS,
    }
    if etag_matches(request.header("if-none-match"), etag):
        del headers["Content-Type"]
        return Response(304, headers)
    if gzipped:
        headers["Content-Encoding"] = "gzip"
    return Response(200, headers, body.gzipped if gzipped else body.plain)
