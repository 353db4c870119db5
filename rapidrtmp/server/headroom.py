"""
Whether there is room for one more publisher: time of the reactor, memory, space in the storages.

What is on air comes first: a new stream is refused, in words, before those that there are suffer from it. One whose
publisher returns is no new stream.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from rapidrtmp.interfaces import IStorage, IStorageSpace
from rapidrtmp.net.limits import HeadroomLimits
from rapidrtmp.support.units import render_size

__all__ = ["Headroom", "resident_bytes"]

#: How often storages are asked how much room they have.
LOOK_EVERY_S = 5.0


def resident_bytes() -> int:
    """How much memory this process holds; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


class Headroom:
    """
    Decides.

    :param find_lag_ms: how late the reactor runs its timers, for seconds.
    :param find_storages: those that streams are written to.
    :param find_memory: how many bytes the process holds.
    """

    def __init__(
        self,
        limits: HeadroomLimits,
        find_lag_ms: Callable[[], int],
        find_storages: Callable[[], Iterable[IStorage]],
        find_memory: Callable[[], int] = resident_bytes,
    ) -> None:
        self._limits = limits
        self._find_lag_ms = find_lag_ms
        self._find_storages = find_storages
        self._find_memory = find_memory
        self._free_bytes: dict[IStorage, int] = {}
        self._looking: Any = None

    def refusal(self) -> str:
        """Why there is no room for a new stream; ``""`` if there is."""
        limits = self._limits
        lag_ms = self._find_lag_ms()
        if limits.max_lag_ms and lag_ms > limits.max_lag_ms:
            return f"this server is too busy for another stream now: it is {lag_ms} ms behind; try again later"
        if limits.max_memory_bytes and self._find_memory() > limits.max_memory_bytes:
            return "this server has too little memory for another stream now; try again later"
        if limits.min_free_space_bytes and any(
            free < limits.min_free_space_bytes for free in self._free_bytes.values()
        ):
            least = render_size(limits.min_free_space_bytes)
            return f"this server has less than {least} of space left to store another stream; try again later"
        return ""

    def start(self, clock: IReactorTime) -> None:
        """Begin to look after the storages."""
        if self._limits.min_free_space_bytes:
            self._looking = LoopingCall(self.look)
            self._looking.clock = clock
            self._looking.start(LOOK_EVERY_S)

    def stop(self) -> None:
        """Look no more."""
        if self._looking is not None and self._looking.running:
            self._looking.stop()

    def look(self) -> None:
        """Ask each storage that can tell how much room it has; one that does not answer is as it was."""
        storages = [each for each in self._find_storages() if IStorageSpace.providedBy(each)]
        self._free_bytes = {each: free for each, free in self._free_bytes.items() if each in storages}
        for storage in storages:
            asked: Any = IStorageSpace(storage).free_bytes()
            asked.addCallbacks(lambda free, storage=storage: self._free_bytes.update({storage: free}), lambda _: None)
