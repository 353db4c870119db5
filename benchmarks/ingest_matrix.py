"""
What it costs to take in a stream, over numbers of publishers, chunk sizes and kinds of HLS, beside nginx-rtmp.

    python -m benchmarks.ingest_matrix --rounds 3

The points are measured as ``benchmarks.ingest`` does; the ratio is to nginx at the same point in the same round, and
the median over the rounds counts. A generator whose p99 is more than some milliseconds late, or that is busy nearly
all the time, has flattered the server.
"""

from __future__ import annotations

import argparse
import json
from typing import NamedTuple

from benchmarks.clip import make_clip
from benchmarks.ingest import (
    HEADINGS,
    LOW_LATENCY,
    ORDINARY,
    PEER,
    TO_DISK,
    Figures,
    measure,
    medians,
    render_row,
)


class Point(NamedTuple):
    """A load: how many publish, and in chunks of how many bytes."""

    publishers: int
    chunk: int


#: What is measured where; nginx comes first, for the others are compared with it.
POINTS: dict[Point, tuple[str, ...]] = {
    Point(1, 4096): (PEER, LOW_LATENCY),
    Point(10, 4096): (PEER, LOW_LATENCY),
    Point(50, 4096): (PEER, LOW_LATENCY, ORDINARY, TO_DISK),
    Point(100, 4096): (PEER, LOW_LATENCY),
    Point(50, 128): (PEER, LOW_LATENCY),
    Point(50, 60_000): (PEER, LOW_LATENCY),
}


def walk(seconds: float) -> dict[tuple[Point, str], Figures]:
    """One round of all points."""
    found: dict[tuple[Point, str], Figures] = {}
    for point, contenders in POINTS.items():
        for name in contenders:
            figures = measure(name, point.publishers, point.chunk, seconds)
            peer = found.get((point, PEER), figures)
            ratio = figures["cpu_ms_per_stream_second"] / peer["cpu_ms_per_stream_second"]
            found[point, name] = {**figures, "times_nginx": ratio}
    return found


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement; whole GOPs of 2 s")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    make_clip()
    rounds = [walk(arguments.seconds) for _ in range(arguments.rounds)]
    print(f"{arguments.rounds} rounds of {arguments.seconds:g} s")
    print(f"{'publishers':>10}{'chunk':>7}  {'':<34}{HEADINGS}{'× nginx':>9}")
    summary = []
    for point, name in rounds[0]:
        row = medians([found[point, name] for found in rounds])
        summary.append({**point._asdict(), "server": name, **row})
        ratio = "" if name == PEER else f"{row['times_nginx']:.2f}"
        print(f"{point.publishers:>10}{point.chunk:>7}  {name:<34}{render_row(row)}{ratio:>9}")
    print(json.dumps({"rounds": arguments.rounds, "seconds": arguments.seconds, "results": summary}))


if __name__ == "__main__":
    main()
