"""
Back-off after failed authentication: when a client must wait before it may ask to publish again.

Asking an authenticator costs: a signature checked, or a request to another server. So each client may be refused only
so often a minute; requests beyond that are refused without asking, until some refusals have worn off. A name that was
lately published from the same address is never delayed: guessing cannot keep out a publisher that comes back from
behind the same address.
"""

from __future__ import annotations

from collections import OrderedDict

from rapidrtmp.names import StreamName
from rapidrtmp.support.backoff import Backoff

__all__ = ["AuthBackoff"]

#: Names published by clients; the ones not heard of for longest are forgotten first.
MAX_ADMITTED = 4096


class AuthBackoff:
    """
    The refused publishes of every client.

    :param per_minute: how many a client may collect at once, and how many wear off in a minute; 0 for no limit.
    """

    def __init__(self, per_minute: int = 10) -> None:
        self._backoff = Backoff(per_minute)
        self._admitted: OrderedDict[tuple[str, StreamName], None] = OrderedDict()

    def wait_ms(self, client_prefix: str, name: StreamName, time_ms: int) -> int:
        """Tell how long the client must wait before it may ask to publish ``name``, in milliseconds."""
        return 0 if (client_prefix, name) in self._admitted else self._backoff.wait_ms(client_prefix, time_ms)

    def refused(self, client_prefix: str, time_ms: int) -> None:
        """Note that an authenticator refused the client."""
        self._backoff.refused(client_prefix, time_ms)

    def admitted(self, client_prefix: str, name: StreamName) -> None:
        """Note that an authenticator admitted the client."""
        self._admitted[client_prefix, name] = None
        self._admitted.move_to_end((client_prefix, name))
        if len(self._admitted) > MAX_ADMITTED:
            self._admitted.popitem(last=False)
