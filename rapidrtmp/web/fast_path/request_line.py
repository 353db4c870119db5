"""
Which requests are plain: a ``GET`` for something of a stream, with nothing about it that needs thought.

Players send the same header block with every request and, many of them at a time, the same request line. So each is
read once by a real parser and remembered, and recognising a request costs two look-ups. Whatever is not plain beyond
doubt is refused here and left to the full machinery: two parsers that read one request differently are how requests
are smuggled, so this one takes only what can be read in one way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from rapidrtmp.http.addresses import forwarded_hops
from rapidrtmp.names import RENDITION_PATTERN, RESERVED_APPS

__all__ = ["NotPlainError", "Target", "read_fields", "read_line"]

MAX_LINE_BYTES = 1024
MAX_BLOCK_BYTES = 4096
_REMEMBERED_LINES = 4096
_REMEMBERED_BLOCKS = 1024

_NAME = rb"[A-Za-z0-9_~-][A-Za-z0-9._~-]*"
_LINE = re.compile(
    rb"GET /(%s)/(%s)(?:/~([A-Za-z0-9._~-]+))?/((?:%s/)?%s)(?:\?([A-Za-z0-9._~=&%%+-]*))? HTTP/1\.1"
    % (_NAME, _NAME, RENDITION_PATTERN.encode(), _NAME)
)
#: Visible ASCII in lines that end as they must, none of them folded, and one empty line, at the end.
_BLOCK = re.compile(rb"(?:[!-9;-~]+:[ -~]*\r\n)+\r\n")
#: A host that every layer below reads alike.
_HOST = re.compile(r"(?:[A-Za-z0-9_-]{1,50}\.){0,4}[A-Za-z0-9_-]{1,50}(?::[0-9]{1,5})?")
MAX_FIELDS = 100
#: Fields that make a request something else than a plain one, or that are not to be remembered. ``If-None-Match`` is
#: not among them: browsers send it with every reload of a playlist, and the responder looks at it anyway.
_NOT_PLAIN = frozenset(
    {
        "authorization",
        "content-length",
        "cookie",
        "expect",
        "http2-settings",
        "if-match",
        "if-modified-since",
        "if-range",
        "if-unmodified-since",
        "proxy-authorization",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class NotPlainError(Exception):
    """A request that the full machinery must read. It is not remembered: it may hold a secret."""


class Target(NamedTuple):
    """
    What a request line asks for; ``query``, still percent-encoded, and ``token`` are ``""`` if there is none.

    :ivar name: with the folder of its rendition, if it has one.
    """

    app: str
    key: str
    token: str
    name: str
    query: str


@lru_cache(_REMEMBERED_LINES)
def read_line(line: bytes) -> Target:
    """
    Read a request line, without the line break.

    :raises NotPlainError: it is not ``GET /APP/KEY[/~TOKEN]/NAME[?QUERY] HTTP/1.1`` of harmless characters, or too
        long.
    """
    match = _LINE.fullmatch(line) if len(line) <= MAX_LINE_BYTES else None
    if match is None:
        raise NotPlainError
    app, key, token, name, query = (part.decode() for part in match.groups(b""))
    if app in RESERVED_APPS:
        raise NotPlainError
    return Target(app, key, token, name, query)


@lru_cache(_REMEMBERED_BLOCKS)
def read_fields(block: bytes) -> Mapping[str, str]:
    """
    Read a header block: all that follows the request line, up to and with the empty line.

    :returns: field values by lower-case name, those of a repeated field joined with ``", "``.
    :raises NotPlainError: the block is more or less than that, or long, or odd, or holds a field that is not plain; or
        there is not one ``Host``, or the connection shall not be kept.
    """
    if len(block) > MAX_BLOCK_BYTES or not _BLOCK.fullmatch(block):
        raise NotPlainError
    reading = _Reading()
    parser = HttpRequestParser(reading)
    try:
        parser.feed_data(b"GET / HTTP/1.1\r\n" + block)
    except (HttpParserError, HttpParserUpgrade) as error:
        raise NotPlainError from error
    values = reading.values
    if not reading.is_complete or not parser.should_keep_alive() or sum(map(len, values.values())) > MAX_FIELDS:
        raise NotPlainError
    hosts, connection = values.get("host", []), values.get("connection", ["keep-alive"])
    if not _NOT_PLAIN.isdisjoint(values) or len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise NotPlainError
    if [value.lower() for value in connection] != ["keep-alive"]:
        raise NotPlainError
    fields = {name: ", ".join(several) for name, several in values.items()}
    if "forwarded" in fields:  # in the words of the field that is looked at for each request
        fields["x-forwarded-for"] = forwarded_hops(fields.get("x-forwarded-for", ""), fields["forwarded"])
    return fields


class _Reading:
    """What httptools tells of a request while it reads it."""

    def __init__(self) -> None:
        self.values: dict[str, list[str]] = {}
        self.is_complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.values.setdefault(name.decode().lower(), []).append(value.decode().strip(" "))

    def on_message_complete(self) -> None:
        self.is_complete = True
