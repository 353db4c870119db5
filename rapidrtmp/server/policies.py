"""What the settings mean to each part: the server's table on one side, every part's own bounds on the other."""

from __future__ import annotations

from rapidrtmp.net.connection import ConnectionPolicy
from rapidrtmp.rtmp.limits import AmfLimits, SessionLimits
from rapidrtmp.settings.model import LiveSettings, RtmpSettings, Settings
from rapidrtmp.timeline.policy import TimelinePolicy
from rapidrtmp.web.policy import HttpPolicy

__all__ = ["connection_policy", "http_policy", "session_limits", "timeline_policy"]


def timeline_policy(live: LiveSettings) -> TimelinePolicy:
    """How long a new stream waits for its tracks."""
    return TimelinePolicy(start_media_ms=live.start_window_ms, start_wall_ms=live.start_deadline_ms)


def connection_policy(rtmp: RtmpSettings, max_connections: int) -> ConnectionPolicy:
    """
    What an RTMP connection may do, for how long, and how many there may be.

    :param max_connections: how many the descriptors of the process are enough for.
    """
    return ConnectionPolicy(
        handshake_timeout_ms=rtmp.handshake_timeout_ms,
        publish_timeout_ms=rtmp.publish_timeout_ms,
        idle_timeout_ms=rtmp.idle_timeout_ms,
        ping_interval_ms=rtmp.ping_interval_ms,
        max_connections=min(rtmp.max_connections, max_connections),
        max_connections_per_ip=rtmp.max_connections_per_ip,
        max_unauthorised_connections=rtmp.max_unauthorised_connections,
    )


def session_limits(rtmp: RtmpSettings) -> SessionLimits:
    """What the messages of an RTMP session may cost."""
    return SessionLimits(
        unauthorised_message_bytes=rtmp.pre_auth_message_bytes,
        unauthorised_partial_bytes=2 * rtmp.pre_auth_message_bytes,
        media_bytes=rtmp.max_message_bytes,
        command_bytes=rtmp.max_command_bytes,
        partial_bytes=rtmp.max_partial_bytes,
        chunk_streams=rtmp.max_chunk_streams,
        message_streams=rtmp.max_message_streams,
        unpublished_commands=rtmp.max_unpublished_commands,
        unpublished_messages=rtmp.max_unpublished_messages,
        unreadable_messages=rtmp.max_unreadable_messages,
        amf=AmfLimits(depth=rtmp.max_amf_depth, values=rtmp.max_amf_values),
    )


def http_policy(
    settings: Settings, rtmp_port: int, max_connections: int, *, rtmp_is_encrypted: bool = False
) -> HttpPolicy:
    """
    What the HTTP side tells, holds and hands out.

    :param rtmp_port: where the server takes RTMP, for the URLs it hands out.
    :param rtmp_is_encrypted: whether that is RTMPS.
    :param max_connections: how many connections the descriptors of the process are enough for.
    """
    server, http, tokens = settings.server, settings.http, settings.tokens
    return HttpPolicy(
        early_hold_ms=http.early_hold_ms,
        max_viewers_per_client=http.max_viewers_per_client,
        max_connections=max_connections,
        max_connections_per_client=http.max_connections_per_client,
        max_waiters_per_client=http.max_waiters_per_client,
        max_body_bytes=http.max_body_bytes,
        idle_timeout_s=max(1, http.idle_timeout_ms // 1000),
        trusted_proxies=http.trusted_proxies,
        open_metrics=http.open_metrics,
        access_log=http.access_log,
        hsts_s=http.hsts_s,
        has_management_door=bool(server.manage),
        trust_own_user=server.trust_own_user,
        public_rtmp=server.public_rtmp,
        public_http=server.public_http,
        rtmp_port=rtmp_port,
        rtmp_is_encrypted=rtmp_is_encrypted,
        default_expiration_s=tokens.default_expiration_s,
        max_expiration_s=tokens.max_expiration_s,
    )
