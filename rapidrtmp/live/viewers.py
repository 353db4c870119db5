"""
How many people watch, counted from their requests alone: no cookie, no per-viewer URL, nothing kept that names anyone.

A client is the salted hash of its address and user agent. Many viewers may share one (an office, a test rig), but each
of them asks for each piece of media once, and for each blocking reload once: so a client stands for as many viewers as
the most often it asked for the same thing in the window before its newest request. Those who are far apart, in a rewind
window or a recording, do not ask for the same: they show as *places* from which media is fetched in turn, one and
another and the one again, and each counts by itself. One viewer who seeks leaves a place and does not return to it.
Behind a CDN that collapses requests this counts the CDN.

All is counted as requests come in, so that neither asking how many there are nor whether one is among them looks at
more than the clients that have left since.

Where several processes serve a stream, each tells the others whom it has seen, under hashes of one salt. A client of
two of them is one: it stands for as many viewers as the one says that has seen most of it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Set
from typing import NamedTuple

from zope.interface import implementer

from rapidrtmp.interfaces import IViewers
from rapidrtmp.support.client_prefix import origin_of

__all__ = ["Seen", "Viewers"]


class Seen(NamedTuple):
    """
    A client, as one process tells another.

    :ivar prefix: the salted hash of whom its address stands for, in hex.
    :ivar viewers: how many it stands for.
    :ivar address: its address, where it has just come; ``""`` later, as that is kept nowhere.
    """

    prefix: str
    viewers: int
    address: str = ""


#: A distinct thing asked for is remembered at most this often per client: an LL player asks for 6 or so a second.
MAX_REMEMBERED = 128
_NEVER = 1 << 62
IDENTITY_BYTES = 12
#: Pieces of media whose numbers are no further apart are of one place: players begin with some that are old.
PLACE_WIDTH = 4
#: The names of segments and parts, in streams and recordings, have their number behind this.
_NUMBER = re.compile(r"(?:segment|part)_([0-9]{1,20})", re.ASCII)


class _Place:
    """
    From where in the stream a client fetches media.

    :ivar number: of the newest piece.
    :ivar most: how often the same piece was asked for, at most.
    :ivar is_revisited: whether it was returned to from another place, or another one was from here.
    """

    __slots__ = ("is_revisited", "most", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.most = 0
        self.is_revisited = False


class _Client:
    """
    One client.

    :ivar prefix: the salted hash of whom its address stands for.
    :ivar asked: how often each thing was asked for, when last, and from which place; in order of that time.
    :ivar viewers: how many it stands for, at least 1 while it is here; ``elsewhere``: as other processes have seen it.
    """

    __slots__ = (
        "_newest",
        "_oldest_ms",
        "_places",
        "_reloads",
        "asked",
        "elsewhere",
        "last_seen_ms",
        "prefix",
        "viewers",
    )

    def __init__(self, prefix: bytes, viewers: int = 1) -> None:
        self.prefix = prefix
        self.last_seen_ms = 0
        self.viewers = viewers
        self.elsewhere = 0
        self.asked: OrderedDict[str, tuple[int, int, _Place]] = OrderedDict()
        self._reloads = _Place(-1)  # no place: all players wait at the end
        self._places: list[_Place] = []
        self._newest: _Place | None = None
        self._oldest_ms = _NEVER  # nothing that is remembered was asked for earlier

    @property
    def counted(self) -> int:
        """How many it counts as."""
        return max(self.viewers, self.elsewhere)

    def ask(self, thing: str, now_ms: int, horizon_ms: int) -> None:
        if self._oldest_ms < horizon_ms:
            self._forget(horizon_ms, MAX_REMEMBERED)
        if not thing:
            return
        known = self.asked.pop(thing, None)
        if known is None:
            count, place = 1, self._begin(thing, now_ms, horizon_ms)
        else:
            count, place = known[0] + 1, known[2]
        self.asked[thing] = count, now_ms, place
        if place is not self._newest and place is not self._reloads and self._visit(place):
            self._count()
        if count > place.most:
            place.most = count
            if place.is_revisited:
                self._count()
            elif count > self.viewers:
                self.viewers = count

    def _begin(self, thing: str, now_ms: int, horizon_ms: int) -> _Place:
        """Make room for something that was not asked for of late; the place that it is asked for from."""
        if not self.asked:
            self._oldest_ms = now_ms
        elif len(self.asked) >= MAX_REMEMBERED:
            self._forget(horizon_ms, MAX_REMEMBERED - 1)
        return self._place(thing)

    def _forget(self, horizon_ms: int, most: int) -> None:
        """Forget what was asked for before a time, and the oldest of what is more than is to be remembered."""
        asked = self.asked
        has_changed = False
        while asked:
            oldest = next(iter(asked))
            count, self._oldest_ms, place = asked[oldest]
            if self._oldest_ms >= horizon_ms and len(asked) <= most:
                break
            del asked[oldest]
            if count == place.most:
                self._measure(place)
                has_changed = True
        else:
            self._oldest_ms = _NEVER
        if has_changed:
            self._count()

    def _place(self, thing: str) -> _Place:
        """The place that something is asked for from, which may be a new one."""
        found = _NUMBER.search(thing)
        if found is None:
            return self._reloads
        number = int(found[1])
        for place in self._places:
            if abs(number - place.number) <= PLACE_WIDTH:
                place.number = number
                return place
        self._places.append(_Place(number))
        return self._places[-1]

    def _visit(self, place: _Place) -> bool:
        """Learn that something was asked for from a place; whether that tells of one more."""
        before = self._newest
        self._newest = place
        if before is None or not place.most or (place.is_revisited and before.is_revisited):
            return False
        place.is_revisited = before.is_revisited = True
        return True

    def _measure(self, place: _Place) -> None:
        place.most = max((count for count, _, each in self.asked.values() if each is place), default=0)
        if not place.most and place in self._places:
            self._places.remove(place)

    def _count(self) -> None:
        viewers, shared = max(1, self._reloads.most), 0
        for place in self._places:
            viewers = max(viewers, place.most)
            if place.is_revisited:
                shared += place.most
        self.viewers = max(viewers, shared)


@implementer(IViewers)
class Viewers:
    """
    The viewers of one stream.

    :param salt: the same in all processes that serve the stream.
    :param of: what tells the connections of this process from those of others.
    :ivar window_ms: a client not heard of for this long has left.
    :ivar came: called with the address of a client that begins to watch, and with what it is called here; ``left``:
        with the latter alone, when it is noticed that it does so no more. ``began_with``: called with what it asks for
        first.
    """

    def __init__(self, salt: bytes, window_ms: int = 12_000, of: str = "") -> None:
        self._salt = salt[:16]
        self.of = of
        self.window_ms = window_ms
        self._clients: OrderedDict[bytes, _Client] = OrderedDict()
        self._connected: dict[str, _Client] = {}  # those of one connection each
        self._guests: dict[str, _Client] = {}  # those that only others have seen
        self._reports: dict[str, dict[str, Seen]] = {}
        self._total = self._entered = 0
        self._by_prefix: Counter[bytes] = Counter()
        self._most_of_prefix = 0
        self.came: Callable[[str, str], object] = lambda _address, _client: None
        self.began_with: Callable[[str], object] = lambda _thing: None
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
        if client is None or client.last_seen_ms < now_ms - self.window_ms:  # or has left, and comes back
            self._forget(now_ms)
            client = self._begin(identity, address)
            self.began_with(thing)
        else:
            self._clients.move_to_end(identity)
        client.last_seen_ms = now_ms
        before = client.viewers
        client.ask(thing, now_ms, now_ms - self.window_ms)
        if client.viewers != before:
            elsewhere = client.elsewhere
            self._add(client, max(client.viewers, elsewhere) - max(before, elsewhere))

    def _begin(self, identity: bytes, address: str) -> _Client:
        client = self._clients[identity] = _Client(self._prefix(address))
        guest = self._guests.pop(identity.hex(), None)
        if guest is None:
            self._add(client, 1)
            self.came(address, identity.hex())
        else:  # a player's connections may end at several processes
            client.elsewhere = guest.elsewhere
        return client

    def knows(self, address: str, agent: str, now_ms: int) -> bool:
        """Whether this client is among those who watch, here or elsewhere."""
        return self.stands_for(address, agent, now_ms) > 0

    def stands_for(self, address: str, agent: str, now_ms: int) -> int:
        """How many of those who watch, here or elsewhere, this client stands for; 0 if it is not among them."""
        identity = self._identity(address, agent)
        client = self._clients.get(identity)
        if client is None and self._guests:
            client = self._guests.get(identity.hex())
        if client is None:
            return 0
        return client.counted if client.last_seen_ms >= now_ms - self.window_ms else client.elsewhere

    def enter(self, address: str, agent: str) -> Callable[[], None]:
        """
        Count one that is sent everything over one connection; each such connection is a viewer.

        :returns: to be called when it has left.
        """
        self._entered += 1
        viewer = f"{self._identity(address, agent).hex()}-{self._entered}{self.of}"
        client = self._connected[viewer] = _Client(self._prefix(address))
        self._add(client, 1)
        self.came(address, viewer)

        def leave() -> None:
            if self._connected.pop(viewer, None) is not None:
                self._add(client, -1)
                self.left(viewer)

        return leave

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
        return hashlib.blake2b(words, digest_size=IDENTITY_BYTES, key=self._salt).digest()

    def _identity(self, address: str, agent: str) -> bytes:
        words = f"{address}\0{agent}".encode("utf-8", "replace")
        return hashlib.blake2b(words, digest_size=IDENTITY_BYTES, key=self._salt).digest()

    def _forget(self, now_ms: int) -> None:
        horizon = now_ms - self.window_ms
        while self._clients:
            identity, client = next(iter(self._clients.items()))
            if client.last_seen_ms >= horizon:
                break
            del self._clients[identity]
            before, client.viewers = client.counted, 0
            self._add(client, client.elsewhere - before)
            if client.elsewhere:
                self._guests[identity.hex()] = client
            else:
                self.left(identity.hex())

    # ── several processes ────────────────────────────────────────────────────────────────────────────────────────────

    def seen(self, now_ms: int, to: str = "") -> dict[str, Seen]:
        """
        Tell who watches now, by what each is called.

        :param to: the process that asks: what it has said itself is not repeated.
        """
        self._forget(now_ms)
        seen = {each.hex(): Seen(client.prefix.hex(), client.viewers) for each, client in self._clients.items()}
        seen.update({viewer: Seen(client.prefix.hex(), 1) for viewer, client in self._connected.items()})
        for source, report in self._reports.items() if to else ():
            for viewer, reported in report.items() if source != to else ():
                if viewer not in seen or seen[viewer].viewers < reported.viewers:
                    seen[viewer] = reported
        return seen

    def reported(self, source: str, seen: Mapping[str, Seen]) -> None:
        """
        Learn whom another process has seen, in place of what it said before.

        :param source: that process.
        """
        before = self._reports.pop(source, {})
        if seen:
            self._reports[source] = {viewer: each._replace(address="") for viewer, each in seen.items()}
        for viewer in {**before, **seen}:
            self._count_elsewhere(viewer, seen.get(viewer))

    @property
    def sources(self) -> Set[str]:
        """The processes that have said whom they see."""
        return self._reports.keys()

    def _count_elsewhere(self, viewer: str, seen: Seen | None) -> None:
        viewers = max((each[viewer].viewers for each in self._reports.values() if viewer in each), default=0)
        client = self._find(viewer)
        if client is None:
            if viewers and seen is not None:
                client = self._guests[viewer] = _Client(bytes.fromhex(seen.prefix), 0)
                client.elsewhere = viewers
                self._add(client, viewers)
                self.came(seen.address, viewer)
            return
        before, client.elsewhere = client.counted, viewers
        self._add(client, client.counted - before)
        if not client.counted:
            del self._guests[viewer]
            self.left(viewer)

    def _find(self, viewer: str) -> _Client | None:
        found = self._guests.get(viewer) or self._connected.get(viewer)
        if found is not None or len(viewer) != 2 * IDENTITY_BYTES:
            return found
        return self._clients.get(bytes.fromhex(viewer))
