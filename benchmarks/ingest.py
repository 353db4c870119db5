"""
What it costs to take in a stream: CPU-milliseconds per stream-second, beside nginx-rtmp in the same run.

    python -m benchmarks.ingest --publishers 50 --seconds 20 --rounds 3

Each server takes the same publishers turn by turn, pinned to one processor, the load on the others. CPU time is that
of the server's whole process tree between two moments while all publish; the median over the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.clip import make_clip
from benchmarks.servers import ROOT, Running, nginx, rapidrtmp

#: What is left out at the beginning, while tracks and GOPs are found, and at the end.
SETTLE_S, SPARE_S = 5, 2

CONTENDERS: dict[str, Callable[[Path], AbstractContextManager[Running]]] = {
    "rapidrtmp": lambda scratch: rapidrtmp(scratch, "--storage=memory:", "--sink=hls"),
    "rapidrtmp, ordinary HLS": lambda scratch: rapidrtmp(scratch, "--storage=memory:", "--sink=hls:part=0"),
    "rapidrtmp, to disk": lambda scratch: rapidrtmp(scratch, "--storage=local:streams", "--sink=hls"),
    "nginx-rtmp, HLS to disk": lambda scratch: nginx(scratch, hls=True),
    "nginx-rtmp, no HLS": lambda scratch: nginx(scratch, hls=False),
}


def measure(name: str, arguments: argparse.Namespace) -> dict[str, float]:
    """One round of one server."""
    with tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as folder, CONTENDERS[name](Path(folder)) as server:
        base_bytes = server.resident_bytes()
        load = [sys.executable, "-m", "benchmarks.publishers", f"--port={server.rtmp_port}", "--key=bench{}"]
        load += [f"--count={arguments.publishers}", f"--chunk={arguments.chunk}"]
        load += [f"--seconds={SETTLE_S + arguments.seconds + SPARE_S}"]
        if shutil.which("taskset") and (os.cpu_count() or 1) > 1:
            load = ["taskset", "-c", f"1-{(os.cpu_count() or 2) - 1}", *load]
        generator = subprocess.Popen(load, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert generator.stdout is not None
        if generator.stdout.readline().strip() != "ready":
            raise SystemExit(f"{name}: the publishers were not admitted")
        time.sleep(SETTLE_S)
        begin, begin_cpu = time.monotonic(), server.cpu_seconds()
        time.sleep(arguments.seconds)
        cpu, elapsed = server.cpu_seconds() - begin_cpu, time.monotonic() - begin
        memory = server.resident_bytes() - base_bytes
        lateness = json.loads(generator.stdout.read())
        generator.wait()
    return {
        "cpu_ms_per_stream_second": cpu * 1000 / elapsed / arguments.publishers,
        "megabytes_per_publisher": memory / arguments.publishers / 1e6,
        "load_late_p99_ms": lateness["late_p99_ms"],
    }


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
    results: dict[str, list[dict[str, float]]] = {name: [] for name in arguments.only}
    for _ in range(arguments.rounds):
        for name in arguments.only:
            results[name].append(measure(name, arguments))
    report(results, arguments)


def report(results: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> None:
    """The medians, as a table and as JSON."""
    summary: dict[str, Any] = {
        name: {figure: round(median(each[figure] for each in rounds), 2) for figure in rounds[0]}
        for name, rounds in results.items()
    }
    print(f"{arguments.publishers} publishers, chunk size {arguments.chunk}, {arguments.rounds} rounds")
    print(f"{'':<26}{'CPU-ms/stream-s':>16}{'MB/publisher':>14}{'load late p99':>15}")
    for name, row in summary.items():
        print(
            f"{name:<26}{row['cpu_ms_per_stream_second']:>16.2f}{row['megabytes_per_publisher']:>14.2f}"
            f"{row['load_late_p99_ms']:>12.1f} ms"
        )
    print(json.dumps({"publishers": arguments.publishers, "chunk": arguments.chunk, "results": summary}))


if __name__ == "__main__":
    main()
