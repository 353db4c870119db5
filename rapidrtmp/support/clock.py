"""Time of day that no correction of the host's clock can disturb."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

__all__ = ["SteadyClock", "now_ms"]


def now_ms(clock: IReactorTime) -> int:
    """Milliseconds of a reactor's clock; from no particular beginning."""
    return int(clock.seconds() * 1000)


class SteadyClock:
    """
    Milliseconds since 1970 that advance with a monotonic clock.

    The time of day is read once; a step of the host's clock (NTP, an operator) changes nothing afterwards, so that the
    wall-clock times in a playlist never run backwards.
    """

    def __init__(self, monotonic_s: Callable[[], float], time_of_day_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._offset_s = time_of_day_s() - monotonic_s()

    def utc_ms(self) -> int:
        """Now, in milliseconds since 1970."""
        return round((self._monotonic_s() + self._offset_s) * 1000)

    def utc_of(self, clock: IReactorTime, moment_ms: int) -> int:
        """From a recent moment of a reactor's clock, which may be one that can be set, to milliseconds since 1970."""
        return self.utc_ms() - (now_ms(clock) - moment_ms)
