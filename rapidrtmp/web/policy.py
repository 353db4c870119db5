"""What the operator decided about the HTTP side."""

from __future__ import annotations

from dataclasses import dataclass

from rapidrtmp.support.limits import limit

__all__ = ["HttpLimits", "HttpPolicy", "TokenLimits"]


@dataclass(frozen=True)
class HttpLimits:
    """
    What HTTP clients may do, in time and in number.

    :ivar max_waiters: requests held at one time, all streams together. Each stream's shelf has its own bound besides.
    :ivar max_waiters_per_client: a client on this machine has no such limit: it is a proxy that was not named, or a
        tool. Nor has a trusted proxy that does not say whom it asks for, as a cache that asks once for many.
    :ivar max_connections_per_client: a client on this machine and a trusted proxy have no such limit.
    :ivar idle_timeout_ms: likewise how long one request may take to arrive.
    :ivar api_requests_per_minute: of one address to the management API; 0 for no limit.
    :ivar max_viewer_lag_ms: see :mod:`rapidrtmp.playback.overload`.
    :ivar max_wrong_secrets: how often a minute one address may try a wrong secret.
    """

    early_hold_ms: int = limit(10_000, "How long a request for a stream about to start is held")
    max_waiters: int = 20_000
    max_waiters_per_client: int = limit(
        256, "Requests held at once for one client address, loopback excepted; 0 for no limit"
    )
    max_viewers_per_client: int | None = limit(
        None,
        "Viewers of one stream from one address, where their number is limited; auto: a quarter of that number, at "
        "least four; 0 for no limit",
    )
    max_connections_per_client: int = limit(
        500, "Connections at once from one address, loopback and trusted proxies excepted; 0 for no limit"
    )
    max_body_bytes: int = limit(64 << 10, "Largest request body")
    idle_timeout_ms: int = limit(60_000, "Silence after which a connection is closed")
    max_wrong_secrets: int = 10
    max_viewer_lag_ms: int = limit(
        100, "How late the server may be, for half a second, to let a new viewer in; 0 to let all in"
    )
    api_requests_per_minute: int = 0
    hsts_s: int = limit(0, "How long browsers come by HTTPS only (Strict-Transport-Security); 0 to not ask for it")

    @property
    def idle_timeout_s(self) -> int:
        """The silence after which a connection is closed, in whole seconds."""
        return max(1, self.idle_timeout_ms // 1000)


@dataclass(frozen=True)
class TokenLimits:
    """How long the tokens are valid that the API hands out."""

    default_expiration_s: int = limit(3600, "How long a token is valid if its request does not say")
    max_expiration_s: int = limit(86_400, "The longest a token may be valid")


@dataclass(frozen=True)
class HttpPolicy(HttpLimits, TokenLimits):
    """
    Limits, credentials and addresses.

    :ivar max_connections: connections at one time.
    :ivar has_management_door: whether the management API and the metrics have endpoints of their own.
    :ivar trust_own_user: whether the server's own user, on this machine, needs no secret for the management API.
    :ivar open_metrics: whether ``/metrics`` answers every client.
    :ivar trusted_proxies: addresses or networks (``10.0.0.0/8``, ``unix``) whose ``X-Forwarded-For`` is believed.
    :ivar public_rtmp: ``HOST`` or ``HOST:PORT`` that publish URLs name; empty for the host the API was asked at.
    :ivar public_http: what watch URLs begin with; empty for the door that the API was asked at, if viewers come there.
    :ivar rtmp_port: the port that publish URLs name otherwise; 0 for none.
    :ivar rtmp_is_encrypted: whether they are ``rtmps:``.
    :ivar access_log: whether each request is logged: method, path and status, never the query.
    """

    max_connections: int = 20_000
    has_management_door: bool = False
    trust_own_user: bool = True
    open_metrics: bool = False
    trusted_proxies: tuple[str, ...] = ()
    public_rtmp: str = ""
    public_http: str = ""
    rtmp_port: int = 1935
    rtmp_is_encrypted: bool = False
    access_log: bool = False
