"""
What several processes carry, and what one of them costs another: capacity, feeds, and how late a follower is.

    python -m benchmarks.workers --publishers 20 --seconds 15

In one run: one process with so many publishers, then two workers with twice as many, whose streams no one watches, and
then each of which has all those of the other one followed. CPU time is that of all processes of the server. A part is
asked for at the owner and at the follower at the same moment, and the answers are compared. Claims are made in a
directory in this process; a move is the time from the connection of a publisher to the answer that it may publish.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

from twisted.internet.task import Clock
from twisted.logger import Logger

from benchmarks.clip import make_clip
from benchmarks.generators import publishing
from benchmarks.publishers import open_publisher
from benchmarks.servers import Running, rapidrtmp
from rapidrtmp.directory.local import LocalDirectory
from rapidrtmp.interfaces import DirectoryContext
from rapidrtmp.m3u8.read import parse_media_playlist

SETTLE_S = 6
PROCESSORS = "0,1"
OPTIONS = ("--storage=memory:", "--sink=hls")
CLAIMS, MOVES = 2000, 12
KEY = "bench{}"


class Point(NamedTuple):
    """What is asked for: a part of a segment."""

    sequence: int
    part: int


class Asker:
    """One connection to a server, which ends at one of its workers."""

    def __init__(self, server: Running) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=20)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(self, path: str) -> tuple[int, bytes]:
        """The status and the body of an answer."""
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def own_streams(self) -> int:
        """How many streams the worker has that it ends at."""
        return int(json.loads(self.get("/api/v1/streams?node=self&itemsPerPage=1")[1])["total"])

    def has(self, key: str) -> bool:
        """Whether that one has this stream."""
        listed = json.loads(self.get("/api/v1/streams?node=self")[1])["streams"]
        return any(each["streamKey"] == key for each in listed)

    def close(self) -> None:
        """Close it."""
        self._connection.close()


def cpu_ms(server: Running, streams: int, seconds: float) -> float:
    """CPU-milliseconds for each second of each stream."""
    begin, before = time.monotonic(), server.cpu_seconds()
    time.sleep(seconds)
    return (server.cpu_seconds() - before) * 1000 / (time.monotonic() - begin) / streams


def followed(server: Running) -> int:
    """How many streams are followed, by all workers together."""
    asker = Asker(server)
    _, page = asker.get("/metrics")
    asker.close()
    return sum(int(float(each)) for each in re.findall(rb"^rapidrtmp_followed_streams\{.*\} (\S+)", page, re.MULTILINE))


def follow_all(server: Running, streams: int) -> None:
    """Have every stream watched at the worker that has it not, for a moment."""
    until = time.monotonic() + 15
    while followed(server) < streams:
        if time.monotonic() > until:
            raise SystemExit(f"only {followed(server)} of {streams} streams are followed")
        asker = Asker(server)
        for number in range(streams):
            asker.get(f"/live/{KEY.format(number)}/index.m3u8")
        asker.close()


def both_sides(server: Running, key: str) -> tuple[Asker, Asker]:
    """A connection to the owner of a stream, and one to a worker that follows it."""
    found: dict[bool, Asker] = {}
    for _ in range(100):
        asker = Asker(server)
        if found.setdefault(asker.has(key), asker) is not asker:
            asker.close()
        if len(found) == 2:
            return found[True], found[False]
    raise SystemExit("all connections end at one worker")


def points(asker: Asker, key: str, until: float) -> Iterator[tuple[Point, float]]:
    """Ask for each next part of a stream; when the answer began to come that has it."""
    _, body = asker.get(f"/live/{key}/index.m3u8")
    while time.monotonic() < until:
        playlist = parse_media_playlist(body)
        at = Point(playlist.next_sequence, len(playlist.open.parts) if playlist.open is not None else 0)
        status, body = asker.get(f"/live/{key}/index.m3u8?_HLS_msn={at.sequence}&_HLS_part={at.part}")
        if status == 200:
            yield at, time.monotonic()


def lateness_ms(server: Running, key: str, seconds: float) -> list[float]:
    """By how much later than at its owner each part of a stream is at a follower, in milliseconds."""
    askers, until = both_sides(server, key), time.monotonic() + seconds
    came: tuple[dict[Point, float], dict[Point, float]] = {}, {}

    def watch(asker: Asker, times: dict[Point, float]) -> None:
        times.update(points(asker, key, until))

    threads = [threading.Thread(target=watch, args=each) for each in zip(askers, came, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for asker in askers:
        asker.close()
    return [(came[1][point] - came[0][point]) * 1000 for point in came[0].keys() & came[1].keys()]


def claims_us(folder: Path) -> list[float]:
    """What each claim of a free name takes, in microseconds."""
    directory = LocalDirectory(folder, DirectoryContext("bench", "unix:bench", Clock(), Logger(), lambda call: call()))
    taken = []
    for number in range(CLAIMS):
        begin = time.perf_counter()
        directory.claim(f"live/stream{number}")
        taken.append((time.perf_counter() - begin) * 1e6)
    directory.close()
    return taken


def moves_ms(server: Running, scratch: Path) -> list[float]:
    """What each move of a stream takes, in milliseconds."""
    key, taken = "moving", []
    with publishing(server, 1, SETTLE_S + 30, f"--key={key}"):
        time.sleep(SETTLE_S + 4)
    owner = _owner(scratch, key)
    for _ in range(20 * MOVES):
        begin = time.monotonic()
        connection = open_publisher("127.0.0.1", server.rtmp_port, "live", key, 4096)
        ms = (time.monotonic() - begin) * 1000
        connection.close()
        before, owner = owner, _owner(scratch, key)
        if owner != before:
            taken.append(ms)
        if len(taken) == MOVES:
            break
        time.sleep(0.1)
    return taken


def _owner(scratch: Path, key: str) -> str:
    with suppress(OSError):
        return str(json.loads((scratch / "data/directory/names" / f"live%2F{key}").read_text())[1])
    return ""


def shown(values: list[float]) -> dict[str, float]:
    """The median and the 99th percentile."""
    return {"p50": round(median(values), 3), "p99": round(quantiles(values, n=100)[-1], 3), "count": len(values)}


def run(publishers: int, seconds: float) -> dict[str, Any]:
    """Everything, in one run."""
    found: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as folder,
        rapidrtmp(Path(folder), *OPTIONS, processors=PROCESSORS) as server,
        publishing(server, publishers, int(SETTLE_S + seconds) + 60),
    ):
        time.sleep(SETTLE_S)
        found["one_process_ms"] = round(cpu_ms(server, publishers, seconds), 3)
    with (
        tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as folder,
        rapidrtmp(Path(folder), *OPTIONS, "--workers=2", processors=PROCESSORS) as server,
    ):
        scratch, streams = Path(folder), 2 * publishers
        time.sleep(3)  # both workers are ready
        found["claim_us"] = shown(claims_us(scratch / "claims"))
        found["move_ms"] = shown(moves_ms(server, scratch))
        with publishing(server, streams, int(SETTLE_S + 3 * seconds) + 120) as load:
            time.sleep(SETTLE_S)
            found["two_workers_ms"] = round(cpu_ms(server, streams, seconds), 3)
            asker = Asker(server)
            own = asker.own_streams()
            asker.close()
            found["largest_share"] = round(max(own, streams - own) / streams, 3)
            follow_all(server, streams)
            time.sleep(1)
            with_feeds = cpu_ms(server, streams, seconds)
            found["followed"] = followed(server)
            found["feed_ms"] = round(with_feeds - found["two_workers_ms"], 3)
            found["load_late_p99_ms"] = load.stop()["late_p99_ms"]
        time.sleep(1)
        with publishing(server, 1, int(SETTLE_S + seconds) + 60, "--key=late"):
            time.sleep(SETTLE_S)
            found["part_late_ms"] = shown(lateness_ms(server, "late", seconds))
    found["times_publishers"] = round(2 * found["one_process_ms"] / found["two_workers_ms"], 3)
    return found


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--publishers", type=int, default=20, help="of one process; two workers have twice as many")
    parser.add_argument("--seconds", type=int, default=15)
    arguments = parser.parse_args()
    make_clip()
    found = run(arguments.publishers, arguments.seconds)
    claim, move, late = found["claim_us"], found["move_ms"], found["part_late_ms"]
    print(
        f"CPU-ms per stream-second: {found['one_process_ms']} in one process, {found['two_workers_ms']} in two workers"
    )
    print(f"two workers carry {found['times_publishers']} times the publishers (at least 1.8)")
    print(f"a followed stream costs {found['feed_ms']} CPU-ms a second, both sides together (at most 0.8)")
    print(f"a part is at a follower {late['p50']} ms after the owner, p99 {late['p99']} (at most 5)")
    print(f"a claim takes {claim['p50']} us, p99 {claim['p99']} (at most 1000); a move {move['p50']} ms (at most 100)")
    print(json.dumps({**vars(arguments), "results": found}))


if __name__ == "__main__":
    main()
