"""
How late viewers get what is live, and what the server spends on them.

    python -m benchmarks.viewers --viewers 1000 --streams 10 --seconds 20

Streams are published in real time and watched by so many low-latency viewers, then by as many ordinary ones (see
``benchmarks.watchers``). The server is pinned to the first processor, the load to the others.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.clip import make_clip
from benchmarks.generators import publishing, watching
from benchmarks.servers import Running, allow_many_sockets, rapidrtmp

FILL_S, SETTLE_S = 12, 4
#: Streams begin over this time, so that their keyframes and, if there are ten, their parts do not come together.
SPREAD_S = 7 / 3
ROWS = {
    "part, since its last frame was sent": "part_late",
    "answer": "answer",
    "generator late": "generator_late",
}


def watch(server: Running, kind: str, viewers: int, streams: int, seconds: float) -> dict[str, Any]:
    """One kind of viewer; what they saw, and what the server spent on them (and on its publishers)."""
    options = (f"--streams={streams}", f"--kind={kind}", f"--settle={SETTLE_S}")
    with watching(server, viewers, seconds, *options) as load:
        begin, begin_cpu, begin_waited = time.monotonic(), server.cpu_seconds(), server.kept_waiting_seconds()
        time.sleep(seconds - 0.5)
        cpu, waited = server.cpu_seconds() - begin_cpu, server.kept_waiting_seconds() - begin_waited
        elapsed = time.monotonic() - begin
        shares = {"server_cpu": round(cpu / elapsed, 4), "server_kept_waiting": round(waited / elapsed, 4)}
        return {**load.report(), **shares}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--viewers", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=20)
    arguments = parser.parse_args()
    make_clip()
    allow_many_sockets()
    lasts = FILL_S + 2 * (arguments.seconds + SETTLE_S + 15) + 60
    with (
        tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as folder,
        rapidrtmp(Path(folder), "--storage=memory:", "--sink=hls") as server,
        publishing(server, arguments.streams, lasts, "--stamp", f"--spread={SPREAD_S}"),
    ):
        time.sleep(FILL_S)
        results = {
            kind: watch(server, kind, arguments.viewers, arguments.streams, arguments.seconds)
            for kind in ("low-latency", "ordinary")
        }
    print(f"{arguments.viewers} viewers of {arguments.streams} streams, {arguments.seconds} s")
    print(f"{'':<56}{'p50':>8}{'p99':>8}{'worst':>8}  ms")
    for kind, result in results.items():
        for name, key in ROWS.items():
            row = result[key]
            if row["count"]:
                print(f"{f'{kind}: {name}':<56}{row['p50_ms']:>8}{row['p99_ms']:>8}{row['max_ms']:>8}")
        print(f"{kind}: the server used {result['server_cpu']:.2f} of a processor, the load {result['cpu_share']:.2f};")
        print(f"    for {result['server_kept_waiting']:.0%} of the time something else kept the server from it")
    print(json.dumps({**vars(arguments), "results": results}))


if __name__ == "__main__":
    main()
