"""
How many people watch, counted from their requests alone: no cookie, no per-viewer URL, nothing kept that names anyone.

A client is the salted hash of its address and user agent. Many viewers may share one (an office, a test rig), but each
of them asks for each piece of media once, and for each blocking reload once: so a client stands for as many viewers as
the most often it asked for the same thing in the window before its newest request. Behind a CDN that collapses requests
this counts the CDN.

All is counted as requests come in, so that neither asking how many there are nor whether one is among them looks at
more than the clients that have left since.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable

from zope.interface import implementer

from rapidrtmp.interfaces import IViewers
from rapidrtmp.support.client_prefix import origin_of

__all__ = ["Viewers"]

#: A distinct thing asked for is remembered at most this often per client: an LL player asks for 6 or so a second.
MAX_REMEMBERED = 128


class _Client:
    """
    One client.

    :ivar prefix: the salted hash of whom its address stands for.
    :ivar asked: how often each thing was asked for, and when last; in order of that.
    :ivar viewers: how many it stands for: the highest of these counts, at least 1.
    """

    __slots__ = ("asked", "last_seen_ms", "prefix", "viewers")

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.last_seen_ms = 0
        self.viewers = 1
        self.asked: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def ask(self, thing: str, now_ms: int, horizon_ms: int) -> None:
        asked = self.asked
        if thing:
            count = asked.pop(thing, (0, 0))[0] + 1
            asked[thing] = count, now_ms
            if count > self.viewers:
                self.viewers = count
        while asked:
            oldest = next(iter(asked))
            count, last_ms = asked[oldest]
            if last_ms >= horizon_ms and len(asked) <= MAX_REMEMBERED:
                break
            del asked[oldest]
            if count == self.viewers:
                self.viewers = max((count for count, _ in asked.values()), default=1)


@implementer(IViewers)
class Viewers:
    """
    The viewers of one stream.

    :ivar window_ms: a client not heard of for this long has left.
    :ivar came: called with the address of a client that begins to watch, and with what it is called here; ``left``:
        with the latter alone, when it is noticed that it does so no more.
    """

    def __init__(self, salt: bytes, window_ms: int = 12_000) -> None:
        self._salt = salt[:16]
        self.window_ms = window_ms
        self._clients: OrderedDict[bytes, _Client] = OrderedDict()
        self._total = 0
        self._by_prefix: Counter[bytes] = Counter()
        self._most_of_prefix = 0
        self.came: Callable[[str, str], object] = lambda _address, _client: None
        self.left: Callable[[str], object] = lambda _client: None

    def bound_prefixes(self, most: int) -> None:
        """
        Count those of one address, or IPv6 /64, as so many at most: more may be one client that asks again and again.

        :param most: 0 for no bound.
        """
        if most != self._most_of_prefix:
            self._most_of_prefix = most
            self._total = sum(map(self._bounded, self._by_prefix.values()))

    def _bounded(self, viewers: int) -> int:
        return min(viewers, self._most_of_prefix or viewers)

    def allow_for(self, target_ms: int) -> None:
        """
        Wait for clients at least two target durations: so long may pass until one that plays asks for the next segment.
        """
        self.window_ms = max(self.window_ms, 2 * target_ms)

    def saw(self, address: str, agent: str, thing: str, now_ms: int) -> None:
        """
        Count one request.

        :param thing: what was asked for: a segment's or part's name, or a playlist with its blocking directives.
            Empty for what every player asks for again and again (a playlist without directives).
        """
        identity = self._identity(address, agent)
        client = self._clients.get(identity)
        if client is None:
            self._forget(now_ms)
            client = self._clients[identity] = _Client(self._prefix(address))
            self._add(client, 1)
            self.came(address, identity.hex())
        else:
            self._clients.move_to_end(identity)
        client.last_seen_ms = now_ms
        before = client.viewers
        client.ask(thing, now_ms, now_ms - self.window_ms)
        if client.viewers != before:
            self._add(client, client.viewers - before)

    def knows(self, address: str, agent: str, now_ms: int) -> bool:
        """Whether this client is among those who watch."""
        client = self._clients.get(self._identity(address, agent))
        return client is not None and client.last_seen_ms >= now_ms - self.window_ms

    def count(self, now_ms: int) -> int:
        """How many watch now."""
        self._forget(now_ms)
        return self._total

    def count_of(self, address: str, now_ms: int) -> int:
        """How many watch now from an address, or its IPv6 /64."""
        self._forget(now_ms)
        return self._by_prefix[self._prefix(address)]

    def _add(self, client: _Client, viewers: int) -> None:
        before = self._by_prefix.get(client.prefix, 0)
        now = self._by_prefix[client.prefix] = before + viewers
        self._total += self._bounded(now) - self._bounded(before) if self._most_of_prefix else viewers
        if not now:
            del self._by_prefix[client.prefix]

    def _prefix(self, address: str) -> bytes:
        words = origin_of(address).encode("utf-8", "replace")
        return hashlib.blake2b(words, digest_size=12, key=self._salt).digest()

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
            self._add(client, -client.viewers)
            self.left(identity.hex())
