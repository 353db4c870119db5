"""
Where nodes find each other: ``unix:PATH`` on one machine, ``https://HOST:PORT`` between machines.

``http://HOST:PORT`` is for networks of the operator's own alone: over it nothing is sent to a public address, and
nothing taken from one.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, clientFromString, wrapClientTLS
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS, platformTrust
from zope.interface import implementer

from rapidrtmp.errors import ConfigurationError, RapidRTMPError

__all__ = ["PublicAddressError", "check_address", "is_public", "make_client_endpoint"]

CONNECT_S = 2.0


class PublicAddressError(RapidRTMPError):
    """A node is reached, unencrypted, at an address that anyone has a way to."""


def is_public(host: str) -> bool:
    """Whether an address is one of the internet; the name of a host is not known to be."""
    try:
        return ip_address(host.partition("%")[0]).is_global
    except ValueError:
        return False


def check_address(address: str) -> tuple[str, str, int]:
    """
    Read a URL of a node.

    :returns: scheme, host, and port; 0 where it names none.
    :raises ConfigurationError: it is none, or unencrypted and public.
    """
    try:
        url = urlsplit(address)
        scheme, host, port = url.scheme, url.hostname or "", url.port or 0
    except ValueError as error:
        raise ConfigurationError(f"{address!r} is not a URL such as https://10.0.0.5:8100") from error
    if scheme not in ("http", "https") or not host or url.path.strip("/") or url.query or "@" in url.netloc:
        raise ConfigurationError(f"{address!r} is not a URL such as https://10.0.0.5:8100")
    if scheme == "http" and is_public(host):
        raise ConfigurationError(f"{address} is public: nodes speak there over https:// alone, with an ssl: endpoint")
    return scheme, host, port


def make_client_endpoint(reactor: Any, address: str, trust: Any = None) -> IStreamClientEndpoint:
    """
    What connects to a node.

    :param trust: the authorities that certificates of nodes come from; ``None`` for those of the system.
    :raises ConfigurationError: it is no address of a node.
    """
    if address.startswith("unix:"):
        local: IStreamClientEndpoint = clientFromString(reactor, address)
        return local
    scheme, host, port = check_address(address)
    endpoint = HostnameEndpoint(reactor, host, port, timeout=CONNECT_S)
    if scheme == "http":
        return _PrivateEndpoint(endpoint)
    wrapped: IStreamClientEndpoint = wrapClientTLS(
        optionsForClientTLS(host, trustRoot=trust or platformTrust()), endpoint
    )
    return wrapped


@implementer(IStreamClientEndpoint)
class _PrivateEndpoint:
    """Connects, and hangs up before anything is said if the name of the host has led to a public address."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """See ``IStreamClientEndpoint``. Fails with :class:`PublicAddressError` besides."""

        def connected(protocol: Any) -> Any:
            host = str(protocol.transport.getPeer().host)
            if is_public(host):
                protocol.transport.abortConnection()
                raise PublicAddressError(f"{host} is public: nodes speak there over https:// alone")
            return protocol

        connecting: Deferred[Any] = self._endpoint.connect(protocolFactory)
        return connecting.addCallback(connected)
