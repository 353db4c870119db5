"""What a node asks other nodes over HTTP: to follow a stream, to hand one over, and what their management APIs say."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer

from rapidrtmp.cluster.addresses import make_client_endpoint
from rapidrtmp.cluster.feed import PING_S
from rapidrtmp.cluster.feed_frames import FeedReader, Kind
from rapidrtmp.cluster.mirror import Mirror
from rapidrtmp.errors import RapidRTMPError
from rapidrtmp.live.registry import NameTakenError
from rapidrtmp.names import StreamName

__all__ = ["ROOT", "Left", "PeerAnswer", "PeerError", "Peers", "stream_path"]

ROOT = "/.cluster/v1"
#: A feed that says nothing for so long is lost.
SILENT_S = 3 * PING_S + 0.5
CONNECT_S = 2.0
#: How long an owner may take to hand a stream over: its sinks write what they hold.
TAKE_S = 8.0

#: What a stream leaves to the next owner: for each sink, objects by name.
Left = Mapping[str, Mapping[str, bytes]]


class PeerError(RapidRTMPError):
    """
    Another node does not answer, or not as it should.

    :ivar is_gone: whether its machine is there, and says that there is no such node.
    """

    @property
    def is_gone(self) -> bool:
        """See the class."""
        return isinstance(self.__cause__, ConnectionRefusedError)


class PeerAnswer(NamedTuple):
    """
    An answer, whatever its status.

    :ivar send: writes the body to a ``twisted.web`` request where it is made piece by piece; fires when that is done,
        and is to be cancelled when the other node has left.
    """

    status: int
    content_type: str
    body: bytes
    send: Callable[[Any], Deferred[Any]] | None = None


def stream_path(what: str, name: StreamName) -> str:
    """The path of something of a stream on the endpoint that nodes have for each other."""
    return f"{ROOT}/{what}/{quote(name.app, safe='')}/{quote(name.key, safe='')}"


class Peers:
    """
    The other nodes.

    :param reactor: connections and time.
    :param secret: what nodes know each other by.
    :param trust: the authorities that their certificates come from; ``None`` for those of the system.
    """

    def __init__(self, reactor: Any, secret: str, trust: Any = None) -> None:
        self._reactor = reactor
        self._trust = trust
        self._headers = {b"authorization": [b"Bearer " + secret.encode()]}
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool._factory.noisy = False
        self._agents: dict[tuple[str, bool], Agent] = {}

    def close(self) -> Deferred[None]:
        """Close the connections that are kept."""
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed

    def follow(self, address: str, mirror: Mirror) -> Deferred[None]:
        """Follow a stream; fires, or fails with ``PeerError``, when the feed is over. Cancel it to follow no more."""
        files = "files" if address.startswith("unix:") else "sent"
        path = f"{stream_path('feed', mirror.name)}?pieces={files}"
        return Deferred.fromCoroutine(self._follow(address, path, mirror))

    async def _follow(self, address: str, path: str, mirror: Mirror) -> None:
        response = await self._request(address, "GET", path, {}, b"", timeout_s=CONNECT_S, is_kept=False)
        if response.code != 200:
            raise PeerError(f"{address} answers {response.code} to {path}")
        receiver = _FeedReceiver(mirror, self._reactor)
        response.deliverBody(receiver)
        try:
            await receiver.over
        finally:
            mirror.lost()

    async def take(self, address: str, name: StreamName, credential: str) -> Left:
        """
        Ask the owner of a stream to hand it over to a publisher who was admitted here.

        :raises NameTakenError: its publisher keeps it.
        :raises PeerError: there was no answer.
        """
        body = json.dumps({"credential": credential}).encode()
        answer = await self.ask(address, "POST", stream_path("take", name), body=body, timeout_s=TAKE_S)
        if answer.status == 409:
            raise NameTakenError(answer.body.decode("utf-8", "replace"))
        if answer.status != 200:
            raise PeerError(f"{address} answers {answer.status} when asked for {name}")
        return _read_left(answer.body)

    async def salvage(self, address: str, name: StreamName) -> Left:
        """
        Ask a node what its viewers saw of a stream whose owner is no more.

        :raises PeerError: there was no answer.
        """
        answer = await self.ask(address, "POST", stream_path("salvage", name))
        return _read_left(answer.body) if answer.status == 200 else {}

    async def stream(self, address: str, path: str, receive: Callable[[bytes], object]) -> None:
        """
        Ask another node for something that comes piece by piece, until there is nothing more, or this is cancelled.

        :param receive: called with each piece.
        :raises PeerError: there was no answer, or another one than 200.
        """
        response = await self._request(address, "GET", path, {}, b"", timeout_s=CONNECT_S, is_kept=False)
        if response.code != 200:
            raise PeerError(f"{address} answers {response.code} to {path}")
        receiver = _PieceReceiver(receive)
        response.deliverBody(receiver)
        await receiver.over

    async def ask(
        self,
        address: str,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float = CONNECT_S,
    ) -> PeerAnswer:
        """
        Ask another node for anything.

        :raises PeerError: there was no answer in time.
        """
        asking = Deferred.fromCoroutine(self._ask(address, method, path, headers or {}, body, timeout_s))
        asking.addTimeout(timeout_s, self._reactor)
        try:
            return await asking
        except RapidRTMPError:
            raise
        except Exception as error:
            raise PeerError(f"{address} does not answer: {error or type(error).__name__}") from error

    async def _ask(
        self, address: str, method: str, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> PeerAnswer:
        response = await self._request(address, method, path, headers, body, timeout_s=timeout_s, is_kept=True)
        content_type = b"".join(response.headers.getRawHeaders(b"content-type", ())).decode("latin-1")
        return PeerAnswer(response.code, content_type, await readBody(response))

    async def _request(
        self,
        address: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        timeout_s: float,
        is_kept: bool,
    ) -> Any:
        fields = Headers({**{name.encode(): [value.encode()] for name, value in headers.items()}, **self._headers})
        producer = _Body(body) if body else None
        host = (
            "node" if address.startswith("unix:") else address.partition("://")[2]
        )  # the pool tells nodes apart by it
        url = f"http://{host}{path}".encode()
        asking = self._agent(address, is_kept).request(method.encode(), url, fields, producer)
        asking.addTimeout(timeout_s, self._reactor)
        try:
            return await asking
        except Exception as error:
            raise PeerError(f"{address} does not answer: {error or type(error).__name__}") from error

    def _agent(self, address: str, is_kept: bool) -> Agent:
        agent = self._agents.get((address, is_kept))
        if agent is None:
            pool = self._pool if is_kept and not address.startswith("unix:") else None
            factory = _Endpoints(partial(make_client_endpoint, self._reactor, address, self._trust))
            agent = Agent.usingEndpointFactory(self._reactor, factory, pool)
            self._agents[address, is_kept] = agent
        return agent

    def forget(self, addresses: frozenset[str]) -> None:
        """Remember no others than these."""
        self._agents = {key: agent for key, agent in self._agents.items() if key[0] in addresses}


def _read_left(body: bytes) -> Left:
    reader = FeedReader()
    reader.receive_data(body)
    left: dict[str, dict[str, bytes]] = {}
    for frame in reader.frames():
        if frame.kind is Kind.LEFT:
            sink, _, thing = frame.name.partition("/")
            left.setdefault(sink, {})[thing] = frame.body
    return left


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """
    Leads every request to one address.

    :param make: the endpoint of the node.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def endpointForURI(self, _uri: object) -> Any:
        """The endpoint of the node."""
        return self._make()


