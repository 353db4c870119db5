"""Many viewers of one stream through a cache: each asks as players do, and says when it got what."""

from __future__ import annotations

import time
from collections.abc import Iterable
from threading import Barrier, Thread

from tests.e2e.harness import Answer, fetch
from tests.e2e.playlists import MediaPlaylist, parse_media_playlist

__all__ = ["EdgeViewer", "watch"]


class EdgeViewer(Thread):
    """
    One viewer, in a thread of its own.

    :param stream: the stream's URL at the cache, without a slash at the end.
    :param seconds: how long it watches.
    :ivar got: the paths and queries that it asked for, and when each was whole, in monotonic seconds.
    :ivar failures: the answers that were no 200.
    """

    def __init__(self, stream: str, seconds: float, begin: Barrier, *, low_latency: bool) -> None:
        super().__init__(daemon=True)
        self.got: dict[str, float] = {}
        self.failures: list[str] = []
        self._stream = stream
        self._seconds = seconds
        self._begin = begin
        self._low_latency = low_latency

    def run(self) -> None:
        """Watch."""
        self._begin.wait()
        until_s = time.monotonic() + self._seconds
        playlist = self._playlist("index.m3u8")
        known = set(self._names(playlist))
        while time.monotonic() < until_s and not self.failures:
            if self._low_latency:
                sequence, part = playlist.edge
                playlist = self._playlist(f"index.m3u8?_HLS_msn={sequence}&_HLS_part={part}")
            else:
                time.sleep(0.5)
                playlist = self._playlist("index.m3u8")
            for name in self._names(playlist):
                if name not in known:
                    known.add(name)
                    self._get(name)

    def _names(self, playlist: MediaPlaylist) -> Iterable[str]:
        if self._low_latency:
            return [part.uri for segment in playlist.segments for part in segment.parts]
        return [segment.uri for segment in playlist.complete]

    def _playlist(self, name: str) -> MediaPlaylist:
        answer = self._get(name)
        return parse_media_playlist(answer.text) if answer.status == 200 else parse_media_playlist("#EXTM3U\n")

    def _get(self, name: str) -> Answer:
        answer = fetch(f"{self._stream}/{name}")
        if answer.status != 200:
            self.failures.append(f"{name}: {answer.status}")
        self.got[name] = time.monotonic()
        return answer


def watch(stream: str, viewers: int, seconds: float, *, low_latency: bool) -> list[EdgeViewer]:
    """Have so many watch at the same time, to the end; they are all there before the first one asks."""
    begin = Barrier(viewers)
    audience = [EdgeViewer(stream, seconds, begin, low_latency=low_latency) for _ in range(viewers)]
    for viewer in audience:
        viewer.start()
    for viewer in audience:
        viewer.join(seconds + 60)
    return audience
