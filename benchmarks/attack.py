"""
What strangers cost a healthy stream: how late its parts are while they attack, beside calm, in the same run.

    python -m benchmarks.attack --seconds 8

One publisher at 2.5 Mbit/s; the server counts, for every part, the time from the arrival of its last frame to its
publication. Each attack of ``benchmarks.hostile_clients`` runs for so long, in a process of its own, and calm comes
before and after. What the load generator itself was late by is shown as well: a busy machine is no fault of the server.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.clip import make_clip
from benchmarks.hostile_clients import ATTACKS
from benchmarks.lateness import figures, lateness
from benchmarks.servers import ROOT, Running, rapidrtmp

SETTLE_S, PAUSE_S = 6, 2
CALM = "calm"
#: A server that admits only those with a token, and this publisher's stream, which needs none.
SETTINGS = """
[rtmp]
max_connections = 1000
[apps.live]
auth = ["token:secret_file=token.key"]
[apps.healthy]
auth = ["open"]
"""


def measure(server: Running, kind: str, seconds: float) -> dict[str, Any]:
    """One attack, or calm."""
    before, cpu_s = lateness(server), server.cpu_seconds()
    done: dict[str, Any] = {"count": 0}
    if kind == CALM:
        time.sleep(seconds)
    else:
        command = [sys.executable, "-m", "benchmarks.hostile_clients", kind, "--stream=/healthy/bench0"]
        command += [f"--rtmp-port={server.rtmp_port}", f"--http-port={server.http_port}", f"--seconds={seconds}"]
        if shutil.which("taskset"):
            command = ["taskset", "-c", "1", *command]
        output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=seconds + 60)
        done = json.loads(output.stdout)
    busy = (server.cpu_seconds() - cpu_s) / seconds
    memory = server.resident_bytes() / 1e6
    return {**figures(before, lateness(server)), "attempts": done["count"], "busy": busy, "megabytes": memory}


def run(arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Calm, every attack, and calm again; the name and the figures of each."""
    kinds = [CALM, *arguments.only, CALM]
    seconds = SETTLE_S + len(kinds) * (arguments.seconds + PAUSE_S + 3)
    with tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as folder:
        settings = Path(folder) / "attack.toml"
        settings.write_text(SETTINGS)
        options = ("--storage=memory:", "--sink=hls", f"--config={settings}")
        with rapidrtmp(Path(folder), *options) as server:
            load = [sys.executable, "-m", "benchmarks.publishers", f"--port={server.rtmp_port}", "--app=healthy"]
            load += ["--count=1", f"--seconds={int(seconds)}"]
            generator = subprocess.Popen(load, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            assert generator.stdout is not None
            try:
                if generator.stdout.readline().strip() != "ready":
                    raise SystemExit("the publisher was not admitted")
                time.sleep(SETTLE_S)
                for kind in kinds:
                    yield kind, measure(server, kind, arguments.seconds)
                    time.sleep(PAUSE_S)
            finally:
                generator.terminate()
                generator.wait()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--only", nargs="*", default=list(ATTACKS), choices=list(ATTACKS))
    arguments = parser.parse_args()
    make_clip()
    print(f"{'':<30}{'parts':>6}{'mean':>9}{'p50':>9}{'p99':>9}{'max':>9}{'attempts':>10}{'CPU':>6}{'MB':>7}")
    results = []
    for kind, row in run(arguments):
        late = "".join(f"{row[name]:>6.0f} ms" if row[name] is not None else f"{'-':>9}" for name in LATE)
        print(f"{kind:<30}{row['parts']:>6}{late}{row['attempts']:>10}{row['busy']:>6.0%}{row['megabytes']:>7.0f}")
        results.append({"attack": kind, **row})
    print(json.dumps({"seconds": arguments.seconds, "results": results}))


LATE = ("mean_ms", "p50_ms", "p99_ms", "max_ms")

if __name__ == "__main__":
    main()
