"""
The load generator: N viewers of M streams, each with connections and an address of its own.

Low-latency viewers do as hls.js does: one connection holds a blocking reload for the next part, the other fetches each
part as soon as it is listed. Ordinary viewers reload the playlist every target duration, and fetch the newest segment
when there is one. How late a part is, is the time from when its last video frame was sent (which stands in the frame:
``benchmarks.publishers --stamp``) to when the part was there whole. How late the generator itself is, is measured by a
timer that should come every 5 ms.

    python -m benchmarks.watchers --port 8080 --viewers 1000 --streams 10 --seconds 20
"""

from __future__ import annotations

import argparse
import heapq
import json
import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from benchmarks.publishers import STAMP_MARK, STAMP_SIZE

TICK_S = 0.005
TARGET_S = 2.0
BUFFER = memoryview(bytearray(256 << 10))
FIELDS = (
    "Host: 127.0.0.1\r\nConnection: keep-alive\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36\r\n"
    "\r\n"
)


@dataclass(frozen=True)
class Seen:
    """What a viewer reads from a playlist: the newest part and segment, and what to ask for next."""

    part: str
    segment: str
    next_query: str


@lru_cache(256)
def read_playlist(body: bytes) -> Seen:
    """Read a media playlist; the same for all viewers, who would each do it on a computer of their own."""
    text = body.decode()
    segments = re.findall(r"^#EXTINF:.*\n(?:#.*\n)*([^#\n]+)$", text, re.MULTILINE)
    parts = re.findall(r'^#EXT-X-PART:.*URI="([^"]+)"', text, re.MULTILINE)
    first = int(re.findall(r"^#EXT-X-MEDIA-SEQUENCE:(\d+)", text, re.MULTILINE)[0])
    open_parts = text[text.rfind("#EXTINF") :].count("#EXT-X-PART:")
    query = f"?_HLS_msn={first + len(segments)}&_HLS_part={open_parts}"
    return Seen(parts[-1] if parts else "", segments[-1] if segments else "", query)


class Connection:
    """One kept connection; asks for one thing at a time."""

    def __init__(self, port: int, address: str) -> None:
        self.socket = socket.socket()
        self.socket.bind((address, 0))
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.is_busy = False
        self._head = b""
        self._left = 0
        self._kept: list[bytes] | None = None
        self._done: Callable[[bytes], None] = lambda _body: None

    def ask(self, path: str, done: Callable[[bytes], None], *, keep: bool) -> None:
        """Ask, and call ``done`` with the body when it is there; with ``b""`` unless it is to be kept."""
        self.is_busy = True
        self._head, self._left, self._done, self._kept = b"", -1, done, [] if keep else None
        self.socket.send(f"GET {path} HTTP/1.1\r\n{FIELDS}".encode())

    def receive(self) -> None:
        """Take what has arrived."""
        size = self.socket.recv_into(BUFFER)
        if not size:
            raise SystemExit("the server closed a connection")
        start = 0
        if self._left < 0:
            self._head += bytes(BUFFER[: min(size, 4096)])
            end = self._head.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            if not self._head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"the server said {self._head[:400]!r}")
            found = re.search(rb"\r\nContent-Length: (\d+)", self._head)
            assert found is not None
            self._left, start = int(found[1]), end
        if self._kept is not None:
            self._kept.append(bytes(BUFFER[start:size]))
        self._left -= size - start
        if self._left == 0:
            self.is_busy = False
            self._done(b"".join(self._kept) if self._kept is not None else b"")


