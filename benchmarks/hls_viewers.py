"""
What viewers do, for the load generator ``benchmarks.watchers``.

Low-latency viewers do as hls.js does: one connection holds a blocking reload for the next part, the other fetches each
part as soon as it is listed. Those that follow hints do as Apple's player does, and ask for each part before it exists.
Ordinary viewers know neither parts nor hints.
"""

from __future__ import annotations

import re
import time
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from benchmarks.publishers import STAMP_MARK, STAMP_SIZE

if TYPE_CHECKING:
    from benchmarks.watchers import Watching

TARGET_S = 2.0


@dataclass(frozen=True)
class Seen:
    """What a viewer reads from a playlist: newest part, hint at the next, newest segment, query of the next reload."""

    part: str
    hint: str
    segment: str
    next_query: str


@lru_cache(256)
def read_playlist(body: bytes) -> Seen:
    """Read a media playlist; the same for all viewers, who would each do it on a computer of their own."""
    text = body.decode()
    segments = re.findall(r"^#EXTINF:.*\n(?:#.*\n)*([^#\n]+)$", text, re.MULTILINE)
    parts = re.findall(r'^#EXT-X-PART:.*URI="([^"]+)"', text, re.MULTILINE)
    hints = re.findall(r'^#EXT-X-PRELOAD-HINT:.*URI="([^"]+)"', text, re.MULTILINE)
    first = int(re.findall(r"^#EXT-X-MEDIA-SEQUENCE:(\d+)", text, re.MULTILINE)[0])
    open_parts = text[text.rfind("#EXTINF") :].count("#EXT-X-PART:")
    query = f"?_HLS_msn={first + len(segments)}&_HLS_part={open_parts}"
    part, hint, segment = (found[-1] if found else "" for found in (parts, hints, segments))
    return Seen(part, hint, segment, query)


def read_stamp(part: bytes) -> float:
    """When the last video frame of a part was sent, on the monotonic clock in seconds."""
    start = part.rfind(STAMP_MARK) + len(STAMP_MARK)
    return int(part[start : start + STAMP_SIZE]) / 1e6


class LowLatencyViewer:
    """Watches a stream part by part: holds a reload on one connection, fetches what it lists on the other."""

    def __init__(self, watching: Watching, number: int, folder: str) -> None:
        self._watching = watching
        self._folder = folder
        self._reloads, self._media = watching.connect(number), watching.connect(number)
        self._wanted: deque[str] = deque()
        self._newest = ""
        self._joined_s: float | None = None

    def start(self) -> None:
        """Ask for the playlist a first time."""
        self._joined_s = time.monotonic()
        self._reloads.ask(f"{self._folder}/index.m3u8", self._listed, keep=True)

    def _listed(self, body: bytes) -> None:
        if self._joined_s is not None:
            self._watching.first_s.append(time.monotonic() - self._joined_s)
            self._joined_s = None
        seen = read_playlist(body)
        part = self._choose(seen)
        if part and part != self._newest:
            self._newest = part
            self._wanted.append(part)
            if not self._media.is_busy:
                self._fetch()
        self._reloads.ask(f"{self._folder}/index.m3u8{seen.next_query}", self._listed, keep=True)

    def _choose(self, seen: Seen) -> str:
        return seen.part

    def _fetch(self) -> None:
        while len(self._wanted) > 3:  # a player would jump ahead
            self._wanted.popleft()
            self._watching.parts_skipped += 1
        path = f"{self._folder}/{self._wanted.popleft()}"
        begun = time.monotonic()
        keep = path not in self._watching.stamps
        self._media.ask(path, lambda body: self._fetched(path, begun, body), keep=keep)

    def _fetched(self, path: str, begun: float, body: bytes) -> None:
        now, watching = time.monotonic(), self._watching
        if body:
            watching.stamps.setdefault(path, read_stamp(body))
        if watching.counts:
            watching.answer_s.append(now - begun)
            watching.part_late.append(now - watching.stamps[path])
        if self._wanted:
            self._fetch()


class HintedViewer(LowLatencyViewer):
    """Asks for the next part as soon as its name is hinted at, and so before it is there."""

    def _choose(self, seen: Seen) -> str:
        return seen.hint


class OrdinaryViewer:
    """Reloads the playlist every target duration, and fetches the newest segment when there is one."""

    def __init__(self, watching: Watching, number: int, folder: str) -> None:
        self._watching = watching
        self._folder = folder
        self._connection = watching.connect(number)
        self._newest = ""
        self._begun = self._due = 0.0

    def start(self) -> None:
        """Reload, now and every target duration."""
        self._due = self._begun = time.monotonic()
        self._connection.ask(f"{self._folder}/index.m3u8", self._listed, keep=True)

    def _listed(self, body: bytes) -> None:
        self._answered()
        seen = read_playlist(body)
        if seen.segment and seen.segment != self._newest:
            self._newest, self._begun = seen.segment, time.monotonic()
            self._connection.ask(f"{self._folder}/{seen.segment}", self._fetched, keep=False)
        else:
            self._again()

    def _fetched(self, _body: bytes) -> None:
        self._answered()
        self._again()

    def _answered(self) -> None:
        if self._watching.counts:
            self._watching.answer_s.append(time.monotonic() - self._begun)

    def _again(self) -> None:
        self._watching.later(max(self._due + TARGET_S, time.monotonic()), self.start)


KINDS: dict[str, type[LowLatencyViewer | OrdinaryViewer]] = {
    "low-latency": LowLatencyViewer,
    "hinted": HintedViewer,
    "ordinary": OrdinaryViewer,
}
