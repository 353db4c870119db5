"""
The two clocks: one that is only ever read for how long, one that is only ever read for when.

A host's time of day is set while the server runs (NTP after boot, a virtual machine that was paused, an operator). So
every duration, deadline and rate is reckoned on the reactor's clock, which is monotonic, and the time of day is asked
anew wherever a date is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.python.runtime import seconds as settable_seconds

__all__ = ["awake_or_not_s", "busy_clock", "keep_monotonic", "now_ms", "utc_ms"]

_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def now_ms(clock: IReactorTime) -> int:
    """Milliseconds of a reactor's clock; from no particular beginning."""
    return int(clock.seconds() * 1000)


def awake_or_not_s() -> float:
    """Seconds from no particular beginning; those in which the machine was suspended count, where it can tell."""
    if _BOOT_CLOCK is None:
        return time.monotonic()
    return time.clock_gettime(_BOOT_CLOCK)


def utc_ms() -> int:
    """The time of day as the host has it now, in milliseconds since 1970; it may be set in either direction."""
    return time.time_ns() // 1_000_000


def busy_clock(reactor: Any) -> Callable[[], float]:
    """
    What tells for how long, in seconds, a reactor has been busy so far; to be called in its thread.

    One that does not say how long it had nothing to do is taken to be busy while its thread uses a processor. That is
    less than the truth where others use it as well.
    """
    if not hasattr(reactor, "waited_s"):
        return time.thread_time
    return lambda: time.monotonic() - float(reactor.waited_s)


def keep_monotonic(reactor: Any) -> None:
    """
    Have a reactor reckon by the monotonic clock, if it is one of Twisted's that reckon by the time of day.

    Calls that wait already stay as far away as they are.
    """
    if reactor.seconds is not settable_seconds:
        return
    waiting = [(call, call.getTime() - reactor.seconds()) for call in reactor.getDelayedCalls()]
    reactor.seconds = time.monotonic
    for call, left_s in waiting:
        call.seconds = time.monotonic
        call.reset(max(0.0, left_s))
