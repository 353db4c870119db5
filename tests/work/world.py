"""
A real server in this process, and the rest of the world, which moves only while the server waits.

The server's reactor is the one it has in production, with real sockets and a real ``epoll``. Between the reactor and
its ``epoll`` stands :class:`Outside`: when the server would wait, the script continues (a client says something, time
passes) until there is something to be served. Nothing depends on how fast anything is.
"""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from twisted.internet.error import ConnectionDone
from twisted.internet.tcp import Server
from twisted.python.failure import Failure

from benchmarks.publishers import ETHERNET_MSS
from rapidrtmp.app.plugins import choose_plugins
from rapidrtmp.cmaf import packager
from rapidrtmp.live import fan_out
from rapidrtmp.live.stream import LiveStream
from rapidrtmp.names import StreamName
from rapidrtmp.net import reactor as lean
from rapidrtmp.server import service as server
from rapidrtmp.settings.model import AppSettings, ServerSettings, Settings
from rapidrtmp.support import clock as wall_clock
from rapidrtmp.web.fast_path import channel as express
from rapidrtmp.web.fast_path.request_line import read_line
from tests.work.meter import Meter

__all__ = ["Line", "Script", "World"]

#: Yields the second at which it wants to continue; by then the server has done all that there was to do.
Script = Iterator[float]

NAME = StreamName("live", "work")
LOOPBACK = ("tcp:0:interface=127.0.0.1",)
STARTED_AT_S = 1_700_000_000.0
#: How long the kernel may take to carry bytes from one end of a connection to the other.
PATIENCE_S = 30.0
#: More than anything that is sent at once, so that the kernel takes and gives it at once.
BUFFER_BYTES = 1 << 20


class Outside:
    """
    Stands before a reactor's ``epoll``.

    :ivar now_s: what all clocks say.
    :ivar meter: what counts the server's work; it pauses while the world moves.
    """

    def __init__(self, reactor: Any) -> None:
        self.now_s = 1_000.0
        self.meter = Meter()
        self.failure: BaseException | None = None
        self._reactor = reactor
        self._epoll = reactor._poller
        self._script: Script = iter(())
        self._until_s = self.now_s
        reactor._poller = self
        reactor.seconds = self.monotonic

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)

    def run(self, script: Script) -> None:
        """Run the reactor until the script is over."""
        self._script = script
        self._until_s = self.now_s
        self._reactor.run(installSignalHandlers=False)
        if self.failure is not None:
            raise self.failure

    def count(self, meter: Meter, script: Script) -> Script:
        """A script during which a meter counts."""
        self.meter = meter
        meter.start()
        try:
            yield from script
        finally:
            meter.stop()
            self.meter = Meter()

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        """What ``select.epoll.poll`` promises, but that the world moves meanwhile."""
        self.meter.pause()
        try:
            return self._wait(timeout, maxevents)
        except BaseException as error:  # the reactor would log it and continue
            self.failure = error
            self._reactor.crash()
            return []
        finally:
            self.meter.resume()

    def _wait(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        deadline_s = self.now_s + timeout if timeout >= 0 else float("inf")
        while True:
            ready = [each for each in self._epoll.poll(0, maxevents) if self._is_due(*each)]
            if ready or deadline_s < self._until_s or timeout == 0:
                self.now_s = self.now_s if ready else deadline_s
                return ready
            self.now_s = max(self.now_s, self._until_s)
            try:
                self._until_s = next(self._script)
            except StopIteration:
                self._reactor.crash()
                return []

    def _is_due(self, descriptor: int, event: int) -> bool:
        """Whether it is ready by the rules: a system that is short of memory wakes whom it should let sleep."""
        selectable = self._reactor._selectables.get(descriptor)
        if event != select.EPOLLIN or not isinstance(selectable, Server):
            return True
        least = selectable.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)
        there = _readable_bytes(selectable.socket)
        return there >= least or not there  # nothing: the end

    # ── the clocks, for all that import the time module ─────────────────────────────────────────────────────────────

    def monotonic(self) -> float:
        return self.now_s

    def time(self) -> float:
        return STARTED_AT_S + self.now_s

    def time_ns(self) -> int:
        return int(self.time() * 1e9)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class World:
    """
    The server with all defaults but two: it keeps everything in memory, and is open to every publisher.

    :param play: who may watch.
    :ivar outside: where its script runs.
    """

    def __init__(self, play: tuple[str, ...] = ("open",)) -> None:
        self.reactor = lean.LeanReactor()
        self.reactor._handleSignals = lambda: None  # type: ignore[attr-defined]  # trial's own reactor has them
        self.outside = Outside(self.reactor)
        self._lines: list[Line] = []
        read_line.cache_clear()  # what other tests have asked for
        settings = Settings(
            server=ServerSettings(rtmp=LOOPBACK, http=LOOPBACK),
            apps={"live": AppSettings(auth=("open",), play=play, storage="memory:", recordings="memory:")},
        )
        with self._clocks():
            self.service = server.make_service(self.reactor, settings, choose_plugins(settings))
            self.service.privilegedStartService()

    @contextmanager
    def _clocks(self) -> Iterator[None]:
        """Code that looks at a clock meanwhile sees that of the world."""
        outside = self.outside
        with (
            patch.object(wall_clock, "time", outside),
            patch.object(express, "time", outside),
            patch.object(fan_out, "perf_counter", outside.monotonic),
            patch.object(packager, "perf_counter", outside.monotonic),
            patch.multiple(lean, monotonic=outside.monotonic, sleep=outside.sleep),
        ):
            yield

    @property
    def stream(self) -> LiveStream:
        """The stream that is published."""
        stream = self.service.registry.find(NAME)
        assert stream is not None
        return stream

    def run(self, script: Script) -> None:
        """Run the server until the script is over, and close every socket."""
        try:
            with self._clocks():
                self.outside.run(script)
        finally:
            for line in self._lines:
                line.close()
            for each in self.reactor.removeAll():
                each.socket.close()
            self.reactor.waker.connectionLost(Failure(ConnectionDone()))
            self.outside.close()

    def connect(self, port: int) -> Line:
        """A connection to the server, which has still to accept it."""
        line = Line(self.reactor, self.outside, port)
        self._lines.append(line)
        return line


