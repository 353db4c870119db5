"""Requests to other servers whose answers decide something: bounded in time and size, no redirects followed."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import treq
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool

from rapidrtmp import __version__
from rapidrtmp.errors import RapidRTMPError

__all__ = ["HttpAnswer", "OutgoingError", "OutgoingHttp", "split_credentials"]

#: Connections to one server that are kept, and how long one that is not used stays open, in seconds.
CONNECTIONS, IDLE_S = 16, 30
MAX_ANSWER_BYTES = 256 << 10


class OutgoingError(RapidRTMPError):
    """No answer, or one that is too long. The message does not name the URL, which may hold a secret."""


class HttpAnswer(NamedTuple):
    """An answer, whatever its status; field names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class OutgoingHttp:
    """
    Asks other servers.

    :param reactor: time and connections.
    :param client: as treq's; for tests.
    """

    def __init__(self, reactor: Any, client: Any = None) -> None:
        self._reactor = reactor
        self._pool = _make_pool(reactor)
        self._client = client or HTTPClient(Agent(reactor, connectTimeout=10, pool=self._pool))

    def close(self) -> Deferred[None]:
        """Close the connections that are kept."""
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed

    def request(
        self, method: str, url: str, timeout_s: float, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Deferred[HttpAnswer]:
        """
        Ask, in so many seconds at most; fails with ``OutgoingError``.

        :param url: with a name and a password, if it has them: they are sent as a header field.
        :param body: sent if it is not empty.
        """
        fields: dict[bytes | str, bytes | str] = {"User-Agent": f"RapidRTMP/{__version__}"}
        url, credentials = split_credentials(url)
        fields.update({**credentials, **(headers or {})})
        asking = Deferred.fromCoroutine(self._ask(method, url, fields, body))
        asking.addTimeout(timeout_s, self._reactor)
        return asking.addErrback(_in_words, timeout_s)

    async def _ask(self, method: str, url: str, headers: dict[bytes | str, bytes | str], body: bytes) -> HttpAnswer:
        response = await self._client.request(
            method, url, headers=headers, data=body or None, allow_redirects=False, unbuffered=True
        )
        pieces: list[bytes] = []
        size = 0

        def collect(piece: bytes) -> None:
            nonlocal size
            size += len(piece)
            if size <= MAX_ANSWER_BYTES:
                pieces.append(piece)

        await treq.collect(response, collect)
        if size > MAX_ANSWER_BYTES:
            raise OutgoingError(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
        fields = {
            name.decode("latin-1").lower(): values[-1].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        return HttpAnswer(response.code, fields, b"".join(pieces))


def split_credentials(url: str) -> tuple[str, Mapping[str, str]]:
    """A URL without the name and password in it, and the field that they are sent in (RFC 7617)."""
    scheme, slashes, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    said, at, host = authority.rpartition("@")
    if not at:
        return url, {}
    encoded = base64.b64encode(unquote(said).encode()).decode("ascii")
    return f"{scheme}{slashes}{host}{slash}{path}", {"Authorization": f"Basic {encoded}"}


def _make_pool(reactor: Any) -> HTTPConnectionPool:
    pool = HTTPConnectionPool(reactor, persistent=True)
    pool.maxPersistentPerHost = CONNECTIONS
    pool.cachedConnectionTimeout = IDLE_S
    pool.retryAutomatically = False
    pool._factory.noisy = False  # of connections that come and go
    return pool


def _in_words(failure: Failure, timeout_s: float) -> HttpAnswer:
    """What went wrong, without the URL."""
    if failure.check(CancelledError):
        failure.raiseException()
    if failure.check(TimeoutError):
        raise OutgoingError(f"no answer within {timeout_s:g} s") from failure.value
    if failure.check(OutgoingError):
        failure.raiseException()
    if failure.check(ValueError):  # whose words may hold parts of the URL
        raise OutgoingError("its URL cannot be asked") from failure.value
    reasons = getattr(failure.value, "reasons", None)
    inner = reasons[0] if isinstance(reasons, list) and reasons else failure
    said = inner.getErrorMessage() if isinstance(inner, Failure) else str(inner)
    raise OutgoingError(" ".join(said.split())[:200] or "no answer") from failure.value
