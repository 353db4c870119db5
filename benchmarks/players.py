"""
What players of RTMP and FLV cost, and how late they get what is live, beside nginx with its RTMP module.

    python -m benchmarks.players --players 1000 --seconds 15

One stream of 2.5 Mbit/s is published in real time, first to the one server, then to the other, and played by so many
at once. The server is pinned to the first processor, the load to the others. The publisher's own cost is measured first
and taken off.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.clip import make_clip
from benchmarks.generators import Generator, publishing
from benchmarks.servers import Running, allow_many_sockets, free_port, nginx, rapidrtmp

CONFIGURATION = """
[rtmp]
max_connections = 10000
max_connections_per_ip = 10000
max_players = 10000
max_players_per_ip = 10000
max_unauthorised_connections = 10000
[http]
max_connections = 10000
"""
FILL_S = 5


@contextmanager
def started(contender: str) -> Iterator[Running]:
    """One of the servers."""
    with tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as folder:
        scratch = Path(folder)
        if contender == "nginx":
            with nginx(scratch, hls=False) as server:
                yield server
            return
        (scratch / "bench.toml").write_text(CONFIGURATION)
        options = [f"--config={scratch}/bench.toml", "--storage=memory:", "--sink=hls"]
        port = free_port()
        if contender == "rapidrtmp-tls":
            options.append(f"--rtmp={_encrypted_door(scratch, port)}")
        with rapidrtmp(scratch, *options) as server:
            server.tls_port = port
            yield server


def _encrypted_door(scratch: Path, port: int) -> str:
    """An endpoint for RTMPS with a certificate of its own."""
    key, certificate = scratch / "key.pem", scratch / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return f"ssl:{port}:privateKey={key}:certKey={certificate}:interface=127.0.0.1"


def cpu_share(server: Running, seconds: float) -> float:
    """How much of a processor it uses over so long."""
    begin, begin_cpu = time.monotonic(), server.cpu_seconds()
    time.sleep(seconds)
    return (server.cpu_seconds() - begin_cpu) / (time.monotonic() - begin)


def measure(contender: str, players: int, seconds: float) -> dict[str, Any]:
    """What one server does."""
    protocol = {"rapidrtmp-flv": "flv", "rapidrtmp-tls": "rtmps"}.get(contender, "rtmp")
    with started(contender) as server, publishing(server, 1, 600, "--stamp"):
        time.sleep(FILL_S)
        alone = cpu_share(server, 3)
        port = {"flv": server.http_port, "rtmps": server.tls_port}.get(protocol, server.rtmp_port)
        load = Generator(
            "rtmp_players", f"--port={port}", f"--count={players}", f"--seconds={seconds}", f"--protocol={protocol}"
        )
        try:
            with_players = cpu_share(server, seconds - 1)
            resident = server.resident_bytes()
            report = load.report()
        finally:
            load.close()
    each = 1000 * (with_players - alone) / players
    return {"cpu_ms_per_player_s": round(each, 3), "resident_mb": resident >> 20, **report}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--players", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--contenders", nargs="+", default=["rapidrtmp", "nginx", "rapidrtmp-flv"])
    arguments = parser.parse_args()
    make_clip()
    allow_many_sockets()
    for contender in arguments.contenders:
        result = measure(contender, arguments.players, arguments.seconds)
        print(json.dumps({"server": contender, **result, "load": round(os.getloadavg()[0], 1)}), flush=True)


if __name__ == "__main__":
    main()
