"""
How many playlist requests a second of CPU answers, beside nginx with a file of the same size in the same run.

    python -m benchmarks.requests --seconds 5 --rounds 3

One stream is published in real time; wrk asks for its playlist on kept connections. The rows of ours differ in what
goes along with the request: a ``Cookie`` keeps it off the express way. CPU time is the server's alone, which is pinned
to the first processor, the load on the others; the median over the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.clip import make_clip
from benchmarks.generators import publishing
from benchmarks.servers import nginx_files, rapidrtmp
from benchmarks.wrk import Load, fetch, load

PATH = "/live/bench0/index.m3u8"
#: How long a stream is published before it is asked for: until its window is full.
FILL_S = 6

ROWS: dict[str, tuple[str, dict[str, str]]] = {
    "playlist": ("", {}),
    "playlist, gzip": ("", {"Accept-Encoding": "gzip"}),
    "blocking, there already": ("?_HLS_msn=0", {}),
    "playlist, by Klein": ("", {"Cookie": "a=b"}),
    "blocking, by Klein": ("?_HLS_msn=0", {"Cookie": "a=b"}),
}
PEER = "nginx, a file"


def rounds(arguments: argparse.Namespace) -> Iterator[tuple[str, Load]]:
    """Every row once a round."""
    with (
        tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as ours,
        tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as theirs,
        rapidrtmp(Path(ours), "--storage=memory:", "--sink=hls") as server,
        publishing(server, 1, FILL_S + arguments.rounds * (arguments.seconds + 2) * (len(ROWS) + 2) + 60),
    ):
        time.sleep(FILL_S)
        playlist = fetch(server.http_port, PATH)
        print(f"the playlist has {len(playlist)} bytes")
        with nginx_files(Path(theirs), {PATH[1:]: playlist}) as nginx:
            for _ in range(arguments.rounds):
                for name in arguments.only:
                    query, headers = ROWS.get(name, ("", {}))
                    asked = nginx if name == PEER else server
                    yield (
                        name,
                        load(
                            asked, PATH + query, headers, connections=arguments.connections, seconds=arguments.seconds
                        ),
                    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[*ROWS, PEER], choices=[*ROWS, PEER])
    arguments = parser.parse_args()
    make_clip()
    results: dict[str, list[Load]] = {}
    for name, measured in rounds(arguments):
        results.setdefault(name, []).append(measured)
    summary = {
        name: {
            "requests_per_cpu_second": round(median(each.requests / each.cpu_seconds for each in loads)),
            "cpu_us_per_request": round(median(each.cpu_seconds / each.requests for each in loads) * 1e6, 1),
            "requests_per_second": round(median(each.requests / each.elapsed for each in loads)),
        }
        for name, loads in results.items()
    }
    print(f"{arguments.connections} connections, {arguments.rounds} rounds of {arguments.seconds} s")
    print(f"{'':<26}{'requests/CPU-s':>15}{'CPU-µs/request':>16}{'requests/s':>12}")
    for name, row in summary.items():
        print(
            f"{name:<26}{row['requests_per_cpu_second']:>15}{row['cpu_us_per_request']:>16.1f}"
            f"{row['requests_per_second']:>12}"
        )
    print(json.dumps({"connections": arguments.connections, "results": summary}))


if __name__ == "__main__":
    main()
