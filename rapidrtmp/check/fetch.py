"""HTTP as a player does it: one request, one answer with its time, compressed if the server can."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import CancelledError
from twisted.web.client import Agent, HTTPConnectionPool, RedirectAgent, readBody
from twisted.web.http_headers import Headers

from rapidrtmp import __version__
from rapidrtmp.errors import RapidRTMPError

__all__ = ["Answer", "Fetch", "FetchError", "HttpFetcher"]

MAX_REDIRECTS = 5
MAX_BYTES = 256 * 1024 * 1024


class FetchError(RapidRTMPError):
    """There was no answer: no connection, none in time, or one that cannot be read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """
    An answer.

    :ivar headers: names in lower case.
    :ivar body: with the content coding taken off.
    :ivar asked_s: when the request was made, by the fetcher's clock; likewise ``answered_s``, its last byte.
    :ivar redirected: whether another URL than the one asked for has answered.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    asked_s: float
    answered_s: float
    redirected: bool = False


class Fetch(Protocol):
    """Makes one request."""

    async def __call__(self, url: str, *, method: str = "GET", byte_range: str = "", timeout_s: float = 10) -> Answer:
        """
        Ask.

        :param byte_range: for the ``Range`` field: ``0-99``.
        :raises FetchError: no answer.
        """


class HttpFetcher:
    """
    Fetches with Twisted's agent over connections that stay open.

    :param reactor: of the process.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = 8
        agent = Agent(reactor, connectTimeout=10, pool=self._pool)
        self._agent = RedirectAgent(agent, redirectLimit=MAX_REDIRECTS)

    async def __call__(self, url: str, *, method: str = "GET", byte_range: str = "", timeout_s: float = 10) -> Answer:
        """See :class:`Fetch`."""
        fields = {"User-Agent": [f"rapidrtmp-check/{__version__}"], "Accept-Encoding": ["gzip"]}
        if byte_range:
            fields["Range"] = [f"bytes={byte_range}"]
        asked_s = self._reactor.seconds()
        try:
            asking = self._agent.request(method.encode(), url.encode("ascii"), Headers(fields))
            asking.addTimeout(timeout_s, self._reactor)
            response = await asking
            if isinstance(response.length, int) and response.length > MAX_BYTES and method != "HEAD":
                raise FetchError(f"{url}: {response.length} bytes, limit {MAX_BYTES}")
            reading = readBody(response)
            reading.addTimeout(timeout_s, self._reactor)
            body = await reading
        except (CancelledError, FetchError):
            raise
        except Exception as error:  # of a dozen modules, for as many reasons
            raise FetchError(f"{url}: {type(error).__name__}: {_reason(error)}") from error
        headers = {
            name.decode("latin-1").lower(): b", ".join(values).decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        if body and headers.get("content-encoding") == "gzip":
            body = _gunzip(url, body)
        if isinstance(response.length, int) and method != "HEAD":  # the agent takes it out of the headers
            headers["content-length"] = str(response.length)
        redirected = response.previousResponse is not None
        final = response.request.absoluteURI.decode() if redirected else url
        return Answer(final, response.code, headers, body, asked_s, self._reactor.seconds(), redirected)

    async def close(self) -> None:
        """Let go of the open connections."""
        await self._pool.closeCachedConnections()


def _reason(error: Exception) -> str:
    """One line; Twisted wraps what went wrong on a connection."""
    reasons = getattr(error, "reasons", None)
    return str(reasons[0].value if reasons else error).split("\n")[0]


def _gunzip(url: str, body: bytes) -> bytes:
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        plain = inflater.decompress(body, MAX_BYTES)
    except zlib.error as error:
        raise FetchError(f"{url}: not gzip as it says: {error}") from error
    if not inflater.eof:
        raise FetchError(f"{url}: the compressed answer is cut short, or too large")
    return plain
