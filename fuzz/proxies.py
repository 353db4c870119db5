"""
What proxies say of their clients: PROXY headers, ``X-Forwarded-For`` and ``Forwarded``.

Nothing but ``PeerProtocolError`` may escape. Once a header is whole, what follows changes nothing of it; and a client
is the peer, or an address that a field names.
"""

from __future__ import annotations

from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.http.addresses import TrustedProxies, forwarded_hops, read_address
from rapidrtmp.net.proxy_header import read_proxy_header

__all__ = ["run"]

PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8::/32"])


def run(data: bytes) -> None:
    """One header, and one field. :raises AssertionError: an invariant does not hold."""
    try:
        header = read_proxy_header(data)
    except PeerProtocolError:
        header = None
    if header is not None:
        assert 0 <= header.size <= len(data)
        if header.size:
            assert read_proxy_header(data + b"GET /") == header
    text = data.decode("latin-1")
    first, _, second = text.partition("\n")
    for field in (forwarded_hops(first, second), forwarded_hops("", text)):
        client = PROXIES.client("10.0.0.1", field)
        assert client == "10.0.0.1" or read_address(client) is not None
