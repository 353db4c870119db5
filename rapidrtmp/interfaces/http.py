"""
One HTTP exchange as plain values: what was asked, what is answered, and the routes that lead from one to the other.

Everything that decides an answer takes a :class:`Request` and returns a :class:`Response` (or a ``Deferred`` of one),
so that it knows nothing of Klein, of ``twisted.web``, or of which lane the request came in by. What it raises becomes
a status: ``NotFoundError`` 404, ``StorageError`` 503, and the errors here.
"""

from __future__ import annotations

import enum
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from twisted.internet.defer import Deferred

from rapidrtmp.errors import RapidRTMPError
from rapidrtmp.support.frozen import filled_by_slot

__all__ = [
    "NO_STORE",
    "Audience",
    "BadRequestError",
    "ConflictError",
    "HttpError",
    "Request",
    "Response",
    "Route",
    "StreamedResponse",
    "UnavailableError",
    "json_response",
]

#: For errors and for answers of the moment: no cache may keep them.
NO_STORE = {"Cache-Control": "no-store"}


@filled_by_slot
@dataclass(frozen=True, slots=True)
class Request:
    """
    What a client asks.

    :ivar method: in capitals.
    :ivar query: what follows the ``?``, still percent-encoded; ``""`` if nothing does.
    :ivar headers: field values by lower-case name; a repeated field's values are joined with ``", "``.
    :ivar peer: the address at the other end of the connection; ``unix`` if it has none.
    :ivar client: the address of the client behind the proxies that are trusted; else the peer's.
    :ivar body: the whole body.
    :ivar scheme: of the URL that the client asked for, as far as the proxies that are trusted tell.
    :ivar token: what the client shows to be let in, ``/APP/KEY/~TOKEN/NAME`` or ``Authorization``; ``""`` if nothing. A
        secret.
    :ivar is_token_in_path: whether it stood in the path.
    :ivar has_watched: whether media was sent on the same connection before.
    """

    method: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    peer: str
    client: str
    body: bytes = field(default=b"", repr=False)
    scheme: str = "http"
    token: str = field(default="", repr=False)
    is_token_in_path: bool = False
    has_watched: bool = False

    def header(self, name: str) -> str:
        """The value of a header field, by lower-case name; ``""`` if it was not sent."""
        return self.headers.get(name, "")


@dataclass(frozen=True)
class Response:
    """
    What is answered; one object may answer any number of requests.

    :ivar headers: all but those every answer has (``Date``, ``Server``, ``Content-Length``).
    :ivar body: all of it, also in the answer to a ``HEAD``: the server leaves it out, but sends its length.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def length(self) -> int | None:
        """What ``Content-Length`` says; ``None`` if there is none."""
        return len(self.body)

    @cached_property
    def fields(self) -> bytes:
        """The header as it goes over the wire behind ``Server`` and ``Date``, up to and with the empty line."""
        lines = [f"{name}: {' '.join(value.splitlines())}\r\n" for name, value in self.headers.items()]
        if self.status not in (204, 304) and self.length is not None:
            lines.append(f"Content-Length: {self.length}\r\n")
        return f"{''.join(lines)}\r\n".encode()

    @cached_property
    def fields_and_body(self) -> bytes:
        """Both in one piece; for small bodies."""
        return self.fields + self.body


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


@dataclass(frozen=True)
class StreamedResponse(Response):
    """
    What is answered, with a body that is made piece by piece; ``body`` is empty.

    :ivar size: of the whole body, exactly; ``None`` if that is not known, or it has no end.
    :ivar open: begins to make it; called once for each time it is sent, and not for a ``HEAD``.
    """

    size: int | None = 0
    open: Callable[[], AsyncIterator[bytes]] = field(default=_nothing, repr=False)

    @property
    def length(self) -> int | None:
        """What ``Content-Length`` says; ``None`` if there is none."""
        return self.size


def json_response(value: object, status: int = 200, headers: Mapping[str, str] = NO_STORE) -> Response:
    """An answer in JSON (RFC 8259)."""
    body = json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    return Response(status, {"Content-Type": "application/json", **headers}, body)


# ── routes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Audience(enum.Enum):
    """Whom a route answers."""

    PUBLIC = enum.auto()  # every client, at the public door; pages of other origins may not read it
    MEDIA = enum.auto()  # every client, and pages of other origins may read it
    VIEWERS = enum.auto()  # as MEDIA, if the stream that `app` and `key` in the rule name has a seat for one more
    PROBE = enum.auto()  # every client, at every door
    MANAGEMENT = enum.auto()  # the server's own user and clients that have the secret: see `api_access`
    OPEN_MANAGEMENT = enum.auto()  # every client that can reach the door of the management API


@dataclass(frozen=True, slots=True)
class Route:
    """
    One route.

    :ivar rule: the path, with ``<name>`` for what varies (werkzeug's grammar); also its label in metrics.
    :ivar method: ``GET`` (and so ``HEAD``), ``POST`` or ``DELETE``; ``OPTIONS`` is answered for every route.
    :ivar respond: called with the request and, by keyword, what varied.
    """

    method: str
    rule: str
    audience: Audience
    respond: Callable[..., Response | Deferred[Response]]


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class HttpError(RapidRTMPError):
    """
    The root of what only HTTP knows.

    :ivar headers: to be sent along with the status.
    :ivar facts: of use to programs, to be sent along with the message.
    """

    facts: Mapping[str, object] = MappingProxyType({})

    def __init__(self, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.headers = headers or {}


class BadRequestError(HttpError):
    """The request itself is wrong: the message names the field, what it held, and what would be right."""


class ConflictError(HttpError):
    """The state of things does not permit it."""


class UnavailableError(HttpError):
    """Not now; later perhaps."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message, {"Retry-After": str(retry_after_s)})
