"""
Who is asking: the client behind trusted proxies, and whether it may use the management API.

Without an API token the API answers this machine only. "This machine" must survive two well-known tricks: a reverse
proxy on the same host makes the whole world look local, and a page in a local browser can send requests, or rebind
its own name to 127.0.0.1. So a request that came through a proxy nobody vouched for is not local, and neither is one
that names another host or was sent by a page from elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.web.errors import ForbiddenError, UnauthorizedError
from rapidrtmp.web.exchange import Request

__all__ = ["UNIX_PEER", "Gate", "TrustedProxies", "host_name"]

#: The "address" of a peer on a UNIX socket.
UNIX_PEER = "unix"
_FORWARDING = ("x-forwarded-for", "forwarded", "x-real-ip", "via")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::[0-9]{1,5})?", re.ASCII)


def host_name(host: str) -> str:
    """The name in a ``Host`` field, without the port, an IPv6 address in its brackets; ``""`` if it is malformed."""
    match = _HOST.fullmatch(host)
    return match[1] if match else ""


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip().strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_loopback(text: str) -> bool:
    address = _address(text)
    return address is not None and address.is_loopback


class TrustedProxies:
    """
    The proxies whose word on a client's address is taken.

    :param proxies: addresses, networks, or ``unix`` for whoever connects to a UNIX socket.
    :raises ConfigurationError: one is none of these.
    """

    def __init__(self, proxies: Iterable[str]) -> None:
        self._networks = []
        self._unix = False
        for proxy in proxies:
            if proxy == UNIX_PEER:
                self._unix = True
                continue
            try:
                self._networks.append(ip_network(proxy))
            except ValueError as error:
                raise ConfigurationError(f"trusted proxy {proxy!r} is not an address or a network: {error}") from error

    def __contains__(self, peer: str) -> bool:
        if peer == UNIX_PEER:
            return self._unix
        address = _address(peer) if self._networks else None
        return address is not None and any(address in network for network in self._networks)

    def client(self, peer: str, forwarded_for: str) -> str:
        """
        The address of the client: the last one in ``X-Forwarded-For`` that no trusted proxy has.

        :param peer: who is connected to us.
        :param forwarded_for: the field, each proxy having appended who was connected to it.
        """
        client = peer
        for hop in reversed(forwarded_for.split(",")):
            if client not in self:
                break
            address = _address(hop)
            if address is None:
                break
            client = str(address)
        return client


class Gate:
    """
    Admits requests to the management API.

    :param token: the secret that every request must bring; ``None`` to admit this machine only.
    """

    def __init__(self, token: str | None, proxies: TrustedProxies) -> None:
        self._digest = hashlib.sha256(token.encode()).digest() if token else None
        self._proxies = proxies

    @property
    def wants_token(self) -> bool:
        """Whether a token is asked for; a page from elsewhere that has it is then as good as any client."""
        return self._digest is not None

    def check(self, request: Request) -> None:
        """
        Return if the request may pass.

        :raises UnauthorizedError: the token is missing or wrong.
        :raises ForbiddenError: there is no token to give, and the client is not on this machine.
        """
        if self._digest is not None:
            self._check_token(request, self._digest)
        elif not self._is_local(request):
            raise ForbiddenError("the management API answers this machine only, unless an API token is configured")
        else:
            _check_origin(request)

    def _check_token(self, request: Request, digest: bytes) -> None:
        scheme, _, token = request.header("authorization").partition(" ")
        if scheme.lower() != "bearer":
            raise UnauthorizedError("a bearer token is needed", {"WWW-Authenticate": 'Bearer realm="rapidrtmp"'})
        given = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        if not hmac.compare_digest(given, digest):
            challenge = 'Bearer realm="rapidrtmp", error="invalid_token"'
            raise UnauthorizedError("the bearer token is wrong", {"WWW-Authenticate": challenge})

    def _is_local(self, request: Request) -> bool:
        if not _is_loopback(request.client):
            return False
        if request.header("x-forwarded-for"):
            return request.peer in self._proxies
        return not any(request.header(name) for name in _FORWARDING)


def _check_origin(request: Request) -> None:
    host = request.header("host")
    name = host_name(host).lower().rstrip(".")
    if host and not (name == "localhost" or name.endswith(".localhost") or _is_loopback(name)):
        raise ForbiddenError("the management API answers to localhost only, unless an API token is configured")
    if request.header("sec-fetch-site").lower() not in ("", "same-origin", "none"):
        raise ForbiddenError("the management API does not answer pages from elsewhere")
    origin = request.header("origin")
    if origin and origin.lower().partition("://")[2] != host.lower():
        raise ForbiddenError("the management API does not answer pages from elsewhere")
