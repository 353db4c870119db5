"""
Where a relay leads: the URL of another server taken apart, and shown without what is secret in it.

URL and key are two settings. Where there is no key, the URL holds it behind its last slash; a query belongs to what it
follows. ``{key}``, in either, stands for the stream's name. A user and a password may stand in front of the host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from urllib.parse import unquote, urljoin, urlsplit

from rapidrtmp.errors import RapidRTMPError
from rapidrtmp.support.secret import reveal

__all__ = ["MASK", "STREAM", "Address", "BadAddressError", "mask_key", "mask_url", "parse_address", "redirected"]

#: What stands for the stream's name.
STREAM = "{key}"
PORTS = {"rtmp": 1935, "rtmps": 443}
#: Of a key that is at least so long the last characters are shown, enough to tell two keys apart.
SHOWN_FROM, SHOWN = 12, 4
_USER = re.compile("//.*@")
#: Stands for what is not shown.
MASK = "****"


class BadAddressError(RapidRTMPError):
    """A URL that leads to no stream. The message does not quote it: it may hold a secret."""


@dataclass(frozen=True, slots=True)
class Address:
    """
    A stream on another server.

    :ivar scheme: ``rtmp``, or ``rtmps`` for TLS.
    :ivar host: a name or an IP address, without brackets.
    :ivar app: the application, with a query if it has one, which may be a secret.
    :ivar name: the stream's name or key, with its query.
    :ivar user: for servers that ask for a user and a password, which stand in front of the host; ``""`` for none.
    """

    scheme: str
    host: str
    port: int
    app: str = field(repr=False)
    name: str = field(repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def is_encrypted(self) -> bool:
        """Whether it is reached over TLS."""
        return self.scheme == "rtmps"

    @property
    def tc_url(self) -> str:
        """The URL up to the application, as connect says it."""
        return f"{self.server}/{self.app}"

    @property
    def server(self) -> str:
        """The URL up to the port, which is left out where it is the usual one; nothing of it is secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def shown(self) -> str:
        """The URL up to the application, without a query: for logs."""
        return f"{self.server}/{self.app.partition('?')[0]}"


def parse_address(url: str, key: str = "", stream: str = "") -> Address:
    """
    Take a URL apart.

    :param key: what is published or played there; if there is none, the URL holds it behind its last slash.
    :param stream: the name that takes the place of ``{key}``.
    :raises BadAddressError: it leads to no stream.
    """
    url, key = (reveal(text).replace(STREAM, stream) for text in (url, key))
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname or "", parts.port
    except ValueError:
        raise BadAddressError("it is not a URL such as rtmp://HOST/APP") from None
    if scheme not in PORTS or not host or any(character <= " " for character in url + key):
        raise BadAddressError("it is not a URL such as rtmp://HOST/APP or rtmps://HOST/APP")
    path, query = parts.path.strip("/"), f"?{parts.query}" if parts.query else ""
    if not key:
        path, _, key = path.rpartition("/")
        key, query = f"{key}{query}", ""
    if not path or not key.partition("?")[0]:
        raise BadAddressError("it names no application and key, as rtmp://HOST/APP/KEY does")
    user, password = (unquote(each or "") for each in (parts.username, parts.password))
    return Address(scheme, host, port or PORTS[scheme], f"{path}{query}", key, user, password)


def redirected(address: Address, url: str) -> Address:
    """
    Where a server sends us that we asked for ``address``.

    :param url: absolute, or relative to the application's; the stream's name may follow the application. Empty for the
        same place.
    :returns: without queries of the former address, which may be credentials, if the host is another one.
    :raises BadAddressError: it leads to no stream, or from TLS to where there is none.
    """
    if not url:
        return address
    base = f"http{address.tc_url.removeprefix(address.scheme)}"  # urljoin does not know our schemes
    relative = "://" not in url
    joined = f"{address.scheme}{urljoin(base, url).removeprefix('http')}" if relative else url
    name = address.name.partition("?")[0]
    path = urlsplit(joined).path.rstrip("/")
    has_name = path.endswith(f"/{name}") and path.count("/") > 1
    found = parse_address(joined) if has_name else parse_address(joined, address.name)
    if address.is_encrypted and not found.is_encrypted:
        raise BadAddressError("it leads from TLS to a connection without")
    if (found.host, found.port) == (address.host, address.port):
        if not found.user:
            found = replace(found, user=address.user, password=address.password)
        return found if "?" in found.name else replace(found, name=address.name)
    return replace(found, name=name) if found.name == address.name else found


def mask_key(key: str) -> str:
    """A key as it may be shown: its last characters, if it is long enough."""
    text = reveal(key)
    return f"{MASK}{text[-SHOWN:]}" if len(text) >= SHOWN_FROM else MASK


def mask_url(url: str, *, has_key: bool) -> str:
    """
    A URL as it may be shown.

    :param has_key: whether it holds the key, behind its last slash.
    """
    text, query, _ = reveal(url).partition("?")
    text = _USER.sub(f"//{MASK}@", text)
    if has_key:
        text = text.rpartition("/")[0]
        return f"{text}/{MASK}"
    return f"{text}?{MASK}" if query else text
