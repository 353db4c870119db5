"""
Where the application, the stream key and the token hide in what a client sends.

Every encoder has its own idea: FFmpeg leaves a query on the stream name, OBS copies whatever the user typed into two
boxes, a one-segment URL arrives as an application without a name, FMLE adds ``/_definst_`` and ``flv:``. All of them
are brought into one canonical form here, and nothing past this module looks at a raw name again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from rapidrtmp.names import BadNameError

__all__ = ["StreamAddress", "app_path", "has_query", "parse_address", "tc_url_host"]

_FORBIDDEN_IN_NAMES = re.compile(r"[\x00-\x1f\x7f\\]|(?:\A|/)\.\.(?:/|\Z)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: What may stand before a stream's name and is no part of it.
_NAME_PREFIX = re.compile(r"\A/?(?:mp4:|flv:|mp3:)?")


@dataclass(frozen=True, slots=True)
class StreamAddress:
    """
    What a client means by its URL, in canonical form but not yet held to the rules of ``StreamName``.

    :ivar app: the application.
    :ivar key: the stream key: the public name, not the secret.
    :ivar parameters: the decoded queries, the token among them. Of equal names the stream name's wins over the
        application's, and that over tcUrl's.
    """

    app: str
    key: str
    parameters: Mapping[str, str] = field(repr=False)


def parse_address(app: str, tc_url: str, name: str, default_app: str = "live") -> StreamAddress:
    """
    Find application, key and parameters in the three texts a publisher sends.

    :param app: ``app`` of its connect command; where that is empty, the path of ``tc_url`` stands in.
    :param name: what it asked to publish; where that is empty, the last segment of the application is the key.
    :param default_app: the application of URLs that name none.
    :raises BadNameError: no key anywhere, or a name holding control characters, backslashes or ``..`` as a segment,
        or a parameter holding control characters. The message quotes nothing: there may be a secret in it.
    """
    url = _split_tc_url(tc_url)
    app, _, app_query = (app or url.path).partition("?")
    key, _, key_query = name.partition("?")
    path = _clean_path(app)
    key = _NAME_PREFIX.sub("", key, count=1)
    if not key:
        path, _, key = path.rpartition("/")
    address = StreamAddress(
        path or default_app,
        key,
        _parse_query(url.query) | _parse_query(app_query) | _parse_query(key_query),
    )
    _check(address)
    return address


def app_path(app: str, tc_url: str) -> str:
    """The application as a client named it, ``""`` if it did not: without its query, so without any secret in that."""
    return _clean_path((app or _split_tc_url(tc_url).path).partition("?")[0])


def has_query(app: str, tc_url: str) -> bool:
    """Whether the application or the URL of a connect command carries a query."""
    return "?" in app or "?" in tc_url


def tc_url_host(tc_url: str) -> str:
    """The host name in ``tc_url``, without port and credentials; ``""`` if there is none."""
    return _split_tc_url(tc_url).hostname or ""


def _split_tc_url(tc_url: str) -> SplitResult:
    """The parts of a tcUrl, all empty if it is no URL; some clients quote it."""
    try:
        return urlsplit(tc_url.strip(" '\""), allow_fragments=False)
    except ValueError:  # an unclosed IPv6 bracket
        return urlsplit("")


def _clean_path(path: str) -> str:
    """``path`` without empty segments, and without the name that FMS gives to an application's default instance."""
    return "/".join(segment for segment in path.split("/") if segment not in ("", "_definst_"))


def _parse_query(query: str) -> dict[str, str]:
    """``a=1&b=2`` as a dict, percent-decoded once; ``+`` stays, for tokens in base64 hold it."""
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return {unquote(name): unquote(value) for name, _, value in pairs}


def _check(address: StreamAddress) -> None:
    if not address.key:
        raise BadNameError("the stream name is empty")
    for what, text in (("application", address.app), ("stream name", address.key)):
        if _FORBIDDEN_IN_NAMES.search(text):
            raise BadNameError(f"the {what} holds '/../', a backslash or a control character")
    for name, value in address.parameters.items():
        if _CONTROL.search(name) or _CONTROL.search(value):
            raise BadNameError("the URL's query holds a control character")
