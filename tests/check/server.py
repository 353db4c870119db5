"""A stream on an origin in memory: real media of our packager, and answers that a test can spoil."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from rapidrtmp.check.fetch import Answer, FetchError
from rapidrtmp.cmaf.packager import Packager
from rapidrtmp.hls.i_frames import PicturesResponder
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.http.long_work import LongWork
from rapidrtmp.interfaces import Request, StreamedResponse
from rapidrtmp.live.shelf import PlaylistVersion, Shelf, ShelfObject, contains
from rapidrtmp.media import Frame, Track
from rapidrtmp.names import StreamName
from rapidrtmp.testing.frames import audio_frames, interleaved, make_audio_track, make_video_track, video_frames
from rapidrtmp.testing.sinks import STARTED_AT_MS, make_sink_context

__all__ = ["BASE", "Origin", "watch", "with_body", "with_header"]

BASE = "http://origin.example/live/test/"
CORS = {"access-control-allow-origin": "*"}
PLAYLIST_HEADERS = {
    "content-type": "application/vnd.apple.mpegurl",
    "content-encoding": "gzip",
    "vary": "Accept-Encoding",
    "cache-control": "no-cache",
    **CORS,
}


@cache
def stream_of(seconds: int) -> tuple[tuple[Track, ...], list[Frame]]:
    """The tracks of a stream, and its frames as they arrive: made once, since they are values."""
    video, audio = make_video_track(), make_audio_track()
    frames = interleaved(video_frames(video, seconds, gop=30, size=400), audio_frames(audio, seconds, size=40))
    return (video, audio), frames


@dataclass
class Origin:
    """
    Publishes a stream as the clock advances, and answers requests for it.

    :param spoil: changes answers, by the URL's last name.
    """

    clock: Clock
    seconds: int = 30
    spec: dict[str, str] = field(default_factory=dict)
    spoil: dict[str, Callable[[Answer], Answer]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shelf = Shelf()
        stream = LiveShelf(StreamName("live", "test"), self.shelf)
        self._pictures = PicturesResponder(lambda _: stream, LongWork(self.clock))
        context = make_sink_context(shelf=self.shelf, clock=self.clock)
        self.sink = Packager(HlsSinkFactory(**self.spec).create(context))
        tracks, frames = stream_of(self.seconds)
        self.sink.tracks_changed(tracks)
        self._publish(iter(frames))

    def _publish(self, frames: Iterator[Frame]) -> None:
        """Send each frame at its time; only the next one is with the clock, which sorts all it has with each call."""
        for frame in frames:
            due_s = frame.dts / frame.track.timescale
            if due_s > self.clock.seconds():
                self.clock.callLater(due_s - self.clock.seconds(), self._send, frame, frames)
                return
            self.sink.frame_received(frame)
        self.clock.callLater(0.1, self.sink.finish)

    def _send(self, frame: Frame, frames: Iterator[Frame]) -> None:
        self.sink.frame_received(frame)
        self._publish(frames)

    def utc_us(self) -> int:
        """The time of day."""
        return STARTED_AT_MS * 1000 + int(self.clock.seconds() * 1_000_000)

    async def __call__(self, url: str, *, method: str = "GET", byte_range: str = "", timeout_s: float = 10) -> Answer:
        """See :class:`rapidrtmp.check.fetch.Fetch`."""
        parts = urlsplit(url)
        name = parts.path.rpartition("/")[2]
        self.asked.append(f"{method} {name}?{parts.query} {byte_range}".strip("? "))
        asked_s = self.clock.seconds()
        headers, body = await self._content(name, parse_qs(parts.query), asked_s + timeout_s)
        status = 404 if body is None else 200
        body = body or b""
        if byte_range:
            first, _, last = byte_range.partition("-")
            begin, end = int(first), min(int(last or len(body)), len(body) - 1)
            status = 206 if begin <= end else 416
            headers = {**headers, "content-range": f"bytes {begin}-{end}/{len(body)}"}
            body = body[begin : end + 1]
        headers = {**headers, "content-length": str(len(body))}
        answer = Answer(url, status, headers, b"" if method == "HEAD" else body, asked_s, self.clock.seconds())
        return self.spoil.get(name, lambda same: same)(answer)

    async def _made(self, name: str) -> tuple[dict[str, str], bytes | None]:
        """What is not on the shelf and made of what is."""
        answering = self._pictures.find(Request("GET", "", {}, "", ""), StreamName("live", "test"), name)
        if answering is None:
            return {}, None
        response = await answering
        if isinstance(response, StreamedResponse):
            headers = {key.lower(): value for key, value in response.headers.items()}
            return headers, b"".join([chunk async for chunk in response.open()])
        return PLAYLIST_HEADERS, response.body

    async def _content(
        self, name: str, query: dict[str, list[str]], until_s: float
    ) -> tuple[dict[str, str], bytes | None]:
        while True:
            version = self.shelf.find_playlist(name)
            stored = self.shelf.find(name)
            if version is not None:
                part = int(query["_HLS_part"][0]) if "_HLS_part" in query else None
                if "_HLS_msn" not in query or contains(version.facts, int(query["_HLS_msn"][0]), part):
                    skip = "_HLS_skip" in query and not version.facts.ended
                    return PLAYLIST_HEADERS, (version.delta if skip else version.full).body
            elif stored is not None:
                playlist = PLAYLIST_HEADERS if stored.content_type.endswith("mpegurl") else {}
                media = {"content-type": stored.content_type, "cache-control": stored.cache_control, **CORS}
                return playlist or media, stored.body
            elif not self.shelf.is_announced(name):
                return await self._made(name)
            if self.clock.seconds() > until_s:
                raise FetchError(f"{name}: too late")
            waiting: Deferred[None] = deferLater(self.clock, 0.02)
            await waiting


@dataclass
class LiveShelf:
    """As much of an ``IPlayable`` as pictures are made of."""

    name: StreamName
    shelf: Shelf

    def version(self, name: str) -> PlaylistVersion | None:
        return self.shelf.find_playlist(name)

    def find(self, name: str) -> ShelfObject | None:
        return self.shelf.find(name)


def watch(clock: Clock, watching: Deferred[Any], limit_s: float = 90) -> None:
    """Let time pass until ``watching`` has a result."""
    until_s = clock.seconds() + limit_s
    while not watching.called and clock.seconds() < until_s:
        clock.advance(0.02)


def with_header(name: str, value: str | None) -> Callable[[Answer], Answer]:
    """Spoils a header field; ``None`` takes it away."""

    def spoil(answer: Answer) -> Answer:
        headers = {key: old for key, old in answer.headers.items() if key != name}
        return replace(answer, headers=headers if value is None else {**headers, name: value})

    return spoil


def with_body(change: Callable[[bytes], bytes]) -> Callable[[Answer], Answer]:
    """Spoils the body."""
    return lambda answer: replace(answer, body=change(answer.body))
