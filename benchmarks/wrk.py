"""HTTP load by wrk, on the processors the server is not on, and what the server spent on it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from benchmarks.generators import on_other_processors
from benchmarks.servers import Running

#: In a path: another number in each request.
RANDOM = "RANDOM"
_RANDOM_REQUEST = """
request = function()
  return wrk.format("GET", (string.gsub(wrk.path, "RANDOM", tostring(math.random(1000, 9999)))))
end
"""


@dataclass(frozen=True)
class Load:
    """What was asked of a server, and what it spent: requests, bytes, CPU-seconds, seconds."""

    requests: int
    read_bytes: int
    cpu_seconds: float
    elapsed: float


def load(
    server: Running, path: str, headers: dict[str, str], *, connections: int, seconds: int, yielding: bool = False
) -> Load:
    """
    Ask for one path again and again on so many kept connections; every answer must be a success.

    :param path: where it says ``RANDOM``, each request has another number there, from 1000 to 9999.

    :param yielding: whether others on the same processor go first.
    """
    if shutil.which("wrk") is None:
        raise SystemExit("the load is missing: apt-get install wrk")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--timeout=30"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    command.append(f"http://127.0.0.1:{server.http_port}{path}")
    if RANDOM in path:
        script = Path(tempfile.mkdtemp(prefix="rapidrtmp-wrk-")) / "random.lua"
        script.write_text(_RANDOM_REQUEST)
        command[1:1] = ["-s", str(script)]
    if yielding:
        command = ["nice", "-n", "15", *command]
    begin, begin_cpu = time.monotonic(), server.cpu_seconds()
    output = subprocess.run(on_other_processors(command), capture_output=True, text=True, check=True).stdout
    elapsed, cpu = time.monotonic() - begin, server.cpu_seconds() - begin_cpu
    if "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"not every request was answered:\n{output}")
    found = re.search(r"(\d+) requests in [^,]+, ([\d.]+)([KMGT]?)B read", output)
    if found is None:
        raise SystemExit(f"what wrk says is not understood:\n{output}")
    return Load(int(found[1]), int(float(found[2]) * 1024 ** " KMGT".index(found[3] or " ")), cpu, elapsed)


def fetch(port: int, path: str) -> bytes:
    """One GET."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise SystemExit(f"{path}: {response.status} {body[:200]!r}")
    return body
