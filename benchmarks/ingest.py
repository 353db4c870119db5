"""
What it costs to take in a stream: CPU-milliseconds per stream-second, beside nginx-rtmp in the same run.

    python -m benchmarks.ingest --publishers 50 --seconds 20 --rounds 3

Each server takes the same publishers turn by turn, pinned to one processor, the load on the others. They differ, and
begin at random moments (``--mixed`` of ``benchmarks.publishers``); with ``--even`` all send one clip, evenly spaced
within one frame, so that nginx wakes for every message and what we do falls together: not what real encoders do.
With ``--codec`` they send that one, evenly; compare with ``--even``, and leave nginx out, which knows H.264 alone.
With ``--loopback`` they send what a publisher on the same machine does: segments of up to 64 kB instead of Ethernet's.

CPU time is that of the server's whole process tree between two moments while all publish; the ratio is to nginx-rtmp
in the same round, and the median over the rounds counts. Whatever writes files writes them to the same disk.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.clip import ENCODERS, make_clip, make_mix
from benchmarks.generators import publishing
from benchmarks.publishers import MIXED_SPREAD_S
from benchmarks.servers import Running, nginx, rapidrtmp

#: What is left out at the beginning, while publishers begin, and tracks and the first GOPs are found.
SETTLE_S = MIXED_SPREAD_S + 4

LOW_LATENCY, ORDINARY = "rapidrtmp, low latency, in memory", "rapidrtmp, ordinary HLS, in memory"
TO_DISK = "rapidrtmp, low latency, to disk"
PEER, PEER_BARE = "nginx-rtmp, HLS to disk", "nginx-rtmp, no HLS"
CONTENDERS: dict[str, Callable[[Path], AbstractContextManager[Running]]] = {
    PEER: lambda scratch: nginx(scratch, hls=True),
    TO_DISK: lambda scratch: rapidrtmp(scratch, "--storage=local:streams", "--sink=hls"),
    LOW_LATENCY: lambda scratch: rapidrtmp(scratch, "--storage=memory:", "--sink=hls"),
    ORDINARY: lambda scratch: rapidrtmp(scratch, "--storage=memory:", "--sink=hls:part=0"),
    PEER_BARE: lambda scratch: nginx(scratch, hls=False),
}
HEADINGS = f"{'CPU-ms/stream-s':>16}{'× nginx':>9}{'MB/publisher':>14}{'load late p99':>15}{'load CPU':>10}"

#: A generator that is so much later than it should has sent too little: what was measured with it does not count.
LATE_MS = 50
#: What a server's figures are divided by.
COST = "cpu_ms_per_stream_second"

Figures = dict[str, float]


class Load(NamedTuple):
    """
    What the publishers are like.

    :ivar chunk: the size of their chunks, in bytes.
    :ivar network: ``ethernet`` or ``loopback``.
    :ivar is_even: whether they are all alike, and evenly spaced within one frame.
    :ivar codec: of their pictures; another than H.264 only where they are alike.
    """

    publishers: int
    chunk: int = 4096
    network: str = "ethernet"
    is_even: bool = False
    codec: str = "h264"

    @property
    def options(self) -> list[str]:
        """For ``benchmarks.publishers``."""
        network = ["--mss=0"] if self.network == "loopback" else []
        return [f"--chunk={self.chunk}", *network, *([f"--codec={self.codec}"] if self.is_even else ["--mixed"])]

    def __str__(self) -> str:
        alike = ", alike and evenly spaced" if self.is_even else ""
        codec = "" if self.codec == "h264" else f", {self.codec}"
        return f"{self.publishers} publishers, chunk size {self.chunk}, {self.network}{alike}{codec}"


def make_clips(loads: Iterable[Load]) -> None:
    """All that they publish, before anything is measured."""
    for is_even, codec in {(load.is_even, load.codec) for load in loads}:
        if is_even:
            make_clip(codec=codec)
        else:
            make_mix()


def run_round(load: Load, contenders: Iterable[str], seconds: float) -> dict[str, Figures]:
    """One round: each server, with its cost by nginx's, if that comes first."""
    found: dict[str, Figures] = {}
    for name in contenders:
        figures = measure(name, load, seconds)
        if PEER in (name, *found):
            figures["times_nginx"] = figures[COST] / found.get(PEER, figures)[COST]
        found[name] = figures
    return found


def measure(contender: str, load: Load, seconds: float) -> Figures:
    """One round of one server."""
    with (
        tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as folder,
        CONTENDERS[contender](Path(folder)) as server,
    ):
        return cost(server, load.publishers, seconds, *load.options)


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
        COST: cpu * 1000 / elapsed / publishers,
        "megabytes_per_publisher": memory / publishers / 1e6,
        "load_late_p99_ms": generator["late_p99_ms"],
        "load_cpu_share": generator["cpu_share"],
    }


def medians(rounds: list[Figures]) -> Figures:
    """Of each figure over the rounds."""
    return {figure: round(median(each[figure] for each in rounds), 3) for figure in rounds[0]}


def render_row(row: Figures) -> str:
    """The figures under :data:`HEADINGS`."""
    ratio = f"{row['times_nginx']:.2f}" if "times_nginx" in row else ""
    late = "  late: does not count" if row["load_late_p99_ms"] > LATE_MS else ""
    return (
        f"{row[COST]:>16.2f}{ratio:>9}{row['megabytes_per_publisher']:>14.2f}"
        f"{row['load_late_p99_ms']:>12.1f} ms{row['load_cpu_share']:>10.2f}{late}"
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--publishers", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunk", type=int, default=4096)
    parser.add_argument("--loopback", action="store_true", help="as a publisher on the same machine")
    parser.add_argument("--even", action="store_true", help="all alike, and evenly spaced within one frame")
    parser.add_argument("--codec", default="h264", choices=list(ENCODERS), help="another than h264 means --even")
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS))
    arguments = parser.parse_args()
    network = "loopback" if arguments.loopback else "ethernet"
    is_even = arguments.even or arguments.codec != "h264"
    load = Load(arguments.publishers, arguments.chunk, network, is_even, arguments.codec)
    make_clips([load])
    rounds = [run_round(load, arguments.only, arguments.seconds) for _ in range(arguments.rounds)]
    summary: dict[str, Any] = {name: medians([each[name] for each in rounds]) for name in arguments.only}
    print(f"{load}, {arguments.rounds} rounds")
    print(f"{'':<36}{HEADINGS}")
    for name, row in summary.items():
        print(f"{name:<36}{render_row(row)}")
    print(json.dumps({**load._asdict(), "rounds": arguments.rounds, "results": summary}))


if __name__ == "__main__":
    main()
