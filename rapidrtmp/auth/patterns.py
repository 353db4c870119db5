"""Patterns of streams, ``live/camera-*``: which ones a credential is for."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_network

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.http.addresses import read_address
from rapidrtmp.names import DEFAULT_APP, StreamName

__all__ = ["check_network", "check_pattern", "is_in_network", "matches"]

#: Of an application or a key, where ``*`` stands for any characters and ``?`` for one.
_PART = re.compile(r"[A-Za-z0-9._~*?-]{1,128}")


def check_pattern(text: str) -> str:
    """
    Return a pattern with its application, which is ``live`` where none is named.

    :raises ConfigurationError: it is none.
    """
    app, slash, key = text.partition("/")
    if not slash:
        app, key = DEFAULT_APP, text
    if not (_PART.fullmatch(app) and _PART.fullmatch(key)):
        raise ConfigurationError(f"{text[:128]!r} is not a pattern of streams such as camera-* or live/camera-*")
    return f"{app}/{key}"


@lru_cache(1024)
def _expression(pattern: str) -> re.Pattern[str]:
    wild = {"*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(wild.get(character) or re.escape(character) for character in pattern))


def matches(pattern: str, stream: StreamName) -> bool:
    """Whether a stream is one that a pattern, as :func:`check_pattern` returns it, stands for."""
    return _expression(pattern).fullmatch(str(stream)) is not None


def check_network(text: str) -> str:
    """Return a network, or an address, as a network. :raises ConfigurationError: it is neither."""
    try:
        return str(ip_network(text.strip(), strict=False))
    except ValueError as error:
        raise ConfigurationError(f"{text[:64]!r} is not an address or a network such as 10.0.0.0/8") from error


@lru_cache(4096)
def is_in_network(network: str, peer: str) -> bool:
    """Whether an address, mapped into IPv6 or not, is in a network."""
    address = read_address(peer)
    return address is not None and address in ip_network(network)
