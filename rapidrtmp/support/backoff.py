"""Back-off after refusals: when a client must wait before it is asked about again."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["Backoff"]

MINUTE_MS = 60_000
#: Clients remembered; those not heard of for longest are forgotten first.
MAX_CLIENTS = 4096


class Backoff:
    """
    The refusals of every client. They wear off one by one, so that a client whose credential was corrected gets in
    within seconds.

    :param per_minute: how many a client may collect at once, and how many wear off in a minute; 0 for no limit.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._full_at: OrderedDict[str, int] = OrderedDict()

    def wait_ms(self, client_prefix: str, time_ms: int) -> int:
        """Tell how long the client must wait before it may ask again, in milliseconds."""
        if not self._per_minute:
            return 0
        return max(0, self._owed_ms(client_prefix, time_ms) + self._price_ms - MINUTE_MS)

    def refused(self, client_prefix: str, time_ms: int) -> None:
        """Note that the client was refused."""
        if self._per_minute:
            owed_ms = min(self._owed_ms(client_prefix, time_ms) + self._price_ms, MINUTE_MS)
            self._full_at[client_prefix] = time_ms + owed_ms
            self._full_at.move_to_end(client_prefix)
            if len(self._full_at) > MAX_CLIENTS:
                self._full_at.popitem(last=False)

    @property
    def _price_ms(self) -> int:
        """How long one refusal takes to wear off."""
        return MINUTE_MS // self._per_minute

    def _owed_ms(self, client_prefix: str, time_ms: int) -> int:
        return max(0, self._full_at.get(client_prefix, 0) - time_ms)
