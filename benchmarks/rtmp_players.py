"""
The load generator: N players of one stream over RTMP or as FLV, each with a connection and an address of its own.

What they get is thrown away unread, but for every ``--sampled``-th of them, which looks for the moment of sending that
the publisher has put into each picture (``benchmarks.publishers``).

    python -m benchmarks.rtmp_players --port 1935 --count 1000 --seconds 20
"""

from __future__ import annotations

import argparse
import contextlib
import json
import selectors
import signal
import socket
import ssl
import struct
import time

from benchmarks.publishers import STAMP_MARK, STAMP_SIZE
from benchmarks.servers import allow_many_sockets

READ_BYTES = 1 << 20
#: So many connect in a second.
JOINS_PER_S = 200
PER_ADDRESS = 50


def _text(text: str) -> bytes:
    return b"\x02" + struct.pack(">H", len(text)) + text.encode()


def _command(csid: int, msid: int, body: bytes) -> bytes:
    header = bytes([csid]) + b"\0\0\0" + len(body).to_bytes(3, "big") + b"\x14" + struct.pack("<I", msid)
    return header + bytes([0xC0 | csid]).join(body[at : at + 128] for at in range(0, len(body), 128))


def _request(protocol: str, port: int, name: str) -> bytes:
    """All that a player has to say."""
    if protocol == "flv":
        return f"GET /live/{name}.flv HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
    said = {"app": "live", "flashVer": "bench", "tcUrl": f"rtmp://127.0.0.1:{port}/live"}
    fields = b"".join(struct.pack(">H", len(key)) + key.encode() + _text(value) for key, value in said.items())
    connect = _text("connect") + struct.pack(">Bd", 0, 1) + b"\x03" + fields + b"\0\0\x09"
    create = _text("createStream") + struct.pack(">Bd", 0, 2) + b"\x05"
    play = _text("play") + struct.pack(">Bd", 0, 0) + b"\x05" + _text(name) + struct.pack(">Bd", 0, -2000)
    handshake = b"\x03" + bytes(1536) + bytes(1536)
    return handshake + _command(3, 0, connect) + _command(3, 0, create) + _command(8, 1, play)


class Sampled:
    """One player whose pictures' delays are measured."""

    def __init__(self) -> None:
        self._kept = b""
        self.delays: list[float] = []

    def take(self, data: bytes) -> None:
        """Find the stamps in what came."""
        now = time.monotonic_ns() // 1000
        data = self._kept + data
        at = 0
        while (found := data.find(STAMP_MARK, at)) >= 0 and found + len(STAMP_MARK) + STAMP_SIZE <= len(data):
            at = found + len(STAMP_MARK) + STAMP_SIZE
            with contextlib.suppress(ValueError):  # cut by the head of a chunk
                self.delays.append((now - int(data[at - STAMP_SIZE : at])) / 1000)
        self._kept = data[max(at, len(data) - len(STAMP_MARK) - STAMP_SIZE) :]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--sampled", type=int, default=50)
    parser.add_argument("--name", default="bench0")
    parser.add_argument("--protocol", choices=["rtmp", "rtmps", "flv"], default="rtmp")
    arguments = parser.parse_args()
    allow_many_sockets()
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(SystemExit))
    request = _request(arguments.protocol, arguments.port, arguments.name)
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    poll = selectors.EpollSelector()
    for number in range(arguments.count):
        player = socket.socket()
        player.bind((f"127.0.{1 + number // PER_ADDRESS}.1", 0))
        player.connect(("127.0.0.1", arguments.port))
        if arguments.protocol == "rtmps":
            player = unverified.wrap_socket(player)
        player.setblocking(False)
        player.sendall(request)
        poll.register(player, selectors.EVENT_READ, Sampled() if number % arguments.sampled == 0 else None)
        read(poll, 1 / JOINS_PER_S)
    read(poll, 3)  # what has waited meanwhile
    for key in poll.get_map().values():
        if key.data is not None:
            key.data.delays.clear()
    print("ready", flush=True)
    begun, busy = time.monotonic(), time.process_time()
    received = read(poll, arguments.seconds)
    delays = sorted(delay for key in poll.get_map().values() if key.data is not None for delay in key.data.delays)
    report = {
        "players": len(poll.get_map()),
        "mbit_per_player": round(received * 8 / 1e6 / arguments.count / (time.monotonic() - begun), 3),
        "generator_cpu": round((time.process_time() - busy) / (time.monotonic() - begun), 3),
        "pictures": len(delays),
        **{f"p{share}_ms": round(delays[len(delays) * share // 100], 1) if delays else None for share in (50, 90, 99)},
    }
    print(json.dumps(report), flush=True)


def read_encrypted(handle: ssl.SSLSocket, sampled: Sampled | None) -> int:
    """Read all that one socket has; how much that was. :raises ssl.SSLWantReadError: nothing yet."""
    size = 0
    while True:
        data = handle.recv(1 << 16)
        size += len(data)
        if sampled is not None:
            sampled.take(data)
        if not handle.pending():
            return size


def read(poll: selectors.BaseSelector, seconds: float) -> int:
    """Read for so long; how much came. Connections that are closed are dropped."""
    until, received = time.monotonic() + seconds, 0
    buffer = bytearray(READ_BYTES)
    while (left := until - time.monotonic()) > 0:
        for key, _ in poll.select(left):
            handle: socket.socket = key.fileobj  # type: ignore[assignment]
            try:
                if isinstance(handle, ssl.SSLSocket):
                    size = read_encrypted(handle, key.data)
                elif key.data is None:
                    size = handle.recv_into(buffer, READ_BYTES, socket.MSG_TRUNC)
                else:
                    data = handle.recv(READ_BYTES)
                    size = len(data)
                    key.data.take(data)
            except (BlockingIOError, ssl.SSLWantReadError):
                continue
            except OSError:
                size = 0
            if not size:
                poll.unregister(handle)
                handle.close()
            received += size
    return received


if __name__ == "__main__":
    main()
