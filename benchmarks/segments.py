"""
What it costs to send segments, beside nginx with and without sendfile in the same run.

    python -m benchmarks.segments --seconds 5 --rounds 3

One stream is published in real time; wrk asks for one of its segments (2 s at 2.5 Mbit/s: some 650 kB) on kept
connections, nginx for a file of the same bytes. CPU time is the server's alone, which is pinned to the first
processor, the load on the others; the median over the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.clip import make_clip
from benchmarks.generators import publishing
from benchmarks.servers import Running, nginx_files, rapidrtmp
from benchmarks.wrk import Load, fetch, load

STREAM = "/live/bench0"
FILL_S = 12


def newest_segment(server: Running, stream: str = STREAM) -> str:
    """The path of the newest whole segment: it stays up for the whole window, and longer."""
    playlist = fetch(server.http_port, f"{stream}/index.m3u8").decode()
    return f"{stream}/{re.findall(r'^([^#].*m4s)$', playlist, re.MULTILINE)[-1]}"


def rounds(arguments: argparse.Namespace) -> Iterator[tuple[str, Load]]:
    """Every row once a round."""
    how = {"connections": arguments.connections, "seconds": arguments.seconds}
    with (
        tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as ours,
        rapidrtmp(Path(ours), "--storage=memory:", "--sink=hls") as server,
        publishing(server, 1, FILL_S + arguments.rounds * (arguments.seconds + 5) * 4 + 60),
    ):
        time.sleep(FILL_S)
        for _ in range(arguments.rounds):
            path = newest_segment(server)
            segment = fetch(server.http_port, path)
            print(f"a segment of {len(segment)} bytes")
            yield "rapidrtmp", load(server, path, {}, **how)
            if arguments.klein:
                yield "rapidrtmp, by Klein", load(server, newest_segment(server), {"Cookie": "a=b"}, **how)
            for sendfile in (True, False):
                with (
                    tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as theirs,
                    nginx_files(Path(theirs), {"s.m4s": segment}, sendfile=sendfile) as nginx,
                ):
                    yield f"nginx, {'with' if sendfile else 'without'} sendfile", load(nginx, "/s.m4s", {}, **how)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--klein", action="store_true", help="also the way that other requests go")
    arguments = parser.parse_args()
    make_clip()
    results: dict[str, list[Load]] = {}
    for name, measured in rounds(arguments):
        results.setdefault(name, []).append(measured)
    summary = {
        name: {
            "cpu_seconds_per_gigabyte": round(median(each.cpu_seconds / each.read_bytes for each in loads) * 1e9, 3),
            "megabytes_per_second": round(median(each.read_bytes / each.elapsed for each in loads) / 1e6),
        }
        for name, loads in results.items()
    }
    print(f"{arguments.connections} connections, {arguments.rounds} rounds of {arguments.seconds} s")
    print(f"{'':<26}{'CPU-s/GB':>10}{'MB/s':>8}")
    for name, row in summary.items():
        print(f"{name:<26}{row['cpu_seconds_per_gigabyte']:>10.3f}{row['megabytes_per_second']:>8}")
    print(json.dumps({"connections": arguments.connections, "results": summary}))


if __name__ == "__main__":
    main()
