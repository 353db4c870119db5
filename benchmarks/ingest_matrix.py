"""
What it costs to take in a stream: every row of ``RESULTS.md``, beside nginx-rtmp.

    python -m benchmarks.ingest_matrix --rounds 5

The points are measured as ``benchmarks.ingest`` does; the ratio is to nginx at the same point in the same round, and
the median over the rounds counts. A generator whose p99 is more than some milliseconds late, or that is busy nearly
all the time, has flattered the server. A round takes about eight minutes.
"""

from __future__ import annotations

import argparse
import json

from benchmarks.ingest import (
    HEADINGS,
    LOW_LATENCY,
    ORDINARY,
    PEER,
    PEER_BARE,
    TO_DISK,
    Load,
    make_clips,
    medians,
    render_row,
    run_round,
)

#: What is measured where; nginx comes first, for the others are compared with it.
POINTS: dict[Load, tuple[str, ...]] = {
    Load(50): (PEER, TO_DISK, LOW_LATENCY, ORDINARY, PEER_BARE),
    Load(50, network="loopback"): (PEER, TO_DISK, LOW_LATENCY),
    Load(1): (PEER, TO_DISK, LOW_LATENCY),
    Load(10): (PEER, TO_DISK, LOW_LATENCY),
    Load(100): (PEER, TO_DISK, LOW_LATENCY),
    Load(50, 128): (PEER, TO_DISK),
    Load(50, 60_000): (PEER, TO_DISK),
    Load(50, is_even=True): (PEER, TO_DISK, LOW_LATENCY, ORDINARY),
}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement; whole GOPs of 4 s")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    make_clips(POINTS)
    rounds = [
        {load: run_round(load, contenders, arguments.seconds) for load, contenders in POINTS.items()}
        for _ in range(arguments.rounds)
    ]
    print(f"{arguments.rounds} rounds of {arguments.seconds:g} s")
    summary = []
    for load, contenders in POINTS.items():
        print(f"{load!s:<70}\n{'':<36}{HEADINGS}")
        for name in contenders:
            row = medians([found[load][name] for found in rounds])
            summary.append({**load._asdict(), "server": name, **row})
            print(f"{name:<36}{render_row(row)}")
    print(json.dumps({"rounds": arguments.rounds, "seconds": arguments.seconds, "results": summary}))


if __name__ == "__main__":
    main()
