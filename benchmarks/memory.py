"""
Resident memory of each publisher beyond the media it has up, and of each connection of a viewer.

    python -m benchmarks.memory --publishers 40 --connections 1000

With the smallest window (three segments listed, and as much again that players may still fetch), so many publish until
windows are full; then as many more, and the difference is theirs. What is up is counted as a player could: every
segment that is still answered for, by its ``Content-Length``; the open segment, and the frames since the last keyframe
beside it, are half of one each on average. Then so many connections ask for a playlist and go silent, wait for a part
that is not there yet, or ask for a segment and do not read it.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from statistics import mean

from benchmarks.clip import KEYFRAME_INTERVAL_S, make_clip
from benchmarks.generators import publishing
from benchmarks.hls_viewers import read_playlist
from benchmarks.publishers import ETHERNET_MSS
from benchmarks.segments import newest_segment
from benchmarks.servers import Running, allow_many_sockets, rapidrtmp
from benchmarks.watchers import FIELDS
from benchmarks.wrk import fetch

#: Until windows are full, and the first of what has left them is taken down: nine segments of 2 s, and one to spare.
FULL_S = 20
PLAYLIST = "/live/bench0/index.m3u8"


def media_up(server: Running, stream: str) -> int:
    """Bytes of media that one stream has up: all whole segments, listed or not any more."""
    newest = newest_segment(server, stream)
    number = int(re.findall(r"segment_(\d+)", newest)[0])
    connection = HTTPConnection("127.0.0.1", server.http_port, timeout=30)
    sizes: list[int] = []
    while True:
        connection.request("HEAD", f"{stream}/segment_{number - len(sizes)}.m4s")
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            connection.close()
            return sum(sizes) + sum(sizes) // len(sizes)  # and twice half a segment: the open one, and the GOP
        sizes.append(int(response.headers["Content-Length"]))


def of_publishers(server: Running, count: int) -> dict[str, float]:
    """Megabytes of each of ``count`` publishers, when there are as many already."""
    spread = f"--spread={KEYFRAME_INTERVAL_S}"  # so that there is half a GOP on average
    with publishing(server, count, 3 * FULL_S + 120, spread):
        time.sleep(FULL_S)
        before = server.resident_bytes()
        with publishing(server, count, 2 * FULL_S + 60, spread, "--key=more{}"):
            time.sleep(FULL_S)
            each = (server.resident_bytes() - before) / count / 1e6
            media = mean(media_up(server, f"/live/more{number}") for number in range(count)) / 1e6
    return {"resident": each, "media": media, "beyond": each - media}


def open_connections(server: Running, count: int, path: str, *, read: bool) -> list[socket.socket]:
    """So many connections that have asked for ``path``, and go silent when they have read the answer, or before."""
    opened = []
    for _ in range(count):
        connection = socket.socket()
        if not read:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # With loopback's segments the kernel would take in what the server must hold for a client far away.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, ETHERNET_MSS)
        connection.connect(("127.0.0.1", server.http_port))
        connection.sendall(f"GET {path} HTTP/1.1\r\n{FIELDS}".encode())
        if read:
            connection.recv(65536)
        opened.append(connection)
    await_calm(server)
    return opened


def await_calm(server: Running) -> None:
    """Wait until the server has done what it was asked: until it is busy for less than a tenth of the time."""
    before = float("-inf")
    while (now := server.cpu_seconds()) - before > 0.05:
        before = now
        time.sleep(0.5)


def of_connections(server: Running, count: int) -> dict[str, float]:
    """
    Kilobytes of each of ``count`` connections, by what it does, when there are as many already.

    All stay until the end: what one kind gave back, the next would take without the process growing.
    """
    sizes, opened = {}, []
    paths: dict[str, Callable[[Running], str]] = {}
    paths |= {"idle": lambda _: PLAYLIST, "waiting": far_ahead, "stalled": newest_segment}
    for name, path_of in paths.items():
        path = path_of(server)
        opened += open_connections(server, count, path, read=name == "idle")
        before = server.resident_bytes()
        opened += open_connections(server, count, path, read=name == "idle")
        sizes[name] = (server.resident_bytes() - before) / count / 1e3
    for connection in opened:
        connection.close()
    return sizes


def far_ahead(server: Running) -> str:
    """A blocking reload for the end of the segment after one that has just begun: four seconds away."""

    def reload(segments: int) -> str:
        found = re.findall(r"_HLS_msn=(\d+)", read_playlist(fetch(server.http_port, PLAYLIST)).next_query)
        return f"{PLAYLIST}?_HLS_msn={int(found[0]) + segments}"

    fetch(server.http_port, reload(0))
    return reload(1)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--publishers", type=int, default=40)
    parser.add_argument("--connections", type=int, default=1000)
    arguments = parser.parse_args()
    make_clip()
    allow_many_sockets()
    options = ("--storage=memory:", "--sink=hls:window=3")
    with tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as folder, rapidrtmp(Path(folder), *options) as server:
        publishers = of_publishers(server, arguments.publishers)
    with (
        tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as folder,
        rapidrtmp(Path(folder), *options) as server,
        publishing(server, 1, 120),
    ):
        time.sleep(FULL_S)
        viewers = of_connections(server, arguments.connections)
    rows = {f"publisher: {name}": round(size * 1e6) for name, size in publishers.items()}
    rows |= {f"connection, {name}": round(size * 1e3) for name, size in viewers.items()}
    for name, size in rows.items():
        print(f"{name:<24}{size / 1e3:>12.1f} kB")
    print(json.dumps({**vars(arguments), "bytes": rows}))


if __name__ == "__main__":
    main()
