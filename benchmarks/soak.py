"""
What stays in memory of those who came and went: nothing, or the server would not live for months.

    python -m benchmarks.soak --cycles 10000

After a warm-up, in which the allocator finds the room it needs at the busiest moment (some 1500 publishes), so many
publishes of a second of media come and go, so many requests are made for streams that are not there, and a fifth as
many connections of each kind end half-way. Resident memory is shown before and after each, when everything has been
given the time to end; what grows by more than a tenth in all is a leak.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.clip import make_clip, read_tags
from benchmarks.hostile_clients import HANDSHAKE
from benchmarks.publishers import connect_commands, open_publisher, write_chunks
from benchmarks.servers import Running, rapidrtmp

WORKERS = 16
GROWTH = 1.10
WARM_UP = 2500
SETTINGS = """
[live]
grace = "100ms"
linger = "500ms"
[rtmp]
max_connections_per_ip = 1000
max_refusals_per_ip = 0
"""
#: Ways to end half-way: what is sent before the connection is closed.
HALVES = {
    "connections without a word": b"",
    "half a handshake": HANDSHAKE[:1000],
    "handshakes, and no more": HANDSHAKE,
    "connects, and no more": HANDSHAKE + connect_commands("live", "k")[0],
    "half a command": HANDSHAKE + connect_commands("live", "k")[0][:60],
    "junk": b"GET / HTTP/1.1\r\n\r\n",
}
HTTP_HALVES = {
    "half a request": b"GET /live/k/index.m3u8 HT",
    "requests not waited for": b"GET /live/k/index.m3u8 HTTP/1.1\r\nHost: a\r\n\r\n",
}


def publish(server: Running, media: bytes, number: int) -> None:
    """Publish a second of media as one of a hundred names, and leave."""
    connection = open_publisher("127.0.0.1", server.rtmp_port, "live", f"soak{number}", 4096)
    with connection:
        connection.sendall(media)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass


def half(port: int, data: bytes) -> None:
    """Connect, send ``data``, leave."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(data)


def missing(server: Running, number: int) -> None:
    """Ask for a stream that is not there."""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=30) as connection:
        connection.sendall(b"GET /live/missing%d/index.m3u8 HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        if b" 404 " not in connection.recv(65_536):
            raise SystemExit("a stream that no one publishes was answered for")


def settle(server: Running) -> int:
    """Resident bytes once all clients have left."""
    time.sleep(4)
    return server.resident_bytes()


def stages(server: Running, media: bytes, cycles: int) -> dict[str, tuple[int, Callable[[int], None]]]:
    """What is done, and how often."""
    done: dict[str, tuple[int, Callable[[int], None]]] = {
        "publishes": (cycles, lambda number: publish(server, media, number)),
        "requests for missing streams": (cycles, lambda number: missing(server, number)),
    }
    for name, data in HALVES.items():
        done[name] = cycles // 5, lambda _, data=data: half(server.rtmp_port, data)  # type: ignore[misc]
    for name, data in HTTP_HALVES.items():
        done[name] = cycles // 5, lambda _, data=data: half(server.http_port, data)  # type: ignore[misc]
    return done


def run(cycles: int) -> dict[str, float]:
    """Resident megabytes after the warm-up and after each stage."""
    media = b"".join(
        due.data for due in write_chunks((tag for tag in read_tags(make_clip()) if tag.time_ms < 1000), 4096)
    )
    with tempfile.TemporaryDirectory(prefix="rapidrtmp-soak-") as folder:
        settings = Path(folder) / "soak.toml"
        settings.write_text(SETTINGS)
        options = ("--storage=memory:", "--sink=hls", f"--config={settings}")
        with rapidrtmp(Path(folder), *options) as server, ThreadPoolExecutor(WORKERS) as pool:
            for count, do in stages(server, media, WARM_UP).values():
                list(pool.map(do, range(count)))
            megabytes = {"warm": settle(server) / 1e6}
            for name, (count, do) in stages(server, media, cycles).items():
                list(pool.map(do, range(count)))
                megabytes[f"{count} {name}"] = settle(server) / 1e6
                print(f"{count:>7} {name:<32}{megabytes[f'{count} {name}']:>8.1f} MB", flush=True)
    return megabytes


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--cycles", type=int, default=10_000)
    megabytes = run(parser.parse_args().cycles)
    begin, end = megabytes["warm"], list(megabytes.values())[-1]
    print(f"{begin:.1f} MB after the warm-up, {end:.1f} MB at the end: {end / begin - 1:+.1%}")
    print(json.dumps({name: round(each, 1) for name, each in megabytes.items()}))
    if end > begin * GROWTH:
        sys.exit("it leaks")


if __name__ == "__main__":
    main()
