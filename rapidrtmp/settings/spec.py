r"""
The grammar of specs, ``name:positional:key=value``: that of Twisted's endpoint strings.

A colon ends an argument and the first ``=`` in it ends its key; ``\`` takes the next character literally. Twisted keeps
its own reader private, so here is another; the tests hold the two together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from twisted.internet.endpoints import quoteStringArgument

from rapidrtmp.errors import ConfigurationError

__all__ = ["Spec", "mask_spec", "parse_spec"]

_SECRET_KEY = re.compile(r"(^|[-_])(secret|password|pass|token|key|auth)$", re.IGNORECASE)
#: A URL: user information, host, and what names the resource.
_URL = re.compile(r"//(?:[^/@]*@)?([^/?@]*)(?:[/?].*)?$")
#: The latter part of a URL with a password, where the colon before it was not escaped.
_URL_REMAINDER = re.compile(r"^[^/]*@.*")


@dataclass(frozen=True, slots=True)
class Spec:
    """
    A plugin by name, and what it is to be called with.

    :ivar name: the plugin's name.
    :ivar arguments: what had no key, in order.
    :ivar options: what had one; ``-`` in a key reads as ``_``.
    """

    name: str
    arguments: tuple[str, ...] = field(default=(), repr=False)
    options: Mapping[str, str] = field(default_factory=dict, repr=False)


def parse_spec(text: str) -> Spec:
    """
    Read a spec.

    :raises ConfigurationError: no name, a key given twice, or a ``\\`` with nothing behind it. The message never
        holds a value: it may be a secret.
    """
    arguments, options = [], {}
    for key, value in _split(text):
        if key is None:
            arguments.append(value)
            continue
        key = key.replace("-", "_")
        if key in options:
            raise ConfigurationError(f"{key}= is given twice")
        options[key] = value
    if not arguments or not arguments[0] or text.startswith(":"):
        raise ConfigurationError("a spec begins with a name, as in name:key=value")
    return Spec(arguments[0], tuple(arguments[1:]), options)


def _split(text: str) -> Iterator[tuple[str | None, str]]:
    """The ``(key, value)`` of each argument; the key is ``None`` where there is no ``=``."""
    key, current = None, ""
    characters = iter(text)
    for character in characters:
        if character == "\\":
            escaped = next(characters, None)
            if escaped is None:
                raise ConfigurationError("a spec cannot end in a backslash")
            current += escaped
        elif character == ":":
            yield key, current
            key, current = None, ""
        elif character == "=" and key is None:
            key, current = current, ""
        else:
            current += character
    yield key, current


def mask_spec(text: str) -> str:
    """
    The spec as it may be shown: ``***`` stands for secret options, and for all of a URL but its scheme and host.

    What cannot be read is not shown at all.
    """
    try:
        return ":".join(_shown(key, value) for key, value in _split(text))
    except ConfigurationError:
        return "***"


def _shown(key: str | None, value: str) -> str:
    value = quoteStringArgument(_URL_REMAINDER.sub("***", _URL.sub(r"//\1/***", value)))
    if key is None:
        return value
    return f"{key}=***" if _SECRET_KEY.search(key) else f"{key}={value}"
