"""Load generators in processes of their own, kept off the server's processor, and what they say of themselves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.servers import ROOT, Running


def on_other_processors(command: list[str]) -> list[str]:
    """The command, kept off the first processor, which is the server's."""
    count = os.cpu_count() or 1
    return ["taskset", "-c", f"1-{count - 1}", *command] if shutil.which("taskset") and count > 1 else command


class Generator:
    """
    A generator that has said it is ready.

    :param module: of ``benchmarks``, with its options; it says ``ready`` when the load is on, and at its end a line of
        JSON.
    """

    def __init__(self, module: str, *options: str) -> None:
        command = on_other_processors([sys.executable, "-m", f"benchmarks.{module}", *options])
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._output = self._process.stdout
        if self._output.readline().strip() != "ready":
            raise SystemExit(f"the {module} did not get in")

    def report(self) -> dict[str, Any]:
        """Wait for its end: how late it was itself, how busy, and what it saw."""
        report: dict[str, Any] = json.loads(self._output.read())
        self._process.wait()
        return report

    def stop(self) -> dict[str, Any]:
        """End it now, and have its report."""
        self._process.terminate()
        return self.report()

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.terminate()
        self._process.wait()
        self._output.close()


@contextmanager
def publishing(server: Running, streams: int, seconds: int, *options: str) -> Iterator[Generator]:
    """So many streams ``bench0`` to ``benchN`` published in real time, until the block is left."""
    yield from _running(
        "publishers", f"--port={server.rtmp_port}", f"--count={streams}", f"--seconds={seconds}", *options
    )


@contextmanager
def watching(server: Running, viewers: int, seconds: float, *options: str) -> Iterator[Generator]:
    """So many viewers (see ``benchmarks.watchers``), who have settled when the block begins."""
    yield from _running(
        "watchers", f"--port={server.http_port}", f"--viewers={viewers}", f"--seconds={seconds}", *options
    )


def _running(module: str, *options: str) -> Iterator[Generator]:
    generator = Generator(module, *options)
    try:
        yield generator
    finally:
        generator.close()
