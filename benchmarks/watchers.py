"""
The load generator: N viewers of M streams (``benchmarks.hls_viewers``), each with connections and an address of its
own.

They join at random moments, the same ones each time. How late a part is, is the time from when its last video frame was
sent (which stands in the frame: ``benchmarks.publishers --stamp``) to when the part was there whole. How late the
generator itself is, is measured by a timer that should come every 5 ms.

    python -m benchmarks.watchers --port 8080 --viewers 1000 --streams 10 --seconds 20
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import re
import select
import signal
import socket
import time
from collections.abc import Callable

from benchmarks.hls_viewers import KINDS, TARGET_S

TICK_S = 0.005
SEED = 17
BUFFER = memoryview(bytearray(256 << 10))
FIELDS = (
    "Host: 127.0.0.1\r\nConnection: keep-alive\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36\r\n"
    "\r\n"
)


class Connection:
    """
    One kept connection, opened when it is first asked and again if it was closed; asks for one thing at a time.

    :param address: that it comes from.
    """

    def __init__(self, watching: Watching, address: str) -> None:
        self.is_busy = False
        self._watching = watching
        self._address = address
        self._socket: socket.socket | None = None
        self._path = ""
        self._asked_s = 0.0
        self._unsent = b""
        self._head = b""
        self._left = 0
        self._kept: list[bytes] | None = None
        self._done: Callable[[bytes], None] = lambda _body: None

    def ask(self, path: str, done: Callable[[bytes], None], *, keep: bool) -> None:
        """Ask, and call ``done`` with the body when it is there; with ``b""`` unless it is to be kept."""
        self.is_busy = True
        self._path, self._done, self._kept = path, done, [] if keep else None
        self._send()

    def _send(self) -> None:
        """Send the request, and be ready for the answer to it."""
        self._head, self._left = b"", -1
        if self._kept:
            self._kept = []
        self._asked_s = time.monotonic()
        self._unsent = f"GET {self._path} HTTP/1.1\r\n{FIELDS}".encode()
        if self._socket is None:
            self._socket = self._watching.open(self, self._address)
        self.write()

    def write(self) -> None:
        """Send what is left of the request, or as soon as there is a connection."""
        assert self._socket is not None
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._lost()
            return
        self._watching.await_room(self._socket, awaited=bool(self._unsent))

    def receive(self) -> bool:
        """Take what has arrived; return whether that was the end of an answer."""
        assert self._socket is not None
        try:
            size = self._socket.recv_into(BUFFER)
        except BlockingIOError:
            return False
        except OSError:
            size = 0
        if not size:
            self._lost()
            return False
        start = 0
        if self._left < 0:
            self._head += bytes(BUFFER[: min(size, 4096)])
            end = self._head.find(b"\r\n\r\n") + 4
            if end < 4:
                return False
            found = re.search(rb"\r\nContent-Length: (\d+)", self._head)
            assert found is not None
            self._left, start = int(found[1]), end
        if self._kept is not None:
            self._kept.append(bytes(BUFFER[start:size]))
        self._left -= size - start
        if self._left:
            return False
        self._answered()
        return True

    def _answered(self) -> None:
        if self._head.startswith(b"HTTP/1.1 200"):
            self.is_busy = False
            self._done(b"".join(self._kept) if self._kept is not None else b"")
            return
        after = re.search(rb"\r\nRetry-After: (\d+)", self._head, re.IGNORECASE)
        if after is None or not self._watching.may_refuse:
            raise SystemExit(f"the server said {self._head[:400]!r}")
        self._watching.refused_s.append(time.monotonic() - self._asked_s)
        self._watching.later(time.monotonic() + int(after[1]), self._send)

    def _lost(self) -> None:
        """The server closed it: try again, as a player does."""
        assert self._socket is not None
        if not self._watching.may_refuse:
            raise SystemExit("the server closed a connection")
        self._watching.close(self._socket)
        self._socket = None
        if self.is_busy:
            self._watching.resets += 1
            self._watching.later(time.monotonic() + 1, self._send)


class Watching:
    """
    What all viewers share.

    :ivar part_late: of each part received, in seconds.
    :ivar answer_s: how long each answer took that was not held, in seconds.
    :ivar answers: of all kinds, held ones as well.
    :ivar may_refuse: whether the server may ask them to come later; else that ends the load, as a lost connection does.
    :ivar refused_s: how long each answer took that did so, the opening of the connection included, in seconds.
    :ivar resets: how often a request was lost with its connection.
    :ivar first_s: how long each viewer waited for its first playlist, in seconds.
    :ivar stamps: when the last video frame of a part was sent, by the part's path.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.counts = self.is_stopped = self.may_refuse = False
        self.resets = 0
        self.refused_s: list[float] = []
        self.first_s: list[float] = []
        self.part_late: list[float] = []
        self.answer_s: list[float] = []
        self.tick_late: list[float] = []
        self.parts_skipped = 0
        self.answers = 0
        self.stamps: dict[str, float] = {}
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self._poll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._crowded: set[int] = set()
        self._serial = 0

    def connect(self, number: int) -> Connection:
        """A connection from the address of viewer ``number``."""
        return Connection(self, f"127.{1 + number // 60_000}.{number // 250 % 240}.{1 + number % 250}")

    def open(self, connection: Connection, address: str) -> socket.socket:
        """Begin to connect."""
        opened = socket.socket()
        opened.bind((address, 0))
        opened.setblocking(False)
        opened.connect_ex(("127.0.0.1", self.port))
        self._connections[opened.fileno()] = connection
        self._poll.register(opened.fileno(), select.EPOLLIN)
        return opened

    def close(self, closed: socket.socket) -> None:
        """Close a connection."""
        self._poll.unregister(closed.fileno())
        del self._connections[closed.fileno()]
        closed.close()

    def await_room(self, waiting: socket.socket, *, awaited: bool) -> None:
        """Watch whether a connection can take more, or no longer."""
        if awaited or waiting.fileno() in self._crowded:
            self._poll.modify(waiting.fileno(), select.EPOLLIN | (select.EPOLLOUT if awaited else 0))
            (self._crowded.add if awaited else self._crowded.discard)(waiting.fileno())

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
            for number, event in self._poll.poll(max(0.0, tick - time.monotonic())):
                connection = self._connections.get(number)
                if connection is None:
                    continue
                if event & select.EPOLLOUT:
                    connection.write()
                if event & ~select.EPOLLOUT and self._connections.get(number) is connection:
                    self.answers += connection.receive()


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
    parser.add_argument("--spread", type=float, default=TARGET_S, help="seconds within which they join")
    parser.add_argument("--may-refuse", action="store_true", help="come again if the server asks for that")
    parser.add_argument("--kind", choices=list(KINDS), default="low-latency")
    arguments = parser.parse_args()
    watching = Watching(arguments.port)
    signal.signal(signal.SIGTERM, lambda *_: watching.stop())
    watching.may_refuse = arguments.may_refuse
    begin, moments = time.monotonic(), random.Random(SEED)
    for number in range(arguments.viewers):
        viewer = KINDS[arguments.kind](watching, number, f"/live/bench{number % arguments.streams}")
        watching.later(begin + moments.uniform(0, arguments.spread), viewer.start)
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
        "first_playlist": figures(watching.first_s),
        "refused": len(watching.refused_s),
        "refusal": figures(watching.refused_s),
        "resets": watching.resets,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
