"""The servers that benchmarks compare: each starts in a scratch folder, and says what it has used."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).absolute().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")

NGINX_CONFIGURATION = """
{user}
worker_processes 1;
daemon off;
pid {scratch}/nginx.pid;
error_log {scratch}/error.log warn;
load_module {module};
events {{ worker_connections 4096; }}
rtmp {{
  access_log off;
  server {{
    listen 127.0.0.1:{rtmp_port};
    chunk_size 4096;
    application live {{
      live on;
      hls {hls};
      hls_path {scratch}/hls;
      hls_fragment 2s;
      hls_playlist_length 20s;
      {push}
    }}
  }}
}}
"""
NGINX_FILES_CONFIGURATION = """
{user}
worker_processes 1;
daemon off;
pid {scratch}/nginx.pid;
error_log {scratch}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  sendfile {sendfile};
  tcp_nopush on;
  keepalive_requests 100000000;
  types {{ application/vnd.apple.mpegurl m3u8; video/mp4 m4s mp4; }}
  server {{ listen 127.0.0.1:{http_port}; root {scratch}/files; }}
}}
"""
NGINX_MODULES = ("/usr/lib/nginx/modules/ngx_rtmp_module.so", "/usr/share/nginx/modules/ngx_rtmp_module.so")


def allow_many_sockets() -> None:
    """As many open files as this process, and those it starts, are allowed to have at all."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port() -> int:
    """A port that no one listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Written(NamedTuple):
    """
    Bytes that were written: ``asked`` of the system, by ``write`` (what ``send`` gave to sockets does not count), and
    those of the pages of 4096 that this made ``dirty``: what the disk gets, unless the file is deleted first.
    """

    asked: int
    dirty: int


@dataclass
class Running:
    """A server that has been started."""

    process: subprocess.Popen[bytes]
    rtmp_port: int
    http_port: int = 0
    tls_port: int = 0

    def pids(self) -> list[int]:
        """The process and all its descendants."""
        found, queue = [], [self.process.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            try:
                queue += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            except FileNotFoundError:
                continue
        return found

    def cpu_seconds(self) -> float:
        """User and system time so far, of the whole tree."""
        return sum(map(_cpu_seconds, self.pids()))

    def kept_waiting_seconds(self) -> float:
        """For how long so far its main thread had work to do, and something else had its processor."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[1]) / 1e9

    def resident_bytes(self) -> int:
        """Resident memory now, of the whole tree."""
        return sum(_resident_bytes(pid) for pid in self.pids())

    def written_bytes(self) -> Written:
        """What it has written to files so far, of the whole tree."""
        found = [_io(pid) for pid in self.pids()]
        return Written(sum(each["wchar"] for each in found), sum(each["write_bytes"] for each in found))


def _cpu_seconds(pid: int) -> float:
    """
    Of one process with all its threads, and of the children that it had.

    Its own time is read from its CPU-time clock (``clock_getcpuclockid(3)``; the number is the kernel's ABI), in
    nanoseconds: in ``/proc`` it is rounded to 10 ms, which is a second of what one stream costs.
    """
    own = time.clock_gettime(~pid << 3 | 2)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return own + (int(fields[13]) + int(fields[14])) / TICKS


def _resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _io(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return {name: int(value) for name, _, value in (line.partition(": ") for line in lines)}


@contextmanager
def rapidrtmp(scratch: Path, *options: str, processors: str = "0") -> Iterator[Running]:
    """
    Our server, from this checkout, open to every publisher.

    :param processors: those that it is pinned to.
    """
    rtmp_port, http_port = free_port(), free_port()
    command = [
        sys.executable,
        "-m",
        "twisted",
        "--reactor=rapidrtmp",  # as twistd does by itself
        "--log-level=warn",
        "rapidrtmp",
        f"--rtmp=tcp:{rtmp_port}:interface=127.0.0.1",
        f"--http=tcp:{http_port}:interface=127.0.0.1",
        "--auth=open",
        *options,
    ]
    with _started(command, scratch, http_port, processors) as process:  # which it opens last
        yield Running(process, rtmp_port, http_port)


@contextmanager
def nginx(scratch: Path, *, hls: bool = True, push_to: int = 0) -> Iterator[Running]:
    """
    nginx with its RTMP module, one worker, HLS segments of 2 s on disk; pinned to the first processor.

    :param push_to: a port of this machine that every stream is pushed to.
    """
    module = next((path for path in NGINX_MODULES if Path(path).exists()), None)
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if module is None or binary is None:
        raise SystemExit("the peer is missing: apt-get install nginx libnginx-mod-rtmp")
    rtmp_port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # or it could not write below the scratch folder
    push = f"push rtmp://127.0.0.1:{push_to}/live;" if push_to else ""
    text = NGINX_CONFIGURATION.format(
        scratch=scratch, module=module, rtmp_port=rtmp_port, hls="on" if hls else "off", user=user, push=push
    )
    configuration = scratch / "nginx.conf"
    configuration.write_text(text)
    with _started([binary, "-c", str(configuration), "-p", str(scratch)], scratch, rtmp_port) as process:
        yield Running(process, rtmp_port)


@contextmanager
def nginx_files(scratch: Path, files: dict[str, bytes], *, sendfile: bool = True) -> Iterator[Running]:
    """nginx serving files from disk (which is: from the page cache), one worker; pinned to the first processor."""
    http_port = free_port()
    for name, content in files.items():
        path = scratch / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = scratch / "nginx.conf"
    configuration.write_text(
        NGINX_FILES_CONFIGURATION.format(
            scratch=scratch, http_port=http_port, sendfile="on" if sendfile else "off", user=user
        )
    )
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        raise SystemExit("the peer is missing: apt-get install nginx")
    with _started([binary, "-c", str(configuration), "-p", str(scratch)], scratch, http_port) as process:
        yield Running(process, 0, http_port)


@contextmanager
def _started(command: list[str], scratch: Path, port: int, processors: str = "0") -> Iterator[subprocess.Popen[bytes]]:
    pinned = ["taskset", "-c", processors, *command] if shutil.which("taskset") else command
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (scratch / "server.log").open("wb") as log:
        process = subprocess.Popen(pinned, cwd=scratch, env=environment, stdout=log, stderr=log)
        try:
            _await_port(process, port)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(300):
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}; see its log")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("the server does not listen")
