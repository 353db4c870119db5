"""This process, as others on the same storage know it, and whether another one on the same machine is still there."""

from __future__ import annotations

import json
import os
import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["NOWHERE", "PROCESS", "ProcessPlace"]

#: This process, by a name that no other ever has.
PROCESS = secrets.token_hex(8)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class ProcessPlace:
    """
    Where a process runs.

    :ivar host: its name, for operators.
    :ivar pid: its number there.
    :ivar space: what tells one machine since its last start, and one set of process numbers on it, from all others;
        empty where that cannot be known.
    :ivar started: when the kernel started it, in the kernel's ticks.
    """

    host: str = ""
    pid: int = 0
    space: str = ""
    started: str = ""

    @classmethod
    def here(cls) -> ProcessPlace:
        """That of this process."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, _space(), _started(pid))

    @classmethod
    def parse(cls, text: str) -> ProcessPlace:
        """Read what :meth:`render` wrote; what makes no sense is nowhere."""
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            host, pid, space, started = json.loads(text)
            if all(isinstance(each, str) for each in (host, space, started)) and type(pid) is int and pid > 0:
                return cls(host, pid, space, started)
        return NOWHERE

    def render(self) -> str:
        """As text of one line, in ASCII."""
        return json.dumps([self.host, self.pid, self.space, self.started])

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.pid else "another process"

    @property
    def is_gone(self) -> bool:
        """Whether the process is surely no more: it ran on this machine, and the kernel does not know it."""
        return bool(self.space and self.started) and self.space == _space() and _started(self.pid) != self.started


NOWHERE = ProcessPlace()


@cache
def _space() -> str:
    """Host, boot and name space of process numbers; empty where there is no ``/proc``."""
    with suppress(OSError):
        return f"{socket.gethostname()} {_BOOT_ID.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _started(pid: int) -> str:
    """When a process was started (proc(5): field 22 of ``stat``); empty if there is none."""
    with suppress(OSError, IndexError):
        after_name = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return "" if after_name[0] in "ZX" else after_name[19]
    return ""
