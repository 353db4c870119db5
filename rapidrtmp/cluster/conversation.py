"""What nodes tell and ask each other besides streams: JSON by topic, each answered at once by one function."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from rapidrtmp.cluster.names import NodeNames
from rapidrtmp.cluster.peers import ROOT, PeerError, Peers
from rapidrtmp.errors import DirectoryError, NotFoundError, PeerProtocolError
from rapidrtmp.interfaces import Node

__all__ = ["ASK_S", "Conversation"]

#: How long another node may take to answer.
ASK_S = 1.0


class Conversation:
    """
    See the module.

    :param names: knows this node, and the directory that all are in.
    """

    def __init__(self, names: NodeNames, peers: Peers) -> None:
        self._names = names
        self._peers = peers
        self._topics: dict[str, Callable[[str, Any], Any]] = {}

    def listen(self, topic: str, react: Callable[[str, Any], Any]) -> None:
        """
        Answer what other nodes say.

        :param react: called with the node and what it says; the answer is what it returns.
        """
        self._topics[topic] = react

    def heard(self, topic: str, body: bytes) -> bytes:
        """
        Answer a node.

        :raises NotFoundError: there is no such topic.
        :raises PeerProtocolError: what it says makes no sense.
        """
        react = self._topics.get(topic)
        if react is None:
            raise NotFoundError(f"there is no topic {topic!r}")
        try:
            said = json.loads(body)
            return json.dumps(react(str(said["node"]), said["said"])).encode()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PeerProtocolError(f"what another node says of {topic} makes no sense: {error!r}") from error

    async def tell(self, address: str, topic: str, message: Any) -> Any:
        """Tell one node something; its answer. :raises PeerError: there is none."""
        body = json.dumps({"node": self._names.node, "said": message}).encode()
        answer = await self._peers.ask(address, "POST", f"{ROOT}/tell/{topic}", body=body, timeout_s=ASK_S)
        if answer.status != 200:
            raise PeerError(f"{address} answers {answer.status} to news of {topic}")
        return json.loads(answer.body)

    async def tell_all(self, topic: str, message: Any = None) -> dict[str, Any]:
        """Tell every other node something; the answers of those that do answer, by node."""
        others = await self.others()
        answers = await gatherResults([self._told(each.address, topic, message) for each in others])
        return {each.name: answer for each, answer in zip(others, answers, strict=True) if answer is not None}

    def _told(self, address: str, topic: str, message: Any) -> Deferred[Any]:
        telling = Deferred.fromCoroutine(self.tell(address, topic, message))
        return telling.addErrback(lambda failure: failure.trap(PeerError) and None)

    async def others(self) -> list[Node]:
        """The other nodes that live; none where the directory does not answer."""
        if self._names.directory is None:
            return []
        try:
            nodes = await self._names.directory.nodes()
        except DirectoryError:
            return []
        return [node for node in nodes if node.name != self._names.node]
