"""
How many people watch, told from their requests alone: no cookie, no per-viewer URL, nothing kept that names anyone.

A client is the salted hash of its address and user agent. Many viewers may share one (an office, a test rig), but each
of them asks for each piece of media once, and for each blocking reload once: so a client stands for as many viewers as
the most often it asked for the same thing lately. Behind a CDN that collapses requests this counts the CDN.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

__all__ = ["Viewers"]

#: A distinct thing asked for is remembered at most this often per client: an LL player asks for 6 or so a second.
MAX_REMEMBERED = 128


@dataclass(slots=True)
class _Client:
    last_seen_ms: int = 0
    asked: OrderedDict[str, list[int]] = field(default_factory=OrderedDict)

    def forget_before(self, horizon_ms: int) -> None:
        while self.asked:
            _, (_, last_ms) = next(iter(self.asked.items()))
            if last_ms >= horizon_ms and len(self.asked) <= MAX_REMEMBERED:
                break
            self.asked.popitem(last=False)

    def viewers(self) -> int:
        return max((count for count, _ in self.asked.values()), default=1)


class Viewers:
    """
    The viewers of one stream.

    :ivar window_ms: a client not heard of for this long has left: two target durations or more.
    """

    def __init__(self, salt: bytes, window_ms: int = 12_000) -> None:
        self._salt = salt[:16]
        self.window_ms = window_ms
        self._clients: OrderedDict[bytes, _Client] = OrderedDict()

    def saw(self, address: str, agent: str, thing: str, now_ms: int) -> None:
        """
        Count one request.

        :param thing: what was asked for: a segment's or part's name, or a playlist with its blocking directives.
            Empty for what everybody asks for again and again (a playlist without directives).
        """
        identity = self._identity(address, agent)
        client = self._clients.get(identity)
        if client is None:
            client = self._clients[identity] = _Client()
        self._clients.move_to_end(identity)
        client.last_seen_ms = now_ms
        if thing:
            entry = client.asked.setdefault(thing, [0, now_ms])
            entry[0] += 1
            entry[1] = now_ms
            client.asked.move_to_end(thing)
        client.forget_before(now_ms - self.window_ms)

    def knows(self, address: str, agent: str, now_ms: int) -> bool:
        """Whether this client is among those who watch."""
        self._forget(now_ms)
        return self._identity(address, agent) in self._clients

    def count(self, now_ms: int) -> int:
        """How many watch now."""
        self._forget(now_ms)
        return sum(client.viewers() for client in self._clients.values())

    def _identity(self, address: str, agent: str) -> bytes:
        words = f"{address}\0{agent}".encode("utf-8", "replace")
        return hashlib.blake2b(words, digest_size=12, key=self._salt).digest()

    def _forget(self, now_ms: int) -> None:
        horizon = now_ms - self.window_ms
        while self._clients:
            identity, client = next(iter(self._clients.items()))
            if client.last_seen_ms >= horizon:
                break
            del self._clients[identity]
        for client in self._clients.values():
            client.forget_before(horizon)
