"""
The viewers of a stream, wherever they watch: each node tells the owner whom it sees, and learns of those elsewhere.

So a stream has as many viewers at every node, a client of two nodes is one, and the owner alone says who comes and
leaves. What they send is hashes under a salt that the nodes share, and the address of a client once, when it comes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from rapidrtmp.cluster.conversation import Conversation
from rapidrtmp.cluster.mirror import Mirror
from rapidrtmp.cluster.peers import PeerError
from rapidrtmp.live.viewers import Seen, Viewers
from rapidrtmp.names import StreamName
from rapidrtmp.support.clock import now_ms

__all__ = ["LOOK_S", "REPEAT_S", "SharedViewers", "viewer_salt"]

TOPIC = "viewers"
#: How often it is looked whether others watch than were reported; and how often that is repeated without a change.
LOOK_S, REPEAT_S = 1.0, 2.0
#: A node that has said nothing for so long sees no one.
SILENT_S = 4 * REPEAT_S
#: So many addresses of clients that have just come are kept until they are reported.
MOST_FRESH = 4096

_Message = dict[str, dict[str, tuple[str, int, str]]]


def viewer_salt(secret: str) -> bytes:
    """What nodes that share a secret hash the addresses of clients with."""
    return hashlib.blake2b(secret.encode(), digest_size=16, person=b"viewers").digest()


class SharedViewers:
    """
    See the module.

    :param node: this node; ``secret``: what nodes know each other by.
    :param mirrors: the streams that are followed here.
    :param streams: those that this node owns: the name and the viewers of each.
    """

    def __init__(
        self,
        clock: IReactorTime,
        conversation: Conversation,
        node: str,
        secret: str,
        mirrors: Callable[[], Iterable[Mirror]],
        streams: Callable[[], Iterable[tuple[StreamName, Viewers]]],
    ) -> None:
        self._clock = clock
        self._conversation = conversation
        self._node = node
        self._salt = viewer_salt(secret)
        self._mirrors = mirrors
        self._streams = streams
        self._fresh: dict[str, str] = {}
        self._sent: dict[str, tuple[_Message, float]] = {}  # by the address of the owner, and when
        self._heard: dict[str, float] = {}
        self._looking = LoopingCall(self.look)
        self._looking.clock = clock
        conversation.listen(TOPIC, self._hear)

    def make(self) -> Viewers:
        """The viewers of a stream, as this node sees them."""
        return Viewers(self._salt, of=f"-{self._node}")

    def follow(self, viewers: Viewers) -> Viewers:
        """Have the viewers of a stream that another node owns: that one says who comes and leaves."""
        viewers.came = self._came
        viewers.left = lambda _viewer: None
        return viewers

    def start(self) -> None:
        """Begin."""
        self._looking.start(LOOK_S, now=False)

    def stop(self) -> None:
        """Tell nothing more."""
        if self._looking.running:
            self._looking.stop()

    def _came(self, address: str, viewer: str) -> None:
        if len(self._fresh) < MOST_FRESH:
            self._fresh[viewer] = address

    # ── as a follower ────────────────────────────────────────────────────────────────────────────────────────────────

    def look(self) -> None:
        """Tell the owners of what is followed here who watches, where that has changed or was said long ago."""
        time_ms, now_s = now_ms(self._clock), self._clock.seconds()
        mirrors: dict[str, list[Mirror]] = {}
        for mirror in self._mirrors():
            if mirror.is_followed and mirror.owner is not None:
                mirrors.setdefault(mirror.owner.address, []).append(mirror)
        for address in {*mirrors, *self._sent}:
            message = {str(each.name): self._said(each.viewers.seen(time_ms)) for each in mirrors.get(address, ())}
            sent, sent_s = self._sent.get(address, ({}, 0.0))
            if message == sent and now_s - sent_s < REPEAT_S:
                continue
            if message:
                self._sent[address] = message, now_s
            else:
                self._sent.pop(address, None)
            Deferred.fromCoroutine(self._tell(address, message, mirrors.get(address, []))).addErrback(
                lambda failure: failure.trap(PeerError)
            )
        self._fresh.clear()
        self._drop_silent(now_s)

    def _said(self, seen: Mapping[str, Seen]) -> dict[str, tuple[str, int, str]]:
        return {viewer: (each.prefix, each.viewers, self._fresh.get(viewer, "")) for viewer, each in seen.items()}

    async def _tell(self, address: str, message: _Message, mirrors: Iterable[Mirror]) -> None:
        answer = await self._conversation.tell(address, TOPIC, message)
        for mirror in mirrors:
            owner, viewers = mirror.owner, mirror.viewers
            if owner is None or owner.address != address:
                continue
            for source in set(viewers.sources) - {owner.node}:
                viewers.reported(source, {})
            viewers.reported(owner.node, _read(answer.get(str(mirror.name), {})))

    # ── as an owner ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _hear(self, node: str, message: Mapping[str, Any]) -> dict[str, Mapping[str, Seen]]:
        self._heard[node] = self._clock.seconds()
        time_ms = now_ms(self._clock)
        answer: dict[str, Mapping[str, Seen]] = {}
        for name, viewers in self._streams():
            said = message.get(str(name))
            if said is not None:
                viewers.reported(node, _read(said))
                answer[str(name)] = viewers.seen(time_ms, to=node)
            elif node in viewers.sources:
                viewers.reported(node, {})
        return answer

    def _drop_silent(self, now_s: float) -> None:
        """Forget what nodes have said that say nothing any more."""
        for _, viewers in self._streams():
            for source in list(viewers.sources):
                if now_s - self._heard.setdefault(source, now_s) > SILENT_S:
                    viewers.reported(source, {})
        self._heard = {node: heard_s for node, heard_s in self._heard.items() if now_s - heard_s <= 2 * SILENT_S}


def _read(said: Mapping[str, Any]) -> dict[str, Seen]:
    return {
        str(viewer): Seen(str(prefix), int(viewers), str(address))
        for viewer, (prefix, viewers, address) in said.items()
    }
