"""
What recording costs beside HLS, and what waiting for the disk costs both.

    python -m benchmarks.recording --publishers 50 --seconds 6 --rounds 3

The same publishers (2.5 Mbit/s each) turn by turn on servers that write HLS to a local disk, that record as well, and
that do so with the storage's ``fsync=file`` and ``fsync=folder``. CPU time, resident memory and bytes are those of the
server's process tree; a part's delay is what its own histogram says. The median over the rounds counts.

Bytes written stand beside bytes sent to the server, both as the server asked for them (``wchar`` of ``/proc/PID/io``:
exact, and sockets do not count) and as pages of 4096 that it made dirty (``write_bytes``: what the disk gets).
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.clip import make_clip
from benchmarks.generators import publishing
from benchmarks.lateness import figures, lateness
from benchmarks.servers import Running, rapidrtmp
from benchmarks.wrk import fetch

#: What is left out at the beginning, while tracks and GOPs are found, and at the end.
SETTLE_S, SPARE_S = 4, 1

CONTENDERS: dict[str, tuple[str, ...]] = {
    "HLS": ("--storage=local:streams", "--sink=hls"),
    "HLS + record": ("--storage=local:streams", "--sink=hls", "--sink=record"),
    "HLS + record, fsync=file": ("--storage=local:streams:fsync=file", "--sink=hls", "--sink=record"),
    "HLS + record, fsync=folder": ("--storage=local:streams:fsync=folder", "--sink=hls", "--sink=record"),
}
#: The columns: their heading, and the figure under it.
COLUMNS = {
    "CPU-ms/stream-s": "cpu_ms_per_stream_second",
    "MB/publisher": "megabytes_per_publisher",
    "written/sent": "written_per_sent",
    "dirty/sent": "dirty_per_sent",
    "delay mean": "delay_mean_ms",
    "p99 within": "delay_p99_ms",
    "worst within": "delay_max_ms",
    "waiting MB": "waiting_megabytes",
}


def file_system(directory: Path) -> str:
    """The type of the file system that holds a directory."""
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    holding = [(place, kind) for place, kind in mounts if directory.resolve().is_relative_to(place)]
    return max(holding, key=lambda found: len(found[0]))[1]


def waiting_bytes(server: Running) -> float:
    """What the queue before the storage holds now."""
    text = fetch(server.http_port, "/metrics").decode()
    return sum(map(float, re.findall(r"^rapidrtmp_storage_pending_bytes(?:\{.*\})? (\S+)$", text, re.MULTILINE)))


def measure(name: str, arguments: argparse.Namespace) -> dict[str, float]:
    """One round of one server."""
    seconds = SETTLE_S + arguments.seconds + SPARE_S
    with (
        tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-", dir=arguments.directory) as folder,
        rapidrtmp(Path(folder), *CONTENDERS[name]) as server,
    ):
        base_bytes = server.resident_bytes()
        with publishing(server, arguments.publishers, seconds) as generator:
            time.sleep(SETTLE_S)
            late = lateness(server)
            begin, cpu_s, written = time.monotonic(), server.cpu_seconds(), server.written_bytes()
            time.sleep(arguments.seconds)
            elapsed, cpu_s = time.monotonic() - begin, server.cpu_seconds() - cpu_s
            now = server.written_bytes()
            memory, delays, waiting = (
                server.resident_bytes() - base_bytes,
                figures(late, lateness(server)),
                waiting_bytes(server),
            )
            sent = generator.report()
    sent_bytes = sent["bytes"] / seconds * elapsed
    return {
        "cpu_ms_per_stream_second": cpu_s * 1000 / elapsed / arguments.publishers,
        "megabytes_per_publisher": memory / arguments.publishers / 1e6,
        "written_per_sent": (now.asked - written.asked) / sent_bytes,
        "dirty_per_sent": (now.dirty - written.dirty) / sent_bytes,
        "delay_mean_ms": delays["mean_ms"],
        "delay_p99_ms": delays["p99_ms"],
        "delay_max_ms": delays["max_ms"],
        "waiting_megabytes": waiting / 1e6,
        "load_late_p99_ms": sent["late_p99_ms"],
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--publishers", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=6, help="even: segments are of 2 s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to write to")
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
    kind = file_system(arguments.directory)
    print(f"{arguments.publishers} publishers, {arguments.rounds} rounds of {arguments.seconds} s, files on {kind}")
    print(f"{'':<28}" + "".join(f"{heading:>16}" for heading in COLUMNS))
    for name, row in summary.items():
        print(f"{name:<28}" + "".join(f"{row[figure]:>16.2f}" for figure in COLUMNS.values()))
    print(json.dumps({"publishers": arguments.publishers, "file_system": kind, "results": summary}))


if __name__ == "__main__":
    main()
