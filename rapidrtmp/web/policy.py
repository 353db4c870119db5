"""What the operator decided about the HTTP side."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HttpPolicy"]


@dataclass(frozen=True)
class HttpPolicy:
    """
    Limits, credentials and addresses.

    :ivar early_hold_ms: how long a request for a playlist is held while its stream is starting.
    :ivar max_waiters: requests held at one time, all streams together. Each stream's shelf has its own bound besides.
    :ivar max_waiters_per_client: requests held at one time for one client address; 0 for no limit. A client on this
        machine has none: it is a proxy that nobody named, or a tool. Nor has a trusted proxy that does not say whom it
        asks for, as a cache that asks once for many.
    :ivar max_viewers_per_client: how many of a stream's may come from one address that is no trusted proxy's; 0 for no
        limit, ``None`` for a quarter, at least four.
    :ivar max_connections: connections at one time.
    :ivar max_connections_per_client: connections at one time from one address; 0 for no limit. A client on this machine
        and a trusted proxy have none.
    :ivar max_body_bytes: the largest request body.
    :ivar idle_timeout_s: silence after which a connection is closed, and how long one request may take to arrive.
    :ivar has_management_door: whether the management API and the metrics have endpoints of their own.
    :ivar trust_own_user: whether the server's own user, on this machine, needs no secret for the management API.
    :ivar max_wrong_secrets: how often a minute one address is told that its secret is wrong.
    :ivar open_metrics: whether ``/metrics`` answers everybody.
    :ivar trusted_proxies: addresses or networks (``10.0.0.0/8``, ``unix``) whose ``X-Forwarded-For`` is believed.
    :ivar public_rtmp: ``HOST`` or ``HOST:PORT`` that publish URLs name; empty for the host the API was asked at.
    :ivar public_http: what watch URLs begin with; empty for the door that the API was asked at, if viewers come there.
    :ivar rtmp_port: the port that publish URLs name otherwise; 0 for none.
    :ivar rtmp_is_encrypted: whether they are ``rtmps:``.
    :ivar default_expiration_s: how long a token is valid if its request does not say.
    :ivar max_expiration_s: the longest a token may be valid.
    :ivar access_log: whether each request is logged: method, path and status, never the query.
    :ivar hsts_s: for how long browsers that came over HTTPS come by nothing else, in seconds; 0 for not at all.
    """

    early_hold_ms: int = 10_000
    max_waiters: int = 20_000
    max_waiters_per_client: int = 256
    max_viewers_per_client: int | None = None
    max_connections: int = 20_000
    max_connections_per_client: int = 500
    max_body_bytes: int = 64 << 10
    idle_timeout_s: int = 60
    has_management_door: bool = False
    trust_own_user: bool = True
    max_wrong_secrets: int = 10
    open_metrics: bool = False
    trusted_proxies: tuple[str, ...] = ()
    public_rtmp: str = ""
    public_http: str = ""
    rtmp_port: int = 1935
    rtmp_is_encrypted: bool = False
    default_expiration_s: int = 3600
    max_expiration_s: int = 86_400
    access_log: bool = False
    hsts_s: int = 0