class Watching:
    """
    What all viewers share.

    :ivar part_late: of each part received, in seconds; ``answer_s``: how long each answer took that was not held.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.counts = False
        self.part_late: list[float] = []
        self.answer_s: list[float] = []
        self.tick_late: list[float] = []
        self.parts_skipped = 0
        self.sent_at: dict[str, float] = {}
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self._poll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._serial = 0

    def connect(self, number: int) -> Connection:
        """A connection from the address of viewer ``number``."""
        connection = Connection(self.port, f"127.{1 + number // 60_000}.{number // 250 % 240}.{1 + number % 250}")
        self._connections[connection.socket.fileno()] = connection
        self._poll.register(connection.socket.fileno(), select.EPOLLIN)
        return connection

    def later(self, at: float, call: Callable[[], None]) -> None:
        """Call at a moment of the monotonic clock."""
        self._serial += 1
        heapq.heappush(self.timers, (at, self._serial, call))

    def run(self, seconds: float) -> None:
        """Go on for so long."""
        end = time.monotonic() + seconds
        tick = time.monotonic() + TICK_S
        while (now := time.monotonic()) < end:
            if now >= tick:
                self.tick_late.append(now - tick)
                tick = now + TICK_S
            while self.timers and self.timers[0][0] <= now:
                heapq.heappop(self.timers)[2]()
            for number, _ in self._poll.poll(max(0.0, tick - time.monotonic())):
                self._connections[number].receive()


class LowLatencyViewer:
    """Watches a stream part by part."""

    def __init__(self, watching: Watching, number: int, folder: str) -> None:
        self._watching = watching
        self._folder = folder
        self._reloads, self._media = watching.connect(number), watching.connect(number)
        self._wanted: deque[str] = deque()
        self._newest = ""

    def start(self) -> None:
        """Ask for the playlist a first time."""
        self._reloads.ask(f"{self._folder}/index.m3u8", self._listed, keep=True)

    def _listed(self, body: bytes) -> None:
        seen = read_playlist(body)
        if seen.part and seen.part != self._newest:
            self._newest = seen.part
            self._wanted.append(seen.part)
            if not self._media.is_busy:
                self._fetch()
        self._reloads.ask(f"{self._folder}/index.m3u8{seen.next_query}", self._listed, keep=True)

    def _fetch(self) -> None:
        while len(self._wanted) > 3:  # a player would jump ahead
            self._wanted.popleft()
            self._watching.parts_skipped += 1
        path = f"{self._folder}/{self._wanted.popleft()}"
        begun = time.monotonic()
        keep = path not in self._watching.sent_at
        self._media.ask(path, lambda body: self._fetched(path, begun, body), keep=keep)

    def _fetched(self, path: str, begun: float, body: bytes) -> None:
        now, watching = time.monotonic(), self._watching
        if body:
            mark = body.rfind(STAMP_MARK) + len(STAMP_MARK)
            watching.sent_at.setdefault(path, int(body[mark : mark + STAMP_SIZE]) / 1e6)
        if watching.counts:
            watching.answer_s.append(now - begun)
            watching.part_late.append(now - watching.sent_at[path])
        if self._wanted:
            self._fetch()


class OrdinaryViewer:
    """Watches a stream segment by segment."""

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


def figures(values: list[float]) -> dict[str, float]:
    """Milliseconds at the usual points of a distribution."""
    if not values:
        return {"count": 0}
    values = sorted(values)
    points = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
    at = {
        name: round(values[min(len(values) - 1, int(len(values) * point))] * 1000, 1) for name, point in points.items()
    }
    return {"count": len(values), **at}


def main() -> None:
    """Watch; print ``watching`` when all do and the counting begins, then the figures in JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--viewers", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--settle", type=float, default=5)
    parser.add_argument("--kind", choices=["low-latency", "ordinary"], default="low-latency")
    arguments = parser.parse_args()
    watching = Watching(arguments.port)
    make = LowLatencyViewer if arguments.kind == "low-latency" else OrdinaryViewer
    begin = time.monotonic()
    for number in range(arguments.viewers):
        viewer = make(watching, number, f"/live/bench{number % arguments.streams}")
        watching.later(begin + TARGET_S * number / arguments.viewers, viewer.start)
    watching.run(arguments.settle)
    watching.counts = True
    watching.tick_late.clear()
    print("watching", flush=True)
    watching.run(arguments.seconds)
    result = {
        "part_late": figures(watching.part_late),
        "answer": figures(watching.answer_s),
        "generator_late": figures(watching.tick_late),
        "parts_skipped": watching.parts_skipped,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
