"""
One HTTP exchange as plain values: what was asked, and what is answered.

Everything that decides an answer takes a :class:`Request` and returns a :class:`Response` (or a ``Deferred`` of one),
so that it knows nothing of Klein, of ``twisted.web``, or of which lane the request came in by.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

__all__ = ["NO_STORE", "Request", "Response", "json_response"]

#: For errors and for answers of the moment: nobody may keep them.
NO_STORE = {"Cache-Control": "no-store"}


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
    """

    method: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    peer: str
    client: str
    body: bytes = field(default=b"", repr=False)
    scheme: str = "http"

    def header(self, name: str) -> str:
        """The value of a header field, by lower-case name; ``""`` if it was not sent."""
        return self.headers.get(name, "")


@dataclass(frozen=True)
class Response:
    """
    What is answered; one object may answer any number of requests.

    :ivar headers: all but those every answer has (``Date``, ``Server``, ``Content-Length``).
    :ivar body: all of it, also in the answer to a ``HEAD``: whoever sends it leaves it out, but sends its length.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def length(self) -> int:
        """What ``Content-Length`` says."""
        return len(self.body)

    @cached_property
    def fields(self) -> bytes:
        """The header as it goes over the wire behind ``Server`` and ``Date``, up to and with the empty line."""
        lines = [f"{name}: {' '.join(value.splitlines())}\r\n" for name, value in self.headers.items()]
        if self.status not in (204, 304):
            lines.append(f"Content-Length: {self.length}\r\n")
        return f"{''.join(lines)}\r\n".encode()

    @cached_property
    def fields_and_body(self) -> bytes:
        """Both in one piece; for small bodies."""
        return self.fields + self.body


def json_response(value: object, status: int = 200, headers: Mapping[str, str] = NO_STORE) -> Response:
    """An answer in JSON (RFC 8259)."""
    body = json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    return Response(status, {"Content-Type": "application/json", **headers}, body)
