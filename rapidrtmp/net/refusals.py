"""
Who was refused too often to be asked about again at once.

Asking an authenticator costs: a signature checked, or a request to somebody's web server. So each origin may be wrong
only so often a minute; what it asks for beyond that is refused unasked, until some of its wrongs have worn off. That
goes drop by drop, so that an encoder whose token was mended gets in within seconds, and never touches a name that was
published from there lately: guessing can not keep a publisher out who comes back from behind the same address.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from rapidrtmp.names import StreamName

__all__ = ["Refusals"]

K = TypeVar("K")
V = TypeVar("V")

MINUTE_MS = 60_000
#: Origins remembered, and names published from somewhere; the ones not heard of for longest are forgotten first.
MAX_ORIGINS = 4096
MAX_ADMITTED = 4096


class Refusals:
    """
    The refused publishes of every origin.

    :param per_minute: how many an origin may collect at once, and how many wear off in a minute; 0 for no limit.
    """

    def __init__(self, per_minute: int = 10) -> None:
        self._per_minute = per_minute
        self._full_at: OrderedDict[str, int] = OrderedDict()
        self._admitted: OrderedDict[tuple[str, StreamName], None] = OrderedDict()

    def wait_ms(self, origin: str, name: StreamName, time_ms: int) -> int:
        """How long ``origin`` must wait before it may ask to publish ``name``; 0 for not at all."""
        if not self._per_minute or (origin, name) in self._admitted:
            return 0
        return max(0, self._owed_ms(origin, time_ms) + self._price_ms - MINUTE_MS)

    def refused(self, origin: str, time_ms: int) -> None:
        """An authenticator said no."""
        if self._per_minute:
            owed_ms = min(self._owed_ms(origin, time_ms) + self._price_ms, MINUTE_MS)
            self._full_at[origin] = time_ms + owed_ms
            _touch(self._full_at, origin, MAX_ORIGINS)

    def admitted(self, origin: str, name: StreamName) -> None:
        """An authenticator said yes."""
        self._admitted[origin, name] = None
        _touch(self._admitted, (origin, name), MAX_ADMITTED)

    @property
    def _price_ms(self) -> int:
        """How long one refusal takes to wear off."""
        return MINUTE_MS // self._per_minute

    def _owed_ms(self, origin: str, time_ms: int) -> int:
        return max(0, self._full_at.get(origin, 0) - time_ms)


def _touch(remembered: OrderedDict[K, V], key: K, limit: int) -> None:
    remembered.move_to_end(key)
    if len(remembered) > limit:
        remembered.popitem(last=False)
