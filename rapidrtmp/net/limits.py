"""What RTMP connections may do, in time and in number."""

from __future__ import annotations

from dataclasses import dataclass

from rapidrtmp.support.limits import limit

__all__ = ["ConnectionLimits", "HeadroomLimits"]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """
    What one connection may do, and all together.

    :ivar publish_timeout_ms: between two publishes likewise.
    :ivar max_connections_per_ip: of IPv6, from one /64 network. Where one more comes than there may be, a pending one
        is closed (see ``pending_connections.py``); only where all publish the new one is refused.
    """

    handshake_timeout_ms: int = limit(10_000, "From the connection to the end of the handshake")
    publish_timeout_ms: int = limit(15_000, "From the handshake to publish or play")
    idle_timeout_ms: int = limit(30_000, "Silence after which a connection is closed")
    ping_interval_ms: int = limit(10_000, "Between ping requests to a silent peer")
    auth_timeout_ms: int = limit(10_000, "How long an authenticator may take")
    max_connections: int = limit(1000, "Connections at once, players apart", minimum=1)
    max_connections_per_ip: int = limit(100, "Connections at once from one address, players apart", minimum=1)
    max_players: int = limit(2000, "Players over RTMP at once")
    max_players_per_ip: int = limit(500, "Players over RTMP at once from one address")
    max_unauthorised_connections: int = limit(
        500, "Connections at once that do not publish; where one more comes, one of them makes room", minimum=1
    )
    max_refusals_per_ip: int = limit(
        10, "Refused publishes a minute from one address, before more are refused unasked; 0 for no limit"
    )
    max_publisher_kbps: int = limit(100_000, "Kilobits a second from one publisher, over ten seconds; 0 for no limit")


@dataclass(frozen=True, slots=True)
class HeadroomLimits:
    """What must be left for a new stream to be admitted."""

    max_lag_ms: int = limit(2_000, "How late the server may be, for seconds, to admit a new stream; 0 for no limit")
    max_memory_bytes: int = limit(0, "What the process may hold to admit a new stream; 0 for no limit")
    min_free_space_bytes: int = limit(0, "What must be free in a storage to admit a new stream; 0 for no limit")
