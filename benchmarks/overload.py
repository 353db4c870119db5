"""
More low-latency viewers than one processor can serve: those on air are in time, the others are asked to come later.

    python -m benchmarks.overload --viewers 5000 --streams 50 --seconds 30

The viewers come within a few seconds, at random moments. Those who are refused come again when the server says so.
Shown is how late those who got in have their parts while the others come and are refused, from the first second on; how
long refusals took, from the opening of the connection on; how many requests were lost with their connections; and how
many viewers there were at the end. The server is pinned to the first processor, the load to the others.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.clip import make_clip
from benchmarks.generators import publishing, watching
from benchmarks.servers import Running, allow_many_sockets, rapidrtmp
from benchmarks.viewers import SPREAD_S

FILL_S = 12


def scraped(server: Running) -> dict[str, float]:
    """What the server says of itself; the viewers of all streams and their refusals among it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}/metrics", timeout=30) as answer:
        found = re.findall(r"^(rapidrtmp_\w+) ([0-9.e+-]+)$", answer.read().decode(), re.MULTILINE)
    return {name: float(value) for name, value in found}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--viewers", type=int, default=5000)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--spread", type=float, default=5, help="seconds within which the viewers come")
    parser.add_argument("--settle", type=float, default=2, help="seconds before parts are counted")
    arguments = parser.parse_args()
    make_clip()
    allow_many_sockets()
    options = (
        f"--streams={arguments.streams}",
        f"--spread={arguments.spread}",
        f"--settle={arguments.settle}",
        "--may-refuse",
    )
    with (
        tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as folder,
        rapidrtmp(Path(folder), "--storage=memory:", "--sink=hls") as server,
        publishing(server, arguments.streams, 600, "--stamp", f"--spread={SPREAD_S}"),
    ):
        time.sleep(FILL_S)
        with watching(server, arguments.viewers, arguments.seconds, *options) as load:
            begin, begin_cpu, begin_waited = time.monotonic(), server.cpu_seconds(), server.kept_waiting_seconds()
            time.sleep(arguments.seconds - 1)
            cpu = (server.cpu_seconds() - begin_cpu) / (time.monotonic() - begin)
            waited = (server.kept_waiting_seconds() - begin_waited) / (time.monotonic() - begin)
            metrics = scraped(server)
            report = load.report()
    late, first = report["part_late"], report["first_playlist"]
    print(f"{arguments.viewers} viewers of {arguments.streams} streams come within {arguments.spread} s")
    print(f"part late, of those on air: p50 {late['p50_ms']} ms, p99 {late['p99_ms']} ms, worst {late['max_ms']} ms")
    print(
        f"on air at the end: {metrics['rapidrtmp_viewers']:.0f}; server CPU {cpu:.2f}, load {report['cpu_share']:.2f};"
    )
    print(f"    for {waited:.0%} of the time something else kept the server from its processor")
    print(f"refused with 503: {report['refused']} times, within p50 {report['refusal']['p50_ms']} ms, ", end="")
    print(f"p99 {report['refusal']['p99_ms']} ms; requests lost: {report['resets']}")
    print(f"got in: {first['count']}; from coming to the first playlist p50 {first['p50_ms']} ms")
    print(json.dumps({**vars(arguments), "server_cpu": round(cpu, 3), "metrics": metrics, "load": report}))


if __name__ == "__main__":
    main()
