"""
What it costs to take in a stream: CPU-milliseconds per stream-second, beside nginx-rtmp in the same run.

    python -m benchmarks.ingest --publishers 50 --seconds 20 --rounds 3

Each server takes the same publishers turn by turn, pinned to one processor, the load on the others. CPU time is that
of the server's whole process tree between two moments while all publish; the median over the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.clip import make_clip
from benchmarks.generators import publishing
from benchmarks.servers import Running, nginx, rapidrtmp

#: What is left out at the beginning, while tracks and the first GOPs are found.
SETTLE_S = 3

LOW_LATENCY, ORDINARY = "rapidrtmp, low latency", "rapidrtmp, ordinary HLS"
TO_DISK = "rapidrtmp, low latency, to disk"
PEER, PEER_BARE = "nginx-rtmp, HLS to disk", "nginx-rtmp, no HLS"
CONTENDERS: dict[str, Callable[[Path], AbstractContextManager[Running]]] = {
    LOW_LATENCY: lambda scratch: rapidrtmp(scratch, "--storage=memory:", "--sink=hls"),
    ORDINARY: lambda scratch: rapidrtmp(scratch, "--storage=memory:", "--sink=hls:part=0"),
    TO_DISK: lambda scratch: rapidrtmp(scratch, "--storage=local:streams", "--sink=hls"),
    PEER: lambda scratch: nginx(scratch, hls=True),
    PEER_BARE: lambda scratch: nginx(scratch, hls=False),
}
HEADINGS = f"{'CPU-ms/stream-s':>16}{'MB/publisher':>14}{'load late p99':>15}{'load CPU':>10}"

Figures = dict[str, float]


def measure(contender: str, publishers: int, chunk: int, seconds: float) -> Figures:
    """One round of one server."""
    with (
        tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as folder,
        CONTENDERS[contender](Path(folder)) as server,
    ):
        return cost(server, publishers, seconds, f"--chunk={chunk}")


def cost(server: Running, publishers: int, seconds: float, *options: str, settle: float = SETTLE_S) -> Figures:
    """What so many publishers cost a server that has none, per publisher."""
    base_bytes = server.resident_bytes()
    with publishing(server, publishers, int(settle + seconds) + 60, *options) as load:
        time.sleep(settle)
        begin, begin_cpu = time.monotonic(), server.cpu_seconds()
        time.sleep(seconds)
        cpu, elapsed = server.cpu_seconds() - begin_cpu, time.monotonic() - begin
        memory = server.resident_bytes() - base_bytes
        generator = load.stop()
    return {
        "cpu_ms_per_stream_second": cpu * 1000 / elapsed / publishers,
        "megabytes_per_publisher": memory / publishers / 1e6,
        "load_late_p99_ms": generator["late_p99_ms"],
        "load_cpu_share": generator["cpu_share"],
    }


def medians(rounds: list[Figures]) -> Figures:
    """Of each figure over the rounds."""
    return {figure: round(median(each[figure] for each in rounds), 3) for figure in rounds[0]}


def render_row(row: Figures) -> str:
    """The figures under :data:`HEADINGS`."""
    return (
        f"{row['cpu_ms_per_stream_second']:>16.2f}{row['megabytes_per_publisher']:>14.2f}"
        f"{row['load_late_p99_ms']:>12.1f} ms{row['load_cpu_share']:>10.2f}"
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--publishers", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunk", type=int, default=4096)
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS))
    arguments = parser.parse_args()
    make_clip()
    results: dict[str, list[Figures]] = {name: [] for name in arguments.only}
    for _ in range(arguments.rounds):
        for name in arguments.only:
            results[name].append(measure(name, arguments.publishers, arguments.chunk, arguments.seconds))
    summary: dict[str, Any] = {name: medians(rounds) for name, rounds in results.items()}
    print(f"{arguments.publishers} publishers, chunk size {arguments.chunk}, {arguments.rounds} rounds")
    print(f"{'':<34}{HEADINGS}")
    for name, row in summary.items():
        print(f"{name:<34}{render_row(row)}")
    print(json.dumps({"publishers": arguments.publishers, "chunk": arguments.chunk, "results": summary}))


if __name__ == "__main__":
    main()
