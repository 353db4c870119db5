"""
The streams of other nodes that viewers of this one ask for.

One is followed from the first request on, and no more when no viewer has asked for a while. A feed that is lost is
sought again: at the same owner, at the next one, or not at all when there has been none for long.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.cluster.followed_shelf import FollowedShelf
from rapidrtmp.cluster.mirror import Mirror
from rapidrtmp.cluster.names import NodeNames
from rapidrtmp.cluster.peers import PeerError, Peers
from rapidrtmp.errors import DirectoryError, PeerProtocolError
from rapidrtmp.interfaces import Owner
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.names import StreamName

__all__ = ["Mirrors"]

#: Without a request for so long a stream is followed no more.
IDLE_S = 30.0
#: Without an owner for so long, or three target durations and so much, a stream is gone.
GONE_S = 12.0
#: Between two looks for an owner; and how long it is believed that there is none.
LOOK_S, UNKNOWN_S = 0.1, 0.5
MOST_UNKNOWN = 4096


class Mirrors:
    """
    All of them.

    :param names: which node owns a stream.
    :param apps: the applications that there are.
    :param make_mirror: makes one, with a shelf and viewers of its own where none are given.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        names: NodeNames,
        peers: Peers,
        apps: Container[str],
        make_shelf: Callable[[], FollowedShelf],
        make_viewers: Callable[[], Viewers],
    ) -> None:
        self._reactor = reactor
        self._names = names
        self._peers = peers
        self._apps = apps
        self._make_shelf = make_shelf
        self._make_viewers = make_viewers
        self._mirrors: dict[StreamName, Mirror] = {}
        self._following: dict[StreamName, Deferred[None]] = {}
        self._unknown: dict[StreamName, float] = {}  # until when

    def __len__(self) -> int:
        """How many streams are followed."""
        return len(self._mirrors)

    def __iter__(self) -> Iterator[Mirror]:
        return iter(list(self._mirrors.values()))

    def find(self, name: StreamName) -> Mirror | None:
        """The stream of that name, if another node owns it, or perhaps does: then requests wait until that is known."""
        mirror = self._mirrors.get(name)
        if mirror is not None or name.app not in self._apps:
            return mirror
        now_s = self._reactor.seconds()
        if self._unknown.get(name, 0) > now_s:
            return None
        found: list[Owner | None] = []
        looking = self._names.find(name).addErrback(Failure.trap, DirectoryError)
        looking.addCallback(lambda owner: found.append(owner if isinstance(owner, Owner) else None))
        if found and (found[0] is None or found[0].node == self._names.node):
            self._remember_unknown(name, now_s)
            return None
        return self._follow(Mirror(name, self._make_shelf(), self._make_viewers(), self._reactor))

    def peek(self, name: StreamName) -> Mirror | None:
        """The stream of that name, if it is followed now."""
        return self._mirrors.get(name)

    def adopt(self, name: StreamName, shelf: FollowedShelf, viewers: Viewers, fence: int) -> None:
        """Follow a stream that this node owned, as one of another: its viewers stay."""
        mirror = Mirror(name, shelf, viewers, self._reactor)
        mirror.fence = fence
        mirror.state = "moved"
        self._follow(mirror)

    def give(self, name: StreamName) -> Mirror | None:
        """Follow a stream no more, as this node owns it now; what is on its shelf stays there."""
        mirror = self._mirrors.pop(name, None)
        following = self._following.pop(name, None)
        self._unknown.pop(name, None)
        if following is not None:
            following.cancel()
        if mirror is not None:
            mirror.close()
        return mirror

    def close(self) -> None:
        """Follow nothing any more; requests that wait are answered."""
        for name in list(self._mirrors):
            mirror = self.give(name)
            if mirror is not None:
                mirror.shelf.stop_holding()

    def _remember_unknown(self, name: StreamName, now_s: float) -> None:
        if len(self._unknown) >= MOST_UNKNOWN:
            self._unknown.clear()
        self._unknown[name] = now_s + UNKNOWN_S

    # ── following ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _follow(self, mirror: Mirror) -> Mirror:
        self._mirrors[mirror.name] = mirror
        following = self._following[mirror.name] = Deferred.fromCoroutine(self._keep_following(mirror))
        following.addErrback(Failure.trap, CancelledError)
        following.addErrback(partial(self._log.failure, "internal error in following {stream}", stream=mirror.name))
        return mirror

    async def _keep_following(self, mirror: Mirror) -> None:
        seen_s = self._reactor.seconds()
        last_error = ""
        while mirror.facts.is_over is False:
            try:
                owner = await self._find_owner(mirror)
            except DirectoryError:
                owner = None
            else:
                if owner is None and not mirror.fence and mirror.state == "starting":  # there never was one
                    self._remember_unknown(mirror.name, self._reactor.seconds())
                    self._drop(mirror)
                    return
            if owner is not None:
                mirror.owner = owner
                try:
                    await self._watched(self._peers.follow(owner.address, mirror), mirror)
                    seen_s = self._reactor.seconds()
                except (PeerError, PeerProtocolError) as error:
                    if str(error) != last_error:
                        last_error = str(error)
                        self._log.warn("{stream}: cannot be followed: {error}", stream=mirror.name, error=error)
            now_s = self._reactor.seconds()
            if now_s - mirror.asked_s > IDLE_S or now_s - seen_s > GONE_S + 3 * mirror.shelf.target_ms / 1000:
                break
            await deferLater(self._reactor, LOOK_S)
        if mirror.facts.is_over and mirror.state != "gone":  # final: it is served as long as viewers ask
            while self._reactor.seconds() - mirror.asked_s <= IDLE_S:
                await deferLater(self._reactor, IDLE_S / 4)
        self._forget(mirror)

    async def _find_owner(self, mirror: Mirror) -> Owner | None:
        """The owner that is to be followed, if there is one. :raises DirectoryError: that cannot be seen."""
        owner = await self._names.find(mirror.name)
        if owner is None or owner.node == self._names.node or owner.fence < mirror.fence:
            return None
        return owner

    async def _watched(self, following: Deferred[None], mirror: Mirror) -> None:
        """Wait for the end of a feed, and end it when no viewer asks any more."""

        def look() -> None:
            if self._reactor.seconds() - mirror.asked_s > IDLE_S:
                following.cancel()
            else:
                looks.append(self._reactor.callLater(IDLE_S / 4, look))

        looks: list[Any] = []
        looks.append(self._reactor.callLater(IDLE_S / 4, look))
        try:
            await following
        finally:
            if looks[-1].active():
                looks[-1].cancel()

    def _forget(self, mirror: Mirror) -> None:
        self._names.disown(mirror.name)
        self._drop(mirror)

    def _drop(self, mirror: Mirror) -> None:
        if self._mirrors.get(mirror.name) is mirror:
            del self._mirrors[mirror.name]
            self._following.pop(mirror.name, None)
        mirror.close()
        mirror.shelf.clear()
