"""
From a frame at the RTMP door to the last byte of its part at a player: milliseconds, in calm and under load.

    python -m benchmarks.latency --seconds 25

Players of two kinds, one after the other (``benchmarks.hls_viewers``): one that reloads and fetches what is listed,
and one that has asked for each part before it exists. Time begins when the part's last video frame is sent. One
player alone with one stream; then ten while fifty streams are published; then ten among a thousand others, of ten
streams. The server is pinned to the first processor, all load to the others: how late that is by itself is shown
beside, and for how much of the time something else kept the server from its processor, which should be next to
nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.clip import make_clip
from benchmarks.generators import publishing, watching
from benchmarks.servers import allow_many_sockets, rapidrtmp
from benchmarks.viewers import SETTLE_S, SPREAD_S, watch

FILL_S = 7


@dataclass(frozen=True)
class Surroundings:
    """How many publish, how many are measured, and how many watch besides."""

    publishers: int
    players: int
    viewers: int = 0


SURROUNDINGS = {
    "alone": Surroundings(1, 1),
    "50 publishers": Surroundings(50, 10),
    "1000 viewers": Surroundings(10, 10, 1000),
}
KINDS = {"low-latency": "reload, then fetch", "hinted": "asked beforehand"}


def measure(where: Surroundings, seconds: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each kind of player in turn; what they saw, and how late the publishers were."""
    lasts = FILL_S + len(KINDS) * int(seconds + SETTLE_S + 10) + 60
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-"))
        server = stack.enter_context(rapidrtmp(Path(folder), "--storage=memory:", "--sink=hls"))
        options = ("--stamp", f"--spread={SPREAD_S}")
        publishers = stack.enter_context(publishing(server, where.publishers, lasts, *options))
        time.sleep(FILL_S)
        others = None
        if where.viewers:
            others = stack.enter_context(watching(server, where.viewers, lasts, f"--streams={where.publishers}"))
        reports = {kind: watch(server, kind, where.players, where.players, seconds) for kind in KINDS}
        loads: dict[str, Any] = {"others": others.stop()} if others else {}
        loads["publishers_late_p99_ms"] = publishers.stop()["late_p99_ms"]
    for kind, report in reports.items():
        yield kind, {**report, **loads}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--seconds", type=float, default=25)
    parser.add_argument("--only", nargs="*", default=list(SURROUNDINGS), choices=list(SURROUNDINGS))
    arguments = parser.parse_args()
    make_clip()
    allow_many_sockets()
    print(f"{'ms until the last byte of a part':<36}{'parts':>6}{'p50':>8}{'p99':>8}{'worst':>8}", end="")
    print(f"{'player late p99':>17}{'publishers late p99':>21}{'server CPU':>12}{'kept waiting':>14}")
    results: dict[str, dict[str, Any]] = {}
    for name in arguments.only:
        for kind, report in measure(SURROUNDINGS[name], arguments.seconds):
            results.setdefault(name, {})[kind] = report
            print_rows(f"{name}: {KINDS[kind]}", report)
        if "others" in report:
            late, share = report["others"]["generator_late"]["p99_ms"], report["others"]["cpu_share"]
            print(f"their generator was late by {late} ms (p99), and used {share:.2f} of a processor")
    print(json.dumps({"seconds": arguments.seconds, "results": results}))


def print_rows(name: str, report: dict[str, Any]) -> None:
    """One kind of player."""
    loads = f"{report['generator_late']['p99_ms']:>17}{report['publishers_late_p99_ms']:>21}"
    tail = f"{loads}{report['server_cpu']:>12.2f}{report['server_kept_waiting']:>14.0%}"
    row = report["part_late"]
    print(f"{name:<36}{row['count']:>6}{row['p50_ms']:>8}{row['p99_ms']:>8}{row['max_ms']:>8}{tail}")


if __name__ == "__main__":
    main()
