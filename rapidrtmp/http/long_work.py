"""
Answers whose making takes long: a playlist of twelve hours, the index of a film, a list of fifty thousand recordings.

Any client may ask for them, so they are made one at a time, a few milliseconds in each turn of the reactor, and what is
made is kept for those who ask next, as long as there is room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from rapidrtmp.interfaces import UnavailableError
from rapidrtmp.support.steps import Steps

__all__ = ["LongWork"]

T = TypeVar("T")

#: How long it works in one turn of the reactor, in seconds, and how many steps it takes before it looks.
SLICE_S, SLICE_STEPS = 0.004, 16
#: So many wait for their turn; those who come then are to ask again later.
MOST_WAITING = 200
RETRY_S = 5


class LongWork:
    """
    A queue of long work, and what came of it.

    :param clock: time and timers.
    :param most_bytes: what is kept takes no more, as far as its makers know.
    """

    def __init__(self, clock: IReactorTime, most_bytes: int = 64 << 20) -> None:
        self._clock = clock
        self._most_bytes = most_bytes
        self._kept_bytes = 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = DeferredLock()

    async def do(self, steps: Steps[T]) -> T:
        """
        Do something when its turn has come.

        :raises UnavailableError: too much waits already.
        """
        if len(self._lock.waiting) >= MOST_WAITING:
            steps.close()
            raise UnavailableError("too many long answers are being made: ask again", RETRY_S)
        await self._lock.acquire()
        try:
            return await self._in_slices(steps)
        finally:
            self._lock.release()

    async def once(self, key: Hashable, make: Callable[[], Steps[T]], weigh: Callable[[T], int]) -> T:
        """
        What was made under that key, or is made now.

        :param weigh: tells how many bytes it takes to keep it.
        :raises UnavailableError: as :meth:`do`; and whatever ``make`` raises.
        """

        def steps() -> Steps[T]:
            found = self.kept(key)  # while this waited, another may have made it
            if found is None:
                found = yield from make()
                self.keep(key, found, weigh(found))
            return cast(T, found)

        found = self.kept(key)
        return cast(T, found) if found is not None else await self.do(steps())

    def kept(self, key: Hashable) -> Any:
        """What is kept under that key, or ``None``."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def take(self, key: Hashable) -> Any:
        """What is kept under that key, or ``None``; it is kept no more."""
        found, size = self._kept.pop(key, (None, 0))
        self._kept_bytes -= size
        return found

    def keep(self, key: Hashable, value: object, size: int) -> None:
        """Keep something, in place of what has not been asked for the longest; not what is larger than all room."""
        self.take(key)
        if size > self._most_bytes:
            return
        self._kept_bytes += size
        self._kept[key] = value, size
        while self._kept_bytes > self._most_bytes:
            _, (_, gone) = self._kept.popitem(last=False)
            self._kept_bytes -= gone

    async def _in_slices(self, steps: Steps[T]) -> T:
        until_s = self._clock.seconds() + SLICE_S
        while True:
            try:
                for _ in range(SLICE_STEPS):
                    next(steps)
            except StopIteration as done:
                return cast(T, done.value)
            if self._clock.seconds() >= until_s:
                await deferLater(self._clock, 0)
                until_s = self._clock.seconds() + SLICE_S
