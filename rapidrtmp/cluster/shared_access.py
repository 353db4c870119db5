"""Which credentials are good no more, at every node at once; and of those for one session, where that is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.auth.revocation import Revocations
from rapidrtmp.cluster.conversation import Conversation

__all__ = ["SharedAccess"]

TOPIC = "access"
#: How often nodes say which sessions continue, and see whether those that had some still live.
LOOK_S = 2.0


class SharedAccess:
    """
    Keeps the lists of all nodes the same.

    :param revocations: the list of this one.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, conversation: Conversation, revocations: Revocations) -> None:
        self._conversation = conversation
        self._revocations = revocations
        self._looking = LoopingCall(self.look)
        self._looking.clock = clock
        conversation.listen(TOPIC, self._hear)
        revocations.changed = self._changed

    def start(self) -> None:
        """Learn what the others know, and begin."""
        self._say({"all": True})
        self._looking.start(LOOK_S, now=False)

    def stop(self) -> None:
        """Say nothing more."""
        if self._looking.running:
            self._looking.stop()

    def look(self) -> None:
        """Say which sessions continue; those of nodes that are no more are over."""
        Deferred.fromCoroutine(self._look()).addErrback(self._failed)

    async def _look(self) -> None:
        continued = self._revocations.take_continued()
        if continued:
            self._learn(await self._conversation.tell_all(TOPIC, {"uses": continued}))
        if self._revocations.sources:
            living = {node.name for node in await self._conversation.others()}
            for source in self._revocations.sources - living:
                self._revocations.lose(source)

    def _changed(self, fingerprints: Iterable[str]) -> None:
        self._say(self._revocations.describe(frozenset(fingerprints)))

    def _say(self, message: dict[str, Any]) -> None:
        asking = Deferred.fromCoroutine(self._conversation.tell_all(TOPIC, message))
        asking.addCallbacks(self._learn, self._failed)

    def _learn(self, answers: dict[str, Any]) -> None:
        for node, known in answers.items():
            self._revocations.learn(node, known)

    def _hear(self, node: str, message: dict[str, Any]) -> dict[str, Any]:
        contested = self._revocations.learn(node, message)
        return self._revocations.describe(None if message.get("all") else contested)

    def _failed(self, failure: Failure) -> None:
        self._log.failure("internal error in sharing which credentials are good", failure)
