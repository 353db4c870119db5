"""
What a thread does, counted: calls, instructions, system calls, memory. Nothing here looks at a clock.

Both meters count between ``start`` and ``stop``, and not between ``pause`` and ``resume``; what the modules of this
package do is never counted.
"""

from __future__ import annotations

import gc
import select
import socket
import sys
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from rapidrtmp.support.compiled import is_compiled

__all__ = ["MemoryMeter", "Meter", "StepMeter", "Steps", "unavailable"]

#: What is here does not count: it is the world, not the server.
_NOT_COUNTED = frozenset(str(Path(__file__).with_name(name)) for name in ("meter.py", "world.py", "scenes.py"))
#: Methods of a socket that do not ask the system.
_NO_SYSTEM_CALLS = frozenset({"fileno", "gettimeout", "detach"})


def unavailable() -> str:
    """Why nothing can be counted here, or nothing if it can."""
    if sys.gettrace() is not None or sys.getprofile() is not None:
        return "a tracer or a profiler is at work already"
    if sys.implementation.name != "cpython":
        return "how many instructions there are is CPython's matter"
    if is_compiled():
        return "this build is compiled"
    return ""


class Meter:
    """Counts nothing."""

    def start(self) -> None:
        """Count from here."""

    def stop(self) -> None:
        """Count up to here."""

    def pause(self) -> None:
        """What follows does not count."""

    def resume(self) -> None:
        """What follows does."""


@dataclass
class Steps:
    """
    What was done.

    :ivar calls: of Python functions (a generator that continues is one more), by function.
    :ivar c_calls: of functions written in C, by function.
    :ivar instructions: of bytecode, by function.
    :ivar system_calls: of sockets and ``epoll``, by name.
    """

    calls: Counter[str] = field(default_factory=Counter)
    c_calls: Counter[str] = field(default_factory=Counter)
    instructions: Counter[str] = field(default_factory=Counter)
    system_calls: Counter[str] = field(default_factory=Counter)


class StepMeter(Meter):
    """Counts steps."""

    def __init__(self) -> None:
        self._is_on = False
        self._codes: dict[int, CodeType] = {}
        self._calls: Counter[int] = Counter()
        self._instructions: Counter[int] = Counter()
        self._c_calls: Counter[str] = Counter()
        self._system_calls: Counter[str] = Counter()

    def start(self) -> None:
        """See :class:`Meter`."""
        gc.collect()
        gc.disable()  # whom it calls, and when, is not the server's doing
        self._is_on = True

    def stop(self) -> None:
        """See :class:`Meter`."""
        self._is_on = False
        gc.enable()

    def pause(self) -> None:
        """See :class:`Meter`."""
        sys.setprofile(None)
        sys.settrace(None)
        if self._is_on:
            self._system_calls["epoll.poll"] += 1

    def resume(self) -> None:
        """See :class:`Meter`."""
        if self._is_on:
            self._trace_callers(sys._getframe(1))
            sys.settrace(self._enter)
            sys.setprofile(self._count_call)

    def steps(self) -> Steps:
        """What was counted so far."""
        calls, instructions = map(self._by_name, (self._calls, self._instructions))
        return Steps(calls, self._c_calls.copy(), instructions, self._system_calls.copy())

    def _by_name(self, counts: Counter[int]) -> Counter[str]:
        named: Counter[str] = Counter()
        for key, count in counts.items():
            named[_name_of(self._codes[key])] += count
        return named

    # ── Python calls ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _count_call(self, frame: FrameType, event: str, function: Any) -> None:
        code = frame.f_code
        if code.co_filename in _NOT_COUNTED:
            return
        if event == "call":
            self._codes[id(code)] = code
            self._calls[id(code)] += 1
        elif event == "c_call":
            self._c_calls[function.__qualname__] += 1
            if isinstance(getattr(function, "__self__", None), _SYSTEM) and function.__name__ not in _NO_SYSTEM_CALLS:
                self._system_calls[function.__qualname__] += 1

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        del event, argument
        code = frame.f_code
        if code.co_filename in _NOT_COUNTED:
            return None
        self._codes[id(code)] = code
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._count_instruction

    def _trace_callers(self, frame: FrameType | None) -> None:
        """Count in functions that were entered before counting began as in all others."""
        while frame is not None and frame.f_trace is None:
            frame.f_trace = self._enter(frame, "call", None)
            frame = frame.f_back

    def _count_instruction(self, frame: FrameType, event: str, argument: Any) -> Any:
        del argument
        if event == "opcode":
            self._instructions[id(frame.f_code)] += 1
        return self._count_instruction


class MemoryMeter(Meter):
    """
    Counts bytes, in everything Python has allocated.

    :ivar used: how much more than before each wake-up there was at most during it, summed over all wake-ups.
    :ivar held: how much more there is in the end than at the start.
    :ivar cycles: how many objects were left to the garbage collector.
    """

    def __init__(self) -> None:
        self.used = self.held = self.cycles = 0
        self._is_on = False
        self._before = 0

    def start(self) -> None:
        """See :class:`Meter`."""
        self._collect()
        self.held -= tracemalloc.get_traced_memory()[0]
        gc.disable()
        self._is_on = True
        self.resume()

    def stop(self) -> None:
        """See :class:`Meter`."""
        self._is_on = False
        self.cycles += gc.collect()
        gc.enable()
        self.held += tracemalloc.get_traced_memory()[0]

    def pause(self) -> None:
        """See :class:`Meter`."""
        if self._is_on:
            self.used += tracemalloc.get_traced_memory()[1] - self._before

    def resume(self) -> None:
        """See :class:`Meter`."""
        if self._is_on:
            tracemalloc.reset_peak()
            self._before = tracemalloc.get_traced_memory()[0]

    @staticmethod
    def _collect() -> None:
        while gc.collect():
            pass


_SYSTEM = (socket.socket, select.epoll)


def _name_of(code: CodeType) -> str:
    """Where a function is: the file, from the package on, and its name."""
    path = Path(code.co_filename)
    parts = path.parts
    for folder in ("rapidrtmp", "site-packages"):
        if folder in parts[:-1]:
            parts = parts[len(parts) - parts[::-1].index(folder) :]
    return f"{'/'.join(parts[-3:])}:{code.co_qualname}"
