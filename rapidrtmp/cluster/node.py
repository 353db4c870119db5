"""
A node: one process of a server of several.

A stream belongs to the node where its publisher's connection arrived. If another node had it, that one hands over what
its sinks need to continue, and follows the new owner from then on, so its viewers stay; if that one is no more, what
viewers of this node saw of it is continued, or what is stored.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, TimeoutError, gatherResults, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rapidrtmp.auth.revocation import Revocations
from rapidrtmp.cluster.conversation import Conversation
from rapidrtmp.cluster.endpoint import ClusterSite
from rapidrtmp.cluster.feed import Feed, Follower
from rapidrtmp.cluster.followed_shelf import FollowedShelf, always
from rapidrtmp.cluster.followed_streams import FollowedStreams
from rapidrtmp.cluster.frame_feed import FrameFeed
from rapidrtmp.cluster.mirror import Mirror
from rapidrtmp.cluster.mirrors import Mirrors
from rapidrtmp.cluster.names import NodeNames
from rapidrtmp.cluster.peers import ROOT, Left, PeerAnswer, PeerError, Peers
from rapidrtmp.cluster.pieces import PiecedObject, PieceFolder
from rapidrtmp.cluster.shared_access import SharedAccess
from rapidrtmp.cluster.shared_limits import SharedLimits
from rapidrtmp.cluster.shared_viewers import SharedViewers
from rapidrtmp.cluster.tenure import Sight, Tenure, is_directory_down
from rapidrtmp.errors import DirectoryError, LeaseHeldError, NotFoundError, OwnerChangedError
from rapidrtmp.interfaces import (
    DirectoryContext,
    IMovingSinkFactory,
    IOwnerDirectory,
    IPlayable,
    IStreamDirectory,
    Node,
    Owner,
    Purpose,
)
from rapidrtmp.interfaces.storage import InThread
from rapidrtmp.live.leases import StreamLeases
from rapidrtmp.live.registry import LeftStream, Registry
from rapidrtmp.live.stream import LiveStream, StreamState
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.names import StreamName
from rapidrtmp.support.clock import awake_or_not_s

__all__ = ["ClusterNode", "NodeDoor", "NodePlace"]

#: How long a storage may take to give a lease back that the node before had, and how often it is asked.
LEASE_S, LEASE_AGAIN_S = 3.0, 0.05
#: How often leases are tried again at once, where other nodes reach the directory, and the least pause between.
RENEWALS, LEAST_PAUSE_S = 3, 0.3
#: How long the sinks of a stream that moves may take to finish.
LEAVE_S = 5.0
#: What the owner before had on the shelf stays for players so long.
LEFTOVER_S = 30.0


class NodeDoor(Protocol):
    """Where other nodes come."""

    def open(self, site: Any) -> Deferred[tuple[IListeningPort, str]]:
        """Listen; fires with the port, and the address that others find it at."""


@dataclass(frozen=True)
class NodePlace:
    """
    Where a node is.

    :ivar node: its name, which no other process ever has.
    :ivar door: where it listens for other nodes.
    :ivar secret: what nodes know each other by.
    :ivar folder: where nodes of the same machine find what its streams consist of.
    :ivar trust: the authorities that certificates of other nodes come from; ``None`` for those of the system.
    :ivar is_alone: whether the folder that this is in is its own as well.
    """

    node: str
    door: NodeDoor
    secret: str = field(repr=False)
    folder: Path
    trust: Any = None
    is_alone: bool = False


@implementer(IStreamDirectory)
class ClusterNode:
    """
    See the module. What it is part of comes with :meth:`join`.

    :param open_directory: opens the directory that all nodes share.
    :param utc_ms: the time of day in milliseconds since 1970.
    :param accepts: whether streams may begin while the directory does not answer.
    :ivar names: what it owns. ``viewers``: who watches, with those at other nodes.
    :ivar conversation: what nodes say to each other.
    :ivar streams: finds streams for players of RTMP and FLV, those of other nodes too.
    :ivar limits: those that hold for all nodes together.
    :ivar is_replaced: whether this process ends and others continue.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        place: NodePlace,
        open_directory: Callable[[DirectoryContext], Deferred[IOwnerDirectory]],
        apps: Mapping[str, Any],
        in_thread: InThread,
        utc_ms: Callable[[], int],
        *,
        accepts: bool = False,
    ) -> None:
        self._reactor = reactor
        self.place = place
        self._open_directory = open_directory
        self._apps = apps
        self._in_thread = in_thread
        self._utc_ms = utc_ms
        self.names = NodeNames(place.node, accepts=accepts, utc_ms=utc_ms)
        self.peers = Peers(reactor, place.secret, place.trust)
        self._folder = PieceFolder(place.folder)
        self.conversation = Conversation(self.names, self.peers)
        self.viewers = SharedViewers(
            reactor, self.conversation, place.node, place.secret, lambda: self._mirrors, self._own_viewers
        )
        self._mirrors = Mirrors(
            reactor,
            self.names,
            self.peers,
            apps,
            lambda: FollowedShelf(clock=reactor),
            lambda: self.viewers.follow(self.viewers.make()),
        )
        self._frame_feeds = count(1)
        self._feeds: dict[StreamName, Feed] = {}
        self._locks: dict[StreamName, DeferredLock] = {}
        self._arriving: dict[StreamName, Viewers] = {}
        self._clearing: set[Any] = set()  # timers
        self._accepts = accepts
        self.tenure = Tenure(reactor, awake_or_not_s, self._step_down)
        self._others: Sequence[Node] = ()  # as they were when the directory answered last
        self._renewing = LoopingCall(self._renew)
        self._renewing.clock = reactor
        self._is_failing = False
        self._site = ClusterSite(reactor, self, lambda: place.secret)
        self._port: IListeningPort | None = None
        self.is_replaced = False
        self.moves = 0

    def join(
        self,
        registry: Registry,
        leases: StreamLeases,
        arrive: Callable[[StreamName, Left], Deferred[None]],
        answer: Callable[[str, str, str, bytes], Deferred[PeerAnswer]],
        egress: Callable[[str], float],
        revocations: Revocations,
    ) -> None:
        """
        Become part of a server.

        :param arrive: continues a stream of what was left of it: then it is in the registry, and interrupted.
        :param answer: what the management API of this node says.
        :param egress: how many bits a second this node sends of the streams of an application.
        """
        self._registry = registry
        self._leases = leases
        self._arrive = arrive
        self.answer = answer
        self.limits = SharedLimits(
            self._reactor,
            self.conversation,
            self.names,
            self._apps,
            lambda: registry.max_streams,
            registry.count_publishers,
            egress,
        )
        self.streams = FollowedStreams(self._reactor, self, registry)
        self.access = SharedAccess(self._reactor, self.conversation, revocations)

    def start(self) -> Deferred[None]:
        """Make the node known. Fails with ``DirectoryError``, or with what listening fails with."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        self._port, address = await self.place.door.open(self._site)
        context = DirectoryContext(
            self.place.node, address, self._reactor, Logger("rapidrtmp.directory"), self._in_thread
        )
        begun_s = self.tenure.now_s
        self.names.directory = await self._open_directory(context)
        self.tenure.begin(0 if self._accepts else self.names.directory.lease_s, begun_s)
        self._renewing.start(self.names.directory.renew_interval_s, now=False)
        self.viewers.start()
        self.limits.start()
        self.access.start()

    async def stop(self) -> None:
        """Own nothing any more."""
        if self._renewing.running:
            self._renewing.stop()
        self.tenure.close()
        self.viewers.stop()
        self.limits.stop()
        self.access.stop()
        for clearing in self._clearing:
            if clearing.active():
                clearing.cancel()
        for feed in list(self._feeds.values()):
            feed.close("moved")
        self._feeds.clear()
        self.streams.close()
        self._mirrors.close()
        if self._port is not None:
            await (self._port.stopListening() or succeed(None))
        if self.names.directory is not None:
            await self.names.directory.close()
        await self.peers.close()
        self._folder.close()
        if self.place.is_alone:
            shutil.rmtree(self.place.folder.parent, ignore_errors=True)

    # ── viewers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def find(self, name: StreamName) -> IPlayable | None:
        """See :meth:`IStreamDirectory.find <rapidrtmp.interfaces.IStreamDirectory.find>`."""
        stream: LiveStream | None = self._registry.find(name)
        if stream is not None and stream.state is not StreamState.ENDED:
            return stream
        return self._mirrors.find(name) or stream

    @property
    def refused(self) -> int:
        """How many connections and requests came from others than nodes."""
        return self._site.refused

    @property
    def followed(self) -> int:
        """How many streams of other nodes are followed."""
        return len(self._mirrors)

    def make_shelf(self, name: StreamName, max_waiters: int) -> FollowedShelf:
        """The shelf of a stream that this node owns from now on: what its viewers had while another one did."""
        mirror = self._mirrors.give(name)
        if mirror is not None and name in self._arriving:
            shelf = mirror.shelf
            shelf.max_waiters = max_waiters
            shelf.may_change = self.tenure.is_valid
            leftover = dict(shelf.objects)
            self._clearing = {each for each in self._clearing if each.active()}
            self._clearing.add(self._reactor.callLater(LEFTOVER_S, self._clear_away, shelf, leftover))
            return shelf
        if mirror is not None:
            mirror.shelf.clear()
        shelf = FollowedShelf(max_waiters, self._reactor)
        shelf.may_change = self.tenure.is_valid
        return shelf

    @staticmethod
    def _clear_away(shelf: FollowedShelf, leftover: Mapping[str, object]) -> None:
        """Take down what no one has put up again."""
        for name, stored in leftover.items():
            if shelf.find(name) is stored:
                shelf.withdraw(name)

    def make_viewers(self, name: StreamName) -> Viewers:
        """The viewers of a stream that this node owns from now on: those that it had while another one did."""
        return self._arriving.get(name) or self.viewers.make()

    def _own_viewers(self) -> Iterator[tuple[StreamName, Viewers]]:
        return ((stream.name, stream.viewers) for stream in self._registry)

    # ── other nodes (NodeAnswers) ────────────────────────────────────────────────────────────────────────────────────

    def heard(self, topic: str, body: bytes) -> bytes:
        """See :class:`~rapidrtmp.cluster.endpoint.NodeAnswers`."""
        return self.conversation.heard(topic, body)

    def feed(self, name: StreamName) -> Feed:
        """See :class:`~rapidrtmp.cluster.endpoint.NodeAnswers`."""
        stream = self._registry.find(name)
        if stream is None or not self.names.fence(name) or not isinstance(stream.shelf, FollowedShelf):
            raise NotFoundError(f"this node does not own {name}")
        feed = self._feeds.get(name)
        if feed is None:
            feed = self._feeds[name] = Feed(
                name,
                stream.shelf,
                lambda: self.names.fence(name),
                lambda: _state_of(stream),
                self._folder,
                self._reactor,
            )
        stream.renditions_asked_for()  # by viewers of the other node, for all that is known here
        return feed

    def send_frames(self, name: StreamName, follower: Follower) -> Callable[[], object]:
        """See :class:`~rapidrtmp.cluster.endpoint.NodeAnswers`."""
        stream = self._registry.find(name)
        if stream is None or stream.has_ended or not self.names.fence(name):
            raise NotFoundError(f"this node does not own {name}")
        sink = f"node-{next(self._frame_feeds)}"
        stream.attach(sink, FrameFeed(follower, lambda: stream.via), with_past=True)
        return lambda: stream.detach(sink)

    def forgotten(self, stream: LiveStream) -> None:
        """A stream is served no more."""
        feed = self._feeds.pop(stream.name, None)
        if feed is not None:
            feed.close("gone")

    def hand_over(self, name: StreamName, credential: str) -> Deferred[Left]:
        """See :class:`~rapidrtmp.cluster.endpoint.NodeAnswers`."""
        return Deferred.fromCoroutine(self._hand_over(name, credential))

    async def _hand_over(self, name: StreamName, credential: str) -> Left:
        left = self._part_with(name, "its publisher returned to another process", credential)
        if left is None:
            return {}
        await left.done.addTimeout(LEAVE_S, self._reactor).addErrback(Failure.trap, TimeoutError, CancelledError)
        return left.objects

    def _part_with(
        self, name: StreamName, reason: str, credential: str | None, *, is_late: bool = False
    ) -> LeftStream | None:
        """
        Let another node have a stream, and follow it there.

        :param is_late: whether that one may have it already: then nothing more is stored.
        :raises NameTakenError: its publisher keeps it.
        """
        if is_late:
            self._leases.revoke(name)
        feed, owner = self._feeds.pop(name, None), self.names.leave(name)
        try:
            left = self._registry.leave(name, reason, credential)
        except BaseException:
            if feed is not None:
                self._feeds[name] = feed
            self.names.restore(name, owner)
            raise
        if feed is not None:
            feed.close("moved")
        if left is not None and isinstance(left.stream.shelf, FollowedShelf):
            fence = 0 if owner is None else owner.fence
            left.stream.shelf.may_change = always
            self._mirrors.adopt(name, left.stream.shelf, self.viewers.follow(left.stream.viewers), fence)
        return left

    def elect(self, what: str) -> Deferred[bool]:
        """
        Ask whether this node is to do something that only one of all does; what it does it does until it releases it.

        :param what: a name for it, the same at every node.
        :returns: also fires with whether it does so already; it never fails.
        """
        directory = self.names.directory
        if directory is None:
            return succeed(False)
        asking: Deferred[Any] = directory.claim(f".{what}")
        return asking.addCallbacks(
            lambda claim: bool(claim.is_ours), lambda failure: failure.trap(DirectoryError) is None
        )

    def resign(self, what: str) -> None:
        """Do something no more that only one node does: another may."""
        if self.names.directory is not None:
            self.names.directory.release(f".{what}").addErrback(Failure.trap, DirectoryError)

    # ── publishers ───────────────────────────────────────────────────────────────────────────────────────────────────

    def own(self, name: StreamName, credential: str, peer: str) -> Deferred[None]:
        """
        Own a stream, and hold its leases until ``StreamLeases.release``. One that was live elsewhere is continued.

        Fails with ``NameTakenError`` if its publisher at another node keeps it, with ``LeaseHeldError`` if that node
        does not answer, or another server writes it; with ``LimitReachedError`` if all nodes together have as many
        streams as there may be; with ``DirectoryError``.

        :param peer: the address that the publisher comes from.
        """
        return Deferred.fromCoroutine(self._own(name, credential, peer))

    async def _own(self, name: StreamName, credential: str, peer: str) -> None:
        lock = self._locks.setdefault(name, DeferredLock())
        await lock.acquire()
        self.names.kept.add(name)  # a lease that is refused at first gives back what was claimed with it
        try:
            await self._own_alone(name, credential, peer)
        except BaseException:
            self.names.kept.discard(name)
            if self._registry.find(name) is None:
                self.names.release(name).addErrback(Failure.trap, DirectoryError)
            raise
        finally:
            self.names.kept.discard(name)
            if not lock.waiting:
                self._locks.pop(name, None)
            lock.release()

    async def _own_alone(self, name: StreamName, credential: str, peer: str) -> None:
        if self.names.fence(name):
            await self._leases.claim(name)
            return
        claim = await self.names.ask(name)
        if claim.is_ours:
            await self.limits.check(name, peer)
            left = await self._find_left(name, is_dead=claim.former is not None)
        else:
            left = await self._take(name, claim.owner, credential)
        await self._hold(name)
        await self._continue(name, left)

    async def _take(self, name: StreamName, owner: Owner, credential: str) -> Left:
        """Have the owner hand a stream over; if it is no more, see what is left."""
        try:
            left = await self.peers.take(owner.address, name, credential)
        except PeerError as error:
            claim = await self.names.ask(name)
            if not claim.is_ours:
                raise LeaseHeldError(f"{owner.node} has {name} and does not answer: {error}") from error
            return await self._find_left(name, is_dead=True)
        try:
            await self.names.move(name, owner)
        except OwnerChangedError as error:
            raise LeaseHeldError(str(error)) from error
        self.moves += 1
        return left

    async def _hold(self, name: StreamName) -> None:
        """Hold the leases, which the node before may just be giving back."""
        until_s = self._reactor.seconds() + LEASE_S
        while True:
            try:
                await self._leases.claim(name)
            except LeaseHeldError:
                if self._reactor.seconds() > until_s:
                    raise
                await deferLater(self._reactor, LEASE_AGAIN_S)
            else:
                return

    async def _continue(self, name: StreamName, left: Left) -> None:
        """Continue a stream, if there is anything to continue."""
        mirror = self._mirrors.peek(name)
        promised = set() if mirror is None else set(mirror.shelf.promised)
        self._arriving[name] = self.viewers.make() if mirror is None else mirror.viewers
        try:
            await self._arrive(name, left)
        finally:
            del self._arriving[name]
        stream = self._registry.find(name)
        if stream is not None and mirror is not None and stream.shelf is mirror.shelf:
            _take_back(mirror.shelf, promised)

    async def _find_left(self, name: StreamName, *, is_dead: bool) -> Left:
        """What viewers saw of a stream that has no owner: here, or else at any other node that has followed it."""
        left = self._salvage(name, is_dead=is_dead)
        if left or not is_dead or self.names.directory is None:
            return left
        for node in await self.names.directory.nodes():
            if node.name == self.place.node:
                continue
            try:
                left = await self.peers.salvage(node.address, name)
            except PeerError:
                continue
            if left:
                break
        return left

    def salvage(self, name: StreamName) -> Left:
        """See :class:`~rapidrtmp.cluster.endpoint.NodeAnswers`."""
        return self._salvage(name, is_dead=True)

    def _salvage(self, name: StreamName, *, is_dead: bool) -> Left:
        """
        What viewers here saw of a stream that has no owner.

        :param is_dead: whether that one has died; else it has stored what there is to continue, if it could.
        """
        mirror, app = self._mirrors.peek(name), self._apps.get(name.app)
        if mirror is None or app is None or mirror.facts.is_over:
            return {}
        if not is_dead and app.stores[Purpose.LIVE].writer.persistent:
            return {}
        playlists = dict(mirror.shelf.playlists)
        left = {}
        for sink, factory in app.sinks.items():
            moving = IMovingSinkFactory(factory, None)
            objects = moving.salvage(playlists, lambda thing: _body_of(mirror, thing), self._utc_ms()) if moving else {}
            if objects:
                left[sink] = objects
        return left

    # ── the directory ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _renewed(self) -> None:
        directory = self.names.directory
        assert directory is not None
        for _ in range(RENEWALS):
            begun_s = self.tenure.now_s
            try:
                lost = await self.names.renew()
                self.tenure.renewed(begun_s)
                if directory.lease_s:
                    self._others = [node for node in await directory.nodes() if node.name != self.place.node]
            except DirectoryError as error:
                if await self._is_down(str(error), directory.lease_s):
                    return
            else:
                self._is_failing = False
                self._leave_lost(lost)
                return
            await deferLater(self._reactor, max(directory.lease_s / 12, LEAST_PAUSE_S))  # others reach it: it is back
            if not self._renewing.running:
                return

    def _leave_lost(self, lost: Sequence[StreamName]) -> None:
        for name in lost:
            self._log.error("{stream}: another node owns it now", stream=name)
            self._part_with(name, "another server has this stream now", None, is_late=True)

    async def _is_down(self, reason: str, lease_s: float) -> bool:
        """Whether the directory is down for all; else this node is cut off from it, or it has just come back."""
        asked_s = self.tenure.now_s
        if not self._is_failing:
            self._is_failing = True
            self._log.error("the directory does not answer, streams continue: {error}", error=reason)
        if not lease_s:
            return True
        seen = await gatherResults([self._ask_for_sight(node, lease_s / 6) for node in self._others])
        is_down = is_directory_down(seen)
        if is_down:
            self.tenure.confirmed(asked_s)
        return is_down

    def _ask_for_sight(self, node: Node, timeout_s: float) -> Deferred[Sight]:
        asking = Deferred.fromCoroutine(self.peers.ask(node.address, "GET", f"{ROOT}/directory", timeout_s=timeout_s))

        def failed(failure: Failure) -> Sight:
            failure.trap(PeerError)
            return Sight.GONE if getattr(failure.value, "is_gone", False) else Sight.SILENT

        return asking.addCallbacks(lambda answer: Sight.REACHED if answer.body == b"reached" else Sight.DOWN, failed)

    def look_at_directory(self) -> Deferred[bytes]:
        """See :class:`~rapidrtmp.cluster.endpoint.NodeAnswers`."""
        if self.names.directory is None:
            return succeed(b"down")
        looking: Deferred[Any] = self.names.directory.nodes()
        return looking.addCallbacks(lambda _: b"reached", lambda failure: failure.trap(DirectoryError) and b"down")

    def _step_down(self, is_late: bool) -> None:
        """Own nothing any more: this node is cut off, or was paused, and another one may own it by now."""
        names = [name for name in self.names if self._registry.find(name) is not None]
        if names:
            self._log.error(
                "cut off from the directory and from other nodes, or paused for too long: {count} streams are left",
                count=len(names),
            )
        for name in names:
            if self.names.directory is not None:
                self.names.directory.abandon(str(name))
            self._part_with(name, "this server is cut off; connect again", None, is_late=is_late)

    def _renew(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._renewed())


def _state_of(stream: LiveStream) -> str:
    if stream.state is StreamState.ENDED:
        return "ended"
    return "interrupted" if stream.state is StreamState.INTERRUPTED else "live"


def _body_of(mirror: Mirror, name: str) -> bytes | None:
    found = mirror.find(name)
    return None if found is None else found.body


def _take_back(shelf: FollowedShelf, promised: set[str]) -> None:
    """Take back what the owner before has promised, and no playlist speaks of any more; load what it has left."""
    texts = [playlist.body for _, playlist in shelf.playlists]
    for name in promised:
        if shelf.is_announced(name) and not name.endswith(".m3u8") and not any(name.encode() in text for text in texts):
            shelf.withdraw(name)
    for name, stored in shelf.objects:
        if isinstance(stored, PiecedObject) and not stored.load():
            shelf.withdraw(name)