@implementer(IBodyProducer)
class _Body:
    """A request's body that is at hand."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Write it."""
        consumer.write(self._body)
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def pauseProducing(self) -> None:
        """It is written at once."""

    resumeProducing = stopProducing = pauseProducing


class _PieceReceiver(Protocol):
    """
    Hands on the pieces of an answer.

    :ivar over: fires when there is nothing more; cancel it to have no more.
    """

    def __init__(self, receive: Callable[[bytes], object]) -> None:
        self._receive = receive
        self.over: Deferred[None] = Deferred(lambda _: self._end())

    def dataReceived(self, data: bytes) -> None:
        """A piece."""
        self._receive(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The answer is over."""
        del reason
        if not self.over.called:
            self.over.callback(None)

    def _end(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()


class _FeedReceiver(Protocol):
    """
    Hands the frames of a feed to a mirror.

    :ivar over: fires when there is nothing more; cancel it to end the feed.
    """

    def __init__(self, mirror: Mirror, clock: IReactorTime) -> None:
        self._mirror = mirror
        self._clock = clock
        self._reader = FeedReader()
        self._silent: IDelayedCall | None = None
        self.over: Deferred[None] = Deferred(lambda _: self._end())

    def connectionMade(self) -> None:
        """The answer begins."""
        self._silent = self._clock.callLater(SILENT_S, self._end)

    def dataReceived(self, data: bytes) -> None:
        """Frames, in any pieces."""
        if self._silent is not None:
            self._silent.reset(SILENT_S)
        self._reader.receive_data(data)
        try:
            for frame in self._reader.frames():
                self._mirror.apply(frame)
        except Exception:  # what is no feed, or a bug: the follower says which
            self._over(Failure())
            self._end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The answer is over."""
        del reason
        if self._silent is not None and self._silent.active():
            self._silent.cancel()
        self._silent = None
        self._over(None)

    def _over(self, result: Any) -> None:
        if not self.over.called:
            self.over.callback(result)

    def _end(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()
