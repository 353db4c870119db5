"""
Back-off after failed authentication: when a client must wait before it may ask to publish again.

Asking an authenticator costs: a signature checked, or a request to another server. So each client may be refused only
so often a minute; requests beyond that are refused without asking, until some refusals have worn off. They wear off one
by one, so that an encoder whose token was corrected gets in within seconds. A name that was lately published from the
same address is never delayed: guessing cannot keep out a publisher that comes back from behind the same address.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from rapidrtmp.names import StreamName

__all__ = ["AuthBackoff"]

K = TypeVar("K")
V = TypeVar("V")

MINUTE_MS = 60_000
#: Clients remembered, and names published by them; the ones not heard of for longest are forgotten first.
MAX_CLIENTS = 4096
MAX_ADMITTED = 4096


class AuthBackoff:
    """
    The refused publishes of every client.

    :param per_minute: how many a client may collect at once, and how many wear off in a minute; 0 for no limit.
    """

    def __init__(self, per_minute: int = 10) -> None:
        self._per_minute = per_minute
        self._full_at: OrderedDict[str, int] = OrderedDict()
        self._admitted: OrderedDict[tuple[str, StreamName], None] = OrderedDict()

    def wait_ms(self, client_prefix: str, name: StreamName, time_ms: int) -> int:
        """Tell how long the client must wait before it may ask to publish ``name``, in milliseconds."""
        if not self._per_minute or (client_prefix, name) in self._admitted:
            return 0
        return max(0, self._owed_ms(client_prefix, time_ms) + self._price_ms - MINUTE_MS)

    def refused(self, client_prefix: str, time_ms: int) -> None:
        """Note that an authenticator refused the client."""
        if self._per_minute:
            owed_ms = min(self._owed_ms(client_prefix, time_ms) + self._price_ms, MINUTE_MS)
            self._full_at[client_prefix] = time_ms + owed_ms
            _touch(self._full_at, client_prefix, MAX_CLIENTS)

    def admitted(self, client_prefix: str, name: StreamName) -> None:
        """Note that an authenticator admitted the client."""
        self._admitted[client_prefix, name] = None
        _touch(self._admitted, (client_prefix, name), MAX_ADMITTED)

    @property
    def _price_ms(self) -> int:
        """How long one refusal takes to wear off."""
        return MINUTE_MS // self._per_minute

    def _owed_ms(self, client_prefix: str, time_ms: int) -> int:
        return max(0, self._full_at.get(client_prefix, 0) - time_ms)


def _touch(remembered: OrderedDict[K, V], key: K, limit: int) -> None:
    remembered.move_to_end(key)
    if len(remembered) > limit:
        remembered.popitem(last=False)
