"""
A viewer without a screen: plays a stream as a low-latency player does, and keeps everything it was given.

It reloads by blocking requests for the part that comes next, asks for that part by its preload hint at the same time,
and fetches every init segment, part and segment once it is listed; so to the end of the stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Thread

from tests.e2e.harness import DEADLINE_S, Answer, fetch
from tests.e2e.playlists import MediaPlaylist, merge_delta, parse_media_playlist

__all__ = ["Version", "Viewer"]


@dataclass(frozen=True)
class Version:
    """
    One answer to a request for the media playlist.

    :ivar asked: the segment and part that it had to contain; ``None`` for a plain request.
    :ivar playlist: what the answer says, a delta update merged already.
    :ivar skipped: how many segments the answer left out.
    """

    asked: tuple[int, int] | None
    playlist: MediaPlaylist
    skipped: int


class Viewer(Thread):
    """
    Watches one stream from its beginning to its end, in a thread of its own.

    :param stream: the stream's URL, without a slash at the end.
    :param delta: whether to ask for delta updates, and for playlists only.
    :ivar versions: every version of the media playlist, in order.
    :ivar multivariants: every version of the multivariant playlist, one from the beginning and one from the end.
    :ivar objects: every init segment, part and segment by its name.
    :ivar hinted: the answers to requests by preload hint, by name.
    """

    def __init__(self, stream: str, *, delta: bool = False) -> None:
        super().__init__(name=f"viewer of {stream}", daemon=True)
        self.versions: list[Version] = []
        self.multivariants: list[str] = []
        self.objects: dict[str, Answer] = {}
        self.hinted: dict[str, Answer] = {}
        self._stream = stream
        self._delta = delta
        self._until = time.monotonic() + DEADLINE_S
        self._error: BaseException | None = None

    def result(self) -> Viewer:
        """Wait for the end of the stream; raise what went wrong on the way."""
        self.join(2 * DEADLINE_S)
        if self.is_alive():
            raise AssertionError(f"{self.name} is still busy")
        if self._error is not None:
            raise AssertionError(f"{self.name}: {self._error}") from self._error
        return self

    def has_segments(self, count: int) -> bool:
        """Whether so many segments have been listed by now. :raises AssertionError: the viewer has given up."""
        if self._error is not None:
            self.result()
        return bool(self.versions) and len(self.versions[-1].playlist.complete) >= count

    def run(self) -> None:
        """Watch."""
        try:
            with ThreadPoolExecutor(1) as side:
                self._follow(side)
        except BaseException as error:
            self._error = error

    def _follow(self, side: ThreadPoolExecutor) -> None:
        self.multivariants.append(self._patiently("master.m3u8").text)
        playlist = self._take(None, self._patiently("index.m3u8"))
        while not playlist.ended:
            if time.monotonic() > self._until:
                raise AssertionError(f"the stream does not end; its edge is {playlist.edge}")
            hinted = self._ask_for_hint(side, playlist.hint)
            playlist = self._reload(playlist)
            if hinted is not None:
                self.hinted[hinted[0]] = hinted[1].result()
            if not self._delta:
                self._fetch_all(playlist)
        self.multivariants.append(self._patiently("master.m3u8").text)

    def _ask_for_hint(self, side: ThreadPoolExecutor, hint: str) -> tuple[str, Future[Answer]] | None:
        if self._delta or not hint or hint in self.hinted:
            return None
        return hint, side.submit(fetch, f"{self._stream}/{hint}")

    def _patiently(self, name: str) -> Answer:
        """Ask until it is there: no one may have published yet."""
        while True:
            answer = fetch(f"{self._stream}/{name}")
            if answer.status == 200:
                return answer
            if answer.status not in (404, 503) or time.monotonic() > self._until:
                raise AssertionError(f"{name}: {answer.status} {answer.text}")
            time.sleep(0.1)

    def _reload(self, playlist: MediaPlaylist) -> MediaPlaylist:
        sequence, part = playlist.edge
        skip = "&_HLS_skip=YES" if self._delta else ""
        answer = fetch(f"{self._stream}/index.m3u8?_HLS_msn={sequence}&_HLS_part={part}{skip}")
        if answer.status == 503:  # three target durations without a part: the publisher is gone for good
            return playlist
        return self._take((sequence, part), answer)

    def _take(self, asked: tuple[int, int] | None, answer: Answer) -> MediaPlaylist:
        if answer.status != 200:
            raise AssertionError(f"the playlist, asked for {asked}: {answer.status} {answer.text}")
        received = parse_media_playlist(answer.text)
        playlist = received
        if received.skipped:
            playlist = merge_delta(self.versions[-1].playlist.segments, received)
        self.versions.append(Version(asked, playlist, received.skipped))
        return playlist

    def _fetch_all(self, playlist: MediaPlaylist) -> None:
        for segment in playlist.segments:
            names = [segment.map_uri, *(part.uri for part in segment.parts), segment.uri]
            for name in filter(None, names):
                if name not in self.objects:
                    self.objects[name] = self._object(name)

    def _object(self, name: str) -> Answer:
        answer = fetch(f"{self._stream}/{name}")
        if answer.status != 200:
            raise AssertionError(f"{name} is listed, but: {answer.status} {answer.text}")
        return answer


def in_parallel(*jobs: Callable[[], object]) -> None:
    """Run all at once; wait for all, then raise the first failure."""
    with ThreadPoolExecutor(len(jobs)) as threads:
        for future in [threads.submit(job) for job in jobs]:
            future.result()
