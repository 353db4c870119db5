"""Header fields: those of requests that decide what is sent (RFC 9110), and those that every answer has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from rapidrtmp.http.errors import RangeNotSatisfiableError
from rapidrtmp.interfaces import Request, Response

__all__ = ["CORS", "accepts_gzip", "etag_matches", "parse_range", "preflight", "safety_fields"]

#: Media may be played by any page. No credentials: nothing here depends on a cookie, and caches must not either.
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Content-Length, Content-Range, Date, Age, Server-Timing, Retry-After",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
PREFLIGHT = {
    **CORS,
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Max-Age": "86400",
    "Allow": "GET, HEAD, OPTIONS",
    "Vary": "Access-Control-Request-Headers",
}
#: What a player may send, where the browser does not say what it is about to.
USUAL_FIELDS = "Range, Authorization, If-None-Match, If-Range"
#: Names of header fields (RFC 9110, 5.1), as many as any request may have.
_TOKEN = r"[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}[ \t]*"
_FIELD_NAMES = re.compile(f"{_TOKEN}(?:,{_TOKEN}){{0,99}}", re.ASCII)
_BYTE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,20})-([0-9]{0,20})[ \t]*", re.ASCII | re.IGNORECASE)


def safety_fields(hsts_s: int, *, is_encrypted: bool) -> Mapping[str, str]:
    """
    What every answer tells browsers, media and errors too: what it is, is not to be guessed; and to come by HTTPS only.

    :param hsts_s: for how long (RFC 6797), in seconds; 0 to say nothing of it.
    :param is_encrypted: whether the answer goes over TLS: elsewhere that must not be said.
    """
    fields = {"X-Content-Type-Options": "nosniff"}
    if hsts_s and is_encrypted:
        fields["Strict-Transport-Security"] = f"max-age={hsts_s}"
    return fields


def preflight(request: Request) -> Response:
    """
    Answer a browser that asks whether a page of another origin may ask for media (Fetch, 4.8).

    It may, with any fields that its player sends (CMCD, for one): nothing here depends on them.
    """
    asked = request.header("access-control-request-headers")
    permitted = asked.strip() if _FIELD_NAMES.fullmatch(asked) else USUAL_FIELDS
    return Response(204, {**PREFLIGHT, "Access-Control-Allow-Headers": permitted})


def parse_range(value: str, size: int) -> tuple[int, int] | None:
    """
    Read a ``Range`` field (RFC 9110, 14.1.2).

    :param value: the field; ``""`` if it was not sent.
    :param size: of the object, in bytes.
    :returns: ``(start, stop)``, ``stop`` excluded, never empty; or ``None`` to send the whole: no range, several
        (a server may ignore them, and ours does), another unit, or nonsense.
    :raises RangeNotSatisfiableError: none of the bytes asked for exists.
    """
    match = _BYTE_RANGE.fullmatch(value)
    if not match or match.group(1, 2) == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(size - int(last), 0), size
    elif last and int(last) < int(first):
        return None
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    if start >= stop:
        raise RangeNotSatisfiableError(size)
    return start, stop


def etag_matches(value: str, etag: str) -> bool:
    """Whether an ``If-None-Match`` field names ``etag``, compared weakly (RFC 9110, 13.1.2)."""
    if not value:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in value.split(",")]
    return etag in tags or "*" in tags


@lru_cache(maxsize=256)
def accepts_gzip(value: str) -> bool:
    """Whether an ``Accept-Encoding`` field permits ``gzip``, by name or by ``*``, with a weight above 0."""
    value = value.lower()
    if "gzip" not in value and "*" not in value:
        return False
    weights: dict[str, float] = {}
    for item in value.split(","):
        coding, _, parameter = item.partition(";")
        name, _, weight = parameter.strip().partition("=")
        try:
            weights[coding.strip()] = float(weight) if name.strip() == "q" else 1.0
        except ValueError:
            weights[coding.strip()] = 0.0
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0
