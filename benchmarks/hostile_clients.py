"""
Strangers: what a client that may not publish can do to a server, over real sockets.

    python -m benchmarks.hostile_clients 'wrong tokens' --rtmp-port 1935 --http-port 8080 --seconds 10

Every kind continues until its time is over, as fast as it can with a few threads, and counts what it has done.
Source addresses are of 127.0.0.0/8, which Linux lets every process choose from.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import socket
import struct
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread

from benchmarks.publishers import AUDIO, COMMAND, PUBLISH, _command, _number, _string, connect_commands, set_chunk_size

__all__ = ["ATTACKS", "Target", "attack"]

HANDSHAKE = b"\x03" + bytes(1536) + bytes(1536)
THREADS = 8


@dataclass(frozen=True)
class Target:
    """
    A server, and how long to continue.

    :ivar stream: path of a stream that is live there.
    :ivar until_s: a moment of ``time.monotonic``.
    """

    rtmp_port: int
    http_port: int
    until_s: float
    stream: str = "/live/healthy"

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self.until_s


Attack = Callable[[Target], int]


def open_socket(port: int, source: str = "127.0.0.2") -> socket.socket:
    """A connection from ``source``."""
    return socket.create_connection(("127.0.0.1", port), timeout=2, source_address=(source, 0))


def anywhere() -> str:
    """Some address of this machine."""
    return f"127.{random.randint(1, 250)}.{random.randint(0, 255)}.{random.randint(1, 250)}"


def connected() -> bytes:
    """What a client says up to createStream, handshake included, without waiting for anything."""
    return HANDSHAKE + connect_commands("live", "k")[0]


def publishing() -> bytes:
    """What a publisher says up to its media, where none needs a token; each time of another stream."""
    return HANDSHAKE + b"".join(connect_commands("healthy", f"x{random.randrange(10**9)}"))


def message(type_id: int, body: bytes, csid: int = AUDIO, chunk_size: int = 128, msid: int = 1) -> bytes:
    """One message in chunks."""
    header = bytes([csid]) + b"\0\0\0" + len(body).to_bytes(3, "big") + bytes([type_id]) + struct.pack("<I", msid)
    pieces = [body[at : at + chunk_size] for at in range(0, len(body), chunk_size)]
    return header + bytes([0xC0 | csid]).join(pieces)


# ── ways to attack ───────────────────────────────────────────────────────────────────────────────────────────────────


def say(port: int, data: bytes, source: str, target: Target) -> int:
    """Send all of ``data``, then wait for the end of the connection; 1, for one attempt."""
    with contextlib.suppress(OSError), open_socket(port, source) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
        while not target.is_over and connection.recv(65_536):
            pass
    return 1


def repeatedly(
    data: Callable[[], bytes], source: Callable[[], str] = lambda: "127.0.0.2", *, is_same: bool = True
) -> Attack:
    """
    Send ``data`` again and again over RTMP, each time on a new connection, by several at a time.

    :param is_same: whether it may be made once for all.
    """

    def run(target: Target) -> int:
        said = data() if is_same else b""

        def work(counts: list[int]) -> None:
            while not target.is_over:
                counts.append(say(target.rtmp_port, said if is_same else data(), source(), target))

        return in_threads(work)

    return run


def in_threads(work: Callable[[list[int]], None], threads: int = THREADS) -> int:
    """Run ``work`` in several threads; the sum of what they count."""
    counts: list[int] = []
    workers = [Thread(target=work, args=(counts,)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts)


def held(many: int, source: Callable[[], str], first: bytes = b"", drip: bytes = b"", *, http: bool = False) -> Attack:
    """Keep ``many`` connections open, each beginning with ``first``, and send a byte of ``drip`` to each a second."""

    def run(target: Target) -> int:
        port = target.http_port if http else target.rtmp_port
        connections: list[socket.socket] = []
        count = 0
        for at in itertools.cycle(range(len(drip) or 1)):
            while len(connections) < many and not target.is_over:
                with contextlib.suppress(OSError):
                    connection = open_socket(port, source())
                    connections.append(connection)
                    count += 1
                    connection.sendall(first)
            if target.is_over:
                break
            time.sleep(min(1.0, max(0.0, target.until_s - time.monotonic())))
            connections = [each for each in connections if drips(each, drip[at : at + 1])]
        for connection in connections:
            connection.close()
        return count

    return run


def drips(connection: socket.socket, octet: bytes) -> bool:
    """Send a byte; whether the connection is still there."""
    try:
        connection.sendall(octet)
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            return connection.recv(1, socket.MSG_PEEK) != b""
    except OSError:
        connection.close()
        return False
    finally:
        with contextlib.suppress(OSError):
            connection.settimeout(2)
    return True


def connection_flood(source: Callable[[], str]) -> Attack:
    """Connect as fast as possible; keep the newest few hundred."""

    def run(target: Target) -> int:
        def work(counts: list[int]) -> None:
            kept: list[socket.socket] = []
            while not target.is_over:
                with contextlib.suppress(OSError):
                    kept.append(open_socket(target.rtmp_port, source()))
                    counts.append(1)
                if len(kept) > 60:
                    kept.pop(0).close()
            for each in kept:
                each.close()

        return in_threads(work)

    return run


def never_reads(target: Target) -> int:
    """Ask for answers all the time, and read none."""

    def work(counts: list[int]) -> None:
        ping = message(4, struct.pack(">HI", 6, 1), 2, msid=0) * 500
        publish = connected() + connect_commands("live", "k?token=wrong")[1]
        while not target.is_over:
            with contextlib.suppress(OSError), open_socket(target.rtmp_port) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.sendall(connected())
                counts.append(1)
                while not target.is_over:
                    connection.sendall(ping)
                connection.sendall(publish)

    return in_threads(work)


def blocking_requests(target: Target) -> int:
    """Hold many requests for the segment after the next."""
    connections: list[socket.socket] = []
    count = 0
    while not target.is_over:
        wanted = last_segment(target) + 2
        request = f"GET {target.stream}/index.m3u8?_HLS_msn={wanted} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        while len(connections) < 1500 and not target.is_over:
            with contextlib.suppress(OSError):
                connections.append(open_socket(target.http_port, anywhere()))
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.sendall(request)
                count += 1
        time.sleep(max(0.0, min(1.0, target.until_s - time.monotonic())))
        connections = [each for each in connections if taken(each)]
    for connection in connections:
        connection.close()
    return count


def last_segment(target: Target) -> int:
    """The sequence number of the last complete segment; -1 if there is none yet, or no more."""
    url = f"http://127.0.0.1:{target.http_port}{target.stream}/index.m3u8"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
    except OSError:
        return -1
    first = int(text.partition("#EXT-X-MEDIA-SEQUENCE:")[2].split()[0])
    return first + text.count("#EXTINF:") - 1


def taken(connection: socket.socket) -> bool:
    """Take what has been answered; whether the connection is still there."""
    try:
        connection.setblocking(False)
        return connection.recv(1 << 20) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        connection.settimeout(2)


def http_requests(path: str) -> Attack:
    """Ask for something again and again, on connections that stay, reading every answer."""

    def run(target: Target) -> int:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

        def work(counts: list[int]) -> None:
            while not target.is_over:
                with contextlib.suppress(OSError), open_socket(target.http_port) as connection:
                    while not target.is_over:
                        connection.sendall(request)
                        if not connection.recv(65_536):
                            break
                        counts.append(1)

        return in_threads(work)

    return run


def _chunk_streams() -> bytes:
    return connected() + b"".join(message(9, bytes(200), csid)[:140] for csid in range(10, 60))


def _guess() -> bytes:
    return connected() + _command(PUBLISH, 1, _string("publish") + _number(3) + b"\x05" + _string("k?token=wrong"))


def _amf(bomb: bytes) -> bytes:
    return connected() + set_chunk_size(60_000) + message(18, (_string("onMetaData") + bomb)[:60_000], 4, 60_000) * 20


def _fields() -> bytes:
    return b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(20_000))


def _header_flood(target: Target) -> int:
    said = _fields()

    def work(counts: list[int]) -> None:
        while not target.is_over:
            counts.append(say(target.http_port, said, "127.0.0.2", target))

    return in_threads(work)


def _one() -> str:
    return "127.0.0.2"


#: By name.
ATTACKS: dict[str, Attack] = {
    "connections from one address": connection_flood(_one),
    "connections from everywhere": connection_flood(anywhere),
    "500 idle sockets": held(500, anywhere),
    "slow handshakes": held(400, anywhere, b"\x03", HANDSHAKE[1:]),
    "10,000 chunk streams": repeatedly(_chunk_streams),
    "16 MiB declared": repeatedly(lambda: connected() + message(9, bytes(128))[:4] + b"\xff\xff\xff\x09\1\0\0\0"),
    "chunks of one byte": repeatedly(
        lambda: connected() + set_chunk_size(1) + message(9, bytes(30_000), 4, 1) * 8, anywhere
    ),
    "empty messages": repeatedly(lambda: connected() + message(8, b"", 4) * 20_000, anywhere),
    "publishers: chunks of one byte": repeatedly(
        lambda: publishing() + set_chunk_size(1) + message(9, bytes(30_000), 4, 1) * 40, anywhere, is_same=False
    ),
    "publishers: empty messages": repeatedly(
        lambda: publishing() + message(8, b"", 4) * 100_000, anywhere, is_same=False
    ),
    "AMF, deep": repeatedly(lambda: _amf(b"\x0a\0\0\0\1" * 12_000), anywhere),
    "AMF, wide": repeatedly(lambda: _amf(b"\x0a\x7f\xff\xff\xff" + b"\x05" * 59_000), anywhere),
    "AMF, many": repeatedly(lambda: _amf(b"\x05" * 59_000), anywhere),
    "createStream": repeatedly(
        lambda: connected() + _command(COMMAND, 0, _string("createStream") + _number(4) + b"\x05") * 200
    ),
    "wrong tokens": repeatedly(_guess),
    "answers never read": never_reads,
    "requests for missing streams": http_requests("/live/missing/index.m3u8"),
    "blocking requests": blocking_requests,
    "header floods": _header_flood,
    "slow requests": held(500, anywhere, b"GET / HTTP/1.1\r\n", b"X-Slow: " + b"y" * 1000, http=True),
}


def attack(kind: str, target: Target) -> int:
    """Do it, until its time is over; how often it was done."""
    return ATTACKS[kind](target)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("kind", choices=list(ATTACKS))
    parser.add_argument("--rtmp-port", type=int, default=1935)
    parser.add_argument("--http-port", type=int, default=8080)
    parser.add_argument("--stream", default="/live/healthy")
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    until_s = time.monotonic() + arguments.seconds
    target = Target(arguments.rtmp_port, arguments.http_port, until_s, arguments.stream)
    print(json.dumps({"kind": arguments.kind, "count": attack(arguments.kind, target)}), flush=True)


if __name__ == "__main__":
    main()
