"""
How late viewers get what is live, and what each of them costs.

    python -m benchmarks.viewers --viewers 1000 --streams 10 --seconds 20

Streams are published in real time and watched by so many low-latency viewers, then by as many ordinary ones (see
``benchmarks.watchers``); then the memory of connections is measured that asked for a playlist and went silent, and of
such that asked for a segment and do not read it. The server is pinned to the first processor, the load to the others.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.clip import make_clip
from benchmarks.segments import newest_segment
from benchmarks.servers import ROOT, Running, rapidrtmp
from benchmarks.watchers import FIELDS
from benchmarks.wrk import on_other_processors, publishing

FILL_S, SETTLE_S = 12, 6
#: Streams begin over this time, so that their keyframes and, if there are ten, their parts do not come together.
SPREAD_S = 7 / 3
PLAYLIST = "/live/bench0/index.m3u8"
ROWS = {"part, since its last frame": "part_late", "answer to a request": "answer", "generator": "generator_late"}


def watch(server: Running, kind: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One kind of viewer; what they saw, and what the server spent on them (and on its publishers)."""
    load = ["-m", "benchmarks.watchers", f"--port={server.http_port}", f"--viewers={arguments.viewers}"]
    load += [f"--streams={arguments.streams}", f"--seconds={arguments.seconds}", f"--kind={kind}"]
    command = on_other_processors([sys.executable, *load, f"--settle={SETTLE_S}"])
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "watching":
            raise SystemExit("the viewers could not watch")
        begin, begin_cpu = time.monotonic(), server.cpu_seconds()
        time.sleep(arguments.seconds - 0.5)
        used = (server.cpu_seconds() - begin_cpu) / (time.monotonic() - begin)
        return {**json.loads(process.stdout.read()), "server_cpu": round(used, 3)}


def memory(server: Running, path: str, count: int, *, read: bool) -> float:
    """Resident kilobytes that the server needs for each of so many connections that asked for ``path``."""
    before = server.resident_bytes()
    connections = []
    for _ in range(count):
        connection = socket.socket()
        if not read:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.http_port))
        connection.sendall(f"GET {path} HTTP/1.1\r\n{FIELDS}".encode())
        if read:
            connection.recv(65536)
        connections.append(connection)
    time.sleep(2)
    after = server.resident_bytes()
    for connection in connections:
        connection.close()
    time.sleep(1)
    return round((after - before) / count / 1000, 1)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--viewers", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=20)
    arguments = parser.parse_args()
    make_clip()
    lasts = FILL_S + 2 * (arguments.seconds + SETTLE_S + 15) + 60
    with (
        tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as folder,
        rapidrtmp(Path(folder), "--storage=memory:", "--sink=hls") as server,
        publishing(server, arguments.streams, lasts, "--stamp", f"--spread={SPREAD_S}"),
    ):
        time.sleep(FILL_S)
        idle = memory(server, PLAYLIST, arguments.viewers, read=True)
        stalled = memory(server, newest_segment(server), arguments.viewers, read=False)
        results = {kind: watch(server, kind, arguments) for kind in ("low-latency", "ordinary")}
    print(f"{arguments.viewers} viewers of {arguments.streams} streams, {arguments.seconds} s")
    print(f"{'':<44}{'p50':>8}{'p99':>8}{'worst':>8}  ms")
    for kind, result in results.items():
        rows = {
            "part, since its last frame was sent": "part_late",
            "answer": "answer",
            "generator late": "generator_late",
        }
        for name, key in rows.items():
            row = result[key]
            if row["count"]:
                print(f"{f'{kind}: {name}':<52}"[:40] + f"{row['p50_ms']:>8}{row['p99_ms']:>8}{row['max_ms']:>8}")
        print(f"{kind}: the server used {result['server_cpu']} of a processor")
    print(f"memory of an idle connection {idle} kB, of a stalled one {stalled} kB")
    print(json.dumps({**vars(arguments), "idle_kb": idle, "stalled_kb": stalled, "results": results}))


if __name__ == "__main__":
    main()
