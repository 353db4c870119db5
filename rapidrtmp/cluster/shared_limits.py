"""The limits of one server where it consists of several nodes: what all of them have counts together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from rapidrtmp.cluster.conversation import Conversation
from rapidrtmp.cluster.names import NodeNames
from rapidrtmp.errors import DirectoryError
from rapidrtmp.interfaces import IApplication
from rapidrtmp.live.registry import LimitReachedError
from rapidrtmp.names import StreamName

__all__ = ["SharedLimits"]

PUBLISHERS, EGRESS = "publishers", "egress"
#: How often nodes tell each other how much they send, where that is limited.
EGRESS_S = 1.0


class SharedLimits:
    """
    See the module.

    :param apps: the applications by name.
    :param max_streams: tells how many streams the whole server may have; 0 for no limit.
    :param count_publishers: tells how many publishers of an application come from an address here.
    :param egress: tells how many bits a second are sent of the streams of an application here.
    """

    def __init__(
        self,
        clock: IReactorTime,
        conversation: Conversation,
        names: NodeNames,
        apps: Mapping[str, IApplication],
        max_streams: Callable[[], int],
        count_publishers: Callable[[str, str], int],
        egress: Callable[[str], float],
    ) -> None:
        self._conversation = conversation
        self._names = names
        self._apps = apps
        self._max_streams = max_streams
        self._count_publishers = count_publishers
        self._egress = egress
        self._egress_elsewhere: Mapping[str, float] = {}
        self._is_asking = False
        self._asking = LoopingCall(self._ask_egress)
        self._asking.clock = clock
        conversation.listen(PUBLISHERS, lambda _node, said: count_publishers(str(said["app"]), str(said["peer"])))
        conversation.listen(EGRESS, lambda _node, apps: {str(app): egress(str(app)) for app in apps})

    def start(self) -> None:
        """Begin."""
        self._asking.start(EGRESS_S, now=False)

    def stop(self) -> None:
        """Ask no more."""
        if self._asking.running:
            self._asking.stop()

    async def check(self, name: StreamName, peer: str) -> None:
        """
        Return if a stream whose name this node has just claimed may begin.

        :param peer: the address that its publisher comes from.
        :raises LimitReachedError: all nodes have as many as there may be.
        """
        limits = self._apps[name.app].limits
        of_all, of_app, of_address = self._max_streams(), limits.max_streams, limits.max_connections_per_ip
        if (of_all or of_app) and self._names.directory is not None:
            try:
                names = [each for each in await self._names.directory.names() if not each.startswith(".")]
            except DirectoryError:
                names = []
            if of_all and len(names) > of_all:
                raise LimitReachedError(f"this server carries {of_all} streams and takes no more")
            if of_app and _count_app(names, name.app) > of_app:
                raise LimitReachedError(f"the application {name.app} carries {of_app} streams and takes no more")
        if of_address:
            answers = await self._conversation.tell_all(PUBLISHERS, {"app": name.app, "peer": peer})
            if self._count_publishers(name.app, peer) + sum(map(int, answers.values())) >= of_address:
                raise LimitReachedError(
                    f"one address may publish {of_address} streams of the application {name.app} at a time"
                )

    def egress_elsewhere(self, app: str) -> float:
        """How many bits a second the other nodes send of the streams of an application, a second ago."""
        return self._egress_elsewhere.get(app, 0.0)

    def _ask_egress(self) -> None:
        limited = [name for name, app in self._apps.items() if app.limits.max_egress_bps]
        if limited and not self._is_asking:
            self._is_asking = True
            Deferred.fromCoroutine(self._learn_egress(limited))

    async def _learn_egress(self, apps: list[str]) -> None:
        try:
            answers: Iterable[Any] = (await self._conversation.tell_all(EGRESS, apps)).values()
            self._egress_elsewhere = {app: sum(float(answer.get(app, 0)) for answer in answers) for app in apps}
        finally:
            self._is_asking = False


def _count_app(names: Iterable[str], app: str) -> int:
    return sum(name.partition("/")[0] == app for name in names)
