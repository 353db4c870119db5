"""A real Redis or Valkey of a test's own, at a free port of 127.0.0.1, which is ended by its process id."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

__all__ = ["RedisServer", "find_servers"]

_LONGEST_START_S = 10.0


def find_servers() -> dict[str, str]:
    """The servers that are installed: the name of each, and its program."""
    found = {name: shutil.which(f"{name}-server") for name in ("redis", "valkey")}
    return {name: path for name, path in found.items() if path}


class RedisServer:
    """
    One server, without persistence: started again it is empty.

    :ivar port: stays the same when it is started again.
    """

    def __init__(self, program: str, *options: str) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port: int = taken.getsockname()[1]
        self._folder = tempfile.TemporaryDirectory(prefix="redis-")
        where = ("--bind", "127.0.0.1", "--port", f"{self.port}", "--dir", self._folder.name)
        self._command = [program, *where, "--save", "", "--appendonly", "no", *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until_s = time.monotonic() + _LONGEST_START_S
        while not self._answers():
            if time.monotonic() > until_s or self._process.poll() is not None:
                raise RuntimeError(f"{self._command[0]} does not start")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            return self.ask("PING") != ""
        except OSError:
            return False

    def ask(self, *words: str) -> str:
        """Send one command, and return the first line of the answer, or what follows the first of several."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
            connection.sendall(f"*{len(words)}\r\n{parts}".encode())
            return connection.recv(65536).decode()

    def kill(self) -> None:
        """Kill it: connections to it are reset."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Have it answer nothing, with all connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it answer again, whatever has come meanwhile."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it for good."""
        self.kill()
        self._folder.cleanup()

    @property
    def folder(self) -> Path:
        """Its own, which goes with it."""
        return Path(self._folder.name)
