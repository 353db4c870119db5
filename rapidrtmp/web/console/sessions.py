"""
Sessions of the console: cookies that say that their browser has shown the management secret.

A session is kept by the browser alone: until when it holds and a random number, signed with a key that the secret makes
(RFC 2104). So it outlives a restart, and a new secret ends all of them. The token that a page sends with what changes
something is made of the session likewise; it stands in the page, and another site's page cannot read it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import OrderedDict
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie

from rapidrtmp.interfaces import Request

__all__ = ["COOKIE", "LIFETIME_S", "Sessions"]

COOKIE = "rapidrtmp_console"
#: How long a session holds.
LIFETIME_S = 12 * 3600
#: So many sessions that were ended early are remembered, until they would have ended by themselves.
MOST_ENDED = 10_000
_NONCE_BYTES = 16


class Sessions:
    """
    Makes and knows sessions.

    :param find_key: tells the key that they are signed with; ``None`` as long as there is none.
    :param utc_ms: the time of day in milliseconds since 1970.
    """

    def __init__(
        self,
        find_key: Callable[[], bytes | None],
        utc_ms: Callable[[], int],
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._find_key = find_key
        self._utc_ms = utc_ms
        self._random = random
        self._ended: OrderedDict[str, int] = OrderedDict()

    def begin(self) -> str:
        """A new session."""
        body = f"{self._utc_ms() // 1000 + LIFETIME_S}.{self._random(_NONCE_BYTES).hex()}"
        return f"{body}.{self._sign('session', body)}"

    def end(self, session: str) -> None:
        """Let a session hold no longer."""
        if self.is_good(session):
            self._ended[session] = int(session.partition(".")[0])
            while len(self._ended) > MOST_ENDED:
                self._ended.popitem(last=False)

    def is_good(self, session: str) -> bool:
        """Whether a session is one of ours, and holds."""
        body, _, signature = session.rpartition(".")
        if not body or self._find_key() is None or session in self._ended:
            return False
        if not hmac.compare_digest(signature.encode(), self._sign("session", body).encode()):
            return False
        return int(body.partition(".")[0]) * 1000 > self._utc_ms()

    def page_token(self, session: str) -> str:
        """What the pages of a session send with what changes something."""
        return self._sign("page", session)

    def is_page_token(self, session: str, token: str) -> bool:
        """Whether a page of the session has sent it."""
        return hmac.compare_digest(token.encode(), self.page_token(session).encode())

    def _sign(self, purpose: str, text: str) -> str:
        key = self._find_key() or self._random(32)
        return hmac.new(key, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()

    @staticmethod
    def of(request: Request) -> str:
        """The session that a request shows, good or not; ``""`` if none."""
        try:
            found = SimpleCookie(request.header("cookie")).get(COOKIE)
        except CookieError:
            return ""
        return found.value if found is not None and found.value.isascii() else ""