class Line:
    """A client's end of a connection."""

    def __init__(self, reactor: Any, outside: Outside, port: int) -> None:
        self._reactor = reactor
        self._outside = outside
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, ETHERNET_MSS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(("127.0.0.1", port))
        self._far: socket.socket | None = None

    def say(self, data: bytes) -> None:
        """Send; when this returns all of it can be read at the server's end."""
        far = self._far_end()
        wanted = _readable_bytes(far) + len(data)
        self._socket.sendall(data)
        patience_s = time.monotonic() + PATIENCE_S
        while _readable_bytes(far) < wanted:
            assert time.monotonic() < patience_s, "the kernel does not deliver"
            time.sleep(0)

    def answer(self) -> bytes:
        """The body of the answer to an HTTP request, once the server has sent it."""
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += self._receive()
        head, _, body = heard.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < size:
            body += self._receive()
        return body

    def drop_answers(self) -> None:
        """Forget what the server has said so far."""
        self._socket.setblocking(False)
        try:
            while self._receive():
                pass
        except BlockingIOError:
            self._socket.settimeout(PATIENCE_S)

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> bytes:
        data = self._socket.recv(BUFFER_BYTES)
        assert data, "the server closed the connection"
        return data

    def _far_end(self) -> socket.socket:
        if self._far is None:
            mine = self._socket.getsockname()[1]
            (far,) = (
                each for each in self._reactor.getReaders() if isinstance(each, Server) and each.getPeer().port == mine
            )
            self._far = far.socket
            self._far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            if tracemalloc.is_tracing():
                _watch_reads(self._far, self._outside)
        return self._far


def _watch_reads(connection: socket.socket, outside: Outside) -> None:
    """
    Keep the room that reading takes out of the memory that is counted.

    A read takes room for the most that may come and gives back at once what was not needed. That says nothing of what
    is done with what came, and is more than most of it.
    """

    class Watched(socket.socket):
        __slots__ = ()

        def recv(self, *arguments: int) -> bytes:
            outside.meter.pause()
            try:
                return super().recv(*arguments)
            finally:
                outside.meter.resume()

    connection.__class__ = Watched


def _readable_bytes(connection: socket.socket) -> int:
    answer = fcntl.ioctl(connection, termios.FIONREAD, bytes(4))
    return int(struct.unpack("i", answer)[0])
