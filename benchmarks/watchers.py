"""
The load generator: N viewers of M streams (``benchmarks.hls_viewers``), each with connections and an address of its
own.

How late a part is, is the time from when its last video frame was sent (which stands in the frame:
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
import signal
import socket
import time
from collections.abc import Callable

from benchmarks.hls_viewers import KINDS, TARGET_S

TICK_S = 0.005
BUFFER = memoryview(bytearray(256 << 10))
FIELDS = (
    "Host: 127.0.0.1\r\nConnection: keep-alive\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36\r\n"
    "\r\n"
)


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

    def receive(self) -> bool:
        """Take what has arrived; return whether that was the end of an answer."""
        size = self.socket.recv_into(BUFFER)
        if not size:
            raise SystemExit("the server closed a connection")
        start = 0
        if self._left < 0:
            self._head += bytes(BUFFER[: min(size, 4096)])
            end = self._head.find(b"\r\n\r\n") + 4
            if end < 4:
                return False
            if not self._head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"the server said {self._head[:400]!r}")
            found = re.search(rb"\r\nContent-Length: (\d+)", self._head)
            assert found is not None
            self._left, start = int(found[1]), end
        if self._kept is not None:
            self._kept.append(bytes(BUFFER[start:size]))
        self._left -= size - start
        if self._left:
            return False
        self.is_busy = False
        self._done(b"".join(self._kept) if self._kept is not None else b"")
        return True


class Watching:
    """
    What all viewers share.

    :ivar part_late: of each part received, in seconds.
    :ivar answer_s: how long each answer took that was not held, in seconds.
    :ivar answers: of all kinds, held ones as well.
    :ivar stamps: when the last video frame of a part was sent, by the part's path.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.counts = self.is_stopped = False
        self.part_late: list[float] = []
        self.answer_s: list[float] = []
        self.tick_late: list[float] = []
        self.parts_skipped = 0
        self.answers = 0
        self.stamps: dict[str, float] = {}
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

    def stop(self) -> None:
        """Let :meth:`run` return."""
        self.is_stopped = True

    def run(self, seconds: float) -> None:
        """Continue for so long, or until SIGTERM."""
        end = time.monotonic() + seconds
        tick = time.monotonic() + TICK_S
        while (now := time.monotonic()) < end and not self.is_stopped:
            if now >= tick:
                self.tick_late.append(now - tick)
                tick = now + TICK_S
            while self.timers and self.timers[0][0] <= now:
                heapq.heappop(self.timers)[2]()
            for number, _ in self._poll.poll(max(0.0, tick - time.monotonic())):
                self.answers += self._connections[number].receive()


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
    """Watch; print ``ready`` when all do and the counting begins, then the figures in JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--viewers", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--settle", type=float, default=5)
    parser.add_argument("--kind", choices=list(KINDS), default="low-latency")
    arguments = parser.parse_args()
    watching = Watching(arguments.port)
    signal.signal(signal.SIGTERM, lambda *_: watching.stop())
    begin = time.monotonic()
    for number in range(arguments.viewers):
        viewer = KINDS[arguments.kind](watching, number, f"/live/bench{number % arguments.streams}")
        watching.later(begin + TARGET_S * number / arguments.viewers, viewer.start)
    watching.run(arguments.settle)
    watching.counts = True
    watching.tick_late.clear()
    watching.answers = 0
    print("ready", flush=True)
    begin, begin_cpu = time.monotonic(), time.process_time()
    watching.run(arguments.seconds)
    cpu, elapsed = time.process_time() - begin_cpu, time.monotonic() - begin
    result = {
        "part_late": figures(watching.part_late),
        "answer": figures(watching.answer_s),
        "answers_per_second": round(watching.answers / elapsed, 1),
        "generator_late": figures(watching.tick_late),
        "cpu_share": round(cpu / elapsed, 3),
        "parts_skipped": watching.parts_skipped,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
