"""What a node answers other nodes, over HTTP at an endpoint of its own that only they have the secret for."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from rapidrtmp.cluster.addresses import is_public
from rapidrtmp.cluster.feed import Feed, Follower
from rapidrtmp.cluster.feed_frames import FeedFrame, Kind, write_frame
from rapidrtmp.cluster.peers import ROOT, Left, PeerAnswer
from rapidrtmp.errors import NotFoundError, PeerProtocolError
from rapidrtmp.live.registry import NameTakenError
from rapidrtmp.names import StreamName

__all__ = ["ClusterSite", "NodeAnswers"]

#: How often it is logged that others than nodes come.
SAY_EVERY_S = 60.0


class NodeAnswers(Protocol):
    """What a node has for others."""

    def feed(self, name: StreamName) -> Feed:
        """The feed of a stream. :raises NotFoundError: this node does not own it."""

    def send_frames(self, name: StreamName, follower: Follower) -> Callable[[], object]:
        """
        Send a node the frames of a stream.

        :returns: to be called when it has left.
        :raises NotFoundError: this node does not own it.
        """

    def hand_over(self, name: StreamName, credential: str) -> Deferred[Left]:
        """
        Part with a stream for a publisher elsewhere. Fails with ``NameTakenError`` if it has a publisher that keeps it.
        """

    def salvage(self, name: StreamName) -> Left:
        """What viewers of this node saw of a stream whose owner is no more."""

    def look_at_directory(self) -> Deferred[bytes]:
        """Whether this node reaches the directory: ``reached`` or ``down``."""

    def heard(self, topic: str, body: bytes) -> bytes:
        """
        What it answers to what a node says; see :class:`~rapidrtmp.cluster.conversation.Conversation`.

        :raises NotFoundError: there is no such topic.
        :raises PeerProtocolError: what is said makes no sense.
        """

    def answer(self, method: str, path: str, query: str, body: bytes) -> Deferred[PeerAnswer]:
        """What the management API of this node says, of itself alone."""


class _NodeRequest(Request):
    """A request whose body is taken of nodes alone: others are cut off before it."""

    _is_refused = False

    def gotLength(self, length: int | None) -> None:
        """The headers are here."""
        channel: Any = self.channel
        if not channel.site.admits(self):
            self._is_refused = True
            body = b"the secret of the cluster is needed"
            head = f"HTTP/1.1 401 Unauthorized\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            channel.write(head.encode() + body)
            channel.loseConnection()
            length = 0
        super().gotLength(length)  # type: ignore[no-untyped-call]

    def handleContentChunk(self, data: bytes) -> None:
        """Some of the body."""
        if not self._is_refused:
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]

    def process(self) -> None:
        """All of it is here."""
        if not self._is_refused:
            super().process()  # type: ignore[no-untyped-call]


class ClusterSite(Site):
    """
    The site at that endpoint.

    :ivar is_private: whether it is unencrypted, and so for private networks only.
    :ivar refused: connections and requests of others than nodes.
    """

    noisy = False
    is_private = False
    _log = Logger()

    def __init__(self, reactor: Any, node: NodeAnswers, find_secret: Callable[[], str]) -> None:
        super().__init__(_ClusterResource(node), requestFactory=_NodeRequest, reactor=reactor)  # type: ignore[no-untyped-call]
        self._clock = reactor
        self._find_secret = find_secret
        self._said_s = float("-inf")
        self.refused = 0

    def buildProtocol(self, addr: Any) -> Any:
        """A connection, if it may be one of a node."""
        host = str(getattr(addr, "host", ""))
        if self.is_private and is_public(host):
            self._refuse(f"{host} is public, and this endpoint unencrypted")
            return None
        return super().buildProtocol(addr)  # type: ignore[no-untyped-call]

    def admits(self, request: Any) -> bool:
        """Whether a request is one of a node."""
        shown = (request.getHeader("authorization") or "").removeprefix("Bearer ")
        if hmac.compare_digest(shown.encode(), self._find_secret().encode()):
            return True
        self._refuse(f"{getattr(request.getClientAddress(), 'host', 'a process')} does not have the secret")
        return False

    def _refuse(self, reason: str) -> None:
        """Count it, and log it once a minute."""
        self.refused += 1
        if self._clock.seconds() - self._said_s >= SAY_EVERY_S:
            self._said_s = self._clock.seconds()
            self._log.warn("the endpoint of the cluster: {reason}", reason=reason)

    def log(self, request: Any) -> None:
        """Log nothing of each request."""


class _ClusterResource(Resource):
    isLeaf = True
    _log = Logger()

    def __init__(self, node: NodeAnswers) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._node = node

    def render(self, request: Any) -> Any:
        """Answer a node."""
        path, _, query = request.uri.decode("latin-1").partition("?")
        parts = path.removeprefix(f"{ROOT}/").split("/")
        if parts == ["directory"]:
            looking = self._node.look_at_directory()
            looking.addCallbacks(lambda said: self._finish(request, 200, said), self._failed, errbackArgs=(request,))
            return NOT_DONE_YET
        if parts[0] in ("api", "metrics"):
            done = self._node.answer(
                request.method.decode("latin-1"), path.removeprefix(ROOT), query, request.content.read()
            )
            done.addCallbacks(self._api_answered, self._failed, callbackArgs=(request,), errbackArgs=(request,))
            return NOT_DONE_YET
        if parts[0] == "tell" and len(parts) == 2 and request.method == b"POST":
            return self._hear(request, parts[1])
        if len(parts) != 3:
            return self._answer(request, 404, b"there is nothing here")
        what, name = parts[0], StreamName(unquote(parts[1]), unquote(parts[2]))
        if what == "feed" and request.method == b"GET":
            return self._follow(request, name, reads_files=query == "pieces=files")
        if what == "frames" and request.method == b"GET":
            return self._send_frames(request, name)
        if what == "take" and request.method == b"POST":
            return self._take(request, name)
        if what == "salvage" and request.method == b"POST":
            return self._answer(request, 200, _render_left(self._node.salvage(name)))
        return self._answer(request, 404, b"there is nothing here")

    def _hear(self, request: Any, topic: str) -> bytes:
        try:
            return self._answer(request, 200, self._node.heard(topic, request.content.read()))
        except NotFoundError as error:
            return self._answer(request, 404, str(error).encode())
        except PeerProtocolError as error:
            return self._answer(request, 400, str(error).encode())

    def _follow(self, request: Any, name: StreamName, *, reads_files: bool) -> Any:
        try:
            feed = self._node.feed(name)
        except NotFoundError as error:
            return self._answer(request, 404, str(error).encode())
        follower = RequestFollower(request, reads_files=reads_files)
        request.notifyFinish().addBoth(lambda _: feed.leave(follower))
        feed.follow(follower)
        return NOT_DONE_YET

    def _send_frames(self, request: Any, name: StreamName) -> Any:
        follower = RequestFollower(request, reads_files=False)
        try:
            leave = self._node.send_frames(name, follower)
        except NotFoundError as error:
            request.unregisterProducer()
            return self._answer(request, 404, str(error).encode())
        request.notifyFinish().addBoth(lambda _: leave())
        return NOT_DONE_YET

    def _take(self, request: Any, name: StreamName) -> Any:
        try:
            credential = str(json.loads(request.content.read())["credential"])
        except (ValueError, TypeError, KeyError):
            return self._answer(request, 400, b"the body has no credential")
        done = self._node.hand_over(name, credential)
        done.addCallbacks(self._left, self._failed, callbackArgs=(request,), errbackArgs=(request,))
        return NOT_DONE_YET

    def _left(self, left: Left, request: Any) -> None:
        self._finish(request, 200, _render_left(left))

    def _api_answered(self, answer: PeerAnswer, request: Any) -> None:
        request.setHeader("content-type", answer.content_type)
        if answer.send is not None:
            if not request._disconnected:
                request.setResponseCode(answer.status)
                sending = answer.send(request)
                request.notifyFinish().addErrback(lambda _: sending.cancel())
                sending.addCallbacks(lambda _: request.finish(), Failure.trap, errbackArgs=(CancelledError,))
            return
        self._finish(request, answer.status, answer.body)

    def _failed(self, failure: Failure, request: Any) -> None:
        if failure.check(NameTakenError):
            self._finish(request, 409, str(failure.value).encode())
            return
        self._log.failure("internal error in answering another node", failure)
        self._finish(request, 500, b"internal error")

    def _finish(self, request: Any, status: int, body: bytes) -> None:
        if not request._disconnected:
            request.write(self._answer(request, status, body))
            request.finish()

    @staticmethod
    def _answer(request: Any, status: int, body: bytes) -> bytes:
        request.setResponseCode(status)
        request.setHeader("content-length", str(len(body)))
        return body


def _render_left(left: Left) -> bytes:
    return b"".join(
        write_frame(FeedFrame(Kind.LEFT, 0, f"{sink}/{name}", body=body))
        for sink, objects in left.items()
        for name, body in objects.items()
    )


@implementer(IPushProducer)
class RequestFollower(Follower):
    """
    A node that follows by a request, whose answer does not end.

    :ivar unread_bytes: what waits until it reads again.
    """

    def __init__(self, request: Any, *, reads_files: bool) -> None:
        self.reads_files = reads_files
        self._request = request
        self._waiting: list[bytes] = []
        self._is_full = False
        self._is_over = False
        request.notifyFinish().addBoth(self._gone)
        request.registerProducer(self, True)

    @property
    def unread_bytes(self) -> int:
        """See :class:`Follower`."""
        return sum(map(len, self._waiting))

    def send(self, data: bytes) -> None:
        """See :class:`Follower`."""
        if self._is_over:
            return
        if self._is_full:
            self._waiting.append(data)
        else:
            self._request.write(data)

    def close(self) -> None:
        """See :class:`Follower`."""
        if not self._is_over:
            self.resumeProducing()
            self._request.unregisterProducer()
            self._request.finish()

    def abort(self) -> None:
        """See :class:`Follower`."""
        if not self._is_over:
            self._waiting.clear()
            self._request.channel.forceAbortClient()

    def _gone(self, _: object) -> None:
        self._is_over = True
        self._waiting.clear()

    def pauseProducing(self) -> None:
        """It has not read what was sent."""
        self._is_full = True

    def resumeProducing(self) -> None:
        """It has."""
        self._is_full = False
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._request.write(b"".join(waiting))

    def stopProducing(self) -> None:
        """It is gone."""
        self._is_full = True
