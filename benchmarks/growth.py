"""
Whether one more stream, or one more viewer, costs the same when there are many: what each costs at several numbers.

    python -m benchmarks.growth

Streams are published to a server of their own for each number, in memory, with low latency and the smallest window,
which is full when measuring begins. Viewers come one number after the other to ten streams of low bitrate, so that
requests and not bytes are what is measured; what the streams cost without viewers is taken off. So many thousands of
low-latency viewers would keep the load generator busy, not the server: the largest numbers are of ordinary ones. Few
viewers cost little beside ten streams, so little that their figures are rough.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from benchmarks.clip import make_clip
from benchmarks.generators import publishing
from benchmarks.ingest import HEADINGS, Figures, cost, render_row
from benchmarks.memory import FULL_S
from benchmarks.servers import Running, allow_many_sockets, rapidrtmp
from benchmarks.viewers import SETTLE_S, SPREAD_S, watch

OPTIONS = ("--storage=memory:", "--sink=hls:window=3")
STREAMS, FILL_S = 10, 8
LOW_KILOBITS = 64
KINDS = {"low-latency": "part_late", "ordinary": "answer"}


def busy(server: Running, seconds: float) -> float:
    """The share of a processor that a server uses."""
    begin, begin_cpu = time.monotonic(), server.cpu_seconds()
    time.sleep(seconds)
    return (server.cpu_seconds() - begin_cpu) / (time.monotonic() - begin)


def of_streams(count: int, seconds: float) -> Figures:
    """What each of so many streams costs; ``idle_cpu_ms``: what the server spends in a second without any."""
    with tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as folder, rapidrtmp(Path(folder), *OPTIONS) as server:
        idle = busy(server, 2)
        spread = f"--spread={SPREAD_S}"
        return {**cost(server, count, seconds, spread, settle=FULL_S), "idle_cpu_ms": idle * 1000}


def of_viewers(server: Running, kind: str, count: int, seconds: float) -> Figures:
    """What each of so many viewers costs, beyond what the streams cost just before."""
    streams_cpu = busy(server, seconds)
    seen = watch(server, kind, count, STREAMS, seconds)
    cpu = seen["server_cpu"] - streams_cpu
    return {
        "answers_per_second": seen["answers_per_second"],
        "cpu_ms_per_viewer_second": cpu * 1000 / count,
        "cpu_us_per_answer": cpu * 1e6 / seen["answers_per_second"],
        "late_p50_ms": seen[KINDS[kind]]["p50_ms"],
        "late_p99_ms": seen[KINDS[kind]]["p99_ms"],
        "load_late_p99_ms": seen["generator_late"]["p99_ms"],
        "load_cpu_share": seen["cpu_share"],
    }


def grow_streams(numbers: list[int], seconds: float) -> list[Figures]:
    """The table of streams."""
    print(f"{'streams':<12}{HEADINGS}", flush=True)
    rows = []
    for count in numbers:
        rows.append({"streams": count, **of_streams(count, seconds)})
        print(f"{count:<12}{render_row(rows[-1])}", flush=True)
    if rows:
        print(f"without any: {min(row['idle_cpu_ms'] for row in rows):.1f} CPU-ms a second")
    return rows


def render_viewers(row: Figures) -> str:
    """The figures under the heading of viewers."""
    return (
        f"{row['answers_per_second']:>10.0f}{row['cpu_ms_per_viewer_second']:>17.3f}{row['cpu_us_per_answer']:>15.1f}"
        f"{row['late_p50_ms']:>10.1f}{row['late_p99_ms']:>8.1f}{row['load_late_p99_ms']:>15.1f}"
        f"{row['load_cpu_share']:>10.2f}"
    )


def grow_viewers(numbers: dict[str, list[int]], seconds: float) -> dict[str, list[Figures]]:
    """The tables of viewers."""
    runs = sum(map(len, numbers.values()))
    lasts = FILL_S + 30 + runs * (SETTLE_S + 2 * int(seconds) + 10)
    load = ("--stamp", f"--spread={SPREAD_S}", f"--kilobits={LOW_KILOBITS}")
    rows: dict[str, list[Figures]] = {kind: [] for kind in numbers}
    with (
        tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as folder,
        rapidrtmp(Path(folder), *OPTIONS) as server,
        publishing(server, STREAMS, lasts, *load),
    ):
        time.sleep(FILL_S)
        print(f"{'viewers':<20}{'answers/s':>10}{'CPU-ms/viewer-s':>17}{'CPU-µs/answer':>15}{'late p50':>10}", end="")
        print(f"{'p99':>8}{'load late p99':>15}{'load CPU':>10}", flush=True)
        for kind, counts in numbers.items():
            for count in counts:
                row = of_viewers(server, kind, count, seconds)
                rows[kind].append({"viewers": count, **row})
                print(f"{f'{kind}: {count}':<20}{render_viewers(row)}", flush=True)
    return rows


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--low-latency", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--ordinary", type=int, nargs="*", default=[100, 1000, 5000])
    arguments = parser.parse_args()
    make_clip()
    make_clip(kilobits=LOW_KILOBITS)
    allow_many_sockets()
    streams = grow_streams(arguments.streams, arguments.seconds)
    viewers = grow_viewers({"low-latency": arguments.low_latency, "ordinary": arguments.ordinary}, arguments.seconds)
    print(json.dumps({"seconds": arguments.seconds, "streams": streams, "viewers": viewers}))


if __name__ == "__main__":
    main()
